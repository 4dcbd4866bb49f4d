"""The agent as a process on real DDS, with frames of every kind."""

import os
from pathlib import Path
import re
import signal
import sys
import time
from types import SimpleNamespace

import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from stream_agent.command import STOP
from stream_agent.engine.backends import usable
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.images import stamp_of_serialized
from stream_agent.network.checkpoint import CommandScale, load_policy, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.nodes import agent_node
from stream_agent.nodes.agent_node import AgentNode
from stream_agent.nodes.messages import (
    array_to_image, ns_to_stamp, stamp_to_ns, twist_to_command, WATCH_FRAME_QOS)
from stream_agent.theory.patterns import read_newest_image, sequential_pattern, streaming_pattern
from support.graphs import EVERY_LAYER
from support.jobs import is_running, wait_for
import torch

pytestmark = pytest.mark.real_time

LIMITS = CommandScale(1.0, 2.0)
# A deep node that takes long to settle, and a short path that does not wait for it.
SLOW = graph_from_data({
    'nodes': {'image': {'shape': [1, 8, 8]}, 'wide': {'shape': [7000]},
              'deep': {'shape': [7000]}, 'command': {'shape': [2], 'activation': 'tanh'}},
    'edges': [{'source': 'image', 'target': 'wide'}, {'source': 'wide', 'target': 'deep'},
              {'source': 'deep', 'target': 'command'}, {'source': 'image', 'target': 'command'}],
    'output': 'command'})


def save(path, graph, pattern, updates_per_frame=1):
    torch.manual_seed(0)
    network = RolloutNetwork(graph, pattern)
    shape = network.shapes[network.input]
    save_policy(path, Policy(network, Preprocessing(shape), LIMITS, 'test', {},
                             updates_per_frame))
    return str(path)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('policy') / 'streaming.safetensors'
    return save(path, EVERY_LAYER, read_newest_image(EVERY_LAYER, streaming_pattern(EVERY_LAYER)))


def picture(index):
    """Return the pixels of the frame of that index."""
    return np.random.default_rng(index).integers(0, 256, (12, 16), np.uint8)


class Camera:
    """Publishes frames as soon as the agent listens, and waits for the answers."""

    def __init__(self, peer):
        self.peer = peer
        self.commands = peer.hear(TwistStamped, 'policy_command')
        self.publisher = peer.node.create_publisher(Image, 'image', WATCH_FRAME_QOS)

    def wait_for_agent(self):
        # It spins, and so answers, only once autostart is over.
        state = self.peer.call(GetState, 'agent/get_state', GetState.Request())
        assert state.current_state.label == 'active'
        self.peer.spin_until(self.publisher.get_subscription_count)

    def now(self):
        return self.peer.node.get_clock().now().nanoseconds

    def show(self, index, stamp_ns=None):
        """Publish a frame and return its stamp."""
        stamp_ns = self.now() if stamp_ns is None else stamp_ns
        self.publisher.publish(array_to_image(picture(index), stamp_ns, 'camera'))
        return stamp_ns

    def show_and_wait(self, index):
        count = len(self.commands)
        stamp_ns = self.show(index)
        self.peer.spin_until(lambda: len(self.commands) > count)
        assert stamp_to_ns(self.commands[-1].message.header.stamp) == stamp_ns
        return twist_to_command(self.commands[-1].message)

    def settle_down(self):
        """Let whatever is still under way arrive."""
        self.peer.spin(0.3)


@pytest.fixture
def camera(peer):
    return Camera(peer)


def change_state(peer, transition, node='agent'):
    client = peer.node.create_client(ChangeState, f'{node}/change_state')
    peer.spin_until(client.service_is_ready, 20.0)
    future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
    peer.spin_until(future.done, 20.0)
    peer.node.destroy_client(client)
    return future.result().success


@pytest.mark.any_time
def test_commands_are_the_engine_s_and_carry_their_frames_stamps(start_node, camera, checkpoint):
    start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True, max_gap=1000,
               max_age=30.0, device='cpu')
    camera.wait_for_agent()
    policy = load_policy(checkpoint)
    engine = Engine(policy.network)
    for index in range(8):
        command = camera.show_and_wait(index)
        output = engine.step(policy.preprocessing(picture(index)))
        assert command == pytest.approx(LIMITS.command(output), abs=1e-6)


@pytest.mark.parametrize('backend, precision, tolerance', [
    ('auto', 'float32', 1e-5), ('packed', 'bfloat16', 5e-2), ('onnxruntime', 'float32', 1e-5)])
