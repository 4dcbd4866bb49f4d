"""
The edges of a rollout window on paper; they run beside the columns, where no nodes are.

An edge that streams runs from a right side to a left side. One that does not goes straight to
the next row, or around the nodes between by the gap at their right.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from stream_agent.theory.drawing.grid import Grid, HEIGHT, ROW, WIDTH
from stream_agent.theory.drawing.layout import Curve
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Edge, Pattern
from stream_agent.theory.rollout import FrameNode, sources_of

# Of a node's height that edges leave and arrive at; and how close together they may be.
PORTS, PORT_STEP = 0.7, 0.06


class WindowEdge(NamedTuple):
    """
    An edge of the window.

    :param source: The node that it reads, at the frame in which it reads it, held or not.
    """

    source: FrameNode
    target: FrameNode
    streams: bool

    @property
    def edge(self) -> Edge:
        """Return the edge of the graph."""
        return self.source[1], self.target[1]


def window_edges(graph: GraphSpec, pattern: Pattern, size: int) -> list[WindowEdge]:
    """
    Return the edges of R_W as they are drawn, a held source where it is read.

    Those within frame 0 are left out: its nodes hold initial states.
    """
    sources = sources_of(graph, pattern)
    return [WindowEdge((i - r, u), (i, node.name), bool(r))
            for i in range(1, size + 1) for node in graph.nodes if node.updates_at(i)
            for u, r in sources[node.name]]


def edge_curves(graph: GraphSpec, place: Grid, edges: Iterable[WindowEdge]
                ) -> dict[WindowEdge, Curve]:
    """Draw the edges of a window."""
    edges = list(edges)
    streams = {edge.edge: edge.streams for edge in edges}
    row = {name: k for k, name in enumerate(place.rows)}
    ports = port_offsets(streams, row)
    furthest = max((abs(row[u] - row[v]) for (u, v), r in streams.items() if not r), default=2)
    return {edge: edge_curve(graph, place, edge, ports, furthest) for edge in edges}


def port_offsets(streams: dict[Edge, bool], row: dict[str, int]) -> dict[tuple[Edge, str], float]:
    """
    Return how far from the middle of a node's side every edge leaves ('out') or arrives ('in').

    Edges stand in the order in which they part: those that turn up above, far ones inside.
    """
    sides: dict[tuple[str, str], list[tuple[int, int, Edge, str]]] = {}
    for (u, v), streaming in streams.items():
        down = row[v] - row[u]
        if streaming:
            sides.setdefault((u, 'right'), []).append((2, row[v], (u, v), 'out'))
            sides.setdefault((v, 'left'), []).append((2, row[u], (u, v), 'in'))
        elif abs(down) > 1:
            sides.setdefault((u, 'right'), []).append(
                (3 if down > 0 else 1, -down, (u, v), 'out'))
            sides.setdefault((v, 'right'), []).append(
                (0 if down > 0 else 4, down, (u, v), 'in'))
    offsets = {}
    for ends in map(sorted, sides.values()):
        # The edge from a node to itself runs level, so that a row of them is a straight line.
        level = [k for k, (_, _, (u, v), _) in enumerate(ends) if u == v]
        middle = level[0] if level else (len(ends) - 1) / 2
        most = max(middle, len(ends) - 1 - middle, 1)
        step = min(PORT_STEP, PORTS * HEIGHT / 2 / most)
        offsets.update({(edge, end): step * (k - middle)
                        for k, (_, _, edge, end) in enumerate(ends)})
    return offsets


def edge_curve(graph: GraphSpec, place: Grid, edge: WindowEdge,
               ports: dict[tuple[Edge, str], float], furthest: int) -> Curve:
    """
    Draw one edge.

    :param furthest: Rows that the longest edge within a column goes down.
    """
    source, target = place.boxes[edge.source], place.boxes[edge.target]
    leave, arrive = (ports.get((edge.edge, end), 0.0) for end in ('out', 'in'))
    right, drop = source.x + WIDTH / 2, target.y - source.y
    if edge.source[1] in graph.inputs:
        # On the round end of the box.
        right -= HEIGHT / 2 - np.sqrt(HEIGHT ** 2 / 4 - leave ** 2)
    start, end = source.y + leave, target.y + arrive
    if edge.streams:
        middle, left = source.x + WIDTH / 2 + place.gap / 2, target.x - WIDTH / 2
        return np.array([(right, start), (middle, start), (middle, end), (left, end)])
    if abs(drop) < 1.5 * ROW:
        down = HEIGHT / 2 if drop > 0 else -HEIGHT / 2
        return np.array([(source.x, source.y + down + (drop - 2 * down) * t)
                         for t in (0, 1 / 3, 2 / 3, 1)])
    reach = source.x + WIDTH / 2 + place.gap * (0.2 + 0.8 * abs(drop) / ROW / furthest)
    return np.array([(right, start), (reach, start), (reach, end), (source.x + WIDTH / 2, end)])
