"""Every definition of the paper against every other, over all patterns of random networks."""

from itertools import chain, combinations

from hypothesis import given
import networkx as nx
from stream_agent.theory.counting import count_bounds, count_valid_patterns, lower_bound
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.information import first_response, images_seen
from stream_agent.theory.patterns import edges_of, streaming_pattern
from stream_agent.theory.rollout import inference_factor, inference_tableau
from support.graphs import is_valid
from support.strategies import (
    all_patterns, examples, first_steps, networks, paths_to, updates_graph, window_graph)


@examples(150)
@given(networks(max_edges=7))
def test_the_window_of_any_size_is_acyclic_exactly_for_valid_patterns(graph):
    for pattern in all_patterns(graph):
        for size in (1, 2, 3):
            window = window_graph(graph, pattern, size)
            assert nx.is_directed_acyclic_graph(window) == is_valid(graph, pattern)


@examples(200)
@given(networks())
def test_the_exact_count_is_the_number_of_valid_patterns(graph):
    patterns = list(valid_patterns(graph))
    assert all(map(is_valid, [graph] * len(patterns), patterns))
    assert len({tuple(pattern.values()) for pattern in patterns}) == len(patterns)
    assert count_valid_patterns(graph) == len(patterns)


@examples(200)
@given(networks(max_inner=5, max_edges=11))
def test_lemma_1_with_any_cycles_that_share_no_node(graph):
    edges = edges_of(graph)
    cycles = list(nx.simple_cycles(nx.DiGraph(edges)))
    in_cycles = {edge for cycle in cycles for edge in zip(cycle, [*cycle[1:], cycle[0]])}
    number = count_valid_patterns(graph)
    low, high = count_bounds(graph)
    assert 1 <= low <= number <= high == 2 ** sum(u != v for u, v in edges)
    assert low >= 2 ** (len(edges) - len(in_cycles))
    chosen = chain.from_iterable(combinations(cycles, n) for n in range(4))
    for some in chosen:
        if len(set(chain(*some))) == sum(map(len, some)):
            alone = lower_bound([], some)
            assert alone <= lower_bound(edges, some) <= number
            assert lower_bound(edges, some) == alone * 2 ** (len(edges) - len(in_cycles))


@examples(200)
@given(networks(max_edges=8))
def test_the_tableau_counts_update_steps(graph):
    for pattern in valid_patterns(graph):
        assert inference_tableau(graph, pattern, 3) == first_steps(graph, pattern, 3)


@examples(100)
@given(networks(max_edges=7))
def test_the_tableau_is_the_longest_path_whose_first_edge_does_not_end_in_frame_0(graph):
    for pattern in valid_patterns(graph):
        window = window_graph(graph, pattern, 2)
        tableau = inference_tableau(graph, pattern, 2)
        for node in window:
            lengths = [len(path) - 1 for path in paths_to(window, node)
                       if len(path) > 1 and path[1][0] > 0]
            assert tableau[node] == max(lengths, default=0)


@examples(150)
@given(networks())
def test_the_inference_factor_is_the_longest_path_of_edges_that_do_not_stream(graph):
    inner = [node.name for node in graph.nodes if node.name not in graph.inputs]
    for pattern in valid_patterns(graph):
        now = nx.DiGraph(e for e, r in pattern.items() if not r and e[0] not in graph.inputs)
        now.add_nodes_from(inner)
        longest = len(nx.dag_longest_path(now))
        assert inference_factor(graph, pattern) == longest
        tableau = inference_tableau(graph, pattern, 1)
        assert longest == max(tableau.values())


@examples(150)
@given(networks())
def test_theorem_1(graph):
    patterns = list(valid_patterns(graph))
    tableaus = [inference_tableau(graph, pattern, 3) for pattern in patterns]
    least = {node: min(tableau[node] for tableau in tableaus) for node in tableaus[0]}
    streaming = streaming_pattern(graph)
    for pattern, tableau in zip(patterns, tableaus):
        equal = all(pattern[u, v] == streaming[u, v] for u, v in streaming
                    if u not in graph.inputs)
        assert equal == (inference_factor(graph, pattern) == 1)
        assert equal == all(steps <= i for (i, _), steps in tableau.items())
        assert equal == (tableau == least)


@examples(200)
@given(networks(max_edges=7))
def test_images_seen_are_those_that_lead_to_a_node_in_the_window(graph):
    size = 4
    for pattern in valid_patterns(graph):
        window = updates_graph(graph, pattern, size)
        seen = images_seen(graph, pattern, size)
        for node in window:
            assert seen[node] == {i for i, v in {node, *nx.ancestors(window, node)}
                                  if v in graph.inputs}


@examples(200)
@given(networks(max_edges=8))
def test_the_first_response_is_the_first_output_that_an_image_leads_to(graph):
    size = len(graph.nodes) + 1
    for pattern in valid_patterns(graph):
        window = updates_graph(graph, pattern, size)
        frame = next(i for i in range(1, size) if any(
            v in graph.inputs for _, v in nx.ancestors(window, (i, graph.output))))
        assert first_response(graph, pattern) == (
            frame, first_steps(graph, pattern, frame)[frame, graph.output])
