"""Every backend against the network's own step, and what can be had of them where."""

import gc
import os
from pathlib import Path
import random
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from stream_agent.cli.arguments import open_graph
from stream_agent.engine.backends import (
    BackendConfig, BackendError, BACKENDS, make_backend, usable)
from stream_agent.engine.engine import Engine
from stream_agent.engine.read_outs import numpy_read_out
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.program import by_input
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.frame_schedule import frame_schedule
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
from support.graphs import EVERY_LAYER, FIGURE_2, SR, THREE_INPUTS, TWO_INPUTS
from support.network_inputs import expected_outputs as expected, of_each, random_inputs
import torch

pytestmark = [pytest.mark.usefixtures('one_thread'), pytest.mark.thorough]

CPU = torch.device('cpu')
GRAPHS = {'figure 2': FIGURE_2, 'SR': SR, 'every layer': EVERY_LAYER, 'two inputs': TWO_INPUTS,
          'three inputs': THREE_INPUTS}
# Several rounds of the buffers that are used in turn, and of most schedules.
FRAMES = 20
TOLERANCE = {'float32': 5e-6, 'bfloat16': 2e-2}
IN_RUNTIMES = [(name, precision) for name in ('packed', 'onnxruntime', 'openvino')
               for precision in BACKENDS[name].precisions]


def network_of(graph, pattern):
    torch.manual_seed(1)
    return RolloutNetwork(graph, pattern).eval()


def images(network, batch_size=1, length=FRAMES, seed=0):
    return random_inputs(network, length, batch_size, seed)


def run(backend, frames):
    backend.reset()
    outputs = []
    for frame in frames:
        outputs.append(backend.respond(frame).copy())
        backend.settle()
    return np.array(outputs)


def made(name, network, precision='float32', batch_size=1):
    if precision not in BACKENDS[name].precisions or BACKENDS[name].missing():
        pytest.skip(f'{name}: {BACKENDS[name].missing()}')
    return make_backend(name, CPU, BackendConfig(network, batch_size, precision))


def scheduled(graph, seed):
    generator = random.Random(seed)
    periods = {node.name: generator.choice([1, 2, 3]) for node in graph.nodes
               if node.name not in graph.inputs}
    return with_schedule(graph, {name: (period, generator.randrange(period))
                                 for name, period in periods.items()})


def cases(name, every):
    """Yield networks of a graph under some of its valid patterns, with and without a schedule."""
    graph = GRAPHS[name]
    for i, pattern in enumerate(valid_patterns(graph)):
        if i % every == 0:
            yield network_of(graph, pattern)
            yield network_of(scheduled(graph, i), pattern)


@pytest.mark.parametrize('backend, precision', IN_RUNTIMES)
@pytest.mark.parametrize('name, every', [
    ('figure 2', 4), ('SR', 6), ('every layer', 96), ('two inputs', 12), ('three inputs', 130)])
def test_runtimes_agree_with_the_step(name, every, backend, precision):
    # Half as many of those that are exported and compiled, which takes longer than to run them.
    for network in cases(name, every if backend == 'packed' else 2 * every):
        frames = images(network)
        np.testing.assert_allclose(
            run(made(backend, network, precision), frames), expected(network, frames),
            atol=TOLERANCE[precision])


@pytest.mark.parametrize('backend', ['packed', 'onnxruntime', 'openvino'])
def test_an_answer_that_waits_for_one_of_two_inputs_is_a_few_sums(backend):
    pattern = newest_image_pattern(TWO_INPUTS) | {('odometry', 'command'): 1}
    network = network_of(TWO_INPUTS, pattern)
    assert numpy_read_out(network, frame_schedule(TWO_INPUTS, pattern, 1))
    frames = images(network, batch_size=2)
    np.testing.assert_allclose(run(made(backend, network, batch_size=2), frames),
                               expected(network, frames), atol=TOLERANCE['float32'])


@pytest.mark.parametrize('backend, precision', IN_RUNTIMES)
@pytest.mark.parametrize('graph', ['lane', 'gated_policy'])
@pytest.mark.parametrize('pattern', [
    newest_image_pattern, pytest.param(sequential_pattern, marks=pytest.mark.slow)])
def test_runtimes_agree_on_shipped_graphs(graph, pattern, backend, precision):
    graph = open_graph(graph)
    network = network_of(graph, pattern(graph))
    frames = images(network)
    np.testing.assert_allclose(run(made(backend, network, precision), frames),
                               expected(network, frames), atol=TOLERANCE[precision])


@pytest.mark.parametrize('backend', ['eager', 'packed', 'onnxruntime', 'openvino'])
@pytest.mark.parametrize('graph', [EVERY_LAYER, TWO_INPUTS, THREE_INPUTS],
                         ids=['one input', 'two inputs', 'three inputs'])
