"""The agent as a slow computer in real time: the images it takes, and when it answers them."""

from itertools import islice
import json
import time
from types import SimpleNamespace

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from stream_agent.driving.compute_model import ComputeModel, EmulatedRollout, timings
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.measurement.durations import Durations
from stream_agent.nodes.agent_node import AgentNode
from stream_agent.nodes.agent_status import agent_status
from stream_agent.nodes.messages import (
    array_to_image, as_callback, stamp_to_ns, WATCH_COMMAND_QOS, WATCH_FRAME_QOS)
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.patterns import sequential_pattern
from test_agent_node import make_node, save  # noqa: F401

PERIOD = 1 / 60
LAYERS = [f'layer{i}' for i in range(6)]
# Layers one behind the other, as in config/graphs/reflex.yaml, and a short path beside them.
GRAPH = graph_from_data({
    'nodes': {'image': {'shape': [1, 48, 64]}, 'glance': {'shape': [8]},
              **{name: {'shape': [8]} for name in LAYERS},
              'command': {'shape': [2], 'activation': 'tanh'}},
    'edges': [*({'source': u, 'target': v} for u, v in zip(['image', *LAYERS], LAYERS)),
              {'source': 'image', 'target': 'glance'}, {'source': 'glance', 'target': 'command'},
              {'source': LAYERS[-1], 'target': 'command'}],
    'output': 'command'})
POLICIES = {
    'two updates': (GRAPH, sequential_pattern(GRAPH), 2),
    'multi-rate': (with_schedule(GRAPH, {name: (4, i % 4) for i, name in enumerate(LAYERS)}),
                   sequential_pattern(GRAPH), 1)}


class SixtyHertz:
    """A camera that knows what it sent, and when what came back was sent."""

    def __init__(self, peer):
        self.peer, self.stamps, self.answers = peer, [], []
        self._publisher = peer.node.create_publisher(Image, 'image', WATCH_FRAME_QOS)
        peer.node.create_subscription(
            TwistStamped, 'policy_command', as_callback(self.on_command), WATCH_COMMAND_QOS)

    @property
    def is_heard(self):
        return self._publisher.get_subscription_count() > 0

    def on_command(self, msg, info):
        if not msg.header.frame_id.startswith('stop'):
            self.answers.append((stamp_to_ns(msg.header.stamp), info['source_timestamp']))

    def send(self, frames):
        """Send frames when they are due; without spinning, which could delay one."""
        self.stamps.clear()
        self.answers.clear()
        start = time.time() + PERIOD
        for number in range(frames):
            while (left := start + number * PERIOD - time.time()) > 0:
                time.sleep(max(0.0, left - 2e-4))
            self.stamps.append(time.time_ns())
            picture = np.random.default_rng(number).integers(0, 256, (48, 64), np.uint8)
            self._publisher.publish(array_to_image(picture, self.stamps[-1], 'camera'))
        self.peer.spin(0.5)


def compare(camera, timeline):
    """
    Return which images were taken, which ones should have been, and how late the answers were [s].

    The last images are left out, as a computer waits for one that never comes.
    """
    numbers = {stamp: number for number, stamp in enumerate(camera.stamps)}
    taken = [(numbers[stamp], sent) for stamp, sent in camera.answers]
    taken = [(number, sent) for number, sent in taken if number < len(numbers) - 5]
    due = np.arange(len(camera.stamps)) * PERIOD * 1e9
    began = np.median(camera.stamps - due)
    expected = [one for one in islice(timeline, len(numbers))
                if taken[0][0] <= one.image < len(numbers) - 5]
    late = [(sent - began) / 1e9 - one.answer for (_, sent), one in zip(taken, expected)]
    return [number for number, _ in taken], [one.image for one in expected], np.abs(late)


@pytest.mark.real_time
@pytest.mark.alone
@pytest.mark.parametrize('name', POLICIES)
def test_an_emulated_agent_takes_and_answers_what_it_would_in_lockstep(
        name, peer, start_node, tmp_path):
    graph, pattern, updates = POLICIES[name]
    path = save(tmp_path / 'policy', graph, pattern, updates)
    (timing,) = timings([EmulatedRollout('', graph, pattern, updates)],
                        ComputeModel('serial', pass_periods=6.4), PERIOD)
    camera = SixtyHertz(peer)
    agent = start_node('agent', backend='eager', checkpoint=path, autostart=True,
                       camera_period=PERIOD, pass_periods=6.4)
    peer.spin_until(lambda: camera.is_heard and 'first response' in agent.output, 30.0)
    assert 'EMULATED COMPUTER: serial device, 6.4 camera periods a pass' in agent.output
    # The agent may discover the camera later than the camera does the agent, and its first
    # diagnostics take longest.
    camera.send(90)
    peer.spin(0.5)
    # Others may keep the cores for some milliseconds; a pause begins a new timeline.
    for _ in range(5):
        camera.send(180)
        taken, expected, late = compare(camera, timing.timeline)
        if taken == expected and np.percentile(late, 99) < 1e-3:
            break
    assert taken == expected
    assert len(taken) >= (12 if updates == 2 else 24)
    assert np.percentile(late, 99) < 1e-3
    assert np.median(late) < 3e-4


@pytest.fixture
def checkpoint(tmp_path):
    return save(tmp_path / 'policy', GRAPH, sequential_pattern(GRAPH))


