"""Ranks that wait for each other: periods that follow from costs, and some worked by hand."""

from hypothesis import given, strategies as st
import pytest
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.patterns import (
    newest_image_pattern, sequential_pattern, streaming_pattern)
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.partition import MessageCost, rank_seconds, RankPipeline
from support.graphs import bare_graph
from support.strategies import examples, networks

FREE = MessageCost(0.0, 0.0, 0.0)
LOOP = bare_graph('x->a a->out x->out', 'out')


def period(graph, pattern, seconds, rank_of, link=FREE, overhead=0.0):
    return RankPipeline(graph, pattern, NodeCosts(seconds, overhead), rank_of, link).period()


@given(graph=networks(max_inner=4, max_edges=9), data=st.data())
@examples(60)
def test_without_latency_the_slowest_rank_sets_the_period(graph, data):
    pattern = streaming_pattern(graph)
    names = [name for name in graph.by_name if name not in graph.inputs]
    rank_of = dict.fromkeys(graph.by_name, 0) | {
        name: data.draw(st.integers(0, 2)) for name in names if name != graph.output}
    costs = NodeCosts({name: data.draw(st.integers(1, 9)) / 2 for name in names}, overhead=0.5)
    slowest = rank_seconds(graph, pattern, costs, rank_of, 3, FREE).max()
    assert RankPipeline(graph, pattern, costs, rank_of, FREE).period() == pytest.approx(slowest)
    # Whatever messages take, no rank can do with less time than all of its work.
    dear = MessageCost(per_message=0.2, per_byte=0.0, latency=0.7)
    slowest = rank_seconds(graph, pattern, costs, rank_of, 3, dear).max()
    assert RankPipeline(graph, pattern, costs, rank_of, dear).period() >= slowest - 1e-9


def test_one_rank_takes_its_time():
    rank_of = dict.fromkeys(LOOP.by_name, 0)
    for pattern in (streaming_pattern(LOOP), sequential_pattern(LOOP)):
        assert period(LOOP, pattern, {'a': 3.0, 'out': 1.0}, rank_of, overhead=0.5) == (
            pytest.approx(4.5))


@pytest.mark.parametrize('latency, expected', [(0.5, 2.0), (1.0, 2.0), (5.0, 6.0)])
def test_an_order_and_its_answer_take_two_frames(latency, expected):
    """Rank 0 orders, a is computed elsewhere, and the answer to the next frame reads it."""
    rank_of = {'x': 0, 'a': 1, 'out': 0}
    # There and back, and both nodes, within two periods; or the dearest rank.
    found = period(LOOP, newest_image_pattern(LOOP), {'a': 2.0, 'out': 0.0}, rank_of,
                   MessageCost(0.0, 0.0, latency))
    assert found == pytest.approx(expected)


def test_latency_is_hidden_by_the_work_of_others():
    graph = bare_graph('x->a a->out x->out x->b b->b', 'out', streams='b->b')
    rank_of = {'x': 0, 'a': 1, 'b': 1, 'out': 0}
    # a is sent first, so that b covers the way to rank 0.
    found = period(graph, newest_image_pattern(graph), {'a': 1.0, 'b': 9.0, 'out': 0.0}, rank_of,
                   MessageCost(0.0, 0.0, 8.0))
    assert found == pytest.approx(10.0)


def test_a_schedule_counts_by_its_mean():
    graph = with_schedule(LOOP, {'a': (3, 0)})
    rank_of = {'x': 0, 'a': 0, 'out': 0}
    assert period(graph, newest_image_pattern(graph), {'a': 3.0, 'out': 1.0}, rank_of) == (
        pytest.approx(2.0))
