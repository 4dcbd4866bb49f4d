"""The command that goes to the robot."""

from typing import NamedTuple


class Command(NamedTuple):
    """
    A command to the base, in the robot's frame (REP 103).

    :param speed: Forward speed [m/s].
    :param yaw_rate: Yaw rate [rad/s], positive to the left.
    """

    speed: float
    yaw_rate: float


STOP = Command(0.0, 0.0)
