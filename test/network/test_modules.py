"""Products, shared weights, dropout, noise and normalisation, against formulas."""

from dataclasses import replace

import pytest
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.modules import Disturbance
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import GraphError
from stream_agent.theory.patterns import sequential_pattern, streaming_pattern
from support.graphs import bare_graph, EVERY_LAYER, SR
import torch
from torch.nn import functional


def with_edges(graph, changes):
    """Set fields of edges, by name."""
    return replace(graph, edges=tuple(replace(edge, **changes.get(edge.name, {}))
                                      for edge in graph.edges))


def with_nodes(graph, changes):
    """Set fields of nodes, by name."""
    return replace(graph, nodes=tuple(replace(node, **changes.get(node.name, {}))
                                      for node in graph.nodes))


def network_of(graph, pattern=None):
    torch.manual_seed(1)
    return RolloutNetwork(graph, pattern or streaming_pattern(graph)).double()


def states_of(network, length=5, batch=2):
    """Return the states of a run, the initial one first."""
    frames = torch.randn(length, batch, *network.shapes[network.input], dtype=torch.float64)
    states = [network.initial_state(batch)]
    for frame in frames:
        states.append(network.step(frame, states[-1])[1])
    return states


GATED = with_edges(bare_graph('img->a img->b a->out b->out img->out', 'out'), {
    'a->out': {'product': 'gate'}, 'b->out': {'product': 'gate'}})


def test_a_product_is_one_term_of_the_sum():
    for pattern in valid_patterns(GATED):
        network = network_of(with_nodes(GATED, {'b': {'activation': 'sigmoid'}}), pattern)
        states = states_of(network)
        for i in range(1, len(states)):
            a, b, plain = (
                network.transforms[f'{u}-out'](states[i - pattern[u, 'out']].values[u])
                for u in ('a', 'b', 'img'))
            torch.testing.assert_close(states[i].values['out'], a * b + plain)
            gate = network.transforms['img-b'](states[i - pattern['img', 'b']].values['img'])
            torch.testing.assert_close(states[i].values['b'], gate.sigmoid())


def test_labels_of_different_products_are_different_terms():
    graph = with_edges(bare_graph('img->a img->b img->c a->out b->out c->out img->out', 'out'), {
        'a->out': {'product': 'one'}, 'b->out': {'product': 'two'},
        'c->out': {'product': 'one'}, 'img->out': {'product': 'two'}})
    network = network_of(graph)
    states = states_of(network)
    a, b, c, img = (network.transforms[f'{u}-out'](states[3].values[u])
                    for u in ('a', 'b', 'c', 'img'))
    torch.testing.assert_close(states[4].values['out'], a * c + b * img)


SHARED = with_edges(SR, {'h1->h2': {'share': 'deep'}, 'h2->out': {'share': 'deep'}})


