"""Agents that read more than an image, or none, and command more than a base: over real DDS."""

import signal
import time

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CompressedImage, Image, Imu, JointState, LaserScan
from std_msgs.msg import Float32MultiArray
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, DepthInput, OutputScale, ScanInput, VectorInput)
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.checkpoint import CommandScale, load_policy, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.nodes.agent_node import AgentNode
from stream_agent.nodes.agent_status import agent_status
from stream_agent.nodes.messages import (
    array_to_image, ns_to_stamp, stamp_to_ns, WATCH_COMMAND_QOS, WATCH_FRAME_QOS)
from stream_agent.nodes.process import hand_over, PromptExecutor
from stream_agent.theory.patterns import sequential_pattern
import torch
import yaml

pytestmark = [pytest.mark.real_time, pytest.mark.any_time]

NS = 10**9
LIMITS = CommandScale(1.0, 2.0)
JOINTS = [f'joint_{i}' for i in range(1, 7)]
WHEELS = VectorInput(('twist.twist.linear.x', 'twist.twist.angular.z'), ('m/s', 'rad/s'),
                     (-2.0, -6.0), (2.0, 6.0))
ARM = OutputScale(tuple(JOINTS), ('rad/s',) * 6, (-0.8,) * 6, (0.8,) * 6)
FAR = {'oldest': 30.0}


def inputs(**given):
    """Return the parameters of a contract's inputs, by name and field."""
    return {f'inputs.{name}.{key}': value for name, one in given.items()
            for key, value in one.items()}


BASE = {'output.type': 'twist_stamped', 'output.topic': 'cmd_vel'}
IMAGE = {'type': 'sensor_msgs/msg/Image', 'topic': 'image', 'trigger': True}
ODOMETRY = {'type': 'nav_msgs/msg/Odometry', 'topic': 'odom', 'fields': [*WHEELS.fields],
            'units': ['m/s', 'rad/s'], 'low': [-2.0, -6.0], 'high': [2.0, 6.0]}
SCAN = {'type': 'sensor_msgs/msg/LaserScan', 'topic': 'scan', 'rays': 5, 'angle_min': -1.0,
        'angle_max': 1.0, 'high': [6.0], 'invalid': 6.0}
ARM_OUTPUT = {
    'output.type': 'float64_multi_array', 'output.topic': 'arm/commands', 'output.names': JOINTS,
    'output.quantity': 'velocity', 'output.units': ['rad/s'], 'output.lowest': [-0.8],
    'output.highest': [0.8], 'output.max_rate': [2.0]}
STATES = {'type': 'sensor_msgs/msg/JointState', 'topic': 'joint_states',
          'fields': [f'position.{joint}' for joint in JOINTS], 'units': ['rad'],
          'low': [-3.0], 'high': [3.0]}
POSITIONS = VectorInput(tuple(STATES['fields']), ('rad',) * 6, (-3.0,) * 6, (3.0,) * 6)


def save(path, shapes, preprocessing, others, outputs=2, limits=LIMITS):
    """Save a policy that joins its inputs in a layer; the first one triggers."""
    graph = graph_from_data({
        'nodes': {**{name: {'shape': shape} for name, shape in shapes.items()},
                  'joined': {'shape': [8], 'activation': 'tanh'},
                  'command': {'shape': [outputs], 'activation': 'tanh'}},
        'edges': [*({'source': name, 'target': 'joined'} for name in shapes),
                  {'source': 'joined', 'target': 'command'}],
        'output': 'command'})
    torch.manual_seed(0)
    network = RolloutNetwork(graph, sequential_pattern(graph))
    save_policy(path, Policy(network, preprocessing, limits, 'test', {}, 1, others))
    return str(path)


@pytest.fixture
def seeing(tmp_path):
    """Return a policy of an image and odometry."""
    return save(tmp_path / 'seeing', {'image': [1, 8, 8], 'odometry': [2]},
                Preprocessing((1, 8, 8)), {'odometry': WHEELS})


SEEING = {**inputs(image=IMAGE, odometry=ODOMETRY | FAR), **BASE}


