"""Rollout windows as pictures: what every node waits for, and what depends on an image."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
import numpy as np
from stream_agent.drawing.graph_picture import (
    box_entry, draw_boxes, draw_edges, edge_entries, headline, inner, line_entry, SAME_FRAME,
    STREAMING)
from stream_agent.drawing.layout import Box, Curve
from stream_agent.drawing.plot_style import (
    canvas, CONE, DrawingError, FAINT, HELD, INK, PICTURE_STYLE, SEEN, text_width, VERMILION)
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import images_seen
from stream_agent.theory.patterns import (
    Edge, InvalidRolloutError, Pattern, sequential_pattern, update_order)
from stream_agent.theory.rollout import (
    FrameNode, inference_tableau, response_cone, sources_of, window_nodes)

WIDTH, HEIGHT, ROW = 0.4, 0.3, 0.5
GAP, WIDEST_GAP, PANEL_GAP = 0.62, 1.3, 0.46
HEAD_ROOM, LABEL_SIZE, NUMBER_SIZE = 0.26, 9, 8.5
PANEL_TITLE, PANEL_SPACE, WIDEST_ROW = 0.28, 0.35, 14.0
MOST_CELLS, MOST_EDGES = 4000, 12000
# Of a node's height that edges leave and arrive at; and how close together they may be.
PORTS, PORT_STEP = 0.7, 0.06
RESPONSE = {'facecolor': 'none', 'edgecolor': VERMILION, 'linewidth': 2.4}


class Grid(NamedTuple):
    """
    Where the nodes of a window are drawn, held ones too.

    :param rows: Nodes from top to bottom.
    :param size: W; the window has the frames 0, ..., W, each a column.
    :param gap: Between two columns.
    :param corner: Left and top.
    """

    graph: GraphSpec
    boxes: dict[FrameNode, Box]
    rows: list[str]
    size: int
    gap: float
    corner: tuple[float, float]
    width: float
    height: float


def draw_window(graph: GraphSpec, pattern: Pattern, size: int, name: str = '') -> Figure:
    """
    Draw a rollout window: frames from left to right, nodes in the order of their updates.

    Every node shows its number of the inference tableau. The response cone of every frame is
    filled. A node that is held has no copy of its own, but a bar from its last update on.

    :param pattern: A valid pattern.
    :param size: W; the window has the frames 0, ..., W.
    :param name: The graph's name, for the title.
    :raises DrawingError: If the window is too large.
    """
    with rc_context(PICTURE_STYLE):
        place = grid(graph, common_rows(graph, pattern), size)
        curves = edge_curves(place, pattern)
        held = held_spans(place)
        figure, axes = canvas(place.width, place.height, headline(graph, pattern, name), [
            box_entry('number: update step at which the node is there'),
            *edge_entries(edge.streams for edge in curves),
            box_entry('response cone of the frame', facecolor=CONE, linewidth=1.5),
            *[box_entry('held', facecolor=HELD, edgecolor=FAINT, linewidth=0.6)] * bool(held),
            box_entry('frame 0: initial state', edgecolor=FAINT)])
        draw_labels(axes, place)
        draw_held(axes, place, held)
        draw_edges(axes, ((edge.streams, points) for edge, points in curves.items()))
        cones = {(i, v) for i in range(1, size + 1) for v in response_cone(graph, pattern, i)}
        draw_nodes(axes, place, {'cone': {'facecolor': CONE, 'linewidth': 1.5},
                                 'initial': {'edgecolor': FAINT, 'linewidth': 0.9},
                                 'node': {'linewidth': 0.9}},
                   lambda node: 'cone' if node in cones else 'initial' if not node[0] else 'node',
                   inference_tableau(graph, pattern, size))
        draw_output_borders(axes, place, [node for node in window_nodes(graph, size)
                                          if node[1] == graph.output])
    return figure


def draw_influence(graph: GraphSpec, patterns: Mapping[str, Pattern], image: int, size: int,
                   name: str = '') -> Figure:
    """
    Draw which nodes at which frames depend on an image, for one or several patterns.

    :param patterns: Valid patterns of the graph by their names.
    :param image: The frame of the image, from 1 (from 0 with the image of frame 0) to W.
    :param size: W; the windows have the frames 0, ..., W.
    :param name: The graph's name, for the title.
    :raises DrawingError: If the windows are too large.
    """
    with rc_context(PICTURE_STYLE):
        places, width, height = panels(graph, patterns, size)
        held = held_spans(next(iter(places.values())))
        title = f"{name + ': ' if name else ''}what depends on the image of frame {image}"
        figure, axes = canvas(width, height, title, [
            box_entry('depends on the image', facecolor=SEEN, linewidth=1.4),
            box_entry('does not', edgecolor=FAINT),
            box_entry('first response', **RESPONSE),
            line_entry('carries it, same frame', SAME_FRAME),
            line_entry('carries it, streaming', STREAMING),
            box_entry('number: update step', edgecolor=INK),
            *[box_entry('held', facecolor=HELD, edgecolor=FAINT)] * bool(held)])
        for label, pattern in patterns.items():
            draw_influence_panel(axes, pattern, places[label], image, label)
    return figure


def draw_influence_panel(axes: Axes, pattern: Pattern, place: Grid, image: int, label: str
                         ) -> None:
    """Draw which nodes of one pattern's window depend on an image, and the first response."""
    graph = place.graph
    seen = images_seen(graph, pattern, place.size)
    depends = {node for node, images in seen.items() if image in images}
    tableau = inference_tableau(graph, pattern, place.size)
    response = next(((i, graph.output) for i in range(place.size + 1)
                     if (i, graph.output) in depends), None)
    says = 'no response in this window'
    if response is not None:
        late = response[0] - image
        when = f"{late} frame{'s' if late > 1 else ''} later" if late else 'in the same frame'
        says = f'first response {when}, update step {tableau[response]}'
    draw_labels(axes, place, f'{label}: {says}')
    for dependent, colour in ((False, HELD), (True, SEEN)):
        draw_held(axes, place, [span for span in held_spans(place)
                                if (span[0] in depends) is dependent], colour)
    draw_edges(axes, ((edge.streams, points) for edge, points in edge_curves(
        place, pattern).items() if edge.source in depends), 'influence', linewidth=1.0)
    draw_nodes(axes, place, {'independent': {'edgecolor': FAINT, 'linewidth': 0.8},
                             'dependent': {'facecolor': SEEN, 'linewidth': 1.4}},
               lambda node: 'dependent' if node in depends else 'independent', tableau)
    if response is not None:
        draw_boxes(axes, [inner(place.boxes[response], -0.05)], 'first_response',
                   graph.output in graph.inputs, zorder=1.5, **RESPONSE)


