"""In ONNX Runtime, the halves of a step hand maps to each other in its blocks of channels."""

import numpy as np
import pytest
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import streaming_pattern
import torch


def convolution(name, of, channels):
    return {'name': name, 'kind': 'convolution', 'of': [of], 'channels': channels,
            'kernel': [3, 3], 'padding': [1, 1, 1, 1]}


def residual(channels, beside=False):
    """
    Return a network of a stem, and a block whose sum reads the stem beside its convolution.

    :param beside: Whether the output's own half reads maps, too.
    """
    tokens = [{'name': 'flat', 'kind': 'reshape', 'of': ['block'], 'shape': [-1, channels, 48]},
              {'name': 'turned', 'kind': 'permute', 'of': ['flat'], 'axes': [0, 2, 1]}]
    graph = graph_from_data({
        'nodes': {
            'image': {'shape': [3, 6, 8]},
            'stem': {'shape': [channels, 6, 8], 'body': [
                convolution('conv', 'image', channels),
                {'name': 'act', 'kind': 'relu', 'of': ['conv']}]},
            'block': {'shape': [channels, 6, 8], 'body': [
                convolution('conv', 'stem', channels),
                {'name': 'sum_of', 'kind': 'add', 'of': ['conv', 'stem']},
                {'name': 'act', 'kind': 'relu', 'of': ['sum_of']}]},
            'again': {'shape': [channels, 6, 8], 'body': [
                convolution('conv', 'block', channels),
                {'name': 'sum_of', 'kind': 'add', 'of': ['conv', 'stem']},
                {'name': 'act', 'kind': 'relu', 'of': ['sum_of']}]},
            'tokens': {'shape': [48, channels], 'body': tokens},
            'command': {'shape': [2]}},
        'edges': [*({'source': u, 'target': v, 'transform': 'operand'} for u, v in (
            ('image', 'stem'), ('stem', 'block'), ('block', 'again'), ('stem', 'again'),
            ('block', 'tokens'))),
            *({'source': u, 'target': 'command', 'transform': 'dense'}
              for u in ('again', 'tokens', *(['block'] if beside else [])))],
        'output': 'command'})
    torch.manual_seed(3)
    return RolloutNetwork(graph, streaming_pattern(graph)).eval()


@pytest.mark.parametrize('channels', [16, 32, 12])
@pytest.mark.parametrize('beside', [False, True])
def test_answers_are_those_of_the_reference(channels, beside):
    made = residual(channels, beside)
    engines = [Engine(made, backend=backend) for backend in ('eager', 'onnxruntime')]
    for image in np.random.default_rng(1).standard_normal((9, 3, 6, 8), dtype=np.float32):
        expected, found = [engine.step(image) for engine in engines]
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('channels', [16, 12])
def test_sums_of_two_nodes_join_the_convolution(channels):
    engine = Engine(residual(channels), backend='onnxruntime')
    nodes = [node for half in engine._backend._halves for node in half.model.graph.node]
    if all(node.domain != 'com.microsoft.nchwc' for node in nodes):
        pytest.skip('ONNX Runtime has no blocks on this processor')
    apart = [node.op_type for node in nodes
             if node.op_type in ('Add', 'Relu', 'ReorderInput')]
    # Blocks of 12 channels would have to be filled up, so that sums stay apart.
    assert len(apart) == (0 if channels == 16 else 4)