def test_a_batch_is_that_many_streams(graph, backend):
    network = network_of(graph, newest_image_pattern(graph))
    frames = images(network, batch_size=3)
    together = run(made(backend, network, batch_size=3), frames)
    one = made(backend, network)
    for i in range(3):
        alone = run(one, [of_each(lambda value: value[i:i + 1], frame) for frame in frames])
        np.testing.assert_allclose(together[:, i:i + 1], alone, atol=TOLERANCE['float32'])


@pytest.mark.parametrize('backend', ['packed', 'onnxruntime', 'openvino'])
def test_reset_forgets_and_engines_do_not_disturb_each_other(backend):
    network = network_of(EVERY_LAYER, newest_image_pattern(EVERY_LAYER))
    one, other = made(backend, network), made(backend, network)
    frames, others = images(network), images(network, seed=9)
    alone = run(one, frames)
    assert np.array_equal(alone, run(one, frames))
    one.reset(), other.reset()
    together = []
    for frame, distraction in zip(frames, others):
        together.append(one.respond(frame).copy())
        other.respond(distraction)
        one.settle()
        other.settle()
    assert np.array_equal(alone, together)


@pytest.mark.parametrize('backend', ['packed', 'onnxruntime', 'openvino'])
def test_an_answer_that_is_held(backend):
    graph = with_schedule(open_graph('lane'), {'command': (2, 1), 'memory': (3, 0)})
    network = network_of(graph, newest_image_pattern(graph))
    frames = images(network)
    np.testing.assert_allclose(run(made(backend, network), frames), expected(network, frames),
                               atol=TOLERANCE['float32'])


@pytest.mark.parametrize('backend', ['packed', 'onnxruntime', 'openvino'])
def test_reset_in_the_middle_of_a_schedule(backend):
    graph = scheduled(EVERY_LAYER, 3)
    network = network_of(graph, newest_image_pattern(graph))
    frames = images(network, length=14)
    stepped, right = made(backend, network), expected(network, frames)
    for until in range(1, 8, 2):
        run(stepped, frames[:until])
        np.testing.assert_allclose(run(stepped, frames), right, atol=TOLERANCE['float32'])


def test_engines_of_different_threads_leave_torch_as_it_was():
    network = network_of(SR, newest_image_pattern(SR))
    frames = images(network)
    one, two = Engine(network, threads=1), Engine(network, threads=2)
    before = torch.get_num_threads()
    for frame in frames:
        assert np.array_equal(one.step(frame[0]), two.step(frame[0]))
        assert torch.get_num_threads() == before


@pytest.mark.thorough
@pytest.mark.parametrize('backend', ['eager', 'packed', 'onnxruntime', 'openvino'])
def test_memory_does_not_grow_by_the_frame(backend):
    network = network_of(EVERY_LAYER, newest_image_pattern(EVERY_LAYER))
    stepped, frames = made(backend, network), images(network)
    run(stepped, frames * 3)
    used = []
    tracemalloc.start()
    try:
        for runs in (2, 4, 4, 4, 4, 4):
            run(stepped, frames * runs)
            gc.collect()
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # Libraries fill caches now and then, but no number is left of every frame.
    assert min(np.diff(used)) < 20 * 4 * len(frames)


@pytest.mark.parametrize('backend', ['eager', 'packed', 'onnxruntime', 'openvino'])
@pytest.mark.parametrize('graph, streams', [
    (EVERY_LAYER, ('image', 'edges')), (TWO_INPUTS, ('odometry', 'memory')),
    (TWO_INPUTS, ('image', 'edges'))])
def test_outputs_and_frames_are_the_caller_s_own(graph, streams, backend):
    """What a caller does with them after the step changes nothing that follows."""
    network = network_of(graph, newest_image_pattern(graph) | {streams: 1})
    if BACKENDS[backend].missing():
        pytest.skip(BACKENDS[backend].missing())
    engine = Engine(network, backend=backend)
    batches = images(network)
    frames = [of_each(lambda value: value[0], frame) for frame in batches]
    sensors = of_each(np.empty_like, by_input(network.inputs, frames[0]))
    outputs, kept = [], []
    for frame in frames:
        for name, value in by_input(network.inputs, frame).items():
            sensors[name][...] = value
        output = engine.step(sensors)
        kept.append(output)
        outputs.append(output.copy())
        for value in sensors.values():
            value[...] = 9
    assert np.array_equal(kept, outputs)
    np.testing.assert_allclose(outputs, expected(network, batches)[:, 0],
                               atol=TOLERANCE['float32'])
    engine.reset()
    for frame, before in zip(frames, outputs):
        output = engine.step(frame)
        assert np.array_equal(output, before)
        output *= 10


VECTOR = np.zeros(6, np.float32)
IMAGE = np.zeros((1, 8, 8), np.float32)


