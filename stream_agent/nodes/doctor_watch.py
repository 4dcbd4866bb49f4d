"""What the doctor sees of a robot: frames, ends of topics, and, if asked for, how it moves."""

from collections.abc import Callable
import time

from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_check_compatible, QoSCompatibility, QoSProfile
from stream_agent.command import Command, STOP
from stream_agent.doctor.camera import Frame
from stream_agent.doctor.findings import Finding, not_checked
from stream_agent.doctor.topics import Endpoint, IMAGE_TYPES
from stream_agent.doctor.wheels import check_wheels, DRIVE, Motion, reason_not_to, SILENCE
from stream_agent.messages import ImageError
from stream_agent.nodes.command_types import CommandType, type_name
from stream_agent.nodes.conversions import (
    COMMAND_QOS, FRAME_QOS, image_source, stamp_to_ns, WATCH_FRAME_QOS)

# Until ends that are there have met, and have names.
DISCOVERY = 2.0
# In which a publisher that was held up catches up, and its rate is none.
BURST = 0.3
COMMAND_PERIOD = 0.05
LAST_ZEROS = 5
# Of the middleware's receive time, which is not in simulated time.
LONGEST_QUEUED_NS = 60 * 10**9
UNKNOWN = '_UNKNOWN_'


class Watch:
    """
    Looks at a robot's topics from a ROS node; moves nothing unless ``wheels`` is called.

    :param node: Spun here alone.
    :param image_topic: As of the launch; compressed frames are beside it.
    :param transport: 'raw' or 'compressed'.
    :param wait: For what is not there yet: frames, a base, odometry [s]. Discovery can take
        seconds, over wireless networks and on a busy computer.
    """

    def __init__(self, node: Node, image_topic: str, transport: str, wait: float) -> None:
        self._node = node
        self._wait = wait
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self.frames: list[Frame] = []
        self.kind, source, self._read = image_source(transport)
        self._image_sub = node.create_subscription(
            self.kind, source.replace('image', image_topic, 1), self.on_image, WATCH_FRAME_QOS)
        self.image_topic = self._image_sub.topic_name

    def on_image(self, msg, info: dict) -> None:
        """Note a frame, and whether it can be read."""
        at, arrival_ns = time.monotonic(), self._node.get_clock().now().nanoseconds
        received_ns = info.get('received_timestamp') or 0
        if (not self._node.get_clock().ros_time_is_active
                and 0 <= arrival_ns - received_ns < LONGEST_QUEUED_NS):
            # Reading the frame before may have taken its time.
            at, arrival_ns = at - (arrival_ns - received_ns) / 1e9, received_ns
        size, fault = None, ''
        try:
            size = self._read(msg).shape[:2]
        except ImageError as error:
            fault = str(error)
        self.frames.append(Frame(
            stamp_to_ns(msg.header.stamp), arrival_ns, at, size,
            getattr(msg, 'encoding', '') or getattr(msg, 'format', ''), fault, len(msg.data)))

    def watch(self, seconds: float, commands: str) -> float:
        """
        Collect frames for a time, from soon after the first one on.

        :param commands: The topic whose ends are wanted later.
        :returns: When it ended, by the steady clock [s].
        """
        start = time.monotonic()
        self._spin(lambda: self.frames, max(self._wait, seconds))
        if self.frames:
            self._spin(lambda: False, BURST)
            self.frames.clear()
            self._spin(lambda: False, seconds)
        end = time.monotonic()
        self._spin(lambda: self.listeners(commands), start + self._wait - end)
        # Ends of topics are discovered before the names of their nodes.
        self._spin(lambda: not any(
            UNKNOWN in one.node for one in (
                *self.cameras(), *self.commanders(commands), *self.listeners(commands))),
            DISCOVERY)
        return end

    def _spin(self, condition: Callable[[], object], seconds: float) -> None:
        """Spin until the condition is true, for a time at most."""
        end = time.monotonic() + seconds
        while not condition() and (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.02))

    def cameras(self) -> list[Endpoint]:
        """Return who publishes the frames that the agent would take."""
        return [endpoint(info, info.qos_profile, FRAME_QOS) for info in
                self._node.get_publishers_info_by_topic(self.image_topic)]

    def topics_with_frames(self) -> dict[str, str]:
        """Return the types of all topics on which somebody publishes images."""
        return {topic: kind for topic, kinds in self._node.get_topic_names_and_types()
                for kind in kinds if kind in IMAGE_TYPES and any(
                    info.topic_type == kind
                    for info in self._node.get_publishers_info_by_topic(topic))}

    def commanders(self, topic: str) -> list[Endpoint]:
        """Return who publishes commands."""
        return [endpoint(info) for info in self._node.get_publishers_info_by_topic(topic)]

    def listeners(self, topic: str) -> list[Endpoint]:
        """Return who takes commands."""
        return [endpoint(info, COMMAND_QOS, info.qos_profile) for info in
                self._node.get_subscriptions_info_by_topic(topic)]

    def wheels(self, topic: str, kind: CommandType, odom: str, speed: float) -> Finding:
        """Drive for a second, fall silent for two, and see; zeros come last whatever happens."""
        motions: list[Motion] = []
        odom_sub = self._node.create_subscription(
            Odometry, odom, lambda msg: motions.append(
                Motion(time.monotonic(), msg.twist.twist.linear.x)), 10)
        self._spin(lambda: motions, self._wait)
        listeners = [end for end in self.listeners(topic) if end.kind == type_name(kind.kind)]
        reason = reason_not_to(self.commanders(topic), listeners, motions, odom_sub.topic_name,
                               speed)
        if reason:
            return not_checked('wheels', reason)
        publisher = self._node.create_publisher(kind.kind, topic, COMMAND_QOS)

        def send(command: Command) -> None:
            publisher.publish(kind.write(command, self._node.get_clock().now().nanoseconds))

        try:
            self._spin(publisher.get_subscription_count, DISCOVERY)
            start = time.monotonic()
            while time.monotonic() - start < DRIVE:
                send(Command(speed, 0.0))
                self._spin(lambda: False, COMMAND_PERIOD)
            silence = time.monotonic()
            self._spin(lambda: False, SILENCE)
            return check_wheels(motions, start, silence, time.monotonic(), speed)
        finally:
            stop_wheels(send)


def stop_wheels(send: Callable[[Command], None]) -> None:
    """Send zeros, from the beginning again if a signal comes in between; there is only one."""
    try:
        for _ in range(LAST_ZEROS):
            send(STOP)
            time.sleep(COMMAND_PERIOD)
    except KeyboardInterrupt:
        stop_wheels(send)
        raise


def endpoint(info, offered: QoSProfile | None = None, asked: QoSProfile | None = None
             ) -> Endpoint:
    """
    Write what ROS knows of one end of a topic.

    :param offered: By the publisher; with ``asked``, by the subscription, to hold them together.
    """
    qos = info.qos_profile
    words = f'{qos.reliability.name}, {qos.durability.name}'.lower().replace('_', ' ')
    incompatible = ''
    if offered and asked:
        verdict, reason = qos_check_compatible(bare(offered), bare(asked))
        if verdict == QoSCompatibility.ERROR:
            incompatible = reason.strip().rstrip(';').replace('ERROR: ', '')
    return Endpoint(f"{info.node_namespace.rstrip('/')}/{info.node_name}", info.topic_type,
                    words, incompatible)


def bare(qos: QoSProfile) -> QoSProfile:
    """Leave out deadlines and leases: discovered ones are infinite, where ours are unset."""
    return QoSProfile(depth=1, reliability=qos.reliability, durability=qos.durability)