@pytest.mark.any_time
def test_other_backends_command_the_same(start_node, camera, peer, checkpoint, backend,
                                         precision, tolerance):
    heard = peer.hear(DiagnosticArray, '/diagnostics')
    start_node('agent', checkpoint=checkpoint, autostart=True, max_gap=1000, max_age=30.0,
               backend=backend, precision=precision, device='cpu')
    camera.wait_for_agent()
    policy = load_policy(checkpoint)
    engine = Engine(policy.network)
    for index in range(4):
        command = camera.show_and_wait(index)
        output = engine.step(policy.preprocessing(picture(index)))
        assert command == pytest.approx(LIMITS.command(output), abs=tolerance)
    peer.spin_until(lambda: heard)
    values = {value.key: value.value for value in heard[-1].message.status[0].values}
    name, _, threads = values['backend'].partition(', ')
    assert name in (usable('cpu', precision) if backend == 'auto' else [backend])
    assert threads in ('1 threads', f'{os.cpu_count()} threads')


def test_exactly_one_command_per_accepted_frame_among_faulty_ones(
        start_node, camera, peer, checkpoint):
    agent = start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True)
    camera.wait_for_agent()
    camera.show_and_wait(0)
    generator = np.random.default_rng(5)
    accepted, last = [], stamp_to_ns(camera.commands[-1].message.header.stamp)
    for index in range(500):
        kind = generator.choice(['good', 'duplicate', 'older', 'stale', 'future', 'unreadable'],
                                p=[.5, .1, .1, .1, .1, .1])
        stamp = {'duplicate': last, 'older': last - 10**6, 'stale': camera.now() - 10**9,
                 'future': camera.now() + 10**9}.get(kind)
        if kind == 'unreadable':
            msg = array_to_image(picture(0), camera.now(), 'camera')
            msg.encoding = '16UC1'
            camera.publisher.publish(msg)
        else:
            stamp = camera.show(index, stamp)
        if kind == 'good':
            accepted.append(stamp)
            last = stamp
        # Frames are never queued, so give each the time to be taken.
        peer.spin(0.01)
    camera.settle_down()
    answered = [stamp_to_ns(heard.message.header.stamp) for heard in camera.commands[1:]]
    assert answered == accepted
    assert agent.output.count("image encoding is '16UC1', which is depth") == 1


@pytest.mark.any_time
def test_no_command_unless_active_and_a_stop_first(start_node, camera, peer, checkpoint):
    start_node('agent', backend='eager', checkpoint=checkpoint, max_age=30.0, max_gap=1000)
    peer.spin_until(lambda: camera.publisher.get_subscription_count() == 0)
    assert change_state(peer, Transition.TRANSITION_CONFIGURE)
    peer.spin_until(lambda: camera.publisher.get_subscription_count())
    for index in range(5):
        camera.show(index)
        peer.spin(0.02)
    assert not camera.commands
    assert change_state(peer, Transition.TRANSITION_ACTIVATE)
    first = [camera.show_and_wait(index) for index in range(5)]
    before = len(camera.commands)
    assert change_state(peer, Transition.TRANSITION_DEACTIVATE)
    camera.settle_down()
    assert [twist_to_command(heard.message) for heard in camera.commands[before:]] == [STOP]
    camera.show(9)
    camera.settle_down()
    assert len(camera.commands) == before + 1
    # The same frames give the same commands again: nothing is remembered.
    assert change_state(peer, Transition.TRANSITION_ACTIVATE)
    assert [camera.show_and_wait(index) for index in range(5)] == first
    assert change_state(peer, Transition.TRANSITION_DEACTIVATE)
    assert change_state(peer, Transition.TRANSITION_CLEANUP)
    assert change_state(peer, Transition.TRANSITION_CONFIGURE)
    assert change_state(peer, Transition.TRANSITION_ACTIVATE)
    peer.spin_until(lambda: camera.publisher.get_subscription_count())
    assert [camera.show_and_wait(index) for index in range(5)] == first


