"""How many valid patterns a graph has, without going through them."""

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

import networkx as nx
from stream_agent.theory.counting.acyclic_subsets import count_acyclic_subsets, HardPartError
from stream_agent.theory.enumeration import shortest_cycle
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Edge, edges_of


class CountError(ValueError):
    """A graph whose valid patterns no exact method counts in reasonable time."""


class Bounds(NamedTuple):
    """Numbers between which the number of valid patterns lies, both included."""

    low: int
    high: int


def count_valid_patterns(graph: GraphSpec) -> int:
    """
    Return the exact number of valid patterns.

    A pattern is valid exactly if its R = 0 edges contain no cycle, so it is the number of
    acyclic subsets of E: any edge in no cycle doubles it, and strongly connected components
    multiply.

    :raises CountError: If it would take more than some ten seconds.
    """
    try:
        return count_acyclic_subsets(edges_of(graph))
    except HardPartError as error:
        low, high = count_bounds(graph)
        raise CountError(
            f'graph: {len(error.nodes)} nodes '
            f'({listing(v for v in graph.by_name if v in error.nodes)}) are in cycles that are '
            'entangled too much to count the valid patterns exactly; count_bounds gives '
            f'2^{low.bit_length() - 1} to 2^{high.bit_length() - 1}') from None


def listing(names: Iterable[str], most: int = 8) -> str:
    """Return the first names, and dots for the others."""
    names = list(names)
    return ', '.join([*names[:most], *['...'][:len(names) > most]])


def count_bounds(graph: GraphSpec) -> Bounds:
    """
    Return bounds for the number of valid patterns (SR18, Lemma 1).

    The lower one is the product of both of the paper's, for short cycles that share no node.
    """
    return Bounds(lower_bound(edges_of(graph), short_disjoint_cycles(graph)),
                  2 ** sum(u != v for u, v in edges_of(graph)))


def lower_bound(edges: Iterable[Edge], cycles: Iterable[list[str]]) -> int:
    """
    Return 2^|E_forward| times the product of 2^|p| - 1 over vertex-disjoint cycles p.

    Stream all edges but those in no cycle and those of the cycles p. Then any choice for the
    former, and for each p any choice but all R = 0, is valid: as the cycles share no node, no
    other cycle can be made of their edges. So this many patterns are, and the product is no less
    than either factor.

    :param cycles: The nodes of each cycle; a self-edge is a cycle of one node.
    """
    edges = list(edges)
    graph = nx.DiGraph(edges)
    component = {v: i for i, nodes in enumerate(nx.strongly_connected_components(graph))
                 for v in nodes}
    forward = sum(component[u] != component[v] for u, v in edges)
    return 2**forward * prod(2**len(cycle) - 1 for cycle in cycles)


def short_disjoint_cycles(graph: GraphSpec) -> list[list[str]]:
    """Return cycles that share no node, greedily: a shortest one, then one of what is left."""
    edges = {(u, v) for u, v in edges_of(graph) if u != v}
    cycles = []
    while cycle := shortest_cycle(frozenset(edges)):
        cycles.append([u for u, _ in cycle])
        edges = {(u, v) for u, v in edges if not {u, v} & set(cycles[-1])}
    return cycles
