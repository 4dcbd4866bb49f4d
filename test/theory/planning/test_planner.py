"""Candidates, forecasts and the recommendation."""

from dataclasses import replace
from itertools import combinations, permutations
import math

from hypothesis import given, strategies as st
import pytest
from stream_agent.graph_files.graph_file import graph_from_data, with_copies
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.information import delay_edges
from stream_agent.theory.patterns import (
    read_newest_image, sequential_pattern, streaming_pattern)
from stream_agent.theory.planning.candidates import (
    Candidate, cut, Device, even_parts, held_images, PARALLEL, Rollout, SERIAL, truncated, waves)
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.planner import beats, make_plan, reason
from stream_agent.theory.rollout import response_cone
from support.graphs import bare_graph, is_valid, SR
from support.strategies import all_patterns, examples, networks

PERIOD = 1 / 30
DEPTH = 8
# A chain of eight nodes whose last three, the first two, and the image feed the output.
CHAIN = bare_graph(
    ' '.join(['image->n1', *(f'n{i}->n{i + 1}' for i in range(1, DEPTH)), 'image->out', 'n1->out',
              'n6->out', 'n7->out', 'n8->out', 'n8->n8']), 'out', streams='n8->n8')


def chain_costs(share):
    """Return costs of which every node of the chain takes a share of the camera period."""
    return NodeCosts({**{f'n{i}': share * PERIOD for i in range(1, DEPTH + 1)},
                      'out': 0.01 * PERIOD})


def device(share, execution=SERIAL):
    return Device(chain_costs(share), execution, PERIOD)


@pytest.mark.parametrize('execution', [SERIAL, PARALLEL])
@given(graph=networks(max_inner=4, max_edges=7), scale=st.sampled_from([0.05, 0.3, 2.0]))
@examples(25)
def test_nothing_beats_the_best(execution, graph, scale):
    costs = NodeCosts({name: (1 + i) * scale for i, name in enumerate(graph.by_name)
                       if name not in graph.inputs}, overhead=0.01)
    plan = make_plan(graph, costs, 1.0, execution)
    plain = with_schedule(graph, {})
    others = [Candidate('any', Rollout(plain, pattern, plan.device))
              for pattern in all_patterns(plain) if is_valid(plain, pattern)
              and all(pattern[edge] for edge in delay_edges(plain))]
    for best in plan.best:
        assert not any(beats(other, best) and not beats(best, other)
                       for other in [*others, *plan.best])
    # And whatever was left out is beaten by something that was not.
    assert all(any(beats(best, other) for best in plan.best) for other in others)
    assert plan.recommended in plan.best


@pytest.mark.parametrize('share, execution, kind', [
    (0.02, SERIAL, 'sequential'),
    (0.2, SERIAL, 'multi-rate'),
    (0.4, SERIAL, 'multi-rate'),
    (0.02, PARALLEL, 'sequential'),
    (0.2, PARALLEL, 'hybrid'),
    # All but the cheap read-out streams: it waits for the last node of its frame.
    (0.8, PARALLEL, 'hybrid')])
def test_the_recommendation_as_passes_grow_longer(share, execution, kind):
    plan = make_plan(CHAIN, chain_costs(share), PERIOD, execution)
    assert plan.recommended.kind == kind
    assert plan.recommended.keeps_up
    assert reason(plan).startswith('It answers ')


def test_a_network_that_cannot_keep_up_is_truncated_only_if_nothing_else_does():
    slow = make_plan(CHAIN, chain_costs(6.0), PERIOD)
    assert slow.recommended.kind == 'truncated'
    assert slow.recommended.left_out == tuple(f'n{i}' for i in range(1, DEPTH + 1))
    assert {'n3'} <= set(make_plan(CHAIN, chain_costs(0.4), PERIOD).recommended.schedule)


def test_rounding_does_not_decide_where_an_age_is_a_limit():
    # At 6.4 periods a pass of eight equal nodes, waves of four frames are exactly at 2.5 periods.
    graph = bare_graph('image->n1 n1->n2 n2->n3 n3->n4 n4->n5 n5->n6 n6->n7 n7->n7 n7->out '
                       'image->out', 'out', streams='n7->n7')
    found = set()
    for rate in range(20, 120, 7):
        layer = 0.8 / rate
        plan = make_plan(graph, NodeCosts({'out': layer, **{
            f'n{i}': layer for i in range(1, 8)}}), 1 / rate)
        found.add(plan.recommended.rollout.graph.hyperperiod)
    assert found == {7}


