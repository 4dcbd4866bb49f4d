"""Partitions: the best of all for small graphs, near the bound for large ones, and never unfit."""

from dataclasses import replace
from itertools import product
from random import Random

from hypothesis import given, strategies as st
import pytest
from stream_agent.theory.graph import EdgeSpec, GraphSpec, NodeSpec, with_schedule
from stream_agent.theory.patterns import (
    newest_image_pattern, sequential_pattern, streaming_pattern)
from stream_agent.theory.planning.costs import CostError, NodeCosts
from stream_agent.theory.planning.partition import (
    check_partition, MessageCost, PartitionError, sent_at, work_order)
from stream_agent.theory.planning.partition_search import Blocks, ExactSearch, partition, placed_on
from stream_agent.theory.rollout import rollout_window
from support.graphs import bare_graph, is_valid
from support.strategies import examples, scheduled_networks

LINK = MessageCost(per_message=0.3, per_byte=0.01, latency=0.0)
FREE = MessageCost(0.0, 0.0, 0.0)
DEPTH = 24
CHAIN = bare_graph(' '.join(['x->n1', *(f'n{i}->n{i + 1}' for i in range(1, DEPTH)),
                             f'n{DEPTH}->out']), 'out')


def costs_of(graph, seconds, overhead=0.0):
    """Return costs; ``seconds`` of each node, or of all."""
    names = [name for name in graph.by_name if name not in graph.inputs]
    if isinstance(seconds, (int, float)):
        seconds = dict.fromkeys(names, seconds)
    return NodeCosts(seconds, overhead)


@st.composite
def problems(draw):
    """Draw a network with a schedule, shapes, a valid pattern, and costs."""
    graph = draw(scheduled_networks(max_inner=4, max_edges=8, max_period=2))
    graph = replace(graph, nodes=tuple(
        replace(node, shape=(draw(st.integers(1, 9)),)) for node in graph.nodes))
    streams = draw(st.lists(st.booleans(), min_size=len(graph.edges), max_size=len(graph.edges)))
    pattern = {(edge.source, edge.target): int(stream or edge.streams)
               for edge, stream in zip(graph.edges, streams)}
    assert is_valid(graph, pattern)
    costs = costs_of(graph, {name: draw(st.integers(1, 20)) / 4 for name in graph.by_name
                             if name not in graph.inputs}, draw(st.sampled_from([0.0, 1.0])))
    return graph, pattern, costs


def read_later(graph, pattern):
    """Return the (node, frame) whose value another node reads in a later frame of the window."""
    size = 3 * graph.hyperperiod + 2
    return {(u, i) for (i, u), (j, v) in rollout_window(graph, pattern, size)
            if u != v and i < j and graph.node(u).updates_at(i)}


def literal_key(graph, pattern, costs, rank_of, ranks):
    """Return the period in nanoseconds, messages and bytes, from the definitions."""
    later = read_later(graph, pattern)
    crossing = {(u, rank_of[v]) for u, v in pattern if rank_of[u] != rank_of[v]}
    size = {node.name: 4 * node.shape[0] for node in graph.nodes}
    period = 0.0
    for t in range(graph.hyperperiod + 1, 2 * graph.hyperperiod + 1):
        seconds = [costs.overhead * (rank == 0) for rank in range(ranks)]
        for name, cost in costs.nodes.items():
            seconds[rank_of[name]] += cost * graph.node(name).updates_at(t)
        for rank in {*rank_of.values()} - {0}:
            seconds[0] += LINK.per_message
            seconds[rank] += LINK.per_message
        for u, rank in crossing:
            per_message = 0.0 if u in graph.inputs else LINK.per_message
            if u in graph.inputs or (u, t) in later:
                for end in (rank_of[u], rank):
                    seconds[end] += per_message + LINK.per_byte * size[u]
        period = max(period, *seconds)
    return round(period * 1e9), len(crossing), sum(size[u] for u, _ in crossing)


def allowed(graph, pattern, ranks):
    """Yield all ranks of the nodes in which none waits for another within a frame."""
    names = [name for name in graph.by_name if name not in (*graph.inputs, graph.output)]
    for places in product(range(ranks), repeat=len(names)):
        rank_of = dict.fromkeys(graph.by_name, 0) | dict(zip(names, places))
        if all(r or u in graph.inputs or rank_of[u] == rank_of[v]
               for (u, v), r in pattern.items()):
            yield rank_of


