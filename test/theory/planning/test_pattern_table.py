"""The table of many patterns against the theory of one pattern at a time."""

from hypothesis import given
import numpy as np
import pytest
from stream_agent.theory.information import delay_edges, information_ages
from stream_agent.theory.planning.candidates import Device, PARALLEL
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.search import all_bits, PatternEvaluator
from stream_agent.theory.rollout import response_cone
from support.graphs import bare_graph, EVERY_LAYER, FIGURE_2, is_valid, SR
from support.strategies import all_patterns, examples, networks


def seconds_of(graph):
    """Give every node a cost of its own; sums tell which nodes are in them."""
    names = [node.name for node in graph.nodes if node.name not in graph.inputs]
    return {name: 2.0**-i for i, name in enumerate(names)}


def assert_table_is_the_theory(graph):
    seconds = seconds_of(graph)
    evaluator = PatternEvaluator(graph, seconds)
    table = evaluator.table(np.concatenate(list(all_bits(graph, chunk=100))))
    device = Device(NodeCosts(seconds), PARALLEL, 1.0)
    for i, bits in enumerate(table.bits):
        pattern = evaluator.pattern(bits)
        assert table.valid[i] == is_valid(graph, pattern)
        if not table.valid[i]:
            continue
        cone = response_cone(graph, pattern, 1)
        assert table.cone[i] == sum(seconds[name] for name in cone)
        assert table.path[i] == device.seconds(graph, pattern, cone)
        assert table.longest_path[i] == device.seconds(graph, pattern, seconds)
        assert (table.newest[i], table.oldest[i]) == information_ages(graph, pattern)


# Where all ways to the output carry memory, nothing is older than the newest.
DELAYED = bare_graph('image->before before->out', 'out', streams='image->before')


@pytest.mark.parametrize('graph', [FIGURE_2, SR, EVERY_LAYER, DELAYED],
                         ids=['figure 2', 'SR', 'every layer', 'delayed'])
def test_the_worked_examples(graph):
    assert_table_is_the_theory(graph)


@given(networks(max_inner=4, max_edges=8))
@examples(40)
def test_random_networks(graph):
    assert_table_is_the_theory(graph)


@given(networks())
@examples(30)
def test_all_bits_are_all_patterns_with_streaming_self_edges_and_delays(graph):
    evaluator = PatternEvaluator(graph, {})
    rows = [tuple(row) for bits in all_bits(graph, chunk=7) for row in bits]
    wanted = [tuple(evaluator.row(pattern)) for pattern in all_patterns(graph)
              if all(r for (u, v), r in pattern.items()
                     if u == v or (u, v) in delay_edges(graph))]
    assert sorted(rows) == sorted(wanted)
