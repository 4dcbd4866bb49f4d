"""Recordings found at paths: bags, tubs, and archives of drives."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from stream_agent.bounded_settings import printable
from stream_agent.recordings.bags import BagRecording, is_bag
from stream_agent.recordings.recording import (
    BadRecordingError, own_file, Reading, Recording)
from stream_agent.recordings.tubs import is_tub, TubRecording
from stream_agent.recordings.writing import RecordedDrive


def open_recordings(paths: Sequence[Path], reading: Reading) -> list[Recording]:
    """
    Open recordings; each frame is decoded only when it is asked for.

    :param paths: Bags, tubs, or folders of them.
    :raises BadRecordingError: If one of them is not a recording, or cannot be used.
    """
    recordings = [(TubRecording if is_tub(path) else BagRecording)(path, reading)
                  for path in find_recordings(paths)]
    kinds = {recording.commands.steering: recording for recording in recordings}
    if len(kinds) > 1:
        parts = '; '.join(f"'{recording.path}': {kind}" for kind, recording in kinds.items())
        raise BadRecordingError(f'the recordings steer by different quantities ({parts}); give '
                                '--wheelbase to turn steering angles into yaw rates, or train '
                                'on those of one kind')
    return list(recordings)


def find_recordings(paths: Sequence[Path]) -> list[Path]:
    """Return the bags and tubs at the given paths, and in the folders among them."""
    found = []
    for path in paths:
        if not path.exists():
            raise BadRecordingError(f"'{path}': there is no such file or folder")
        if is_recording(path):
            found.append(path)
            continue
        inside = [own_file(path, each.name) for each in sorted(path.glob('*'))
                  if is_recording(each)]
        if not inside:
            raise BadRecordingError(
                f"'{path}': neither a rosbag2 recording (a folder with metadata.yaml, an .mcap "
                'or .db3 file), nor a DonkeyCar tub (manifest.json or record_*.json), nor a '
                'folder of them')
        found += inside
    return found


def is_recording(path: Path) -> bool:
    """Tell whether something is a bag or a tub."""
    return is_tub(path) or is_bag(path)


# Arrays that have one value for every frame.
PER_FRAME = ('steering', 'throttle', 'timestamp_ms', 'seq_id')


def read_archive(path: Path, runs: Sequence[str], sign: int
                 ) -> Iterator[tuple[str, RecordedDrive]]:
    """
    Yield the sequences of an archive, with a name each.

    :param runs: Names of the runs that are wanted; none for all.
    :param sign: Factor that makes steering positive to the left.
    :raises BadRecordingError: If something is missing, or lengths contradict each other.
    """
    arrays = load(path)
    chosen = np.ones(len(arrays['seq_id']), bool)
    if runs:
        names = [str(name) for name in arrays.get('run_names', [])]
        for run in runs:
            if run not in names:
                raise BadRecordingError(f"'{path}': no run '{run}'; runs are "
                                        f'{", ".join(map(printable, names)) or "not named"}')
        chosen = np.isin(arrays['run_id'], [names.index(run) for run in runs])
    offsets, jpeg = arrays['offsets'], arrays['jpeg']
    for number in np.unique(arrays['seq_id'][chosen]):
        frames = np.flatnonzero(chosen & (arrays['seq_id'] == number))
        stamps = arrays['timestamp_ms'][frames].astype(np.int64) * 10**6
        commands = np.stack([arrays['throttle'][frames], sign * arrays['steering'][frames]], 1)
        images = (jpeg[offsets[i]:offsets[i + 1]].tobytes() for i in frames)
        run = (f"{arrays['run_names'][arrays['run_id'][frames[0]]]}_" if 'run_names' in arrays
               else '')
        yield f'{run}{int(number):03}', RecordedDrive(images, stamps, commands)


def load(path: Path) -> dict[str, np.ndarray]:
    """Read an archive, and check that its arrays fit together."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (BadZipFile, ValueError, EOFError, AttributeError) as error:
        raise BadRecordingError(f"'{path}': not a NumPy archive, or truncated ({error}); copy "
                                'it again') from None
    missing = [key for key in ('jpeg', 'offsets', *PER_FRAME) if key not in arrays]
    if missing:
        raise BadRecordingError(f"'{path}': lacks {', '.join(missing)}; docs/recordings.md says "
                                'what an archive has')
    count = len(arrays['offsets']) - 1
    wrong = [key for key in (*PER_FRAME, *({'run_id'} & arrays.keys()))
             if len(arrays[key]) != count]
    if wrong or count < 1 or arrays['offsets'][-1] > len(arrays['jpeg']):
        raise BadRecordingError(f"'{path}': {', '.join(wrong) or 'jpeg'} does not have the length "
                                f'that {count} frames need, by offsets; write the archive again')
    return arrays