@pytest.mark.parametrize('execution', [SERIAL, PARALLEL])
def test_a_free_node_that_joins_fresh_and_stale_information_is_updated_in_every_frame(execution):
    joined = bare_graph('image->n1 n1->n2 n2->n3 n3->n4 n4->n4 image->glance glance->join '
                        'n3->join n4->join glance->out join->out', 'out', streams='n4->n4')
    costs = NodeCosts({'glance': 0.0, 'join': 0.0, 'out': 0.05 * PERIOD,
                       **{f'n{i}': 0.8 * PERIOD for i in range(1, 5)}})
    rollout = make_plan(joined, costs, PERIOD, execution).recommended.rollout
    for frame in rollout.frames:
        assert {'glance', 'join', 'out'} <= {
            *response_cone(rollout.graph, rollout.pattern, frame)}


@pytest.mark.parametrize('execution', [SERIAL, PARALLEL])
def test_a_designed_delay_stays_and_is_no_age(execution):
    """An edge that is marked although no cycle needs it: the design wants the frame before."""
    graph = bare_graph('image->out image->before before->out', 'out', streams='image->before')
    plan = make_plan(graph, NodeCosts({'before': 0.001, 'out': 0.001}), PERIOD, execution)
    assert plan.bound.weighed == 4
    assert all(candidate.rollout.pattern['image', 'before'] for candidate in plan.best)
    assert plan.named['sequential'].ages == (0, 0)
    late = bare_graph('image->before before->out', 'out', streams='image->before')
    plan = make_plan(late, NodeCosts({'before': 0.001, 'out': 0.001}), PERIOD, execution)
    assert plan.named['sequential'].ages == (1, 1)


@pytest.mark.slow
def test_dsr6_is_searched_exactly():
    blocks = [['h1', 'h11', 'h12', 'h13'], ['h2', 'h21', 'h22', 'h23']]
    edges = ['img->h1', 'h1->h1', 'hd->out', *(f'{u}->{v}' for block in blocks
                                               for u, v in combinations(block, 2)),
             *(f'{u}->h2' for u in blocks[0]), *(f'{u}->hd' for u in blocks[1])]
    graph = bare_graph(' '.join(edges), 'out', streams='h1->h1')
    costs = NodeCosts({name: 1e-3 * (1 + i % 3) for i, name in enumerate(graph.by_name)
                       if name != 'img'})
    plan = make_plan(graph, costs, PERIOD, PARALLEL)
    assert (plan.bound.exact, plan.bound.weighed) == (True, 4_194_304)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 5))
@examples(100)
def test_even_parts_are_as_even_as_can_be(costs, count):
    parts = even_parts(costs, count)
    assert parts == sorted(parts) and set(parts) <= set(range(count))
    worst = max(sum(c for c, p in zip(costs, parts) if p == part) for part in range(count))
    cuts = combinations(range(len(costs) + 1), min(count, len(costs) + 1) - 1)
    assert worst == min(max(sum(costs[a:b]) for a, b in zip((0, *cut), (*cut, len(costs))))
                        for cut in cuts)


def test_a_wave_updates_every_deep_node_once_a_period_in_order_of_depth():
    for candidate in waves(CHAIN, {'out'}, device(0.2), longest=5):
        graph, period = candidate.rollout.graph, candidate.rollout.graph.hyperperiod
        updated = [[v for v in (f'n{i}' for i in range(1, DEPTH + 1))
                    if graph.node(v).updates_at(frame)] for frame in candidate.rollout.frames]
        assert [v for names in updated for v in names] == [f'n{i}' for i in range(1, DEPTH + 1)]
        assert all(graph.node('out').updates_at(frame) for frame in candidate.rollout.frames)
        assert candidate.rollout.pattern == cut(CHAIN, {'out'})
        assert candidate.frame_cost == pytest.approx(
            PERIOD * (0.01 + 0.2 * math.ceil(DEPTH / period)))
        # The image of a wave's first frame arrives with the frame after its last, and is held.
        assert candidate.ages == (0, 2 * period - 1)


