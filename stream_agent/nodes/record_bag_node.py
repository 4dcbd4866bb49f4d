"""Records a drive to learn from as a ROS node: images, and the commands of the driver."""

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
import threading
import time

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from stream_agent.bounded_settings import free_text
from stream_agent.images import image_transport
from stream_agent.nodes import process
from stream_agent.nodes.messages import (
    image_source, publishers, type_name, WATCH_COMMAND_QOS, WATCH_FRAME_QOS)
from stream_agent.nodes.parameters import declare_settings, refuse_unknown
from stream_agent.recordings.bags import check_rosbags
from stream_agent.recordings.command_messages import COMMAND_TYPES
from stream_agent.recordings.inspection import oddities
from stream_agent.recordings.recording import Reading
from stream_agent.recordings.sources import open_recordings
from stream_agent.recordings.writing import LiveBag, new_folder

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
    Writes what a camera sees and what a driver commands to a rosbag2 recording (MCAP).

    Subscribes to ``image`` (or ``image/compressed``) and ``cmd_vel`` (any of ``COMMAND_TYPES``;
    the recording begins once there is a publisher). Messages are written as they arrived. Every
    start makes a new recording, a folder in ``output``.

    :raises ValueError: If a parameter is wrong, or the package that writes bags is missing.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('record_bag', **kwargs)
        declare_settings(self, RecordBagSettings)
        refuse_unknown(self)
        check_rosbags('written')
        name = self.get_parameter('name').value or time.strftime('%Y-%m-%d_%H-%M-%S')
        self._path = new_folder(Path(self.get_parameter('output').value).expanduser(), name)
        if self._path.exists():
            raise ValueError(f"name: '{self._path}' already exists; give another name")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._kind, self._image_topic, *_ = image_source(
            self.get_parameter('image_transport').value)
        self._image_topic = self.resolve_topic_name(self._image_topic)
        self._command_topic = self.resolve_topic_name('cmd_vel')
        self._bag: LiveBag | None = None
        self.finished = False
        self.exit_code = 0
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._look_timer = self.create_timer(LOOK_PERIOD, self.look, clock=steady)
        self._say_timer = self.create_timer(SAY_PERIOD, self.say, clock=steady)
        self.get_logger().info(f"waiting for a driver on '{self._command_topic}'")

    def look(self) -> None:
        """Begin recording once the type of the commands is known."""
        found = {one.topic_type for one in self.get_publishers_info_by_topic(
            self._command_topic)} & set(COMMAND_TYPES)
        if len(found) > 1:
            self.get_logger().error(
                f"'{self._command_topic}' has commands of several types, "
                f"{', '.join(sorted(found))}; stop all drivers but one",
                throttle_duration_sec=SAY_PERIOD)
        elif found:
            self._look_timer.cancel()
            self._begin(found.pop())

    def _begin(self, command_type: str) -> None:
        """Subscribe to both topics, and write their messages."""
        package, _, name = command_type.split('/')
        try:
            kind = getattr(import_module(f'{package}.msg'), name)
        except ImportError as error:
            raise RuntimeError(f"'{self._command_topic}' has commands of the type {command_type}, "
                               f"but the package '{package}' is not installed") from error
        self._bag = LiveBag(self._path, {self._image_topic: type_name(self._kind),
                                         self._command_topic: command_type})
        for topic, message_type, qos in (
                (self._image_topic, self._kind, WATCH_FRAME_QOS),
                (self._command_topic, kind, WATCH_COMMAND_QOS)):
            self.create_subscription(
                message_type, topic, partial(self.on_message, self._bag, topic), qos, raw=True)
        self.get_logger().info(f"recording '{self._image_topic}' and '{self._command_topic}' "
                               f"({command_type}) to '{self._path}'")

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
            self.get_logger().warning(f"{said}; nothing arrives on '{missing[0]}'")
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
                    image_topic=self._image_topic, command_topic=self._command_topic,
                    steering_axis=0))
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
