"""Nodes whose values are made by bodies: by hand in torch, in windows, in every back end."""

import numpy as np
import pytest
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import graph_to_data, GraphError
from stream_agent.theory.patterns import sequential_pattern, streaming_pattern
import torch
from torch.nn import functional

GRAPH = {
    'nodes': {
        'image': {'shape': [3, 12, 10]},
        'stem': {'shape': [8, 6, 5], 'body': [
            {'name': 'conv', 'kind': 'convolution', 'of': ['image'], 'channels': 8,
             'kernel': [3, 3], 'stride': [2, 2], 'padding': [0, 0, 1, 1]},
            {'name': 'act', 'kind': 'silu', 'of': ['conv']}]},
        'tokens': {'shape': [31, 8], 'body': [
            {'name': 'flat', 'kind': 'reshape', 'of': ['stem'], 'shape': [-1, 8, 30]},
            {'name': 'turned', 'kind': 'permute', 'of': ['flat'], 'axes': [0, 2, 1]},
            {'name': 'cls', 'kind': 'constant', 'shape': [1, 8]},
            {'name': 'all', 'kind': 'concatenate', 'of': ['cls', 'turned'], 'axis': 1},
            {'name': 'norm', 'kind': 'layer_norm', 'of': ['all'], 'shape': [8]},
            {'name': 'att', 'kind': 'attention', 'of': ['norm', 'norm', 'all']}]},
        # Reads two nodes and itself.
        'memory': {'shape': [4], 'body': [
            {'name': 'mean', 'kind': 'mean', 'of': ['tokens'], 'axes': [1]},
            {'name': 'small', 'kind': 'mean', 'of': ['stem'], 'axes': [2, 3]},
            {'name': 'sum_of', 'kind': 'add', 'of': ['mean', 'small']},
            {'name': 'gru', 'kind': 'gru_cell', 'of': ['sum_of', 'memory']}]},
        'command': {'shape': [2]}},
    'edges': [
        {'source': 'image', 'target': 'stem', 'transform': 'operand'},
        {'source': 'stem', 'target': 'tokens', 'transform': 'operand'},
        {'source': 'tokens', 'target': 'memory', 'transform': 'operand'},
        {'source': 'stem', 'target': 'memory', 'transform': 'operand'},
        {'source': 'memory', 'target': 'memory', 'transform': 'operand', 'streams': True},
        {'source': 'memory', 'target': 'command', 'transform': 'dense'},
        {'source': 'stem', 'target': 'command', 'transform': 'dense'}],
    'output': 'command'}


def network(pattern=sequential_pattern):
    torch.manual_seed(3)
    graph = graph_from_data(GRAPH)
    made = RolloutNetwork(graph, pattern(graph)).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.3)
    return made


@torch.no_grad()
def by_hand(made, images):
    """Return the sequential rollout's outputs, written out."""
    parts = {name: dict(body.operations.items()) for name, body in made.bodies.items()}
    memory, outputs = torch.zeros(1, 4), []
    for image in images.unbind(1):
        conv = parts['stem']['conv'].layer
        stem = functional.silu(functional.conv2d(functional.pad(image, (0, 1, 0, 1)), conv.weight,
                                                 conv.bias, stride=2))
        tokens = torch.cat([parts['tokens']['cls'].value[None], stem.flatten(2).mT], 1)
        norm = parts['tokens']['norm'](tokens)
        tokens = (norm @ norm.mT / 8 ** 0.5).softmax(-1) @ tokens
        memory = parts['memory']['gru'].cell(tokens.mean(1) + stem.mean((2, 3)), memory)
        outputs.append(made.transforms['memory-command'](memory)
                       + made.transforms['stem-command'](stem))
    return torch.stack(outputs, 1)


def test_a_body_is_what_its_operations_say():
    made, images = network(), torch.randn(1, 5, 3, 12, 10)
    with torch.no_grad():
        found, _ = made.stepped(images, made.initial_state())
    torch.testing.assert_close(found, by_hand(made, images))


@pytest.mark.parametrize('pattern', [sequential_pattern, streaming_pattern])
def test_windows_and_gradients_are_those_of_steps(pattern):
    made = network(pattern).double()
    images = torch.randn(2, 6, 3, 12, 10, dtype=torch.float64)
    results = []
    for run in (made, made.stepped):
        outputs, _ = run(images, made.initial_state(2))
        results.append([outputs, *torch.autograd.grad(outputs.square().sum(),
                                                      list(made.parameters()))])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('pattern', [sequential_pattern, streaming_pattern])
@pytest.mark.parametrize('backend', ['packed', 'onnxruntime', 'openvino'])
def test_every_back_end_computes_bodies(backend, pattern):
    made = network(pattern)
    reference, engine = Engine(made, 'cpu', backend='eager'), Engine(made, 'cpu', backend=backend)
    for image in np.random.default_rng(1).standard_normal((8, 3, 12, 10), dtype=np.float32):
        np.testing.assert_allclose(engine.respond(image), reference.respond(image), atol=2e-5)
        engine.settle()
        reference.settle()


def test_a_graph_with_bodies_is_what_it_was_when_it_is_read_again():
    graph = graph_from_data(GRAPH)
    assert graph_from_data(graph_to_data(graph)) == graph


def changed(node, step=None, **values):
    nodes = {name: dict(settings) for name, settings in GRAPH['nodes'].items()}
    if step is None:
        nodes[node] |= values
    else:
        nodes[node]['body'] = [dict(each) for each in nodes[node]['body']]
        nodes[node]['body'][step] |= values
    return {**GRAPH, 'nodes': nodes}


@pytest.mark.parametrize('data, said', [
    (changed('stem', 1, kind='sylu'), "no operation named 'sylu'; did you mean 'silu'?"),
    (changed('stem', 1, of=['image', 'convv']), "'convv' is neither an operand of the node nor an "
     "operation above; did you mean 'conv'?"),
    (changed('stem', 1, name='conv'), "'conv' is not a new name"),
    (changed('stem', 0, groups=5), "body: 'conv', convolution of [3, 12, 10]: "),
    (changed('stem', shape=[8, 6, 6]), 'its body gives [8, 6, 5], but its shape is [8, 6, 6]'),
    (changed('stem', shape=None), "'stem' has a body and no shape; write its shape"),
    (changed('stem', body=[3]), "body of 'stem' is [3]; it has to be a list of operations, each "),
    (changed('stem', 0, kind=None), 'it has to be a list of operations, each {name, kind, of, '),
    (changed('stem', 0, name=None), 'body[0]: empty is not a new name of letters, digits and'),
    (changed('stem', body=[]), "the transform 'operand' is for nodes with a body, which 'stem'")])
def test_a_body_that_cannot_be_is_refused(data, said):
    with pytest.raises(GraphError) as refused:
        graph = graph_from_data(data)
        RolloutNetwork(graph, sequential_pattern(graph))
    assert said in str(refused.value)
