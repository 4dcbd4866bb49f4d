"""Somebody else on the gate's topics, over real DDS: found, named, and stopped (G11, G12)."""

from pathlib import Path
import signal
import time

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
import pytest
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from stream_agent.command import Command, STOP
from stream_agent.nodes.gate_node import GateNode
from stream_agent.nodes.messages import command_to_twist

pytestmark = pytest.mark.real_time

POLICY_SOURCE = str(Path(__file__).parents[1] / 'support' / 'policy_source.py')
DRIVE = Command(0.4, 0.5)
# G11, with what starting to publish may take on a busy machine [s].
SEEN_WITHIN = 1.0
# After which the middleware misses a process that was killed [s].
LEASE = 25.0


def waited_for(robot, gate, sentence) -> float:
    """Drive until the gate says something in its log and in diagnostics; return how long [s]."""
    since = time.monotonic()

    def said() -> bool:
        return sentence in gate.output and bool(robot.diagnostics) and (
            sentence in robot.diagnostics[-1].message.status[0].message)

    while not said() and time.monotonic() - since < 10.0:
        robot.policy(DRIVE)
    assert said(), gate.output
    (status,) = robot.diagnostics[-1].message.status
    assert status.level == DiagnosticStatus.ERROR
    return time.monotonic() - since


def reset(robot) -> None:
    """Reset the gate's fault."""
    robot.peer.call(Trigger, 'gate/reset_fault', Trigger.Request())


def until_clear(robot) -> None:
    """Wait until the gate has no error, and no process that an earlier test killed is seen."""
    robot.peer.spin_until(lambda: robot.status().level != DiagnosticStatus.ERROR, LEASE)


# --- G11: cmd_vel ---------------------------------------------------------------------------

def test_somebody_else_on_cmd_vel_is_named_within_a_second(robot, start_node, another):
    gate = start_node('gate')
    robot.ready().drive(DRIVE)
    until_clear(robot)
    rival = another('teleop', TwistStamped, 'cmd_vel')
    sentence = "'/cmd_vel' is published by /gate and /teleop: stop all but the gate"
    assert waited_for(robot, gate, sentence) < SEEN_WITHIN
    # The gate still does its part.
    robot.drive(DRIVE)
    assert robot.commands[-1] == DRIVE
    assert gate.output.count(sentence) == 1
    rival.destroy()
    until_clear(robot)


def test_two_gates_are_named(robot, start_node):
    gate = start_node('gate')
    robot.ready()
    until_clear(robot)
    second = start_node('gate', '-r', '__ns:=/other', '-r', 'cmd_vel:=/cmd_vel')
    waited_for(robot, gate, "'/cmd_vel' is published by /gate and /other/gate")
    robot.peer.spin_until(
        lambda: "'/cmd_vel' is published by /gate and /other/gate" in second.output)
    second.signal(signal.SIGINT)
    assert second.wait() == 0


# --- G11: policy_command --------------------------------------------------------------------

def test_a_second_publisher_that_sends_nothing_is_named_and_stops_nothing(
        robot, start_node, another):
    gate = start_node('gate')
    robot.ready().drive(DRIVE)
    until_clear(robot)
    another('joystick', TwistStamped, 'policy_command')
    sentence = "'/policy_command' is published by /joystick and /test_peer: stop all but one"
    assert waited_for(robot, gate, sentence) < SEEN_WITHIN
    robot.drive(DRIVE)
    assert robot.commands[-1] == DRIVE


@pytest.mark.parametrize('period', [0.02, 0.4])
def test_commands_of_a_second_source_stop_the_robot_and_shut_the_gate(
        robot, start_node, another, period):
    """What used to happen: the last one won, and the robot went back at 0.8 m/s."""
    gate = start_node('gate')
    robot.ready().drive(DRIVE)
    until_clear(robot)
    rival = another('rival', TwistStamped, 'policy_command')
    robot.peer.spin_until(rival.get_subscription_count)
    robot.drive(DRIVE)
    clock, since, due = robot.peer.node.get_clock(), time.monotonic(), 0.0
    while time.monotonic() - since < 1.2:
        if time.monotonic() >= due:
            rival.publish(command_to_twist(Command(-0.8, 0.0), clock.now().nanoseconds))
            due = time.monotonic() + period
        robot.policy(DRIVE)
    first = next(i for i, heard in enumerate(robot.heard)
                 if heard.at >= since and robot.commands[i] == STOP)
    assert robot.heard[first].at - since < 0.1
    assert set(robot.commands[first:]) == {STOP}
    assert min(command.speed for command in robot.commands) >= 0.0
    assert ('policy commands come from more than one source, so the robot is stopped: stop all '
            'but one, then call ~/reset_fault') in gate.output
    sentence = "'/policy_command' is published by /rival and /test_peer: stop all but one"
    waited_for(robot, gate, sentence)
    assert robot.status().message.startswith('shut as policy commands came from more than one')
    # The rival leaves: nothing moves before somebody says so.
    rival.destroy()
    robot.drive(DRIVE, 0.8)
    assert robot.commands[-1] == STOP
    reset(robot)
    robot.drive(DRIVE)
    assert robot.commands[-1] == DRIVE


