"""Checks of the camera: rate, readability and stamps of its frames, and disk space for them."""

from collections.abc import Sequence
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from stream_agent.doctor.findings import error, Finding, not_checked, ok, warning
from stream_agent.engine.frame_filter import FrameFilterSettings
from stream_agent.network.preprocessing import Preprocessing

RATE_TOLERANCE = 0.1
# How far an image may be stretched on its way to the network's input.
STRETCH_TOLERANCE = 0.15
GREATEST_AGE = 0.1
# Stamps that are off by more than a day are simulated time or the like, not a wrong clock.
OTHER_CLOCK = 86_400.0
# Images over this overflow Fast DDS's default segment of shared memory.
LARGE_BYTES = 500_000


class ArrivedFrame(NamedTuple):
    """
    An image that arrived.

    :param stamp_ns: The stamp of its header.
    :param arrival_ns: When it arrived, by the clock of the stamps.
    :param at: When it arrived, by the steady clock [s].
    :param size: (H, W); None if it could not be read.
    :param encoding: Its encoding, or the format of a compressed image.
    :param fault: Why it could not be read; empty if it could.
    :param byte_count: The size of its data.
    """

    stamp_ns: int
    arrival_ns: int
    at: float
    size: tuple[int, int] | None
    encoding: str
    fault: str
    byte_count: int


def check_frames(frames: Sequence[ArrivedFrame], end: float, policy: Preprocessing | None,
                 settings: FrameFilterSettings, why_not: str = 'none could be loaded'
                 ) -> list[Finding]:
    """
    Judge the frames that arrived until ``end``, by the steady clock [s].

    :param why_not: Why there is no policy.
    """
    if not frames:
        return [not_checked(check, 'no image arrived') for check in ('rate', 'image', 'stamps')]
    return [check_rate(frames, end, settings.camera_period), check_images(frames, policy, why_not),
            check_stamps(frames, settings)]


def rate(frames: Sequence[ArrivedFrame]) -> float:
    """Return the frames a second; nan for fewer than two."""
    elapsed = frames[-1].at - frames[0].at if len(frames) > 1 else 0.0
    return (len(frames) - 1) / elapsed if elapsed > 0 else float('nan')


def check_rate(frames: Sequence[ArrivedFrame], end: float, period: float) -> Finding:
    """Compare the rate with the camera period [s]."""
    at = np.array([frame.at for frame in frames])
    gap = float(np.diff(at, append=end).max())
    if len(frames) < 3 or not (hertz := rate(frames)) > 0:
        return error('rate', f'only {len(frames)} images arrived', 'let the camera publish at '
                     'a steady rate, or watch longer with --seconds')
    said = (f'{hertz:.2f} Hz, a frame every {1 / hertz:.4f} s (camera_period {period:.4f} s), '
            f'longest gap {gap:.3f} s')
    if abs(1 / hertz / period - 1) > RATE_TOLERANCE:
        return warning('rate', said, rate_remedy(frames, period))
    if gap > max(5 * period, 0.25):
        return warning('rate', f'{said}, after which the gate stops the robot',
                       'find what delays frames: the network, the exposure, the load')
    return ok('rate', said)


def rate_remedy(frames: Sequence[ArrivedFrame], period: float) -> str:
    """Distinguish a camera of another rate from frames that were lost on their way."""
    between = float(np.median(np.diff([frame.stamp_ns for frame in frames]))) / 1e9
    if 0 < between and abs(between / period - 1) < RATE_TOLERANCE:
        large = frames[0].byte_count > LARGE_BYTES
        return 'the stamps show that the camera has the right rate, so frames are lost' + (
            '; images this large overflow the shared memory of Fast DDS: start the camera with '
            'the profile config/fastdds.xml, or let it publish smaller or compressed ones'
            if large else '')
    return (f'set camera_period to {1 / rate(frames):.4f} for all processes (section /**), or '
            f'the camera to {1 / period:.4g} Hz; a policy remembers in frames, so one trained at '
            'another rate drives worse')


def check_images(frames: Sequence[ArrivedFrame], policy: Preprocessing | None,
                 why_not: str = 'none could be loaded') -> Finding:
    """Judge encoding and size by what the policy's input needs."""
    if bad := [frame for frame in frames if frame.fault]:
        return error('image', f'{len(bad)} of {len(frames)} cannot be read: {bad[0].fault}',
                     'let the driver publish rgb8, bgr8, rgba8, bgra8 or mono8, or whole JPEG or '
                     'PNG images')
    kinds = dict.fromkeys((*frame.size, frame.encoding) for frame in frames if frame.size)
    said = ', then '.join(f'{width} x {height} {encoding}' for height, width, encoding in kinds)
    if len(kinds) > 1:
        return warning('image', f'size or encoding changes: {said}',
                       'let one camera with fixed settings publish')
    if policy is None:
        return ok('image', f'{said}; not compared with a policy, as {why_not}')
    return check_size(*next(iter(kinds))[:2], policy, said)


