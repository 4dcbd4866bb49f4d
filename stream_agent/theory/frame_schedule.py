"""
When the work of a frame can be done, and how the frames of a window can be computed together.

The response cone is what the output needs in a frame. Only a part of it depends on the frame's
image: a sum over edges can begin with those that stream, which read the frame before, and a node
without a path of R = 0 edges from an input can be finished. Both fit into the idle time after the
output of the frame before.

Over a window, a node outside of all cycles needs no loop over frames: its sources are there for
all of them. A cell whose only cycle is its own self-edge is a linear recurrence, which a scan
computes. Around any other cycle a frame has to wait for an earlier one, as many frames back as
edges of the cycle stream; so many frames can be computed together.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import networkx as nx
from stream_agent.theory.graph import GraphSpec, NodeSpec
from stream_agent.theory.patterns import Edge, Pattern, update_order
from stream_agent.theory.rollout import response_cone

# Orders of the nodes that are tried in a component; each is a first node's.
MOST_ORDERS = 16
# Nodes times edges of a component for which orders are tried, a second's work; a larger one is
# computed frame by frame.
MOST_TRIED = 100_000


class NodeWork(NamedTuple):
    """
    Work on one node, in its own frame: R = 0 edges read this frame, the others the one before.

    :param node: Whose value it is.
    :param edges: (source, node) of what is summed now, in the graph's order.
    :param begun: Whether this continues a sum that was begun ahead.
    :param finishes: Whether the value is complete after it; else it is a sum to be continued.
    """

    node: str
    edges: tuple[Edge, ...]
    begun: bool = False
    finishes: bool = True


class FrameSchedule(NamedTuple):
    """
    The work of one frame, in an order that its R = 0 edges allow.

    :param held: Nodes that keep their value, as their period says.
    :param ahead: What does not wait for the image, so that it is done in the frame before.
    :param respond: What the output then still needs.
    :param settle: What only later frames need.
    """

    held: tuple[str, ...]
    ahead: tuple[NodeWork, ...]
    respond: tuple[NodeWork, ...]
    settle: tuple[NodeWork, ...]


def frame_schedule(graph: GraphSpec, pattern: Pattern, frame: int, begin_ahead: bool = True
                   ) -> FrameSchedule:
    """
    Divide the work of a frame.

    :param pattern: A valid pattern of the graph.
    :param frame: From 1 on; matters only with periods.
    :param begin_ahead: Whether anything is done before the image is there; if not, the whole
        response cone is left for the output.
    """
    computed = [v for v in update_order(graph, pattern) if v not in graph.inputs]
    held = tuple(v for v in computed if not graph.node(v).updates_at(frame))
    cone = response_cone(graph, pattern, frame)
    late = nodes_after_the_image(graph, pattern, cone) if begin_ahead else {*cone}
    ahead, respond = [], []
    for v in cone:
        edges = terms(graph, v)
        waiting = edges_that_wait(graph, edges, pattern, late) if begin_ahead else edges
        begun = tuple(edge for edge in edges if edge not in waiting)
        if begun:
            ahead.append(NodeWork(v, begun, finishes=v not in late))
        if v in late:
            respond.append(NodeWork(v, waiting, begun=bool(begun)))
    settle = (NodeWork(v, terms(graph, v)) for v in computed if v not in (*held, *cone))
    return FrameSchedule(held, tuple(ahead), tuple(respond), tuple(settle))


def nodes_after_the_image(graph: GraphSpec, pattern: Pattern, cone: list[str]) -> set[str]:
    """Return the inputs, and the nodes of a cone that R = 0 edges lead to from them."""
    late = set(graph.inputs)
    for v in cone:
        if any(not pattern[edge] and edge[0] in late for edge in terms(graph, v)):
            late.add(v)
    return late


def terms(graph: GraphSpec, name: str) -> tuple[Edge, ...]:
    """Return the edges that a node sums, in the graph's order; a cell's self-edge is none."""
    carries = bool(graph.node(name).cell)
    return tuple((edge.source, name) for edge in graph.incoming[name]
                 if not (carries and edge.source == name))


def edges_that_wait(graph: GraphSpec, edges: tuple[Edge, ...], pattern: Pattern, late: set[str]
                    ) -> tuple[Edge, ...]:
    """Return the edges into a node whose terms need the image; all factors of a product do."""
    product = {(edge.source, edge.target): edge.product
               for _, name in edges[:1] for edge in graph.incoming[name]}
    waiting = {edge for edge in edges if not pattern[edge] and edge[0] in late}
    products = {product[edge] for edge in waiting} - {''}
    return tuple(edge for edge in edges if edge in waiting or product[edge] in products)


class Component(NamedTuple):
    """
    Nodes that are computed together: a strongly connected component of the network.

    :param nodes: In the order in which a block of frames is computed.
    :param frames: Of a block; None for the whole window.
    :param lead: Frames by which each node's block begins later than that of the node that begins
        first, so that what it reads is there.
    :param scans: Whether it is a linear recurrence.
    """

    nodes: tuple[str, ...]
    frames: int | None
    lead: tuple[int, ...]
    scans: bool = False

    @property
    def way(self) -> str:
        """How it is computed, in words."""
        if self.frames is None:
            return 'by a scan' if self.scans else 'all frames at once'
        return 'frame by frame' if self.frames == 1 else f'{self.frames} frames at once'

    def __str__(self) -> str:
        return f'{", ".join(self.nodes)}: {self.way}'


def window_components(graph: GraphSpec, pattern: Pattern) -> list[Component]:
    """Divide the nodes by how a window of frames computes them; each reads those before it."""
    order = update_order(graph, pattern)
    net = nx.DiGraph(pattern.keys())
    place = {name: i for i, name in enumerate(order)}
    parts = [sorted(one, key=place.__getitem__) for one in nx.strongly_connected_components(net)]
    condensed = nx.condensation(net, parts)
    return [component(graph, pattern, parts[i])
            for i in nx.lexicographical_topological_sort(condensed, lambda i: place[parts[i][0]])
            if parts[i][0] not in graph.inputs]


def component(graph: GraphSpec, pattern: Pattern, names: Sequence[str]) -> Component:
    """Say how a strongly connected component is computed; its nodes are in an update order."""
    nodes = dict.fromkeys(names)
    # What a cell reads of itself is left to its scan.
    edges = {(edge.source, v): pattern[edge.source, v] for v in nodes
             for edge in graph.incoming[v]
             if edge.source in nodes and not (edge.source == v and is_linear(graph.node(v)))}
    if not edges:
        return Component(tuple(nodes), None, (0,), is_linear(graph.node(names[0])))
    best, most = Component(tuple(nodes), 1, (0,) * len(nodes)), 1
    if len(nodes) * len(edges) > MOST_TRIED:
        return best
    for order in orders(nodes, edges):
        for frames in range(shortest_cycle(edges), most, -1):
            lead = leads(order, edges, frames)
            if lead is not None:
                best, most = Component(order, frames, lead), frames
                break
    return best


def is_linear(node: NodeSpec) -> bool:
    """Return whether a node's new value depends linearly on its last one."""
    return bool(node.cell) and node.activation == 'identity'


