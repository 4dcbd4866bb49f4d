"""Exact counts, against going through all subsets and against closed forms."""

from itertools import product
from random import Random

from hypothesis import given, strategies as st
import networkx as nx
import pytest
from stream_agent.theory import counting
from stream_agent.theory.counting import (
    count_acyclic_subsets, count_bounds, count_valid_patterns, CountError, sum_over_relations,
    sum_over_sources)
from support.graphs import bare_graph
from support.strategies import examples


def count_all(edges):
    """Go through all subsets."""
    return sum(nx.is_directed_acyclic_graph(nx.DiGraph(
        edge for edge, there in zip(edges, chosen) if there))
        for chosen in product((0, 1), repeat=len(edges)))


def weighted_count(edges):
    """Go through all subsets, with weights."""
    total = 0
    for chosen in product((0, 1), repeat=len(edges)):
        if nx.is_directed_acyclic_graph(nx.DiGraph(e for e, x in zip(edges, chosen) if x)):
            weight = 1
            for (there, absent), x in zip(edges.values(), chosen):
                weight *= there if x else absent
            total += weight
    return total


def complete(n):
    return [(f'n{u}', f'n{v}') for u in range(n) for v in range(n) if u != v]


def ring(n):
    return [(f'n{i}', f'n{(i + 1) % n}') for i in range(n)]


def entangled(nodes, edges, seed):
    """Make one strongly connected component: a ring, and edges between nodes that have few."""
    random = Random(seed)
    names = [f'n{i}' for i in range(nodes)]
    random.shuffle(names)
    found = dict.fromkeys(zip(names, [*names[1:], names[0]]))
    degree = dict.fromkeys(names, 2)
    while len(found) < edges:
        order = sorted(names, key=lambda v: (degree[v], random.random()))
        pair = [order[0], random.choice(order[1:max(3, nodes // 2)])]
        random.shuffle(pair)
        u, v = pair
        # Two edges between the same nodes would make it easier.
        if (u, v) not in found and ((v, u) not in found or random.random() < .1):
            found[u, v] = None
            degree[u] += 1
            degree[v] += 1
    return list(found)


directed = st.lists(st.tuples(st.sampled_from('abcdef'), st.sampled_from('abcdef')),
                    unique=True, max_size=11)


@examples(50)
@given(directed)
def test_counts_are_those_of_going_through_all_subsets(edges):
    assert count_acyclic_subsets(edges) == count_all(edges)


@examples(50)
@given(st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(lambda edge: edge[0] != edge[1]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=9),
    st.sampled_from([1, 10**12]))
def test_both_sums_take_weights_of_any_size(edges, factor):
    names = sorted({v for edge in edges for v in edge})
    edges = {(names.index(u), names.index(v)): (p * factor, q)
             for (u, v), (p, q) in edges.items()}
    expected = weighted_count(edges)
    assert sum_over_sources(edges) == expected
    assert sum_over_relations(edges) == expected


@examples(20)
@given(st.integers(7, 11), st.integers(0, 10**6))
def test_both_sums_agree_where_all_subsets_would_take_too_long(nodes, seed):
    named = entangled(nodes, min(24, nodes * (nodes - 1) // 2), seed)
    edges = {(int(u[1:]), int(v[1:])): (1, 1) for u, v in named}
    assert sum_over_sources(edges) == sum_over_relations(edges)


def test_labelled_acyclic_digraphs():
    """The acyclic subsets of the complete digraph, A003024; Robinson's own numbers."""
    assert [count_acyclic_subsets(complete(n)) for n in (1, 2, 3, 4, 5, 6, 11)] == [
        1, 3, 25, 543, 29281, 3781503, 31603459396418917607425]


@pytest.mark.parametrize('n', [2, 7, 40, 200])
def test_rings(n):
    assert count_acyclic_subsets(ring(n)) == 2**n - 1


def test_nested_cycles():
    """A chain from n0, and edges back from all others; k edges of the chain before a gap."""
    n = 20
    chain = [(f'n{i}', f'n{i + 1}') for i in range(n)]
    back = [(f'n{i}', 'n0') for i in range(1, n + 1)]
    # The first k edges back have to be out; beyond the gap all are free.
    gaps = sum(2**(n - k - 1) * 2**(n - k) for k in range(n))
    assert count_acyclic_subsets(chain + back) == gaps + 1


def test_cycles_in_both_directions():
    """Pairs of opposite edges on a ring: 3^n ways without both, less the two full turns."""
    n = 20
    edges = ring(n) + [(v, u) for u, v in ring(n)]
    assert count_acyclic_subsets(edges) == 3**n - 2


def test_a_bipartite_component():
    """No reduction applies to K(3, 3) with edges both ways."""
    edges = [(f'n{i}', f'n{j + 3}') for i in range(3) for j in range(3)]
    edges += [(v, u) for u, v in edges]
    numbers = {(int(u[1:]), int(v[1:])): (1, 1) for u, v in edges}
    assert count_acyclic_subsets(edges) == sum_over_sources(numbers) == sum_over_relations(numbers)


@pytest.mark.parametrize('nodes, edges', [
    (7, 40), (10, 40), (14, 40), (16, 40), (18, 40), (20, 40), (24, 40), (30, 40), (40, 40)])
def test_forty_edges_in_one_component_need_no_long_try(nodes, edges, monkeypatch):
    monkeypatch.setattr(counting, 'LONG_TRY', 0)
    number = count_acyclic_subsets(entangled(nodes, edges, nodes))
    assert 2**nodes - 1 <= number <= 2**edges - 1


def test_a_complete_acyclic_graph_and_an_edge_back():
    """The edge back is out, or the end is not reached from n0."""
    n = 12
    forward = [(u, v) for v in range(n) for u in range(v)]
    # How many choices of the edges among n0, ..., nv let n0 reach k nodes, itself included.
    reaching = {1: 1}
    for v in range(1, n - 1):
        further = dict.fromkeys(range(1, v + 2), 0)
        for k, number in reaching.items():
            further[k] += number * 2**(v - k)
            further[k + 1] += number * 2**(v - k) * (2**k - 1)
        reaching = further
    apart = sum(number * 2**(n - 1 - k) for k, number in reaching.items())
    edges = dict.fromkeys([*forward, (n - 1, 0)], (1, 1))
    assert sum_over_relations(edges) == 2**len(forward) + apart


def test_a_graph_that_is_too_entangled_is_refused_with_bounds(monkeypatch):
    monkeypatch.setattr(counting, 'SHORT_TRY', 4000)
    monkeypatch.setattr(counting, 'LONG_TRY', 40_000)
    names = [f'n{i}' for i in range(60)]
    random = Random(0)
    edges = dict.fromkeys([*zip(names, [*names[1:], names[0]]),
                           *(tuple(random.sample(names, 2)) for _ in range(240))])
    graph = bare_graph('x->n0 ' + ' '.join(f'{u}->{v}' for u, v in edges), 'n39')
    with pytest.raises(CountError) as error:
        count_valid_patterns(graph)
    low, high = count_bounds(graph)
    assert high == 2**len(graph.edges)
    assert str(error.value) == (
        f"graph: 60 nodes ({', '.join([node.name for node in graph.nodes[1:]][:8])}, ...) are in "
        'cycles that are too entangled to count the valid patterns exactly; count_bounds '
        f'gives 2^{low.bit_length() - 1} to 2^{len(graph.edges)}')
