"""
How many valid patterns a graph has: exactly, without listing them, or between two bounds.

A pattern is valid exactly if its R = 0 edges contain no cycle, so the number sought is that of the
edge subsets without a cycle. Every edge carries two weights: `there` counts the ways in which it
is in the subset, `absent` those in which it is not; at first both are 1. So edges in series or in
parallel can become one edge, and the number is the sum over acyclic subsets of the product of the
weights. A part that no such rule reduces further is summed over its node sets if it has few nodes,
and edge by edge otherwise.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from math import prod
from typing import NamedTuple

import networkx as nx
import numpy as np
from stream_agent.theory.enumeration import shortest_cycle
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Edge, edges_of

# 3^14 pairs of disjoint node sets are 4.8 million: half a second to two seconds.
MAX_NODES = 14
# Edges in which the bounds look for cycles, summed over these.
MOST_LOOKED_AT = 100_000
# Edges of a part for which orders are tried: beyond, each relation would have to be unique.
MOST_EDGES = 2000
# The most relations, summed over all edges, of the first try of every order and of the final try
# of the best order; a relation takes about three microseconds.
SHORT_TRY, LONG_TRY = 40_000, 1_000_000


class CountError(ValueError):
    """A graph whose valid patterns no exact method counts in reasonable time."""


class HardPartError(ValueError):
    """A part of a graph, its nodes, on which every exact method would take too long."""


class Weight(NamedTuple):
    """In how many ways an edge is there, and in how many it is not."""

    there: int
    absent: int

    @property
    def both(self) -> int:
        """In how many ways it is either."""
        return self.there + self.absent


Weights = Mapping[Edge, Weight]
# The weights (there, absent) of every edge; nodes are 0, ..., n - 1.
Numbered = Mapping[tuple[int, int], tuple[int, int]]
# For every node that may still be entered, the nodes it leads to that may still be left, as bits.
Relation = tuple[int, ...]
EdgeOrder = tuple[tuple[int, int], ...]


def count_valid_patterns(graph: GraphSpec) -> int:
    """Return the exact number of valid patterns; a CountError if that takes over ten seconds."""
    try:
        return count_acyclic_subsets(edges_of(graph))
    except HardPartError as error:
        low, high = count_bounds(graph)
        hard = [name for name in graph.by_name if name in error.args]
        raise CountError(
            f"graph: {len(hard)} nodes ({', '.join([*hard[:8], *['...'][:len(hard) - 8]])}) are "
            'in cycles that are too entangled to count the valid patterns exactly; count_bounds '
            f'gives 2^{low.bit_length() - 1} to 2^{high.bit_length() - 1}') from None


def count_bounds(graph: GraphSpec) -> tuple[int, int]:
    """
    Return a lower and an upper bound for the number of valid patterns (SR18, Lemma 1).

    The lower one is the product of both of the paper's, for short cycles that share no node.
    """
    edges = edges_of(graph)
    component = components(edges)
    left = {(u, v) for u, v in edges if u != v}
    high, cycles, most = 2**len(left), [], MOST_LOOKED_AT
    left = {(u, v) for u, v in left if component[u] == component[v]}
    # Any such cycles give a bound, and all of a large graph would take long.
    while left and (most := most - len(left)) > 0 and (cycle := shortest_cycle(left)):
        cycles.append([u for u, _ in cycle])
        used = set(cycles[-1])
        left = {(u, v) for u, v in left if u not in used and v not in used}
    return lower_bound(edges, cycles), high


def lower_bound(edges: Collection[Edge], cycles: Iterable[list[str]]) -> int:
    """
    Return 2^|E_forward| times the product of 2^|p| - 1 over vertex-disjoint cycles p.

    Stream all edges but those in no cycle and those of the cycles p. Then any choice for the
    former, and for each p any choice but all R = 0, is valid: as the cycles share no node, no
    other cycle can be made of their edges. So there are this many patterns, and the product is no
    less than either factor.

    :param cycles: The nodes of each cycle; a self-edge is a cycle of one node.
    """
    component = components(edges)
    forward = sum(component[u] != component[v] for u, v in edges)
    return 2**forward * prod(2**len(cycle) - 1 for cycle in cycles)


def components(edges: Iterable[Edge]) -> dict[str, int]:
    """Return the number of the strongly connected component of every node."""
    graph = nx.DiGraph(list(edges))
    return {v: i for i, nodes in enumerate(nx.strongly_connected_components(graph)) for v in nodes}


def count_acyclic_subsets(edges: Iterable[Edge]) -> int:
    """Count the subsets of edges without a cycle; a HardPartError if it would take too long."""
    total = 1
    parts: list[Weights] = [dict.fromkeys(edges, Weight(1, 1))]
    while parts:
        weights = parts.pop()
        smaller, factor = split(weights)
        total *= factor
        for part in smaller:
            if len(part) < len(weights):
                parts.append(part)
                continue
            # No rule reduces it further.
            index = {name: i for i, name in enumerate(dict.fromkeys(v for e in part for v in e))}
            numbered = {(index[u], index[v]): weight[:2] for (u, v), weight in part.items()}
            count = sum_over_sources if len(index) <= MAX_NODES else sum_over_relations
            if (number := count(numbered)) is None:
                raise HardPartError(*index)
            total *= number
    return total


def split(weights: Weights) -> tuple[list[Weights], int]:
    """
    Reduce a graph to parts whose cycles are independent of each other, and a factor.

    Every cycle lies in one strongly connected component, and in one block of it (biconnected
    component if directions are ignored).
    """
    component = components(weights)
    merged = merge_series({(u, v): w for (u, v), w in weights.items()
                           if component[u] == component[v]})
    factor = prod(w.both for (u, v), w in weights.items() if component[u] != component[v])
    blocks = nx.biconnected_components(nx.Graph((u, v) for u, v in merged if u != v))
    parts: list[Weights] = [{e: w for e, w in merged.items()
                             if e[0] != e[1] and set(e) <= block} for block in blocks]
    return parts, factor * prod(w.absent for (u, v), w in merged.items() if u == v)


def merge_series(weights: Weights) -> Weights:
    """Replace every node with one incoming and one outgoing edge by one edge."""
    graph = nx.DiGraph()
    graph.add_weighted_edges_from((u, v, w) for (u, v), w in weights.items())
    todo = list(graph)
    while todo:
        v = todo.pop()
        if v not in graph or graph.in_degree(v) != 1 or graph.out_degree(v) != 1 or (
                graph.has_edge(v, v)):
            continue
        ((u, _, a),), ((_, w, b),) = graph.in_edges(v, 'weight'), graph.out_edges(v, 'weight')
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


def sum_over_sources(edges: Numbered) -> int:
    """Count on every node set by what its sets of sources leave of it, as Robinson does."""
    weights, sets, rests = pairs_of_sets(edges)
    order = np.argsort(sets, kind='stable')
    weights, sets, rests = weights[order], sets[order], rests[order]
    count = np.ones(1 + sets[-1], weights.dtype)
    ends = np.searchsorted(sets, range(1, len(count) + 1))
    for s, (start, end) in enumerate(zip(ends, ends[1:]), 1):
        count[s] = weights[start:end] @ count[rests[start:end]]
    return int(count[-1])


def pairs_of_sets(edges: Numbered) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return all S with a non-empty T in them.

    :returns: The signed weight of the edges of S that touch T; S as bits; S without T as bits.
    """
    # Integers that wrap modulo 2^64 where that is exact, otherwise Python's.
    kind = np.uint64 if prod(p + q for p, q in edges.values()) < 2**64 else object
    minus = -1 if kind is object else np.uint64(2**64 - 1)
    weights, sets, rests = np.array([minus], kind), np.zeros(1, np.int32), np.zeros(1, np.int32)
    for v in range(1 + max(v for e in edges for v in e)):
        # The weight of v's edges if it is in T, or in the rest: for each earlier u, whether u is
        # outside S, in T, or in the rest, is one digit of the index.
        as_source, as_rest = np.array([minus], kind), np.ones(1, kind)
        for u in range(v):
            p_in, q_in = edges.get((u, v), (0, 1))
            p_out, q_out = edges.get((v, u), (0, 1))
            as_source = np.kron(np.array([1, q_in * q_out, q_in * (p_out + q_out)], kind),
                                as_source)
            as_rest = np.kron(np.array([1, q_out * (p_in + q_in), 1], kind), as_rest)
        weights = np.concatenate([weights, weights * as_source, weights * as_rest])
        sets = np.concatenate([sets, sets | 1 << v, sets | 1 << v])
        rests = np.concatenate([rests, rests, rests | 1 << v])
    proper = sets != rests
    return weights[proper], sets[proper], rests[proper]


