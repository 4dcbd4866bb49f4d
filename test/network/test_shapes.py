"""Shapes that a graph leaves out, against those that it could have said and those of values."""

from dataclasses import replace
import os
from pathlib import Path
import subprocess
import sys

import pytest
from stream_agent.graph_files.graph_file import graph_from_data, load_graph
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.shapes import check_memory, infer_shapes, memory_limit
from stream_agent.theory.graph import GraphError, NodeSpec
from stream_agent.theory.patterns import sequential_pattern, streaming_pattern
from support.graphs import EVERY_LAYER
import torch

LANE = load_graph(Path(__file__).parents[2] / 'config' / 'graphs' / 'lane.yaml')


def graph_of(nodes, *edges, output='out'):
    """
    Make a graph.

    :param nodes: Settings of the nodes that have any.
    :param edges: As (source, target, transform, options).
    """
    names = dict.fromkeys(name for edge in edges for name in edge[:2])
    return graph_from_data({
        'nodes': {name: nodes.get(name, {}) for name in names},
        'edges': [{'source': source, 'target': target, 'transform': transform, **options}
                  for source, target, transform, options in edges],
        'output': output})


def without_sizes(graph):
    """Leave out height and width of all feature maps but the input's."""
    return replace(graph, nodes=tuple(
        node if node.name in graph.inputs or len(node.shape) == 1 or node.body
        else replace(node, shape=None, channels=node.shape[0]) for node in graph.nodes))


@pytest.mark.parametrize('graph', [LANE, infer_shapes(EVERY_LAYER)], ids=['lane', 'every layer'])
def test_height_and_width_can_be_left_out(graph):
    assert infer_shapes(without_sizes(graph)) == graph


def test_a_complete_graph_stays_as_it_is():
    assert infer_shapes(LANE) is LANE


def test_shapes_are_those_of_the_values():
    network = RolloutNetwork(EVERY_LAYER, streaming_pattern(EVERY_LAYER))
    _, state = network.step(torch.zeros(1, *network.shapes['image']), network.initial_state())
    found = {name: tuple(value.shape[1:]) for name, value in state.values.items()}
    assert found == network.shapes == {
        'image': (1, 8, 8), 'edges': (5, 4, 4), 'blurred': (5, 2, 2), 'map_memory': (2, 4, 4),
        'memory': (5,), 'tokens': (4, 5), 'command': (2,)}
    assert {node.name: node.shape for node in network.graph.nodes} == network.shapes


def test_inference_leaves_random_numbers_alone():
    def weights(graph):
        torch.manual_seed(5)
        return RolloutNetwork(graph, sequential_pattern(graph)).state_dict()

    inferred, written = weights(without_sizes(LANE)), weights(LANE)
    assert all(torch.equal(inferred[name], written[name]) for name in written)


def test_inference_goes_round_cycles_and_against_the_order_of_the_file():
    graph = infer_shapes(graph_of(
        {'image': {'shape': [3, 32, 48]}},
        ('c', 'b', 'upsampling', {'streams': True}), ('c', 'out', 'keypoints', {}),
        ('b', 'c', 'pooling', {}), ('b', 'b', 'identity', {'streams': True}),
        ('a', 'b', 'pooling', {'kernel': 4}), ('image', 'a', 'identity', {})))
    assert {node.name: node.shape for node in graph.nodes} == {
        'image': (3, 32, 48), 'a': (3, 32, 48), 'b': (3, 8, 12), 'c': (3, 4, 6), 'out': (6,)}


def test_inference_allocates_nothing(monkeypatch):
    """The image alone would take 64 TiB, the weights 4 TiB."""
    monkeypatch.setenv('STREAM_AGENT_MEMORY_GIB', '1e6')
    graph = infer_shapes(graph_of(
        {'image': {'shape': [2**20, 2**12, 2**12]}, 'out': {'channels': 2**20}},
        ('image', 'a', 'pooling', {}), ('a', 'out', 'pointwise', {})))
    assert graph.node('out').shape == (2**20, 2**11, 2**11)


