"""Conversions between ROS messages and plain data, and the QoS of our topics."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
import math
import struct
from typing import Any, cast, NamedTuple

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import TwistStamped, Vector3Stamped
import numpy as np
from rclpy.clock import Clock
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    LivelinessPolicy, qos_check_compatible, QoSCompatibility, QoSProfile, ReliabilityPolicy)
from rclpy.serialization import serialize_message
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Empty
from stream_agent.bounded_settings import printable
from stream_agent.command import Command, STOP
from stream_agent.images import (
    compressed_to_array, image_to_array, SerializedCompressedImage, SerializedImage,
    stamp_of_serialized)

# The newest frame is the only one worth steering by: never queue, never ask for a resend.
FRAME_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# Compatible with every publisher; what is lost is repeated. Messages of several publishers that
# arrive together do not replace each other.
STOP_INPUT_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
# For nodes that only watch: they may fall behind for a moment and must miss nothing.
WATCH_FRAME_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
WATCH_COMMAND_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
# Nothing is ever sent: the middleware tells within this lease [s] whether the sender lives (P9).
GATE_ALIVE = 'gate_alive'
GATE_ALIVE_QOS = QoSProfile(depth=1, liveliness=LivelinessPolicy.AUTOMATIC,
                            liveliness_lease_duration=Duration(seconds=0.5))
# A receive time further than this from now is not one, as in simulated time.
LONGEST_QUEUED_NS = 60 * 10**9


def stamp_to_ns(stamp) -> int:
    """Convert a builtin_interfaces/Time to nanoseconds."""
    return stamp.sec * 10**9 + stamp.nanosec


def ns_to_stamp(stamp, ns: int):
    """Write nanoseconds into a builtin_interfaces/Time and return it."""
    stamp.sec, stamp.nanosec = divmod(ns, 10**9)
    return stamp


def as_callback(callback: Callable[..., object]) -> Callable[..., None]:
    """Return a callback as it is, for arguments of which rclpy's types know less than it gives."""
    return cast(Callable[..., None], callback)


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
    return received if queued and not cast(Any, node.get_clock()).ros_time_is_active else now_ns


def make_status(node: Node, about: str, level: bytes, message: str, values: dict[str, str]
                ) -> DiagnosticStatus:
    """
    Make one line of diagnostics, which tells robots apart by their namespaces.

    :param about: What it is about, such as 'frames'.
    """
    return DiagnosticStatus(
        level=level, name=f"{node.get_fully_qualified_name().lstrip('/')}: {about}",
        hardware_id=node.get_namespace(), message=message,
        values=[KeyValue(key=key, value=value) for key, value in values.items()])


def watch_gate(node: Node, tell: Callable[[bool], None]) -> Subscription:
    """Tell whenever a gate comes to guard the robot, and when it has ended or hangs (P9)."""
    events = SubscriptionEventCallbacks(
        liveliness=as_callback(lambda event: tell(event.alive_count > 0)))
    return node.create_subscription(Empty, GATE_ALIVE, lambda _: None, GATE_ALIVE_QOS,
                                    event_callbacks=events)


def sent_number(info: dict) -> int | None:
    """
    Return how many messages a publisher had sent with this one; None if nobody counts.

    :param info: What rclpy passes to a subscription's callback beside the message.
    """
    number = info.get('publication_sequence_number')
    return number if number and number < 2**63 else None


def why_no_messages(node: Node, subscription: Subscription, sender_is: str = 'the camera driver',
                    remedy: str = 'image_transport or the remapping',
                    remapping: str = 'image:=TOPIC') -> str:
    """
    Say why a subscription may hear nothing, and what to do about it (F11).

    :param sender_is: Who usually sends it.
    :param remedy: What may be set where the type is another one.
    :param remapping: What may be remapped where nobody sends.
    """
    topic = subscription.topic_name
    if fault := foreign_sender(node, topic, subscription.msg_type, remedy):
        return fault
    for sender in (senders := node.get_publishers_info_by_topic(topic)):
        name = name_of_node(sender)
        fits, why = qos_check_compatible(sender.qos_profile, subscription.qos_profile)
        if fits == QoSCompatibility.ERROR:
            offered, wanted = (f'{qos.reliability.name}, {qos.durability.name}'
                               for qos in (sender.qos_profile, subscription.qos_profile))
            return (f"'{name}' and this node do not agree on the QoS of '{topic}' ({why}): it "
                    f'offers {offered}, asked for is {wanted}')
    if senders:
        return (f"'{name}' is there for '{topic}' and sends nothing that arrives; check "
                f'{sender_is}, and for large messages the network (docs/real_time.md)')
    return f"nobody sends on '{topic}'; start {sender_is}, or set the remapping {remapping}"


