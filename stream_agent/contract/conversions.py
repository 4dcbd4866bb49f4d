"""
From measured values to the numbers that an input node reads, the same in training and on a robot.

A policy's file holds the conversion of each of its inputs; a robot's contract says which topic
gives the values. Images have ``network.preprocessing``, which is such a conversion, too.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
import math
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

#: How many numbers an input node may have, and how large one may be.
MOST_VALUES, MOST = 100_000, 1e9
# How far the last ray may be from where it is expected: scans of some drivers have a ray more or
# less [rays, rad].
MISSING_RAYS, MISSING_ANGLE = 1.5, 0.05


class ConversionError(ValueError):
    """A conversion that cannot be, or values that it does not fit; with fault and remedy."""


class Conversion(Protocol):
    """Makes the numbers of an input node."""

    @property
    def size(self) -> int:
        """How many numbers it gives; an input node has as many, in any shape."""

    def __call__(self, values: Any, /) -> np.ndarray:
        """Return float32 (size,), or (C, H, W) of an image."""


class Scan(NamedTuple):
    """
    One sweep of a laser scanner, as sensor_msgs/LaserScan has it.

    :param ranges: float32 [m], (n,).
    :param angle_min: Of the first ray [rad], positive to the left.
    :param angle_increment: From ray to ray [rad]; negative if it turns to the right.
    """

    ranges: np.ndarray
    angle_min: float
    angle_increment: float
    range_min: float
    range_max: float


@dataclass(frozen=True)
class VectorInput:
    """
    Numbers out of messages, each scaled to -1 ... 1 and cut off there.

    :param fields: Where they are in the message, such as 'twist.twist.linear.x'; in a JointState
        'position.JOINT', by the joint's name; in an array 'data.0'.
    :param units: Of each, for people and for comparison with the contract.
    :param low: What becomes -1, in these units; ``high`` what becomes 1.
    :raises ConversionError: If these cannot be.
    """

    fields: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    kind: ClassVar[str] = 'vector'

    def __post_init__(self) -> None:
        check_ends('fields', self.fields, self.units, self.low, self.high)

    @property
    def size(self) -> int:
        return len(self.fields)

    @cached_property
    def _line(self) -> tuple[np.ndarray, np.ndarray]:
        """What values are multiplied by, and what is added to them then."""
        low, high = np.array(self.low), np.array(self.high)
        return 2 / (high - low), -(low + high) / (high - low)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """
        Scale values.

        :param values: (size,), or (n, size) of n messages.
        :raises ConversionError: If there is another number of them, or one is not finite.
        """
        values = np.asarray(values, float)
        if not values.shape or values.shape[-1] != len(self.fields):
            raise ConversionError(f'{values.shape[-1] if values.shape else 1} values for '
                                  f"{len(self.fields)} fields ({', '.join(self.fields)}); give "
                                  'one each')
        slope, offset = self._line
        scaled = values * slope
        scaled += offset
        if not np.isfinite(scaled).all():
            bad = ~np.isfinite(scaled.reshape(-1, len(self.fields))).all(0)
            raise ConversionError(f'{self.fields[int(np.argmax(bad))]} is not a finite number; '
                                  'leave such messages out')
        return scaled.clip(-1, 1, out=scaled).astype(np.float32)


@dataclass(frozen=True)
class ScanInput:
    """
    A laser scan as so many rays at fixed angles, 0 m as -1 and ``range_max`` as 1.

    Of each angle the nearest measured ray counts. Scans may turn either way, begin anywhere on a
    full circle, and have some rays more or less than the one before.

    :param invalid: What a ray counts as [m] that is NaN, 0 ("no return" of many drivers), or
        outside of what the scanner measures and not infinite; +inf counts as ``range_max``, -inf
        as the scanner's range_min (REP 117).
    :raises ConversionError: If these cannot be.
    """

    rays: int
    angle_min: float
    angle_max: float
    range_max: float
    invalid: float
    kind: ClassVar[str] = 'scan'

    def __post_init__(self) -> None:
        check_whole('rays', self.rays)
        check_numbers(('angle_min', 'angle_max', 'range_max', 'invalid'), self)
        if self.range_max <= 0 or self.invalid < 0:
            raise ConversionError(f'range_max is {self.range_max:g} and invalid {self.invalid:g}; '
                                  'let the first be above 0, and the second not below')
        if not self.angle_min < self.angle_max <= self.angle_min + 2 * math.pi + 1e-3:
            raise ConversionError(f'angle_max is {self.angle_max:g} and angle_min '
                                  f'{self.angle_min:g}; let it be greater, by a full turn '
                                  '(6.2832) at most')

    @property
    def size(self) -> int:
        return self.rays

    def __call__(self, values: Scan) -> np.ndarray:
        """
        Take the rays at the fixed angles, and scale them.

        :raises ConversionError: If the scan does not cover these angles, or contradicts itself.
        """
        measured, first, increment, least, most = values
        # Scanners say 0.12 and send 0.119999997, which is the same in float32.
        least, most = np.float32(least), np.float32(most)
        if not 0 <= least < most:  # NaN compares false
            raise ConversionError(f'a scan measures from {least:g} to {most:g} m by range_min and '
                                  'range_max; let its driver say what it measures')
        at = nearest_rays(self.rays, self.angle_min, self.angle_max, len(measured),
                          float(first), float(increment))
        ranges = np.asarray(measured, np.float32)[at]
        faulty = ~((ranges >= least) & (ranges <= most) & (ranges > 0))
        if faulty.any():
            infinite = np.isinf(ranges)
            ranges[faulty & ~infinite] = self.invalid
            ranges[infinite] = np.where(ranges[infinite] > 0, self.range_max, least)
        elif most == np.inf:
            ranges[np.isinf(ranges)] = self.range_max
        ranges *= np.float32(2 / self.range_max)
        ranges -= 1
        return ranges.clip(-1, 1, out=ranges)


@lru_cache(maxsize=64)
def nearest_rays(rays: int, angle_min: float, angle_max: float, count: int, first: float,
                 increment: float) -> np.ndarray:
    """
    Return which of a scan's rays are the nearest to fixed angles.

    :param count: Of the scan's rays, which begin at ``first`` and go on by ``increment`` [rad].
    :raises ConversionError: If one of the angles is not among them.
    """
    if not count or not math.isfinite(first) or not 1e-6 < abs(increment) < math.inf:
        raise ConversionError(f'a scan has {count} ranges, angle_min {first:g} and '
                              f'angle_increment {increment:g}, which are no rays; let its driver '
                              'say them right')
    wanted = np.linspace(angle_min, angle_max, rays)
    turn = 2 * math.pi / abs(increment)
    at = (wanted - first) / increment % turn
    # What lies beyond the last ray may be just before the first one, too.
    beyond, before = at - (count - 1), turn - at
    most = max(0.5, min(MISSING_RAYS, MISSING_ANGLE / abs(increment)))
    lacking = np.minimum(beyond, before) > most + 1e-3
    if lacking.any():
        last = first + (count - 1) * increment
        raise ConversionError(
            f'a scan goes from {min(first, last):.4g} to {max(first, last):.4g} rad, and the '
            f'network sees {wanted[np.argmax(lacking)]:.4g} rad, too; write angle_min and '
            'angle_max within what the scanner covers, and train for that')
    found = np.where((beyond > 0) & (before < beyond), 0, np.minimum(np.rint(at), count - 1))
    found = found.astype(np.intp)
    found.setflags(write=False)  # as it is shared by all calls
    return found


@dataclass(frozen=True)
class DepthInput:
    """
    A depth image, resized by the nearest pixel, ``low`` metres as -1 and ``high`` as 1.

    :param shape: (1, H, W) of the input node.
    :param invalid: What a pixel counts as [m] that is 0 in 16UC1, or NaN or not above 0 in 32FC1;
        there +inf counts as ``high``, -inf as ``low`` (REP 118).
    :raises ConversionError: If these cannot be.
    """

    shape: tuple[int, ...]
    low: float
    high: float
    invalid: float
    kind: ClassVar[str] = 'depth'

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or self.shape[0] != 1 or not all(
                type(side) is int and 1 <= side <= 8192 for side in self.shape):
            raise ConversionError(f'the input node has the shape {list(self.shape)}; a depth '
                                  'image is [1, height, width]')
        check_numbers(('low', 'high', 'invalid'), self)
        if not 0 <= self.low < self.high or self.invalid < 0:
            raise ConversionError(f'low is {self.low:g}, high {self.high:g} and invalid '
                                  f'{self.invalid:g} m; let low be from 0 to below high, and '
                                  'invalid not below 0')

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """
        Resize and scale an image.

        :param values: uint16 [mm] or float32 [m], (H, W) of any size.
        :raises ConversionError: If it is another array.
        """
        if values.ndim != 2 or values.dtype not in (np.uint16, np.float32):
            raise ConversionError(f'an image of {values.dtype} {list(values.shape)} is not depth; '
                                  'take one of encoding 16UC1 or 32FC1')
        # First, as all else is cheaper then; other ways would mix what is invalid into the rest.
        rows, columns = (np.arange(side) * whole // side for side, whole in zip(
            self.shape[1:], values.shape))
        metres = values[rows[:, np.newaxis], columns]
        if metres.dtype == np.uint16:
            metres = metres * np.float32(0.001)
        infinite = np.isinf(metres)
        far = infinite & (metres > 0)
        metres[~(metres > 0) & ~infinite] = self.invalid
        metres[infinite] = self.low
        metres[far] = self.high
        metres -= np.float32(self.low)
        metres *= np.float32(2 / (self.high - self.low))
        metres -= 1
        return metres.clip(-1, 1, out=metres)[np.newaxis]


@dataclass(frozen=True)
class CommandsInput:
    """
    The last ``count`` outputs of the policy itself, the newest first; zero before the first.

    :raises ConversionError: If these cannot be.
    """

    count: int
    outputs: int
    kind: ClassVar[str] = 'commands'

    def __post_init__(self) -> None:
        check_whole('count', self.count)
        check_whole('outputs', self.outputs)

    @property
    def size(self) -> int:
        return self.count * self.outputs

    def __call__(self, values: Any) -> np.ndarray:
        """Take (up to count, outputs) outputs, the newest first, each cut off at -1 and 1."""
        result = np.zeros((self.count, self.outputs), np.float32)
        for i, one in enumerate(values[:self.count]):
            result[i] = one
        return result.clip(-1, 1, out=result).ravel()


@dataclass(frozen=True)
class AgeInput:
    """
    How old the triggering message is when its answer begins [s], 0 as -1, ``most`` as 1.

    :raises ConversionError: If that cannot be.
    """

    most: float
    kind: ClassVar[str] = 'age'

    def __post_init__(self) -> None:
        check_numbers(('most',), self)
        if self.most <= 0:
            raise ConversionError(f'most is {self.most:g} s; let it be above 0')

    @property
    def size(self) -> int:
        return 1

    def __call__(self, values: float) -> np.ndarray:
        if not math.isfinite(values):
            raise ConversionError(f'an age is {values} s; give a finite number')
        return np.array([min(max(2 * values / self.most - 1, -1.0), 1.0)], np.float32)


@dataclass(frozen=True)
class OutputScale:
    """
    What the outputs -1 ... 1 of a network that commands any actuators mean.

    :param names: Of joints or whatever obeys, in the output node's order.
    :param units: Such as 'rad', 'rad/s', 'm/s', 'N m'.
    :param low: What -1 commands, in these units; ``high`` what 1 commands.
    :raises ConversionError: If these cannot be.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        check_ends('names', self.names, self.units, self.low, self.high)

    @cached_property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """What -1 commands, and from there to what 1 commands."""
        low = np.array(self.low)
        return low, np.array(self.high) - low

    def command(self, output: np.ndarray) -> tuple[float, ...]:
        """Return the policy command of the output node's values."""
        low, span = self._ends
        return tuple((low + (np.asarray(output, float) + 1) * 0.5 * span).tolist())

    def output(self, command: tuple[float, ...]) -> tuple[float, ...]:
        """Return the output node's values that would ask for a command."""
        low, span = self._ends
        return tuple(((np.array(command) - low) * (2 / span) - 1).tolist())


