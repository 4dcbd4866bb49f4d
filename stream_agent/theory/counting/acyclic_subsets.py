"""
How many subsets of a directed graph's edges contain no cycle, exactly.

Every edge carries two weights: p counts the ways in which it is there, q those in which it is
not; at first both are 1. So edges in series or in parallel can become one edge, and the number
sought is the sum over acyclic subsets of the product of the weights.
"""

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

import networkx as nx
import numpy as np
from stream_agent.theory.counting.order_sums import (
    BITS, Edges, elimination_order, number_type, orders_duration, sum_over_orders,
    sum_over_relations)

# 3^13 pairs of disjoint node sets are 1.6 million.
MAX_NODES = 14
PAIR_DURATION = {np.uint64: 1.2e-7, object: 4e-7}


def sets_duration(edges: Edges) -> float:
    """Estimate the seconds that sum_over_sources takes; infinite if there is not the memory."""
    n = 1 + max(v for e in edges for v in e)
    return PAIR_DURATION[number_type(edges)] * 3**n if n <= MAX_NODES else float('inf')


def sum_over_sources(edges: Edges) -> int:
    """
    Count by a table over node sets S, each from what a non-empty T leaves of it.

    All pairs of T and rest are done at once for each size of S.
    """
    weights, sets, rests = pairs_of_sets(edges)
    sizes = BITS[sets & 127] + BITS[sets >> 7]
    order = np.lexsort((sets, sizes))
    weights, sets, rests, sizes = (x[order] for x in (weights, sets, rests, sizes))
    count = np.ones(1 + sets[-1], weights.dtype)
    ends = np.searchsorted(sizes, range(1, sizes[-1] + 2))
    for start, end in zip(ends, ends[1:]):
        first = np.flatnonzero(np.diff(sets[start:end], prepend=-1))
        count[sets[start:end][first]] = np.add.reduceat(
            weights[start:end] * count[rests[start:end]], first)
    return int(count[-1])


def pairs_of_sets(edges: Edges) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return all S with a non-empty T in them.

    :returns: The signed weight of the edges of S that touch T; S as bits; S without T as bits.
    """
    kind = number_type(edges)
    minus = -1 if kind is object else np.uint64(2**64 - 1)
    weights, sets, rests = np.array([minus], kind), np.zeros(1, np.int32), np.zeros(1, np.int32)
    for v in range(1 + max(v for e in edges for v in e)):
        # The weight of v's edges if it is in T, or in the rest: for each earlier u, whether u is
        # outside S, in T, or in the rest, is one digit of the index.
        as_source, as_rest = np.array([minus], kind), np.ones(1, kind)
        for u in range(v):
            p_in, q_in = edges.get((u, v), (0, 1))
            p_out, q_out = edges.get((v, u), (0, 1))
            as_source = outer([1, q_in * q_out, q_in * (p_out + q_out)], as_source)
            as_rest = outer([1, q_out * (p_in + q_in), 1], as_rest)
        weights = np.concatenate([weights, weights * as_source, weights * as_rest])
        sets = np.concatenate([sets, sets | 1 << v, sets | 1 << v])
        rests = np.concatenate([rests, rests, rests | 1 << v])
    proper = sets != rests
    return weights[proper], sets[proper], rests[proper]


def outer(factors: list[int], values: np.ndarray) -> np.ndarray:
    """Return the products of all factors with all values, the values' index running first."""
    return np.outer(np.array(factors, values.dtype), values).ravel()


# Estimated seconds of the two methods that can be estimated: up to the first they are not worth
# a try of the third; beyond the second, the theory's bounds have to do.
SHORT_DURATION = 1.5
MAX_DURATION = 6.0


class Weight(NamedTuple):
    """In how many ways an edge is there, and in how many it is not."""

    there: int
    absent: int

    @property
    def both(self) -> int:
        """All ways."""
        return self.there + self.absent


Weights = dict[tuple[str, str], Weight]


class HardPartError(ValueError):
    """A piece of a graph on which every exact method would take too long."""

    def __init__(self, nodes: Iterable[str]) -> None:
        super().__init__(', '.join(nodes))
        self.nodes = tuple(nodes)


def count_acyclic_subsets(edges: Iterable[tuple[str, str]]) -> int:
    """
    Count the subsets of edges that contain no cycle.

    :raises HardPartError: If that would take more than some ten seconds.
    """
    total = 1
    pieces = [dict.fromkeys(edges, Weight(1, 1))]
    while pieces:
        weights = pieces.pop()
        size = len(weights)
        parts, factor = split(weights)
        total *= factor
        for part in parts:
            if len(part) < size:
                pieces.append(part)
            else:
                total *= count_piece(part)
    return total


def split(weights: Weights) -> tuple[list[Weights], int]:
    """
    Reduce a graph to parts whose cycles are independent of each other, and a factor.

    Every cycle lies in one strongly connected component, and in one block of it (biconnected
    component if directions are ignored).
    """
    factor = 1
    graph = nx.DiGraph(weights.keys())
    component = {v: i for i, nodes in enumerate(nx.strongly_connected_components(graph))
                 for v in nodes}
    inner: Weights = {}
    for (u, v), weight in weights.items():
        if u == v:
            factor *= weight.absent
        elif component[u] != component[v]:
            factor *= weight.both
        else:
            inner[u, v] = weight
    merged = merge_series(inner)
    blocks = nx.biconnected_components(nx.Graph((u, v) for u, v in merged if u != v))
    parts = [{e: w for e, w in merged.items() if e[0] != e[1] and set(e) <= block}
             for block in blocks]
    return parts, factor * prod(w.absent for (u, v), w in merged.items() if u == v)


def merge_series(weights: Weights) -> Weights:
    """Replace every node with one incoming and one outgoing edge by one edge."""
    graph = nx.DiGraph()
    graph.add_edges_from((u, v, {'weight': w}) for (u, v), w in weights.items())
    todo = list(graph)
    while todo:
        v = todo.pop()
        if v not in graph or graph.in_degree(v) != 1 or graph.out_degree(v) != 1 or (
                graph.has_edge(v, v)):
            continue
        (u, _, a), (_, w, b) = *graph.in_edges(v, 'weight'), *graph.out_edges(v, 'weight')
        there = a.there * b.there
        merged = Weight(there, a.both * b.both - there)
        graph.remove_node(v)
        if graph.has_edge(u, w):
            old = graph[u][w]['weight']
            absent = old.absent * merged.absent
            merged = Weight(old.both * merged.both - absent, absent)
        graph.add_edge(u, w, weight=merged)
        todo += [u, w]
    return {(u, v): w for u, v, w in graph.edges(data='weight')}


def count_piece(weights: Weights) -> int:
    """Count on a part that no rule reduces further."""
    names = list(dict.fromkeys(v for edge in weights for v in edge))
    index = {name: i for i, name in enumerate(names)}
    edges = {(index[u], index[v]): (w.there, w.absent) for (u, v), w in weights.items()}
    order = elimination_order(edges)
    by_orders, by_sources = orders_duration(edges, order), sets_duration(edges)
    least = min(by_orders, by_sources)
    total = sum_over_relations(edges) if least > SHORT_DURATION else None
    if total is not None:
        return total
    if least > MAX_DURATION:
        raise HardPartError(names)
    return sum_over_orders(edges, order) if by_orders == least else sum_over_sources(edges)