class Robot:
    """The test's ends of an agent's topics, and an agent in this process that is not spun."""

    def __init__(self, peer, make_node):
        self.peer, self._make, self._publishers = peer, make_node, {}

    def start(self, checkpoint, **parameters):
        """Make an agent that is active."""
        self.agent = self._make(AgentNode, checkpoint=checkpoint, backend='eager', device='cpu',
                                max_age=30.0, **{'max_gap': 1000, **parameters})
        assert self.agent.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.agent.trigger_activate() == TransitionCallbackReturn.SUCCESS
        self.commands = self.peer.hear(self.agent.output.kind, 'policy_command')
        self.peer.spin_until(self.agent._command_pub.get_subscription_count)
        self.engine, self.policy = Engine(self.agent.policy.network), self.agent.policy
        return self

    def now(self):
        return self.peer.node.get_clock().now().nanoseconds

    def send(self, msg, topic, stamp_ns=None):
        """Send a message, stamped, to whoever of the agent hears it; return its stamp [ns]."""
        stamp_ns = self.now() if stamp_ns is None else stamp_ns
        if hasattr(msg, 'header'):
            ns_to_stamp(msg.header.stamp, stamp_ns)
        if topic not in self._publishers:
            self._publishers[topic] = self.peer.node.create_publisher(
                type(msg), topic, WATCH_FRAME_QOS)
            self.peer.spin_until(self._publishers[topic].get_subscription_count)
            self.peer.spin_until(lambda: self.agent.count_publishers(topic))
            time.sleep(0.05)
        self._publishers[topic].publish(msg)
        return stamp_ns

    def take(self, count=1, name=None):
        """Let the agent take messages of the trigger, or of another input, that were sent."""
        sub = self.agent.trigger_sub if name is None else next(
            one.sub for one in self.agent.inputs.others if one.name == name)
        end = time.monotonic() + 10.0
        while count:
            count -= hand_over(sub)
            assert time.monotonic() < end, 'the message did not arrive'

    def answered(self, msg, topic, stamp_ns=None):
        """Send what triggers, and return the command message, or None where there is none."""
        before = len(self.commands), self.agent.commands
        stamp_ns = self.send(msg, topic, stamp_ns)
        self.take()
        if self.agent.commands == before[1]:
            return None
        self.peer.spin_until(lambda: len(self.commands) > before[0] and stamp_to_ns(
            self.commands[-1].message.header.stamp) == stamp_ns)
        return self.commands[-1].message

    def expected(self, **values):
        """Return the output for what the agent should have read, by input."""
        shapes = self.policy.network.shapes
        frames = {name: self.policy.conversions[name](value).reshape(shapes[name])
                  for name, value in values.items()}
        return self.engine.step(frames)

    @property
    def dropped(self):
        """Frames without a command by reason, but for those that never came."""
        return {key: count for key, count in self.agent.frame_filter.dropped.items()
                if count and key != 'missed'}


@pytest.fixture
def robot(peer, make_node):
    return Robot(peer, make_node)


def picture(index):
    return np.random.default_rng(index).integers(0, 256, (12, 16), np.uint8)


def image(index=0):
    return array_to_image(picture(index), 0, 'camera')


def odometry(speed, yaw_rate):
    msg = Odometry()
    msg.twist.twist.linear.x, msg.twist.twist.angular.z = speed, yaw_rate
    return msg


def joint_state(positions, names=JOINTS):
    return JointState(name=list(names), position=list(positions))


def is_twist_of(msg, output):
    return (msg.twist.linear.x, msg.twist.angular.z) == pytest.approx(
        LIMITS.command(output), abs=1e-6)


def test_an_image_and_odometry_are_answered_as_by_the_engine(robot, seeing):
    robot.start(seeing, **SEEING)
    for index in range(4):
        speed, yaw_rate = 0.3 * index, -0.5 * index
        robot.send(odometry(speed, yaw_rate), 'odom')
        robot.take(1, 'odometry')
        msg = robot.answered(image(index), 'image')
        assert is_twist_of(msg, robot.expected(image=picture(index),
                                               odometry=np.array([speed, yaw_rate])))
    status = agent_status(robot.agent)
    told = {one.key: one.value for one in status.values}
    assert told['input odometry rate'] == '4' and told['input odometry unreadable'] == '0'
    assert 0 <= float(told['input odometry age']) < 0.5
    assert not robot.dropped


