"""The agent's rules, held by an agent in this process that is called frame by frame."""

from itertools import pairwise

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from stream_agent.command import Command
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.nodes.agent_status import agent_status
from stream_agent.nodes.messages import array_to_image, read_policy_command, why_no_messages
from stream_agent.theory.information import frames_unanswered
from stream_agent.theory.patterns import read_newest_image, sequential_pattern, streaming_pattern
from support.graphs import EVERY_LAYER
from test_agent_node import LIMITS, make_node, picture, save, SLOW  # noqa: F401

pytestmark = [pytest.mark.real_time, pytest.mark.any_time]

PERIOD_NS = round(1e9 / 30)


class Sent:
    """Shows frames to an agent at stamps of a camera, and keeps its commands."""

    def __init__(self, agent, monkeypatch):
        self.agent, self.commands = agent, []
        self._start_ns = agent.get_clock().now().nanoseconds
        publish = agent._command_pub.publish
        monkeypatch.setattr(agent._command_pub, 'publish', lambda data: (
            self.commands.append(read_policy_command(data)), publish(data)))
        monkeypatch.setattr(agent, 'get_clock', lambda: self)

    def now(self):
        return self

    @property
    def nanoseconds(self):
        return self.stamp_ns

    def show(self, pixels, frame):
        """Show pixels as the frame of that number, at its time."""
        self.stamp_ns = self._start_ns + frame * PERIOD_NS
        msg = array_to_image(pixels, self.stamp_ns, 'camera')
        self.agent.on_image(serialize_message(msg), {})


