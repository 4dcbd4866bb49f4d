"""Enumerations of patterns, against going through all 2^|E| of them."""

from itertools import islice

from graphs import bare_graph, FF, FIGURE_2, SR
from hypothesis import given
import pytest
from strategies import all_patterns, examples, has_no_cycle, networks
from stream_agent.theory.enumeration import (
    minimal_patterns, sequential_patterns, valid_patterns)
from stream_agent.theory.patterns import sequential_pattern, streaming_edges


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
