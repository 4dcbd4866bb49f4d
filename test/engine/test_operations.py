"""Every back end knows every operation; an operation that is added is the same in all of them."""

import numpy as np
import pytest
from stream_agent.engine.backends import BackendConfig, BACKENDS, make_backend
from stream_agent.engine.compiled import TRACED
from stream_agent.engine.cuda.device import HostDevice
from stream_agent.engine.cuda.graphs import CudaGraphBackend
from stream_agent.engine.cuda.program import Variant
from stream_agent.engine.packed import PACKED
from stream_agent.engine.ranks.step import BACKENDS as RANK_BACKENDS, make_nodes
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.program import (
    by_input, IN_TRAINING, Operand, Operation, OPERATIONS)
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.window import OVER_TIME
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern, update_order
from support.network_inputs import (
    expected_outputs, of_each, random_inputs, states_of, window_of)
import torch
from torch import nn

pytestmark = pytest.mark.usefixtures('one_thread')

CPU = torch.device('cpu')
# CUDA graphs capture the reference's operations where they have no kernel of their own.
TABLES = {'eager': OPERATIONS, 'packed': PACKED, 'onnxruntime': TRACED, 'openvino': TRACED,
          'cuda_graphs': OPERATIONS}


@pytest.mark.parametrize('name', BACKENDS)
def test_every_back_end_does_every_operation(name):
    assert set(OPERATIONS) - IN_TRAINING <= set(TABLES[name])


def test_the_window_does_every_operation():
    assert set(OVER_TIME) == set(OPERATIONS)


def graph_of(shape, transform, others=()):
    """
    Return a graph in which two nodes are read together, around a cycle that streams.

    :param others: Further inputs, of 3 features each.
    """
    more = [{'source': [*others], 'target': ['left', 'out']}] if others else []
    return graph_from_data({
        'nodes': {'image': {'shape': [2, *shape]},
                  **{name: {'shape': [3]} for name in others},
                  'left': {'shape': [4, *shape], 'activation': 'relu'},
                  'right': {'shape': [4, *shape], 'activation': 'tanh'},
                  'joined': {'shape': [4, *shape], 'activation': 'relu'},
                  'out': {'shape': [3], 'activation': 'tanh'}},
        'edges': [{'source': 'image', 'target': ['left', 'right'], 'transform': transform},
                  {'source': 'joined', 'target': 'left', 'transform': transform,
                   'streams': True},
                  {'source': ['left', 'right'], 'target': 'joined', 'transform': transform,
                   'product': 'together'},
                  {'source': 'image', 'target': 'joined', 'transform': transform},
                  {'source': ['image', 'joined'], 'target': 'out'}, *more],
        'output': 'out'})


GRAPHS = {'features': graph_of([], 'dense'), 'maps': graph_of([6, 6], 'convolution'),
          'two inputs': graph_of([6, 6], 'convolution', ['speed']),
          'three inputs': graph_of([], 'dense', ['speed', 'goal'])}


class Concatenating(RolloutNetwork):
    """A network in which products are concatenations instead, brought back to their width."""

    def __init__(self, graph, pattern):
        super().__init__(graph, pattern)
        maps = len(self.shapes['joined']) == 3
        self.mixing = nn.Conv2d(8, 4, 1) if maps else nn.Linear(8, 4)
        for programs in (self.programs, self.programs_in_training):
            programs['joined'] = programs['joined']._replace(
                terms=tuple(map(self.concatenated, programs['joined'].terms)))

    def concatenated(self, term):
        """Return a term with another operation in the place of a product."""
        *first, last = term
        if last.kind != 'multiply':
            return term
        return (*first, last._replace(kind='concatenate'),
                Operation('transform', last.node, last.result, (Operand(last.result),),
                          self.mixing))


@pytest.fixture
def concatenation(monkeypatch):
    """Add an operation: an entry in the vocabulary, and one in every table that is its own."""
    monkeypatch.setitem(OPERATIONS, 'concatenate',
                        lambda operation: lambda *values: torch.cat(values, dim=1))
    monkeypatch.setitem(TRACED, 'concatenate', OPERATIONS['concatenate'])
    monkeypatch.setitem(PACKED, 'concatenate', lambda packing, operation: OPERATIONS[
        'concatenate'](operation))
    monkeypatch.setitem(OVER_TIME, 'concatenate', lambda _, *values: torch.cat(values, dim=2))