@pytest.fixture
def refused(peer):
    """Return what an agent that cannot be configured says."""
    made = []

    def refusal(monkeypatch, **parameters):
        made.append(AgentNode(parameter_overrides=[
            Parameter(name, value=value) for name, value in parameters.items()]))
        said = []
        monkeypatch.setattr(made[-1], 'get_logger', lambda: SimpleNamespace(
            error=said.append, warning=said.append, debug=said.append))
        assert made[-1].trigger_configure() == TransitionCallbackReturn.FAILURE
        return said[-1]

    yield refusal
    for node in made:
        node.destroy_node()


def costs_file(tmp_path, nodes):
    path = tmp_path / 'costs.yaml'
    path.write_text(json.dumps({'nodes': nodes}))
    return str(path)


COSTS = {'glance': 0.0, **dict.fromkeys(LAYERS, 0.01), 'command': 0.02}


def test_costs_alone_are_seconds_and_with_a_pass_they_are_scaled(
        make_node, checkpoint, tmp_path):  # noqa: F811
    costs = costs_file(tmp_path, COSTS)
    agent = make_node(checkpoint=checkpoint, camera_period=PERIOD, costs=costs)
    (work,) = agent.emulated.timeline.work
    assert work == pytest.approx((0.08, 0.08))
    assert str(agent.emulated) == f'serial device, costs of {costs}'
    scaled = make_node(checkpoint=checkpoint, camera_period=PERIOD, costs=costs, pass_periods=3.2)
    (work,) = scaled.emulated.timeline.work
    assert work == pytest.approx((3.2 * PERIOD, 3.2 * PERIOD))


def test_costs_of_a_whole_graph_give_a_part_of_it_its_share(
        make_node, checkpoint, tmp_path):  # noqa: F811
    costs = costs_file(tmp_path, COSTS | {'elsewhere': 0.08})
    agent = make_node(checkpoint=checkpoint, camera_period=PERIOD, costs=costs, pass_periods=6.4)
    (work,) = agent.emulated.timeline.work
    assert work == pytest.approx((3.2 * PERIOD, 3.2 * PERIOD))


@pytest.mark.parametrize('change, words', [
    ({'elsewhere': -0.1}, ["the cost of 'elsewhere' is -0.1; write seconds, from 0 to 3600"]),
    ({'glance': -1.0}, ["the cost of 'glance' is -1.0; write seconds, from 0 to 3600"]),
    (dict.fromkeys(COSTS, 0.0), ['all costs are 0', 'leave pass_periods out'])])
def test_costs_that_do_not_fit_are_refused(refused, monkeypatch, checkpoint, tmp_path, change,
                                           words):
    costs = costs_file(tmp_path, COSTS | change)
    said = refused(monkeypatch, checkpoint=checkpoint, costs=costs, pass_periods=6.4)
    assert said.startswith(f'configure: {costs}: ')
    assert all(word in said for word in words)


def test_a_file_of_costs_that_is_not_there_is_named(refused, monkeypatch, checkpoint, tmp_path):
    said = refused(monkeypatch, checkpoint=checkpoint, costs=str(tmp_path / 'none.yaml'))
    assert said.startswith(f"configure: costs '{tmp_path}/none.yaml': no such file; ")


@pytest.mark.parametrize('parameter', ['use_sim_time', 'publish_every_update'])
def test_what_cannot_be_emulated_is_refused_with_the_parameter_to_leave_out(
        refused, monkeypatch, checkpoint, parameter):
    said = refused(monkeypatch, checkpoint=checkpoint, pass_periods=6.4, **{parameter: True})
    assert f'{parameter} is set; leave out' in said and 'pass_periods' in said


def test_diagnostics_say_that_a_computer_is_emulated_and_take_its_rate_for_right(
        make_node, checkpoint, monkeypatch):  # noqa: F811
    agent = make_node(checkpoint=checkpoint, camera_period=PERIOD, pass_periods=6.4)
    monkeypatch.setattr(agent.rate, 'now', lambda: 9.0)
    for _ in range(200):
        agent.stages['respond'].add(0.5)
        agent.emulated.late.add(1e-4)
    status = agent_status(agent)
    name = 'serial device, 6.4 camera periods a pass'
    assert status.level == DiagnosticStatus.OK
    assert status.message == f'emulated computer, {name}: answering 9 frames a second'
    values = {item.key: item.value for item in status.values}
    assert values['emulated computer'] == name
    assert float(values['late p50']) == pytest.approx(1e-4, rel=0.02)
    for _ in range(200):
        agent.emulated.late.add(0.02)
    assert 'ms and more later than on the emulated computer' in agent_status(agent).message
    monkeypatch.setattr(agent.rate, 'now', lambda: 5.0)
    agent.emulated.late = Durations()
    assert '5 frames in the last second' in agent_status(agent).message


def test_an_agent_emulates_nothing_unless_it_is_told_to(make_node, checkpoint):  # noqa: F811
    agent = make_node(checkpoint=checkpoint)
    assert agent.emulated is None
    assert agent.trigger_sub.callback == agent.on_image
    status = agent_status(agent)
    assert 'emulated' not in status.message
    assert not [item for item in status.values if 'emulated' in item.key or 'late' in item.key]