def grid(graph: GraphSpec, rows: list[str], size: int, gap: float | None = None,
         corner: tuple[float, float] = (0.0, 0.0)) -> Grid:
    """
    Place the nodes of a window in rows and columns.

    :param rows: All nodes from top to bottom.
    :param gap: Between two columns; wide enough for the edges of all rows if None.
    :param corner: Left and top.
    :raises DrawingError: If the window has too many nodes or edges.
    """
    check_window(graph, size)
    labels = max(text_width(label(graph, name), LABEL_SIZE, bold=True) for name in rows) + 0.15
    gap = min(GAP + 0.04 * len(rows), WIDEST_GAP) if gap is None else gap
    left, top = corner[0] + labels + WIDTH / 2, corner[1] + HEAD_ROOM + HEIGHT / 2
    boxes = {(i, name): Box(left + i * (WIDTH + gap), top + k * ROW, WIDTH, HEIGHT)
             for i in range(size + 1) for k, name in enumerate(rows)}
    # The last frame's edges turn within the gap at its right.
    width = labels + (size + 1) * WIDTH + (size + 0.75) * gap
    return Grid(graph, boxes, rows, size, gap, corner, width,
                HEAD_ROOM + (len(rows) - 1) * ROW + HEIGHT)


def panels(graph: GraphSpec, patterns: Mapping[str, Pattern], size: int
           ) -> tuple[dict[str, Grid], float, float]:
    """
    Place a window for each of several patterns: side by side, or one below the other if wide.

    :param patterns: Patterns by their names.
    :returns: The windows, with room for a title above each, and the width and height of all.
    """
    rows = common_rows(graph, next(iter(patterns.values())))
    found: dict[str, Grid] = {}
    x = y = 0.0
    for name in patterns:
        found[name] = place = grid(graph, rows, size, PANEL_GAP, (x, y + PANEL_TITLE))
        if len(patterns) * (place.width + PANEL_SPACE) > max(
                WIDEST_ROW, len(patterns) * place.height):
            y += PANEL_TITLE + place.height + PANEL_SPACE
        else:
            x += place.width + PANEL_SPACE
    # Windows of one graph are equally large, so that the last one reaches furthest.
    return found, place.corner[0] + place.width, place.corner[1] + place.height