@pytest.mark.parametrize('wrong, sentence', [
    (IMAGE, 'one value is given to 2 inputs; give values by their names: image, odometry'),
    ({'image': IMAGE}, "the input 'odometry' is missing; give it beside image"),
    ({}, "the input 'image' is missing; give it beside others"),
    ({'image': IMAGE, 'odometri': VECTOR},
     "'odometri' is not an input; did you mean 'odometry'?"),
    ({'image': IMAGE, 'odometry': VECTOR[:5]},
     "the input 'odometry' has the shape [5]; the network takes [6]"),
    ({'image': IMAGE[0], 'odometry': VECTOR},
     "the input 'image' has the shape [8, 8]; the network takes [1, 8, 8]"),
    ({'image': IMAGE, 'odometry': VECTOR.astype(float)},
     "the input 'odometry' is float64; it needs to be a float32 array, as preprocessing makes "
     'it'),
    ({'image': IMAGE, 'odometry': 0.5}, "the input 'odometry' is float; it needs to be a float32 "
     'array, as preprocessing makes it')])
@pytest.mark.parametrize('backend', ['eager', 'packed'])
def test_an_input_that_does_not_fit_is_named_and_nothing_is_lost(wrong, sentence, backend):
    engine = Engine(network_of(TWO_INPUTS, newest_image_pattern(TWO_INPUTS)), backend=backend)
    with pytest.raises(ValueError) as error:
        engine.respond(wrong)
    assert str(error.value) == f'respond: {sentence}'
    engine.step({'odometry': VECTOR, 'image': IMAGE})


def test_one_input_may_be_given_by_its_name():
    network = network_of(SR, newest_image_pattern(SR))
    one, other = Engine(network), Engine(network)
    for frame in images(network):
        assert np.array_equal(one.step(frame[0]), other.step({'img': frame[0]}))


@pytest.mark.parametrize('wrong, sentence', [
    (np.zeros((3, 1), np.float32), 'respond: the frame has the shape [3, 1]; the network takes '
                                   '[3]'),
    (np.zeros(3), 'respond: the frame is float64; it needs to be a float32 array, as '
                  'preprocessing makes it')])
def test_a_frame_that_is_none_is_refused_and_nothing_is_lost(wrong, sentence):
    engine = Engine(network_of(SR, newest_image_pattern(SR)), backend='packed')
    with pytest.raises(ValueError) as error:
        engine.respond(wrong)
    assert str(error.value) == sentence
    engine.step(np.zeros(3, np.float32))


GROUPED = graph_from_data({
    'nodes': {'image': {'shape': [2, 8, 8]}, 'a': {'shape': [4, 8, 8], 'activation': 'relu'},
              'b': {'shape': [4, 8, 8], 'activation': 'relu'}},
    'edges': [{'source': 'image', 'target': 'a', 'transform': 'convolution'},
              {'source': 'a', 'target': 'b', 'transform': 'pointwise'},
              {'source': 'a', 'target': 'a', 'transform': 'convolution', 'groups': 2,
               'streams': True},
              {'source': 'b', 'target': 'a', 'transform': 'convolution', 'dilation': 2,
               'streams': True}],
    'output': 'b'})


@pytest.mark.parametrize('backend, precision', IN_RUNTIMES)
@pytest.mark.parametrize('pattern', [newest_image_pattern, sequential_pattern])
def test_groups_dilation_and_maps_as_output(pattern, backend, precision):
    network = network_of(GROUPED, pattern(GROUPED))
    frames = images(network, batch_size=2)
    np.testing.assert_allclose(
        run(made(backend, network, precision, batch_size=2), frames), expected(network, frames),
        atol=10 * TOLERANCE[precision])


@pytest.mark.parametrize('options, sentence', [
    ({'threads': -1}, 'threads is -1; it is at least 1, or 0 to measure'),
    ({'batch_size': 0}, 'batch_size is 0; it is at least 1'),
    ({'backend': 'auto', 'precision': 'fp16'}, "there is no backend on cpu in 'fp16'; "
     'precisions are float32, tf32, bfloat16, and tf32 is for GPUs')])
def test_impossible_options_are_named(options, sentence):
    with pytest.raises(ValueError) as error:
        Engine(network_of(SR, newest_image_pattern(SR)), **options)
    assert str(error.value) == sentence


def test_an_unknown_backend_is_named_with_those_there_are():
    network = network_of(SR, newest_image_pattern(SR))
    with pytest.raises(BackendError) as error:
        Engine(network, backend='abacus')
    assert str(error.value) == (f"there is no backend 'abacus'; on cpu in float32 there are "
                                f"{', '.join(usable('cpu', 'float32'))}, 'auto'")


