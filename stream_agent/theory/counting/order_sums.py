"""
A way to sum over the acyclic edge subsets of a narrow directed graph, large or small.

It rests on Robinson's inclusion and exclusion over sets of sources: a sequence of disjoint
non-empty node sets T1, ..., Tm that make up V counts the subsets whose edges all lead from an
earlier set to a later one, with the sign (-1)^(|V| - m). Their sum is the number of acyclic
subsets. Such sequences are the weak orders of V, and an edge (u, v) contributes p + q where u
comes before v, and q otherwise.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import prod
from random import Random
from typing import NamedTuple

import numpy as np

# (there, absent) of every edge; nodes are 0, ..., n - 1.
Edges = Mapping[tuple[int, int], tuple[int, int]]
# A function of the weak orders of some nodes: those nodes, and a value for each order.
Message = tuple[tuple[int, ...], np.ndarray]

# The most neighbours of a node whose weak orders fit into memory, and numbers of weak orders.
MAX_NEIGHBOURS = 9
WEAK_ORDERS = [1, 1, 3, 13, 75, 541, 4683, 47293, 545835, 7087261, 102247563]
# Seconds per weak order of a node and its neighbours.
ORDER_DURATION = {np.uint64: 5e-8, object: 4e-7}
BITS = np.array([bin(i).count('1') for i in range(1 << MAX_NEIGHBOURS)], np.int8)


def number_type(edges: Edges) -> type:
    """Return integers that wrap modulo 2^64 where that is exact, else Python's."""
    return np.uint64 if prod(p + q for p, q in edges.values()) < 2**64 else object


class Orders(NamedTuple):
    """
    The weak orders of k nodes.

    Those of k + 1 nodes are made of them: in an order of b blocks the further node has 2 b + 1
    places, before, in and after a block in turns, and the results stand side by side.

    :param ranks: The block of every node, (orders, k).
    :param blocks: b, (orders,).
    :param first: The first order of k + 1 nodes that is made of each, (orders,).
    """

    ranks: np.ndarray
    blocks: np.ndarray
    first: np.ndarray


@lru_cache
def weak_orders(k: int) -> Orders:
    """Return the weak orders of k nodes."""
    if k == 0:
        return Orders(np.zeros((1, 0), np.int8), np.zeros(1, np.int8), np.zeros(1, np.int32))
    before = weak_orders(k - 1)
    parent = np.repeat(np.arange(len(before.blocks), dtype=np.int32), 2 * before.blocks + 1)
    place = (np.arange(len(parent)) - before.first[parent]).astype(np.int8)
    rank, new_block = place >> 1, place % 2 == 0
    ranks = np.empty((len(parent), k), np.int8, order='F')
    for j in range(k - 1):
        column = before.ranks[parent, j]
        ranks[:, j] = column + ((column >= rank) & new_block)
    ranks[:, -1] = rank
    blocks = before.blocks[parent] + new_block
    places = 2 * blocks.astype(np.int32) + 1
    return Orders(ranks, blocks, np.cumsum(places, dtype=np.int32) - places)