@pytest.mark.parametrize('nodes, edges, said', [
    ({}, [('image', 'a', 'upsampling', {'factor': 100}), ('a', 'out', 'keypoints', {})],
     'nodes.a: a value of the shape [1, 204800, 204800] takes 156 GiB, and a network may take '
     '0.5 GiB; reduce its size, or set STREAM_AGENT_MEMORY_GIB where there is more memory'),
    # 512 MiB of it are for two values of 16 channels, to which torch's convolutions pad one.
    ({'a': {'channels': 1}},
     [('image', 'a', 'convolution', {}), ('a', 'out', 'keypoints', {})],
     'the network needs 0.594 GiB, and it may take 0.5 GiB'),
    ({'a': {'shape': [100_000]}},
     [('image', 'a', 'readout', {'kernel': 4}), ('a', 'out', 'identity', {})],
     "most of it, 97.7 GiB, is for the readout of 'image->a'"),
    ({}, [edge for i in range(20) for edge in (('image', f'a{i}', 'identity', {}),
                                               (f'a{i}', 'out', 'keypoints', {}))],
     "most of it, 0.0469 GiB, is for the node 'image', [1, 2048, 2048]. Reduce its shape")])
def test_memory_is_estimated_before_it_is_taken(monkeypatch, nodes, edges, said):
    monkeypatch.setenv('STREAM_AGENT_MEMORY_GIB', '0.5')
    graph = graph_of({'image': {'shape': [1, 2048, 2048]}, **nodes}, *edges)
    with pytest.raises(GraphError) as error:
        RolloutNetwork(graph, streaming_pattern(graph))
    assert said in str(error.value)


@pytest.mark.parametrize('text', ['0', '-1', 'nan', 'inf', '1e400', 'much'])
def test_the_limit_of_memory_is_a_number(monkeypatch, text):
    monkeypatch.setenv('STREAM_AGENT_MEMORY_GIB', text)
    with pytest.raises(GraphError) as error:
        memory_limit()
    assert str(error.value) == (f"STREAM_AGENT_MEMORY_GIB is '{text}'; set it to a number of GiB "
                                'above 0, or unset it')


def test_the_usual_limit_is_a_part_of_the_machine_s_memory(monkeypatch):
    monkeypatch.delenv('STREAM_AGENT_MEMORY_GIB', raising=False)
    monkeypatch.setattr(os, 'sysconf', lambda name: {'SC_PAGE_SIZE': 4096}.get(name, 2**19))
    assert memory_limit() == 2**29
    monkeypatch.setattr(os, 'sysconf', lambda name: {'SC_PAGE_SIZE': 4096}.get(name, 2**24))
    assert memory_limit() == 2**31


@pytest.mark.child_process
def test_what_networks_take_is_below_the_estimate(tmp_path, monkeypatch):
    """A chain of maps, measured in a process of its own, needs no more than is estimated."""
    text = """
nodes: {image: {shape: [1, 1024, 1024]}, a: {channels: 1}, b: {channels: 4}, out: {shape: [2]}}
edges:
  - {source: image, target: a, transform: convolution, dilation: 8}
  - {source: a, target: b, transform: convolution, kernel: 5, normalisation: layer}
  - {source: b, target: out, transform: readout, kernel: 64}
"""
    (tmp_path / 'graph.yaml').write_text(text)
    script = r"""
import re, sys, torch
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import streaming_pattern
torch.set_num_threads(1)
peak = lambda: 1024 * int(re.search(r'VmHWM:\s*(\d+)', open('/proc/self/status').read())[1])
torch.nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8))
before = peak()
graph = load_graph(sys.argv[1])
network = RolloutNetwork(graph, streaming_pattern(graph)).eval()
with torch.inference_mode():
    state = network.initial_state()
    for _ in range(3):
        _, state = network.step(torch.zeros(1, 1, 1024, 1024), state)
print(peak() - before)
"""
    # The allocator of a busy machine's process takes more now and then, and never less.
    taken = min(int(subprocess.run([sys.executable, '-c', script, str(tmp_path / 'graph.yaml')],
                                   check=True, capture_output=True, text=True).stdout)
                for _ in range(2))
    graph = infer_shapes(load_graph(tmp_path / 'graph.yaml'))
    monkeypatch.setenv('STREAM_AGENT_MEMORY_GIB', str(taken / 2**30))
    with pytest.raises(GraphError, match='the network needs'):
        check_memory(graph)


IMAGE = {'image': {'shape': [3, 8, 8]}}