def sum_over_relations(edges: Numbered) -> int | None:
    """Return the weighted number of acyclic subsets, or None if there are too many relations."""
    if len(edges) > MOST_EDGES:
        return None
    decided = {}
    for order in edge_orders(edges):
        total, number = sum_in_order(edges, order, SHORT_TRY)
        if total is not None:
            return total
        decided[order] = number
    return sum_in_order(edges, max(decided, key=decided.__getitem__), LONG_TRY)[0]


def sum_in_order(edges: Numbered, order: EdgeOrder, most: int) -> tuple[int | None, int]:
    """
    Decide about the edges in an order, and count in how many ways each relation arises.

    :param most: Relations, summed over all edges, after which to give up.
    :returns: The sum or None, and how many edges were decided.
    """
    last_in = {v: i for i, (_, v) in enumerate(order)}
    last_out = {u: i for i, (u, _) in enumerate(order)}
    counts: dict[Relation, int] = {(): 1}
    heads: list[int] = []
    for i, edge in enumerate(order):
        most -= len(counts)
        if most < 0:
            return None, i
        heads += [v for v in edge if v not in heads and last_in.get(v, -1) >= i]
        kept = [j for j, v in enumerate(heads) if last_in[v] > i]
        tails = sum(1 << u for u in last_out if last_out[u] > i)
        counts = decide(edge, edges[edge], counts, heads, kept, tails)
        heads = [heads[j] for j in kept]
    return counts[()], len(order)