def check_size(height: int, width: int, policy: Preprocessing, said: str) -> Finding:
    """Judge what resizing to the network's input does to an image."""
    _, rows, columns = policy.shape
    kept = height - int(height * policy.crop_top) - int(height * policy.crop_bottom)
    said = f'{said}; the policy takes {width} x {kept} of it to {columns} x {rows}'
    if kept < rows or width < columns:
        return warning('image', f'{said}, which adds no detail',
                       f'let the camera publish at least {columns} x '
                       f'{int(np.ceil(rows * height / kept))}')
    stretch = (columns / rows) / (width / kept)
    if abs(np.log(stretch)) > np.log(1 + STRETCH_TOLERANCE):
        return warning('image', f'{said}, stretched by {stretch:.2f} in width',
                       f'let the camera publish images about {columns / rows * kept / height:.2f} '
                       'times as wide as high, or train with images of this shape')
    return ok('image', said)


def check_stamps(frames: Sequence[ArrivedFrame], settings: FrameFilterSettings) -> Finding:
    """Judge stamps as the agent will judge them (F2, F3, T2)."""
    stamps = np.array([frame.stamp_ns for frame in frames])
    if zero := int((stamps == 0).sum()):
        return warning('stamps', f'{zero} of {len(frames)} are zero; the time of arrival will be '
                       'taken', 'let the driver set header.stamp to the time of the capture')
    age = float(np.median([(frame.arrival_ns - frame.stamp_ns) / 1e9 for frame in frames]))
    said = f'{abs(age):.3f} s {"old on arrival" if age >= 0 else "in the future"} (median)'
    behind = int((np.diff(stamps) <= 0).sum())
    if abs(age) > OTHER_CLOCK:
        return error('stamps', f'they are {abs(age):.4g} s off, from another clock',
                     'for simulated time add `--ros-args -p use_sim_time:=true`, and '
                     'use_sim_time:=true to the launch; otherwise let the driver stamp by the '
                     'system time')
    if not -settings.max_lead <= age <= settings.oldest:
        return error('stamps', f'{said}; the agent drops such frames', clock_remedy(age))
    if behind:
        return warning('stamps', f'{behind} of {len(frames)} are not later than the one before; '
                       'the agent ignores those frames', 'let one camera publish, each '
                       'image once')
    if not 0 <= age <= GREATEST_AGE:
        return warning('stamps', said, clock_remedy(age))
    return ok('stamps', f'ascending; {age * 1e3:.1f} ms old on arrival (median)')


def clock_remedy(age: float, sender: str = 'camera', what: str = 'frames') -> str:
    """Say what makes frames younger, or the clocks agree."""
    if age < 0:
        return (f"synchronise the clocks of the {sender}'s computer and of this one (chrony), or "
                'let the driver stamp by the system time')
    return (f'find what delays {what} (the network, buffers of the driver); if the {sender} is on '
            'another computer, synchronise both clocks (chrony)')


# What the recorder writes for a frame and two policies, and what a bag adds to an image.
ROW_BYTES = 2 * 150
MESSAGE_BYTES = 100
LITTLE, TOO_LITTLE = 3600.0, 60.0


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def check_disk(folder: Path, free: int, writable: bool, frames: Sequence[ArrivedFrame],
               period: float) -> Finding:
    """Compare the free space [bytes] and rights of a folder with what a recording needs."""
    if not writable:
        return error('disk', f"'{folder}' cannot be written",
                     'choose another folder with --output, and with output:= of the launch')
    hertz = rate(frames)
    need = (hertz if math.isfinite(hertz) else 1 / period) * (
        ROW_BYTES + (MESSAGE_BYTES + frames[-1].byte_count if frames else 0))
    seconds = free / need
    what = 'rows and raw frames' if frames else 'rows alone, as no image arrived'
    said = (f"'{folder}': {free / 1e9:.1f} GB free, enough for {seconds / 3600:.3g} hours at "
            f'{need / 1e6:.2g} MB/s ({what})')
    remedy = 'remove old recordings, or choose another folder with --output and output:='
    if seconds < TOO_LITTLE:
        return error('disk', said, remedy)
    return warning('disk', said, remedy) if seconds < LITTLE else ok('disk', said)
