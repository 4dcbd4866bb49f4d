"""What bases take: each type over real DDS, as far as its package is there."""

from importlib.util import find_spec
from itertools import pairwise
import math
import signal
from types import SimpleNamespace

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Twist
from hypothesis import given, strategies
import pytest
from stream_agent.command import Command, STOP
from stream_agent.nodes.command_types import ackermann, make_command_type, steering_angle
from stream_agent.nodes.gate_node import GateNode
from stream_agent.nodes.recorder_node import RecorderNode

DRIVE = Command(0.4, 0.5)
WHEEL_BASE = 0.25
MAX_ANGLE = 0.6
installed = find_spec('ackermann_msgs') is not None
SPEEDS = strategies.floats(0.01, 5.0)
RATES = strategies.floats(-6.0, 6.0)


def car_message():
    """Return fields as ackermann_msgs has them; its own are used where it is installed."""
    return SimpleNamespace(
        header=SimpleNamespace(frame_id='', stamp=SimpleNamespace(sec=0, nanosec=0)),
        drive=SimpleNamespace(speed=0.0, steering_angle=0.0))


CAR = make_command_type('ackermann', WHEEL_BASE, MAX_ANGLE) if installed else ackermann(
    car_message, WHEEL_BASE, MAX_ANGLE)


@given(SPEEDS, RATES, strategies.sampled_from([1, -1]))
def test_a_car_is_told_the_same_path(speed, yaw_rate, direction):
    command = Command(direction * speed, yaw_rate)
    msg = CAR.write(command, 3_000_000_001)
    assert (msg.header.frame_id, msg.header.stamp.sec, msg.header.stamp.nanosec) == (
        'base_link', 3, 1)
    # A turn to the left is a positive angle ahead, and a negative one in reverse.
    assert math.copysign(1, msg.drive.steering_angle) == math.copysign(
        1, yaw_rate) * direction or yaw_rate == 0
    wanted = math.atan(WHEEL_BASE * yaw_rate / command.speed)
    assert msg.drive.steering_angle == pytest.approx(
        min(max(wanted, -MAX_ANGLE), MAX_ANGLE), rel=1e-5, abs=1e-7)
    assert msg.drive.speed == pytest.approx(command.speed, rel=1e-6)
    if abs(wanted) < MAX_ANGLE:
        assert CAR.read(msg) == pytest.approx(command, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize('speed, yaw_rate, angle', [
    (0.5, 1.36, 0.5971), (0.5, 1.4, 0.6), (0.5, 6.0, 0.6), (0.5, -6.0, -0.6), (-0.5, 6.0, -0.6),
    (0.002, 2.0, 0.6), (1e-3, -1e-3, -0.2450), (0.5, 0.0, 0.0)])
def test_no_steering_angle_is_greater_than_the_car_s(speed, yaw_rate, angle):
    msg = CAR.write(Command(speed, yaw_rate), 0)
    assert msg.drive.steering_angle == pytest.approx(angle, abs=1e-4)
    assert abs(msg.drive.steering_angle) <= MAX_ANGLE * (1 + 1e-6)


@given(RATES)
def test_a_car_that_stands_steers_straight_on(yaw_rate):
    assert steering_angle(Command(0.0, yaw_rate), WHEEL_BASE) == 0.0


@pytest.mark.parametrize('name', ['twist_stamped', 'twist'])
def test_what_is_written_is_read(name):
    kind = make_command_type(name, WHEEL_BASE, MAX_ANGLE)
    assert kind.read(kind.write(DRIVE, 5)) == DRIVE


@pytest.mark.real_time
def test_a_base_that_takes_twist_is_driven_and_stopped(robot, start_node):
    heard = robot.peer.hear(Twist, 'cmd_vel_unstamped')
    gate = start_node('gate', '-r', 'cmd_vel:=cmd_vel_unstamped', command_type='twist')
    robot.peer.spin_until(lambda: heard and robot._policy.get_subscription_count())
    robot.drive(DRIVE, 0.8)
    told = [Command(one.message.linear.x, one.message.angular.z) for one in heard]
    assert told[0] == STOP and told[-1] == DRIVE
    for before, after in pairwise(told):
        assert abs(after.speed - before.speed) <= 2.5 / 15 + 1e-9
    robot.peer.spin(0.6)
    assert heard[-1].message.linear.x == 0.0
    assert not robot.heard
    assert gate.popen.poll() is None


@pytest.mark.real_time
@pytest.mark.skipif(not installed, reason='ackermann_msgs is not installed')
def test_a_car_is_driven_and_stopped(robot, start_node):
    from ackermann_msgs.msg import AckermannDriveStamped
    heard = robot.peer.hear(AckermannDriveStamped, 'drive')
    start_node('gate', '-r', 'cmd_vel:=drive', command_type='ackermann', max_steering_angle=0.2)
    robot.peer.spin_until(lambda: heard and robot._policy.get_subscription_count())
    robot.drive(Command(0.4, 2.0), 0.8)
    assert heard[-1].message.drive.speed == pytest.approx(0.4)
    assert heard[-1].message.drive.steering_angle == pytest.approx(0.2)
    robot.peer.spin(0.6)
    assert heard[-1].message.drive.speed == heard[-1].message.drive.steering_angle == 0.0


@pytest.mark.real_time
def test_another_type_on_the_topic_is_an_error_that_names_both(robot, start_node, tmp_path):
    gate = start_node('gate')
    robot.ready()
    assert robot.status().level != DiagnosticStatus.ERROR
    stranger = start_node('recorder', command_type='twist', output=str(tmp_path))
    said = ("'/cmd_vel' has commands of the type geometry_msgs/msg/TwistStamped, but /recorder "
            'uses geometry_msgs/msg/Twist: they cannot communicate; set command_type')
    robot.peer.spin_until(lambda: said in gate.output, 20.0)
    status = robot.status()
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, said)
    stranger.signal(signal.SIGINT)
    stranger.wait()
    robot.peer.spin_until(lambda: robot.status().level != DiagnosticStatus.ERROR)
    assert gate.output.count(said) == 1


@pytest.mark.real_time
@pytest.mark.parametrize('kind', [GateNode, RecorderNode])
@pytest.mark.parametrize('name, said', [
    ('joy', "command_type is 'joy'; choices are twist_stamped, twist, ackermann"),
    pytest.param('ackermann', "needs the package 'ackermann_msgs'; install it with",
                 marks=pytest.mark.skipif(installed, reason='ackermann_msgs is installed'))])
@pytest.mark.any_time
def test_a_type_that_there_is_not_is_refused_in_a_sentence(refusal, tmp_path, kind, name, said):
    options = {'output': str(tmp_path)} if kind is RecorderNode else {}
    assert said in refusal(kind, command_type=name, **options)
    assert not list(tmp_path.iterdir())