def test_shared_weights_are_there_once_and_used_twice():
    network = network_of(SHARED)
    assert {name for name in network.state_dict() if 'transforms' in name} == {
        f'transforms.{key}.linear.{part}' for key in ('img-h1', 'h1-h1', 'h1-out', 'deep')
        for part in ('weight', 'bias')}
    separate = network_of(SR)
    weights = {name: value for name, value in network.state_dict().items()
               if 'deep' not in name}
    for key in ('h1-h2', 'h2-out'):
        for part in ('weight', 'bias'):
            weights[f'transforms.{key}.linear.{part}'] = network.state_dict()[
                f'transforms.deep.linear.{part}']
    separate.load_state_dict(weights)
    frames = torch.randn(2, 6, 3, dtype=torch.float64)
    one, _ = network(frames, network.initial_state(2))
    other, _ = separate(frames, separate.initial_state(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize('nodes, edges, sentence', [
    ({}, {'h2->out': {'transform': 'identity', 'share': 'deep'}},
     'the transform identity differs from dense'),
    ({'out': {'shape': (4,)}}, {}, 'the target shape [4] differs from [3]'),
    ({'h2': {'shape': (4,)}}, {}, 'the source shape [4] differs from [3]'),
])
def test_edges_that_cannot_share(nodes, edges, sentence):
    graph = with_edges(with_nodes(SHARED, nodes), edges)
    with pytest.raises(GraphError) as error:
        network_of(graph)
    assert str(error.value) == (
        f"edges[2] (h2->out): 'deep' is shared with edges[1] (h1->h2), but {sentence}; make them "
        'equal or use another label')


def test_edges_that_cannot_share_for_their_options():
    graph = graph_from_data({
        'nodes': {'image': {'shape': [2, 8, 8]}, 'a': {'channels': 2}, 'b': {'channels': 2}},
        'edges': [{'source': u, 'target': v, 'transform': 'convolution', 'kernel': kernel,
                   'share': 'same'} for u, v, kernel in (('image', 'a', 3), ('a', 'b', 5))],
        'output': 'b'})
    with pytest.raises(GraphError) as error:
        network_of(graph)
    assert str(error.value) == (
        "edges[1] (a->b): 'same' is shared with edges[0] (image->a), but options {'kernel': 5} "
        "differs from {'kernel': 3}; make them equal or use another label")


CHAIN = bare_graph('img->h h->out', 'out')


def test_normalisation_of_an_edge_comes_after_its_transform():
    network = network_of(with_edges(CHAIN, {'img->h': {'normalisation': 'layer'}}))
    states = states_of(network)
    expected = functional.layer_norm(network.transforms['img-h'](states[1].values['img']), (3,))
    torch.testing.assert_close(states[2].values['h'], expected)


DISTURBED = [(with_nodes, 'img'), (with_nodes, 'h'), (with_edges, 'img->h')]


@pytest.mark.parametrize('change, name', DISTURBED)
@pytest.mark.parametrize('disturbance', [{'dropout': 0.5}, {'noise': 0.5}])
def test_dropout_and_noise_act_in_training_only(change, name, disturbance):
    plain, disturbed = network_of(CHAIN), network_of(change(CHAIN, {name: disturbance}))
    frames = torch.randn(2, 6, 3, dtype=torch.float64)

    def outputs(network):
        return network(frames, network.initial_state(2))[0]

    assert torch.equal(outputs(plain), outputs(plain.eval()))
    assert torch.equal(outputs(disturbed.eval()), outputs(plain))
    assert not torch.equal(outputs(disturbed.train()), outputs(plain))


@pytest.mark.parametrize('change, name', DISTURBED)
def test_what_does_nothing_in_use_is_not_even_called(change, name, monkeypatch):
    network = network_of(change(CHAIN, {name: {'dropout': 0.5, 'noise': 0.5}})).eval()

    def refuse(module, arguments):
        raise AssertionError(f'{type(module).__name__} was called')

    for module in (network.activations['h'], network.normalisations['h']):
        module.register_forward_pre_hook(refuse)
    monkeypatch.setattr(Disturbance, '__call__', refuse)
    states_of(network)


@pytest.mark.parametrize('change, name', DISTURBED)
def test_noise_has_the_deviation_that_the_graph_says(change, name):
    """Behind identities it arrives as it is."""
    graph = with_edges(CHAIN, dict.fromkeys(('img->h', 'h->out'), {'transform': 'identity'}))
    network = network_of(change(graph, {name: {'noise': 0.3}}), sequential_pattern(graph)).train()
    output, state = network.step(torch.zeros(20_000, 3, dtype=torch.float64),
                                 network.initial_state(20_000))
    assert output.mean().item() == pytest.approx(0, abs=0.01)
    assert output.std().item() == pytest.approx(0.3, rel=0.02)
    assert (name == 'img') == bool(state.values['img'].any())
    assert torch.equal(state.values['h'], output)


@pytest.mark.parametrize('change, name', DISTURBED)
def test_dropout_drops_and_scales(change, name):
    graph = with_edges(CHAIN, dict.fromkeys(('img->h', 'h->out'), {'transform': 'identity'}))
    network = network_of(change(graph, {name: {'dropout': 0.25}}), sequential_pattern(graph))
    output, _ = network.train().step(torch.ones(20_000, 3, dtype=torch.float64),
                                     network.initial_state(20_000))
    assert torch.equal(output.unique(), torch.tensor([0, 1 / 0.75], dtype=torch.float64))
    assert (output == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)


def test_a_node_drops_before_its_noise_and_both_before_its_activation():
    graph = with_edges(with_nodes(CHAIN, {
        'h': {'normalisation': 'layer', 'dropout': 0.5, 'noise': 1e-3, 'activation': 'sigmoid'}}),
        dict.fromkeys(('img->h', 'h->out'), {'transform': 'identity'}))
    network = network_of(graph, sequential_pattern(graph)).train()
    _, state = network.step(torch.tensor([[1., 0, -1]]).double().repeat(2000, 1),
                            network.initial_state(2000))
    logits = state.values['h'].logit()
    near = torch.tensor([0, 2 * 1.5 ** 0.5, -2 * 1.5 ** 0.5]).double()
    distance = (logits[..., None] - near).abs().amin(-1)
    assert 0 < distance.max() < 6e-3
    assert (logits != 0).all()


def test_names_may_be_those_of_python():
    graph = bare_graph('image->forward forward->keys keys->training training->type', 'type')
    network = network_of(graph)
    assert states_of(network)[-1].values['type'].shape == (2, 3)
    assert 'transforms.keys-training.linear.weight' in network.state_dict()


def test_a_network_may_have_no_weights():
    graph = graph_from_data({
        'nodes': {'image': {'shape': [2, 8, 8]}, 'out': {}},
        'edges': [{'source': 'image', 'target': 'out', 'transform': 'pooling'}], 'output': 'out'})
    network = network_of(graph, sequential_pattern(graph))
    assert not network.state_dict()
    states = states_of(network)
    torch.testing.assert_close(states[1].values['out'],
                               functional.avg_pool2d(states[1].values['image'], 2))


def test_training_and_use_agree_where_nothing_is_disturbed():
    network = network_of(EVERY_LAYER)
    frames = torch.randn(2, 4, 1, 8, 8, dtype=torch.float64)
    training, _ = network.train()(frames, network.initial_state(2))
    use, _ = network.eval()(frames, network.initial_state(2))
    assert torch.equal(training, use)