def test_the_answer_does_not_wait_for_what_only_later_frames_need(
        start_node, camera, peer, tmp_path):
    checkpoint = save(tmp_path / 'slow', SLOW, read_newest_image(SLOW, streaming_pattern(SLOW)))
    agent = start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True)
    camera.wait_for_agent()
    for index in range(10):
        camera.show_and_wait(index)
        peer.spin(0.1)
    agent.signal(signal.SIGINT)
    assert agent.wait() == 0
    medians = {line.split()[0]: float(line.split()[2]) for line in agent.output.splitlines()
               if line.startswith(('respond ', 'settle '))}
    assert medians['respond'] < 0.2 * medians['settle']
    latencies = [heard.ros_ns - stamp_to_ns(heard.message.header.stamp)
                 for heard in camera.commands]
    assert np.median(latencies) / 1e6 < medians['settle']


def test_the_newest_frame_wins_and_latency_does_not_grow(start_node, camera, peer, tmp_path):
    """A network of several camera periods: answers stay young, the rest is dropped, counted."""
    checkpoint = save(tmp_path / 'slow', SLOW, sequential_pattern(SLOW))
    period = 0.005
    agent = start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True,
                       max_gap=1000, camera_period=period)
    camera.wait_for_agent()
    shown = []
    for index in range(300):
        shown.append(camera.show(index))
        peer.spin(period)
    camera.settle_down()
    latencies = [heard.ros_ns - stamp_to_ns(heard.message.header.stamp)
                 for heard in camera.commands]
    assert 10 < len(latencies) < 250
    third = len(latencies) // 3
    assert np.median(latencies[-third:]) < 2 * np.median(latencies[:third])
    agent.signal(signal.SIGINT)
    assert agent.wait() == 0
    answered = [shown.index(stamp_to_ns(heard.message.header.stamp))
                for heard in camera.commands]
    missed = answered[-1] - answered[0] + 1 - len(answered)
    assert missed > 20
    (counted,) = re.findall(r"'missed': (\d+)", agent.output)
    # The camera of this test keeps no exact time, so stamps suggest some more.
    assert missed <= int(counted) < 1.2 * missed


def test_no_command_before_the_output_depends_on_an_image(start_node, camera, tmp_path):
    """All edges stream: two frames go unanswered after the start, as the theory says."""
    graph = graph_from_data({
        'nodes': {'image': {'shape': [1, 8, 8]}, 'hidden': {'shape': [8]},
                  'command': {'shape': [2]}},
        'edges': [{'source': 'image', 'target': 'hidden'},
                  {'source': 'hidden', 'target': 'command'}],
        'output': 'command'})
    checkpoint = save(tmp_path / 'late', graph, streaming_pattern(graph))
    start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True)
    camera.wait_for_agent()
    stamps = []
    for index in range(6):
        stamps.append(camera.show(index))
        camera.peer.spin(0.05)
    camera.settle_down()
    assert [stamp_to_ns(heard.message.header.stamp)
            for heard in camera.commands] == stamps[2:]


def test_compressed_frames(start_node, peer, checkpoint):
    start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True,
               image_transport='compressed')
    commands = peer.hear(TwistStamped, 'policy_command')
    publisher = peer.node.create_publisher(CompressedImage, 'image/compressed', WATCH_FRAME_QOS)
    # It answers once autostart is over; frames that wait for that get too old.
    peer.call(GetState, 'agent/get_state', GetState.Request())
    peer.spin_until(publisher.get_subscription_count, 20.0)
    data = cv2.imencode('.jpg', picture(0))[1].tobytes()
    for sent in (data[:20], data):
        msg = CompressedImage(format='jpeg', data=sent)
        ns_to_stamp(msg.header.stamp, peer.node.get_clock().now().nanoseconds)
        publisher.publish(msg)
        peer.spin(0.1)
    peer.spin_until(lambda: len(commands) == 1)
    assert commands[0].message.header.stamp == msg.header.stamp


@pytest.mark.parametrize('trained, asked', [(1, 3), (3, 0)])
def test_every_update_answers_where_that_is_asked_for(
        start_node, camera, tmp_path, trained, asked):
    checkpoint = save(tmp_path / 'held', EVERY_LAYER, sequential_pattern(EVERY_LAYER), trained)
    start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True,
               updates_per_frame=asked, publish_every_update=True)
    camera.wait_for_agent()
    stamp = camera.show(0)
    camera.peer.spin_until(lambda: len(camera.commands) == 3)
    camera.settle_down()
    assert [stamp_to_ns(heard.message.header.stamp) for heard in camera.commands] == [stamp] * 3


