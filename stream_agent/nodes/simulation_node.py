"""The embedded simulator as a ROS node: cmd_vel in; what sensors measure, reference out."""

from collections import Counter
from collections.abc import Iterable, Mapping
import gc
import json
import math
import os
from pathlib import Path
import time
from typing import Any

import cv2
from geometry_msgs.msg import TwistStamped, Vector3Stamped
from nav_msgs.msg import Odometry
import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import Image, Imu, LaserScan
from std_msgs.msg import Header
from stream_agent.command import STOP
from stream_agent.contract.settings import IMAGE, IMU, ODOMETRY, SCAN
from stream_agent.nodes import process
from stream_agent.nodes.listeners import ListenerSettings, ListenerWatch
from stream_agent.nodes.messages import (
    array_to_image, COMMAND_QOS, command_to_twist, course_state_to_vector, FRAME_QOS, name_of_node,
    ns_to_stamp, stamp_serialized, stamp_to_ns, twist_to_command)
from stream_agent.nodes.parameters import (
    declare_contract, declare_settings, read_settings, refuse_unknown)
from stream_agent.nodes.simulated_messages import (
    imu_message, not_simulated, odometry_message, publishing_order, scan_message)
from stream_agent.share import write_file
from stream_agent.simulation.environment import (
    CommandError, DrivingEnvironment, SimulatedFrame)
from stream_agent.simulation.session import Phase, Session, SessionSchedule
from stream_agent.simulation.settings import SimulationSettings, TOPICS

# For nodes that watch: nothing is lost if they are busy for a moment.
WATCHED_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
# Simulated time [s] of the reset; earlier images have positive stamps too.
CLOCK_START = 10.0
WARM_UP_FRAMES = 20


