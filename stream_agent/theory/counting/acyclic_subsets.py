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
from stream_agent.theory.counting.order_sums import (
    elimination_order, orders_duration, sum_over_orders)
from stream_agent.theory.counting.reach_sums import sum_over_relations
from stream_agent.theory.counting.source_sums import sets_duration, sum_over_sources

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