@pytest.fixture
def make_node(peer):
    """Make agents in this process, configured and active; callers call them directly."""
    nodes = []

    def make(**parameters):
        nodes.append(AgentNode(parameter_overrides=[
            Parameter(name, value=value)
            for name, value in {'backend': 'eager', 'device': 'cpu', **parameters}.items()]))
        assert nodes[-1].trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert nodes[-1].trigger_activate() == TransitionCallbackReturn.SUCCESS
        return nodes[-1]

    yield make
    for node in nodes:
        node.trigger_shutdown()
        node.destroy_node()


def message(node, index=0):
    return serialize_message(
        array_to_image(picture(index), node.get_clock().now().nanoseconds, 'camera'))


class SlowEngine:
    """Takes 1, 2, 4, ... seconds for one half of a step after the other, by a clock of its own."""

    def __init__(self):
        self.called, self.seconds = [], 0.0

    def work(self, called):
        self.seconds += 2.0 ** len(self.called)
        self.called.append(called)
        return np.zeros(2, np.float32)

    def respond(self, frame):
        return self.work('respond')

    def settle(self):
        self.work('settle')


@pytest.mark.parametrize('every_update', [False, True])
@pytest.mark.any_time
def test_each_update_is_published_before_it_is_settled_and_each_stage_is_its_own(
        make_node, monkeypatch, tmp_path, every_update):
    path = save(tmp_path / 'held', EVERY_LAYER, sequential_pattern(EVERY_LAYER), 2)
    agent, engine = make_node(checkpoint=path, publish_every_update=every_update), SlowEngine()
    agent.engine = engine
    monkeypatch.setattr(agent, 'publish_command', lambda *_: engine.work('publish'))
    monkeypatch.setattr(agent_node.time, 'perf_counter', lambda: engine.seconds)
    agent.on_image(message(agent), {})
    called = ['respond', *['publish'] * every_update, 'settle', 'respond', 'publish', 'settle']
    assert engine.called == called
    for stage in ('respond', 'publish', 'settle'):
        seconds = [2.0 ** i for i, name in enumerate(called) if name == stage]
        durations = agent.stages[stage]
        assert durations.count == len(seconds)
        assert (durations.total, durations.longest) == (sum(seconds), max(seconds))


@pytest.mark.any_time
def test_an_image_passes_nine_files_besides_those_of_the_backend(make_node, checkpoint):
    agent, passed = make_node(checkpoint=checkpoint), set()
    agent.engine._backend = SimpleNamespace(
        respond=lambda _: np.zeros((1, 2), np.float32), settle=lambda: None)
    package = Path(agent_node.__file__).parents[1]

    def see(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == 'call' and package in path.parents:
            passed.add(str(path.relative_to(package)))

    msg = message(agent)
    sys.setprofile(see)
    try:
        agent.on_image(msg, {})
    finally:
        sys.setprofile(None)
    assert agent.commands == 1
    assert passed == {
        'nodes/agent_node.py', 'nodes/messages.py', 'engine/frame_filter.py', 'images.py',
        'network/preprocessing.py', 'engine/engine.py', 'network/checkpoint.py',
        'measurement/durations.py', 'engine/torch_globals.py'}


@pytest.mark.parametrize('every_update, answers', [(False, [1, 1]), (True, [1, 2])])
@pytest.mark.any_time
def test_updates_before_the_first_response_count_as_updates_and_not_as_frames(
        start_node, camera, tmp_path, every_update, answers):
    # An image reaches the command in the update after that in which it is read.
    checkpoint = save(tmp_path / 'held', EVERY_LAYER, streaming_pattern(EVERY_LAYER), 2)
    start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True,
               publish_every_update=every_update, max_age=30.0, max_gap=1000)
    camera.wait_for_agent()
    for index, number in enumerate(answers):
        before = len(camera.commands)
        camera.show(index)
        camera.peer.spin_until(lambda: len(camera.commands) == before + number)
    camera.settle_down()
    assert len(camera.commands) == sum(answers)