def shortest_cycle(edges: dict[Edge, int]) -> int:
    """Return the least sum of R around a cycle: no more frames can be computed together."""
    network = nx.DiGraph()
    network.add_weighted_edges_from((u, v, r) for (u, v), r in edges.items())
    back = dict(nx.all_pairs_dijkstra_path_length(network))
    return min(r + back[v][u] for (u, v), r in edges.items())


def orders(nodes: Iterable[str], edges: Iterable[Edge]) -> list[tuple[str, ...]]:
    """Return orders in which few edges lead back: depth first from each of the nodes."""
    network = nx.DiGraph()
    network.add_nodes_from(nodes)
    network.add_edges_from(edges)
    return [tuple(reversed([*nx.dfs_postorder_nodes(network, first)]))
            for first in islice(nodes, MOST_ORDERS)]


def leads(order: Sequence[str], edges: dict[Edge, int], frames: int) -> tuple[int, ...] | None:
    """
    Find by how many frames each node's block has to be shifted, or None if nothing helps.

    Blocks are computed node after node. Of a source that comes first, the target may read the
    frames of the same block; of any other, those of the block before. So an edge (u, v) bounds
    lead(v) - lead(u) by R, less the frames of a block if it leads back in the order. Bellman and
    Ford find such numbers.
    """
    place = {name: i for i, name in enumerate(order)}
    bounds = [(place[u], place[v], r - frames * (place[u] >= place[v]))
              for (u, v), r in edges.items()]
    lead = [0] * len(order)
    for _ in range(len(order) + 1):
        before = list(lead)
        for u, v, bound in bounds:
            lead[v] = min(lead[v], lead[u] + bound)
        if lead == before:
            return tuple(value - min(lead) for value in lead)
    return None
