"""Pipelined update steps, against all cycles and against the tableaus of long windows."""

from fractions import Fraction

from hypothesis import given
import networkx as nx
import pytest
from stream_agent.theory.cycles import steps_per_frame_pipelined
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.patterns import (
    InvalidRolloutError, pattern_from_streams, sequential_pattern, streaming_pattern)
from stream_agent.theory.rollout import inference_tableau, rollout_window
from support.graphs import bare_graph, FF, FIGURE_2, SR
from support.strategies import examples, networks, scheduled_networks


def cycle_ratio(reads):
    """Return the largest ratio of edges to frames over all cycles of a graph, or 0."""
    cycles = [list(zip(cycle, [*cycle[1:], cycle[0]])) for cycle in nx.simple_cycles(reads)]
    return max((Fraction(len(cycle), sum(reads.edges[edge]['frames'] for edge in cycle))
                for cycle in cycles), default=0)


def growth(graph, pattern, frames):
    """Return the update steps that a frame takes between one and two times so many frames."""
    tableau = inference_tableau(graph, pattern, 2 * frames)
    last = [max(tableau[i, node.name] for node in graph.nodes) for i in (frames, 2 * frames)]
    return (last[1] - last[0]) / frames


@examples(50)
@given(networks())
def test_without_a_schedule_it_is_the_largest_of_all_cycles(graph):
    for pattern in valid_patterns(graph):
        reads = nx.DiGraph()
        reads.add_edges_from((u, v, {'frames': r}) for (u, v), r in pattern.items())
        assert steps_per_frame_pipelined(graph, pattern) == cycle_ratio(reads)


@examples(40)
@given(scheduled_networks(max_period=3))
def test_with_a_schedule_it_is_the_largest_of_all_cycles_of_updates(graph):
    period = graph.hyperperiod
    settled = max(node.period for node in graph.nodes) + 1
    for pattern in valid_patterns(graph):
        reads = nx.DiGraph()
        for (i, u), (j, v) in rollout_window(graph, pattern, settled + period):
            if j > settled:
                reads.add_edge((i % period, u), (j % period, v), frames=j - i)
        assert steps_per_frame_pipelined(graph, pattern) == cycle_ratio(reads)


@examples(40)
@given(scheduled_networks())
def test_it_is_what_the_tableau_grows_by(graph):
    frames = 100 * graph.hyperperiod
    for pattern in list(valid_patterns(graph))[:8]:
        limit = steps_per_frame_pipelined(graph, pattern)
        # No update waits for more than all the others of a hyperperiod beyond the limit.
        slack = 2 * len(graph.nodes) * graph.hyperperiod / frames
        assert growth(graph, pattern, frames) == pytest.approx(limit, abs=slack)


@pytest.mark.parametrize('graph, pattern, steps', [
    (FF, sequential_pattern(FF), 0), (SR, sequential_pattern(SR), 1),
    (FIGURE_2, streaming_pattern(FIGURE_2), 1),
    (FIGURE_2, pattern_from_streams(FIGURE_2, ['v->v', 'w->v']), 2)])
def test_worked_examples(graph, pattern, steps):
    assert steps_per_frame_pipelined(graph, pattern) == steps


def test_a_cycle_of_three_nodes_with_two_streaming_edges_takes_three_halves():
    graph = bare_graph('x->a a->b b->c c->a', 'c')
    pattern = pattern_from_streams(graph, ['a->b', 'c->a'])
    assert steps_per_frame_pipelined(graph, pattern) == Fraction(3, 2)
    assert growth(graph, pattern, 100) == 1.5


def test_a_held_node_costs_no_update_step():
    graph = with_schedule(SR, {'h1': (3, 0)})
    assert steps_per_frame_pipelined(graph, sequential_pattern(graph)) == Fraction(1, 3)


def test_eleven_edges_forward_and_one_back_in_a_large_graph():
    names = [f'n{i}' for i in range(60)]
    edges = [*zip(names, names[1:]), *zip(names, names[7:]), *zip(names[5:], names),
             *zip(names[11:], names)]
    streams = [f'{u}->{v}' for u, v in edges if names.index(u) > names.index(v)]
    graph = bare_graph('x->n0 ' + ' '.join(f'{u}->{v}' for u, v in edges), 'n59')
    assert steps_per_frame_pipelined(graph, pattern_from_streams(graph, streams)) == 12


def test_an_invalid_pattern_is_refused():
    with pytest.raises(InvalidRolloutError, match='the cycle v -> w -> v; one of them'):
        steps_per_frame_pipelined(FIGURE_2, {**streaming_pattern(FIGURE_2), ('v', 'w'): 0,
                                             ('w', 'v'): 0})