@pytest.fixture
def sent(make_node, checkpoint, monkeypatch):  # noqa: F811
    return Sent(make_node(checkpoint=checkpoint), monkeypatch)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Write a policy with memory."""
    path = tmp_path_factory.mktemp('policy') / 'streaming.safetensors'
    return save(path, EVERY_LAYER, read_newest_image(EVERY_LAYER, streaming_pattern(EVERY_LAYER)))


def expected(agent, indices):
    """Return what an engine of its own commands at frames of these numbers."""
    engine = Engine(agent.policy.network)
    return [LIMITS.command(engine.step(agent.policy.preprocessing(picture(index))))
            for index in indices]


def test_shuffled_frames_leave_the_memory_of_the_sorted_ones(sent):
    """F3: late and repeated frames leave no trace in the state."""
    order = [0, 2, 1, 2, 3, 3, 5, 4, 6, 5, 7, 8]
    for index in order:
        sent.show(picture(index), index)
    kept = sorted({*order} - {1, 4})
    for (command, _, _), wanted in zip(sent.commands, expected(sent.agent, kept), strict=True):
        assert command == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize('missing, resets', [(2, False), (3, False), (4, True), (60, True)])
def test_a_gap_keeps_the_memory_and_a_long_one_starts_anew(sent, missing, resets):
    """F4, by the commands: after a reset they are those of a new sequence."""
    before, after = list(range(8)), list(range(8, 12))
    for index in before:
        sent.show(picture(index), index)
    for index in after:
        sent.show(picture(index), index + missing)
    wanted = expected(sent.agent, after) if resets else expected(sent.agent, before + after)[8:]
    for (command, _, _), one in zip(sent.commands[8:], wanted, strict=True):
        assert command == pytest.approx(one, abs=1e-6)


def chain(length):
    """Return a graph of so many layers between image and command."""
    names = ['image', *(f'layer{i}' for i in range(length)), 'command']
    return graph_from_data({
        'nodes': {'image': {'shape': [1, 8, 8]}, **{name: {'shape': [2]} for name in names[1:]}},
        'edges': [{'source': one, 'target': next_} for one, next_ in pairwise(names)],
        'output': 'command'})


@pytest.mark.parametrize('graph, pattern', [
    (chain(0), sequential_pattern), (chain(1), streaming_pattern), (chain(3), streaming_pattern),
    (EVERY_LAYER, streaming_pattern), (SLOW, streaming_pattern)])
def test_the_first_command_is_the_first_that_an_image_reaches(
        make_node, tmp_path, monkeypatch, graph, pattern):  # noqa: F811
    """F5: as many frames go unanswered as the theory says, after the start and after a reset."""
    path = save(tmp_path / 'policy', graph, pattern(graph))
    sent = Sent(make_node(checkpoint=path), monkeypatch)
    pixels = np.zeros((12, 16), np.uint8)
    unanswered = frames_unanswered(graph, pattern(graph))
    for start in (0, 100):
        count = len(sent.commands)
        for index in range(8):
            pixels[0, 0] = index
            sent.show(pixels, start + index)
        assert len(sent.commands) - count == 8 - unanswered


@pytest.mark.parametrize('other', [picture(3).repeat(2, 0), np.stack([picture(3)] * 3, 2)])
def test_another_size_or_encoding_starts_a_new_sequence(sent, other):
    """F8: it is converted, and nothing that was seen before is mixed with it."""
    for index in range(5):
        sent.show(picture(index), index)
    sent.show(other, 5)
    engine = Engine(sent.agent.policy.network)
    wanted = LIMITS.command(engine.step(sent.agent.policy.preprocessing(other)))
    assert sent.commands[-1][0] == pytest.approx(wanted, abs=1e-6)
    assert len(sent.commands) == 6


def test_a_camera_clock_that_runs_behind_is_told(sent):
    """T2, by the diagnostics."""
    for index in range(40):
        sent.stamp_ns = sent._start_ns + index * PERIOD_NS
        msg = array_to_image(picture(index), sent.stamp_ns - 150_000_000, 'camera')
        sent.agent.on_image(serialize_message(msg), {})
    status = agent_status(sent.agent)
    assert status.level == DiagnosticStatus.WARN
    assert 'frames arrive 0.15 s after their stamp' in status.message


def test_answers_that_take_most_of_a_period_are_told(sent):
    """M3."""
    for index in range(102):
        sent.agent.stages['respond'].add(0.9 / 30)
    assert 'one answer in a hundred takes 30 ms and more of the 33.3 ms' in (
        agent_status(sent.agent).message)


def test_the_cpu_stands_in_for_a_device_that_is_missing_where_that_is_allowed(
        make_node, checkpoint, capfd):  # noqa: F811
    """M4."""
    agent = make_node(checkpoint=checkpoint, device='cuda:7', allow_cpu_fallback=True)
    assert str(agent.engine.device) == 'cpu'
    assert "device 'cuda:7' is not available" in capfd.readouterr().err


def test_nothing_moves_on_an_equal_picture(sent):
    """F10: after two seconds of equal pictures at speed, only zeros are commanded."""
    for index in range(100):
        sent.show(picture(1), index)
    stopped = [command == Command(0.0, 0.0) for command, _, _ in sent.commands]
    assert len(stopped) == 100
    assert 58 <= stopped.index(True) <= 64 and all(stopped[64:])


@pytest.mark.parametrize('kind, reliability, words', [
    (None, None, "nobody sends on '/image'; start the camera driver"),
    (Image, 'BEST_EFFORT', "'/test_peer' and this node do not agree on the QoS of '/image'"),
    (Image, 'RELIABLE', "'/test_peer' is there for '/image' and sends nothing")])
def test_what_keeps_images_from_coming_is_named(peer, kind, reliability, words):
    """F11, for one who asks for reliable images."""
    subscription = peer.node.create_subscription(Image, 'image', print, 1)
    if kind:
        profile = QoSProfile(depth=1, reliability=ReliabilityPolicy[reliability])
        peer.node.create_publisher(kind, 'image', profile)
        peer.spin_until(lambda: peer.node.get_publishers_info_by_topic('/image'))
    told = why_no_messages(peer.node, subscription)
    assert words in told
    if 'QoS' in words:
        assert 'BEST_EFFORT' in told and 'RELIABLE' in told
