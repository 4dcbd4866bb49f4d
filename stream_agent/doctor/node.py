"""Command line: check a robot before its first drive, and say how to fix what is wrong."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
import json
import os
import shutil
import signal
import sys
from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions
from stream_agent.cli.arguments import settings_of
from stream_agent.contract.agreement import sources
from stream_agent.contract.contract import Contract
from stream_agent.contract.settings import COMPRESSED, InputSettings, of_each
from stream_agent.doctor.camera import check_disk, check_frames, existing
from stream_agent.doctor.findings import (
    error, exit_code, Finding, from_sentence, not_checked, Severity, split_remedy, table, to_data,
    warning)
from stream_agent.doctor.inputs import (
    as_unused, check_clocks, check_joints, check_messages, check_rhythm, check_sender)
from stream_agent.doctor.options import parse
from stream_agent.doctor.parameters import (
    AGENT, check_parameters, check_process, GATE, judge_files, make_settings, places_of,
    read_contract, RosSettings, usable_settings, values_of)
from stream_agent.doctor.policy_probe import examine_policy
from stream_agent.doctor.recordings import check_recordings
from stream_agent.doctor.topics import (
    ACTUATORS, BASE, check_command_topic, check_image_topic, IMAGE_TYPES, OLD_BASE, SPEED)
from stream_agent.doctor.watching import TopicWatch, WatchedInput
from stream_agent.engine.frame_filter import FrameFilterSettings
from stream_agent.engine.settings import AgentSettings, EngineSettings
from stream_agent.gate.settings import BASE_COMMANDS, BaseSettings, GateSettings
from stream_agent.network.checkpoint import Policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.nodes.command_types import command_type_of, CommandType
from stream_agent.nodes.process import ros_fault
from stream_agent.nodes.recorder_node import RecorderSettings
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading
from stream_agent.share import ParameterFileError, ParameterFiles, share_folder

# The settings of the processes that a launch starts.
KINDS: dict[str, tuple[type, ...]] = {
    'agent': AGENT, 'baseline': AGENT, 'gate': GATE,
    'recorder': (RecorderSettings, BaseSettings, RosSettings)}


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
        contract, found = read_contract(files, space)
        self.findings = [one for one in self.findings
                         if one.level is not Severity.OK or not found] + found
        self.contract = with_topics(contract, options.image_topic, options.cmd_vel_topic)
        self.command_type = self._command_type(gate)

    def _command_type(self, gate: Mapping[str, Any]) -> CommandType | None:
        """Make the type of commands; None if it is wrong, or its package is missing."""
        if gate.get('command_type', BASE_COMMANDS[0]) not in BASE_COMMANDS:
            return None
        base = make_settings(BaseSettings, gate)
        try:
            return command_type_of(self.contract.output, base)
        except ValueError as fault:
            self.findings.append(from_sentence('parameters', f'gate: {fault}'))
            return None


def with_topics(contract: Contract, image_topic: str | None, cmd_vel_topic: str | None
                ) -> Contract:
    """Return a contract with the topics of the command line, as the launch file takes them."""
    inputs, output = dict(contract.inputs), contract.output
    if image_topic and (camera := inputs[contract.trigger]).kind == 'image':
        inputs[contract.trigger] = replace(
            camera, topic=image_topic + '/compressed' * (camera.type == COMPRESSED))
    if cmd_vel_topic:
        output = replace(output, topic=cmd_vel_topic)
    return replace(contract, inputs=inputs, output=output)


def examine(options: argparse.Namespace) -> list[Finding]:
    """Run all checks; ROS needs to be initialised."""
    setup = Setup(options)
    contract = setup.contract
    policy_findings, policy = examine_policy(
        options.checkpoint, setup.agent, setup.engine, setup.gate, contract)
    read = Read(contract, policy)
    node = rclpy.create_node('doctor', namespace=options.namespace)
    try:
        watch = TopicWatch(node, {name: settings for name, settings in contract.inputs.items()
                                  if not settings.is_own}, read.trigger, options.wait)
        joints = watch.watch_joints(contract.output.measured_topic) if (
            contract.output.is_vector) else ''
        commands = node.resolve_topic_name(contract.output.topic)
        end = watch.watch(options.seconds, commands)
        found = [*setup.findings, *policy_findings,
                 *examine_inputs(watch, setup, read, end),
                 *examine_output(watch, setup, options, commands, joints)]
    finally:
        node.destroy_node()
    disk = existing(options.output.expanduser().resolve())
    return [*found, check_disk(options.output, shutil.disk_usage(disk).free,
                               disk.is_dir() and os.access(disk, os.W_OK | os.X_OK),
                               next((one.frames for one in watch.inputs.values() if one.frames),
                                    []), setup.gate.camera_period)]


class Read:
    """
    What a policy reads of a contract.

    :param policy: None if none could be loaded; then it may be all.
    """

    def __init__(self, contract: Contract, policy: Policy | None) -> None:
        self._contract = contract
        self.conversions: dict[str, Any] = {}
        self.trigger = contract.trigger
        self._known = policy is not None
        self.why_not = 'it reads none of these' if policy else 'none could be loaded'
        if policy:
            named = sources(contract, policy.trigger, policy.conversions)
            self.conversions = {named[name]: one for name, one in policy.conversions.items()}
            self.trigger = named[policy.trigger]

    def uses(self, name: str) -> bool:
        """Whether a policy needs an input."""
        return name in self.conversions or not self._known

    def conversion(self, name: str, settings: InputSettings) -> Any:
        """Return what makes a network's numbers of an input, the contract's if none reads it."""
        if name in self.conversions:
            return self.conversions[name]
        return self._contract.conversion(name, (
            len(settings.fields) if settings.kind == 'vector' else settings.rays or 2,))


def examine_inputs(watch: TopicWatch, setup: Setup, read: Read, end: float) -> list[Finding]:
    """Check every input of the contract that has a topic."""
    published = watch.published()
    found: list[Finding] = []
    for name, watched in watch.inputs.items():
        senders, settings = watched.senders(), watched.settings
        sender = (check_sender(name, settings, watched.topic, senders, published)
                  if setup.contract.given else check_image_topic(
                      watched.topic, settings.type, senders,
                      {topic: kind for topic, kind in published.items() if kind in IMAGE_TYPES}))
        judged = [sender, *judge_messages(name, watched, setup, read, end)]
        found += judged if read.uses(name) else map(as_unused, judged)
    for name, fault in watch.faults.items():
        found.append(error(f'{name} topic', *split_remedy(f'inputs.{name}: {fault}')))
    return found + check_clocks({
        name: one.arrived for name, one in watch.inputs.items()
        if one.settings.stamp == 'header' and read.uses(name)})


def judge_messages(name: str, watched: WatchedInput, setup: Setup, read: Read, end: float
                   ) -> Iterator[Finding]:
    """Check the messages of an input; those that trigger the network by the camera's period."""
    settings, triggers = watched.settings, name == read.trigger
    if not watched.is_picture:
        yield from check_messages(
            name, settings, watched.messages, end,
            None if settings.is_depth else read.conversion(name, settings),
            setup.frame_filter if triggers else None)
        return
    conversion = read.conversions.get(name)
    frames = watched.frames
    found = check_frames(frames, end, conversion if isinstance(conversion, Preprocessing)
                         else None, setup.frame_filter, read.why_not)
    for one in found:
        if triggers:
            yield one
        elif one.check == 'rate' and frames:
            yield check_rhythm(name, settings, frames, end, None)
        else:
            yield one._replace(check=name if one.check == 'image' else f'{name} {one.check}')


def examine_output(watch: TopicWatch, setup: Setup, options: argparse.Namespace, commands: str,
                   joints: str) -> list[Finding]:
    """
    Check the topic of commands and, if that was asked for, turn the wheels.

    :param joints: The topic of measured positions; empty for a base.
    """
    output, kind = setup.contract.output, setup.command_type
    obeying = (ACTUATORS if output.is_vector else BASE if setup.contract.given else OLD_BASE)
    if kind is None:
        return [not_checked(check, 'command_type is not usable')
                for check in (obeying.check, 'rivals', 'wheels')]
    found = check_command_topic(commands, kind.name, f'{options.namespace}/gate',
                                watch.commanders(commands), watch.listeners(commands), obeying)
    if output.is_vector:
        lowest, highest = (of_each(values, output.names)
                           for values in (output.lowest, output.highest))
        moved = [not_checked('wheels', 'the robot has none, and --wheels-up moves nothing else')]
        return [*found, check_joints(output.names, output.quantity, lowest, highest,
                                     joints, watch.joints), *moved * options.wheels_up]
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
