"""Whether the disk has room for recordings."""

from collections.abc import Sequence
import math
from pathlib import Path

from stream_agent.doctor.camera import Frame, rate
from stream_agent.doctor.findings import error, Finding, ok, warning

# Of the recorder, for two policies and a frame; and what a bag adds to a frame.
ROW_BYTES = 2 * 150
MESSAGE_BYTES = 100
LITTLE, TOO_LITTLE = 3600.0, 60.0


def existing(folder: Path) -> Path:
    """Return the folder, or what exists of the way to it."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def bytes_per_second(frames: Sequence[Frame], period: float) -> float:
    """Return what a recording of rows and raw frames needs; of rows alone without frames."""
    hertz = rate(frames) if len(frames) > 1 else math.nan
    hertz = hertz if math.isfinite(hertz) else 1 / period
    return hertz * (ROW_BYTES + (MESSAGE_BYTES + frames[-1].byte_count if frames else 0))


def check_disk(folder: Path, free: int, writable: bool, frames: Sequence[Frame],
               period: float) -> Finding:
    """
    Hold the free space against what a recording needs.

    :param free: Of the folder's file system [bytes].
    :param writable: Whether a folder can be made there.
    """
    if not writable:
        return error('disk', f"'{folder}' cannot be written",
                     'choose another folder by --output, and by output:= of the launch')
    need = bytes_per_second(frames, period)
    seconds = free / need
    what = 'rows and raw frames' if frames else 'rows alone, as no image came'
    said = (f"'{folder}': {free / 1e9:.1f} GB free, enough for {seconds / 3600:.3g} hours at "
            f'{need / 1e6:.2g} MB/s ({what})')
    remedy = 'remove old recordings, or choose another folder by --output and output:='
    if seconds < TOO_LITTLE:
        return error('disk', said, remedy)
    return warning('disk', said, remedy) if seconds < LITTLE else ok('disk', said)
