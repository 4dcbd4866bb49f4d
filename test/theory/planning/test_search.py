"""The search against brute force: fronts, bounds, and pipelines."""

from hypothesis import given, strategies as st
import numpy as np
import pytest
from stream_agent.theory.information import delay_edges, information_ages, memory_edges
from stream_agent.theory.planning import search
from stream_agent.theory.planning.candidates import Device, PARALLEL, Pipelines, SERIAL
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.search import best_patterns, cheapest_path, unbeaten_rows
from stream_agent.theory.rollout import response_cone
from support.graphs import is_valid
from support.strategies import all_patterns, examples, networks

EXECUTIONS = pytest.mark.parametrize('execution', [SERIAL, PARALLEL])


@st.composite
def priced_networks(draw):
    """Draw a network, and whole seconds for its nodes, so that sums are exact and tie."""
    graph = draw(networks(max_inner=4, max_edges=8))
    return graph, {node.name: float(draw(st.integers(1, 4))) for node in graph.nodes
                   if node.name not in graph.inputs}


def figures(graph, pattern, device):
    """Return response latency, frame cost, and both ages, by the theory alone."""
    cone = response_cone(graph, pattern, 1)
    return (device.seconds(graph, pattern, cone),
            device.seconds(graph, pattern, device.costs.nodes),
            *information_ages(graph, pattern))


def patterns_to_weigh(graph):
    """Return the valid patterns that keep the delays that the design wants."""
    return [pattern for pattern in all_patterns(graph) if is_valid(graph, pattern)
            and all(pattern[edge] for edge in delay_edges(graph))]


def all_figures(graph, device, keep=lambda pattern: True):
    return {figures(graph, pattern, device) for pattern in patterns_to_weigh(graph)
            if keep(pattern)}


def front_of(points):
    return {point for point in points if not any(
        other != point and all(a <= b for a, b in zip(other, point)) for other in points)}


@EXECUTIONS
@given(priced=priced_networks())
@examples(40)
def test_the_exact_search_finds_the_front_of_all_valid_patterns(execution, priced):
    graph, seconds = priced
    device = Device(NodeCosts(seconds), execution, 1.0)
    patterns, bound = best_patterns(graph, device)
    assert bound.exact
    assert bound.weighed == len(patterns_to_weigh(graph))
    found = [figures(graph, pattern, device) for pattern in patterns]
    assert set(found) == front_of(all_figures(graph, device))
    assert len(found) == len(set(found))


@EXECUTIONS
@given(priced=priced_networks())
@examples(40)
def test_the_bounds_of_a_search_hold_and_are_reached(execution, priced):
    graph, seconds = priced
    device = Device(NodeCosts(seconds), execution, 1.0)
    most = search.MOST_EXACT_EDGES
    try:
        search.MOST_EXACT_EDGES = -1
        patterns, bound = best_patterns(graph, device)
    finally:
        search.MOST_EXACT_EDGES = most
    assert not bound.exact
    assert all(is_valid(graph, pattern) for pattern in patterns)
    points = all_figures(graph, device)
    found = [figures(graph, pattern, device) for pattern in patterns]
    # Nothing was called best that another pattern of the search beats.
    assert front_of(set(found)) == set(found)
    assert min(latency for latency, *_ in points) == seconds[graph.output]
    assert min(latency for latency, *_ in found) == seconds[graph.output]
    path = cheapest_path(graph, device)
    prompt = [latency for latency, _, newest, _ in points if not newest]
    assert min(prompt, default=None) == (sum(seconds[name] for name in path) if path else None)
    streaming = all_figures(graph, device, lambda pattern: all(
        pattern[edge] for edge in memory_edges(graph)))
    for age in range(max(oldest for *_, oldest in streaming) + 1):
        costs = [cost for _, cost, _, oldest in streaming if oldest <= age]
        assert min(costs, default=None) == min(
            (cost for _, cost, _, oldest in found if oldest <= age), default=None)


@given(priced_networks())
@examples(60)
def test_pipelines_are_the_cheapest_frames_for_their_age(priced):
    graph, seconds = priced
    device = Device(NodeCosts(seconds), PARALLEL, 1.0)
    points = all_figures(graph, device, lambda pattern: all(
        pattern[edge] for edge in memory_edges(graph)))
    for age, (cost, pattern) in enumerate(Pipelines(graph, seconds).cheapest_frames()):
        least = min(frame for _, frame, _, oldest in points if oldest <= age)
        assert cost == pytest.approx(least, rel=1e-5)
        _, frame, _, oldest = figures(graph, pattern, device)
        assert (frame, oldest <= age) == (least, True)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))))
@examples(200)
def test_unbeaten_rows(points):
    figures = np.array(sorted(points)).reshape(-1, 3)
    kept = [tuple(row) for row in figures[unbeaten_rows(figures)]]
    assert set(kept) == front_of(set(points))
    assert len(kept) == len(set(kept))