def test_a_policy_that_was_killed_and_is_back_is_one_source(robot, start, start_node):
    start_node('gate')
    robot.ready()
    for _ in range(2):
        policy = start(POLICY_SOURCE, '0.5', '1.0')
        robot.until_driven()
        policy.signal(signal.SIGKILL)
        robot.peer.spin(0.6)
        assert robot.commands[-1] == STOP
    values = {item.key: item.value for item in robot.status().values}
    assert (values['fault'], values['contested']) == ('none', '0')


def test_a_baseline_on_a_topic_of_its_own_is_no_rival(robot, start_node, another):
    gate = start_node('gate')
    baseline = another('baseline', TwistStamped, 'baseline/policy_command')
    robot.ready()
    until_clear(robot)
    said = gate.output.count('is published by')
    for _ in range(30):
        baseline.publish(command_to_twist(DRIVE, robot.peer.node.get_clock().now().nanoseconds))
        robot.policy(DRIVE)
    robot.peer.spin(0.6)
    assert gate.output.count('is published by') == said
    assert robot.status().level != DiagnosticStatus.ERROR


@pytest.mark.any_time
def test_looking_for_rivals_costs_next_to_nothing(make_node):
    node = make_node(GateNode)
    node.look_for_rivals()
    start = time.perf_counter()
    for _ in range(200):
        node.look_for_rivals()
    # Four times a second; 15 us here.
    assert (time.perf_counter() - start) / 200 < 1e-3


# --- G12: several stop inputs ---------------------------------------------------------------

class StopInputs:
    """Publishers of the stop input, each of which says something every 0.1 s while it drives."""

    def __init__(self, robot, publishers) -> None:
        self.robot = robot
        self.publishers = publishers
        self.says = dict.fromkeys(publishers, False)

    def drive(self, seconds: float = 0.8) -> Command:
        """Drive; return the last command that was passed on."""
        end, due = time.monotonic() + seconds, 0.0
        while time.monotonic() < end:
            if time.monotonic() >= due:
                due = time.monotonic() + 0.1
                for name, stop in self.says.items():
                    if stop is not None:
                        self.publishers[name].publish(Bool(data=stop))
            self.robot.policy(DRIVE)
        return self.robot.commands[-1]

    def message(self) -> str:
        """Go on until the gate's next diagnostics, and return what they say."""
        count = len(self.robot.diagnostics)
        while len(self.robot.diagnostics) == count:
            self.drive(0.1)
        return self.robot.diagnostics[-1].message.status[0].message


@pytest.fixture
def stop_inputs(robot, start_node, another):
    """Start a gate that two publishers of the stop input let drive."""
    start_node('gate', stop_input=True)
    robot.ready()
    publishers = {name: another(name, Bool, 'stop') for name in ('button', 'bumper')}
    robot.peer.spin_until(lambda: all(
        publisher.get_subscription_count() for publisher in publishers.values()))
    inputs = StopInputs(robot, publishers)
    assert inputs.drive(1.2) == DRIVE
    return inputs


@pytest.mark.parametrize('name', ['button', 'bumper'])
def test_any_stop_input_stops(robot, stop_inputs, name):
    stop_inputs.says[name] = True
    since = time.monotonic()
    assert stop_inputs.drive() == STOP
    assert robot.first_zero(since, 0.0) < 0.1
    assert stop_inputs.message() == 'stopped: the stop input says stop'
    count = len(robot.heard)
    stop_inputs.drive(1.5)
    assert set(robot.commands[count:]) == {STOP}
    stop_inputs.says[name] = False
    stop_inputs.drive()
    assert stop_inputs.drive() == DRIVE


@pytest.mark.parametrize('name', ['button', 'bumper'])
def test_any_stop_input_that_is_silent_stops(robot, stop_inputs, name):
    stop_inputs.says[name] = None
    since = time.monotonic()
    assert stop_inputs.drive(1.2) == STOP
    assert 0.3 < robot.first_zero(since, 0.0) < 0.7
    assert stop_inputs.message() == 'stopped: 1 of 2 publishers of the stop input are silent'
    stop_inputs.says[name] = False
    stop_inputs.drive()
    assert stop_inputs.drive() == DRIVE


def test_a_stop_input_that_has_left_is_missed_until_a_reset(robot, stop_inputs):
    stop_inputs.says['bumper'] = None
    stop_inputs.publishers['bumper'].destroy()
    assert stop_inputs.drive(1.5) == STOP
    reset(robot)
    assert stop_inputs.drive(1.0) == DRIVE


def test_a_stop_input_that_joins_and_never_speaks_stops(robot, stop_inputs, another):
    another('scanner', Bool, 'stop')
    assert stop_inputs.drive(1.5) == STOP
    assert stop_inputs.message() == 'stopped: 1 of 3 publishers of the stop input are silent'
