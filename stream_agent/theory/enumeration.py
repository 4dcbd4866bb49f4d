"""Valid rollout patterns one after the other, without trying the invalid ones."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import count
import math
import time

import networkx as nx
from stream_agent.theory.graph import GraphSpec, reachable
from stream_agent.theory.patterns import Edge, edges_of

EdgeSet = frozenset[Edge]


class EnumerationError(ValueError):
    """A graph so entangled that its next pattern is not found in the time allowed."""


class Patience:
    """Seconds from one find of a search to the next; without one by then it gives up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.restart()

    def restart(self) -> None:
        """Note that something was found."""
        self._end = time.monotonic() + self._seconds

    def check(self) -> None:
        """Return, or raise an EnumerationError if the time is up."""
        if time.monotonic() > self._end:
            raise EnumerationError(
                f'no further pattern was found within {self._seconds:g} s: too many cycles of the '
                'graph meet each other')


def valid_patterns(graph: GraphSpec) -> Iterator[dict[Edge, int]]:
    """
    Yield every valid pattern once, lazily.

    Every choice for the first edges that closes no cycle of R = 0 edges can be completed by
    streaming the others, so the time between two patterns is O(|E| |V|).
    """
    edges = edges_of(graph)
    index = {node.name: i for i, node in enumerate(graph.nodes)}
    # R of the first edges, and reach[v], the set of nodes that R = 0 edges lead to from v.
    open_choices: list[tuple[list[int], list[int]]] = [([], [1 << i for i in range(len(index))])]
    while open_choices:
        values, reach = open_choices.pop()
        if len(values) == len(edges):
            yield dict(zip(edges, values))
            continue
        u, v = (index[name] for name in edges[len(values)])
        open_choices.append(([*values, 1], reach))
        if not reach[v] >> u & 1:
            further = [to | reach[v] if to >> u & 1 else to for to in reach]
            open_choices.append(([*values, 0], further))


def minimal_patterns(graph: GraphSpec, patience: float = math.inf) -> Iterator[dict[Edge, int]]:
    """
    Yield, lazily and once, every valid pattern in which no further edge can be set to R = 0.

    Their streaming edges are the inclusion-minimal sets that meet every cycle. Every valid
    pattern comes from one of them by letting more edges stream.

    :param patience: Seconds to look for the next one, or raise an EnumerationError.
    """
    return patterns_of(graph, minimal_sets, patience)


def sequential_patterns(graph: GraphSpec, patience: float = math.inf
                        ) -> Iterator[dict[Edge, int]]:
    """
    Yield, lazily and once, every valid pattern with as many R = 0 edges as there can be.

    SR18, Definition "sequential rollout". It is one pattern if all cycles are self-edges, and
    may be many: n cycles of length k that do not meet have k^n. Exact, so the time may grow
    exponentially with the number of cycles that meet each other.

    :param patience: Seconds to look for the next one, or raise an EnumerationError.
    """
    return patterns_of(graph, smallest_sets, patience)


def patterns_of(graph: GraphSpec, sets: Callable[[Iterable[Edge], Patience], Iterator[EdgeSet]],
                seconds: float) -> Iterator[dict[Edge, int]]:
    """Yield the patterns whose streaming edges are made of one set for every cyclic part."""
    edges = edges_of(graph)
    parts = cyclic_parts(edges)
    patience = Patience(seconds)
    # The unions of sets that are chosen, and where to continue with each part. There may be too
    # many parts for a generator in each other, and too many sets of a part to list them.
    chosen: list[EdgeSet] = [frozenset()]
    open_parts: list[Iterator[EdgeSet]] = []
    while chosen:
        if len(chosen) > len(parts):
            streams = chosen.pop()
            yield {edge: int(edge in streams) for edge in edges}
            patience.restart()
        elif len(open_parts) < len(chosen):
            open_parts.append(sets(parts[len(open_parts)], patience))
        elif (more := next(open_parts[-1], None)) is not None:
            chosen.append(chosen[-1] | more)
        else:
            open_parts.pop()
            chosen.pop()


