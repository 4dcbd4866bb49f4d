"""Between ROS messages and plain data."""

from collections.abc import Callable
import math

from geometry_msgs.msg import TwistStamped
import numpy as np
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from stream_agent.command import Command
from stream_agent.messages import compressed_to_array, image_to_array
from stream_agent.simulation.vehicle import Pose

# The newest frame is the only one worth steering by: never queue, never ask for a resend.
FRAME_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1,
                       reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1,
                         reliability=ReliabilityPolicy.RELIABLE)
# Hears everybody; what is lost is said again.
STOP_INPUT_QOS = FRAME_QOS
# For those who only watch: they may fall behind for a moment and must miss nothing.
WATCH_FRAME_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100,
                             reliability=ReliabilityPolicy.BEST_EFFORT)
WATCH_COMMAND_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100,
                               reliability=ReliabilityPolicy.RELIABLE)


def stamp_to_ns(stamp) -> int:
    """Return a builtin_interfaces/Time in nanoseconds."""
    return stamp.sec * 10**9 + stamp.nanosec


def ns_to_stamp(stamp, ns: int):
    """Write nanoseconds into a builtin_interfaces/Time and return it."""
    stamp.sec, stamp.nanosec = divmod(ns, 10**9)
    return stamp


def odometry_to_pose(msg) -> Pose:
    """Return where a nav_msgs/Odometry says that a vehicle is, on the ground."""
    at, turn = msg.pose.pose.position, msg.pose.pose.orientation
    yaw = math.atan2(2.0 * (turn.w * turn.z + turn.x * turn.y),
                     1.0 - 2.0 * (turn.y * turn.y + turn.z * turn.z))
    return Pose(at.x, at.y, yaw)


def image_source(transport: str
                 ) -> tuple[type, str, Callable[[Image | CompressedImage], np.ndarray]]:
    """
    Return the message type, the topic and the reader of a way to send images.

    :param transport: 'raw' or 'compressed'.
    :raises ValueError: If it is another.
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
    """Make the message of a command."""
    msg = TwistStamped()
    msg.header.frame_id = frame_id
    ns_to_stamp(msg.header.stamp, stamp_ns)
    msg.twist.linear.x = float(command.speed)
    msg.twist.angular.z = float(command.yaw_rate)
    return msg


def twist_to_command(msg: TwistStamped) -> Command:
    """Read the speed and the yaw rate of a message."""
    return Command(msg.twist.linear.x, msg.twist.angular.z)