def test_no_waves_run_through_a_graph_with_designed_delays():
    graph = with_copies(graph_from_data({
        'edges': ['image->far', 'far->mid', 'mid->deep', 'deep->out', 'image->out'],
        'nodes': {name: {} for name in ('image', 'far', 'mid', 'deep', 'out')}}),
        {('image', 'far'): 3})
    costs = NodeCosts({name: 0.001 for name in graph.by_name if name != 'image'})
    assert waves(graph, {'out'}, Device(costs, SERIAL, PERIOD), longest=2) == []


@pytest.mark.parametrize('k', range(1, 6))
def test_held_images_age_as_counted_image_by_image(k):
    candidate = Candidate('streaming', Rollout(CHAIN, read_newest_image(
        CHAIN, streaming_pattern(CHAIN)), device(0.1, PARALLEL)))
    (held,) = [c for c in [candidate, *held_images(candidate, 5)] if c.updates_per_frame == k]
    # Update s holds image ceil(s / k); the last update of image i is i k.
    for i in range(20, 24):
        for age, found in zip(candidate.ages, held.ages):
            assert found == i - math.ceil((i * k - age) / k)
    assert held.frame_cost == pytest.approx(k * candidate.frame_cost)
    assert held.response_latency == pytest.approx(candidate.response_latency
                                                  + (k - 1) * 0.1 * PERIOD)


def test_a_truncated_network_is_the_largest_that_fits():
    candidate = truncated(CHAIN, device(0.3))
    assert candidate.left_out == ('n2', 'n3', 'n4', 'n5', 'n6', 'n7', 'n8')
    assert candidate.keeps_up
    assert candidate.rollout.graph.output == 'out'
    # With n7 it would have fitted a camera of half the rate; the chain to it counts too.
    wider = truncated(CHAIN, Device(chain_costs(0.3), SERIAL, 2.2 * PERIOD))
    assert wider.left_out == ('n8',)
    assert truncated(CHAIN, device(0.05)) is None


def test_a_truncated_network_has_no_cycle_that_nothing_feeds():
    # Without d, the cycle of a and b reads no image any more.
    graph = bare_graph('image->d a->b b->a d->a b->out image->out', 'out', streams='b->a d->a')
    for names in permutations(['image', 'a', 'b', 'd', 'out']):
        turned = replace(graph, nodes=tuple(map(graph.node, names)))
        candidate = truncated(turned, Device(
            NodeCosts({'a': 1.0, 'b': 1.0, 'd': 1.0, 'out': 0.1}), SERIAL, 2.5))
        assert {*candidate.left_out} == {'a', 'b', 'd'}


def test_a_truncated_network_has_no_body_that_lacks_an_operand():
    graph = bare_graph('image->a a->b a->c b->c c->d d->out a->out image->out', 'out')
    graph = replace(graph, edges=tuple(
        replace(edge, transform='operand') if edge.target in 'cd' else edge
        for edge in graph.edges))
    candidate = truncated(graph, Device(
        NodeCosts({'a': 0.3, 'b': 0.9, 'c': 0.0, 'd': 0.0, 'out': 0.1}), SERIAL, 1.0))
    assert {*candidate.left_out} == {'b', 'c', 'd'}


def test_forecasts_of_the_worked_example():
    """Check SR by hand: h1, h2, out take 1, 2, 4 s, the camera 10 s, the overhead 0.5 s."""
    costs = NodeCosts({'h1': 1.0, 'h2': 2.0, 'out': 4.0}, 0.5)
    serial = Device(costs, SERIAL, 10.0)
    sequential = Candidate('sequential', Rollout(SR, sequential_pattern(SR), serial))
    assert sequential.figures == (7.5, 7.5, 7.5, 12.5, 0)
    assert sequential.newest_age == 12.5
    streaming = Candidate('streaming', Rollout(SR, streaming_pattern(SR), serial))
    assert streaming.figures == (4.5, 7.5, 24.5, 39.5, 0)
    parallel = Candidate('streaming', Rollout(SR, streaming_pattern(SR),
                                              Device(costs, PARALLEL, 3.0)))
    # The device is busy for 4.5 s, so a change waits 2.25 s on average; the frame that is taken
    # then has come within the last 3 s, and so waited 1.5 s.
    assert not parallel.keeps_up
    assert parallel.first_response == 2.25 + 2 * 4.5 + 4.5
    assert parallel.newest_age == 1.5 + 2 * 4.5 + 4.5 + 2.25
