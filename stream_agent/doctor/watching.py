"""What the doctor sees of a robot: its topics, who is on them, and the messages of each input."""

from collections.abc import Callable, Mapping
import time
from typing import Any

from nav_msgs.msg import Odometry
import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_check_compatible, QoSCompatibility, QoSProfile
from sensor_msgs.msg import JointState
from stream_agent.bounded_settings import printable
from stream_agent.command import Command, STOP
from stream_agent.contract.messages import MissingValue, read_values, stamp_of
from stream_agent.contract.settings import InputSettings
from stream_agent.doctor.camera import ArrivedFrame
from stream_agent.doctor.findings import Finding, not_checked
from stream_agent.doctor.inputs import ArrivedMessage, DepthSeen
from stream_agent.doctor.topics import (
    check_wheels, DRIVE, Endpoint, OdometryMotion, reason_not_to, SILENCE)
from stream_agent.images import ImageError
from stream_agent.nodes.command_types import CommandType, read_joints
from stream_agent.nodes.messages import (
    as_callback, COMMAND_QOS, FRAME_QOS, message_class, name_of_node, received_ns, stamp_to_ns,
    type_name, WATCH_FRAME_QOS)

# Seconds until the ends of topics have discovered each other, and their names are known.
DISCOVERY = 2.0
# Seconds in which a publisher that was delayed catches up, so that its rate means nothing.
BURST = 0.3
COMMAND_PERIOD = 0.05
LAST_ZEROS = 5
UNKNOWN = '_UNKNOWN_'


class WatchedInput:
    """
    An input of the contract, and its messages as they arrive.

    :param node: The doctor's ROS node.
    :raises ValueError: If its type of messages is not installed.
    """

    def __init__(self, node: Node, settings: InputSettings) -> None:
        self._node = node
        self.settings = settings
        self.is_picture = settings.is_camera
        self.frames: list[ArrivedFrame] = []
        self.messages: list[ArrivedMessage] = []
        self._sub = node.create_subscription(
            message_class(settings.type), settings.topic, as_callback(self.on_message),
            WATCH_FRAME_QOS)
        self.topic = self._sub.topic_name

    def on_message(self, msg, info: dict) -> None:
        """Store when a message arrived, and whether it can be read."""
        arrival_ns = received_ns(self._node, info)
        # Reading the one before may have taken its time.
        queued = (self._node.get_clock().now().nanoseconds - arrival_ns) / 1e9
        at = time.monotonic() - queued
        values: Any = None
        fault = ''
        try:
            values = read_values(self.settings, msg)
            if self.settings.is_depth:
                values = depth_seen(values)
        except (ImageError, MissingValue) as error:
            fault = str(error)
        if self.is_picture:
            self.frames.append(ArrivedFrame(
                stamp_to_ns(msg.header.stamp), arrival_ns, at,
                None if values is None else values.shape[:2],
                getattr(msg, 'encoding', '') or getattr(msg, 'format', ''), fault, len(msg.data)))
            return
        stamp_ns = stamp_of(self.settings, msg) if hasattr(msg, 'header') else 0
        self.messages.append(ArrivedMessage(stamp_ns, arrival_ns, at, values, fault))

    @property
    def arrived(self) -> list[ArrivedFrame] | list[ArrivedMessage]:
        """All that have arrived."""
        return self.frames if self.is_picture else self.messages

    def senders(self) -> list[Endpoint]:
        """Return who publishes it."""
        return [endpoint(info, info.qos_profile, FRAME_QOS) for info in
                self._node.get_publishers_info_by_topic(self.topic)]


def depth_seen(values: np.ndarray) -> DepthSeen:
    """Return what is judged of a depth image."""
    height, width = values.shape
    return DepthSeen(height, width, float(np.mean(np.isfinite(values) & (values > 0))))


