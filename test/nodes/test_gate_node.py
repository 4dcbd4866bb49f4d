"""The gate as a real process over real DDS, with policies that drive, lie, hang and die."""

from itertools import pairwise
import math
from pathlib import Path
import random
import re
import signal
import time

from diagnostic_msgs.msg import DiagnosticStatus
import pytest
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from stream_agent.command import Command, STOP
from stream_agent.nodes.gate_node import GateNode
from stream_agent.nodes.messages import stamp_to_ns

pytestmark = pytest.mark.real_time

POLICY_SOURCE = str(Path(__file__).parents[1] / 'support' / 'policy_source.py')
DRIVE = Command(0.4, 0.5)
random.seed(5)


def counts(status: DiagnosticStatus) -> dict[str, str]:
    return {item.key: item.value for item in status.values}


# --- passing on -----------------------------------------------------------------------------

def test_a_reachable_command_passes_stamped_now_and_in_the_future_never(robot, start_node):
    start_node('gate')
    robot.ready()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        robot.policy(DRIVE, age=random.uniform(-0.09, 0.2))  # skewed frames (G5)
    assert robot.commands[-1] == DRIVE
    assert len(robot.heard) > 20
    for heard in robot.heard:
        assert heard.message.header.frame_id == 'base_link'
        assert 0 <= heard.ros_ns - stamp_to_ns(heard.message.header.stamp) < 150_000_000
    for before, after in pairwise(robot.heard):
        assert stamp_to_ns(before.message.header.stamp) < stamp_to_ns(after.message.header.stamp)


def test_no_command_leaves_the_limits(robot, start_node):
    start_node('gate', max_speed=0.3, max_yaw_rate=1.0)
    robot.ready()
    for command in (Command(9.0, -9.0), Command(-9.0, 9.0), Command(1e38, -1e38), STOP):
        robot.drive(command, 0.9)  # from -1 to 1 rad/s takes 0.63 s
        assert robot.commands[-1] == (math.copysign(min(abs(command.speed), 0.3), command.speed),
                                      math.copysign(min(abs(command.yaw_rate), 1.0),
                                                    command.yaw_rate))
    for before, after in pairwise(robot.commands):
        # 2T is the longest time that counts, T = 1/30 s.
        assert abs(after.speed) <= 0.3 and abs(after.speed - before.speed) <= 2.5 / 15 + 1e-9
        assert abs(after.yaw_rate) <= 1.0
        assert abs(after.yaw_rate - before.yaw_rate) <= 3.2 / 15 + 1e-9
    status = counts(robot.status())
    assert int(status['clamped']) > 50
    assert int(status['passed']) >= int(status['clamped'])


def test_a_command_leaves_the_gate_at_once(robot, start_node):
    start_node('gate')
    robot.ready().drive(DRIVE)
    waits = []
    for _ in range(50):
        count, start = len(robot.heard), time.monotonic()
        robot.policy(DRIVE)
        robot.peer.spin_until(lambda: len(robot.heard) > count)
        waits.append(robot.heard[count].at - start)
    # There and back through DDS takes 2 ms; a gate that waited for a timer would take 10 or 20.
    assert sorted(waits)[25] < 0.008


# --- G8: the stop input ---------------------------------------------------------------------

def test_it_drives_only_while_the_stop_input_says_so(robot, start_node):
    start_node('gate', stop_input=True)
    stop_pub = robot.peer.node.create_publisher(Bool, 'stop', 1)

    def drive(stop):
        stop_pub.publish(Bool(data=stop))
        robot.drive(DRIVE, 0.3)

    robot.ready()
    robot.peer.spin_until(stop_pub.get_subscription_count)
    robot.drive(DRIVE)
    assert set(robot.commands) == {STOP}
    for _ in range(3):
        drive(False)
    assert robot.commands[-1] == DRIVE
    start = time.monotonic()
    stop_pub.publish(Bool(data=True))
    assert robot.first_zero(start, 0.1) < 0.05
    drive(True)
    assert robot.commands[-1] == STOP
    assert robot.status().message.startswith('stopped: ')
    for _ in range(3):
        drive(False)
    assert robot.commands[-1] == DRIVE
    # Silence, while the policy goes on.
    start = time.monotonic()
    robot.drive(DRIVE, 1.0)
    assert robot.commands[-1] == STOP
    assert 0.15 < robot.first_zero(start, 0.0) < 0.6


