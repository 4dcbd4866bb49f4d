"""The gate as a ROS node: policy command in, guarded command to the robot out."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
import gc
import time
from typing import Any, cast

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold, ROSClock, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Empty
from std_srvs.srv import Trigger
from stream_agent.bounded_settings import SettingsError
from stream_agent.contract.settings import OutputSettings
from stream_agent.gate.faults import Fault
from stream_agent.gate.gate import Gate, Level, Outcome, Verdict
from stream_agent.gate.limits import AnyCommand
from stream_agent.gate.settings import BaseSettings, GateSettings
from stream_agent.gate.vectors import VectorLimiter
from stream_agent.nodes import process
from stream_agent.nodes.command_types import read_command_type, read_joints, read_policy_joints
from stream_agent.nodes.messages import (
    as_callback, COMMAND_QOS, foreign_types, GATE_ALIVE, GATE_ALIVE_QOS, make_status, publishers,
    read_policy_command, stamp_to_ns, STOP_FRAME_ID, STOP_INPUT_QOS, type_name)
from stream_agent.nodes.parameters import (
    declare_contract, declare_settings, read_settings, refuse_unknown)

# How much later than due a zero may be sent [s]; the timer costs 1 % of a core.
TIMER_PERIOD = 0.02
# How often other publishers are looked for [s]; three counts of 3 us each (G11).
RIVALS_PERIOD = 0.25
# With a queue of one, of two sources that send together the first would never be seen (G11).
POLICY_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
# A greater jump forward of simulated time stops the robot, as any backward does (T1).
TIME_JUMP = JumpThreshold(min_forward=Duration(seconds=0.5), min_backward=Duration(nanoseconds=-1),
                          on_clock_change=False)
LAST_ZEROS = 3
LAST_ZEROS_PERIOD = 0.05


class GateNode(Node):
    """
    Passes policy commands on to the robot, as far and as long as that is safe.

    Subscribes to ``policy_command`` (geometry_msgs/TwistStamped with the stamp of its frame, or
    the request to stop of ``messages.py``), publishes ``cmd_vel``
    (geometry_msgs/TwistStamped, stamped now, or what the contract's output names) and
    ``/diagnostics``; with ``stop_input`` it also subscribes to ``stop`` (std_msgs/Bool), and
    drives only while all who publish it say false; the service ``~/reset_fault``
    (std_srvs/Trigger) ends a latched fault. Where the output is a vector, policy commands are
    sensor_msgs/JointState, and where it is positions, the measured ones are subscribed to.

    :raises SettingsError: If the parameters do not make a safe gate.
    :raises ValueError: If one of them is unknown.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('gate', **kwargs)
        changeable = {item.name for item in fields(GateSettings)} - {'camera_period', 'stop_input'}
        declare_settings(self, GateSettings, changeable)
        declare_settings(self, BaseSettings)
        output = declare_contract(self).output
        refuse_unknown(self)
        self._type = read_command_type(self, output)
        self._foreign = ''
        self._rivals = ''
        self._stop_sub = None
        settings, now = read_settings(self, GateSettings), time.monotonic()
        check_horizon(output, settings)
        limiter = VectorLimiter(output, now) if output.is_vector else None
        self.gate = Gate(settings, now, limiter)
        self.add_on_set_parameters_callback(self.on_change_asked)
        self.add_post_set_parameters_callback(self.on_change_made)
        self._write = self._type.quick_write
        self._command_pub = self.create_publisher(self._type.kind, output.topic, COMMAND_QOS)
        self._alive_pub = self.create_publisher(Empty, GATE_ALIVE, GATE_ALIVE_QOS)
        self._diagnostics_pub = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._subscribe(output, limiter)
        if self.gate.settings.stop_input:
            self._stop_sub = self.create_subscription(
                Bool, 'stop', as_callback(self.on_stop_input), STOP_INPUT_QOS)
        self._reset_service = self.create_service(Trigger, '~/reset_fault', self.on_reset_fault)
        self._jump_handle = self.get_clock().create_jump_callback(
            TIME_JUMP, post_callback=self.on_time_jump)
        # None of them may stand still with a paused simulation (G1).
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(TIMER_PERIOD, self.on_timer, clock=steady)
        self._rivals_timer = self.create_timer(RIVALS_PERIOD, self.look_for_rivals, clock=steady)
        self._diagnostics_timer = self.create_timer(1.0, self.publish_diagnostics, clock=steady)
        # What lives for good need not be looked at again by every garbage collection.
        gc.collect()
        gc.freeze()

    def _subscribe(self, output: OutputSettings, limiter: VectorLimiter | None) -> None:
        """Listen to policy commands, and to measured positions where these are needed."""
        kind: type = JointState if limiter else TwistStamped
        self._read: Callable[[Any], tuple[AnyCommand, int, str]] = partial(
            read_policy_joints, quantity=output.quantity) if limiter else read_policy_command
        self._policy_sub = self.create_subscription(
            kind, 'policy_command', as_callback(self.on_policy_command), POLICY_QOS,
            raw=limiter is None)
        if limiter and output.stop == 'hold':
            # Several drivers may send, each what it knows of.
            self._measured_sub = self.create_subscription(
                JointState, output.measured_topic, partial(self.on_measured, limiter),
                STOP_INPUT_QOS)

    def on_change_asked(self, changes: list[Parameter]) -> SetParametersResult:
        """Refuse changes that together would not make a safe gate (P5)."""
        try:
            read_settings(self, GateSettings, changes)
        except SettingsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def on_change_made(self, changes: list[Parameter]) -> None:
        """Apply changes that were not refused."""
        self.gate.settings = read_settings(self, GateSettings)

    def on_policy_command(self, message: bytes | JointState, info: dict) -> None:
        """
        Judge a policy command, and immediately send what remains of it.

        :param message: Serialized, unless it is a vector.
        """
        now, number = time.monotonic(), info['publication_sequence_number']
        command, stamp_ns, frame_id = self._read(message)
        if frame_id == STOP_FRAME_ID:
            self._carry_out(self.gate.on_stop_asked(now, number))
            return
        age = (self.get_clock().now().nanoseconds - stamp_ns) / 1e9
        self._carry_out(self.gate.on_command(command, age, now, number))

    def on_measured(self, limiter: VectorLimiter, message: JointState) -> None:
        """Note where joints are, which is where a gate of positions begins."""
        stamp_ns = stamp_to_ns(message.header.stamp)
        # A driver that stamps nothing is trusted to send what it measures.
        age = (self.get_clock().now().nanoseconds - stamp_ns) / 1e9 if stamp_ns else 0.0
        limiter.note_measured(read_joints(message, 'position'), age, time.monotonic())

    def on_stop_input(self, message: Bool, info: dict) -> None:
        """Handle the stop input; stop the robot immediately if it says so."""
        self._carry_out(self.gate.on_stop_input(
            message.data, time.monotonic(), info['publication_sequence_number']))

    def on_time_jump(self, jump: TimeJump) -> None:
        """Stop the robot, unless it is the first message of simulated time that has come."""
        delta = jump.delta.nanoseconds
        if self.get_clock().now().nanoseconds != delta:
            self._carry_out(self.gate.on_time_jump(delta / 1e9, time.monotonic()))

    def on_timer(self) -> None:
        """Send a zero if one is due."""
        clock, now = cast(ROSClock, self.get_clock()), time.monotonic()
        self.gate.note_simulated_time(
            clock.now().nanoseconds if clock.ros_time_is_active else None, now)
        self._carry_out(self.gate.on_timer(now))

    def _carry_out(self, verdict: Verdict | None) -> None:
        """Send the verdict's command, then log its message."""
        if verdict is None:
            return
        if verdict.command is not None:
            self.send(verdict.command)
        if verdict.level == Level.ERROR:
            self.get_logger().error(verdict.message)
        elif verdict.level == Level.WARN:
            self.get_logger().warning(verdict.message)

    def send(self, command: AnyCommand) -> None:
        """Publish a command, stamped now: bases drop older commands and future ones (G5)."""
        self._command_pub.publish(
            self._write(command, self.get_clock().now().nanoseconds))

    def on_reset_fault(self, request: Trigger.Request, response: Trigger.Response
                       ) -> Trigger.Response:
        """End a fault, if there is one (G8)."""
        response.success = True
        response.message = ('there was no fault' if self.gate.fault is Fault.NONE else
                            'the fault is reset; the next good policy command drives again')
        self.gate.reset_fault()
        self.get_logger().info(f'~/reset_fault: {response.message}')
        return response

    def publish_diagnostics(self) -> None:
        """Publish the state of the gate, and what happened to the policy commands."""
        level, message = self.gate.health(time.monotonic())
        self.look_for_foreign_types()
        for other in (self._foreign, self._rivals):
            if other:
                message = f'{message}; {other}' if level == Level.ERROR else other
                level = Level.ERROR
        values = {outcome.value: str(self.gate.counts[outcome]) for outcome in Outcome}
        values['fault'] = self.gate.fault.value
        report = DiagnosticArray(status=[
            make_status(self, 'commands', bytes([level]), message, values)])
        report.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_pub.publish(report)

    def look_for_rivals(self) -> None:
        """Count who publishes; log and report a change of those who should not (G11, G12)."""
        policies, stop_inputs = (self.count_publishers(end.topic_name) if end else 0
                                 for end in (self._policy_sub, self._stop_sub))
        self.gate.note_publishers(policies, stop_inputs, time.monotonic())
        found = []
        for end, rest in ((self._command_pub, 'the gate'), (self._policy_sub, 'one')):
            if self.count_publishers(end.topic_name) > 1:
                names = ' and '.join(publishers(self, end.topic_name))
                found.append(f"'{end.topic_name}' is published by {names}: stop all but {rest}")
        rivals = '; '.join(found)
        if rivals != self._rivals:
            self._rivals = rivals
            if rivals:
                self.get_logger().error(rivals)
            self.publish_diagnostics()

    def look_for_foreign_types(self) -> None:
        """Log, once for each change, which nodes use another type of commands (G7)."""
        remedy = 'output.type' if self.has_parameter('output.type') else 'command_type'
        found = '; '.join(filter(None, (
            self.about_foreign_types(self._command_pub.topic_name, self._type.kind, remedy),
            self.about_foreign_types(self._policy_sub.topic_name, self._policy_sub.msg_type,
                                     'the same output for agent and gate'))))
        if found != self._foreign:
            self._foreign = found
            if found:
                self.get_logger().error(found)

    def about_foreign_types(self, topic: str, kind: Any, remedy: str) -> str:
        """Name both types, and the nodes that use the other one; '' if there are none."""
        others = '; '.join(f"{', '.join(nodes)} uses {name}"
                           for name, nodes in foreign_types(self, topic, kind).items())
        return others and (f"'{topic}' has commands of the type {type_name(kind)}, but {others}: "
                           f'they cannot communicate; set {remedy}')

    def stop(self) -> None:
        """Send a stop three times over 0.1 s, and wait a moment for it to arrive (P2)."""
        for i in range(LAST_ZEROS):
            if i:
                time.sleep(LAST_ZEROS_PERIOD)
            if (command := self.gate.last_stop(time.monotonic())) is not None:
                self.send(command)
        self._command_pub.wait_for_all_acked(Duration(seconds=0.2))


def check_horizon(output: OutputSettings, settings: GateSettings) -> None:
    """
    Hold the time in which a trajectory's point is reached against the time between two of them.

    :raises SettingsError: If it is shorter: joints would be faster than ``max_rate``, and wait.
    """
    period = settings.camera_period
    if output.type == 'joint_trajectory' and output.horizon < period:
        raise SettingsError(
            f'output.horizon is {output.horizon:g} s with a camera_period of {period:g} s; set it '
            f'to one or two periods, {period:g} to {2 * period:g} s')


def main(args: list[str] | None = None) -> int:
    """Run the gate until SIGINT or SIGTERM, and stop the robot before it ends."""
    return process.run(GateNode, args, (GateSettings, BaseSettings))