def test_diagnostics_tell_rates_durations_and_drops(start_node, camera, peer, checkpoint):
    start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True,
               camera_period=0.02)
    heard = peer.hear(DiagnosticArray, '/diagnostics')
    camera.wait_for_agent()

    def film(done):
        end = time.monotonic() + 10.0
        while not done():
            assert time.monotonic() < end
            camera.show(1, camera.show(1))
            peer.spin(0.02)

    def said():
        return {value.key: value.value for value in heard[-1].message.status[0].values}

    film(lambda: len(camera.commands) == 10)
    # Of which one second at least is full in the agent's eyes.
    peer.spin(2.05)
    film(lambda: float(said()['rate now']) > 25)
    status, values = heard[-1].message.status[0], said()
    assert status.name == 'agent: frames'
    assert values['pattern'] == 'test'
    assert values['first response frame'] == '0'
    assert values['inference factor'] == '1'
    assert int(values['commands']) == int(values['accepted frames']) > 35
    assert int(values['dropped duplicate']) > 0
    rates = [float(values[f'rate {name}']) for name in ('worst second', 'mean', 'now')]
    assert rates[0] == 0 and 5 < rates[1] < rates[2] < 60
    for stage in ('arrival', 'convert', 'respond', 'publish', 'settle'):
        seconds = [float(values[f'{stage} {name}']) for name in ('p50', 'p90', 'p99', 'p99.9')]
        assert 0 < seconds[0] <= seconds[1] <= seconds[2] <= seconds[3] < 1


RANKS = {'ranks': 2, 'partition': 'equal', 'backend': 'eager', 'device': 'cpu',
         'autostart': True, 'max_gap': 1000, 'max_age': 30.0}


def workers_of(agent):
    """Return the processes that an agent has started."""
    pid = agent.popen.pid
    return [int(word) for word in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


@pytest.mark.any_time
def test_two_ranks_command_what_one_process_does_and_leave_together(
        start_node, camera, peer, checkpoint):
    heard = peer.hear(DiagnosticArray, '/diagnostics')
    agent = start_node('agent', checkpoint=checkpoint, **RANKS)
    camera.wait_for_agent()
    policy = load_policy(checkpoint)
    engine = Engine(policy.network)
    expected = [LIMITS.command(engine.step(policy.preprocessing(picture(index))))
                for index in range(8)]
    assert [camera.show_and_wait(index) for index in range(8)] == expected
    assert len(set(expected)) == 8
    peer.spin_until(lambda: heard)
    assert KeyValue(key='ranks', value='2') in heard[-1].message.status[0].values
    # Neither of them remembers, and all come back.
    (worker,) = workers_of(agent)
    assert change_state(peer, Transition.TRANSITION_DEACTIVATE)
    assert change_state(peer, Transition.TRANSITION_ACTIVATE)
    assert workers_of(agent) == [worker]
    assert camera.show_and_wait(0) == expected[0]
    assert change_state(peer, Transition.TRANSITION_DEACTIVATE)
    assert change_state(peer, Transition.TRANSITION_CLEANUP)
    assert not is_running(worker)
    assert change_state(peer, Transition.TRANSITION_CONFIGURE)
    assert change_state(peer, Transition.TRANSITION_ACTIVATE)
    peer.spin_until(camera.publisher.get_subscription_count)
    assert [camera.show_and_wait(index) for index in range(8)] == expected
    (worker,) = workers_of(agent)
    agent.signal(signal.SIGINT)
    assert agent.wait() == 0
    assert not is_running(worker) and 'rank 1:' not in agent.output


@pytest.mark.parametrize('number, how', [
    (signal.SIGKILL, 'and is gone'), (signal.SIGSTOP, 'within 5 s')])
def test_an_agent_stops_the_robot_and_ends_when_a_rank_dies_or_hangs(
        start_node, camera, checkpoint, number, how):
    agent = start_node('agent', checkpoint=checkpoint, **RANKS)
    camera.wait_for_agent()
    camera.show_and_wait(0)
    (worker,) = workers_of(agent)
    os.kill(worker, number)
    # At the latest when it does not take the third frame.
    for index in range(1, 4):
        camera.show(index)
        camera.peer.spin(0.1)
    camera.peer.spin_until(lambda: twist_to_command(camera.commands[-1].message) == STOP)
    assert agent.wait() == 1
    assert re.search(f'RankError: rank 1 did not .* {how}; see what its process printed',
                     agent.output)
    assert not is_running(worker)


@pytest.mark.any_time
def test_the_other_ranks_end_when_the_agent_is_killed(start_node, camera, checkpoint):
    agent = start_node('agent', checkpoint=checkpoint, **RANKS)
    camera.wait_for_agent()
    (worker,) = workers_of(agent)
    agent.signal(signal.SIGKILL)
    agent.wait()
    wait_for(lambda: not is_running(worker))
    assert re.search('rank 1: rank 0 did not send an order and is gone', agent.output)


@pytest.mark.any_time
def test_one_process_computes_what_cannot_be_spread(start_node, camera, tmp_path):
    path = save(tmp_path / 'sequential', EVERY_LAYER, sequential_pattern(EVERY_LAYER))
    agent = start_node('agent', checkpoint=path, **{**RANKS, 'partition': 'measured'})
    camera.wait_for_agent()
    camera.show_and_wait(0)
    assert not workers_of(agent)
    assert ('one process computes the network: 1 of 2 ranks has no work: edges with R = 0 join '
            'all nodes') in agent.output


def failing(monkeypatch, failures):
    """Let the next steps of any engine fail."""
    respond = Engine.respond

    def fail(self, frame):
        if failures:
            failures.pop()
            raise RuntimeError('device is out of memory')
        return respond(self, frame)

    monkeypatch.setattr(Engine, 'respond', fail)


@pytest.mark.any_time
@pytest.mark.parametrize('failures, backend', [(1, 'packed'), (2, 'eager')])
def test_a_step_that_fails_costs_its_frame_and_then_the_backend(
        make_node, checkpoint, monkeypatch, failures, backend):
    agent = make_node(checkpoint=checkpoint, backend='packed')
    failing(monkeypatch, [1] * failures)
    for index in range(failures + 3):
        agent.on_image(message(agent, index), {})
    assert (agent.commands, agent.engine.backend_name) == (3, backend)
    assert not agent.finished


@pytest.mark.any_time
def test_the_third_step_in_a_row_that_fails_ends_the_agent_and_names_the_frame(
        make_node, checkpoint, monkeypatch, capfd):
    agent = make_node(checkpoint=checkpoint)
    failing(monkeypatch, [1] * 3)
    for index in range(3):
        assert not agent.finished
        msg = message(agent, index)
        agent.on_image(msg, {})
    assert agent.finished and agent.exit_code == 1 and agent.commands == 0
    stamp = stamp_of_serialized(msg) / 1e9
    assert f'no command for the frame of {stamp:.3f} s, as its step failed: device is out of' in (
        capfd.readouterr().err)


def status_of(heard):
    return heard[-1].message.status[0]


def film_until(camera, peer, done, show, seconds=15.0):
    """Show frames at 30 Hz until something is true."""
    end, index = time.monotonic() + seconds, 0
    while not done():
        assert time.monotonic() < end
        show(index)
        index += 1
        peer.spin(1 / 30)


@pytest.mark.any_time
def test_a_frozen_camera_stops_the_robot_and_is_told(start_node, camera, peer, checkpoint):
    start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True, frozen_after=1.0)
    heard = peer.hear(DiagnosticArray, '/diagnostics')
    camera.wait_for_agent()
    film_until(camera, peer, lambda: len(camera.commands) > 5, camera.show)
    assert twist_to_command(camera.commands[-1].message) != STOP
    film_until(camera, peer, lambda: heard and 'has not changed' in status_of(heard).message,
               lambda _: camera.show(5))
    assert twist_to_command(camera.commands[-1].message) == STOP
    assert status_of(heard).level == DiagnosticStatus.WARN
    film_until(camera, peer,
               lambda: twist_to_command(camera.commands[-1].message) != STOP, camera.show)


