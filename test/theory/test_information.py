"""What outputs know under a schedule, against windows and paths taken literally."""

from hypothesis import given
import pytest
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.information import (
    first_response, frames_unanswered, frames_until_response, images_seen, information_ages,
    memory_edges)
from stream_agent.theory.patterns import read_newest_image, sequential_pattern, streaming_pattern
from stream_agent.theory.rollout import window_nodes
from support.graphs import bare_graph, SR
from support.strategies import examples, first_steps, paths_to, scheduled_networks, updates_graph


def settled(graph):
    """Return a frame from which on every path from an image has come to its end."""
    return (len(graph.nodes) + 1) * (1 + max(node.period for node in graph.nodes))


def answers(graph, pattern, size):
    """Return the newest image that the output of every frame depends on; -1 before the first."""
    seen = images_seen(graph, pattern, size)
    return [max(seen[i, graph.output], default=-1) for i in range(size + 1)]


@examples(50)
@given(scheduled_networks())
def test_images_seen_are_those_that_lead_to_the_last_update_of_a_node(graph):
    size = 7
    for pattern in valid_patterns(graph):
        window = updates_graph(graph, pattern, size)
        seen = images_seen(graph, pattern, size)
        for i in range(size + 1):
            for node in graph.nodes:
                update = node.last_update(i), node.name
                images = {j for (j, v) in window if v in graph.inputs
                          and (j, v) in {update, *ancestors(window, update)}}
                assert seen[i, node.name] == images


def ancestors(window, node):
    """Return the nodes that lead to a node, by going back."""
    found, new = set(), {node}
    while new:
        new = {u for v in new for u in window.predecessors(v)} - found
        found |= new
    return found


@examples(80)
@given(scheduled_networks())
def test_a_new_image_is_answered_after_frames_until_response_at_worst(graph):
    for pattern in valid_patterns(graph):
        start = settled(graph)
        newest = answers(graph, pattern, 2 * start + graph.hyperperiod)
        delays = [next(i for i in range(image, len(newest)) if newest[i] >= image) - image
                  for image in range(start, start + graph.hyperperiod)]
        assert frames_until_response(graph, pattern) == max(delays)


@examples(60)
@given(scheduled_networks())
def test_first_answers_after_a_reset(graph):
    for pattern in valid_patterns(graph):
        newest = answers(graph, pattern, settled(graph))
        frame = next(i for i in range(1, len(newest)) if newest[i] >= 0)
        update = graph.node(graph.output).last_update(frame)
        steps = first_steps(graph, pattern, frame)[update, graph.output]
        assert first_response(graph, pattern) == (frame, steps)
        assert frames_unanswered(graph, pattern) == next(
            i for i in range(len(newest)) if newest[i] >= 1) - 1


@examples(60)
@given(scheduled_networks(max_period=3))
def test_ages_are_those_of_the_shortest_and_the_longest_paths(graph):
    memory = memory_edges(graph)
    last = settled(graph) + graph.hyperperiod
    for pattern in valid_patterns(graph):
        forward = {edge: r for edge, r in pattern.items() if edge not in memory}
        newest = answers(graph, pattern, last)
        window = updates_graph(graph, forward, last)
        frames = range(last - graph.hyperperiod + 1, last + 1)
        oldest = [min(path[0][0] for path in paths_to(
                  window, (graph.node(graph.output).last_update(i), graph.output))
                  if path[0][1] in graph.inputs) for i in frames]
        assert information_ages(graph, pattern) == (
            max(i - newest[i] for i in frames), max(i - j for i, j in zip(frames, oldest)))


@pytest.mark.parametrize('schedule, pattern, ages, unanswered', [
    # The worst frame of h1, computed every third, reads an image of two frames ago.
    ({'h1': (3, 0)}, sequential_pattern, (2, 2), 2),
    ({'h1': (3, 1)}, sequential_pattern, (2, 2), 0),
    ({'h2': (2, 0)}, sequential_pattern, (0, 1), 0),
    ({'h2': (2, 0)}, streaming_pattern, (2, 4), 2),
    ({'out': (2, 1)}, sequential_pattern, (1, 1), 0)])
def test_worked_examples(schedule, pattern, ages, unanswered):
    graph = with_schedule(SR, schedule)
    assert information_ages(graph, pattern(graph)) == ages
    assert frames_unanswered(graph, pattern(graph)) == unanswered


def test_a_node_that_two_rates_feed_has_the_ages_of_both():
    graph = bare_graph('image->slow image->fast slow->out fast->out', 'out')
    graph = with_schedule(graph, {'slow': (4, 1)})
    pattern = read_newest_image(graph, streaming_pattern(graph))
    assert information_ages(graph, pattern) == (1, 4)
    assert len([v for i, v in window_nodes(graph, 8) if v == 'slow' and i > 0]) == 2