def foreign_sender(node: Node, topic: str, kind: Any, remedy: str) -> str:
    """
    Say who sends messages of another type than is read on a topic; '' if nobody does.

    :param topic: The topic's full name after remapping.
    """
    for sender in node.get_publishers_info_by_topic(topic):
        if sender.topic_type != type_name(kind):
            return (f"'{name_of_node(sender)}' sends {printable(sender.topic_type)} on '{topic}' "
                    f'where {type_name(kind)} is read; set {remedy}')
    return ''


def course_state_to_vector(progress: float, lateral_error: float, lane_width: float,
                           stamp_ns: int, frame_id: str) -> Vector3Stamped:
    """Make the message of where a vehicle is on its course [m]."""
    msg = Vector3Stamped()
    msg.header.frame_id = frame_id
    ns_to_stamp(msg.header.stamp, stamp_ns)
    msg.vector.x, msg.vector.y, msg.vector.z = progress, lateral_error, lane_width
    return msg


class ImageSource(NamedTuple):
    """
    An image transport, or another way in which what makes a network step is sent.

    :param kind: The class of the message.
    :param topic: Its topic.
    :param read: Reads the fields of a serialized message, such as a ``SerializedImage``.
    :param pixels: Makes an array of a message, whether read by ``read`` or by rclpy.
    """

    kind: type
    topic: str
    read: Callable[[bytes], Any]
    pixels: Callable[[Any], np.ndarray]


def image_source(transport: str) -> ImageSource:
    """
    Return how images of a transport are received.

    :param transport: 'raw' or 'compressed'.
    :raises ValueError: If it is anything else.
    """
    if transport == 'raw':
        return ImageSource(Image, 'image', SerializedImage.read, image_to_array)
    if transport == 'compressed':
        return ImageSource(CompressedImage, 'image/compressed', SerializedCompressedImage.read,
                           compressed_to_array)
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


def stamp_serialized(data: bytearray, stamp_ns: int) -> None:
    """Write the stamp of a serialized message that begins with a header."""
    struct.pack_into('<iI' if data[1] & 1 else '>iI', data, 4, *divmod(stamp_ns, 10**9))


def command_to_twist(command: Command, stamp_ns: int, frame_id: str = 'base_link'
                     ) -> TwistStamped:
    """Convert a command to a message."""
    msg = TwistStamped()
    msg.header.frame_id = frame_id
    ns_to_stamp(msg.header.stamp, stamp_ns)
    msg.twist.linear.x = float(command.speed)
    msg.twist.angular.z = float(command.yaw_rate)
    return msg


# A stop that a policy asks for is sent on ``policy_command`` itself, as what follows a command
# there is never taken before it, while two topics have no order (G10). No frame of a robot has
# this name; whoever does not know it takes the message for a zero.
STOP_FRAME_ID = 'stop'


def make_stop_request(stamp_ns: int, kind: Any = TwistStamped) -> Any:
    """
    Make the message; its stamp is for people, as a stop is never too old.

    :param kind: Of the policy commands: TwistStamped, or JointState, which then has no values.
    """
    if kind is TwistStamped:
        return command_to_twist(STOP, stamp_ns, STOP_FRAME_ID)
    msg = kind()
    msg.header.frame_id = STOP_FRAME_ID
    ns_to_stamp(msg.header.stamp, stamp_ns)
    return msg


def ask_for_stop(publisher: Publisher, clock: Clock, patience: float = 0.2) -> bool:
    """
    Ask the gate for a stop, and wait until all who listen have received it.

    :param publisher: That of the policy commands, which must not be destroyed before this returns.
    :param patience: How long to wait at most [s].
    :returns: Whether all have received it.
    """
    publisher.publish(make_stop_request(clock.now().nanoseconds, publisher.msg_type))
    return publisher.wait_for_all_acked(Duration(seconds=patience))


def twist_to_command(msg: TwistStamped) -> Command:
    """Convert a message to a command."""
    return Command(msg.twist.linear.x, msg.twist.angular.z)