@pytest.mark.any_time
def test_a_camera_that_is_missing_or_silent_is_told(start_node, camera, peer, checkpoint):
    agent = start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True)
    heard = peer.hear(DiagnosticArray, '/diagnostics')
    camera.wait_for_agent()
    peer.spin_until(lambda: heard and 'no image for' in status_of(heard).message, 12.0)
    assert status_of(heard).level == DiagnosticStatus.ERROR
    assert "'/test_peer' is there for '/image' and sends nothing" in status_of(heard).message
    peer.spin_until(lambda: "'/test_peer' is there" in agent.output)
    film_until(camera, peer, lambda: heard and status_of(heard).level == DiagnosticStatus.OK,
               camera.show)


def test_the_death_of_the_gate_is_said_within_a_second(
        start_node, camera, peer, checkpoint, tmp_path):
    agent = start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True)
    gate = start_node('gate')
    recorder = start_node('recorder', policies=['agent=policy_command'], output=str(tmp_path))
    heard = peer.hear(DiagnosticArray, '/diagnostics')
    camera.wait_for_agent()
    peer.spin_until(lambda: camera.publisher.get_subscription_count() and any(
        one.message.status[0].name == 'gate: commands' for one in heard))
    film_until(camera, peer, lambda: len(camera.commands) > 30, camera.show)
    assert 'nobody guards' not in agent.output
    heard.clear()
    gate.signal(signal.SIGKILL)
    killed = time.monotonic()
    film_until(camera, peer, lambda: any('nobody guards' in one.message.status[0].message
                                         for one in heard), camera.show)
    assert time.monotonic() - killed < 1.0
    for process in (agent, recorder):
        film_until(camera, peer, lambda: 'nobody guards the robot' in process.output,
                   camera.show)
    assert time.monotonic() - killed < 1.5