@given(problem=problems(), ranks=st.integers(1, 3))
@examples(40)
def test_no_partition_is_better(problem, ranks):
    found = partition(*problem, ranks, LINK, tolerance=0.0, least_gain=0.0)
    check_partition(*problem[:2], found.rank_of)
    assert found.exact
    best = min(literal_key(*problem, rank_of, ranks) for rank_of in allowed(*problem[:2], ranks))
    assert literal_key(*problem, found.rank_of, ranks) == best
    assert round(max(found.seconds) * 1e9) == best[0]
    assert len(found.messages) == best[1]
    assert found.period <= found.one_rank * (1 + 1e-9)


@given(problem=problems(), ranks=st.integers(1, 3))
@examples(40)
def test_the_exact_search_needs_no_good_beginning(problem, ranks):
    blocks = Blocks(*problem, ranks, LINK, tolerance=0.0)
    start = placed_on(blocks, range(1, len(blocks.names)), [0] * (len(blocks.names) - 1))
    rank_of = blocks.rank_of(ExactSearch(start, 10**6).run())
    assert literal_key(*problem, rank_of, ranks) == min(
        literal_key(*problem, other, ranks) for other in allowed(*problem[:2], ranks))


@given(problem=problems(), moves=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2))))
@examples(40)
def test_moving_blocks_leaves_nothing_behind(problem, moves):
    blocks = Blocks(*problem, 3, LINK, tolerance=0.0)
    order = range(1, len(blocks.names))
    placed = placed_on(blocks, order, [block % 3 for block in order])
    for block, rank in moves:
        if order:
            placed.move(1 + block % len(order), rank)
    rank_of = blocks.rank_of(placed.ranks)
    assert placed.key[1:] == (*literal_key(*problem, rank_of, 3)[1:], placed.key[0])
    assert placed.key[0] == literal_key(*problem, rank_of, 3)[0]


@given(graph=scheduled_networks(max_inner=4, max_edges=8, max_period=4))
@examples(40)
def test_a_value_is_sent_if_it_is_read_later(graph):
    pattern = streaming_pattern(graph)
    later = read_later(graph, pattern)
    for u in graph.by_name:
        for t in range(graph.hyperperiod + 1, 2 * graph.hyperperiod + 1):
            assert sent_at(graph, pattern, u, t) == ((u, t) in later)


@pytest.mark.slow
@pytest.mark.parametrize('ranks', [2, 3, 6])
def test_a_chain_is_cut_into_equal_pieces(ranks):
    found = partition(CHAIN, newest_image_pattern(CHAIN), costs_of(CHAIN, 1.0), ranks,
                      MessageCost(0.01, 0.0, 0.0))
    assert found.period < 1.05 * (DEPTH + 1) / ranks + 1
    assert found.reason == ''
    for rank in range(1, ranks):
        numbers = [int(name[1:]) for name in found.nodes_on(rank)]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))


@pytest.mark.slow
@pytest.mark.parametrize('ranks', [2, 4])
def test_large_graphs_come_near_the_bound(ranks):
    chance = Random(ranks)
    names = ['x', *(f'n{i}' for i in range(40))]
    edges = {(names[chance.randrange(max(0, i - 4), i)], names[i]) for i in range(1, 41)
             for _ in range(2)}
    graph = GraphSpec(tuple(map(NodeSpec, names)), tuple(EdgeSpec(u, v) for u, v in sorted(edges)),
                      names[-1])
    costs = costs_of(graph, {name: chance.uniform(0.2, 1.0) for name in names[1:]})
    found = partition(graph, newest_image_pattern(graph), costs, ranks, FREE)
    assert found.period < 1.02 * costs.total() / ranks


def test_the_most_expensive_frame_of_a_schedule_counts():
    graph = with_schedule(bare_graph('x->a x->b x->c x->d a->out b->out c->out d->out', 'out'),
                          {'a': (2, 0), 'b': (2, 0), 'c': (2, 1), 'd': (2, 1)})
    found = partition(graph, newest_image_pattern(graph), costs_of(graph, 1.0), 3, FREE)
    # Two of the four are computed in a frame, and the output in every one.
    assert found.seconds == (1.0, 1.0, 1.0)
    assert {found.rank_of[name] for name in 'ab'} == {found.rank_of[name] for name in 'cd'} == {
        1, 2}


