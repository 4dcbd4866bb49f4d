"""Any actuators behind a real gate, over real DDS: their messages, their stops, their faults."""

from itertools import pairwise
import math
from pathlib import Path
import signal
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Twist
import pytest
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray
from std_srvs.srv import Trigger
from stream_agent.command import Command
from stream_agent.contract.settings import OutputSettings
from stream_agent.gate.settings import BaseSettings
from stream_agent.nodes.command_types import command_type_of
from stream_agent.nodes.gate_node import GateNode
from stream_agent.nodes.messages import COMMAND_QOS, ns_to_stamp, stamp_to_ns, STOP_FRAME_ID
from support.wheels import PERIOD, Robot
from trajectory_msgs.msg import JointTrajectory

POLICY_SOURCE = str(Path(__file__).parents[1] / 'support' / 'policy_source.py')
NAMES = ('base', 'elbow', 'wrist')
UNITS = {'velocity': 'rad/s', 'effort': 'N m', 'position': 'rad'}
KINDS = {'float64_multi_array': Float64MultiArray, 'joint_state': JointState,
         'joint_trajectory': JointTrajectory}
# What a controller of each kind takes (ros2_control's forward and trajectory controllers).
TAKEN = [(kind, quantity) for kind in KINDS for quantity in UNITS
         if (kind, quantity) != ('joint_trajectory', 'effort')]
DRIVE = {'wrist': 0.3, 'base': -0.2, 'elbow': 0.1}
ZERO = dict.fromkeys(NAMES, 0.0)


def output_of(kind, quantity, **others):
    """Return the output of a contract whose elements go from -1 to 1, and change by 2 a second."""
    return OutputSettings(**{
        'type': kind, 'topic': 'arm/commands', 'names': NAMES, 'quantity': quantity,
        'units': (UNITS[quantity],), 'lowest': (-1.0,), 'highest': (1.0,), 'max_rate': (2.0,),
        **others})


def parameters_of(output):
    """Return the parameters that say it."""
    found = {f'output.{name}': list(value) if isinstance(value, tuple) else value
             for name, value in vars(output).items()}
    return {name: value for name, value in found.items() if value != []}


class Arm:
    """Both ends of the gate: a policy, and a controller that remembers what it was told."""

    def __init__(self, peer, output, start_node, **parameters):
        self.peer, self.output = peer, output
        self.type = command_type_of(output, BaseSettings())
        self.heard = peer.hear(self.type.kind, output.topic)
        self._diagnostics = peer.hear(DiagnosticArray, '/diagnostics')
        self._clock = peer.node.get_clock()
        self._policy = peer.node.create_publisher(JointState, 'policy_command', COMMAND_QOS)
        self._measured = peer.node.create_publisher(JointState, 'joint_states', 10)
        self.gate = start_node('gate', **parameters_of(output), **parameters)
        peer.spin_until(lambda: self._policy.get_subscription_count() and (
            output.stop == 'zero' or self._measured.get_subscription_count()))

    @property
    def commands(self):
        return [self.type.read(heard.message) for heard in self.heard]

    def joints(self, values, age=0.0, frame_id='', quantity=None):
        msg = JointState(name=list(values))
        msg.header.frame_id = frame_id
        ns_to_stamp(msg.header.stamp, self._clock.now().nanoseconds - round(age * 1e9))
        setattr(msg, quantity or self.output.quantity, list(values.values()))
        return msg

    def policy(self, values, age=0.0, frame_id=''):
        """Send a policy command that answers a frame of some age [s], and spin a little."""
        self._policy.publish(self.joints(values, age, frame_id))
        self.peer.spin(PERIOD)

    def drive(self, values, seconds=0.5):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.policy(values)

    def measure(self, values, age=0.0):
        self._measured.publish(self.joints(values, age, quantity='position'))
        self.peer.spin(PERIOD)

    def begin(self):
        """Let it be known where the arm is, and wait for the first command, which is a stop."""
        end = time.monotonic() + 10.0
        while not self.heard and time.monotonic() < end:
            self.measure(ZERO)
        assert self.commands[0] == ZERO
        return self

    def status(self):
        count = len(self._diagnostics)
        self.peer.spin_until(lambda: len(self._diagnostics) > count)
        return self._diagnostics[-1].message.status[0]


