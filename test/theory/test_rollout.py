"""Rollouts against the paper's worked examples, its theorem, and its other definitions."""

from collections import Counter

from hypothesis import given
import networkx as nx
import pytest
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.information import first_response, frames_until_response, images_seen
from stream_agent.theory.patterns import (
    InvalidRolloutError, pattern_from_streams, read_newest_image, sequential_pattern,
    streaming_pattern, update_order)
from stream_agent.theory.rollout import (
    depths, inference_factor, inference_tableau, initial_update_state, response_cone,
    rollout_window, update_step, window_nodes)
from support.graphs import bare_graph, EVERY_LAYER, FF, FIGURE_2, SR
from support.strategies import examples, first_steps, scheduled_networks, window_graph

GRAPHS = {'figure 2': FIGURE_2, 'SR': SR, 'FF': FF}


def hybrid(graph, *streams):
    return pattern_from_streams(graph, streams)


def row(tableau, name, size):
    return [tableau[i, name] for i in range(size + 1)]


@pytest.mark.parametrize('name, histogram', [
    ('figure 2', {1: 4, 2: 8}), ('SR', {1: 2, 2: 10, 3: 4}), ('FF', {1: 2, 2: 4, 3: 2})])
def test_valid_patterns_and_their_inference_factors(name, histogram):
    graph = GRAPHS[name]
    assert Counter(inference_factor(graph, pattern)
                   for pattern in valid_patterns(graph)) == histogram


@pytest.mark.parametrize('graph, pattern, expected', [
    (FIGURE_2, streaming_pattern(FIGURE_2), {'u': '0000', 'v': '0123', 'w': '0123'}),
    (FIGURE_2, hybrid(FIGURE_2, 'v->v', 'w->v'), {'u': '0000', 'v': '0135', 'w': '0246'}),
    (FIGURE_2, hybrid(FIGURE_2, 'v->v', 'v->w'), {'u': '0000', 'v': '0246', 'w': '0135'}),
    (SR, streaming_pattern(SR), {'h1': '01234', 'h2': '01234', 'out': '01234'}),
    (SR, sequential_pattern(SR), {'h1': '01234', 'h2': '02345', 'out': '03456'}),
    (SR, hybrid(SR, 'h1->h2', 'h1->h1', 'h1->out'),
     {'h1': '01234', 'h2': '01234', 'out': '02345'}),
    (FF, streaming_pattern(FF), {'h1': '0111', 'h2': '0122', 'out': '0123'})])
def test_inference_tableaus_of_the_worked_examples(graph, pattern, expected):
    size = len(next(iter(expected.values()))) - 1
    tableau = inference_tableau(graph, pattern, size)
    assert {name: ''.join(map(str, row(tableau, name, size))) for name in expected} == expected


@pytest.mark.parametrize('name', GRAPHS)
def test_the_tableau_is_the_first_update_step_at_which_a_node_is_there(name):
    graph, size = GRAPHS[name], 3
    for pattern in valid_patterns(graph):
        window = rollout_window(graph, pattern, size)
        state = initial_update_state(graph, size)
        first = {node: 0 for node, there in state.items() if there}
        for k in range(1, 4 * size):
            state = update_step(window, state)
            first.update({node: k for node, there in state.items()
                          if there and node not in first})
        assert first == inference_tableau(graph, pattern, size)


@pytest.mark.parametrize('name', GRAPHS)
def test_theorem_1_on_every_valid_pattern(name):
    graph, size = GRAPHS[name], 4
    tableaus = [(pattern, inference_tableau(graph, pattern, size))
                for pattern in valid_patterns(graph)]
    best = {node: min(tableau[node] for _, tableau in tableaus) for node in tableaus[0][1]}
    for pattern, tableau in tableaus:
        as_parallel = all(r for (u, _), r in pattern.items() if u not in graph.inputs)
        assert as_parallel == (inference_factor(graph, pattern) == 1)
        assert as_parallel == all(steps <= i for (i, _), steps in tableau.items())
        assert as_parallel == (tableau == best)


@pytest.mark.parametrize('pattern, response, images', [
    (streaming_pattern(SR), (2, 2), lambda i: set(range(0, i - 1))),
    (sequential_pattern(SR), (1, 3), lambda i: set(range(1, i + 1))),
    (hybrid(SR, 'h1->h2', 'h1->h1', 'h1->out'), (2, 3), lambda i: set(range(1, i)))])
def test_first_response_and_the_images_that_the_output_depends_on(pattern, response, images):
    assert first_response(SR, pattern) == response
    seen = images_seen(SR, pattern, 4)
    assert [seen[i, 'out'] for i in range(1, 5)] == [images(i) for i in range(1, 5)]


@pytest.mark.parametrize('name', GRAPHS)
def test_frames_until_response_agrees_with_the_images_seen(name):
    graph, size = GRAPHS[name], 6
    for pattern in valid_patterns(graph):
        seen = images_seen(graph, pattern, size)
        newest = max(seen[size, graph.output])
        assert frames_until_response(graph, pattern) == size - newest