class TopicWatch:
    """
    Looks at a robot's topics from a ROS node; moves nothing unless ``wheels`` is called.

    :param node: The ROS node, which only this class spins.
    :param inputs: Those of the contract that have a topic, by name.
    :param trigger: The one that makes the network step.
    :param wait: How long to wait for frames, a base and odometry [s]. Discovery can take
        seconds over wireless networks and on a busy computer.
    """

    def __init__(self, node: Node, inputs: Mapping[str, InputSettings], trigger: str, wait: float
                 ) -> None:
        self._node = node
        self._wait = wait
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self.inputs: dict[str, WatchedInput] = {}
        #: Why the messages of an input cannot be received, by its name.
        self.faults: dict[str, str] = {}
        #: The last position of each joint, by its name; None until one came.
        self.joints: dict[str, float] | None = None
        for name, settings in inputs.items():
            try:
                self.inputs[name] = WatchedInput(node, settings)
            except ValueError as fault:
                self.faults[name] = str(fault)
        self.trigger = self.inputs.get(trigger)

    def watch_joints(self, topic: str) -> str:
        """Listen to where joints are; return the topic with its namespace."""
        return self._node.create_subscription(
            JointState, topic, self.on_joints, WATCH_FRAME_QOS).topic_name

    def on_joints(self, msg: JointState) -> None:
        """Store where joints are, of which each driver sends its own."""
        self.joints = {**(self.joints or {}), **read_joints(msg, 'position')}

    def watch(self, seconds: float, commands: str) -> float:
        """Collect frames from soon after the first one; return the steady time of the end [s]."""
        start = time.monotonic()
        self._spin(lambda: self.trigger and self.trigger.arrived, max(self._wait, seconds))
        if any(one.arrived for one in self.inputs.values()):
            self._spin(lambda: False, BURST)
            for one in self.inputs.values():
                one.arrived.clear()
            self._spin(lambda: False, seconds)
        end = time.monotonic()
        self._spin(lambda: self.listeners(commands), start + self._wait - end)
        # Ends of topics are discovered before the names of their nodes.
        self._spin(lambda: not any(
            UNKNOWN in one.node for one in (
                *(end for one in self.inputs.values() for end in one.senders()),
                *self.commanders(commands), *self.listeners(commands))), DISCOVERY)
        return end

    def _spin(self, condition: Callable[[], object], seconds: float) -> None:
        """Spin until the condition is true, or for at most this many seconds."""
        end = time.monotonic() + seconds
        while not condition() and (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.02))

    def published(self) -> dict[str, str]:
        """Return the types of all topics on which somebody publishes."""
        return {topic: kind for topic, kinds in self._node.get_topic_names_and_types()
                for kind in kinds if any(
                    info.topic_type == kind
                    for info in self._node.get_publishers_info_by_topic(topic))}

    def commanders(self, topic: str) -> list[Endpoint]:
        """Return who publishes commands."""
        return [endpoint(info) for info in self._node.get_publishers_info_by_topic(topic)]

    def listeners(self, topic: str) -> list[Endpoint]:
        """Return who subscribes to commands."""
        return [endpoint(info, COMMAND_QOS, info.qos_profile) for info in
                self._node.get_subscriptions_info_by_topic(topic)]

    def wheels(self, topic: str, kind: CommandType, odom: str, speed: float) -> Finding:
        """Drive for a second, send nothing for two, and judge; zeros are sent last in any case."""
        motions: list[OdometryMotion] = []
        odom_sub = self._node.create_subscription(
            Odometry, odom, as_callback(lambda msg: motions.append(
                OdometryMotion(time.monotonic(), msg.twist.twist.linear.x))), 10)
        self._spin(lambda: motions, self._wait)
        listeners = [end for end in self.listeners(topic) if end.kind == type_name(kind.kind)]
        if reason := reason_not_to(self.commanders(topic), listeners, motions,
                                   odom_sub.topic_name, speed):
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
    """Send zeros; if a signal interrupts, which happens once at most, send all of them again."""
    try:
        for _ in range(LAST_ZEROS):
            send(STOP)
            time.sleep(COMMAND_PERIOD)
    except KeyboardInterrupt:
        stop_wheels(send)
        raise


def endpoint(info, offered: QoSProfile | None = None, asked: QoSProfile | None = None
             ) -> Endpoint:
    """Describe one end of a topic, and why an offered QoS does not fit one that is asked for."""
    qos = info.qos_profile
    words = f'{qos.reliability.name}, {qos.durability.name}'.lower().replace('_', ' ')
    incompatible = ''
    if offered and asked:
        # Without deadlines and leases: discovered ones are infinite, while ours are unset.
        verdict, reason = qos_check_compatible(*(
            QoSProfile(depth=1, reliability=one.reliability, durability=one.durability)
            for one in (offered, asked)))
        if verdict == QoSCompatibility.ERROR:
            incompatible = reason.strip().rstrip(';').replace('ERROR: ', '')
    return Endpoint(name_of_node(info), printable(info.topic_type), words, incompatible)
