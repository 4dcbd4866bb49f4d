"""Command line: check a robot before its first drive, and say how to fix what is wrong."""

import argparse
from collections.abc import Callable, Mapping, Sequence
import json
import os
import shutil
import signal
import sys
import time
from typing import Any

from nav_msgs.msg import Odometry
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_check_compatible, QoSCompatibility, QoSProfile
from rclpy.signals import SignalHandlerOptions
from stream_agent.bounded_settings import printable
from stream_agent.cli.arguments import settings_of
from stream_agent.command import Command, STOP
from stream_agent.doctor.camera import ArrivedFrame, check_disk, check_frames, existing
from stream_agent.doctor.findings import (
    exit_code, Finding, from_sentence, not_checked, Severity, table, to_data, warning)
from stream_agent.doctor.options import parse
from stream_agent.doctor.parameters import (
    AGENT, check_parameters, check_process, GATE, judge_files, make_settings, places_of,
    RosSettings, usable_settings, values_of)
from stream_agent.doctor.policy_probe import examine_policy
from stream_agent.doctor.recordings import check_recordings
from stream_agent.doctor.topics import (
    check_command_topic, check_image_topic, check_wheels, DRIVE, Endpoint, IMAGE_TYPES,
    OdometryMotion, reason_not_to, SILENCE, SPEED)
from stream_agent.engine.frame_filter import FrameFilterSettings
from stream_agent.engine.settings import AgentSettings, EngineSettings
from stream_agent.gate.settings import BASE_COMMANDS, BaseSettings, GateSettings
from stream_agent.images import ImageError
from stream_agent.nodes.command_types import CommandType, make_command_type
from stream_agent.nodes.messages import (
    as_callback, COMMAND_QOS, FRAME_QOS, image_source, name_of_node, received_ns, stamp_to_ns,
    type_name, WATCH_FRAME_QOS)
from stream_agent.nodes.process import ros_fault
from stream_agent.nodes.recorder_node import RecorderSettings
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading
from stream_agent.share import ParameterFileError, ParameterFiles, share_folder

# Seconds until the ends of topics have discovered each other, and their names are known.
DISCOVERY = 2.0
# Seconds in which a publisher that was delayed catches up, so that its rate means nothing.
BURST = 0.3
COMMAND_PERIOD = 0.05
LAST_ZEROS = 5
UNKNOWN = '_UNKNOWN_'
# The settings of the processes that a launch starts.
KINDS: dict[str, tuple[type, ...]] = {
    'agent': AGENT, 'baseline': AGENT, 'gate': GATE,
    'recorder': (RecorderSettings, BaseSettings, RosSettings)}


class TopicWatch:
    """
    Looks at a robot's topics from a ROS node; moves nothing unless ``wheels`` is called.

    :param node: The ROS node, which only this class spins.
    :param image_topic: The launch's topic of raw frames; compressed ones have a topic below it.
    :param transport: 'raw' or 'compressed'.
    :param wait: How long to wait for frames, a base and odometry [s]. Discovery can take
        seconds over wireless networks and on a busy computer.
    """

    def __init__(self, node: Node, image_topic: str, transport: str, wait: float) -> None:
        self._node = node
        self._wait = wait
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self.frames: list[ArrivedFrame] = []
        self.kind, source, _, self._read = image_source(transport)
        self._image_sub = node.create_subscription(
            self.kind, source.replace('image', image_topic, 1), as_callback(self.on_image),
            WATCH_FRAME_QOS)
        self.image_topic = self._image_sub.topic_name

    def on_image(self, msg, info: dict) -> None:
        """Store when a frame arrived, and whether it can be read."""
        arrival_ns = received_ns(self._node, info)
        # Reading the frame before may have taken its time.
        queued = (self._node.get_clock().now().nanoseconds - arrival_ns) / 1e9
        at = time.monotonic() - queued
        size, fault = None, ''
        try:
            size = self._read(msg).shape[:2]
        except ImageError as error:
            fault = str(error)
        self.frames.append(ArrivedFrame(
            stamp_to_ns(msg.header.stamp), arrival_ns, at, size,
            getattr(msg, 'encoding', '') or getattr(msg, 'format', ''), fault, len(msg.data)))

    def watch(self, seconds: float, commands: str) -> float:
        """Collect frames from soon after the first one; return the steady time of the end [s]."""
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
        """Spin until the condition is true, or for at most this many seconds."""
        end = time.monotonic() + seconds
        while not condition() and (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.02))

    def cameras(self) -> list[Endpoint]:
        """Return who publishes on the agent's topic of frames."""
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