def network_of(name, pattern):
    torch.manual_seed(1)
    return Concatenating(GRAPHS[name], pattern).eval()


def patterns_of(name):
    """Return some of the valid patterns, the two rollouts of all graphs among them."""
    graph = GRAPHS[name]
    valid = list(valid_patterns(graph))
    return [newest_image_pattern(graph), sequential_pattern(graph),
            *valid[::max(40, len(valid) // 5)]]


def frames_of(network, count=7, batch_size=2):
    return random_inputs(network, count, batch_size, seed=2)


def outputs_of(backend, frames):
    outputs = []
    for frame in frames:
        outputs.append(backend.respond(frame).copy())
        backend.settle()
    return np.array(outputs)


def rank_outputs(network, backend, frames):
    """Return the outputs of a rank that has all nodes, one stream at a time."""
    order = [name for name in update_order(network.graph, network.pattern)
             if name not in network.inputs]
    nodes = make_nodes(network, order, CPU, backend, 'float32')
    before, outputs = nodes.initial_values(), []
    with torch.inference_mode():
        for frame in frames:
            now = by_input(network.inputs, of_each(torch.from_numpy, frame))
            for name in order:
                nodes.compute[name](now, before)
            outputs.append(now[network.graph.output].numpy())
            before = now
    return np.array(outputs)


@pytest.mark.parametrize('name', GRAPHS)
def test_an_added_operation_is_what_it_says(name, concatenation):
    for pattern in patterns_of(name):
        network = network_of(name, pattern)
        states = states_of(network, frames_of(network))
        for i in range(1, len(states)):
            left, right, image = (
                network.transforms[f'{source}-joined'](
                    states[i - pattern[source, 'joined']].values[source])
                for source in ('left', 'right', 'image'))
            expected = network.mixing(torch.cat([left, right], dim=1)) + image
            torch.testing.assert_close(states[i].values['joined'], expected.relu())


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['eager', 'packed', 'onnxruntime', 'openvino'])
@pytest.mark.parametrize('name', GRAPHS)
def test_an_added_operation_is_the_same_in_every_back_end(name, backend, concatenation):
    if BACKENDS[backend].missing():
        pytest.skip(BACKENDS[backend].missing())
    for pattern in patterns_of(name)[:4]:
        network = network_of(name, pattern)
        frames = frames_of(network)
        made = make_backend(backend, CPU, BackendConfig(network, batch_size=2))
        np.testing.assert_allclose(outputs_of(made, frames), expected_outputs(network, frames),
                                   atol=5e-6)


@pytest.mark.parametrize('backend', RANK_BACKENDS)
@pytest.mark.parametrize('name', GRAPHS)
def test_an_added_operation_is_the_same_on_a_rank(name, backend, concatenation):
    network = network_of(name, newest_image_pattern(GRAPHS[name]))
    frames = frames_of(network, batch_size=1)
    expected = expected_outputs(network, frames)
    np.testing.assert_allclose(rank_outputs(network, backend, frames), expected, atol=5e-6)


@pytest.mark.parametrize('variant', [
    Variant(), Variant(batched=True), Variant(channels_last=True), Variant(captured=True)],
    ids=str)
@pytest.mark.parametrize('name', GRAPHS)
def test_an_added_operation_is_captured_between_the_kernels(name, variant, concatenation):
    for pattern in patterns_of(name):
        network = network_of(name, pattern)
        frames = frames_of(network)
        made = CudaGraphBackend(network, 2, among=[variant], device=HostDevice(1))
        np.testing.assert_allclose(outputs_of(made, frames), expected_outputs(network, frames),
                                   atol=5e-6)


@pytest.mark.parametrize('name', GRAPHS)
def test_an_added_operation_is_the_same_over_a_window(name, concatenation):
    for pattern in patterns_of(name):
        network = network_of(name, pattern).double()
        frames = of_each(torch.Tensor.double, window_of(network, frames_of(network)))
        results = []
        for compute in (network, network.stepped):
            network.zero_grad()
            outputs, state = compute(frames, network.initial_state(2))
            (outputs.square().sum() + state.values['joined'].sum()).backward()
            gradients = [weight.grad for weight in network.parameters()]
            results.append((outputs, dict(state.values), gradients))
        torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