# --- G2: both borders -----------------------------------------------------------------------

def test_ages_swept_across_both_borders(robot, start_node):
    gate = start_node('gate')
    robot.ready()
    # The way through DDS adds some ms to the age, more on a busy machine.
    ages = {'future': (-0.15, -0.5, -10.0, -1e4), 'passed': (-0.095, -0.05, 0.0, 0.1, 0.2),
            'stale': (0.2501, 0.3, 1.0, 1e4, 1e12)}
    for age in sum(ages.values(), ()):
        count = len(robot.heard)
        for _ in range(3):
            robot.policy(DRIVE, age)
        robot.peer.spin(0.05)
        moved = [command for command in robot.commands[count:] if command != STOP]
        assert len(moved) == (3 if age in ages['passed'] else 0), age
    status = counts(robot.status())
    assert {key: status[key] for key in ages} == {
        key: str(3 * len(values)) for key, values in ages.items()}
    assert 'policy command answers a frame 0.25' in gate.output
    assert 'policy command answers a frame 0.1' in gate.output


# --- G1: commands stay away -----------------------------------------------------------------

@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize('release', [False, True])
def test_a_policy_that_dies_or_hangs_at_speed_is_stopped(
        robot, start, start_node, number, release):
    start_node('gate', release_after_stop=release)
    policy = start(POLICY_SOURCE, '0.5', '1.0')
    robot.ready().until_driven()
    robot.peer.spin(0.5)
    policy.signal(number)
    since = time.monotonic()
    waited = robot.first_zero(since, 2.0)
    assert 0.2 < waited < 0.6
    robot.peer.spin(0.9)
    zeros = [heard.at - since - waited for heard in robot.heard if heard.at >= since + waited]
    assert set(robot.commands[-len(zeros):]) == {STOP}
    # Ten a second for two seconds, and then silence or more of them.
    assert 19 <= sum(at < 2.05 for at in zeros) <= 22
    assert sum(at > 2.15 for at in zeros) == 0 if release else sum(at > 2.15 for at in zeros) >= 3
    assert all(after - before < 0.3 for before, after in pairwise(zeros))


def test_frames_that_stop_and_come_back_again_and_again(robot, start_node):
    gate = start_node('gate')
    robot.ready()
    for _ in range(5):
        robot.drive(DRIVE, random.uniform(0.1, 0.4))
        assert robot.commands[-1].speed > 0
        assert robot.first_zero(time.monotonic(), 0.6) < 0.6
    assert counts(robot.status())['timeouts'] == '5'
    assert ('no fresh policy command for 0.25 s, so the robot is stopped: check that camera and '
            'agent run') in gate.output


def test_a_new_gate_stops_a_robot_that_its_predecessor_left_driving(robot, start_node):
    first = start_node('gate')
    robot.ready()
    while robot.commands[-1] != DRIVE:
        robot.policy(DRIVE)
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    robot.peer.spin(0.2)
    assert robot.commands[-1] == DRIVE
    start_node('gate')
    since = time.monotonic()
    robot.peer.spin_until(lambda: robot.commands[-1] == STOP)
    assert robot.heard[-1].at > since


LISTENER = """
import rclpy
from geometry_msgs.msg import TwistStamped
from stream_agent.nodes.messages import WATCH_COMMAND_QOS

rclpy.init()
node = rclpy.create_node('listener')
node.create_subscription(
    TwistStamped, 'cmd_vel', lambda message: print('heard', flush=True), WATCH_COMMAND_QOS)
rclpy.spin(node)
"""


def test_a_listener_that_hangs_does_not_hold_up_the_stop(robot, start, start_node):
    start_node('gate')
    listener = start('-c', LISTENER)
    robot.ready().drive(DRIVE)
    robot.peer.spin_until(lambda: 'heard' in listener.output)
    listener.signal(signal.SIGSTOP)
    robot.drive(DRIVE, 2.0)
    assert robot.commands[-1] == DRIVE
    assert all(after.at - before.at < 0.3 for before, after in pairwise(robot.heard[-80:]))
    assert robot.first_zero(time.monotonic()) < 0.6


# --- G3, G8: faults -------------------------------------------------------------------------