@pytest.mark.parametrize('graph, sentence', [
    (graph_of(IMAGE, ('image', 'a', 'dense', {}), ('a', 'out', 'identity', {})),
     'nodes.a: its shape cannot be inferred: edges[0] (image->a): dense gives whatever shape its '
     "target has; write 'shape: [features]' or 'shape: [channels, height, width]'"),
    (graph_of(IMAGE, ('image', 'a', 'dense', {}), ('image', 'b', 'identity', {}),
              ('b', 'a', 'convolution', {}), ('a', 'out', 'identity', {})),
     'nodes.a: its shape cannot be inferred: edges[2] (b->a): convolution gives as many '
     "channels as its target has; write 'channels: N'"),
    (graph_of(IMAGE, ('image', 'out', 'pooling', {}), ('image', 'b', 'identity', {}),
              ('b', 'out', 'identity', {})),
     'edges[2] (b->out): identity of [3, 8, 8] gives [3, 8, 8], but edges[0] (image->out) gives '
     '[3, 4, 4]; edges into one node have to give the same shape'),
    (graph_of({**IMAGE, 'out': {'channels': 4}}, ('image', 'out', 'pooling', {})),
     'edges[0] (image->out): pooling of [3, 8, 8] gives [3, 4, 4], but the target takes 4 '
     'channels'),
    (graph_of({**IMAGE, 'out': {'channels': 6}}, ('image', 'out', 'keypoints', {})),
     'edges[0] (image->out): keypoints of [3, 8, 8] gives [6], but the target takes 6 channels'),
    (graph_of({**IMAGE, 'out': {'cell': 'gilr'}}, ('image', 'out', 'pooling', {}),
              ('out', 'out', 'identity', {'streams': True})),
     "edges[0] (image->out): pooling of [3, 8, 8] gives [3, 4, 4], but the cell 'gilr' takes 2 "
     'channels or features for each of its own'),
    (graph_of({'image': {}, 'out': {'shape': [2]}}, ('image', 'out', 'dense', {})),
     "nodes.image: the shape of an input cannot be inferred; write 'shape: [channels, height, "
     "width]', or 'shape: [features]' of a vector"),
])
def test_shapes_that_cannot_be_inferred(graph, sentence):
    with pytest.raises(GraphError) as error:
        infer_shapes(graph)
    assert str(error.value) == sentence


def test_a_later_edge_that_gives_another_shape_is_found_though_it_took_the_channels():
    graph = graph_of(IMAGE, ('image', 'a', 'convolution', {}), ('image', 'b', 'pooling', {}),
                     ('b', 'a', 'identity', {}), ('a', 'out', 'identity', {}))
    with pytest.raises(GraphError) as error:
        infer_shapes(graph)
    assert str(error.value) == (
        'edges[0] (image->a): convolution of [3, 8, 8] gives [3, 8, 8], but edges[2] (b->a) gives '
        '[3, 4, 4]; edges into one node have to give the same shape')


def test_places_are_those_of_the_file(tmp_path):
    path = tmp_path / 'net.yaml'
    path.write_text('nodes:\n  image: {shape: [3, 8, 8]}\n  out: {activation: rleu}\n'
                    'edges:\n  - {source: image, target: out, transform: dense}\noutput: out\n')
    graph = load_graph(path)
    with pytest.raises(GraphError) as error:
        infer_shapes(graph)
    assert str(error.value) == (
        f'{path}:3 (out): its shape cannot be inferred: {path}:5 (image->out): dense gives '
        "whatever shape its target has; write 'shape: [features]' or 'shape: [channels, height, "
        "width]'")
    graph = replace(graph, nodes=(graph.nodes[0], replace(graph.nodes[1], shape=(2,))))
    with pytest.raises(GraphError) as error:
        RolloutNetwork(graph, streaming_pattern(graph))
    assert str(error.value) == (
        f"{path}:3 (out): no activation named 'rleu'; did you mean 'relu'? Choices are identity, "
        'relu, leaky_relu, elu, tanh, sigmoid')


def test_specs_made_in_python_are_named_too():
    graph = graph_of(IMAGE, ('image', 'out', 'dense', {}))
    graph = replace(graph, nodes=(graph.nodes[0], NodeSpec('out')))
    with pytest.raises(GraphError, match=r'^nodes.out: its shape cannot be inferred: edges'):
        infer_shapes(graph)
