"""Agents that read more than an image, or none, and command more than a base: over real DDS."""

from functools import partial
import time

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
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
from stream_agent.nodes.process import hand_over
from stream_agent.theory.patterns import sequential_pattern
import torch

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
                                max_age=30.0, **parameters)
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
        self.peer.spin_until(lambda: len(self.commands) > before[0])
        answer = self.commands[-1].message
        assert stamp_to_ns(answer.header.stamp) == stamp_ns
        return answer

    def expected(self, **values):
        """Return the output for what the agent should have read, by input."""
        shapes = self.policy.network.shapes
        frames = {name: self.policy.conversions[name](value).reshape(shapes[name])
                  for name, value in values.items()}
        return self.engine.step(frames)

    @property
    def dropped(self):
        return {key: count for key, count in self.agent.frame_filter.dropped.items() if count}


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
    robot.start(seeing, camera_period=0.05,
                **inputs(image=IMAGE, odometry=ODOMETRY | {'oldest': 0.12}), **BASE)
    resets = []
    monkeypatch.setattr(robot.agent.engine, 'reset', lambda: resets.append(1))
    start = robot.now() - 20 * NS

    def see(numbers, odometry_at=None):
        if odometry_at is not None:
            robot.send(odometry(0.1, 0.0), 'odom', start + odometry_at * NS // 20)
            robot.take(1, 'odometry')
        return [robot.answered(image(number), 'image', start + number * NS // 20) is not None
                for number in numbers]

    monkeypatch.setattr(robot.agent, 'get_clock', lambda: Frozen(start))
    assert see([0], odometry_at=0) == [True]
    # As old as is allowed, and older: three frames, which the memory outlives.
    assert see([1, 2, 3, 4, 5]) == [True, True, False, False, False]
    assert see([6], odometry_at=6) == [True]
    assert not resets
    # Two frames that never came, and two without the input, are more.
    assert see([9, 10]) == [False, False]
    assert not resets
    assert see([11], odometry_at=11) == [True]
    assert len(resets) == 1
    assert robot.dropped == {'old odometry': 5, 'missed': 2}


class Frozen:
    """A clock that stands still, so that a test says what is old."""

    def __init__(self, nanoseconds):
        self.nanoseconds = nanoseconds

    def now(self):
        return self

    ros_time_is_active = True
