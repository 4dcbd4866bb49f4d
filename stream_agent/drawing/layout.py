"""
Where the boxes of a graph's nodes are and how its edges run, in inches; y points downwards.

No edge crosses a box, by construction: over the width of a layer it runs level, in a place that
the layer keeps free for it, and it turns in the gaps between layers only.
"""

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array
from stream_agent.drawing.layers import arrange, Item, Layers, links_of, Stop
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Edge

# Cubic Bezier splines, (3 n + 1, 2): a point, then two control points and a point n times.
Curve = np.ndarray
TRACK, SPACE, GAP, WIDEST_GAP, TURN = 0.15, 0.17, 0.44, 1.5, 0.2
OUTERMOST = 1e3
# How much it costs that a piece of an edge is not level, by how many of its ends are nodes: the
# straighter the longer an edge, and nodes in a row before all else.
STRAIGHTNESS = (6.0, 1.0, 8.0)


class Box(NamedTuple):
    """A rectangle around its middle."""

    x: float
    y: float
    width: float
    height: float


class Layout(NamedTuple):
    """A picture's boxes and curves, from (0, 0) to (width, height)."""

    boxes: dict[str, Box]
    curves: dict[Edge, Curve]
    width: float
    height: float


def lay_out(graph: GraphSpec, sizes: dict[str, tuple[float, float]]) -> Layout:
    """Lay a graph out from left to right, given the width and height of every node's text."""
    layers = arrange(graph)
    tracks = track_offsets(layers, sizes)
    place = heights(layers, tracks, sizes)
    offsets = {**tracks, **port_offsets(layers, tracks, place, sizes)}
    columns = column_sides(layers, place, sizes)
    boxes = {item: Box(float(np.mean(columns[i])), place[item], np.ptp(columns[i]),
                       sizes[item][1])
             for i, layer in enumerate(layers.order) for item in layer if isinstance(item, str)}
    curves = {edge: curve(edge, stops, columns, place, offsets)
              for edge, stops in layers.chains.items()}
    return fitted(boxes, curves)


def track_offsets(layers: Layers, sizes: dict) -> dict[tuple[Edge, Item, str], float]:
    """Return how far from the middle of a node the edges run that pass along it."""
    offsets, count = dict[tuple[Edge, Item, str], float](), Counter[Item]()
    for edge, stops in layers.chains.items():
        for stop in stops:
            if stop.role == 'track':
                half, is_loop = sizes[stop.item][1] / 2, edge[0] == edge[1]
                count[stop.item] += not is_loop
                offsets[edge, stop.item, 'track'] = (
                    -half - TRACK if is_loop else half + TRACK * count[stop.item])
    return offsets


def heights(layers: Layers, tracks: dict, sizes: dict) -> dict[Item, float]:
    """
    Return the y of every item: in order, with room between, and edges as straight as possible.

    A linear program: the weighted sum of the height differences along edges is least.
    """
    index = {item: i for i, item in enumerate(i for layer in layers.order for i in layer)}
    links = links_of(layers.chains)
    rows, columns, values, bounds = [], [], [], list[float]()

    def at_most(bound: float, *terms: tuple[int, float]) -> None:
        """Add the row: sum of value times variable <= bound."""
        for column, value in terms:
            rows.append(len(bounds))
            columns.append(column)
            values.append(value)
        bounds.append(bound)

    for upper, lower, distance in distances(layers, tracks, sizes):
        at_most(-distance, (index[upper], 1), (index[lower], -1))
    for slack, (edge, left, right) in enumerate(links, len(index)):
        rise = (tracks.get((edge, *right[1:]), 0.0) - tracks.get((edge, *left[1:]), 0.0))
        for sign in (1, -1):
            at_most(sign * rise, (index[left.item], sign), (index[right.item], -sign),
                    (slack, -1))
    price = np.array([1e-3] * len(index) + [
        STRAIGHTNESS[sum(stop.role in ('in', 'out') for stop in link[1:])] for link in links])
    matrix = coo_array((values, (rows, columns)), shape=(len(bounds), len(price))).tocsr()
    solution = linprog(price, matrix, bounds, bounds=(0, None), method='highs').x
    return {item: float(solution[i]) for item, i in index.items()}