@pytest.mark.parametrize('pattern, cone', [
    (streaming_pattern(SR), ['out']),
    (read_newest_image(SR, streaming_pattern(SR)), ['out']),
    (sequential_pattern(SR), ['h1', 'h2', 'out']),
    (hybrid(SR, 'h1->h1', 'h1->h2'), ['h1', 'h2', 'out']),
    (hybrid(SR, 'h1->h1', 'h1->out', 'h1->h2'), ['h2', 'out'])])
def test_response_cone(pattern, cone):
    assert response_cone(SR, pattern, 1) == cone


def test_reading_the_newest_image_keeps_the_factor_and_saves_a_frame():
    for graph in (SR, FF, EVERY_LAYER):
        streaming = streaming_pattern(graph)
        newest = read_newest_image(graph, streaming)
        assert inference_factor(graph, newest) == inference_factor(graph, streaming) == 1
        assert frames_until_response(graph, newest) == (
            frames_until_response(graph, streaming) - 1)


def test_reading_the_newest_image_keeps_delays_that_the_graph_marks():
    graph = bare_graph('img->now img->before now->out before->out', 'out', streams='img->before')
    newest = read_newest_image(graph, streaming_pattern(graph))
    assert (newest['img', 'now'], newest['img', 'before']) == (0, 1)


def test_an_invalid_pattern_names_its_cycle():
    graph = bare_graph('a->b b->c c->d d->b', 'd')
    with pytest.raises(InvalidRolloutError) as error:
        sequential_pattern(graph)
    assert str(error.value) == (
        'edges with R = 0 form the cycle b -> c -> d -> b; one of them has to stream (streams: '
        'true in the graph file, or among the streaming edges of the pattern)')


def test_an_unknown_edge_is_named():
    with pytest.raises(InvalidRolloutError) as error:
        pattern_from_streams(FF, ['h1->h3'])
    assert str(error.value) == (
        "no edge 'h1->h3'; the nearest is 'h1->h2'; edges are img->h1, h1->h2, h2->out")


def test_the_update_order_leads_along_every_sequential_edge():
    for pattern in valid_patterns(FIGURE_2):
        order = update_order(FIGURE_2, pattern)
        assert all(order.index(u) < order.index(v) for (u, v), r in pattern.items() if not r)


def computed_now(graph, pattern, frame):
    """Return the nodes that a frame computes, and the edges between them."""
    window = window_graph(graph, pattern, frame)
    return window.subgraph([(i, v) for i, v in window if i == frame and v not in graph.inputs])


@examples(60)
@given(scheduled_networks())
def test_with_a_schedule_the_tableau_counts_update_steps_and_repeats_while_a_node_is_held(graph):
    size = 6
    for pattern in valid_patterns(graph):
        tableau = inference_tableau(graph, pattern, size)
        steps = first_steps(graph, pattern, size)
        assert {node: tableau[node] for node in steps} == steps
        for node in graph.nodes:
            assert row(tableau, node.name, size) == [
                tableau[node.last_update(i), node.name] for i in range(size + 1)]


@examples(50)
@given(scheduled_networks())
def test_with_a_schedule_the_factor_is_the_longest_path_of_any_frame(graph):
    for pattern in valid_patterns(graph):
        longest = 0
        for frame in range(1, graph.hyperperiod + 1):
            now = computed_now(graph, pattern, frame)
            lengths = {v: depth for (_, v), depth in longest_paths(now).items()}
            expected = {node.name: lengths.get(node.name, 0) for node in graph.nodes}
            assert depths(graph, pattern, frame) == expected
            longest = max([longest, *lengths.values()])
        assert inference_factor(graph, pattern) == longest


def longest_paths(window):
    """Return the number of nodes on the longest path to each node."""
    longest = {}
    for node in nx.topological_sort(window):
        longest[node] = 1 + max((longest[u] for u in window.predecessors(node)), default=0)
    return longest


@examples(60)
@given(scheduled_networks())
def test_with_a_schedule_the_cone_is_what_leads_to_the_output_within_its_frame(graph):
    for pattern in valid_patterns(graph):
        for frame in range(1, 5):
            now = computed_now(graph, pattern, frame)
            output = frame, graph.output
            needed = {output, *nx.ancestors(now, output)} if output in now else set()
            cone = response_cone(graph, pattern, frame)
            assert {(frame, v) for v in cone} == needed
            assert len(cone) == len(needed)
            assert cone == [v for v in update_order(graph, pattern) if v in cone]


def test_the_window_leaves_out_frames_in_which_a_node_is_held():
    graph = with_schedule(bare_graph('x->slow slow->out', 'out'), {'slow': (2, 1)})
    pattern = pattern_from_streams(graph, ['slow->out'])
    assert window_nodes(graph, 3) == [
        (0, 'x'), (0, 'slow'), (0, 'out'), (1, 'x'), (1, 'slow'), (1, 'out'), (2, 'x'),
        (2, 'out'), (3, 'x'), (3, 'slow'), (3, 'out')]
    assert set(rollout_window(graph, pattern, 3)) == {
        ((0, 'x'), (0, 'slow')), ((1, 'x'), (1, 'slow')), ((3, 'x'), (3, 'slow')),
        ((0, 'slow'), (1, 'out')), ((1, 'slow'), (2, 'out')), ((1, 'slow'), (3, 'out'))}
    assert row(inference_tableau(graph, pattern, 4), 'slow', 4) == [0, 1, 1, 1, 1]
