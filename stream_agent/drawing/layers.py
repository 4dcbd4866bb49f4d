"""
Layers of a graph from left to right, and the order within them.

The method is Sugiyama's: every edge from layer to layer, long edges through places that are kept
free for them, and orders that cross few edges. Edges that lead back run below the nodes of both
of their ends, self-edges above the node; both leave at the right and arrive at the left, as all
others do.
"""

from collections import defaultdict
from itertools import pairwise
from random import Random
from typing import NamedTuple

import networkx as nx
import numpy as np
from stream_agent.drawing.plot_style import DrawingError
from stream_agent.theory.graph import GraphSpec, reachable
from stream_agent.theory.patterns import Edge, edges_of

SWEEPS = 8
# Small graphs are ordered from many starts; a larger one gets as many as its size leaves time for.
MOST_STARTS, WORK = 60, 6000
MOST_PLACES = 4000

# A node's name, or the place that is kept free for an edge in a layer.
Item = str | tuple[Edge, int]
Order = list[list[Item]]


class Stop(NamedTuple):
    """
    Where an edge leaves, arrives, or passes a layer.

    :param role: 'out' and 'in' of a node, 'pass' through a place of its own, or 'track': along
        a node, above it for a self-edge, below it otherwise.
    """

    layer: int
    item: Item
    role: str

    @property
    def lower(self) -> float:
        """How much lower than its item a track counts, where items are one apart."""
        return 0.25 if self.role == 'track' else 0.0


class EdgePiece(NamedTuple):
    """A piece of an edge between stops in two neighbouring layers."""

    edge: Edge
    left: Stop
    right: Stop


class Layers(NamedTuple):
    """Items of every layer from top to bottom, and the stops of every edge."""

    order: Order
    chains: dict[Edge, list[Stop]]


def check_places(graph: GraphSpec, places: int) -> None:
    """Refuse a drawing of too many places."""
    if places > MOST_PLACES:
        raise DrawingError(
            f'graph: {len(graph.nodes)} nodes and {len(graph.edges)} edges take {places} places '
            f'in a drawing, over {MOST_PLACES}; draw a smaller graph')


def arrange(graph: GraphSpec) -> Layers:
    """Put nodes into layers, and order them so that few edges cross."""
    layer = layers_of(graph)
    check_places(graph, len(layer) + sum(abs(layer[v] - layer[u]) for u, v in edges_of(graph)))
    chains = {edge: chain(edge, layer) for edge in edges_of(graph)}
    links = links_of(chains)
    items = dict.fromkeys([(layer[name], name) for name in layer] + [
        (stop.layer, stop.item) for stops in chains.values() for stop in stops])
    starts = max(1, min(MOST_STARTS, WORK // (len(items) + len(links))))
    orders = [improved(start(items, random), links) for random in map(Random, range(starts))]
    return Layers(min(orders, key=lambda order: cost(order, links)), chains)


def layers_of(graph: GraphSpec) -> dict[str, int]:
    """Return the layer of every node: the length of the longest path to it without edges back."""
    back = feedback_edges(graph)
    sources = nx.DiGraph()
    sources.add_nodes_from(graph.by_name)
    sources.add_edges_from((v, u) for u, v in edges_of(graph) if (u, v) not in back)
    layer: dict[str, int] = {}
    for v in nx.dfs_postorder_nodes(sources):
        layer[v] = 1 + max((layer[u] for u in sources[v]), default=-1)
    return layer


def feedback_edges(graph: GraphSpec) -> set[Edge]:
    """Return edges without which there is no cycle: the marked ones first, others as needed."""
    back = {(edge.source, edge.target) for edge in graph.edges
            if edge.source == edge.target
            or edge.streams and edge.source in reachable(edges_of(graph), [edge.target])}
    left = nx.DiGraph()
    left.add_nodes_from([*graph.inputs, *graph.by_name])
    left.add_edges_from(edge for edge in edges_of(graph) if edge not in back)
    path: set[str] = set()
    for u, v, event in nx.dfs_labeled_edges(left):
        if event == 'forward':
            path.add(v)
        elif event == 'reverse':
            path.remove(v)
        elif v in path:
            back.add((u, v))
    return back


def chain(edge: Edge, layer: dict[str, int]) -> list[Stop]:
    """Return the stops of an edge."""
    u, v = edge
    first, last = layer[u], layer[v]
    if first < last:
        between = [Stop(i, (edge, i), 'pass') for i in range(first + 1, last)]
    else:
        between = [Stop(i, (edge, i), 'pass') for i in range(first - 1, last, -1)]
        between = [Stop(first, u, 'track'), *between] * (first > last) + [Stop(last, v, 'track')]
    return [Stop(first, u, 'out'), *between, Stop(last, v, 'in')]


def links_of(chains: dict[Edge, list[Stop]]) -> list[EdgePiece]:
    """Return the pieces of all edges that lie between layers."""
    return [EdgePiece(edge, *sorted(pair, key=lambda stop: stop.layer))
            for edge, stops in chains.items() for pair in pairwise(stops)
            if pair[0].layer != pair[1].layer]


def start(items: dict[tuple[int, Item], None], random: Random) -> Order:
    """Return an order in which each edge passes all its layers above the nodes, or below."""
    below = {item[0]: random.random() < 0.5 for _, item in items if not isinstance(item, str)}
    order: Order = [[] for _ in range(1 + max(layer for layer, _ in items))]
    for layer, item in items:
        order[layer].append(item)
    return [sorted(layer, key=lambda item: 0 if isinstance(item, str)
                   else 1 if below[item[0]] else -1) for layer in order]


def improved(order: Order, links: list[EdgePiece]) -> Order:
    """Order the layers by the means of their neighbours' positions, to the right and back."""
    best, least = order, cost(order, links)
    neighbours: dict[tuple[Item, bool], list[Stop]] = defaultdict(list)
    for _, left, right in links:
        neighbours[left.item, True].append(right)
        neighbours[right.item, False].append(left)
    for sweep in range(SWEEPS):
        leftwards = bool(sweep % 2)
        order = [list(layer) for layer in order]
        for i in range(len(order) - 2, -1, -1) if leftwards else range(1, len(order)):
            other = positions(order[i + 1 if leftwards else i - 1])
            own = positions(order[i])
            means = {item: float(np.mean([other[stop.item] + stop.lower for stop
                                          in neighbours[item, leftwards]] or own[item]))
                     for item in order[i]}
            order[i].sort(key=means.__getitem__)
        if cost(order, links) < least:
            best, least = order, cost(order, links)
    return best


def positions(layer: list[Item]) -> dict[Item, float]:
    """Return the places of the items of a layer, counted from its middle."""
    return {item: i - (len(layer) - 1) / 2 for i, item in enumerate(layer)}


def cost(order: Order, links: list[EdgePiece]) -> tuple[float, float]:
    """Return what is wrong with an order: crossings first, then slanted edges."""
    place = {}
    for layer in order:
        place.update(positions(layer))
    gaps: list[list[tuple[float, float]]] = [[] for _ in order]
    for _, left, right in links:
        gaps[left.layer].append((place[left.item] + left.lower, place[right.item] + right.lower))
    crossings, aslant = 0, 0.0
    for gap in filter(None, gaps):
        begins, ends = np.array(gap).T
        crossings += int(np.sum((begins[:, None] < begins) & (ends[:, None] > ends)))
        aslant += float(np.sum((begins - ends) ** 2))
    return crossings, aslant
