"""What a recording is, wherever it was read from: stamped frames and stamped commands."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
import math
from pathlib import Path

import numpy as np
from stream_agent.bounded_settings import (
    BoundedSettings, choice, free_text, printable, quantity)
from stream_agent.images import ImageError

NS = 10**9
# A stamp that falls back further is not a late frame, but a clock that was set back.
TIME_JUMP_NS = NS // 2
# Frames that are still older, one after the other, where a clock was set back: not late ones.
FRAMES_BACK = 3
# Between what was recorded before and after a clock was set back: no episode reaches over it.
BREAK_NS = 3600 * NS
# A longer time between two frames is a pause, whatever the camera's rate.
PAUSE_NS = NS // 2
GREY, COLOUR = 'grey', 'colour'
UNREADABLE = 'frames that cannot be decoded'


class BadRecordingError(ValueError):
    """A recording that cannot be used; the message names file and topic and says what to do."""


def own_file(folder: Path, name: str) -> Path:
    """
    Return the path of a file that a recording has in its folder (S2).

    :raises BadRecordingError: If its name or a link leads out of the folder.
    """
    path = folder / name
    if Path(name).name != name or (
            path.is_symlink() and path.resolve().parent != folder.resolve()):
        raise BadRecordingError(f"'{printable(path)}' leads out of its folder; give the path of "
                                'what is there itself, or copy it')
    return path


@dataclass(frozen=True)
class Commands:
    """
    The commands of a recording, oldest first.

    :param stamps: (M,) int64 [ns].
    :param values: (M, 2) float64: speed, and what steers, positive to the left.
    :param steering: What steers: 'yaw rate' [rad/s], 'steering angle' [rad] at the wheels, or
        'steering' as a share -1 ... 1 of all there is; the speed of the last is a share, too.
    :param stamps_from: As for ``Recording``.
    """

    stamps: np.ndarray
    values: np.ndarray
    steering: str
    stamps_from: str = 'header'


def camera_period(stamps: np.ndarray) -> tuple[float, bool]:
    """
    Return the time between two frames [ns], and whether stamps come in bursts.

    It is the median distance. Where stamps come in bursts, this is the distance within them and
    says nothing: then it is the mean one between pauses.

    :param stamps: Ascending, two at least.
    """
    distances = np.diff(stamps)
    median = float(np.median(distances))
    mean = float(distances[distances <= max(PAUSE_NS, 3 * median)].mean())
    in_bursts = len(distances) > 3 and not 0.75 * median <= mean <= 2 * median
    return (mean if in_bursts else median), in_bursts


def clock_set_back(stamps: np.ndarray) -> np.ndarray:
    """Return the indices at which a clock was set back; older frames that came late are none."""
    found: list[int] = []
    for index in np.flatnonzero(np.diff(stamps) < -TIME_JUMP_NS) + 1:
        start = found[-1] if found else 0
        newest = stamps[start:index].max()
        after = stamps[index:index + FRAMES_BACK]
        if (after < newest).all():
            found.append(int(index))
    return np.array(found, int)


def without_falls(stamps: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """
    Let stamps go on by ``BREAK_NS`` where a clock was set back.

    :param starts: As ``clock_set_back`` returns them.
    """
    shifted = stamps.copy()
    for index in starts:
        shifted[index:] += shifted[:index].max() + BREAK_NS - shifted[index]
    return shifted


@dataclass(frozen=True)
class Reading(BoundedSettings):
    """Which topics of a recording are read, and what they mean."""

    image_topic: str = free_text(
        '', 'frames; without it, the only topic of images there is', 'TOPIC')
    command_topic: str = free_text(
        '', 'commands: Twist, TwistStamped, AckermannDrive, AckermannDriveStamped or Joy; without '
        'it, the only such topic there is', 'TOPIC')
    image_type: str = free_text(
        '', 'type of the frames, such as CompressedImage, where their topic has several', 'TYPE')
    command_type: str = free_text(
        '', 'type of the commands, such as TwistStamped, where their topic has several', 'TYPE')
    publishers: str = choice(
        'auto', 'commands of several publishers on one topic: auto leaves out those of one that '
        'sends only zeros, and refuses others; changing leaves out the one value that a publisher '
        'repeats; all takes all as they were recorded', ('auto', 'changing', 'all'))
    stamps: str = choice(
        'auto', "times of the messages: their headers', those of the recorder, or headers' where "
        'they are set', ('auto', 'header', 'receive'))
    steering_axis: int | None = quantity(
        None, '', 0, 255, 'axis of a Joy that steers', whole=True)
    throttle_axis: int | None = quantity(
        None, '', 0, 255, 'axis of a Joy for the speed; without it, the speed is 0', whole=True)
    steering_sign: str = choice(
        'usual', 'side to which steering of a Joy (usually left) or a tub (usually right) is '
        'positive', ('usual', 'left', 'right'))
    tub_rate: float = quantity(
        0.0, 'Hz', 0.0, 1e3, "rate of a tub's records, in place of times that are missing or not "
        'those of the drive; 0: times')
    wheelbase: float = quantity(
        0.0, 'm', 0.0, 100.0, 'distance of the axles, which turns steering angles of Ackermann '
        'commands into yaw rates; 0: angles stay angles')

    def sign(self, usual: str) -> int:
        """Return the factor that makes steering positive to the left."""
        side = usual if self.steering_sign == 'usual' else self.steering_sign
        return 1 if side == 'left' else -1


class StampedFrames:
    """
    The frames and commands of a recording, whether pixels are decoded yet or not.

    :ivar topic: Of the images, for messages; of a tub, its folder of images.
    :ivar frame_stamps: Of the frames that are in order, (N,) int64 [ns].
    :ivar skipped: Frames and commands left out so far, by kind.
    :ivar notes: What was odd when it was read, a sentence each.
    :ivar shapes: How many frames were decoded so far of each size and kind.
    """

    path: Path
    name: str
    topic: str
    frame_stamps: np.ndarray
    commands: Commands
    skipped: Counter[str]
    notes: list[str]
    shapes: Counter[str]

    def __len__(self) -> int:
        return len(self.frame_stamps)

    @property
    def rate(self) -> float:
        """Frames per second, as ``camera_period`` finds it; 0 if there is only one frame."""
        return NS / camera_period(self.frame_stamps)[0] if len(self) > 1 else 0.0

    @property
    def left_out(self) -> str:
        """What was left out so far, and how much of it."""
        return ', '.join(f'{count} {kind}' for kind, count in self.skipped.items() if count)


class Recording(StampedFrames, ABC):
    """
    A recording as it is on disk; each frame is decoded only when it is asked for.

    :param path: File or folder.
    :param stamps: Of all frames as they were recorded [ns].
    :param stamps_from: 'header' (when a frame was captured) or 'receive' (when it was written).
    :param notes: What is odd about the times or the commands, a sentence each.
    """

    def __init__(self, path: Path, topic: str, stamps: np.ndarray, stamps_from: str,
                 commands: Commands, notes: Sequence[str] = ()) -> None:
        self.path = path
        self.name = printable(path.stem if path.is_file() else path.resolve().name)
        self.topic = topic
        self.stamps_from = stamps_from
        self.skipped, self.shapes = Counter(), Counter()
        self.notes = [*getattr(self, 'notes', ()), *notes]
        #: Why the first frame that cannot be decoded could not be.
        self.first_fault = ''
        order = np.argsort(commands.stamps, kind='stable')
        self.commands = replace(commands, stamps=commands.stamps[order],
                                values=commands.values[order])
        if len(starts := clock_set_back(stamps)):
            other = '--stamps header' if stamps_from == 'receive' else '--stamps receive'
            remedy = f'give {other}, or ' if topic.startswith('/') else ''
            raise BadRecordingError(f"'{path}': topic '{topic}': {said_of_falls(stamps, starts)}; "
                                    f'{remedy}leave the recording out')
        back = np.maximum.accumulate(stamps)[:-1] - stamps[1:]
        self.skipped['frames out of order'] += int((back > 0).sum())
        self.skipped['frames that came twice'] += int((back == 0).sum())
        #: Which frames are newer than all before them.
        self._kept = np.concatenate([[True], back < 0])[:len(stamps)]
        self.frame_stamps = stamps[self._kept]

    @abstractmethod
    def recorded_frames(self) -> Iterator[Callable[[], np.ndarray]]:
        """Yield, for every frame as it was recorded, what decodes it or raises ImageError."""

    @abstractmethod
    def files(self) -> list[Path]:
        """Return the files that make up the recording."""

    def images(self) -> Iterator[tuple[int, np.ndarray]]:
        """
        Decode the frames in order; those that cannot be decoded are counted and left out.

        :returns: Indices in ``frame_stamps`` and pixels, uint8, (H, W, 3) in RGB order or (H, W).
        :raises BadRecordingError: If the file ends early, or no frame can be decoded.
        """
        self.skipped[UNREADABLE] = 0
        self.shapes.clear()
        for index, decode in enumerate(compress(self.recorded_frames(), self._kept)):
            try:
                pixels = decode()
            except ImageError as error:
                self.skipped[UNREADABLE] += 1
                self.first_fault = self.first_fault or f'frame {index}: {error}'
                continue
            self.shapes[shape_of(pixels)] += 1
            yield index, pixels
        if self.skipped[UNREADABLE] == len(self):
            place, remedy = (
                (f" topic '{self.topic}':", 'record one of the supported kinds, or choose another '
                 'topic by --image-topic') if self.topic.startswith('/') else
                ('', 'copy the tub again with its images, or leave it out'))
            raise BadRecordingError(f"'{self.path}':{place} no frame can be decoded "
                                    f'({self.first_fault}); {remedy}')

    def summary(self) -> str:
        """Say in a line what there is and what was left out."""
        line = (f'{self.name}: {len(self)} frames at {self.rate:.1f} Hz (stamps: '
                f'{self.stamps_from}), {len(self.commands.stamps)} commands '
                f'({self.commands.steering}; stamps: {self.commands.stamps_from})')
        if self.left_out:
            line += f'; left out: {self.left_out}'
        return line + (f' (first: {self.first_fault})' if self.first_fault else '')


def said_of_falls(stamps: np.ndarray, starts: np.ndarray) -> str:
    """Say where a clock was set back, and first by how much."""
    more = f', and {len(starts) - 1} times more' if len(starts) > 1 else ''
    fall = (stamps[:starts[0]].max() - stamps[starts[0]]) / NS
    return f'the clock was set back by {fall:.1f} s at frame {starts[0]}{more}'


def shape_of(pixels: np.ndarray) -> str:
    """Return width, height, and whether there is colour, in words."""
    return f'{pixels.shape[1]}x{pixels.shape[0]} {GREY if pixels.ndim == 2 else COLOUR}'


TWIST = 'geometry_msgs/msg/Twist'
TWIST_STAMPED = 'geometry_msgs/msg/TwistStamped'
ACKERMANN = 'ackermann_msgs/msg/AckermannDrive'
ACKERMANN_STAMPED = 'ackermann_msgs/msg/AckermannDriveStamped'
JOY = 'sensor_msgs/msg/Joy'
COMMAND_TYPES = (TWIST_STAMPED, TWIST, ACKERMANN_STAMPED, ACKERMANN, JOY)
STAMPED = {TWIST_STAMPED, ACKERMANN_STAMPED, JOY}

# The library that reads recordings has no definitions of these.
DEFINITIONS = {
    ACKERMANN: 'float32 steering_angle\nfloat32 steering_angle_velocity\nfloat32 speed\n'
               'float32 acceleration\nfloat32 jerk\n',
    ACKERMANN_STAMPED: 'std_msgs/Header header\nackermann_msgs/AckermannDrive drive\n',
}


def steering_of(message_type: str, reading: Reading) -> str:
    """Return what the second value of a command is, as in ``Commands.steering``."""
    if message_type == JOY:
        return 'steering'
    is_angle = message_type in DEFINITIONS and not reading.wheelbase
    return 'steering angle' if is_angle else 'yaw rate'


def values_of(message, message_type: str, reading: Reading) -> tuple[float, float]:
    """
    Return speed and steering of one message.

    :raises BadRecordingError: If a Joy lacks an axis; without the place.
    """
    if message_type == JOY:
        return joy_values(message.axes, reading)
    if message_type in (TWIST, TWIST_STAMPED):
        twist = message.twist if message_type == TWIST_STAMPED else message
        return twist.linear.x, twist.angular.z
    drive = message.drive if message_type == ACKERMANN_STAMPED else message
    if not reading.wheelbase:
        return drive.speed, drive.steering_angle
    # A bicycle: it turns about the point where the axles' lines meet.
    return drive.speed, drive.speed * math.tan(drive.steering_angle) / reading.wheelbase


def joy_values(axes: np.ndarray, reading: Reading) -> tuple[float, float]:
    """Return throttle and steering of a joystick's axes."""
    if reading.steering_axis is None:
        raise BadRecordingError('it is not known which axis of the joystick steers; add '
                                f'--steering-axis N, 0 to {len(axes) - 1}')
    for option, axis in (('--steering-axis', reading.steering_axis),
                         ('--throttle-axis', reading.throttle_axis)):
        if axis is not None and not 0 <= axis < len(axes):
            raise BadRecordingError(f'{option} {axis}: the joystick has the axes 0 to '
                                    f'{len(axes) - 1}')
    throttle = 0.0 if reading.throttle_axis is None else float(axes[reading.throttle_axis])
    return throttle, reading.sign('left') * float(axes[reading.steering_axis])
