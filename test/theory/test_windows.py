"""How windows are computed, against the dependencies between the values of a window."""

from hypothesis import given, strategies as st
import networkx as nx
import pytest
from stream_agent.cli.arguments import open_graph
from stream_agent.theory.frame_schedule import window_components
from stream_agent.theory.graph import EdgeSpec, GraphSpec, NodeSpec
from stream_agent.theory.patterns import (
    edges_of, newest_image_pattern, sequential_pattern, streaming_pattern)
from support.graphs import bare_graph, FIGURE_2, is_valid, SR
from support.strategies import examples, networks

LENGTH = 7


def ring(length: int, chords: str = '') -> GraphSpec:
    """Return a ring of nodes that an input feeds."""
    names = [f'n{i}' for i in range(length)]
    ring_edges = ' '.join(f'{u}->{v}' for u, v in zip(names, names[1:] + names[:1]))
    return bare_graph(f'img->n0 {ring_edges} {chords}', 'n0')


def ways(graph, pattern):
    return [str(component) for component in window_components(graph, pattern)]


def computed_order(components, length):
    """Yield the nodes of a window, (frame, name), as ``Loop`` and ``Window`` compute them."""
    for component in components:
        size = component.frames or length
        for start in range(1 - size - max(component.lead), length + 1, size):
            for name, lead in zip(component.nodes, component.lead):
                yield [(i, name) for i in range(start + lead, start + lead + size)
                       if 1 <= i <= length]


@examples(60)
@given(networks(), st.data())
def test_what_a_block_reads_is_there_before_it(graph, data):
    """For any pattern; blocks read the frames before them, and no node is left out."""
    pattern = {edge: data.draw(st.integers(0, 1)) for edge in edges_of(graph)}
    if not is_valid(graph, pattern):
        pattern = streaming_pattern(graph)
    components = window_components(graph, pattern)
    known = {(0, name) for name in graph.by_name}
    known |= {(i, name) for i in range(LENGTH + 1) for name in graph.inputs}
    for block in computed_order(components, LENGTH):
        for i, name in block:
            assert {(i - r, u) for (u, v), r in pattern.items() if v == name} <= known
        known.update(block)
    assert len(known) == (LENGTH + 1) * len(graph.nodes)


@examples(40)
@given(networks())
def test_only_cycles_are_left_to_a_loop(graph):
    pattern = streaming_pattern(graph)
    network = nx.DiGraph(edges_of(graph))
    in_cycles = {v for part in nx.strongly_connected_components(network) for v in part
                 if len(part) > 1 or network.has_edge(v, v)}
    looped = {name for component in window_components(graph, pattern)
              if component.frames is not None for name in component.nodes}
    assert looped == in_cycles


@pytest.mark.parametrize('length', (2, 3, 5))
def test_a_ring_is_computed_in_blocks_of_its_streaming_edges(length):
    graph = ring(length)
    (component,) = window_components(graph, streaming_pattern(graph))
    assert component.frames == length
    pattern = {**streaming_pattern(graph), ('n0', 'n1'): 0}
    (component,) = window_components(graph, pattern)
    assert component.frames == length - 1


def test_the_shortest_cycle_decides():
    graph = ring(4, 'n1->n0')
    (component,) = window_components(graph, streaming_pattern(graph))
    assert component.frames == 2
    graph = ring(4, 'n2->n2')
    (component,) = window_components(graph, streaming_pattern(graph))
    assert component.frames == 1


def test_the_ways_as_they_are_printed():
    assert ways(SR, sequential_pattern(SR)) == [
        'h1: frame by frame', 'h2: all frames at once', 'out: all frames at once']
    assert ways(FIGURE_2, streaming_pattern(FIGURE_2)) == ['v, w: frame by frame']
    graph = ring(3)
    assert ways(graph, streaming_pattern(graph)) == ['n0, n1, n2: 3 frames at once']
    lane = open_graph('lane')
    assert 'memory: by a scan' in ways(lane, newest_image_pattern(lane))


def test_a_cell_is_a_scan_only_while_it_is_linear():
    def graph(activation, *edges):
        return GraphSpec((NodeSpec('img', (2,)), NodeSpec('m', (2,), cell='gilr',
                                                          activation=activation),
                          NodeSpec('o', (2,))),
                         (EdgeSpec('img', 'm'), EdgeSpec('m', 'm', 'identity', streams=True),
                          EdgeSpec('m', 'o'), *edges), 'o')

    linear, bent = graph('identity'), graph('tanh')
    fed_back = graph('identity', EdgeSpec('o', 'm', streams=True))
    assert ways(linear, streaming_pattern(linear))[0] == 'm: by a scan'
    assert ways(bent, streaming_pattern(bent))[0] == 'm: frame by frame'
    assert ways(fed_back, streaming_pattern(fed_back)) == ['m, o: 2 frames at once']
    assert ways(fed_back, sequential_pattern(fed_back)) == ['m, o: frame by frame']
