"""The recorder as a ROS node: how early and how correct policies answer the same frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
import time
from typing import Any, cast

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped, Vector3Stamped
import rclpy
from rclpy.clock import Clock, ClockType, ROSClock
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Header
from stream_agent.bounded_settings import choice, free_text, quantity, several
from stream_agent.contract.contract import Contract
from stream_agent.contract.settings import did_you_mean, of_each, OutputSettings
from stream_agent.gate.settings import BaseSettings
from stream_agent.images import image_transport, stamp_of_serialized
from stream_agent.measurement.machine import machine, versions
from stream_agent.measurement.recording import (
    again, make_folder, printable, RecordingError, Writer)
from stream_agent.measurement.rows import (
    arrivals_measured, AT_ARRIVAL, BASE, Element, FrameMatcher, Values, WHEN_TAKEN)
from stream_agent.nodes import process
from stream_agent.nodes.command_types import read_command_type, read_joints
from stream_agent.nodes.messages import (
    as_callback, image_source, message_class, ns_to_stamp, received_ns, stamp_to_ns,
    twist_to_command, WATCH_COMMAND_QOS, WATCH_FRAME_QOS, watch_gate)
from stream_agent.nodes.parameters import declare_contract, declare_settings, refuse_unknown

CLOSE_PERIOD = 0.25
# Commands so long after the end of the gate [s] are none that were on their way (P9).
DRIVES_ON = 0.2
DESCRIBE_PERIOD = 2.0
# The simulation looks around for five of them before its first image.
SILENCE = 10.0
# A launch waits 10 s for a process to end, of which the report needs one or two.
WRITE_TIMEOUT = 3.0
# Share of the camera period; the remainder is enough to handle all messages.
REST = 0.6
# The recorder's message to itself: sent so often [s] until it comes, and left waiting so long.
PROBE_TOPIC, PROBE_PERIOD, PROBE_PAUSE = '~/arrival_probe', 0.1, 0.02


USUAL_POLICIES = 'agent=policy_command', 'baseline=baseline/policy_command'


@dataclass(frozen=True)
class RecorderSettings:
    """What the recorder compares, and where it writes to."""

    policies: tuple[str, ...] = several(
        USUAL_POLICIES, "policies to compare, each 'name=topic'; the first is compared with the "
        'others')
    driving: str = free_text(
        'agent', 'name of the policy whose commands go through the gate; empty: none')
    camera_period: float = quantity(1 / 30, 's', 1e-3, 10.0, 'time between two frames')
    image_transport: str = image_transport()
    trigger: str = free_text(
        '', "input of the contract whose messages are the frames, that of the policies' triggers; "
        "empty: the contract's trigger", 'INPUT')
    output: str = free_text(
        'results', 'folder in which every run gets a folder, and latest points to the last')
    new_folder: bool = choice(
        True, 'record into a new folder in output, named by the time; false: into output itself, '
        'which nothing was recorded to')
    queue_size: int = quantity(10_000, '', 10, 10_000_000, 'most rows that wait for the disk')


class RecorderNode(Node):
    """
    Records the frames and what every policy makes of them, without slowing anything down.

    Subscribes to the frames (``image``, ``image/compressed``, or the contract's trigger),
    ``reference``, ``course_state`` (from the simulation; y is the lateral error),
    ``scene_change``, ``cmd_vel`` (or the topic of the contract's output), ``/diagnostics`` and
    one topic of policy commands for each policy. Writes rows as they become complete, and the
    report when it is stopped. Of vectors, policy commands and reference are
    sensor_msgs/JointState.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('recorder', **kwargs)
        declare_settings(self, RecorderSettings)
        declare_settings(self, BaseSettings)
        contract = declare_contract(self)
        refuse_unknown(self)
        self._output = contract.output
        self._type = read_command_type(self, contract.output)
        self._elements = elements_of(contract.output)
        image_source(self.get_parameter('image_transport').value)  # or it is refused
        self._frame_kind, self._frame_topic = frames_of(
            contract, self.get_parameter('trigger').value)
        self.policies = parse_policies(self.get_parameter('policies').value)
        self.driving = self.get_parameter('driving').value
        if self.driving and self.driving not in self.policies:
            raise ValueError(f"driving: no policy named '{printable(self.driving)}'; "
                             f"policies are {', '.join(self.policies)}")
        #: Set to 1 if the recording is not complete, or its report is not made.
        self.exit_code = 0
        self._rest = REST * min(self.get_parameter('camera_period').value, 0.1)
        self._rows = FrameMatcher(self.policies, self.driving, size=len(self._elements))
        self._diagnostics: dict[str, dict[str, str]] = {}
        self._heard: set[str] = set()
        # Nothing is missed of a policy that is listened to by default, and that nobody starts.
        self._absent = {name for name, topic in self.policies.items()
                        if f'{name}={topic}' in USUAL_POLICIES and name != self.driving}
        self._said = ''
        self._conditions = {
            'date': time.strftime('%Y-%m-%d %H:%M'), 'machine': machine(),
            'versions': {**versions('stream_agent', 'numpy', 'torch', 'rclpy'),
                         'middleware': rclpy.get_rmw_implementation_identifier()},
            'policies': self.policies, 'driving': self.driving,
            'camera_period': self.get_parameter('camera_period').value, 'arrivals': WHEN_TAKEN}
        if self._output.is_vector:
            self._conditions['outputs'] = {each.name: each.unit for each in self._elements}
        folder = Path(self.get_parameter('output').value).expanduser()
        if self.get_parameter('new_folder').value:
            folder = make_folder(folder)
        self._writer = Writer(folder, self.get_parameter('queue_size').value, self._elements)
        self._subscribe()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(CLOSE_PERIOD, self.close_rows, clock=steady)
        self.create_timer(DESCRIBE_PERIOD, self.describe, clock=steady)
        self._probe_pub = self.create_publisher(Header, PROBE_TOPIC, 1)
        self._probe_sub = self.create_subscription(
            Header, PROBE_TOPIC, as_callback(self.on_probe), 1)
        self._probe_timer = self.create_timer(PROBE_PERIOD, self.probe, clock=steady)
        self._silence_timer = self.create_timer(SILENCE, self.warn_of_silence, clock=steady)
        self.get_logger().info(f"recording {', '.join(self.policies)} to '{folder}'")

    def _subscribe(self) -> None:
        # Only the stamp of a frame matters, so it is left serialized.
        self._frame_sub = self.create_subscription(
            self._frame_kind, self._frame_topic, as_callback(self.on_frame), WATCH_FRAME_QOS,
            raw=True)
        commands: type = JointState if self._output.is_vector else TwistStamped
        self._reference_sub = self.create_subscription(
            commands, 'reference', self.on_reference, WATCH_COMMAND_QOS)
        self._gated_sub = self.create_subscription(
            self._type.kind, self._output.topic, as_callback(self.on_gated), WATCH_COMMAND_QOS)
        self.create_subscription(
            Vector3Stamped, 'course_state', self.on_course_state, WATCH_COMMAND_QOS)
        self.create_subscription(Header, 'scene_change', self.on_scene_change, WATCH_COMMAND_QOS)
        self.create_subscription(DiagnosticArray, '/diagnostics', self.on_diagnostics, 10)
        self._unguarded_since: float | None = None
        self._gate_sub = watch_gate(self, self.on_gate)
        for name, topic in self.policies.items():
            self.create_subscription(commands, topic, partial(self.on_command, name),
                                     WATCH_COMMAND_QOS)

    def _values(self, message: Any) -> Values:
        """Return the command in a message of a policy or the reference; nan for what it lacks."""
        if self._output.is_vector:
            return self._in_order(read_joints(message, self._output.quantity))
        return twist_to_command(message)

    def _in_order(self, command: Any) -> Values:
        """Return a command's elements in their order, of which those of vectors are by name."""
        if not isinstance(command, dict):
            return command
        return tuple(command.get(each.name, float('nan')) for each in self._elements)

    def on_frame(self, data: bytes, info: dict) -> None:
        """
        Store a frame's stamp, and sleep until most answers to it have arrived.

        Waking up once for all of them costs a third less than once for each, on cores that the
        policies need. It distorts nothing where the middleware measures arrivals; elsewhere, and
        with messages that have waited already, there is no pause.
        """
        self._heard.add('frames')
        arrival_ns = received_ns(self, info)
        self._rows.add_frame(stamp_of_serialized(data), arrival_ns)
        late = (time.time_ns() - arrival_ns) * 1e-9 > self._rest / 2
        if self._conditions['arrivals'] == AT_ARRIVAL and not late:
            time.sleep(self._rest)

    def probe(self) -> None:
        """Send a message to this node, and let it wait; until one has come, nothing may wait."""
        self._probe_sent_ns = time.time_ns()
        self._probe_pub.publish(Header(stamp=ns_to_stamp(Header().stamp, self._probe_sent_ns)))
        time.sleep(PROBE_PAUSE)

    def on_probe(self, msg: Header, info: dict) -> None:
        """Find out whether the middleware notes when a message comes or when it is taken."""
        if stamp_to_ns(msg.stamp) != self._probe_sent_ns:
            return
        if not cast(ROSClock, self.get_clock()).ros_time_is_active:
            self._conditions['arrivals'] = arrivals_measured(
                info.get('received_timestamp'), self._probe_sent_ns, time.time_ns())
        self.destroy_timer(self._probe_timer)
        self.destroy_subscription(self._probe_sub)
        self.destroy_publisher(self._probe_pub)

    def on_reference(self, msg: TwistStamped | JointState) -> None:
        """Store the reference command for a frame."""
        self._heard.add('reference')
        self._rows.add_reference(stamp_to_ns(msg.header.stamp), self._values(msg))

    def on_course_state(self, msg: Vector3Stamped) -> None:
        """Store how well the vehicle keeps its lane."""
        self._rows.add_lateral_error(stamp_to_ns(msg.header.stamp), msg.vector.y)

    def on_command(self, policy: str, msg: TwistStamped | JointState, info: dict) -> None:
        """Store a policy command."""
        if (self._unguarded_since is not None and policy == self.driving
                and time.monotonic() - self._unguarded_since > DRIVES_ON):
            self.get_logger().error('nobody guards the robot, as the gate has ended or hangs',
                                    throttle_duration_sec=5.0)
        arrival_ns = received_ns(self, info)
        self._rows.add_command(policy, stamp_to_ns(msg.header.stamp), arrival_ns,
                               info.get('source_timestamp') or arrival_ns, self._values(msg))

    def on_gated(self, msg: Any, info: dict) -> None:
        """Store a command of the gate."""
        self._heard.add('cmd_vel')
        arrival_ns = received_ns(self, info)
        self._rows.add_gated(arrival_ns, info.get('source_timestamp') or arrival_ns,
                             self._in_order(self._type.read(msg)))

    def on_scene_change(self, msg: Header) -> None:
        """Store the stamp of the first frame that shows a changed scene."""
        self._writer.put_change(stamp_to_ns(msg.stamp))

    def on_diagnostics(self, msg: DiagnosticArray) -> None:
        """Store the last diagnostics of this robot's agents."""
        for status in msg.status:
            name = status.name.rpartition('/')[2]
            ours = status.hardware_id == self.get_namespace()
            if ours and name.removesuffix(': frames') in self.policies:
                self._diagnostics[name] = {item.key: item.value for item in status.values}

    def on_gate(self, alive: bool) -> None:
        """Note when the gate went, which matters if the policy drives on."""
        self._unguarded_since = None if alive else time.monotonic()

    def close_rows(self) -> None:
        """Hand complete rows to the writer."""
        self._writer.put_rows(self._rows.close())

    def describe(self) -> None:
        """Hand over to the writer under which conditions the rows were recorded."""
        if (error := self._writer.error) != self._said:
            self._said = error
            self.get_logger().error(f'rows cannot be written: {error}; make room, it is tried '
                                    'again' if error else 'rows can be written again')
        # Copied, as the writer reads it in its own thread.
        self._writer.describe({
            **self._conditions, 'silent': self.silent(), 'absent': self.absent(),
            'dropped': self._writer.dropped,
            'without_frame': self._rows.without_frame, 'diagnostics': dict(self._diagnostics)})

    def absent(self) -> list[str]:
        """Return the policies by default that have had no publisher, so that none was wanted."""
        self._absent -= {name for name in self._absent
                         if self.count_publishers(self.resolve_topic_name(self.policies[name]))}
        return sorted(self._absent)

    def silent(self) -> list[str]:
        """Return which topics have had no message, and what to check."""
        remedies = {
            'frames': (self._frame_sub, 'that the camera or simulation runs, and the remapping'
                       if issubclass(self._frame_kind, (CompressedImage, Image)) else
                       'that its driver or the simulation runs, and the topic of the contract'),
            'reference': (self._reference_sub, 'that something publishes it; without it errors '
                          'are unknown'),
            'cmd_vel': (self._gated_sub, 'that the gate runs and the driving agent is active')}
        return [f"No message on '{subscription.topic_name}'; check {remedy}."
                for name, (subscription, remedy) in remedies.items()
                if name not in self._heard and (name != 'cmd_vel' or self.driving)]

    def warn_of_silence(self) -> None:
        """Warn early of what would make the recording useless."""
        self._silence_timer.cancel()
        for sentence in self.silent():
            self.get_logger().warning(sentence)

    def stop(self) -> None:
        """Write what is left; only then print the comparison, and write the report."""
        self.exit_code = 1
        self._writer.put_rows(self._rows.finish())
        self.describe()
        folder, complete = self._writer.folder, self._writer.close(WRITE_TIMEOUT)
        if not complete or self._writer.dropped:
            self.get_logger().error(
                f"recording '{folder}' is not complete, {self._writer.dropped} rows are missing: "
                f"{self._writer.error or 'the disk was too slow'}")
        if not complete:
            self.get_logger().error(f'no report is written; of what there is, {again(folder)} '
                                    'makes one')
            return
        self.get_logger().info(f"recorded to '{folder}'; if the report is stopped, "
                               f'{again(folder)} makes it')
        # Plots take a second to import, and are not needed while the robot drives.
        from stream_agent.measurement.report import report
        try:
            print(f'report: {report(folder)}', flush=True)
        except RecordingError as error:
            self.get_logger().error(f'no report: {error}')
            return
        self.exit_code = 1 if self._writer.dropped else 0


def elements_of(output: OutputSettings) -> tuple[Element, ...]:
    """Return what a command consists of."""
    return tuple(map(Element, output.names, of_each(output.units, output.names))
                 ) if output.is_vector else BASE


def frames_of(contract: Contract, trigger: str) -> tuple[type, str]:
    """
    Return the messages that are frames, and their topic.

    :param trigger: The input that they feed; empty: the contract's trigger.
    :raises ValueError: If there is no such input, or its messages have no stamp by which a
        command could be found.
    """
    name = trigger or contract.trigger
    if name not in contract.inputs or contract.inputs[name].is_own:
        raise ValueError(f"trigger: '{printable(name)}' is no input with a topic"
                         + did_you_mean(name, [each for each, settings in contract.inputs.items()
                                               if not settings.is_own]))
    settings = contract.inputs[name]
    kind = message_class(settings.type)
    if not hasattr(kind(), 'header'):
        raise ValueError(f"{contract.place(f'inputs.{name}.type')}'{name}' triggers by "
                         f'{settings.type}, whose messages have no header, so that no command is '
                         'found by the stamp of its frame; run without the recorder '
                         '(record:=false of the launch), or let a message with a header trigger')
    return kind, settings.topic


def parse_policies(given: Sequence[str]) -> dict[str, str]:
    """
    Read the parameter ``policies``.

    :param given: Entries of the form 'name=topic'.
    :returns: The topics by the policies' names.
    :raises ValueError: If an entry has another form, or a name is given twice.
    """
    policies = {}
    for entry in given:
        name, _, topic = (part.strip() for part in entry.partition('='))
        if not name or not topic:
            raise ValueError(f"policies: '{printable(entry)}' is not of the form 'name=topic'; "
                             "write for example 'agent=policy_command'")
        if name != printable(name):
            raise ValueError(f"policies: '{printable(name)}' is too long or has characters that "
                             'cannot be printed; give a plain name')
        if name in policies:
            raise ValueError(f"policies: '{name}' is given twice; give every policy its own name")
        policies[name] = topic
    if not policies:
        raise ValueError("policies is empty; write for example 'agent=policy_command'")
    return policies


def main(args: list[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM, then write the report; 1 if either is not complete."""
    return process.run(RecorderNode, args, (RecorderSettings, BaseSettings))