@pytest.mark.real_time
@pytest.mark.parametrize('kind, quantity', TAKEN)
def test_an_arm_is_driven_and_stopped(peer, start_node, kind, quantity):
    arm = Arm(peer, output_of(kind, quantity), start_node).begin()
    arm.drive(DRIVE)
    assert arm.commands[-1] == DRIVE
    for before, after in pairwise(arm.commands):
        assert all(abs(after[name] - before[name]) <= 2.0 / 15 + 1e-9 for name in NAMES)
    check_fields(arm, quantity)
    # Silence: zero at once, or stay.
    count, since = len(arm.heard), time.monotonic()
    peer.spin(1.0)
    stop = DRIVE if quantity == 'position' else ZERO
    found = arm.heard[count:]
    assert 0.15 < found[0].at - since < 0.6
    assert [arm.type.read(heard.message) for heard in found] == [stop] * len(found)
    assert len(found) >= 5
    # The end: three times.
    arm.drive(DRIVE, 0.3)
    count = len(arm.heard)
    arm.gate.signal(signal.SIGINT)
    peer.spin_until(lambda: arm.gate.popen.poll() is not None)
    peer.spin(0.05)
    assert (arm.gate.wait(), 'Traceback' in arm.gate.output) == (0, False), arm.gate.output
    assert len(arm.heard) - count >= 3
    last = arm.heard[-3:]
    assert [arm.type.read(heard.message) for heard in last] == [
        arm.commands[count - 1] if quantity == 'position' else ZERO] * 3
    assert 0.08 < last[2].at - last[0].at < 0.3


def check_fields(arm, quantity):
    """Hold the messages against what controllers do with their fields."""
    for heard in arm.heard:
        message = heard.message
        if arm.output.type == 'float64_multi_array':
            assert (len(message.layout.dim), len(message.data)) == (0, 3)
        elif arm.output.type == 'joint_state':
            assert message.name == list(NAMES)
            assert [field for field in UNITS if len(getattr(message, field))] == [quantity]
            assert 0 <= heard.ros_ns - stamp_to_ns(message.header.stamp) < 150_000_000
        else:
            # 0 is now; any other stamp of a frame is refused once its point has passed.
            assert stamp_to_ns(message.header.stamp) == 0
            assert message.joint_names == list(NAMES)
            (point,) = message.points
            assert stamp_to_ns(point.time_from_start) == 50_000_000
            assert [len(one) for one in (point.positions, point.velocities, point.accelerations,
                                         point.effort)] == [
                3 * (quantity == 'position'), 3 * (quantity == 'velocity'), 0, 0]


@pytest.mark.real_time
def test_names_decide_and_never_places(peer, start_node):
    arm = Arm(peer, output_of('float64_multi_array', 'velocity'), start_node).begin()
    arm.drive(DRIVE)
    assert list(arm.heard[-1].message.data) == [-0.2, 0.1, 0.3]
    count = len(arm.heard)
    for values in ({'base': 0.1, 'elbow': 0.1}, {**DRIVE, 'wrist': math.nan},
                   {**DRIVE, 'gripper': 0.1}):
        arm.policy(values)
    arm.drive(DRIVE, 0.5)
    assert {tuple(values.values()) for values in arm.commands[count:]} == {(0.0, 0.0, 0.0)}
    assert 'policy command has no number for wrist, so the robot is stopped' in arm.gate.output
    assert "policy command is for 'gripper' too" in arm.gate.output
    status = arm.status()
    assert (status.level, {item.key: item.value for item in status.values}['fault']) == (
        DiagnosticStatus.ERROR, 'latched')
    peer.call(Trigger, 'gate/reset_fault', Trigger.Request())
    arm.drive(DRIVE)
    assert arm.commands[-1] == DRIVE


@pytest.mark.real_time
def test_positions_begin_where_the_arm_is(peer, start_node):
    arm = Arm(peer, output_of('float64_multi_array', 'position'), start_node)
    arm.drive(DRIVE, 0.5)
    assert not arm.heard
    reason = ("no position of 'base' was measured within 0.5 s: check that 'joint_states' has it "
              'as a number, stamped by this clock')
    assert f'nothing is sent: {reason}' in arm.gate.output
    assert arm.status().message == f'stopped: {reason}'
    # One driver knows of two joints, and stamps are old or the number is none.
    for _ in range(5):
        arm.measure({'wrist': 0.5, 'base': -0.4})
        arm.measure({'elbow': 0.2}, age=2.0)
        arm.measure({'elbow': math.nan})
        arm.policy(DRIVE)
    assert not arm.heard
    while not arm.heard:
        arm.measure({'elbow': 0.2})
        arm.measure({'wrist': 0.5, 'base': -0.4})
    assert arm.commands[0] == {'base': -0.4, 'elbow': 0.2, 'wrist': 0.5}
    arm.drive(DRIVE)
    for before, after in pairwise(arm.commands):
        assert all(abs(after[name] - before[name]) <= 2.0 / 15 + 1e-9 for name in NAMES)
    assert arm.commands[-1] == DRIVE


