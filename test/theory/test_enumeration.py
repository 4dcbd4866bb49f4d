"""Enumerations of patterns, against going through all 2^|E| of them."""

from itertools import islice
import time

from hypothesis import given
import pytest
from stream_agent.theory.enumeration import (
    EnumerationError, minimal_patterns, sequential_patterns, valid_patterns)
from stream_agent.theory.patterns import sequential_pattern, streaming_edges
from support.graphs import bare_graph, FF, FIGURE_2, SR
from support.strategies import all_patterns, examples, has_no_cycle, networks


def keys(patterns):
    """Return patterns as sorted tuples; twice the same is kept."""
    return sorted(tuple(sorted(pattern.items())) for pattern in patterns)


@examples(40)
@given(networks(max_inner=5))
def test_every_enumeration_is_what_is_left_of_all_patterns(graph):
    valid = [pattern for pattern in all_patterns(graph) if has_no_cycle(graph, pattern)]
    assert keys(valid_patterns(graph)) == keys(valid)
    minimal = [pattern for pattern in valid
               if not any(has_no_cycle(graph, {**pattern, edge: 0})
                          for edge, r in pattern.items() if r)]
    assert keys(minimal_patterns(graph)) == keys(minimal)
    fewest = min(sum(pattern.values()) for pattern in valid)
    assert keys(sequential_patterns(graph)) == keys(
        pattern for pattern in valid if sum(pattern.values()) == fewest)


@pytest.mark.parametrize('graph', [SR, FF])
def test_the_sequential_pattern_is_unique_if_all_cycles_are_self_edges(graph):
    assert list(sequential_patterns(graph)) == [sequential_pattern(graph)]
    assert list(minimal_patterns(graph)) == [sequential_pattern(graph)]


def test_figure_2_has_two_sequential_rollouts():
    assert sorted(map(streaming_edges, sequential_patterns(FIGURE_2))) == [
        ['v->v', 'w->v'], ['v->w', 'v->v']]


def test_a_minimal_pattern_may_be_no_sequential_one():
    graph = bare_graph('x->a a->b b->a b->c c->b', 'c')
    assert len(list(minimal_patterns(graph))) == len(list(sequential_patterns(graph))) == 4
    graph = bare_graph('x->a a->b b->c c->a a->d d->c', 'c')
    assert sorted(map(streaming_edges, minimal_patterns(graph))) == [
        ['a->b', 'a->d'], ['a->b', 'd->c'], ['b->c', 'a->d'], ['b->c', 'd->c'], ['c->a']]
    assert list(map(streaming_edges, sequential_patterns(graph))) == [['c->a']]


@pytest.mark.parametrize('patterns', [valid_patterns, minimal_patterns, sequential_patterns])
def test_patterns_of_a_large_graph_come_one_by_one(patterns):
    """Thirty cycles of three nodes: 7^30 valid patterns, 3^30 minimal ones."""
    graph = bare_graph(' '.join(
        f'a{i}->b{i} b{i}->c{i} c{i}->a{i} c{i}->a{i + 1}' for i in range(30)) + ' x->a0', 'c29')
    some = list(islice(patterns(graph), 20))
    assert len(keys(some)) == len(set(keys(some))) == 20
    assert all(has_no_cycle(graph, pattern) for pattern in some)


@pytest.mark.parametrize('enumerate_', [minimal_patterns, sequential_patterns])
def test_a_search_that_takes_too_long_gives_up(enumerate_):
    with pytest.raises(EnumerationError) as error:
        next(enumerate_(FIGURE_2, patience=0))
    assert str(error.value) == ('no further pattern was found within 0 s: too many cycles of the '
                                'graph meet each other')


@pytest.mark.slow
def test_patience_is_for_the_next_pattern_not_for_all():
    graph = bare_graph(' '.join(f'n{i}->n{i + 1} n{i + 1}->a{i} a{i}->n{i + 1}'
                                for i in range(4)), 'n4')
    found = 0
    for _ in minimal_patterns(graph, patience=0.5):
        found += 1
        time.sleep(0.05)
    assert found == 16


def test_a_thousand_edges_need_no_deeper_stack():
    graph = bare_graph(' '.join(f'n{i}->n{i + 1} n{i + 1}->n{i + 1}' for i in range(1200)),
                       'n1200')
    assert next(valid_patterns(graph))
    (pattern,) = minimal_patterns(graph)
    assert sum(pattern.values()) == 1200
