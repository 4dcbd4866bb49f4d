"""Vehicles on the plane whose actuators follow a command with first-order lag."""

from abc import ABC, abstractmethod
import math
from typing import NamedTuple

import numpy as np
from stream_agent.command import Command

# Actuators are solved exactly; this duration [s] bounds the error of the path between instants.
LONGEST_SUBSTEP = 0.005


class Pose(NamedTuple):
    """Where a vehicle's (rear) axle is in the world [m]; yaw [rad] to the left, not wrapped."""

    x: float
    y: float
    yaw: float

    def moved(self, distance: float, turn: float) -> 'Pose':
        """Return the pose after a circular arc of a length [m] and an angle [rad]."""
        half = 0.5 * turn
        chord = distance * (math.sin(half) / half if abs(half) > 1e-6 else 1.0)
        return Pose(self.x + chord * math.cos(self.yaw + half),
                    self.y + chord * math.sin(self.yaw + half), self.yaw + turn)


class Motion(NamedTuple):
    """A vehicle at one instant: speed forward [m/s], yaw rate [rad/s] positive to the left."""

    pose: Pose
    speed: float
    yaw_rate: float

    def before(self, duration: float) -> Pose:
        """Return the pose a duration [s] ago, had speed and yaw rate been the same."""
        return self.pose.moved(-duration * self.speed, -duration * self.yaw_rate)


def lagged(value: float, target: float, time_constant: float, duration: float
           ) -> tuple[float, float]:
    """
    Solve a first-order lag under a constant target exactly.

    :param value: At the start; with a time constant [s] of 0 it becomes the target immediately.
    :returns: The value at the end, and its integral over the duration [s].
    """
    if time_constant == 0.0:
        return target, target * duration
    decay = math.exp(-duration / time_constant)
    return (target + (value - target) * decay,
            target * duration + (value - target) * time_constant * (1.0 - decay))


def limited(value: float, limit: float) -> float:
    """Return the value, or the limit on its side of 0."""
    return max(-limit, min(limit, value))


class Vehicle(ABC):
    """
    A vehicle that follows commands.

    :param speed_time_constant: Of the lag between commanded and true speed [s].
    :param turn_time_constant: Of the yaw rate's or the steering angle's lag [s].
    :param max_speed: The commanded speed is limited to this [m/s], in both directions.
    """

    def __init__(self, speed_time_constant: float = 0.1, turn_time_constant: float = 0.1,
                 max_speed: float = 2.0) -> None:
        self.speed_time_constant = speed_time_constant
        self.turn_time_constant = turn_time_constant
        self.max_speed = max_speed
        self.place(Pose(0.0, 0.0, 0.0))

    @property
    def motion(self) -> Motion:
        """Where the vehicle is now, and how it moves."""
        return Motion(self._pose, self._speed, self._yawed(self._speed, self._turn, 1.0))

    def place(self, pose: Pose, speed: float = 0.0) -> None:
        """Put the vehicle somewhere, rolling straight ahead at a speed [m/s]."""
        self._pose, self._speed, self._turn = pose, speed, 0.0

    def step(self, command: Command, duration: float) -> Motion:
        """Follow one command for a duration [s]."""
        parts = max(1, math.ceil(duration / LONGEST_SUBSTEP - 1e-9))
        for _ in range(parts):
            self._turn, turned = lagged(self._turn, self._wanted_turn(command),
                                        self.turn_time_constant, duration / parts)
            self._speed, rolled = lagged(self._speed, limited(command.speed, self.max_speed),
                                         self.speed_time_constant, duration / parts)
            self._pose = self._pose.moved(rolled, self._yawed(rolled, turned, duration / parts))
        return self.motion

    @abstractmethod
    def _wanted_turn(self, command: Command) -> float:
        """Return the yaw rate [rad/s], or the steering angle [rad], that a command asks for."""

    @abstractmethod
    def _yawed(self, rolled: float, turned: float, duration: float) -> float:
        """Return the change of yaw [rad] over a distance [m], given the integral of the turn."""


class DifferentialDrive(Vehicle):
    """
    Two driven wheels: speed and yaw rate follow the command, each with its lag.

    :param max_yaw_rate: The commanded yaw rate is limited to this [rad/s], to both sides.
    :param lags: As in ``Vehicle``.
    """

    def __init__(self, max_yaw_rate: float = 3.0, **lags: float) -> None:
        self.max_yaw_rate = max_yaw_rate
        super().__init__(**lags)

    def _wanted_turn(self, command: Command) -> float:
        return limited(command.yaw_rate, self.max_yaw_rate)

    def _yawed(self, rolled: float, turned: float, duration: float) -> float:
        return turned


class Bicycle(Vehicle):
    """
    A car: it turns only while it rolls, by the steering angle, which follows with lag.

    :param wheel_base: Between the axles [m].
    :param max_steering: Greatest steering angle [rad], to both sides.
    :param lags: As in ``Vehicle``.
    """

    def __init__(self, wheel_base: float = 0.25, max_steering: float = 0.6,
                 **lags: float) -> None:
        self.wheel_base = wheel_base
        self.max_steering = max_steering
        super().__init__(**lags)

    def _wanted_turn(self, command: Command) -> float:
        if abs(command.speed) < 1e-3:
            return self._turn
        return limited(math.atan(self.wheel_base * command.yaw_rate / command.speed),
                       self.max_steering)

    def _yawed(self, rolled: float, turned: float, duration: float) -> float:
        return rolled * math.tan(turned / duration) / self.wheel_base


class VehicleDisturbance:
    """
    Pushes a vehicle off course now and then, so that its driver shows the way back.

    :param strength: Greatest added yaw rate [rad/s].
    """

    def __init__(self, generator: np.random.Generator, strength: float) -> None:
        self._generator = generator
        self._strength = strength
        self._frames_left = 0
        self._yaw_rate = 0.0

    def advance(self) -> float:
        """Return the yaw rate that is added in the next frame [rad/s]."""
        if self._frames_left == 0:
            pushes = self._generator.random() < 0.3
            self._frames_left = int(self._generator.integers(8, 25))
            self._yaw_rate = pushes * self._generator.uniform(-1, 1) * self._strength
        self._frames_left -= 1
        return self._yaw_rate