def decide(edge: tuple[int, int], weight: tuple[int, int], counts: Mapping[Relation, int],
           heads: list[int], kept: list[int], tails: int) -> dict[Relation, int]:
    """
    Return the relations without and with an edge, and in how many ways there is each.

    :param heads: The nodes of the relations; new ones at the end are not in them yet.
    :param kept: Indices of those that a later edge may enter.
    :param tails: The nodes that a later edge may leave, as bits.
    """
    u, v = edge
    there, absent = weight
    of_u, of_v = heads.index(u) if u in heads else -1, heads.index(v)
    found: dict[Relation, int] = {}
    for relation, count in counts.items():
        relation += (0,) * (len(heads) - len(relation))
        without = tuple([relation[j] & tails for j in kept])
        found[without] = found.get(without, 0) + count * absent
        if not relation[of_v] >> u & 1:
            gain = relation[of_v] | 1 << v
            joined = tuple([(relation[j] | gain if j == of_u or relation[j] >> u & 1
                             else relation[j]) & tails for j in kept])
            found[joined] = found.get(joined, 0) + count * there
    return found


def edge_orders(edges: Numbered) -> Iterator[EdgeOrder]:
    """Yield orders in which few nodes at a time have edges before and after."""
    near = nx.to_dict_of_lists(nx.Graph(list(edges)))
    for start in sorted(near, key=lambda v: (len(near[v]), v))[:6]:
        at = {v: i for i, v in enumerate(node_order(near, start))}
        yield tuple(sorted(edges, key=lambda e: sorted((at[e[0]], at[e[1]]), reverse=True)))


def node_order(near: Mapping[int, list[int]], start: int) -> list[int]:
    """Begin at a node, and continue with the neighbour that leaves the fewest nodes unfinished."""
    left = {v: len(near[v]) for v in near}
    order: dict[int, None] = {}
    reached = {start}
    while len(order) < len(near):
        v = min(reached or near.keys() - order.keys(), key=lambda v: (
            (left[v] > 0) - sum(left[u] == 1 for u in near[v] if u in order), v))
        order[v] = None
        for u in near[v]:
            left[u] -= 1
        reached = (reached | {*near[v]}) - order.keys()
    return list(order)
