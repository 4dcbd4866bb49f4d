"""Command line: before the first drive, say what is wrong and how to mend it."""

import argparse
from collections.abc import Callable, Mapping
import json
import os
import shutil
import signal
import sys
import time
from typing import Any, TypeVar

from nav_msgs.msg import Odometry
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_check_compatible, QoSCompatibility, QoSProfile
from rclpy.signals import SignalHandlerOptions
from stream_agent.bounded_settings import SettingsError
from stream_agent.command import Command, STOP
from stream_agent.doctor.camera import ArrivedFrame, check_disk, check_frames, existing
from stream_agent.doctor.findings import (
    exit_code, Finding, from_sentence, not_checked, Severity, table, to_data, warning)
from stream_agent.doctor.options import parse
from stream_agent.doctor.parameters import check_parameters, OTHER_AGENT, well_typed
from stream_agent.doctor.policy_probe import examine_policy
from stream_agent.doctor.topics import (
    check_command_topic, check_image_topic, check_wheels, DRIVE, Endpoint, IMAGE_TYPES,
    OdometryMotion, reason_not_to, SILENCE, SPEED)
from stream_agent.engine.frame_filter import FrameFilterSettings
from stream_agent.gate.settings import BaseSettings, GateSettings
from stream_agent.images import ImageError, TRANSPORTS
from stream_agent.nodes.messages import (
    COMMAND_QOS, CommandType, FRAME_QOS, image_source, make_command_type, stamp_to_ns, type_name,
    WATCH_FRAME_QOS)
from stream_agent.share import ParameterFileError, ParameterFiles, share_folder

# Until ends that are there have met, and have names.
DISCOVERY = 2.0
# In which a publisher that was held up catches up, and its rate is none.
BURST = 0.3
COMMAND_PERIOD = 0.05
LAST_ZEROS = 5
# Of the middleware's receive time, which is not in simulated time.
LONGEST_QUEUED_NS = 60 * 10**9
UNKNOWN = '_UNKNOWN_'


class TopicWatch:
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
        self.frames: list[ArrivedFrame] = []
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
        self.frames.append(ArrivedFrame(
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
        motions: list[OdometryMotion] = []
        odom_sub = self._node.create_subscription(
            Odometry, odom, lambda msg: motions.append(
                OdometryMotion(time.monotonic(), msg.twist.twist.linear.x)), 10)
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


Kind = TypeVar('Kind', GateSettings, FrameFilterSettings)


class Setup:
    """What the parameter files make of agent, gate and recorder, as far as they can be read."""

    def __init__(self, options: argparse.Namespace) -> None:
        usual = share_folder() / 'config' / 'robot.yaml'
        given = [options.params_file] if options.params_file else []
        self.findings: list[Finding] = []
        try:
            files = ParameterFiles([usual, options.robot_file, *given])
        except ParameterFileError as fault:
            self.findings.append(from_sentence('parameters', fault))
            files = ParameterFiles([usual])
        space = options.namespace
        self.agent, gate, recorder = (files.of(f'{space}/{name}')
                                      for name in ('agent', 'gate', 'recorder'))
        if options.device:
            self.agent['device'] = options.device
        if not self.findings:
            names = ', '.join(path.name for path in files.paths)
            self.findings += check_parameters(self.agent, gate, recorder, names)
        self.findings += [warning('parameters', f"agent: '{old}' is called '{new}' now",
                                  f"rename it to '{new}', as the next release refuses '{old}'")
                          for old, new in files.old_names(f'{space}/agent').items()]
        self.agent = well_typed(self.agent, OTHER_AGENT)
        transport = self.agent.get('image_transport', TRANSPORTS[0])
        self.transport = transport if transport in TRANSPORTS else TRANSPORTS[0]
        self.gate = usable(GateSettings, gate)
        self.frame_filter = usable(FrameFilterSettings, self.agent)
        self.command_type = self._command_type(gate)
        topics = files.topics(space)
        self.image_topic = options.image_topic or topics['image_topic']
        self.cmd_vel_topic = options.cmd_vel_topic or topics['cmd_vel_topic']

    def _command_type(self, gate: Mapping[str, Any]) -> CommandType | None:
        """Make the type of commands, or find why there is none."""
        try:
            return make_command_type(gate.get('command_type', BaseSettings.command_type),
                                     gate.get('wheel_base', BaseSettings.wheel_base))
        except ValueError as fault:
            self.findings.append(from_sentence('parameters', f'gate: {fault}'))
            return None


def usable(kind: type[Kind], given: Mapping[str, Any]) -> Kind:
    """Make settings of what is given, or the usual ones where that is refused."""
    try:
        return kind(**{name: value for name, value in given.items()
                       if name in kind.__dataclass_fields__})
    except SettingsError:
        return kind()


def examine(options: argparse.Namespace) -> list[Finding]:
    """Make all checks; ROS has to be initialised."""
    setup = Setup(options)
    policy_findings, policy = examine_policy(options.checkpoint, setup.agent, setup.gate)
    node = rclpy.create_node('doctor', namespace=options.namespace)
    try:
        watch = TopicWatch(node, setup.image_topic, setup.transport, options.wait)
        commands = node.resolve_topic_name(setup.cmd_vel_topic)
        end = watch.watch(options.seconds, commands)
        found = [*setup.findings, *policy_findings,
                 check_image_topic(watch.image_topic, type_name(watch.kind), watch.cameras(),
                                   watch.topics_with_frames()),
                 *check_frames(watch.frames, end, policy, setup.frame_filter),
                 *examine_base(watch, setup, options, commands)]
    finally:
        node.destroy_node()
    disk = existing(options.output.expanduser().resolve())
    return [*found, check_disk(options.output, shutil.disk_usage(disk).free,
                               disk.is_dir() and os.access(disk, os.W_OK | os.X_OK), watch.frames,
                               setup.gate.camera_period)]


def examine_base(watch: TopicWatch, setup: Setup, options: argparse.Namespace, commands: str
                 ) -> list[Finding]:
    """Look who is on the topic of commands and, if that was asked for, turn the wheels."""
    kind = setup.command_type
    if kind is None:
        return [not_checked(check, 'there is no type of commands')
                for check in ('base', 'rivals', 'wheels')]
    found = check_command_topic(commands, kind.name, f'{options.namespace}/gate',
                                watch.commanders(commands), watch.listeners(commands))
    if not options.wheels_up:
        return [*found, not_checked('wheels', 'whether the base stops by itself: lift it, and '
                                    'add --wheels-up')]
    if any(finding.level is Severity.ERROR for finding in found):
        return [*found, not_checked('wheels', 'refused until the errors above are mended')]
    return [*found, watch.wheels(commands, kind, options.odom_topic,
                                 min(SPEED, setup.gate.max_speed))]


def main(args: list[str]) -> int:
    """
    Examine, and print what was found.

    :returns: The exit code: 1 if there is an error, 130 if it was stopped.
    """
    options = parse(args)

    def leave(*_: object) -> None:
        # A second signal may not keep the wheels from being stopped.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        raise KeyboardInterrupt

    # rclpy's own handlers invalidate the context before the wheels can be stopped.
    rclpy.init(args=['doctor', *args], signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    try:
        findings = examine(options)
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    print(json.dumps(to_data(findings), indent=1) if options.json else table(findings))
    sys.stdout.flush()
    return exit_code(findings)