def test_a_command_that_is_no_number_stops_and_three_shut_the_gate(robot, start_node):
    gate = start_node('gate')
    robot.ready().drive(DRIVE)
    count = len(robot.heard)
    for value in (math.nan, math.inf, 1e39):
        robot.policy(Command(0.4, value))
    robot.drive(DRIVE, 1.0)
    assert set(robot.commands[count:]) == {STOP}
    assert len(robot.commands[count:]) >= 10
    assert ('policy command is (0.4, nan); only numbers within float range reach the wheels, so '
            'the robot is stopped: check the policy') in gate.output
    assert '; after 3 in a row, call ~/reset_fault too' in gate.output
    status = robot.status()
    assert (status.name, status.level) == ('gate: commands', DiagnosticStatus.ERROR)
    # A policy that an earlier test has killed may still be seen as a rival.
    assert status.message.partition(';')[0] == (
        'shut by 3 invalid policy commands in a row: check the policy, then call ~/reset_fault')
    assert (counts(status)['invalid'], counts(status)['fault']) == ('3', 'latched')


def test_reset_fault_opens_a_shut_gate(robot, start_node):
    start_node('gate')
    robot.ready()
    for _ in range(3):
        robot.policy(Command(math.nan, 0.0))
    client = robot.peer.node.create_client(Trigger, 'gate/reset_fault')
    robot.peer.spin_until(client.service_is_ready)
    answers = []
    for _ in range(2):
        future = client.call_async(Trigger.Request())
        robot.peer.spin_until(future.done)
        answers.append((future.result().success, future.result().message))
    assert answers == [(True, 'the fault is reset; the next good policy command drives again'),
                       (True, 'there was no fault')]
    robot.drive(DRIVE)
    assert robot.commands[-1] == DRIVE
    assert counts(robot.status())['fault'] == 'none'


# --- P2, P3: the end of the gate ------------------------------------------------------------

def assert_ended_with_three_zeros(robot, count: int) -> None:
    """Hold what came after a signal, from the count-th command on, against P2."""
    last = [heard.at for heard in robot.heard[-3:]]
    assert robot.commands[-3:] == [STOP] * 3
    assert len(robot.commands) - count >= 3
    assert 0.08 < last[2] - last[0] < 0.3


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.timeout(60)
def test_a_signal_at_any_moment_ends_with_three_zeros(robot, start, start_node, number):
    start(POLICY_SOURCE, '0.5', '1.0')
    for _ in range(3):
        gate = start_node('gate')
        robot.heard.clear()
        robot.ready().until_driven()
        robot.peer.spin(random.uniform(0.0, 0.3))
        count, since = len(robot.heard), time.monotonic()
        gate.signal(number)
        robot.peer.spin_until(lambda: gate.popen.poll() is not None, 5.0)
        assert time.monotonic() - since < 2.0
        assert gate.wait() == 0
        robot.peer.spin(0.05)
        assert_ended_with_three_zeros(robot, count)
        assert 'Traceback' not in gate.output


def catches(pid: int, number: int) -> bool:
    """Say whether a process has a handler of its own for a signal."""
    (mask,) = re.findall(r'SigCgt:\t(\w+)', Path(f'/proc/{pid}/status').read_text())
    return bool(int(mask, 16) & 1 << number - 1)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_is_a_clean_end_too(start_node, number):
    for wait in (0.0, 0.15, 0.3, 0.45, 0.6):
        gate = start_node('gate')
        # Before our first line, Python's own way of dying is nobody's to change.
        while not catches(gate.popen.pid, signal.SIGTERM):
            time.sleep(0.002)
        time.sleep(wait)
        since = time.monotonic()
        gate.signal(number)
        code = gate.wait(5.0)
        assert time.monotonic() - since < 2.0
        assert (code, 'Traceback' in gate.output) == (0, False), gate.output


BROKEN = """
import sys
from stream_agent.gate.gate import Outcome
from stream_agent.nodes import process
from stream_agent.nodes.gate_node import GateNode

class Broken(GateNode):
    def {callback}({declared}):
        if self.gate.counts[Outcome.PASSED] > 20:
            raise RuntimeError('planted')
        return super().{callback}({arguments})

sys.exit(process.run(Broken))
"""


