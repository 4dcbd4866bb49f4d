"""Records a drive to learn from as a ROS node: what a network reads, and the driver's commands."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
import threading
import time

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from stream_agent.bounded_settings import free_text
from stream_agent.contract.settings import JOINT_STATE
from stream_agent.images import image_transport
from stream_agent.nodes import process
from stream_agent.nodes.messages import (
    foreign_sender, message_class, publishers, WATCH_COMMAND_QOS, WATCH_FRAME_QOS)
from stream_agent.nodes.parameters import declare_contract, declare_settings, refuse_unknown
from stream_agent.recordings.bags import check_rosbags, is_known
from stream_agent.recordings.command_messages import COMMAND_TYPES, VECTOR_MESSAGES
from stream_agent.recordings.frame_inputs import all_inputs
from stream_agent.recordings.inspection import oddities
from stream_agent.recordings.recording import Reading
from stream_agent.recordings.sources import open_recordings
from stream_agent.recordings.writing import LiveBag, new_folder

IMAGES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
LOOK_PERIOD = 0.2
SAY_PERIOD = 5.0
# Less than the 10 s that a launch waits for a process to end.
CLOSE_TIMEOUT, INSPECT_TIMEOUT = 6.0, 2.0


@dataclass(frozen=True)
class RecordBagSettings:
    """Where a drive is recorded."""

    output: str = free_text('drives', 'folder of the recordings')
    image_transport: str = image_transport()
    name: str = free_text('', 'name of the recording; empty: date and time')


class RecordNode(Node):
    """
    Writes what a network would read and what a driver commands to a rosbag2 recording (MCAP).

    Subscribes to the inputs of the contract, or else to ``image`` (or ``image/compressed``), and
    to the output's topic, ``cmd_vel``: any of ``COMMAND_TYPES``, or of ``VECTOR_MESSAGES`` where
    the contract commands a vector. The recording begins once it has a publisher. Messages are
    written as they arrived. Every start makes a new recording, a folder in ``output``.

    :raises ValueError: If a parameter is wrong, a type unknown, or the package that writes bags is
        missing.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('record_bag', **kwargs)
        self._contract = declare_contract(self)
        declare_settings(self, RecordBagSettings)
        refuse_unknown(self)
        check_rosbags('written')
        name = self.get_parameter('name').value or time.strftime('%Y-%m-%d_%H-%M-%S')
        self._path = new_folder(Path(self.get_parameter('output').value).expanduser(), name)
        if self._path.exists():
            raise ValueError(f"name: '{self._path}' already exists; give another name")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        #: Types by topic.
        self._types = self._topics_of_inputs()
        self._command_topic = self.resolve_topic_name(self._contract.output.topic)
        self._subscriptions_by_topic: dict[str, Subscription] = {}
        self._bag: LiveBag | None = None
        self.finished = False
        self.exit_code = 0
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._look_timer = self.create_timer(LOOK_PERIOD, self.look, clock=steady)
        self._say_timer = self.create_timer(SAY_PERIOD, self.say, clock=steady)
        self.get_logger().info(f"waiting for a driver on '{self._command_topic}'")

    def _topics_of_inputs(self) -> dict[str, str]:
        """Return the types of the topics that networks may read, by their full names."""
        contract, found = self._contract, dict[str, str]()
        for name, settings in contract.inputs.items():
            if settings.is_own:
                continue
            if not is_known(settings.type):
                raise ValueError(
                    f"{contract.place(f'inputs.{name}.type')}the input '{name}' is of "
                    f'{settings.type}, which is not one of the common interfaces of ROS 2, so it '
                    'cannot be recorded; let a node publish its numbers as '
                    'std_msgs/msg/Float64MultiArray')
            found[self.resolve_topic_name(settings.topic)] = settings.type
        if contract.output.is_vector:
            found.setdefault(self.resolve_topic_name(contract.output.measured_topic), JOINT_STATE)
        return found

    def look(self) -> None:
        """Begin recording once the type of the commands is known; then follow the senders' QoS."""
        if self._bag is not None:
            for topic, kind in self._types.items():
                self._subscribe(self._bag, topic, kind)
            return
        allowed = (VECTOR_MESSAGES.values() if self._contract.output.is_vector
                   else COMMAND_TYPES)
        found = {one.topic_type for one in self.get_publishers_info_by_topic(
            self._command_topic)} & set(allowed)
        if len(found) > 1:
            self.get_logger().error(
                f"'{self._command_topic}' has commands of several types, "
                f"{', '.join(sorted(found))}; stop all drivers but one",
                throttle_duration_sec=SAY_PERIOD)
        elif found:
            self._begin(found.pop())

    def _begin(self, command_type: str) -> None:
        """Subscribe to all topics, and write their messages."""
        self._types[self._command_topic] = command_type
        message_class(command_type)  # which may not be installed
        self._bag = LiveBag(self._path, self._types)
        for topic, kind in self._types.items():
            self._subscribe(self._bag, topic, kind)
        listed = ', '.join(f"'{topic}'" for topic in self._types if topic != self._command_topic)
        self.get_logger().info(f"recording {listed} and '{self._command_topic}' "
                               f"({command_type}) to '{self._path}'")

    def _subscribe(self, bag: LiveBag, topic: str, kind: str) -> None:
        """Listen to a topic by what its senders offer, unless that is done already."""
        profile = self._qos_of(topic, kind)
        known = self._subscriptions_by_topic.get(topic)
        if known is not None:
            own = known.qos_profile
            if (own.reliability, own.durability) == (profile.reliability, profile.durability):
                return
            self.destroy_subscription(known)
        self._subscriptions_by_topic[topic] = self.create_subscription(
            message_class(kind), topic, partial(self.on_message, bag, topic), profile, raw=True)

    def _qos_of(self, topic: str, kind: str) -> QoSProfile:
        """Return what hears all senders of a topic, and loses as little as they allow."""
        if kind in IMAGES:
            # No camera driver shall wait for us.
            return WATCH_FRAME_QOS
        offers = [one.qos_profile for one in self.get_publishers_info_by_topic(topic)]
        every = {field: bool(offers) and all(getattr(one, field) == value for one in offers)
                 for field, value in (('reliability', ReliabilityPolicy.RELIABLE),
                                      ('durability', DurabilityPolicy.TRANSIENT_LOCAL))}
        return QoSProfile(
            depth=WATCH_COMMAND_QOS.depth,
            reliability=ReliabilityPolicy.RELIABLE if every['reliability'] or not offers
            else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if every['durability']
            else DurabilityPolicy.VOLATILE)

    def on_message(self, bag: LiveBag, topic: str, data: bytes) -> None:
        """Hand over a serialized message to be written."""
        bag.put(topic, self.get_clock().now().nanoseconds, data)

    def say(self) -> None:
        """Log how much has been recorded, and what is missing."""
        if self._bag is None:
            self.get_logger().warning(f"nobody publishes commands on '{self._command_topic}'")
            return
        if self._bag.error:
            # stop() says why.
            self.finished = True
            return
        if len(drivers := publishers(self, self._command_topic)) > 1:
            self.get_logger().warning(
                f"{len(drivers)} publishers send commands on '{self._command_topic}', "
                f"{', '.join(drivers)}: all of them are recorded, mixed; stop all but the driver, "
                'or record what a multiplexer (twist_mux) passes on')
        missing = [topic for topic, count in self._bag.counts.items() if not count]
        said = self._counts(self._bag)
        if missing:
            listed = ', '.join(f"'{topic}'" for topic in missing)
            why = '; '.join(filter(None, (foreign_sender(
                self, topic, message_class(self._types[topic]),
                "the input's type and topic in the contract") for topic in missing)))
            self.get_logger().warning(f'{said}; nothing arrives on {listed}' + f'; {why}' * bool(
                why))
        else:
            self.get_logger().info(said)

    def _counts(self, bag: LiveBag) -> str:
        return ', '.join(f'{count} of {topic}' for topic, count in bag.counts.items())

    def stop(self) -> None:
        """Complete the recording, and log what is in it."""
        if self._bag is None:
            self.get_logger().info('there was no driver, so there is no recording')
            return
        complete = self._bag.close(CLOSE_TIMEOUT)
        if not complete:
            self.exit_code = 1
            self.get_logger().error('the recording ended early: ' + str(
                self._bag.error or f"'{self._path}': the disk is too slow"))
        else:
            dropped = (f'; {self._bag.dropped} dropped, as the disk was too slow'
                       if self._bag.dropped else '')
            self.get_logger().info(f"wrote '{self._path}': {self._counts(self._bag)}{dropped}")
            self._inspect()

    def _inspect(self) -> None:
        """Log what is odd about the recording, unless that takes longer than a launch waits."""
        found: list[str] = []

        def inspect() -> None:
            try:
                # Which axis of a joystick steers does not matter to what is found.
                (recording,) = open_recordings([self._path], Reading(
                    command_topic=self._command_topic, steering_axis=0), all_inputs(
                        self._contract, self.resolve_topic_name))
                found.extend(['', *oddities(recording)])
            except ValueError as error:
                found.extend(['', str(error)])

        thread = threading.Thread(target=inspect, daemon=True)
        thread.start()
        thread.join(INSPECT_TIMEOUT)
        for sentence in found[1:]:
            self.get_logger().warning(sentence)
        if not found:
            self.get_logger().info('it is too long to be examined now: '
                                   f'ros2 run stream_agent doctor --bag {self._path}')


def main(args: list[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM."""
    return process.run(RecordNode, args, (RecordBagSettings,))