def distances(layers: Layers, tracks: dict, sizes: dict) -> list[tuple[Item, Item, float]]:
    """Return how far below its upper neighbour an item has to be at least."""
    above = {item: sizes[item][1] / 2 if isinstance(item, str) else 0.0
             for layer in layers.order for item in layer}
    below = dict(above)
    for (_, item, _), offset in tracks.items():
        above[item], below[item] = max(above[item], -offset), max(below[item], offset)
    return [(upper, lower, below[upper] + above[lower] + SPACE)
            for layer in layers.order for upper, lower in pairwise(layer)]


def port_offsets(layers: Layers, tracks: dict, place: dict[Item, float], sizes: dict
                 ) -> dict[tuple[Edge, Item, str], float]:
    """
    Return how far from the middle of a node's side every edge leaves or arrives.

    Edges that run level take the middle, which needs no entry; others are above and below in the
    order in which they lead up and down, so that they part immediately; those that turn are
    outermost.
    """
    sides: dict[tuple[Item, str], list[tuple[float, Edge]]] = {}
    for edge, stops in layers.chains.items():
        for end, other in ((stops[0], stops[1]), (stops[-1], stops[-2])):
            rise = (OUTERMOST * tracks[edge, other.item, 'track'] if other.role == 'track'
                    else round(place[other.item] - place[end.item], 6))
            sides.setdefault((end.item, end.role), []).append((rise, edge))
    offsets = {}
    for (name, role), edges in sides.items():
        above = sorted((e for e in edges if e[0] < 0), reverse=True)
        below = sorted(e for e in edges if e[0] > 0)
        step = min(0.1, 0.42 * sizes[name][1] / max(len(above), len(below), 1))
        for sign, ends in ((-1, above), (1, below)):
            offsets.update({(e, name, role): sign * step * i for i, (_, e) in enumerate(ends, 1)})
    return offsets


def column_sides(layers: Layers, place: dict[Item, float], sizes: dict
                 ) -> list[tuple[float, float]]:
    """Return left and right of every layer; the steeper the edges, the wider the gap."""
    rise = [0.0] * len(layers.order)
    for _, left, right in links_of(layers.chains):
        rise[left.layer] = max(rise[left.layer], abs(place[left.item] - place[right.item]))
    sides, begin = [], 0.0
    for layer, steepest in zip(layers.order, rise):
        end = begin + max(sizes[item][0] for item in layer if isinstance(item, str))
        sides.append((begin, end))
        begin = end + min(GAP + 0.16 * steepest, WIDEST_GAP)
    return sides


def curve(edge: Edge, stops: list[Stop], columns: list[tuple[float, float]],
          place: dict[Item, float], offsets: dict) -> Curve:
    """Draw an edge from stop to stop: level in the layers, and smooth turns in the gaps."""
    def y(stop: Stop) -> float:
        return place[stop.item] + offsets.get((edge, stop.item, stop.role), 0.0)

    points = [(columns[stops[0].layer][1], y(stops[0]))]
    heading = 1
    for stop, following in pairwise(stops):
        left, right = columns[following.layer]
        if stop.layer == following.layer:
            # A turn: out of the right side and back along the node, or round to its left side.
            turn = points[-1][0] + heading * TURN
            points += [(turn, points[-1][1]), (turn, y(following)),
                       (points[-1][0], y(following))]
            heading = -heading
        else:
            enter = left if heading > 0 else right
            middle = (points[-1][0] + enter) / 2
            points += [(middle, points[-1][1]), (middle, y(following)), (enter, y(following))]
        if following.role != 'in':
            (a, b), (c, d) = points[-1], (right if heading > 0 else left, y(following))
            points += [((2 * a + c) / 3, (2 * b + d) / 3), ((a + 2 * c) / 3, (b + 2 * d) / 3),
                       (c, d)]
    return np.array(points)


def fitted(boxes: dict[str, Box], curves: dict[Edge, Curve]) -> Layout:
    """Move everything so that it begins at (0, 0)."""
    corners = [[box.x + sx * box.width / 2, box.y + sy * box.height / 2]
               for box in boxes.values() for sx in (-1, 1) for sy in (-1, 1)]
    points = np.concatenate([np.array(corners), *curves.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    moved = {name: box._replace(x=box.x - low[0], y=box.y - low[1])
             for name, box in boxes.items()}
    return Layout(moved, {edge: points - low for edge, points in curves.items()},
                  *map(float, high - low))