@pytest.mark.parametrize('callback, arguments', [
    ('on_policy_command', 'message, info'), ('on_timer', ''), ('look_for_rivals', ''),
    ('publish_diagnostics', '')])
def test_an_exception_in_a_callback_stops_the_robot_and_is_logged_with_its_place(
        robot, start, callback, arguments):
    gate = start('-c', BROKEN.format(
        callback=callback, declared=', '.join(filter(None, ['self', arguments])),
        arguments=arguments))
    robot.ready()
    count = len(robot.heard)
    while gate.popen.poll() is None:
        robot.policy(DRIVE)
    robot.peer.spin(0.05)
    assert gate.wait() == 1
    assert max(robot.commands)[0] > 0.1
    assert_ended_with_three_zeros(robot, count)
    assert 'RuntimeError: planted' in gate.output
    assert f'in {callback}' in gate.output


# --- P5: parameters -------------------------------------------------------------------------

@pytest.mark.parametrize('parameter, sentence', [
    ('max_speed:=25.0', 'max_speed is 25.0; set it to a number from 0 to 20 m/s '
     '(greatest speed passed on, forward and backward)'),
    ('max_speed:=-0.1', 'max_speed is -0.1; set it to a number from 0 to 20 m/s '
     '(greatest speed passed on, forward and backward)'),
    ('max_yaw_rate:=.nan', 'max_yaw_rate is nan; set it to a number from 0 to 20 rad/s '
     '(greatest yaw rate passed on, to the left and to the right)'),
    ('max_speed:=25', 'max_speed is 25.0; set it to a number from 0 to 20 m/s '
     '(greatest speed passed on, forward and backward)'),
    ('max_speed:=[]', 'max_speed is []; set it to a number from 0 to 20 m/s '
     '(greatest speed passed on, forward and backward)'),
    ('release_after_stop:=maybe', "release_after_stop is 'maybe'; set it to true or false"),
    ('command_timeout:=0.05', 'command_timeout is 0.05 s with a camera_period of 0.0333333 s; '
     'set it to at least two periods, 0.0666667 s'),
    ('max_sped:=0.1', "gate: there is no parameter 'max_sped'; the nearest is 'max_speed'")])
@pytest.mark.any_time
def test_a_bad_parameter_is_refused_in_a_sentence(refusal, parameter, sentence):
    assert refusal(GateNode, '-p', parameter) == sentence


@pytest.mark.any_time
def test_an_unknown_key_in_a_file_is_refused_with_the_nearest_one(start, tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_text('/**/gate: {ros__parameters: {max_speed: 0.4, max_yawrate: 1.0}}')
    gate = start('-m', 'stream_agent', 'gate', '--ros-args', '--params-file', str(path))
    assert gate.wait() == 1
    assert gate.output.rstrip().endswith(
        f"]: gate: there is no parameter 'max_yawrate' ({path}:1); the nearest is 'max_yaw_rate'")
    assert 'Traceback' not in gate.output


def test_parameters_change_while_driving_all_together_or_not_at_all(robot, start_node):
    start_node('gate')
    robot.ready()

    def change(**values):
        result = robot.peer.set_parameters('gate', **values)
        return result.successful or result.reason

    # A whole number is one, too.
    assert change(max_speed=1) is True
    assert change(max_speed=0.2, max_yaw_rate=0.1) is True
    robot.drive(DRIVE)
    assert robot.commands[-1] == (0.2, 0.1)
    # The second is wrong, so the first is not taken either.
    assert change(max_speed=0.3, command_timeout=0.05) == (
        'command_timeout is 0.05 s with a camera_period of 0.0333333 s; set it to at least two '
        'periods, 0.0666667 s')
    # Single values outside the descriptor's range are rclpy's to refuse.
    for value in (math.nan, -1.0, 20.1):
        assert change(max_speed=value) == (
            f'Parameter max_speed out of range Min: 0.0, Max: 20.0, value: {value}')
    # The types by name, or by number from rclpy 9 on.
    assert re.fullmatch(r"Wrong parameter type, expected '(Type.DOUBLE|3)' got '(Type.STRING|4)'",
                        change(max_speed='fast'))
    assert change(camera_period=0.1) == 'Trying to set a read-only parameter: camera_period.'
    robot.drive(DRIVE)
    assert robot.commands[-1] == (0.2, 0.1)