def restrict(ranks: np.ndarray, columns: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """
    Restrict weak orders to some of their nodes.

    :returns: The indices of the restricted orders; the blocks that have one of the nodes, as
        bits.
    """
    index = np.zeros(len(ranks), np.int32)
    used = np.zeros(len(ranks), np.int16)
    for k, column in enumerate(columns):
        bit = np.left_shift(np.int16(1), ranks[:, column], dtype=np.int16)
        place = 2 * BITS[used & (bit - 1)] + (used & bit != 0)
        index = weak_orders(k).first[index] + place
        used |= bit
    return index, used


def sum_over_orders(edges: Edges, order: list[int]) -> int:
    """
    Count by eliminating one node after the other.

    (-1)^m, summed over weak orders, is an integral with respect to Euler characteristic: a
    point counts 1 and an open interval -1. So sums over nodes may be taken in any order, and
    each depends on how the neighbours of its node are ordered, and on nothing else.

    :param order: All nodes.
    """
    kind = number_type(edges)
    messages: list[Message] = []
    left = dict(edges)
    for v in order:
        own = {e: left.pop(e) for e in list(left) if v in e}
        received = [message for message in messages if v in message[0]]
        messages = [message for message in messages if v not in message[0]]
        messages.append(eliminate(v, own, received, order, kind))
    total = (-1) ** len(order) * prod(int(values[0]) for _, values in messages)
    return total if kind is object else total % 2**64


def eliminate(v: int, edges: Edges, received: list[Message], order: list[int], kind: type
              ) -> Message:
    """Integrate the product of a node's edges and messages over its place."""
    around = {u for e in edges for u in e} | {u for scope, _ in received for u in scope}
    # Last to go first; so v, the first to go, is the last node of every message.
    scope = sorted(around - {v}, key=order.index, reverse=True)
    orders = weak_orders(len(scope))
    restricted = []
    for nodes, values in received:
        index, used = restrict(orders.ranks, [scope.index(u) for u in nodes[:-1]])
        restricted.append((values, weak_orders(len(nodes) - 1).first[index], used))
    total = np.zeros(len(orders.blocks), kind)
    for place in range(2 * len(scope) + 1):
        product = np.ones(len(total), kind)
        for j, u in enumerate(scope):
            if (u, v) in edges or (v, u) in edges:
                product *= factors(edges, u, v, place, len(scope), kind)[orders.ranks[:, j]]
        for values, first, used in restricted:
            product *= values[first + places_in_part(place)[used]]
        product[place > 2 * orders.blocks] = 0
        total = total + product if place % 2 else total - product
    return tuple(scope), total


def factors(edges: Edges, u: int, v: int, place: int, ranks: int, kind: type) -> np.ndarray:
    """Return what the edges between u and v contribute, for each rank of u and a place of v."""
    p_in, q_in = edges.get((u, v), (0, 1))
    p_out, q_out = edges.get((v, u), (0, 1))
    return np.array([(q_in + p_in * (2 * rank + 1 < place))
                     * (q_out + p_out * (2 * rank + 1 > place)) for rank in range(ranks)], kind)


@lru_cache
def places_in_part(place: int) -> np.ndarray:
    """Return, for each set of blocks, which place among those a place among all blocks is."""
    blocks = np.arange(1 << MAX_NEIGHBOURS)
    below = 2 * BITS[blocks & ((1 << place // 2) - 1)]
    return below + (blocks >> place // 2 & place & 1).astype(np.int8)


def elimination_order(edges: Edges, tries: int = 60, enough: float = 0.01) -> list[int]:
    """
    Order the nodes so that each has few neighbours when it goes.

    :param tries: Greedy orders of which to take the best; all but the first have some noise,
        which is better than any rule for ties.
    :param enough: Seconds of summation at which an order is good enough.
    """
    best = greedy_order(edges, Random(0), noise=0)
    for seed in range(1, tries):
        if orders_duration(edges, best) <= enough:
            break
        best = min(best, greedy_order(edges, Random(seed), noise=1.5),
                   key=lambda order: orders_duration(edges, order))
    return best


def greedy_order(edges: Edges, random: Random, noise: float) -> list[int]:
    """Take the node with the fewest neighbours, up to noise."""
    near = neighbours(edges)
    order = []
    while near:
        order.append(min(near, key=lambda v: len(near[v]) + noise * random.random()))
        take_away(near, order[-1])
    return order


def neighbours(edges: Edges) -> dict[int, set[int]]:
    """Return the nodes that share an edge with each node."""
    near: dict[int, set[int]] = {v: set() for e in edges for v in e}
    for u, v in edges:
        near[u].add(v)
        near[v].add(u)
    return near


def take_away(near: dict[int, set[int]], v: int) -> set[int]:
    """Take a node away; its neighbours, which are returned, become each other's."""
    around = near.pop(v)
    for u in around:
        near[u] |= around
        near[u] -= {u, v}
    return around


def orders_duration(edges: Edges, order: Sequence[int]) -> float:
    """Estimate the seconds that sum_over_orders takes; infinite if there is not the memory."""
    near = neighbours(edges)
    sizes = [len(take_away(near, v)) + 1 for v in order]
    if max(sizes) > MAX_NEIGHBOURS + 1:
        return float('inf')
    return ORDER_DURATION[number_type(edges)] * sum(WEAK_ORDERS[k] for k in sizes)


# (there, absent) of every edge; nodes are 0, ..., n - 1.
# For every node that may be entered the nodes it leads to and that may be left, as bits.
Relation = tuple[int, ...]
EdgeOrder = tuple[tuple[int, int], ...]

# Relations, edges added up, that the first try of every order may take, and that the one try of
# the best order may; some three microseconds each.
SHORT_TRY, LONG_TRY = 40_000, 1_000_000


def sum_over_relations(edges: Edges) -> int | None:
    """Return the weighted number of acyclic subsets, or None if there are too many relations."""
    decided = {}
    for order in edge_orders(edges):
        total, number = sum_in_order(edges, order, SHORT_TRY)
        if total is not None:
            return total
        decided[order] = number
    return sum_in_order(edges, max(decided, key=decided.get), LONG_TRY)[0]


def sum_in_order(edges: Edges, order: EdgeOrder, most: int) -> tuple[int | None, int]:
    """
    Decide the edges in an order.

    :param most: Relations, added up over all edges, after which to give up.
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


def edge_orders(edges: Edges) -> Iterator[EdgeOrder]:
    """Yield orders in which few nodes are under way: have edges before and after."""
    near: dict[int, set[int]] = {v: set() for e in edges for v in e}
    for u, v in edges:
        near[u].add(v)
        near[v].add(u)
    for start in sorted(near, key=lambda v: (len(near[v]), v))[:6]:
        at = {v: i for i, v in enumerate(node_order(near, start))}
        yield tuple(sorted(edges, key=lambda e: sorted((at[e[0]], at[e[1]]), reverse=True)))


def node_order(near: Mapping[int, set[int]], start: int) -> list[int]:
    """Begin at a node, and go on with the neighbour that leaves the fewest nodes under way."""
    left = {v: len(near[v]) for v in near}
    order: list[int] = []
    reached = {start}
    while len(order) < len(near):
        v = min(reached or near.keys() - set(order), key=lambda v: (
            (left[v] > 0) - sum(left[u] == 1 for u in near[v] if u in order), v))
        order.append(v)
        for u in near[v]:
            left[u] -= 1
        reached = (reached | near[v]) - set(order)
    return order
