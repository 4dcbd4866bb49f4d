"""The network: halves against the whole, the window against steps, layers against formulas."""

from dataclasses import replace

import pytest
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.recurrence import GilrCell
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import graph_to_data, GraphError, NodeSpec
from stream_agent.theory.information import frames_until_response
from stream_agent.theory.patterns import sequential_pattern, streaming_pattern
from support.graphs import bare_graph, EVERY_LAYER, FIGURE_2, SR
import torch

GRAPHS = {'figure 2': FIGURE_2, 'SR': SR}


def frames(network, length, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, *network.shapes[network.input], generator=generator)


def network_of(graph, pattern, seed=1):
    torch.manual_seed(seed)
    return RolloutNetwork(graph, pattern)


@pytest.mark.parametrize('name', GRAPHS)
def test_nodes_read_the_frame_that_the_pattern_says(name):
    """Every node of every valid pattern against the window, edge by edge."""
    graph = GRAPHS[name]
    for pattern in valid_patterns(graph):
        network = network_of(graph, pattern)
        states = [network.initial_state(2)]
        for frame in frames(network, 4).unbind(1):
            states.append(network.step(frame, states[-1])[1])
        for i in range(1, 5):
            for node in graph.nodes:
                terms = [network.transforms[f'{u}-{v}'](states[i - r].values[u])
                         for (u, v), r in pattern.items() if v == node.name]
                if terms:
                    torch.testing.assert_close(states[i].values[node.name], sum(terms))


def test_respond_computes_the_cone_and_nothing_else():
    network = network_of(SR, streaming_pattern(SR))
    output, now = network.respond(frames(network, 1)[:, 0], network.initial_state(2))
    assert set(now.values) == {'img', 'out'}
    assert output is now.values['out']


def test_respond_and_settle_leave_the_state_alone():
    network = network_of(EVERY_LAYER, sequential_pattern(EVERY_LAYER))
    _, state = network.step(frames(network, 1)[:, 0], network.initial_state(2))
    before = {name: value.clone() for name, value in state.values.items()}
    network.step(frames(network, 1, seed=3)[:, 0], state)
    assert all(torch.equal(state.values[name], before[name]) for name in before)


def test_a_stepped_window_is_its_steps():
    network = network_of(EVERY_LAYER, streaming_pattern(EVERY_LAYER))
    images = frames(network, 5)
    outputs, last = network.stepped(images, network.initial_state(2))
    state = network.initial_state(2)
    for t in range(5):
        output, state = network.step(images[:, t], state)
        assert torch.equal(output, outputs[:, t])
    assert all(torch.equal(last.values[name], state.values[name]) for name in state.values)


def test_the_first_response_is_where_the_theory_says():
    """Perturb one image: the output changes first after frames_until_response frames."""
    for pattern in valid_patterns(SR):
        network = network_of(SR, pattern)
        images = frames(network, 8, batch=1)
        changed = images.clone()
        changed[:, 3] += 1
        one, _ = network(images, network.initial_state())
        other, _ = network(changed, network.initial_state())
        differs = (one != other).flatten(2).any(-1)[0]
        assert int(differs.nonzero()[0]) == 3 + frames_until_response(SR, pattern)


def test_gilr_is_the_published_recurrence():
    total, previous = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 3,
                                                                          dtype=torch.float64)
    g, i = torch.sigmoid(total[:, :3]), torch.tanh(total[:, 3:])
    torch.testing.assert_close(GilrCell()(total, previous), g * previous + (1 - g) * i)


def test_normalisation_of_a_frame_does_not_depend_on_the_batch():
    network = network_of(EVERY_LAYER, sequential_pattern(EVERY_LAYER)).train()
    images = frames(network, 3, batch=4)
    together, _ = network(images, network.initial_state(4))
    alone, _ = network(images[2:3], network.initial_state(1))
    torch.testing.assert_close(together[2:3], alone)


def changed(place, key, value):
    data = graph_to_data(EVERY_LAYER)
    part = data[place[0]][place[1]]
    part[key] = value
    return graph_from_data(data)


@pytest.mark.parametrize('graph, sentence', [
    (changed(('nodes', 'edges'), 'activation', 'rectify'),
     "nodes.edges: no activation named 'rectify'; choices are identity, relu, leaky_relu, elu, "
     'tanh, sigmoid'),
    (changed(('nodes', 'edges'), 'activation', 'rleu'),
     "nodes.edges: no activation named 'rleu'; did you mean 'relu'? Choices are identity, relu, "
     'leaky_relu, elu, tanh, sigmoid'),
    (changed(('nodes', 'edges'), 'normalisation', 'layers'),
     "nodes.edges: no normalisation named 'layers'; did you mean 'layer'? Choices are none, "
     'layer'),
    (changed(('edges', 0), 'normalisation', 'batch_norm'),
     "edges[0] (image->edges): the normalisation 'batch_norm' would depend on the other samples "
     "of a batch, so that training and steps of one frame would differ; take 'layer'"),
    (changed(('nodes', 'memory'), 'cell', 'lstm'),
     "nodes.memory: no cell named 'lstm'; did you mean 'gilr_lstm'? Choices are gilr, mingru, "
     'sru, qrnn, gilr_lstm, linear'),
    (changed(('nodes', 'command'), 'cell', 'gilr'),
     "nodes.command: the cell 'gilr' needs the node's self-edge; add {source: command, target: "
     'command, transform: identity, streams: true}'),
    (changed(('edges', 5), 'transform', 'dense'),
     "edges[5] (memory->memory): the transform 'dense' on the self-edge of a cell, which gives "
     'the cell its last value as it is; set it to identity'),
    (changed(('edges', 5), 'noise', 0.5),
     'edges[5] (memory->memory): noise: the self-edge of a cell gives the cell its last value as '
     'it is; leave it out'),
    (changed(('nodes', 'image'), 'activation', 'relu'),
     'nodes.image: activation: an input is the frame as it is; leave it out'),
    (changed(('edges', 0), 'stride', 1),
     'edges[0] (image->edges): convolution of [1, 8, 8] gives [5, 8, 8], but the target takes '
     '[5, 4, 4]'),
    (changed(('edges', 6), 'product', 'gat'),
     "edges[6] (map_memory->memory): no other edge into 'memory' has the product 'gat'; give it "
     'to the edge to multiply with, or leave it out'),
    (replace(bare_graph('a->c', 'c'), nodes=(NodeSpec('a', (3,)), NodeSpec('b', (3,)),
                                             NodeSpec('c', (3,)))),
     "nodes.b: nothing reads the input 'b'; give it an edge to a node that does, or remove it"),
])
def test_graphs_that_do_not_fit_together(graph, sentence):
    with pytest.raises(GraphError) as error:
        RolloutNetwork(graph, sequential_pattern(graph))
    assert str(error.value) == sentence
