"""What a recording is, wherever it was read from: stamped frames and stamped commands."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stream_agent.bounded_settings import (
    BoundedSettings, choice, free_text, printable, quantity)
from stream_agent.contract.conversions import ConversionError
from stream_agent.contract.image_files import ImageError
from stream_agent.contract.messages import MissingValue

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
BASE_NAMES = ('speed', 'steering')
UNREADABLE = 'frames that cannot be decoded'
UNFIT = 'frames of which an input does not fit what the policy reads'


class BadRecordingError(ValueError):
    """A recording that cannot be used; the message names file and topic and says what to do."""


class LackingFrameError(ValueError):
    """
    A frame without one of the inputs that go with it; the message says which and why.

    :param kind: Under which such frames are counted.
    """

    def __init__(self, kind: str, fault: str) -> None:
        super().__init__(fault)
        self.kind = kind


class RecordedFrame(NamedTuple):
    """
    One frame with all that a network reads at it, as the messages have it.

    :param values: Of the input that triggers: of an image its pixels, uint8, (H, W, 3) in RGB
        order or (H, W).
    :param others: Of the other inputs, by their names.
    """

    values: Any
    others: Mapping[str, Any]


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
    :param values: (M, 2) float64: speed, and what steers, positive to the left; or (M, n) of
        whatever ``names`` says.
    :param steering: What steers: 'yaw rate' [rad/s], 'steering angle' [rad] at the wheels, or
        'steering' as a share -1 ... 1 of all there is; the speed of the last is a share, too.
        Empty if nothing steers.
    :param stamps_from: As for ``Recording``.
    :param names: Of what obeys, such as joints; of a base ``BASE_NAMES``.
    """

    stamps: np.ndarray
    values: np.ndarray
    steering: str
    stamps_from: str = 'header'
    names: tuple[str, ...] = BASE_NAMES

    @property
    def kind(self) -> str:
        """What is commanded, in words: what steers, or the names."""
        return self.steering or ', '.join(map(printable, self.names))


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
        #: Why the first frame that cannot be decoded, or lacks an input, is left out.
        self.first_fault = ''
        # Kinds of ``skipped`` that follow from decoding.
        self._lacking: set[str] = set()
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
    def recorded_frames(self) -> Iterator[Callable[[], Any]]:
        """Yield, for every frame as it was recorded, what decodes it or raises ImageError."""

    def recorded_inputs(self) -> Iterator[tuple[Callable[[], Any], Callable[[], Mapping]]]:
        """
        Yield what decodes each frame, and what gives the inputs that go with it.

        The second raises LackingFrameError where one of them is missing or too old.
        """
        for read in self.recorded_frames():
            yield read, dict

    @abstractmethod
    def files(self) -> list[Path]:
        """Return the files that make up the recording."""

    def images(self) -> Iterator[tuple[int, np.ndarray]]:
        """Decode the frames as ``frames`` does; yields indices and pixels alone."""
        for index, frame in self.frames():
            yield index, frame.values

    def frames(self, prepare: Callable[[RecordedFrame], Any] = lambda frame: frame
               ) -> Iterator[tuple[int, Any]]:
        """
        Decode the frames in order; those that cannot be, or lack an input, are counted, left out.

        :param prepare: Makes what is wanted of a frame, or raises ConversionError.
        :returns: Indices in ``frame_stamps``, and what was made of the frames.
        :raises BadRecordingError: If the file ends early, or no frame is left.
        """
        self.skipped[UNREADABLE] = 0
        for kind in self._lacking:
            del self.skipped[kind]
        self._lacking.clear()
        self.shapes.clear()
        count = 0
        for index, (read, others) in enumerate(compress(self.recorded_inputs(), self._kept)):
            try:
                frame = RecordedFrame(read(), others())
                made = prepare(frame)
            except (ImageError, MissingValue) as error:
                self._leave_out(UNREADABLE, f'frame {index}: {error}')
                continue
            except LackingFrameError as error:
                self._lacking.add(error.kind)
                self._leave_out(error.kind, f'frame {index}: {error}')
                continue
            except ConversionError as error:
                self._lacking.add(UNFIT)
                self._leave_out(UNFIT, f'frame {index}: {error}')
                continue
            if isinstance(frame.values, np.ndarray) and frame.values.ndim > 1:
                self.shapes[shape_of(frame.values)] += 1
            count += 1
            yield index, made
        if not count:
            self._refuse()

    def _leave_out(self, kind: str, fault: str) -> None:
        self.skipped[kind] += 1
        self.first_fault = self.first_fault or fault

    def _refuse(self) -> None:
        """Say that no frame is left, and why."""
        if self._lacking:
            raise BadRecordingError(
                f"'{self.path}': no frame of topic '{self.topic}' has all inputs that the policy "
                f'reads ({self.first_fault}); record them together, change the contract, or leave '
                'the recording out')
        place = f" topic '{self.topic}':" if self.topic.startswith('/') else ''
        raise BadRecordingError(f"'{self.path}':{place} no frame can be decoded "
                                f'({self.first_fault}); {self.remedy}')

    @property
    def remedy(self) -> str:
        """What helps if no frame can be decoded."""
        if self.topic.startswith('/'):
            return ('record one of the supported kinds, or choose another topic by '
                    '--image-topic')
        return 'copy the tub again with its images, or leave it out'

    def summary(self) -> str:
        """Say in a line what there is and what was left out."""
        line = (f'{self.name}: {len(self)} frames at {self.rate:.1f} Hz (stamps: '
                f'{self.stamps_from}), {len(self.commands.stamps)} commands '
                f'({self.commands.kind}; stamps: {self.commands.stamps_from})')
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