@pytest.mark.parametrize('rate', [60, 10])
def test_a_camera_of_another_rate_is_told_and_keeps_its_memory(
        start_node, camera, peer, checkpoint, rate):
    agent = start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True)
    heard = peer.hear(DiagnosticArray, '/diagnostics')
    camera.wait_for_agent()
    end, index = time.monotonic() + 15.0, 0
    while not (heard and 'frames a second, the policy is set to 30' in status_of(heard).message):
        assert time.monotonic() < end
        camera.show(index)
        index += 1
        peer.spin(1 / rate)
    told = re.search(r'sends ([\d.]+) frames', status_of(heard).message)
    assert float(told[1]) == pytest.approx(rate, rel=0.25)
    assert 'memory reset' not in agent.output


@pytest.mark.any_time
def test_two_cameras_are_told_and_neither_is_stepped(start_node, camera, peer, checkpoint):
    agent = start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True)
    heard = peer.hear(DiagnosticArray, '/diagnostics')
    camera.wait_for_agent()
    film_until(camera, peer, lambda: len(camera.commands) > 5, camera.show)
    other = peer.node.create_publisher(Image, 'image', WATCH_FRAME_QOS)
    peer.spin_until(other.get_subscription_count)

    def show_both(index):
        camera.show(index)
        peer.spin(0.01)
        other.publish(array_to_image(picture(index), camera.now(), 'camera'))

    film_until(camera, peer, lambda: heard and 'two cameras' in status_of(heard).message,
               show_both)
    # What was answered before may still be on its way.
    peer.spin(0.3)
    count = len(camera.commands)
    for index in range(20):
        show_both(index)
        peer.spin(0.02)
    assert len(camera.commands) == count
    assert status_of(heard).level == DiagnosticStatus.ERROR
    assert agent.output.count('two cameras') == 1


@pytest.mark.any_time
def test_an_impossible_transition_is_answered_and_a_shutdown_is_for_good(
        start_node, camera, peer, checkpoint):
    agent = start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True)
    camera.wait_for_agent()
    assert change_state(peer, Transition.TRANSITION_CONFIGURE) is False
    assert change_state(peer, Transition.TRANSITION_ACTIVE_SHUTDOWN) is True
    heard = peer.hear(DiagnosticArray, '/diagnostics')
    peer.spin(1.5)
    assert not heard
    agent.signal(signal.SIGINT)
    assert agent.wait() == 0
    assert 'Traceback' not in agent.output


