"""Edges with R > 1 by copy nodes, against windows in which they are one edge."""

from hypothesis import given, strategies as st
import pytest
from stream_agent.graph_files.graph_file import with_copies
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import EdgeSpec, GraphError, GraphSpec, NodeSpec
from stream_agent.theory.information import images_seen
from stream_agent.theory.patterns import edges_of, sequential_pattern
from support.graphs import bare_graph, is_valid, SR
from support.strategies import examples, scheduled_networks


def images_of_delays(graph, delays, size):
    """Return the images that nodes depend on, in a window with edges of any R."""
    seen = {(0, node.name): {0} if node.name in graph.inputs else set() for node in graph.nodes}

    def images(i, v):
        if (i, v) not in seen:
            if v in graph.inputs:
                seen[i, v] = {i}
            elif graph.node(v).updates_at(i):
                seen[i, v] = set().union(*(images(i - r, u) for (u, w), r in delays.items()
                                           if w == v and i >= r))
            else:
                seen[i, v] = images(i - 1, v)
        return seen[i, v]

    return {(i, node.name): images(i, node.name) for i in range(size + 1) for node in graph.nodes}


@examples(100)
@given(scheduled_networks(max_period=2), st.data())
def test_a_node_reads_what_its_source_was_so_many_frames_ago(graph, data):
    delays = data.draw(st.dictionaries(st.sampled_from(edges_of(graph)), st.integers(1, 4)))
    copied = with_copies(graph, delays)
    size = 9
    for pattern in valid_patterns(graph):
        if all(pattern[edge] for edge in delays):
            streams = {edge: pattern.get(edge, 1) for edge in edges_of(copied)}
            assert is_valid(copied, streams)
            seen = images_seen(copied, streams, size)
            expected = images_of_delays(graph, {**pattern, **delays}, size)
            assert {node: seen[node] for node in expected} == expected


def test_the_last_edge_keeps_what_the_edge_did():
    edge = EdgeSpec('image', 'command', 'convolution', dropout=.5, options={'kernel': 3})
    graph = GraphSpec((NodeSpec('image', (1, 8, 8)), NodeSpec('command', (4, 6, 6))),
                      (edge,), 'command')
    copied = with_copies(graph, {('image', 'command'): 3})
    assert copied.nodes == (*graph.nodes, NodeSpec('image_command_1', (1, 8, 8)),
                            NodeSpec('image_command_2', (1, 8, 8)))
    assert copied.edges == (
        EdgeSpec('image', 'image_command_1', 'identity', streams=True),
        EdgeSpec('image_command_1', 'image_command_2', 'identity', streams=True),
        EdgeSpec('image_command_2', 'command', 'convolution', dropout=.5, streams=True,
                 options={'kernel': 3}))
    assert set(sequential_pattern(copied).values()) == {1}


def test_a_delay_of_one_frame_only_marks_the_edge():
    copied = with_copies(SR, {('h1', 'h2'): 1})
    assert copied.nodes == SR.nodes
    assert [edge.name for edge in copied.edges if edge.streams] == ['h1->h2', 'h1->h1']


def test_names_of_copies_do_not_collide():
    graph = bare_graph('a->b b->a_b_1 b->a_b_1_', 'a_b_1')
    copied = with_copies(graph, {('a', 'b'): 3})
    assert [node.name for node in copied.nodes] == [
        'a', 'b', 'a_b_1', 'a_b_1_', 'a_b_1__', 'a_b_2']


@pytest.mark.parametrize('delays, sentence', [
    ({('h1', 'h3'): 2}, "delays: no edge 'h1->h3'; did you mean 'h1->h2'?"),
    ({('h1', 'h2'): 0}, 'delays.h1->h2: 0 is not a whole number of frames, 1 or more; an edge '
                        'with R = 0 needs no entry'),
    ({('h1', 'h2'): 1.5}, 'delays.h1->h2: 1.5 is not a whole number of frames, 1 or more; an '
                          'edge with R = 0 needs no entry')])
def test_mistakes_are_named(delays, sentence):
    with pytest.raises(GraphError) as error:
        with_copies(SR, delays)
    assert str(error.value) == sentence


def test_the_self_edge_of_a_cell_cannot_be_delayed():
    graph = GraphSpec((NodeSpec('x'), NodeSpec('m', cell='gilr')),
                      (EdgeSpec('x', 'm'), EdgeSpec('m', 'm', 'identity', True)), 'm')
    with pytest.raises(GraphError) as error:
        with_copies(graph, {('m', 'm'): 2})
    assert str(error.value) == ("delays.m->m: the cell of 'm' reads its own last value; write "
                                'streams: true')