@pytest.mark.real_time
@pytest.mark.parametrize('quantity', ['velocity', 'position'])
def test_a_stop_that_is_asked_for_and_one_by_the_stop_input(peer, start_node, quantity):
    stop_pub = peer.node.create_publisher(Bool, 'stop', 1)
    arm = Arm(peer, output_of('joint_state', quantity), start_node, stop_input=True).begin()
    peer.spin_until(stop_pub.get_subscription_count)

    def drive(values):
        for _ in range(3):
            stop_pub.publish(Bool(data=False))
            arm.drive(values, 0.25)

    drive(DRIVE)
    assert arm.commands[-1] == DRIVE
    count = len(arm.heard)
    arm.policy({}, frame_id=STOP_FRAME_ID)
    stop_pub.publish(Bool(data=False))
    peer.spin(0.4)
    found = arm.commands[count:]
    if quantity == 'position':
        assert found == [DRIVE] * len(found)
    else:
        # 0.3 by 2.0 a second, all elements in their proportion.
        assert found[-1] == ZERO and len([one for one in found if one != ZERO]) >= 4
        assert all(one['wrist'] == pytest.approx(-1.5 * one['base']) for one in found)
    drive(DRIVE)
    count = len(arm.heard)
    stop_pub.publish(Bool(data=True))
    arm.drive({name: -value for name, value in DRIVE.items()}, 0.3)
    stop = DRIVE if quantity == 'position' else ZERO
    assert arm.commands[count:] == [stop] * (len(arm.heard) - count) != []


@pytest.mark.real_time
def test_another_type_of_policy_commands_is_an_error_that_names_both(peer, start, start_node):
    arm = Arm(peer, output_of('float64_multi_array', 'velocity'), start_node).begin()
    start(POLICY_SOURCE, '0.5', '1.0')
    said = ("'/policy_command' has commands of the type sensor_msgs/msg/JointState, but "
            '/policy_source uses geometry_msgs/msg/TwistStamped: they cannot communicate; set the '
            'same output for agent and gate')
    peer.spin_until(lambda: said in arm.gate.output, 20.0)
    status = arm.status()
    assert status.level == DiagnosticStatus.ERROR and said in status.message


@pytest.mark.real_time
def test_a_car_that_takes_its_steering_angle_in_a_twist(peer, start_node):
    heard = peer.hear(Twist, 'car/steering')
    robot = Robot(peer)
    start_node('gate', **{'output.type': 'twist_steering', 'output.topic': 'car/steering',
                          'wheel_base': 0.25, 'max_steering_angle': 0.3})
    peer.spin_until(lambda: heard and robot._policy.get_subscription_count())
    robot.drive(Command(0.4, 0.2), 0.6)
    message = heard[-1].message
    assert (message.linear.x, message.angular.z) == (0.4, pytest.approx(
        math.atan(0.25 * 0.2 / 0.4)))
    robot.drive(Command(0.4, 2.0), 0.8)
    assert heard[-1].message.angular.z == 0.3
    peer.spin(0.6)
    assert (heard[-1].message.linear.x, heard[-1].message.angular.z) == (0.0, 0.0)
    assert not robot.heard


@pytest.mark.parametrize('others, sentence', [
    ({'horizon': 0.01}, 'output.horizon is 0.01 s with a camera_period of 0.0333333 s; set it to '
     'one or two periods, 0.0333333 to 0.0666667 s'),
    ({'max_rate': (0.0,)}, 'output.max_rate is [0.0]; each is greater than 0, as nothing would '
     'move otherwise'),
    ({'lowest': (0.1,), 'quantity': 'velocity'}, "output.lowest is 0.1 of 'base' and highest 1, "
     'but a stop is velocity 0; let them include 0'),
    ({'lowest': (0.1, 0.2)}, 'output.lowest has 2 values for 3 names; write one for each, or one '
     'for all')])
def test_what_would_not_be_safe_is_refused_in_a_sentence(refusal, others, sentence):
    usual = parameters_of(output_of('joint_trajectory', 'position'))
    changed = {f'output.{name}': list(value) if isinstance(value, tuple) else value
               for name, value in others.items()}
    assert refusal(GateNode, **{**usual, **changed}).endswith(sentence)


def test_two_names_for_what_obeys_are_refused(refusal):
    said = refusal(GateNode, command_type='twist', **{'output.type': 'twist_stamped'})
    assert said.startswith('command_type is twist, but ') and 'twist_stamped' in said
    assert said.endswith('; leave command_type out')