@pytest.mark.parametrize('cycles', [5, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.timeout(600)
def test_an_agent_lives_many_lives(start_node, camera, peer, checkpoint, cycles):
    """Under rclpy's events executor it ended after 3 to 12, while others came and went."""
    agent = start_node('agent', backend='eager', checkpoint=checkpoint)
    for cycle in range(cycles):
        other = peer.node.create_publisher(Image, 'image', WATCH_FRAME_QOS)
        listener = peer.node.create_subscription(
            TwistStamped, 'policy_command', lambda _: None, 1)
        assert change_state(peer, Transition.TRANSITION_CONFIGURE)
        assert change_state(peer, Transition.TRANSITION_ACTIVATE)
        peer.spin_until(camera.publisher.get_subscription_count)
        count = len(camera.commands)
        film_until(camera, peer, lambda: len(camera.commands) > count, camera.show)
        assert change_state(peer, Transition.TRANSITION_DEACTIVATE)
        peer.node.destroy_publisher(other)
        assert change_state(peer, Transition.TRANSITION_CLEANUP)
        peer.node.destroy_subscription(listener)
    agent.signal(signal.SIGINT)
    assert agent.wait() == 0


@pytest.mark.any_time
def test_diagnostics_tell_robots_apart(start, peer, checkpoint):
    start('-m', 'stream_agent', 'agent', '--ros-args', '-r', '__ns:=/left', '-p',
          f'checkpoint:={checkpoint}', '-p', 'autostart:=true', '-p', 'backend:=eager')
    heard = peer.hear(DiagnosticArray, '/diagnostics')
    peer.spin_until(lambda: heard, 20.0)
    status = status_of(heard)
    assert (status.name, status.hardware_id) == ('left/agent: frames', '/left')


@pytest.mark.parametrize('parameters, sentence', [
    ({}, 'configure: checkpoint is empty; give the file of a policy, such as '
         '-p checkpoint:=lane_streaming'),
    ({'checkpoint': '/nowhere/policy.safetensors'},
     "configure: policy '/nowhere/policy.safetensors': no such file; shipped policies are aware_"),
    ({'checkpoint': 'lane_stremaing'}, "configure: policy 'lane_stremaing': no such file; did you "
     "mean 'lane_streaming'?"),
    ({'checkpoint': __file__}, f'configure: {__file__}: not a safetensors file; a policy is'),
    ({'checkpoint': 'GOOD', 'device': 'cuda:99'},
     "configure: device 'cuda:99' is not available ("),
    ({'checkpoint': 'GOOD', 'backend': 'abacus'},
     "configure: there is no backend 'abacus'; on cpu in float32 there are eager, packed"),
    ({'checkpoint': 'GOOD', 'ranks': 2, 'device': 'cuda:0'},
     "configure: ranks is 2, which compute on the CPU, but device is 'cuda:0'; let device be "
     "'auto' or 'cpu', or ranks be 1"),
    ({'checkpoint': 'GOOD', 'ranks': 2, 'partition': 'fair'},
     "configure: partition is 'fair'; choices are 'measured', 'equal'"),
    ({'checkpoint': 'GOOD', 'ranks': 2, 'backend': 'onnxruntime'},
     "configure: backend 'onnxruntime' computes no single nodes; ranks take eager or packed"),
    ({'checkpoint': 'GOOD', 'image_transport': 'theora'},
     "configure: image_transport is 'theora'; choices are 'raw', 'compressed'")])
@pytest.mark.any_time
def test_what_cannot_be_configured_says_why(start_node, checkpoint, parameters, sentence):
    if parameters.get('checkpoint') == 'GOOD':
        parameters = {**parameters, 'checkpoint': checkpoint}
    agent = start_node('agent', autostart=True, **parameters)
    assert agent.wait(20.0) == 1
    assert sentence in agent.output
    assert 'agent: not started; the error above says why' in agent.output


@pytest.mark.any_time
def test_a_failed_configure_leaves_the_node_unconfigured(start_node, peer):
    start_node('agent', checkpoint='/nowhere/policy.safetensors')
    # A lost answer is asked for again, which changes nothing where configuring fails.
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    for _ in range(2):
        assert not peer.call(ChangeState, 'agent/change_state', request).success
    state = peer.call(GetState, 'agent/get_state', GetState.Request())
    assert state.current_state.label == 'unconfigured'


def test_a_transition_that_is_not_possible_leaves_the_agent_driving(
        start_node, camera, peer, checkpoint):
    agent = start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True)
    camera.wait_for_agent()
    client = peer.node.create_client(ChangeState, 'agent/change_state')
    peer.spin_until(client.service_is_ready)
    answer = client.call_async(ChangeState.Request(
        transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    peer.spin_until(answer.done)
    assert not answer.result().success
    # rclpy 9.1 answers by itself, and says it in words of its own.
    peer.spin_until(lambda: any(said in agent.output for said in (
        'the requested transition is not possible in this state; ask `ros2 lifecycle get` for the '
        'state', 'Unable to start transition 1 from current state')))
    camera.show_and_wait(0)


@pytest.mark.any_time
def test_a_misspelt_parameter_is_named(start_node):
    agent = start_node('agent', checkpont='x')
    assert agent.wait(20.0) == 1
    assert ("agent: there is no parameter 'checkpont'; the nearest is 'checkpoint'"
            in agent.output)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_robot_and_prints_the_profile(start_node, camera, checkpoint, number):
    agent = start_node('agent', backend='eager', checkpoint=checkpoint, autostart=True)
    camera.wait_for_agent()
    camera.show_and_wait(0)
    agent.signal(number)
    camera.peer.spin_until(
        lambda: twist_to_command(camera.commands[-1].message) == STOP, 2.0)
    assert agent.wait(2.0) == 0
    assert 'agent: 1 commands, 1 frames accepted' in agent.output
    assert 'respond' in agent.output and 'p99.9' in agent.output
    assert 'Traceback' not in agent.output