class SimulationNode(Node):
    """
    Drives a simulated vehicle by ``cmd_vel`` and publishes what its sensors measure.

    Publishes ``image`` (sensor_msgs/Image, stamped with the time of its capture), with the same
    stamp ``reference`` (geometry_msgs/TwistStamped: what the expert commands at this image),
    ``course_state`` (geometry_msgs/Vector3Stamped: progress, lateral error, lane width [m]) and,
    to whoever listens, ``imu`` (sensor_msgs/Imu) and, with ``scan_rays``, ``scan``
    (sensor_msgs/LaserScan, all rays at one instant);
    ``odom`` (nav_msgs/Odometry, stamped now; the twist as the wheels give it, the true pose),
    ``scene_change`` (std_msgs/Header: the stamp of the first frame that shows a changed scene)
    and, with ``publish_clock``, ``/clock``.

    Of the inputs of a contract, the one that triggers is published last, so that the others of
    the same instant may have arrived when it does.

    While a node that is not ours listens to ``cmd_vel``, it publishes no image, so that nobody
    drives, and ends: a simulation must never move a real robot.

    :raises SettingsError: If a parameter has a value that cannot be simulated.
    :raises ValueError: If one of them is unknown.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('simulation', **kwargs)
        # Images are small; a second thread would only take a core from the agent.
        cv2.setNumThreads(1)
        declare_settings(self, SessionSchedule)
        declare_settings(self, SimulationSettings)
        declare_settings(self, ListenerSettings)
        contract = declare_contract(self)
        refuse_unknown(self)
        self._schedule = read_settings(self, SessionSchedule)
        self._check_drive_file()
        self._failed = False
        settings = read_settings(self, SimulationSettings)
        environment = DrivingEnvironment(settings, self._schedule.course_seed)
        for sentence in not_simulated(contract, settings.scan_rays):
            self.get_logger().warning(sentence)
        self._before, self._after = publishing_order(contract)
        self._lead = preparation_time(environment)
        environment.reset()
        self._session = Session(environment, self._schedule)
        self._published = self._skipped = self._unanswered = 0
        self._created = time.monotonic()
        self._first_command_at, self._last_frame_at = 0.0, -math.inf
        self._epoch: float | None = None
        self._last_frame_ns = 0
        self._create_interfaces()
        self._listeners = ListenerWatch(
            self, self._command_sub.topic_name,
            read_settings(self, ListenerSettings).allow_foreign_listeners)
        gc.collect()
        gc.freeze()
        self.get_logger().info(
            f'waiting for {self._schedule.start_subscribers} subscribers of '
            f'{self._watched} and a first command that moves the vehicle; pacing: '
            f'{self._schedule.pacing}')

    def _check_drive_file(self) -> None:
        """Refuse a drive file that cannot be written, before the drive and not after it."""
        file = self._schedule.drive_file
        if file and not os.access(Path(file).parent, os.W_OK):
            raise ValueError(f"drive_file is '{file}', whose folder is missing or cannot be "
                             'written to; give a file in a folder that can')

    def _create_interfaces(self) -> None:
        self._measured_pubs = {
            IMAGE: self.create_publisher(Image, TOPICS[IMAGE], FRAME_QOS),
            ODOMETRY: self.create_publisher(Odometry, TOPICS[ODOMETRY], WATCHED_QOS),
            IMU: self.create_publisher(Imu, TOPICS[IMU], WATCHED_QOS)}
        if self._session.environment.settings.scan_rays:
            self._measured_pubs[SCAN] = self.create_publisher(
                LaserScan, TOPICS[SCAN], WATCHED_QOS)
        self._reference_pub = self.create_publisher(TwistStamped, 'reference', WATCHED_QOS)
        self._course_pub = self.create_publisher(Vector3Stamped, 'course_state', WATCHED_QOS)
        self._change_pub = self.create_publisher(Header, 'scene_change', WATCHED_QOS)
        self._clock_pub = (self.create_publisher(ClockMessage, '/clock', WATCHED_QOS)
                           if self._schedule.publish_clock else None)
        self._command_sub = self.create_subscription(
            TwistStamped, 'cmd_vel', self.on_command, COMMAND_QOS)
        realtime = self._schedule.pacing == 'realtime'
        self._timer = self.create_timer(
            self._session.environment.settings.period,
            self.on_frame_due if realtime else self.on_lockstep_timer,
            clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def finished(self) -> bool:
        """Whether the drive is over, or must not be."""
        return self._session.phase is Phase.OVER or self.refused

    @property
    def refused(self) -> bool:
        """Whether somebody listens who might move a real robot."""
        return bool(self._listeners.foreign)

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        return int(self.refused or self._failed)

    def stop(self) -> None:
        """Log how well the vehicle drove, or why it did not."""
        if self.refused:
            self.get_logger().fatal(self._listeners.complaint())
            return
        counts = f'{self._published} frames published, {self._skipped} skipped'
        if self._schedule.pacing == 'lockstep':
            counts += f', {self._unanswered} unanswered'
        self.get_logger().info(f'{self._session.summary}, {counts}')
        if self._schedule.drive_file and self._session.phase in (Phase.DRIVING, Phase.OVER):
            self._write_drive(Path(self._schedule.drive_file))

    def _write_drive(self, file: Path) -> None:
        """Write what became of the drive, which the simulator alone knows exactly."""
        record = self._session.record() | {'published': self._published, 'skipped': self._skipped}
        try:
            write_file(file, json.dumps(record))
        except OSError as error:
            self._failed = True
            self.get_logger().error(f"drive_file '{file}': {error.strerror}; the drive is lost, "
                                    'make room and drive again')

    def on_command(self, msg: TwistStamped) -> None:
        """Follow a command from its arrival on; the first one that moves ends the waiting."""
        if not self._listeners.alone:
            return
        command = twist_to_command(msg)
        realtime = self._schedule.pacing == 'realtime'
        after = time.monotonic() - self._due() if realtime and self._epoch is not None else 0.0
        try:
            self._session.send(command, after)
        except CommandError as error:
            self.get_logger().error(f'cmd_vel: {error}; ignored', throttle_duration_sec=5.0)
            return
        if (self._session.phase is Phase.WAITING and command != STOP
                and self._watchers() >= self._schedule.start_subscribers):
            self._first_command_at = self._first_command_at or time.monotonic()
            if time.monotonic() - self._first_command_at >= self._schedule.start_delay:
                self._begin('commands arrive')
        if not realtime and self._answers(msg):
            self._publish_next()

    def _triggers(self) -> list[Publisher]:
        """Return what a network may be triggered by."""
        return [self._measured_pubs[kind] for kind in (IMAGE, SCAN)
                if kind in self._measured_pubs]

    @property
    def _watched(self) -> str:
        return ' or '.join(f"'{publisher.topic_name}'" for publisher in self._triggers())

    def _watchers(self) -> int:
        """Return how many wait for images or scans; who subscribes to both counts once."""
        if SCAN not in self._measured_pubs:
            return self._measured_pubs[IMAGE].get_subscription_count()
        found = Counter[str]()
        for publisher in self._triggers():
            found |= Counter(map(name_of_node, self.get_subscriptions_info_by_topic(
                publisher.topic_name)))
        return found.total()

    def _answers(self, msg: TwistStamped) -> bool:
        """Return whether a command can be an answer to the last frame of a lockstep."""
        if self._session.phase is Phase.WAITING or self.finished:
            return False
        # By /clock the sender may not know yet how late it is.
        return self._schedule.publish_clock or (
            stamp_to_ns(msg.header.stamp) >= self._last_frame_ns)

    def _begin(self, reason: str) -> None:
        self._session.begin()
        self.get_logger().info(f'{reason}: {self._session.phase.name.lower()}')

    def _begin_late(self) -> None:
        """Begin without subscribers or command if ``start_timeout`` is over."""
        timeout = self._schedule.start_timeout
        if (self._session.phase is Phase.WAITING and timeout
                and time.monotonic() - self._created > timeout):
            self.get_logger().warning(
                f'after {timeout:g} s {self._watched} has {self._watchers()} subscribers, and '
                'no command that moves the vehicle has come on '
                f"'{self._command_sub.topic_name}'")
            self._begin('start_timeout is over')

    def _due(self, periods: int = 0) -> float:
        """Return the steady time at which a frame is due, so many periods after the last one."""
        environment = self._session.environment
        assert self._epoch is not None  # set when the first frame is due
        return self._epoch + environment.time + periods * environment.settings.period

    def on_frame_due(self) -> None:
        """Prepare the next frame, and publish it exactly when it is due."""
        if self.finished or not self._listeners.alone:
            return
        self._begin_late()
        if self._epoch is None:
            self._epoch = time.monotonic() + self._lead - self._session.environment.settings.period
        late = time.monotonic() - self._due(1)
        for _ in range(max(0, math.floor(late / self._session.environment.settings.period))):
            self._session.skip()
            self._skipped += self._session.phase is Phase.DRIVING
        frame, changed = self._session.advance()
        messages = self._prepared(frame)
        time.sleep(max(0.0, self._due() - time.monotonic()))
        self._publish(frame, messages, changed)

    def on_lockstep_timer(self) -> None:
        """Publish the next frame without an answer: while waiting, and after the timeout."""
        if self.finished or not self._listeners.alone:
            return
        self._begin_late()
        if self._session.phase is Phase.WAITING:
            self._publish_next()
        elif time.monotonic() - self._last_frame_at > self._schedule.lockstep_timeout:
            self._unanswered += 1
            self.get_logger().warning(
                f'no command has answered a frame for {self._schedule.lockstep_timeout:g} s; '
                'the vehicle keeps its last command', throttle_duration_sec=5.0)
            self._publish_next()

    def _publish_next(self) -> None:
        frame, changed = self._session.advance()
        self._publish(frame, self._prepared(frame), changed)

    def _prepared(self, frame: SimulatedFrame) -> dict[str, bytearray]:
        """Return by type what was measured, as far as it is sent, but for its stamp."""
        sensed = self._session.environment.sensed_at(frame.now)
        found: dict[str, Any] = {
            IMAGE: array_to_image(frame.image, 0, 'camera_optical'),
            ODOMETRY: odometry_message(frame.now, sensed)}
        # What costs time is made for those who listen.
        if self._measured_pubs[IMU].get_subscription_count():
            found[IMU] = imu_message(frame.sensed)
        if frame.scan and self._measured_pubs[SCAN].get_subscription_count():
            found[SCAN] = scan_message(frame.scan)
        return {kind: bytearray(serialize_message(message)) for kind, message in found.items()}

    def _publish(self, frame: SimulatedFrame, messages: dict[str, bytearray], changed: bool
                 ) -> None:
        """Stamp and publish the measurements of a frame, and everything else about it."""
        now_ns = self._now_ns(frame)
        stamp_ns = now_ns - round((frame.now.time - frame.time) * 1e9)
        for kind, message in messages.items():
            stamp_serialized(message, now_ns if kind == ODOMETRY else stamp_ns)
        self._send(self._before, messages)
        self._last_frame_at, self._last_frame_ns = time.monotonic(), now_ns
        if changed:
            header = Header(frame_id='camera_optical')
            ns_to_stamp(header.stamp, stamp_ns)
            self._change_pub.publish(header)
        self._reference_pub.publish(command_to_twist(frame.reference, stamp_ns))
        self._course_pub.publish(course_state_to_vector(
            frame.progress, frame.lateral_error, self._session.environment.course.lane_width,
            stamp_ns, 'odom'))
        self._send(self._after, messages)
        if self._session.phase in (Phase.DRIVING, Phase.OVER):
            if not self._published:
                duration = self._schedule.duration
                self.get_logger().info(
                    f'driving for {duration:g} s' if duration else 'driving until it is stopped')
            self._published += 1

    def _send(self, kinds: Iterable[str], messages: Mapping[str, bytearray]) -> None:
        """Publish measurements in the order of their types, as far as there are any."""
        for kind in kinds:
            if kind in messages:
                self._measured_pubs[kind].publish(bytes(messages[kind]))

    def _now_ns(self, frame: SimulatedFrame) -> int:
        """Return the time by which messages are stamped; publish it on /clock, if that is ours."""
        if self._clock_pub is None:
            return self.get_clock().now().nanoseconds
        now_ns = round((CLOCK_START + frame.now.time) * 1e9)
        msg = ClockMessage()
        ns_to_stamp(msg.clock, now_ns)
        self._clock_pub.publish(msg)
        return now_ns


def preparation_time(environment: DrivingEnvironment) -> float:
    """Measure how long before its publication a frame needs to be started [s]."""
    durations = []
    for _ in range(WARM_UP_FRAMES):
        start = time.perf_counter()
        environment.step(STOP._replace(speed=environment.settings.target_speed))
        durations.append(time.perf_counter() - start)
    enough = 2.0 * float(np.median(durations)) + 0.0005
    return min(enough, 0.5 * environment.settings.period)


def main(args: list[str] | None = None) -> int:
    """Simulate until the drive is over, or until SIGINT or SIGTERM."""
    process.use_large_shared_memory()
    return process.run(SimulationNode, args,
                       (SessionSchedule, SimulationSettings, ListenerSettings))
