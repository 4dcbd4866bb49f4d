"""Vehicles on the plane whose actuators follow a command with first-order lag."""

from abc import ABC, abstractmethod
import math
from typing import NamedTuple

import numpy as np
from stream_agent.command import Command

# Actuators are solved exactly; this duration [s] bounds the error of the path between instants.
LONGEST_SUBSTEP = 0.005


def moved(x: float, y: float, yaw: float, distance: float, turn: float
          ) -> tuple[float, float, float]:
    """Return a pose after a circular arc of a length [m] and an angle [rad]."""
    half = 0.5 * turn
    chord = distance * (math.sin(half) / half if abs(half) > 1e-6 else 1.0)
    return x + chord * math.cos(yaw + half), y + chord * math.sin(yaw + half), yaw + turn


class Pose(NamedTuple):
    """Where a vehicle's (rear) axle is in the world [m]; yaw [rad] to the left, not wrapped."""

    x: float
    y: float
    yaw: float

    def moved(self, distance: float, turn: float) -> 'Pose':
        """Return the pose after a circular arc of a length [m] and an angle [rad]."""
        return Pose(*moved(self.x, self.y, self.yaw, distance, turn))


class Motion(NamedTuple):
    """A vehicle at one instant: speed forward [m/s], yaw rate [rad/s] positive to the left."""

    pose: Pose
    speed: float
    yaw_rate: float

    def before(self, duration: float) -> Pose:
        """Return the pose a duration [s] ago, had speed and yaw rate been the same."""
        return self.pose.moved(-duration * self.speed, -duration * self.yaw_rate)


def limited(value: float, limit: float) -> float:
    """Return the value, or the limit on its side of 0."""
    return max(-limit, min(limit, value))


class Vehicle(ABC):
    """
    A vehicle that follows commands.

    :param speed_time_constant: Of the lag between commanded and true speed [s].
    :param turn_time_constant: Of the yaw rate's or the steering angle's lag [s].
    :param max_speed: The commanded speed is limited to this [m/s], in both directions.
    :ivar acceleration: Forward [m/s2], at present; without lag speeds jump, and it is 0.
    """

    wheel_base = 0.0

    def __init__(self, speed_time_constant: float = 0.1, turn_time_constant: float = 0.1,
                 max_speed: float = 2.0) -> None:
        self.speed_time_constant = speed_time_constant
        self.turn_time_constant = turn_time_constant
        self.max_speed = max_speed
        self.place(Pose(0.0, 0.0, 0.0))

    @property
    def motion(self) -> Motion:
        """Where the vehicle is now, and how it moves."""
        return Motion(self._pose, self._speed, self._yaw_rate())

    def place(self, pose: Pose, speed: float = 0.0) -> None:
        """Put the vehicle somewhere, rolling straight ahead at a speed [m/s]."""
        self._pose, self._speed, self._turn = pose, speed, 0.0
        self.acceleration = 0.0

    def step(self, command: Command, duration: float) -> Motion:
        """Follow one command for a duration [s]."""
        x, y, yaw = self._pose
        speed, turn, speed_lag, turn_lag = (
            self._speed, self._turn, self.speed_time_constant, self.turn_time_constant)
        to_speed, to_turn = limited(command.speed, self.max_speed), self._wanted_turn(command)
        parts = max(1, math.ceil(duration / LONGEST_SUBSTEP - 1e-9))
        part = duration / parts
        # First-order lags under a constant target have an exact solution.
        speed_decay = math.exp(-part / speed_lag) if speed_lag else 0.0
        turn_decay = math.exp(-part / turn_lag) if turn_lag else 0.0
        for _ in range(parts):
            turned = to_turn * part + (turn - to_turn) * turn_lag * (1.0 - turn_decay)
            turn = to_turn + (turn - to_turn) * turn_decay
            rolled = to_speed * part + (speed - to_speed) * speed_lag * (1.0 - speed_decay)
            speed = to_speed + (speed - to_speed) * speed_decay
            if self.wheel_base:
                turned = rolled * math.tan(turned / part) / self.wheel_base
            x, y, yaw = moved(x, y, yaw, rolled, turned)
        self._pose, self._speed, self._turn = Pose(x, y, yaw), speed, turn
        self.acceleration = (to_speed - speed) / speed_lag if speed_lag else 0.0
        return self.motion

    @abstractmethod
    def _wanted_turn(self, command: Command) -> float:
        """Return the yaw rate [rad/s], or the steering angle [rad], that a command asks for."""

    def _yaw_rate(self) -> float:
        """Return the present yaw rate [rad/s]."""
        return self._turn


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

    def _yaw_rate(self) -> float:
        return self._speed * math.tan(self._turn) / self.wheel_base


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
