"""Conversions between ROS messages and plain data, and the QoS of our topics."""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

from geometry_msgs.msg import Twist, TwistStamped, Vector3Stamped
import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage, Image
from stream_agent.command import Command
from stream_agent.gate.settings import BASE_COMMANDS
from stream_agent.images import compressed_to_array, image_to_array

# The newest frame is the only one worth steering by: never queue, never ask for a resend.
FRAME_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# Compatible with every publisher; what is lost is repeated. Messages of several publishers that
# arrive together do not replace each other.
STOP_INPUT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
# For nodes that only watch: they may fall behind for a moment and must miss nothing.
WATCH_FRAME_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
WATCH_COMMAND_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
# A receive time further than this from now is not one, as in simulated time.
LONGEST_QUEUED_NS = 60 * 10**9


def stamp_to_ns(stamp) -> int:
    """Convert a builtin_interfaces/Time to nanoseconds."""
    return stamp.sec * 10**9 + stamp.nanosec


def ns_to_stamp(stamp, ns: int):
    """Write nanoseconds into a builtin_interfaces/Time and return it."""
    stamp.sec, stamp.nanosec = divmod(ns, 10**9)
    return stamp


def received_ns(node: Node, info: dict) -> int:
    """
    Return when a message arrived, in the clock of the stamps.

    The middleware knows when it received a message, whatever this process was doing at that
    time; but only in system time.

    :param info: What rclpy passes to a subscription's callback beside the message.
    """
    now_ns = node.get_clock().now().nanoseconds
    received = info.get('received_timestamp') or 0
    queued = 0 <= now_ns - received < LONGEST_QUEUED_NS
    return received if queued and not node.get_clock().ros_time_is_active else now_ns


def course_state_to_vector(progress: float, lateral_error: float, lane_width: float,
                           stamp_ns: int, frame_id: str) -> Vector3Stamped:
    """Make the message of where a vehicle is on its course [m]."""
    msg = Vector3Stamped()
    msg.header.frame_id = frame_id
    ns_to_stamp(msg.header.stamp, stamp_ns)
    msg.vector.x, msg.vector.y, msg.vector.z = progress, lateral_error, lane_width
    return msg


def image_source(transport: str
                 ) -> tuple[type, str, Callable[[Image | CompressedImage], np.ndarray]]:
    """
    Return the message type, the topic and the reader of an image transport.

    :param transport: 'raw' or 'compressed'.
    :raises ValueError: If it is anything else.
    """
    if transport == 'raw':
        return Image, 'image', image_to_array
    if transport == 'compressed':
        return CompressedImage, 'image/compressed', compressed_to_array
    raise ValueError(f"image_transport is '{transport}'; choices are 'raw', 'compressed'")


def array_to_image(pixels: np.ndarray, stamp_ns: int, frame_id: str) -> Image:
    """
    Make an image message.

    :param pixels: uint8, (H, W, 3) in RGB order or (H, W).
    """
    msg = Image(height=pixels.shape[0], width=pixels.shape[1], step=pixels[0].nbytes,
                encoding='mono8' if pixels.ndim == 2 else 'rgb8')
    msg.header.frame_id = frame_id
    ns_to_stamp(msg.header.stamp, stamp_ns)
    # An array.array goes in whole; an ndarray would be checked element by element.
    msg.data.frombytes(pixels.tobytes())
    return msg


def command_to_twist(command: Command, stamp_ns: int, frame_id: str = 'base_link'
                     ) -> TwistStamped:
    """Convert a command to a message."""
    msg = TwistStamped()
    msg.header.frame_id = frame_id
    ns_to_stamp(msg.header.stamp, stamp_ns)
    msg.twist.linear.x = float(command.speed)
    msg.twist.angular.z = float(command.yaw_rate)
    return msg


def twist_to_command(msg: TwistStamped) -> Command:
    """Convert a message to a command."""
    return Command(msg.twist.linear.x, msg.twist.angular.z)


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


def type_name(kind: type) -> str:
    """Return a message type as ROS writes it, such as geometry_msgs/msg/Twist."""
    package, _, _ = kind.__module__.partition('.')
    return f'{package}/msg/{kind.__name__}'


def foreign_types(node: Node, topic: str, kind: type) -> dict[str, list[str]]:
    """
    Return which nodes use another message type on a topic than ours, by type.

    :param topic: The topic's full name after remapping.
    """
    found: dict[str, list[str]] = {}
    for one in (*node.get_publishers_info_by_topic(topic),
                *node.get_subscriptions_info_by_topic(topic)):
        if one.topic_type != type_name(kind):
            found.setdefault(one.topic_type, []).append(name_of_node(one))
    return found


def publishers(node: Node, topic: str) -> list[str]:
    """
    Return the full names of the nodes that publish on a topic, one for each publisher.

    A process that was killed is among them until the middleware misses it, some 20 s.

    :param topic: The topic's full name after remapping.
    """
    return sorted(map(name_of_node, node.get_publishers_info_by_topic(topic)))


def name_of_node(end: TopicEndpointInfo) -> str:
    """Return the full name of the node that an end of a topic belongs to."""
    return f"{end.node_namespace.rstrip('/')}/{end.node_name}"