def cyclic_parts(edges: Iterable[Edge]) -> list[list[Edge]]:
    """
    Divide the edges that lie in cycles so that every cycle lies in one part.

    The parts are the blocks (biconnected components, directions ignored) of the strongly
    connected components, and the self-edges.
    """
    edges = list(edges)
    graph = nx.DiGraph(edges)
    parts = [[(u, v)] for u, v in edges if u == v]
    for component in nx.strongly_connected_components(graph):
        inner = nx.Graph((u, v) for u, v in edges if u != v and {u, v} <= component)
        parts += [[(u, v) for u, v in edges if u != v and {u, v} <= block]
                  for block in nx.biconnected_components(inner)]
    return parts


def smallest_sets(edges: Iterable[Edge], patience: Patience) -> Iterator[EdgeSet]:
    """Yield the smallest sets of edges that meet every cycle."""
    edges = frozenset(edges)
    for most in count(disjoint_cycles(edges, patience)):
        found = False
        for streams in minimal_sets(edges, patience, most):
            found = True
            yield streams
        if found:
            return


def minimal_sets(edges: Iterable[Edge], patience: Patience, most: int | None = None
                 ) -> Iterator[EdgeSet]:
    """
    Yield the inclusion-minimal sets of edges that meet every cycle.

    Such a set has an edge of any cycle, and a first one in the cycle's order; each choice of it
    is a branch, in which the edges before it stay out for good.

    :param most: Sets with more edges are left out.
    """
    edges = frozenset(edges)

    def branch(streams: EdgeSet, out: EdgeSet) -> Iterator[EdgeSet]:
        patience.check()
        left = edges - streams
        cycle = shortest_cycle(left)
        if not cycle:
            yield streams
            return
        if most is not None and len(streams) + disjoint_cycles(left, patience) > most:
            return
        for i, edge in enumerate(cycle):
            if edge in out:
                continue
            chosen = streams | {edge}
            # An edge that closes no cycle with edges that do not stream never will again.
            if all(u in reachable(left - {edge}, [v]) for u, v in chosen):
                yield from branch(chosen, out | frozenset(cycle[:i]))

    return branch(frozenset(), frozenset())


def shortest_cycle(edges: Iterable[Edge]) -> list[Edge]:
    """Return the edges of a shortest cycle, or none; always the same one for the same edges."""
    targets: dict[str, list[str]] = {}
    sources: dict[str, list[str]] = {}
    for u, v in sorted(edges):
        targets.setdefault(u, []).append(v)
        sources.setdefault(v, []).append(u)
    best: list[str] = []
    gone: set[str] = set()
    remove_ends(targets, sources, [*targets, *sources], gone)
    for start in targets:
        if start not in gone:
            best = shortest_round(targets, start, gone, len(best)) or best
            if 0 < len(best) <= 3:
                break
            # A shorter one does not pass through here; what then leads nowhere is in none.
            gone.add(start)
            remove_ends(targets, sources, [*targets[start], *sources[start]], gone)
    return list(zip(best, best[1:]))


def remove_ends(targets: Mapping[str, list[str]], sources: Mapping[str, list[str]],
                names: Iterable[str], gone: set[str]) -> None:
    """Add to those that are gone what is then not both entered and left, beginning with names."""
    new = list(names)
    while new:
        v = new.pop()
        if v not in gone and not all(any(u not in gone for u in ends.get(v, ()))
                                     for ends in (targets, sources)):
            gone.add(v)
            new += (*targets.get(v, ()), *sources.get(v, ()))


def shortest_round(targets: Mapping[str, list[str]], start: str, gone: Collection[str],
                   most: int) -> list[str]:
    """
    Return the nodes of a shortest way from a node to itself, or none.

    :param gone: Nodes through which no way leads.
    :param most: Ways of so many nodes, the first one twice, and longer ones are left out, if any.
    """
    before: dict[str, str] = {}
    steps = {start: 0}
    reached = [start]
    for u in reached:
        if most and steps[u] + 2 >= most:
            break
        for v in targets[u]:
            if v not in before and v not in gone:
                before[v] = u
                steps.setdefault(v, steps[u] + 1)
                reached.append(v)
        if start in before:
            path = [start, before[start]]
            while path[-1] != start:
                path.append(before[path[-1]])
            return path[::-1]
    return []


def disjoint_cycles(edges: EdgeSet, patience: Patience) -> int:
    """Count cycles that share no edge, greedily; each needs a streaming edge of its own."""
    number = 0
    while cycle := shortest_cycle(edges):
        patience.check()
        edges = edges - set(cycle)
        number += 1
    return number
