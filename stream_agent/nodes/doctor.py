"""Command line: before the first drive, say what is wrong and how to mend it."""

import argparse
from collections.abc import Mapping
import json
import os
import shutil
import signal
import sys
from typing import Any, TypeVar

import rclpy
from rclpy.signals import SignalHandlerOptions
from stream_agent.doctor.camera import check_frames
from stream_agent.doctor.disk import check_disk, existing
from stream_agent.doctor.findings import (
    exit_code, Finding, from_sentence, Level, not_checked, table, to_data)
from stream_agent.doctor.parameters import (
    check_parameters, OTHER_AGENT, TRANSPORTS, well_typed)
from stream_agent.doctor.topics import check_command_topic, check_image_topic
from stream_agent.doctor.wheels import SPEED
from stream_agent.gate.settings import Settings
from stream_agent.installation import share_folder
from stream_agent.intake import IntakeSettings
from stream_agent.nodes.command_types import CommandType, make_command_type, type_name
from stream_agent.nodes.doctor_options import parse
from stream_agent.nodes.doctor_policy import examine_policy
from stream_agent.nodes.doctor_watch import Watch
from stream_agent.parameter_files import ParameterFileError, ParameterFiles
from stream_agent.settings import SettingsError

Kind = TypeVar('Kind', Settings, IntakeSettings)


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
        self.agent = well_typed(self.agent, OTHER_AGENT)
        transport = self.agent.get('image_transport', 'raw')
        self.transport = transport if transport in TRANSPORTS else 'raw'
        self.gate = usable(Settings, gate)
        self.intake = usable(IntakeSettings, self.agent)
        self.command_type = self._command_type(gate)
        topics = files.topics(space)
        self.image_topic = options.image_topic or topics['image_topic']
        self.cmd_vel_topic = options.cmd_vel_topic or topics['cmd_vel_topic']

    def _command_type(self, gate: Mapping[str, Any]) -> CommandType | None:
        """Make the type of commands, or find why there is none."""
        try:
            return make_command_type(gate.get('command_type', 'twist_stamped'),
                                     gate.get('wheel_base', 0.25))
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
        watch = Watch(node, setup.image_topic, setup.transport, options.wait)
        commands = node.resolve_topic_name(setup.cmd_vel_topic)
        end = watch.watch(options.seconds, commands)
        found = [*setup.findings, *policy_findings,
                 check_image_topic(watch.image_topic, type_name(watch.kind), watch.cameras(),
                                   watch.topics_with_frames()),
                 *check_frames(watch.frames, end, policy, setup.intake),
                 *examine_base(watch, setup, options, commands)]
    finally:
        node.destroy_node()
    disk = existing(options.output.expanduser().resolve())
    return [*found, check_disk(options.output, shutil.disk_usage(disk).free,
                               disk.is_dir() and os.access(disk, os.W_OK | os.X_OK), watch.frames,
                               setup.gate.camera_period)]


def examine_base(watch: Watch, setup: Setup, options: argparse.Namespace, commands: str
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
    if any(finding.level is Level.ERROR for finding in found):
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