def test_a_process_takes_what_came_while_it_was_busy(robot, seeing):
    """The agent is not spun: what waits on other topics is read when an image is."""
    robot.start(seeing, **SEEING)
    for speed in (0.1, 0.2, 0.9):
        robot.send(odometry(speed, 0.0), 'odom')
    time.sleep(0.1)
    msg = robot.answered(image(), 'image')
    assert is_twist_of(msg, robot.expected(image=picture(0), odometry=np.array([0.9, 0.0])))


def test_a_contract_s_alignment_is_heeded(robot, seeing):
    """Held: of two messages, the one that is not later than the image."""
    robot.start(seeing, **inputs(image=IMAGE, odometry=ODOMETRY | FAR | {'align': 'hold'}), **BASE)
    now = robot.now()
    for speed, stamp_ns in ((0.4, now - NS // 5), (0.8, now)):
        robot.send(odometry(speed, 0.0), 'odom', stamp_ns)
    robot.take(2, 'odometry')
    msg = robot.answered(image(), 'image', now - NS // 10)
    assert is_twist_of(msg, robot.expected(image=picture(0), odometry=np.array([0.4, 0.0])))


def test_a_missing_and_an_old_input_cost_commands_are_counted_and_said_once(
        robot, seeing, capfd, monkeypatch):
    robot.start(seeing, **inputs(image=IMAGE, odometry=ODOMETRY | {'oldest': 0.2}), **BASE)
    monkeypatch.setattr(robot.agent, 'active_since', time.monotonic() - 60)
    for index in range(3):
        assert robot.answered(image(index), 'image') is None
    for _ in range(2):
        status = agent_status(robot.agent)
    assert robot.dropped == {'missing odometry': 3}
    sentence = ("no command, as of the input 'odometry' on '/odom' no message has come; nobody "
                "sends on '/odom'; start what sends '/odom', or set the remapping odom:=TOPIC")
    assert capfd.readouterr().err.count(sentence) == 1
    robot.send(odometry(0.1, 0.0), 'odom')
    robot.take(1, 'odometry')
    assert robot.answered(image(3), 'image') is not None
    agent_status(robot.agent)
    assert 'odometry' not in agent_status(robot.agent).message
    time.sleep(0.25)
    assert robot.answered(image(4), 'image') is None
    status = agent_status(robot.agent)
    assert status.level == DiagnosticStatus.ERROR
    assert "of the input 'odometry' on '/odom' its newest message is 0." in status.message
    assert 's old, and 0.2 s is allowed' in status.message
    assert robot.dropped == {'missing odometry': 3, 'old odometry': 1}
    assert 'and 0.2 s is allowed' in capfd.readouterr().err


def test_frames_without_an_input_age_the_memory_as_missing_frames_do(robot, seeing, monkeypatch):
    robot.start(seeing, camera_period=0.05, max_gap=3,
                **inputs(image=IMAGE, odometry=ODOMETRY | {'oldest': 0.12}), **BASE)
    resets = []
    monkeypatch.setattr(robot.agent.engine, 'reset', lambda: resets.append(1))
    start = robot.now() - 20 * NS

    clock = Clock()
    monkeypatch.setattr(robot.agent, 'get_clock', lambda: clock)

    def see(numbers, with_odometry=False):
        answered = []
        for number in numbers:
            clock.nanoseconds = start + number * NS // 20
            if with_odometry:
                robot.send(odometry(0.1, 0.0), 'odom', clock.nanoseconds)
                robot.take(1, 'odometry')
            answered.append(robot.answered(image(number), 'image', clock.nanoseconds) is not None)
        return answered

    assert see([0], with_odometry=True) == [True]
    # As old as is allowed, and older: three frames, which the memory outlives.
    assert see([1, 2, 3, 4, 5]) == [True, True, False, False, False]
    assert see([6], with_odometry=True) == [True]
    assert not resets
    # Two frames that never came, and two without the input, are more.
    assert see([9, 10]) == [False, False]
    assert not resets
    assert see([11], with_odometry=True) == [True]
    assert len(resets) == 1
    assert robot.dropped == {'old odometry': 5}


class Clock:
    """A clock that a test sets, so that nothing depends on how fast it runs."""

    ros_time_is_active = True

    def now(self):
        return self


def test_a_clock_that_is_set_back_empties_what_was_kept(robot, seeing):
    """As of a simulation that is begun anew."""
    robot.start(seeing, **SEEING)
    robot.send(odometry(0.9, 0.0), 'odom')
    robot.take(1, 'odometry')
    assert robot.answered(image(0), 'image') is not None
    earlier = robot.now() - 35 * NS
    clock = Clock()
    clock.nanoseconds = earlier + NS
    robot.agent.get_clock = lambda: clock
    robot.send(odometry(0.2, 0.0), 'odom', earlier)
    robot.take(1, 'odometry')
    msg = robot.answered(image(1), 'image', earlier + 1)
    robot.engine.reset()
    assert is_twist_of(msg, robot.expected(image=picture(1), odometry=np.array([0.2, 0.0])))
    assert not robot.dropped


def test_senders_whose_clock_is_another_are_told(robot, seeing):
    robot.start(seeing, **SEEING)
    for index in range(32):
        now = robot.now()
        robot.send(odometry(0.1, 0.0), 'odom', now - 3 * NS // 10)
        robot.take(1, 'odometry')
        assert robot.answered(image(index), 'image', now) is not None
    status = agent_status(robot.agent)
    assert status.level == DiagnosticStatus.WARN
    assert ("messages on '/odom' arrive 0.3" in status.message
            and 'and those that trigger 0' in status.message
            and 'or inputs.odometry.stamp to arrival' in status.message)


def scan_of(ranges, **given):
    return LaserScan(angle_min=-1.0, angle_max=1.0, angle_increment=2.0 / (len(ranges) - 1),
                     range_min=0.1, range_max=10.0, ranges=ranges, **given)


@pytest.fixture
def scanning(tmp_path):
    """Return a policy of a scan alone."""
    return save(tmp_path / 'scanning', {'scan': [5]}, ScanInput(5, -1.0, 1.0, 6.0, 6.0), {})


def test_a_scan_alone_makes_the_network_step(robot, scanning):
    robot.start(scanning, **inputs(scan=SCAN | {'trigger': True}, image=IMAGE | {
        'trigger': False}), **BASE)
    for index in range(3):
        ranges = [0.5, 2.0 + index, np.inf, np.nan, 0.05]
        msg = robot.answered(scan_of(ranges, scan_time=0.1), 'scan')
        frame = np.float32([0.5, 2.0 + index, 6.0, 6.0, 6.0]) * np.float32(2 / 6.0) - 1
        assert is_twist_of(msg, robot.engine.step(frame))
    assert robot.answered(LaserScan(), 'scan') is None
    status = agent_status(robot.agent)
    assert '/scan: ranges of the scan is empty' in status.message
    assert robot.dropped == {'unreadable': 1}
    assert robot.answered(scan_of([1.0] * 5), 'scan') is not None


def test_a_rate_that_contradicts_the_period_is_told_with_the_one_to_set(robot, scanning, capfd):
    robot.start(scanning, camera_period=0.05, **inputs(scan=SCAN | {
        'trigger': True, 'rate': 10.0}), **BASE)
    assert ('inputs.scan.rate is 10 Hz, and camera_period 0.05 s; set camera_period to 0.1'
            in capfd.readouterr().err)


def test_nothing_moves_on_scans_that_are_equal(robot, scanning):
    robot.start(scanning, frozen_after=1.0, **inputs(scan=SCAN | {'trigger': True}), **BASE)
    start = robot.now() - 5 * NS
    answers = [robot.answered(scan_of([1.0, 2.0, 3.0, 2.0, 1.0]), 'scan', start + i * NS // 10)
               for i in range(16)]
    stopped = [msg.twist.linear.x == msg.twist.angular.z == 0.0 for msg in answers]
    assert 10 <= stopped.index(True) <= 12 and all(stopped[12:])
    msg = robot.answered(scan_of([1.0, 2.0, 3.0, 2.0, 1.5]), 'scan')
    msg = robot.answered(scan_of([1.0, 2.0, 3.0, 2.0, 1.0]), 'scan')
    assert msg.twist.linear.x != 0.0


@pytest.fixture
def knowing(tmp_path):
    """Return a policy of an image, its own last commands and the age of the image."""
    return save(tmp_path / 'knowing', {'image': [1, 8, 8], 'last': [4], 'age': [1]},
                Preprocessing((1, 8, 8)), {'last': CommandsInput(2, 2), 'age': AgeInput(0.5)})


def test_a_policy_knows_its_last_commands_and_the_age_of_its_image(
        robot, knowing, monkeypatch):
    robot.start(knowing, **inputs(image=IMAGE, last={'type': 'own/commands', 'count': 2},
                                  age={'type': 'own/age', 'high': [0.5]}), **BASE)
    clock, outputs, start = Clock(), [], robot.now()
    monkeypatch.setattr(robot.agent, 'get_clock', lambda: clock)

    def see(index):
        stamp_ns = start + index * NS // 30
        clock.nanoseconds = stamp_ns + (20 + index) * 10**6
        msg = robot.answered(image(index), 'image', stamp_ns)
        outputs.insert(0, robot.expected(
            image=picture(index), last=np.array(outputs).reshape(-1, 2),
            age=0.020 + 0.001 * index))
        assert is_twist_of(msg, outputs[0])

    for index in range(4):
        see(index)
    assert np.abs(outputs[0] - outputs[3]).max() > 1e-3
    # A memory that is reset knows of no commands.
    robot.agent._reset_memory()
    robot.engine.reset()
    outputs.clear()
    see(4)
    assert robot.agent.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert robot.agent.trigger_activate() == TransitionCallbackReturn.SUCCESS
    robot.engine.reset()
    outputs.clear()
    see(5)


def test_a_frozen_picture_s_stop_is_what_was_commanded_last(robot, knowing):
    robot.start(knowing, **inputs(image=IMAGE, last={'type': 'own/commands', 'count': 2},
                                  age={'type': 'own/age', 'high': [0.5]}), **BASE)
    robot.answered(image(), 'image')
    assert np.abs(robot.agent.inputs.commands[0]).max() > 0
    robot.agent.camera.still = 60.0
    msg = robot.answered(image(), 'image')
    assert msg.twist.linear.x == msg.twist.angular.z == 0.0
    np.testing.assert_array_equal(robot.agent.inputs.commands[0], [0, 0])


@pytest.fixture
def arm(tmp_path):
    """Return a policy of six joints' positions that commands their velocities."""
    return save(tmp_path / 'arm', {'joints': [6]}, POSITIONS, {}, 6, ARM)


MOVING = {**inputs(joints=STATES | {'trigger': True}), **ARM_OUTPUT}


def test_an_arm_of_six_joints_is_commanded_by_name(robot, arm):
    robot.start(arm, **MOVING)
    for index in range(3):
        positions = np.random.default_rng(index).uniform(-3, 3, 6)
        # Joints are found by name, among others and in any order.
        order = np.random.default_rng(index).permutation(7)
        names, values = [*JOINTS, 'gripper'], [*positions, 0.1]
        msg = robot.answered(joint_state([values[i] for i in order], [names[i] for i in order]),
                             'joint_states')
        output = robot.expected(joints=positions)
        assert list(msg.name) == JOINTS and not msg.position and not msg.effort
        assert list(msg.velocity) == pytest.approx(ARM.command(output), abs=1e-6)
        assert msg.header.frame_id == ''
    assert robot.agent.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    robot.peer.spin_until(lambda: robot.commands[-1].message.header.frame_id == 'stop')


def test_joints_that_stand_still_are_no_frozen_camera(robot, arm):
    robot.start(arm, frozen_after=0.5, **MOVING)
    start = robot.now() - 5 * NS
    for i in range(12):
        msg = robot.answered(joint_state([0.5] * 6), 'joint_states', start + i * NS // 10)
        assert msg.header.frame_id == '' and any(msg.velocity)


@pytest.mark.parametrize('state, words', [
    (joint_state([0.5] * 5, JOINTS[:5]), "the joint 'joint_6' is not in this JointState"),
    (joint_state([0.5] * 5 + [np.nan]), "position of the joint 'joint_6' is nan"),
    (JointState(name=JOINTS, velocity=[0.0] * 6), 'position of the JointState has 0 values')])
def test_joints_that_are_missing_cost_the_command_and_are_named(robot, arm, state, words):
    robot.start(arm, **MOVING)
    assert robot.answered(state, 'joint_states') is None
    assert robot.dropped == {'unreadable': 1}
    status = agent_status(robot.agent)
    assert status.level == DiagnosticStatus.ERROR and f'/joint_states: {words}' in status.message
    assert robot.answered(joint_state([0.5] * 6), 'joint_states') is not None


GYRO = VectorInput(('angular_velocity.z',), ('rad/s',), (-6.0,), (6.0,))


def test_a_datum_that_a_message_marks_as_absent_is_counted_and_said_with_a_remedy(
        robot, tmp_path):
    path = save(tmp_path / 'turning', {'image': [1, 8, 8], 'imu': [1]},
                Preprocessing((1, 8, 8)), {'imu': GYRO})
    robot.start(path, **inputs(image=IMAGE, imu={
        'type': 'sensor_msgs/msg/Imu', 'topic': 'imu', 'fields': ['angular_velocity.z'],
        'units': ['rad/s'], 'low': [-6.0], 'high': [6.0]} | FAR), **BASE)
    msg = Imu()
    msg.angular_velocity.z = 0.5
    robot.send(msg, 'imu')
    robot.take(1, 'imu')
    absent = Imu()
    absent.angular_velocity_covariance[0] = -1.0
    robot.send(absent, 'imu')
    robot.take(1, 'imu')
    # What came before still counts, until it is too old.
    answer = robot.answered(image(), 'image')
    assert is_twist_of(answer, robot.expected(image=picture(0), imu=np.array([0.5])))
    status = agent_status(robot.agent)
    assert ("the input 'imu' on '/imu': angular_velocity of sensor_msgs/msg/Imu is absent, as the "
            'first of its covariances is -1; leave it out of fields, or') in status.message
    assert {one.key: one.value for one in status.values}['input imu unreadable'] == '1'


def test_a_second_camera_and_depth_are_read_when_the_first_steps(robot, tmp_path):
    depth = DepthInput((1, 4, 4), 0.0, 5.0, 5.0)
    path = save(tmp_path / 'cameras', {'image': [1, 8, 8], 'rear': [3, 8, 8], 'depth': [1, 4, 4]},
                Preprocessing((1, 8, 8)), {'rear': Preprocessing((3, 8, 8)), 'depth': depth})
    robot.start(path, **inputs(image=IMAGE, rear={
        'type': 'sensor_msgs/msg/CompressedImage', 'topic': 'rear/compressed'} | FAR, depth={
        'type': 'sensor_msgs/msg/Image', 'topic': 'depth', 'units': ['m'], 'high': [5.0]} | FAR),
        **BASE)
    colours = np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8)
    png = CompressedImage(format='png')
    png.data.frombytes(cv2.imencode('.png', colours[..., ::-1])[1].tobytes())
    robot.send(png, 'rear/compressed')
    metres = np.random.default_rng(4).uniform(0.5, 4.5, (8, 8)).astype(np.float32)
    msg = Image(height=8, width=8, step=32, encoding='32FC1')
    msg.data.frombytes(metres.tobytes())
    robot.send(msg, 'depth')
    robot.take(1, 'rear')
    robot.take(1, 'depth')
    answer = robot.answered(image(), 'image')
    assert is_twist_of(answer, robot.expected(image=picture(0), rear=colours, depth=metres))
    broken = CompressedImage(format='png')
    broken.data.frombytes(png.data.tobytes()[:60])
    robot.send(broken, 'rear/compressed')
    robot.take(1, 'rear')
    assert robot.answered(image(1), 'image') is None
    status = agent_status(robot.agent)
    assert "the input 'rear' on '/rear/compressed': compressed image of format 'png'" in (
        status.message)
    assert robot.dropped == {'unreadable rear': 1}


GOAL = VectorInput(('data.0', 'data.1'), ('m', 'm'), (-10.0,) * 2, (10.0,) * 2)
GOALS = {'type': 'std_msgs/msg/Float32MultiArray', 'topic': 'goal', 'fields': ['data.0', 'data.1'],
         'units': ['m'], 'low': [-10.0], 'high': [10.0]}


@pytest.fixture
def seeking(tmp_path):
    """Return a policy of an image and a goal."""
    return save(tmp_path / 'seeking', {'image': [1, 8, 8], 'goal': [2]},
                Preprocessing((1, 8, 8)), {'goal': GOAL})


def test_messages_without_a_header_count_from_their_arrival(robot, seeking):
    robot.start(seeking, **inputs(image=IMAGE, goal=GOALS | FAR | {'stamp': 'arrival'}), **BASE)
    robot.send(Float32MultiArray(data=[2.0, -3.0]), 'goal')
    robot.take(1, 'goal')
    msg = robot.answered(image(), 'image')
    assert is_twist_of(msg, robot.expected(image=picture(0), goal=np.array([2.0, -3.0])))


@pytest.fixture
def refused(make_node, capfd):
    """Return what an agent says that cannot be configured."""
    def refusal(checkpoint, **parameters):
        agent = make_node(AgentNode, checkpoint=checkpoint, backend='eager', **parameters)
        assert agent.trigger_configure() == TransitionCallbackReturn.FAILURE
        return capfd.readouterr().err

    return refusal


@pytest.mark.parametrize('goal, words', [
    ({}, 'inputs.goal: std_msgs/msg/Float32MultiArray has no header; write stamp: arrival'),
    ({'type': 'std_msgs/msg/Float32MultyArray', 'stamp': 'arrival'},
     "inputs.goal: there is no message 'std_msgs/msg/Float32MultyArray'; the nearest is "
     'std_msgs/msg/Float32MultiArray'),
    ({'type': 'goal_msgs/msg/Goal', 'stamp': 'arrival'},
     'install it with `sudo apt install ros-${ROS_DISTRO}-goal-msgs`'),
    ({'high': [12.0], 'stamp': 'arrival'},
     "high is [12.0, 12.0] in the robot's contract, and the policy was trained with [10.0, 10.0]")
])
def test_an_input_that_cannot_be_read_is_refused_before_the_robot_moves(
        refused, seeking, goal, words):
    assert words in refused(seeking, **inputs(image=IMAGE, goal=GOALS | goal), **BASE)


def test_an_input_that_the_contract_lacks_is_refused_with_the_line_to_add(refused, seeing):
    said = refused(seeing, **inputs(image=IMAGE), **BASE)
    assert "input 'odometry': the policy reads it, and the robot's contract has image" in said
    assert ('odometry: {type: TYPE, topic: TOPIC, fields: [twist.twist.linear.x, '
            'twist.twist.angular.z], units: [m/s, rad/s], low: [-2') in said


def test_a_contract_whose_trigger_is_another_of_the_policy_s_inputs_is_refused(refused, seeing):
    said = refused(seeing, **inputs(image=IMAGE | {'trigger': False},
                                    odometry=ODOMETRY | {'trigger': True}), **BASE)
    assert ("input 'odometry' is the trigger of the robot's contract, and the policy was trained "
            "to step with 'image'") in said


def test_two_triggers_are_refused(refusal):
    said = refusal(AgentNode, **inputs(image=IMAGE, odometry=ODOMETRY | {'trigger': True}), **BASE)
    assert 'inputs.image and inputs.odometry are both the trigger' in said


def test_a_policy_of_other_actuators_is_refused(refused, arm, seeing):
    said = refused(arm, **inputs(joints=STATES | {'trigger': True}), **BASE)
    assert 'the policy commands joint_1, joint_2' in said and 'takes twist_stamped' in said
    said = refused(seeing, **{**SEEING, **ARM_OUTPUT})
    assert 'the policy commands speed and yaw rate of a base' in said


def test_a_topic_of_another_type_is_refused_with_who_sends_it(refused, seeing, another, peer):
    another('wheels', Imu, 'odom')
    peer.spin_until(lambda: peer.node.count_publishers('odom'))
    assert ("'/wheels' sends sensor_msgs/msg/Imu on '/odom' where nav_msgs/msg/Odometry is read; "
            'set inputs.odometry.type') in refused(seeing, **SEEING)


# No process has a topic of two types.
WHEELS_NODE = """
import rclpy, sensor_msgs.msg
rclpy.init()
node = rclpy.create_node('wheels')
node.create_publisher(sensor_msgs.msg.Imu, 'odom', 10)
rclpy.spin(node)
"""


def test_a_topic_of_another_type_is_said_while_the_input_is_missing(
        robot, seeing, start, monkeypatch):
    robot.start(seeing, **SEEING)
    monkeypatch.setattr(robot.agent, 'active_since', time.monotonic() - 60)
    start('-c', WHEELS_NODE)
    robot.peer.spin_until(lambda: robot.agent.count_publishers('odom'))
    assert robot.answered(image(), 'image') is None
    # Its name may not be known yet.
    assert "sends sensor_msgs/msg/Imu on '/odom' where nav_msgs/msg/Odometry is read" in (
        agent_status(robot.agent).message)


def test_a_policy_of_one_image_needs_no_names_of_the_contract_s(robot, tmp_path):
    """As networks of others, and policies of before, call their input as they like."""
    path = save(tmp_path / 'plain', {'pixels': [1, 8, 8]}, Preprocessing((1, 8, 8)), {})
    robot.start(path, **SEEING)
    msg = robot.answered(image(), 'image')
    assert is_twist_of(msg, robot.expected(pixels=picture(0)))
    assert robot.agent.inputs.alone and not robot.agent.inputs.others


def test_topics_are_remapped_as_any(robot, make_node, seeing):
    robot._make = lambda kind, **parameters: make_node(kind, '-r', 'odom:=wheels/odom',
                                                       **parameters)
    robot.start(seeing, **SEEING)
    robot.send(odometry(0.5, 0.0), 'wheels/odom')
    robot.take(1, 'odometry')
    assert robot.answered(image(), 'image') is not None


def test_an_emulated_computer_takes_its_inputs_when_it_begins(robot, seeing):
    """Of what came between an image and the work on it, the newest."""
    robot.start(seeing, camera_period=0.1, pass_periods=2.5, **SEEING)
    executor = PromptExecutor()
    executor.add_node(robot.agent)
    for topic, msg in (('odom', odometry(0.1, 0.0)), ('image', image(0))):
        robot.send(msg, topic)
        for _ in range(5):
            executor.spin_once(0.01)
    assert robot.agent.commands == 0  # it is being computed
    robot.send(odometry(0.3, 0.0), 'odom')
    robot.send(image(1), 'image')
    end = time.monotonic() + 5.0
    sent = False
    while robot.agent.commands < 2 and time.monotonic() < end:
        executor.spin_once(0.005)
        if not sent and robot.agent.emulated._waiting:
            robot.send(odometry(0.9, 0.0), 'odom')
            sent = True
    executor.remove_node(robot.agent)
    robot.peer.spin_until(lambda: len(robot.commands) == 2)
    for heard, index, speed in zip(robot.commands, (0, 1), (0.1, 0.9)):
        assert is_twist_of(heard.message, robot.expected(
            image=picture(index), odometry=np.array([speed, 0.0])))


def test_a_process_reads_the_contract_from_a_robot_s_file(start_node, peer, arm, tmp_path):
    file = tmp_path / 'arm.yaml'
    file.write_text(yaml.safe_dump({'/**': {'ros__parameters': {
        'camera_period': 0.02, 'inputs': {'joints': STATES | {'trigger': True}},
        'output': {key.partition('.')[2]: value for key, value in ARM_OUTPUT.items()}}}}))
    agent = start_node('agent', '--params-file', str(file), checkpoint=arm, autostart=True,
                       backend='eager', max_age=30.0)
    commands = peer.hear(JointState, 'policy_command', WATCH_COMMAND_QOS)
    publisher = peer.node.create_publisher(JointState, 'joint_states', WATCH_FRAME_QOS)
    engine = Engine(load_policy(arm).network)
    positions = np.linspace(-1, 1, 6)
    end = time.monotonic() + 30.0
    while not commands and time.monotonic() < end:
        msg = joint_state(positions)
        msg.header.stamp = peer.node.get_clock().now().to_msg()
        publisher.publish(msg)
        peer.spin(0.05)
    assert list(commands[0].message.velocity) == pytest.approx(
        ARM.command(engine.step(POSITIONS(positions))), abs=1e-6)
    agent.signal(signal.SIGINT)
    assert agent.wait() == 0
    peer.spin_until(lambda: commands[-1].message.header.frame_id == 'stop')
