"""What the sensors of a vehicle measure besides its camera: rays to walls, wheels, an IMU."""

from collections.abc import Mapping
import math
from typing import NamedTuple

import numpy as np
from stream_agent.contract.conversions import Scan
from stream_agent.contract.settings import IMU, ODOMETRY
from stream_agent.simulation.course import Course
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.vehicle import Motion, Pose

# From the centre line to a wall, in lane widths: a little beyond the borders, so that a scanner at
# a border is not yet in the wall. Two stretches of a course are 1.5 lane widths apart.
WALL_DISTANCE = 0.6
# Samples of the course from one corner of a wall to the next; the arc between is 0.5 mm away.
CORNER_STEP = 2
# By so little of its own size a wall is larger, lest a ray slips through between two.
SLACK = 1e-6
# A wall that is seen under a smaller angle [rad] is seen from its end; its neighbours show there.
EDGE_ON = 1e-9
TURN = 2.0 * math.pi
# Of each type of message the fields that are simulated, in SI units.
Sensed = Mapping[str, Mapping[str, float]]


class Walls(NamedTuple):
    """Straight pieces of wall [m]: where each begins, and from there to its end, (S, 2)."""

    starts: np.ndarray
    edges: np.ndarray


def walls_of(course: Course) -> Walls:
    """Return the walls to both sides of a course, each closed."""
    sides = [course.border(side * WALL_DISTANCE * course.lane_width)[::CORNER_STEP]
             for side in (1.0, -1.0)]
    return Walls(np.concatenate(sides),
                 np.concatenate([np.roll(side, -1, axis=0) - side for side in sides]))


def distances(walls: Walls, pose: Pose, increment: float, count: int) -> np.ndarray:
    """
    Return how far it is to the nearest wall along rays [m], infinite where none is.

    :param pose: Of the scanner, looking along its first ray.
    :param increment: From ray to ray, to the left [rad]; all of them are within one turn.
    """
    cosine, sine = math.cos(pose.yaw), math.sin(pose.yaw)
    to_scanner = np.array([[cosine, -sine], [sine, cosine]])
    x, y = ((walls.starts - pose[:2]) @ to_scanner).T
    dx, dy = (walls.edges @ to_scanner).T
    # A wall is between two bearings, and only the rays there are held against it.
    cross = x * dy - y * dx
    begin = np.arctan2(y, x)
    angle = np.arctan2(cross, x * (x + dx) + y * (y + dy))
    low = np.minimum(begin, begin + angle) - SLACK * np.abs(angle)
    low[low < 0.0] += TURN
    width = (1.0 + 2.0 * SLACK) * np.abs(angle)
    # What reaches beyond a whole turn begins again at the first ray.
    low = np.concatenate([low, low - TURN])
    width = np.concatenate([width, width])
    first = np.maximum(np.ceil(low / increment), 0.0).astype(int)
    last = np.minimum(np.floor((low + width) / increment), count - 1.0).astype(int)
    hits = np.where(width > EDGE_ON, np.maximum(last - first + 1, 0), 0)
    wall = np.repeat(np.arange(len(hits)), hits)
    ray = np.arange(len(wall)) - (np.cumsum(hits) - hits - first)[wall]
    wall %= len(cross)
    angles, found = increment * np.arange(count), np.full(count, math.inf)
    np.minimum.at(found, ray, cross[wall] / (
        np.cos(angles)[ray] * dy[wall] - np.sin(angles)[ray] * dx[wall]))
    return found


class Sensors:
    """
    Scanner, wheel odometry and IMU of one vehicle on one course.

    Constant errors follow from the seed, the others from the seed and the frame's number: they are
    the same in whatever order, and however often, frames are taken.

    :param seed: Of all errors.
    """

    def __init__(self, settings: SimulationSettings, course: Course, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._walls = walls_of(course) if settings.scan_rays else None
        speed, yaw, bias = np.random.default_rng([seed, 8]).uniform(-1.0, 1.0, 3).tolist()
        self._speed_factor = 1.0 + settings.odometry_scale * speed
        self._yaw_factor = 1.0 + settings.odometry_scale * yaw
        self._yaw_bias = settings.imu_yaw_bias * bias
        self._noise = np.array([
            settings.odometry_speed_noise, settings.odometry_yaw_noise, settings.imu_yaw_noise,
            settings.imu_acceleration_noise, settings.imu_acceleration_noise])
        self._noisy = bool(self._noise.any())

    def sensed(self, motion: Motion, acceleration: float, number: int, quiet: bool) -> Sensed:
        """
        Return what wheels and IMU say of a motion.

        :param acceleration: Forward [m/s2].
        :param number: Of the frame, from 0 on.
        :param quiet: Without what changes from frame to frame.
        """
        speed, turn, yaw, ahead, left = (0.0,) * 5
        if self._noisy and not quiet:
            generator = np.random.default_rng([self._seed, 9, number])
            speed, turn, yaw, ahead, left = (self._noise * generator.standard_normal(5)).tolist()
        return {
            ODOMETRY: {'twist.twist.linear.x': motion.speed * self._speed_factor + speed,
                       'twist.twist.angular.z': motion.yaw_rate * self._yaw_factor + turn},
            IMU: {'angular_velocity.z': motion.yaw_rate + self._yaw_bias + yaw,
                  'linear_acceleration.x': acceleration + ahead,
                  'linear_acceleration.y': motion.speed * motion.yaw_rate + left}}

    def scan(self, vehicle: Pose, number: int, quiet: bool) -> Scan | None:
        """
        Return one sweep, all of whose rays are measured at one instant; None without a scanner.

        :param number: As for ``sensed``; ``quiet`` likewise.
        """
        if self._walls is None:
            return None
        settings, count = self._settings, self._settings.scan_rays
        first = settings.scan_angle_min
        increment = (settings.scan_angle_max - first) / (count - 1)
        place = vehicle.moved(settings.scan_forward, 0.0)
        ranges = distances(self._walls, place._replace(yaw=place.yaw + first), increment, count)
        if not quiet and (settings.scan_noise or settings.scan_dropout):
            generator = np.random.default_rng([self._seed, 10, number])
            ranges += settings.scan_noise * generator.standard_normal(count)
            ranges[generator.random(count) < settings.scan_dropout] = math.inf
        ranges[ranges > settings.scan_range_max] = math.inf
        ranges[ranges < settings.scan_range_min] = -math.inf
        return Scan(ranges.astype(np.float32), first, increment, settings.scan_range_min,
                    settings.scan_range_max)
