"""
A way to sum over the acyclic edge subsets of a directed graph whose cycles need few edges.

Edges are decided one after the other. Of what was decided, the others only need to know which
nodes lead to which: from those that an edge to come may enter, to those that one may leave.
Where few edges lead back, as in layered networks with some feedback, there are few such
relations, however wide the graph is.
"""

from collections.abc import Iterator, Mapping

# (there, absent) of every edge; nodes are 0, ..., n - 1.
Edges = Mapping[tuple[int, int], tuple[int, int]]
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