class Setup:
    """The settings of agent and gate as parameter files make them, and what is wrong in those."""

    def __init__(self, options: argparse.Namespace) -> None:
        usual = share_folder() / 'config' / 'robot.yaml'
        self.findings: list[Finding] = []
        try:
            files = ParameterFiles(filter(None, [usual, options.robot_file, options.params_file]))
        except ParameterFileError as fault:
            self.findings.append(from_sentence('parameters', fault))
            files = ParameterFiles([usual])
        space = options.namespace
        agent, baseline, gate, recorder = (
            values_of(files, f'{space}/{name}', kinds) for name, kinds in KINDS.items())
        if options.device:
            agent['device'] = options.device
        if not self.findings:
            names = ', '.join(path.name for path in files.paths)
            places = places_of(files, space, KINDS)
            self.findings += [*judge_files(files, space, KINDS),
                              *check_process('baseline', baseline, AGENT, places),
                              *check_process('recorder', recorder, KINDS['recorder'],
                                             places)]
            judged = check_parameters(agent, gate, recorder, names, places)
            self.findings += [one for one in judged
                              if one.level is not Severity.OK or not self.findings]
        self.findings += [warning('parameters', f"agent: '{old}' is called '{new}' now",
                                  f"rename it to '{new}', as the next release refuses '{old}'")
                          for old, new in files.old_names(f'{space}/agent').items()]
        self.agent = usable_settings(AgentSettings, agent)
        self.engine = usable_settings(EngineSettings, agent)
        self.gate = usable_settings(GateSettings, gate)
        self.frame_filter = usable_settings(FrameFilterSettings, agent)
        self.command_type = self._command_type(gate)
        topics = files.topics(space)
        self.image_topic = options.image_topic or topics['image_topic']
        self.cmd_vel_topic = options.cmd_vel_topic or topics['cmd_vel_topic']

    def _command_type(self, gate: Mapping[str, Any]) -> CommandType | None:
        """Make the type of commands; None if it is wrong, or its package is missing."""
        if gate.get('command_type', BASE_COMMANDS[0]) not in BASE_COMMANDS:
            return None
        base = make_settings(BaseSettings, gate)
        try:
            return make_command_type(
                base.command_type, base.wheel_base, base.max_steering_angle)
        except ValueError as fault:
            self.findings.append(from_sentence('parameters', f'gate: {fault}'))
            return None


def examine(options: argparse.Namespace) -> list[Finding]:
    """Run all checks; ROS needs to be initialised."""
    setup = Setup(options)
    policy_findings, preprocessing = examine_policy(
        options.checkpoint, setup.agent, setup.engine, setup.gate)
    node = rclpy.create_node('doctor', namespace=options.namespace)
    try:
        watch = TopicWatch(node, setup.image_topic, setup.agent.image_transport, options.wait)
        commands = node.resolve_topic_name(setup.cmd_vel_topic)
        end = watch.watch(options.seconds, commands)
        found = [*setup.findings, *policy_findings,
                 check_image_topic(watch.image_topic, type_name(watch.kind), watch.cameras(),
                                   watch.topics_with_frames()),
                 *check_frames(watch.frames, end, preprocessing, setup.frame_filter),
                 *examine_base(watch, setup, options, commands)]
    finally:
        node.destroy_node()
    disk = existing(options.output.expanduser().resolve())
    return [*found, check_disk(options.output, shutil.disk_usage(disk).free,
                               disk.is_dir() and os.access(disk, os.W_OK | os.X_OK), watch.frames,
                               setup.gate.camera_period)]


def examine_base(watch: TopicWatch, setup: Setup, options: argparse.Namespace, commands: str
                 ) -> list[Finding]:
    """Check the topic of commands and, if that was asked for, turn the wheels."""
    kind = setup.command_type
    if kind is None:
        return [not_checked(check, 'command_type is not usable')
                for check in ('base', 'rivals', 'wheels')]
    found = check_command_topic(commands, kind.name, f'{options.namespace}/gate',
                                watch.commanders(commands), watch.listeners(commands))
    if not options.wheels_up:
        return [*found, not_checked('wheels', 'whether the base stops by itself: lift it, and '
                                    'add --wheels-up')]
    if exit_code(found):
        return [*found, not_checked('wheels', 'refused until the errors above are fixed')]
    return [*found, watch.wheels(commands, kind, options.odom_topic,
                                 min(SPEED, setup.gate.max_speed))]


def main(args: list[str]) -> int:
    """Check a robot and report; returns 1 if there is an error, and 130 if it was stopped."""
    options = parse(args)
    if options.bag:
        reading = settings_of(options, Reading, image_topic=options.image_topic or '')
        return report(check_recordings(options.bag, reading, settings_of(options, Alignment)),
                      options.json)

    def leave(*_: object) -> None:
        # A second signal must not prevent the wheels from being stopped.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        raise KeyboardInterrupt

    # rclpy's own handlers invalidate the context before the wheels can be stopped.
    try:
        rclpy.init(args=['doctor', *args], signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:
        print(f'doctor: {ros_fault(error)}', file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    try:
        findings = examine(options)
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    return report(findings, options.json)


def report(findings: Sequence[Finding], as_json: bool) -> int:
    """Print the findings, and return the exit code."""
    print(json.dumps(to_data(findings), indent=1) if as_json else table(findings))
    sys.stdout.flush()
    return exit_code(findings)
