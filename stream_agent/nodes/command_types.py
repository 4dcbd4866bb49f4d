"""The messages by which robots are commanded: made of our commands, and read."""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from stream_agent.command import Command
from stream_agent.contract.settings import OutputSettings
from stream_agent.gate.limits import AnyCommand
from stream_agent.gate.settings import BASE_COMMANDS, BaseSettings
from stream_agent.nodes.messages import (
    command_to_twist, ns_to_stamp, SerializedTwist, stamp_to_ns, twist_to_command, type_name)
from stream_agent.nodes.parameters import read_settings
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

# Slower than this [m/s], no steering angle bends the path as commanded.
STANDING = 1e-3


class CommandType(NamedTuple):
    """
    A message type by which a robot is commanded.

    :param kind: The class of the message.
    :param write: Converts a command and a stamp [ns] to a message; not every type has a stamp.
    :param read: Converts a message to a command; of vectors {} if it is not one of ours.
    """

    kind: type
    write: Callable[[Any, int], Any]
    read: Callable[[Any], AnyCommand]

    @property
    def name(self) -> str:
        """The name as in ``ros2 topic info``."""
        return type_name(self.kind)

    @property
    def quick_write(self) -> Callable[[Any, int], Any]:
        """As ``write``, where possible without making a message, for what is only published."""
        plain = self.write in (command_to_twist, write_twist)
        return SerializedTwist(self.kind).write if plain else self.write


def read_command_type(node: Node, output: OutputSettings) -> CommandType:
    """
    Return the messages that an output takes.

    :param node: Has the parameters of ``BaseSettings``.
    :param output: Of the contract, which takes the type of a base from ``command_type`` too.
    :raises ValueError: If there is no such type, or its package is not installed.
    """
    name = node.get_parameter('command_type').value
    if name not in BASE_COMMANDS:
        raise ValueError(f"command_type is '{name}'; choices are {', '.join(BASE_COMMANDS)}")
    return command_type_of(output, read_settings(node, BaseSettings))


def command_type_of(output: OutputSettings, base: BaseSettings) -> CommandType:
    """
    Return the messages that an output takes.

    :param base: Of a car the wheel base and the greatest steering angle.
    :raises ValueError: If their package is not installed.
    """
    if output.is_vector:
        return vector_command_type(output)
    return make_command_type(output.type, base.wheel_base, base.max_steering_angle)


def make_command_type(name: str, wheel_base: float, max_steering_angle: float) -> CommandType:
    """
    Return a type of commands to a base by its name.

    :param name: One of the contract's ``BASE_TYPES``.
    :param wheel_base: Distance between the axles [m]; only a car's steering angle depends on it.
    :param max_steering_angle: Of a car, to each side [rad].
    :raises ValueError: If its package is not installed.
    """
    if name == 'twist_stamped':
        return CommandType(TwistStamped, command_to_twist, twist_to_command)
    if name == 'twist':
        return CommandType(Twist, write_twist, lambda msg: Command(msg.linear.x, msg.angular.z))
    if name == 'twist_steering':
        return twist_steering(wheel_base, max_steering_angle)
    return ackermann(import_ackermann(), wheel_base, max_steering_angle)


def write_twist(command: Command, stamp_ns: int) -> Twist:
    """Convert a command to a message without a stamp."""
    return command_to_twist(command, 0).twist


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
        msg.drive.steering_angle = steering_angle(command, wheel_base, max_steering_angle)
        return msg

    return CommandType(kind, write, lambda msg: bent_path(
        msg.drive.speed, msg.drive.steering_angle, wheel_base))


def twist_steering(wheel_base: float, max_steering_angle: float) -> CommandType:
    """Return the commands of cars whose Twist has the steering angle as ``angular.z`` [rad]."""
    def write(command: Command, stamp_ns: int) -> Twist:
        return write_twist(Command(command.speed, steering_angle(
            command, wheel_base, max_steering_angle)), stamp_ns)

    return CommandType(Twist, write, lambda msg: bent_path(
        msg.linear.x, msg.angular.z, wheel_base))


def steering_angle(command: Command, wheel_base: float, most: float = math.inf) -> float:
    """
    Return the angle [rad] that bends a car's path as commanded; 0 at standstill.

    :param most: The greatest that the car can steer to each side.
    """
    if abs(command.speed) < STANDING:
        return 0.0
    return min(max(math.atan(wheel_base * command.yaw_rate / command.speed), -most), most)


def bent_path(speed: float, angle: float, wheel_base: float) -> Command:
    """Return the command that a car follows with a steering angle [rad]."""
    return Command(speed, speed * math.tan(angle) / wheel_base)


def vector_command_type(output: OutputSettings) -> CommandType:
    """Return the messages by which any actuators are commanded; commands are values by name."""
    names, quantity = list(output.names), output.quantity

    def write_array(values: dict[str, float], stamp_ns: int) -> Float64MultiArray:
        # Without a layout, which controllers ignore.
        return Float64MultiArray(data=[values[name] for name in names])

    def write_joints(values: dict[str, float], stamp_ns: int) -> JointState:
        msg = JointState(name=names, **{quantity: [values[name] for name in names]})
        ns_to_stamp(msg.header.stamp, stamp_ns)
        return msg

    def write_trajectory(values: dict[str, float], stamp_ns: int) -> JointTrajectory:
        # The stamp 0 means now; with any other, a point whose time has passed is refused.
        point = JointTrajectoryPoint(**{TRAJECTORY_FIELD[quantity]: [
            values[name] for name in names]})
        ns_to_stamp(point.time_from_start, round(output.horizon * 1e9))
        return JointTrajectory(joint_names=names, points=[point])

    if output.type == 'float64_multi_array':
        return CommandType(Float64MultiArray, write_array, lambda msg: by_name(names, msg.data))
    if output.type == 'joint_trajectory':
        return CommandType(JointTrajectory, write_trajectory, lambda msg: by_name(
            msg.joint_names, getattr(msg.points[0], TRAJECTORY_FIELD[quantity])
            if msg.points else ()))
    return CommandType(JointState, write_joints, lambda msg: read_joints(msg, quantity))


TRAJECTORY_FIELD = {'position': 'positions', 'velocity': 'velocities'}


def by_name(names: Any, values: Any) -> dict[str, float]:
    """Return values by name; {} if these are not equally many, or a name occurs twice."""
    found = dict(zip(names, values))
    return found if len(found) == len(names) == len(values) else {}


def read_joints(msg: JointState, quantity: str) -> dict[str, float]:
    """Return the positions, velocities or efforts of a message, as ``by_name``."""
    return by_name(msg.name, getattr(msg, quantity))


def read_policy_joints(msg: JointState, quantity: str) -> tuple[dict[str, float], int, str]:
    """Return the command, the stamp [ns] and the frame_id of a vector policy's message."""
    return read_joints(msg, quantity), stamp_to_ns(msg.header.stamp), msg.header.frame_id
