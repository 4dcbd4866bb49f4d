"""The engine: answers first, settles after, and never differs from the undivided step."""

import numpy as np
import pytest
from stream_agent.engine.engine import choose_device, Engine
from stream_agent.network.program import State
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.patterns import sequential_pattern, streaming_pattern, update_order
from support.graphs import EVERY_LAYER, FIGURE_2, SR
import torch

pytestmark = pytest.mark.usefixtures('one_thread')

GRAPHS = {'figure 2': FIGURE_2, 'SR': SR, 'every layer': EVERY_LAYER}


def network_of(graph, pattern):
    torch.manual_seed(1)
    return RolloutNetwork(graph, pattern)


def images(network, length, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(network.shapes[network.input]).astype(np.float32)
            for _ in range(length)]


def run(engine, frames):
    return [engine.step(frame) for frame in frames]


def undivided(network, frames):
    """Return the outputs of a pass that computes every node of a frame before it answers."""
    order = [name for name in update_order(network.graph, network.pattern)
             if name != network.input]
    outputs, state = [], network.initial_state()
    with torch.inference_mode():
        for frame in frames:
            now = State({network.input: torch.from_numpy(frame).unsqueeze(0)})
            network.update(order, now, state)
            outputs.append(now.values[network.graph.output][0].numpy())
            state = now
    return outputs


@pytest.mark.parametrize('name, every, count', [
    ('figure 2', 1, 12), ('SR', 1, 16), ('every layer', 32, 36),
    pytest.param('every layer', 4, 288, marks=pytest.mark.slow)])
def test_respond_then_settle_equals_the_undivided_step_exactly(name, every, count):
    graph = GRAPHS[name]
    patterns = list(valid_patterns(graph))[::every]
    assert len(patterns) == count
    for pattern in patterns:
        network = network_of(graph, pattern)
        frames = images(network, 5)
        engine = Engine(network)
        outputs = []
        for frame in frames:
            outputs.append(engine.respond(frame))
            engine.settle()
        assert np.array_equal(outputs, undivided(network, frames))


def test_reset_and_warm_up_forget_every_frame():
    network = network_of(EVERY_LAYER, streaming_pattern(EVERY_LAYER))
    frames = images(network, 4)
    engine = Engine(network)
    first = run(engine, frames)
    engine.reset()
    assert np.array_equal(first, run(engine, frames))
    engine.respond(frames[0])
    engine.warm_up()
    assert np.array_equal(first, run(engine, frames))


def test_two_engines_on_one_network_do_not_disturb_each_other():
    network = network_of(EVERY_LAYER, streaming_pattern(EVERY_LAYER))
    frames, others = images(network, 4), images(network, 4, seed=9)
    alone = run(Engine(network), frames)
    one, other = Engine(network), Engine(network)
    together = []
    for frame, distraction in zip(frames, others):
        together.append(one.step(frame))
        other.step(distraction)
    assert np.array_equal(alone, together)


def test_halves_out_of_order_say_what_to_call():
    network = network_of(SR, streaming_pattern(SR))
    engine = Engine(network)
    with pytest.raises(RuntimeError) as error:
        engine.settle()
    assert str(error.value) == (
        'settle: there is nothing to settle; call respond(frame) first')
    engine.respond(images(network, 1)[0])
    with pytest.raises(RuntimeError) as error:
        engine.respond(images(network, 1)[0])
    assert str(error.value) == (
        'respond: the frame before is not settled; call settle() first')


def test_the_device_auto_is_the_gpu_where_there_is_one():
    assert choose_device('auto').type == ('cuda' if torch.cuda.is_available() else 'cpu')


@pytest.mark.parametrize('name', ['cuda:99', 'abacus'])
def test_a_missing_device_is_named(name):
    with pytest.raises(ValueError) as error:
        choose_device(name)
    assert str(error.value).startswith(f"device '{name}' is not available (")
    assert str(error.value).endswith(
        "; use 'auto', 'cpu', or a CUDA device that nvidia-smi lists")


def test_less_than_one_update_a_frame_is_refused():
    with pytest.raises(ValueError) as error:
        Engine(network_of(SR, sequential_pattern(SR)), updates_per_frame=0)
    assert str(error.value) == 'updates_per_frame is 0; it is at least 1'


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU on this machine')
def test_the_gpu_agrees_with_the_cpu():
    network = network_of(EVERY_LAYER, streaming_pattern(EVERY_LAYER))
    frames = images(network, 5)
    on_cpu = run(Engine(network, 'cpu'), frames)
    on_gpu = run(Engine(network, 'cuda'), frames)
    np.testing.assert_allclose(on_cpu, on_gpu, atol=1e-5)