def check_whole(name: str, value: Any) -> None:
    """Refuse what is not a whole number of 1 to ``MOST_VALUES``."""
    if type(value) is not int or not 1 <= value <= MOST_VALUES:
        raise ConversionError(f'{name} is {value!r}; let it be a whole number from 1 to '
                              f'{MOST_VALUES}')


def check_numbers(names: tuple[str, ...], holder: Any) -> None:
    """Refuse attributes that are not numbers of a usual size."""
    for name in names:
        if not is_usual(value := getattr(holder, name)):
            raise ConversionError(f'{name} is {value!r}; let it be a number from {-MOST:g} to '
                                  f'{MOST:g}')


def is_usual(value: Any) -> bool:
    """Tell whether a value is a number of a usual size; NaN, which compares false, is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MOST


def check_ends(kind: str, names: tuple[str, ...], units: tuple[str, ...], low: tuple[float, ...],
               high: tuple[float, ...]) -> None:
    """
    Hold what belongs to names against them.

    :param kind: What they are called.
    """
    if not 1 <= len(names) <= MOST_VALUES or len(set(names)) != len(names) or not all(
            isinstance(one, str) and one for one in names):
        raise ConversionError(f'{kind} are {names!r:.200}; give at least one, each once')
    for name, values in (('units', units), ('low', low), ('high', high)):
        if len(values) != len(names):
            raise ConversionError(f'there are {len(names)} {kind} and {len(values)} {name}; give '
                                  'one for each')
    if not all(isinstance(one, str) for one in units):
        raise ConversionError(f'units are {units!r:.200}; each is a text')
    for name, first, last in zip(names, low, high):
        if not is_usual(first) or not is_usual(last) or first == last:
            raise ConversionError(f'{name} goes from {first!r} (low) to {last!r} (high); give two '
                                  f'different numbers from {-MOST:g} to {MOST:g}')


#: By the ``kind`` under which a policy's file has them; 'image' is network.preprocessing's.
CONVERSIONS = {each.kind: each for each in (
    VectorInput, ScanInput, DepthInput, CommandsInput, AgeInput)}