@pytest.mark.parametrize('pattern, ranks, link, reason', [
    (sequential_pattern, 2, FREE,
     '1 of 2 ranks has no work: edges with R = 0 join all nodes, so that each waits for another '
     'within the frame; let edges stream'),
    (lambda graph: {**sequential_pattern(graph), ('n9', 'n10'): 1}, 4, FREE,
     '2 of 4 ranks have no work: edges with R = 0 leave 2 parts that can be computed at the same '
     'time; let more edges stream'),
    (newest_image_pattern, 3, MessageCost(30.0, 0.0, 0.0),
     '2 of 3 ranks have no work: messages and waiting for them would take most of what is saved, '
     'or more')])
def test_ranks_without_work_have_a_reason(pattern, ranks, link, reason):
    found = partition(CHAIN, pattern(CHAIN), costs_of(CHAIN, 1.0), ranks, link)
    assert found.reason == reason
    assert found.ranks == ranks


@pytest.mark.parametrize('least_gain, ranks', [(0.2, 1), (0.15, 2)])
def test_a_small_gain_is_not_taken(least_gain, ranks):
    graph = bare_graph('x->a a->out', 'out')
    costs = costs_of(graph, {'a': 4.0, 'out': 1.0})
    found = partition(graph, newest_image_pattern(graph), costs, 2, MessageCost(0.1, 0.0, 0.0),
                      least_gain=least_gain)
    # The order and the value take 0.1 each, so that two ranks would take 4.2 instead of 5.
    assert len({*found.rank_of.values()}) == ranks
    assert found.period == pytest.approx(5.0 if ranks == 1 else 4.2)


def test_what_is_sent_comes_early_and_what_waits_comes_late():
    graph = bare_graph('x->a a->b b->c c->d b->d x->e e->f a->f f->out', 'out')
    pattern = {**streaming_pattern(graph), ('e', 'f'): 0}
    rank_of = {'x': 0, 'a': 1, 'b': 0, 'c': 0, 'd': 1, 'e': 0, 'f': 0, 'out': 0}
    # c is sent; e waits for nobody; b and f read a from rank 1, and b is sent back.
    assert work_order(graph, pattern, rank_of, ['f', 'b', 'e', 'c']) == ['c', 'e', 'b', 'f']
    # f and out in one frame: the edge between them outweighs all else.
    together = {**pattern, ('f', 'out'): 0}
    assert work_order(graph, together, rank_of, ['f', 'out', 'c']) == ['c', 'f', 'out']


SMALL = bare_graph('x->a a->b b->out', 'out')
TOGETHER = dict.fromkeys('xab', 0) | {'out': 0}


@pytest.mark.parametrize('rank_of, message', [
    ({'x': 0, 'a': 0, 'out': 0}, "partition: no rank for the node 'b'; give every node one"),
    ({**TOGETHER, 'c': 1},
     "partition: no node named 'c' in the graph; make the partition of the graph that is run"),
    ({**TOGETHER, 'out': 1},
     "partition: 'out' is on rank 1, but images come to rank 0 and answers leave it; put it "
     'there'),
    ({**TOGETHER, 'a': 1},
     'partition: the edge a->b has R = 0, but leads from rank 1 to rank 0; put both on one rank, '
     'or let the edge stream')])
def test_a_partition_that_does_not_fit_is_refused(rank_of, message):
    with pytest.raises(PartitionError) as error:
        check_partition(SMALL, sequential_pattern(SMALL), rank_of)
    assert str(error.value) == message


def test_no_ranks_and_missing_costs_are_refused():
    with pytest.raises(PartitionError) as error:
        partition(SMALL, streaming_pattern(SMALL), costs_of(SMALL, 1.0), 0)
    assert str(error.value) == 'ranks is 0; it is at least 1'
    with pytest.raises(CostError) as error:
        partition(SMALL, streaming_pattern(SMALL), NodeCosts({'a': 1.0, 'b': 1.0}), 2)
    assert str(error.value) == "the node 'out' has no cost; give one for each of a, b, out"