class SerializedTwist:
    """
    Writes serialized commands in place, in a fifth of the time it takes to make a message.

    :param kind: TwistStamped, or Twist, which has no stamp.
    """

    def __init__(self, kind: type, frame_id: str = 'base_link') -> None:
        self.kind = kind
        message = command_to_twist(STOP, 0, frame_id)
        # Written by the middleware once, so that its way of writing is ours.
        self._bytes = bytearray(serialize_message(message if kind is TwistStamped
                                                  else message.twist))
        self._stamped = kind is TwistStamped
        self._number = struct.Struct('<d' if self._bytes[1] & 1 else '>d')

    def write(self, command: Command, stamp_ns: int) -> bytes:
        """Return a command's message, ready to be sent."""
        if self._stamped:
            stamp_serialized(self._bytes, stamp_ns)
        self._number.pack_into(self._bytes, len(self._bytes) - 48, command.speed)
        self._number.pack_into(self._bytes, len(self._bytes) - 8, command.yaw_rate)
        return bytes(self._bytes)


class SerializedJointState:
    """
    Writes serialized commands of any actuators in place, as ``SerializedTwist`` does for a base.

    :param names: Of what obeys, in the order of the values.
    :param field: Where the values are: 'position', 'velocity' or 'effort'.
    """

    def __init__(self, names: Sequence[str], field: str) -> None:
        self.kind = JointState
        # A number that nothing else in the message looks like says where the values are.
        mark = struct.unpack('<d', b'\xa5\x5a\xc3\x3c\x96\x69\xf0\x3f')[0]
        values = [mark] * len(names)
        self._bytes = bytearray(serialize_message(JointState(name=list(names), **{field: values})))
        order = '<' if self._bytes[1] & 1 else '>'
        self._numbers = struct.Struct(f'{order}{len(names)}d')
        self._start = self._bytes.index(self._numbers.pack(*values))

    def write(self, values: Sequence[float], stamp_ns: int) -> bytes:
        """Return a command's message, ready to be sent."""
        stamp_serialized(self._bytes, stamp_ns)
        self._numbers.pack_into(self._bytes, self._start, *values)
        return bytes(self._bytes)


def message_class(name: str) -> type:
    """
    Return the class of messages of a type, such as nav_msgs/msg/Odometry.

    :raises ValueError: If there is none here; with fault and remedy.
    """
    package, _, kind = name.replace('/msg/', '/').partition('/')
    if not (package.isidentifier() and kind.isidentifier()):
        raise ValueError(f"'{printable(name)}' is not the type of a message; write it as "
                         'nav_msgs/msg/Odometry is written')
    try:
        found = import_module(f'{package}.msg')
    except ImportError:
        raise ValueError(f"'{name}' is a message of the package '{package}', which is not "
                         f'installed; install it with `sudo apt install ros-${{ROS_DISTRO}}-'
                         f"{package.replace('_', '-')}`, or correct the type") from None
    if not isinstance(getattr(found, kind, None), type):
        (near,) = get_close_matches(kind, [one for one in vars(found) if one[0] != '_'], 1, 0.0)
        raise ValueError(f"there is no message '{name}'; the nearest is {package}/msg/{near}")
    return getattr(found, kind)


def read_policy_command(data: bytes) -> tuple[Command, int, str]:
    """
    Return the command, the stamp [ns] and the frame_id of a serialized TwistStamped.

    Bytes that hold no command give NaN, at which the gate stops the robot.
    """
    order = '<' if data[1] & 1 else '>'
    try:
        (length,) = struct.unpack_from(order + 'I', data, 12)
        # Numbers of eight bytes begin at a multiple of eight, counted from the fourth byte on.
        start = 4 + (12 + length + 7) // 8 * 8
        speed, *_, yaw_rate = struct.unpack_from(order + '6d', data, start)
    except struct.error:
        return Command(math.nan, math.nan), 0, ''
    return (Command(speed, yaw_rate), stamp_of_serialized(data),
            data[16:15 + length].decode(errors='replace'))


def type_name(kind: Any) -> str:
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
            found.setdefault(printable(one.topic_type), []).append(name_of_node(one))
    return found


def publishers(node: Node, topic: str) -> list[str]:
    """
    Return the full names of the nodes that publish on a topic, one for each publisher.

    A process that was killed is among them until the middleware misses it, some 20 s.

    :param topic: The topic's full name after remapping.
    """
    return sorted(map(name_of_node, node.get_publishers_info_by_topic(topic)))


def name_of_node(end: TopicEndpointInfo) -> str:
    """Return the full name of the node that an end of a topic belongs to, as it may be printed."""
    return printable(f"{end.node_namespace.rstrip('/')}/{end.node_name}")
