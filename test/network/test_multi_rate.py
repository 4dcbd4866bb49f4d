"""Nodes that update at their own rates: the network against the definition and the theory."""

from functools import cache

from hypothesis import given, settings, strategies
import pytest
from stream_agent.network.program import State
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import EdgeSpec, GraphSpec, NodeSpec, OPERAND, with_schedule
from stream_agent.theory.information import frames_until_response, images_seen
from stream_agent.theory.patterns import update_order
from support.graphs import EVERY_LAYER
from support.strategies import valid_patterns_of
import torch

FRAMES = 40
EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)


@strategies.composite
def rollouts(draw):
    """Draw a graph of up to five nodes with periods and offsets, and a valid pattern of it."""
    size = draw(strategies.integers(2, 5))
    names = ['img', 'a', 'b', 'c', 'd'][:size]
    pairs = {(names[draw(strategies.integers(0, i - 1))], names[i]) for i in range(1, size)}
    pairs |= draw(strategies.sets(strategies.tuples(
        strategies.sampled_from(names), strategies.sampled_from(names[1:])), max_size=4))
    nodes = [NodeSpec('img', (2,))]
    for name in names[1:]:
        period = draw(strategies.integers(1, 3))
        nodes.append(NodeSpec(name, (2,), period=period,
                              offset=draw(strategies.integers(0, period - 1))))
    graph = GraphSpec(tuple(nodes), tuple(EdgeSpec(u, v) for u, v in sorted(pairs)),
                      draw(strategies.sampled_from(names[1:])))
    return graph, draw(valid_patterns_of(names, pairs))


def network_of(graph, pattern):
    torch.manual_seed(2)
    return RolloutNetwork(graph, pattern).double().eval()


def images_for(network, length=12, batch=2):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(length, batch, *network.shapes[network.input], generator=generator,
                       dtype=torch.float64)


def states_of(network, images, initial=None):
    """Return the states of a run, the initial one first."""
    states = [initial or network.initial_state(images.shape[1])]
    for image in images:
        states.append(network.step(image, states[-1])[1])
    return states


def unrolled(network, images):
    """
    Return what node v holds at frame i, by the definition.

    Computed if (i - offset) mod period = 0, from the sources at frame i - R(u, v); held
    otherwise. Frame 0 is the initial state, and the first image is that of frame 1.
    """
    graph = network.graph

    @cache
    def value(i, v):
        node = graph.node(v)
        if i == 0:
            return images.new_zeros(images.shape[1], *node.shape)
        if v == network.input:
            return images[i - 1]
        if (i - node.offset) % node.period:
            return value(i - 1, v)
        terms = {}
        for j, edge in enumerate(graph.edges):
            if edge.target == v and edge.transform != OPERAND and not (
                    node.cell and edge.source == v):
                factor = network.transforms[f'{edge.source}-{v}'](
                    value(i - network.pattern[edge.source, v], edge.source))
                terms[edge.product or j] = terms.get(edge.product or j, 1) * factor
        if node.body:
            terms['body'] = network.bodies[v](*(
                value(i - network.pattern[edge.source, v], edge.source)
                for edge in graph.incoming[v] if edge.transform == OPERAND))
        total = network.normalisations[v](sum(terms.values()))
        if node.cell:
            total = network.cells[v](total, value(i - 1, v))
        return network.activations[v](total)

    return value


def assert_as_defined(network, images):
    value = unrolled(network, images)
    for i, state in enumerate(states_of(network, images)):
        assert state.frame == i
        for name in network.shapes:
            torch.testing.assert_close(state.values[name], value(i, name))


@given(rollouts())
@EXAMPLES
def test_every_value_is_as_defined(rollout):
    network = network_of(*rollout)
    assert_as_defined(network, images_for(network))


SCHEDULED = with_schedule(EVERY_LAYER, {'edges': (2, 1), 'blurred': (2, 0), 'memory': (3, 2),
                                        'map_memory': (4, 3)})


@pytest.mark.parametrize('index', range(0, 288, 24))
def test_every_layer_is_as_defined(index):
    network = network_of(SCHEDULED, list(valid_patterns(SCHEDULED))[index])
    assert_as_defined(network, images_for(network, 14))


@given(rollouts())
@EXAMPLES
def test_respond_and_settle_equal_the_undivided_step(rollout):
    graph, pattern = rollout
    network = network_of(graph, pattern)
    images = images_for(network)
    state, undivided = network.initial_state(2), network.initial_state(2)
    for i, image in enumerate(images, 1):
        output, now = network.respond(image, state)
        state = network.settle(now, state)
        values = {network.input: image}
        computed = [v for v in update_order(graph, pattern)
                    if v != network.input and graph.node(v).updates_at(i)]
        whole = State({**{v: undivided.values[v] for v in network.shapes
                          if not graph.node(v).updates_at(i)}, **values}, i)
        network.update(computed, whole, undivided)
        undivided = whole
        assert torch.equal(output, undivided.values[graph.output])
        assert state.frame == i and state.values.keys() == undivided.values.keys()
        assert all(torch.equal(state.values[v], undivided.values[v]) for v in network.shapes)


@given(rollouts())
@EXAMPLES
def test_a_schedule_computes_or_holds_every_node_once(rollout):
    network = network_of(*rollout)
    for i in range(1, 13):
        held, ahead, respond, settle = network.schedules[i % network.graph.hyperperiod]
        computed = [work.node for work in (*respond, *settle)]
        assert not ahead
        assert sorted((*computed, *held)) == sorted(network.shapes.keys() - {network.input})
        assert all(network.graph.node(v).updates_at(i) == (v not in held)
                   for v in network.shapes if v != network.input)


def dependence(graph, pattern):
    """
    Return the images that each value depends on, by trying one image at a time.

    The weights are positive and nothing is added to them, so no two paths cancel. Sample k of
    the batch sees image k alone, image 0 in the initial state.
    """
    network = network_of(graph, pattern)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith('bias'):
                weight.zero_()
            else:
                weight.uniform_(0.1, 0.5)
        impulses = torch.eye(FRAMES + 1, dtype=torch.float64)[..., None].expand(-1, -1, 2)
        initial = network.initial_state(FRAMES + 1)
        initial.values['img'] = impulses[0]
        return {(i, v): set(state.values[v].any(1).nonzero().flatten().tolist())
                for i, state in enumerate(states_of(network, impulses[1:], initial))
                for v in state.values}


@given(rollouts())
@EXAMPLES
def test_values_depend_on_the_images_that_the_theory_says(rollout):
    graph, pattern = rollout
    found = dependence(graph, pattern)
    assert found == images_seen(graph, pattern, FRAMES)
    # The worst wait of the images in one hyperperiod, late enough that it repeats.
    waits = [next(i for i in range(image, FRAMES + 1)
                  if max(found[i, graph.output], default=-1) >= image) - image
             for image in range(FRAMES // 2, FRAMES // 2 + graph.hyperperiod)]
    assert max(waits) == frames_until_response(graph, pattern)


def test_a_held_node_costs_nothing():
    network = network_of(SCHEDULED, dict.fromkeys(
        [(edge.source, edge.target) for edge in SCHEDULED.edges], 1))
    calls = []
    for name, activation in network.activations.items():
        activation.register_forward_hook(lambda *_, name=name: calls.append(name))
    images = images_for(network, 12)
    states = states_of(network, images)
    assert calls.count('edges') == 6 and calls.count('command') == 12
    assert states[2].values['edges'] is states[1].values['edges']
