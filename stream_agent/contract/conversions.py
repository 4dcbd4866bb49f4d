"""
From measured values to the numbers that an input node reads, the same in training and on a robot.

A policy's file holds the conversion of each of its inputs; a robot's contract says which topic
gives the values. Images have ``network.preprocessing``, which is such a conversion, too.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np


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
    """

    fields: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    kind: ClassVar[str] = 'vector'

    @property
    def size(self) -> int:
        return len(self.fields)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        low, high = np.array(self.low), np.array(self.high)
        scaled = (np.asarray(values, float) - low) * (2 / (high - low)) - 1
        return np.clip(scaled, -1, 1).astype(np.float32)


@dataclass(frozen=True)
class ScanInput:
    """
    A laser scan as so many rays at fixed angles, 0 m as -1 and ``range_max`` as 1.

    :param invalid: What a ray counts as [m] that is NaN, or outside of what the scanner measures
        and not infinite; +inf counts as ``range_max``, -inf as the scanner's range_min (REP 117).
    """

    rays: int
    angle_min: float
    angle_max: float
    range_max: float
    invalid: float
    kind: ClassVar[str] = 'scan'

    @property
    def size(self) -> int:
        return self.rays

    def __call__(self, values: Scan) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class DepthInput:
    """
    A depth image, resized by the nearest pixel, ``low`` metres as -1 and ``high`` as 1.

    :param shape: (1, H, W) of the input node.
    :param invalid: What a pixel counts as [m] that is 0 in 16UC1, or NaN in 32FC1 (REP 118).
    """

    shape: tuple[int, ...]
    low: float
    high: float
    invalid: float
    kind: ClassVar[str] = 'depth'

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class CommandsInput:
    """The last ``count`` outputs of the policy itself, the newest first; zero before the first."""

    count: int
    outputs: int
    kind: ClassVar[str] = 'commands'

    @property
    def size(self) -> int:
        return self.count * self.outputs

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Take (up to count, outputs) outputs in -1 ... 1, the newest first."""
        result = np.zeros((self.count, self.outputs), np.float32)
        result[:len(values)] = values[:self.count]
        return result.ravel()


@dataclass(frozen=True)
class AgeInput:
    """How old the triggering message is when its answer begins [s], 0 as -1, ``most`` as 1."""

    most: float
    kind: ClassVar[str] = 'age'

    @property
    def size(self) -> int:
        return 1

    def __call__(self, values: float) -> np.ndarray:
        return np.array([np.clip(2 * values / self.most - 1, -1, 1)], np.float32)


@dataclass(frozen=True)
class OutputScale:
    """
    What the outputs -1 ... 1 of a network that commands any actuators mean.

    :param names: Of joints or whatever obeys, in the output node's order.
    :param units: Such as 'rad', 'rad/s', 'm/s', 'N m'.
    :param low: What -1 commands, in these units; ``high`` what 1 commands.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def command(self, output: np.ndarray) -> tuple[float, ...]:
        """Return the policy command of the output node's values."""
        low, high = np.array(self.low), np.array(self.high)
        return tuple((low + (np.asarray(output, float) + 1) * 0.5 * (high - low)).tolist())

    def output(self, command: tuple[float, ...]) -> tuple[float, ...]:
        """Return the output node's values that would ask for a command."""
        low, high = np.array(self.low), np.array(self.high)
        return tuple(((np.array(command) - low) * (2 / (high - low)) - 1).tolist())


#: By the ``kind`` under which a policy's file has them; 'image' is network.preprocessing's.
CONVERSIONS = {each.kind: each for each in (
    VectorInput, ScanInput, DepthInput, CommandsInput, AgeInput)}
