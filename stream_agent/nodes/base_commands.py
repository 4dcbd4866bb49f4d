"""The messages by which bases are commanded: made of our commands, and read."""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.node import Node
from stream_agent.command import Command
from stream_agent.gate.settings import BASE_COMMANDS
from stream_agent.nodes.messages import (
    command_to_twist, ns_to_stamp, twist_to_command, type_name)

# Slower than this [m/s], no steering angle bends the path as commanded.
STANDING = 1e-3


class CommandType(NamedTuple):
    """
    A message type by which a base is commanded.

    :param kind: The class of the message.
    :param write: Converts a command and a stamp [ns] to a message; not every type has a stamp.
    :param read: Converts a message to a command.
    """

    kind: type
    write: Callable[[Command, int], Any]
    read: Callable[[Any], Command]

    @property
    def name(self) -> str:
        """The name as in ``ros2 topic info``."""
        return type_name(self.kind)


def read_command_type(node: Node) -> CommandType:
    """
    Return the type of commands that a node's parameters name.

    :raises ValueError: If there is no such type, or its package is not installed.
    """
    return make_command_type(*(node.get_parameter(name).value for name in (
        'command_type', 'wheel_base', 'max_steering_angle')))


def make_command_type(name: str, wheel_base: float, max_steering_angle: float) -> CommandType:
    """
    Return a type of commands by its name.

    :param wheel_base: Distance between the axles [m]; only a car's steering angle depends on it.
    :param max_steering_angle: Of a car, to each side [rad].
    :raises ValueError: If there is no such type, or its package is not installed.
    """
    if name == 'twist_stamped':
        return CommandType(TwistStamped, command_to_twist, twist_to_command)
    if name == 'twist':
        return CommandType(Twist, lambda command, _: command_to_twist(command, 0).twist,
                           lambda msg: Command(msg.linear.x, msg.angular.z))
    if name == 'ackermann':
        return ackermann(import_ackermann(), wheel_base, max_steering_angle)
    raise ValueError(f"command_type is '{name}'; choices are {', '.join(BASE_COMMANDS)}")


def import_ackermann() -> type:
    """Import the message of cars, which is in a package of its own."""
    try:
        from ackermann_msgs.msg import AckermannDriveStamped
    except ImportError as error:
        raise ValueError(
            "command_type is 'ackermann', which needs the package 'ackermann_msgs'; install it "
            'with `sudo apt install ros-${ROS_DISTRO}-ackermann-msgs`, or set command_type to '
            'twist_stamped') from error
    return AckermannDriveStamped


def ackermann(kind: type, wheel_base: float, max_steering_angle: float) -> CommandType:
    """
    Return the commands of cars: speed, and steering angle of the front wheels.

    A path that is too narrow for the car becomes the narrowest that it can drive (G7).

    :param kind: The class ackermann_msgs/AckermannDriveStamped.
    """
    def write(command: Command, stamp_ns: int) -> Any:
        msg = kind()
        msg.header.frame_id = 'base_link'
        ns_to_stamp(msg.header.stamp, stamp_ns)
        msg.drive.speed = float(command.speed)
        angle = steering_angle(command, wheel_base)
        msg.drive.steering_angle = min(max(angle, -max_steering_angle), max_steering_angle)
        return msg

    def read(msg: Any) -> Command:
        speed = msg.drive.speed
        return Command(speed, speed * math.tan(msg.drive.steering_angle) / wheel_base)

    return CommandType(kind, write, read)


def steering_angle(command: Command, wheel_base: float) -> float:
    """Return the angle [rad] that bends a car's path as commanded; 0 at standstill."""
    if abs(command.speed) < STANDING:
        return 0.0
    return math.atan(wheel_base * command.yaw_rate / command.speed)