def test_a_precision_that_an_backend_lacks_is_named():
    network = network_of(SR, newest_image_pattern(SR))
    with pytest.raises(BackendError) as error:
        Engine(network, backend='eager', precision='bfloat16')
    assert str(error.value).startswith(
        "backend 'eager': it works in float32, not in bfloat16. On cpu in bfloat16 there are ")


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    network = network_of(SR, newest_image_pattern(SR))
    monkeypatch.setitem(sys.modules, 'openvino', None)
    monkeypatch.setattr('stream_agent.engine.backends.find_spec', lambda name: name != 'openvino')
    with pytest.raises(BackendError) as error:
        Engine(network, backend='openvino')
    assert str(error.value).startswith(
        "backend 'openvino': this machine lacks openvino; pip install openvino. On cpu in ")


def test_openvino_leaves_the_stack_of_signal_handlers_alone():
    """It would free the one that it sets, and the next signal would end the process."""
    if not usable('openvino', CPU):
        pytest.skip('openvino is not installed')
    from stream_agent.engine.openvino import signal_stack
    before = signal_stack()
    Engine(network_of(SR, newest_image_pattern(SR)), backend='openvino')
    after = signal_stack()
    assert (before.address, before.flags) == (after.address, after.flags)


@pytest.mark.child_process
def test_choosing_openvino_neither_forks_nor_reports():
    pytest.importorskip('openvino')
    code = """
import os, sys
events = []
sys.addaudithook(lambda event, _: event in ('os.fork', 'socket.getaddrinfo')
                 and events.append(event))
from stream_agent.engine.backends import make_backend, BackendConfig
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import newest_image_pattern
import torch
graph = load_graph(sys.argv[1])
network = RolloutNetwork(graph, newest_image_pattern(graph)).eval()
make_backend('openvino', torch.device('cpu'), BackendConfig(network))
import time
time.sleep(1)
print(events)
"""
    graph = Path(__file__).parents[2] / 'config' / 'graphs' / 'lane.yaml'
    environment = {name: value for name, value in os.environ.items() if name != 'CI'}
    said = subprocess.run([sys.executable, '-c', code, str(graph)], env=environment, check=True,
                          capture_output=True, text=True).stdout
    assert said == '[]\n'


@pytest.mark.parametrize('backend', ['eager', 'packed', 'onnxruntime', 'openvino'])
@pytest.mark.parametrize('pattern', [newest_image_pattern, sequential_pattern])
@pytest.mark.parametrize('name', [
    'figure 2', 'SR', 'two inputs', pytest.param('every layer', marks=pytest.mark.slow)])
def test_a_rehearsal_changes_no_answer(name, pattern, backend):
    network = network_of(scheduled(GRAPHS[name], 3), pattern(GRAPHS[name]))
    if BACKENDS[backend].missing():
        pytest.skip(BACKENDS[backend].missing())
    engines = [Engine(network, backend=backend, threads=1) for _ in range(2)]
    frames, others = ([of_each(lambda value: value[0], frame) for frame in images(
        network, seed=seed)] for seed in (0, 9))
    for frame, other in zip(frames, others):
        engines[1].rehearse(other)
        outputs = [engine.respond(frame) for engine in engines]
        # Between the halves of a step it does nothing.
        engines[1].rehearse(other)
        for engine in engines:
            engine.settle()
        np.testing.assert_array_equal(*outputs)


def fading(shape=(32, 24, 32)):
    """Return a network whose memory fades by a tenth a frame."""
    graph = graph_from_data({
        'nodes': {'image': {'shape': shape}, 'memory': {'shape': shape},
                  'command': {'shape': [2], 'activation': 'tanh'}},
        'edges': [{'source': 'image', 'target': 'memory', 'transform': 'identity'},
                  {'source': 'memory', 'target': 'memory', 'transform': 'convolution',
                   'kernel': 1, 'streams': True},
                  {'source': 'memory', 'target': 'command'}],
        'output': 'command'})
    network = network_of(graph, sequential_pattern(graph))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.copy_(0.9 * torch.eye(shape[0])[:, :, None, None])
                module.bias.zero_()
    return network


@pytest.mark.parametrize('backend', ['eager', 'packed', 'onnxruntime', 'openvino'])
def test_a_memory_that_fades_to_nothing_is_no_slower(backend):
    if BACKENDS[backend].missing():
        pytest.skip(BACKENDS[backend].missing())
    engine = Engine(fading(), backend=backend, threads=1)
    ((bright,),) = images(fading(), length=1)
    black = np.zeros_like(bright)

    def least(frames):
        durations = []
        for frame in frames:
            start = time.process_time()
            engine.step(frame)
            durations.append(time.process_time() - start)
        return min(durations[5:])

    before = least([bright] * 40)
    for _ in range(1000):
        engine.step(black)
    assert least([black] * 40) < 1.2 * before
    # What the caller computes is not touched.
    assert np.float32(1e-40) * np.float32(1.0) > 0