def check_window(graph: GraphSpec, size: int) -> None:
    """Refuse a window that is empty, or too large to be read."""
    if size < 1:
        raise DrawingError(f'window: {size} is not a size; the smallest is 1')
    cells, edges = (size + 1) * len(graph.nodes), (size + 1) * len(graph.edges)
    if cells > MOST_CELLS or edges > MOST_EDGES:
        most = min(MOST_CELLS // len(graph.nodes), MOST_EDGES // len(graph.edges)) - 1
        raise DrawingError(
            f'window: {cells} nodes and {edges} edges in frames 0 to {size} are too many to '
            'draw; ' + (f'a window up to {most} has room' if most > 0 else 'draw a smaller graph'))


def common_rows(graph: GraphSpec, pattern: Pattern) -> list[str]:
    """Return rows that suit several patterns: the sequential rollout's order, else the given's."""
    try:
        return update_order(graph, sequential_pattern(graph))
    except InvalidRolloutError:
        return update_order(graph, pattern)


def label(graph: GraphSpec, name: str) -> str:
    """Return the text before a node's row."""
    node = graph.node(name)
    rate = f' (every {node.period}, +{node.offset})' if node.period > 1 else ''
    role = ' (input)' if name in graph.inputs else ' (output)' if name == graph.output else ''
    return f'{name}{role}{rate}'


def draw_labels(axes: Axes, place: Grid, title: str = '') -> Text:
    """Write nodes before their rows, frames above their columns; returns the title above all."""
    (left, top), graph = place.corner, place.graph
    written = axes.text(left, top - 0.07, title, fontsize=9.5, fontweight='bold')
    for name in place.rows:
        axes.text(left, place.boxes[0, name].y, label(graph, name), fontsize=LABEL_SIZE,
                  va='center', fontweight='bold' if name == graph.output else 'normal')
    for i in range(place.size + 1):
        axes.text(place.boxes[i, place.rows[0]].x, top + HEAD_ROOM - 0.12,
                  str(i) if i else 'frame 0', fontsize=LABEL_SIZE, ha='center', color=FAINT)
    return written


def held_spans(place: Grid) -> list[tuple[FrameNode, int]]:
    """Return every update whose value is held for further frames, with the last of them."""
    spans = []
    for node in place.graph.nodes:
        updates = [0, *filter(node.updates_at, range(1, place.size + 1)), place.size + 1]
        spans += [((a, node.name), b - 1) for a, b in zip(updates, updates[1:]) if b - 1 > a]
    return spans


def draw_held(axes: Axes, place: Grid, spans: Iterable[tuple[FrameNode, int]], colour: str = HELD
              ) -> None:
    """Draw a bar for every value that is held."""
    bars = []
    for (start, name), end in spans:
        left, right = place.boxes[start, name].x, place.boxes[end, name].x + WIDTH / 2
        bars.append(Box((left + right) / 2, place.boxes[start, name].y, right - left,
                        0.45 * HEIGHT))
    draw_boxes(axes, bars, 'held', zorder=1, facecolor=colour, edgecolor=FAINT, linewidth=0.6)


def draw_nodes(axes: Axes, place: Grid, looks: Mapping[str, dict],
               look_of: Callable[[FrameNode], str], numbers: Mapping[FrameNode, object]
               ) -> list[tuple[list[FrameNode], PathCollection, list[Text]]]:
    """
    Draw the nodes of a window with what is written in them.

    :param looks: How boxes look, by the name of the look.
    :param numbers: What is written in the nodes; the others are left empty.
    :returns: Nodes that look alike, with their boxes and their texts.
    """
    groups: dict[tuple[str, bool], list[FrameNode]] = defaultdict(list)
    for node in window_nodes(place.graph, place.size):
        groups[look_of(node), node[1] in place.graph.inputs].append(node)
    return [(nodes,
             draw_boxes(axes, [place.boxes[node] for node in nodes], look, is_input,
                        **looks[look]),
             [axes.text(*place.boxes[node][:2], str(numbers.get(node, '')), fontsize=NUMBER_SIZE,
                        ha='center', va='center_baseline', zorder=6,
                        color=looks[look].get('edgecolor', INK)) for node in nodes])
            for (look, is_input), nodes in groups.items()]


def draw_output_borders(axes: Axes, place: Grid, nodes: Iterable[FrameNode], zorder: float = 4
                        ) -> None:
    """Draw the second border of outputs."""
    draw_boxes(axes, [inner(place.boxes[node], 0.03) for node in nodes], 'outputs',
               place.graph.output in place.graph.inputs, zorder=zorder, facecolor='none',
               linewidth=0.7)


class WindowEdge(NamedTuple):
    """An edge of the window; its source is in the frame in which it is read, held or not."""

    source: FrameNode
    target: FrameNode
    streams: bool


def window_edges(graph: GraphSpec, pattern: Pattern, size: int) -> list[WindowEdge]:
    """Return the edges of R_W as they are drawn, but for those of frame 0, an initial state."""
    sources = sources_of(graph, pattern)
    return [WindowEdge((j - r, u), (j, v), bool(r))
            for j, v in window_nodes(graph, size) if j for u, r in sources[v]]


def edge_curves(place: Grid, pattern: Pattern) -> dict[WindowEdge, Curve]:
    """Return how the edges of a pattern's window run."""
    edges = window_edges(place.graph, pattern, place.size)
    drawn = {(u, v): streams for (_, u), (_, v), streams in edges}
    row = {name: k for k, name in enumerate(place.rows)}
    ports = port_offsets(drawn, row)
    furthest = max((abs(row[u] - row[v]) for (u, v), r in drawn.items() if not r), default=2)
    return {edge: edge_curve(place, edge, ports, furthest) for edge in edges}


def port_offsets(drawn: Mapping[Edge, bool], row: Mapping[str, int]
                 ) -> dict[tuple[Edge, str], float]:
    """
    Return how far from the middle of a node's side every edge leaves ('out') or arrives ('in').

    Edges are in the order in which they part: those that turn up above, far ones inside.
    """
    sides: dict[tuple[str, str], list[tuple[int, int, Edge, str]]] = defaultdict(list)
    for (u, v), streams in drawn.items():
        down = row[v] - row[u]
        if streams:
            sides[u, 'right'].append((2, row[v], (u, v), 'out'))
            sides[v, 'left'].append((2, row[u], (u, v), 'in'))
        elif abs(down) > 1:
            sides[u, 'right'].append((3 if down > 0 else 1, -down, (u, v), 'out'))
            sides[v, 'right'].append((0 if down > 0 else 4, down, (u, v), 'in'))
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


def edge_curve(place: Grid, edge: WindowEdge, ports: dict[tuple[Edge, str], float],
               furthest: int) -> Curve:
    """Return how one edge runs; ``furthest`` is the most rows that one within a column passes."""
    source, target = place.boxes[edge.source], place.boxes[edge.target]
    leave, arrive = (ports.get(((edge.source[1], edge.target[1]), end), 0.0)
                     for end in ('out', 'in'))
    right, drop = source.x + WIDTH / 2, target.y - source.y
    if edge.source[1] in place.graph.inputs:
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
