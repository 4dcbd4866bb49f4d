"""The rollout window on paper: a column for every frame, a row for every node."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.text import Text
from stream_agent.plot_style import FAINT
from stream_agent.theory.drawing.layout import Box
from stream_agent.theory.drawing.style import DrawingError, text_width
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import (
    InvalidRolloutError, Pattern, sequential_pattern, update_order)
from stream_agent.theory.rollout import FrameNode

WIDTH, HEIGHT, ROW = 0.4, 0.3, 0.5
GAP, WIDEST_GAP = 0.62, 1.3
HEAD_ROOM, LABEL_SIZE = 0.26, 9
PANEL_TITLE, PANEL_SPACE, WIDEST_ROW = 0.28, 0.35, 14.0
MOST_CELLS, MOST_EDGES = 4000, 12000


class Grid(NamedTuple):
    """
    Where the nodes of a window stand, held ones included.

    :param boxes: A box for every frame and node.
    :param rows: Nodes from top to bottom.
    :param corner: Left and top.
    """

    boxes: dict[FrameNode, Box]
    rows: list[str]
    columns: int
    gap: float
    corner: tuple[float, float]
    width: float
    height: float


def grid(graph: GraphSpec, rows: list[str], size: int, gap: float | None = None,
         corner: tuple[float, float] = (0.0, 0.0)) -> Grid:
    """
    Place a window.

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
    return Grid(boxes, rows, size + 1, gap, corner, width,
                HEAD_ROOM + (len(rows) - 1) * ROW + HEIGHT)


def panels(graph: GraphSpec, patterns: Mapping[str, Pattern], size: int, gap: float
           ) -> dict[str, Grid]:
    """
    Place a window for each of several patterns: side by side, or one below the other if wide.

    Above each there is room for a title.

    :param patterns: Patterns by their names.
    """
    rows = common_rows(graph, next(iter(patterns.values())))
    found: dict[str, Grid] = {}
    x = y = 0.0
    for name in patterns:
        found[name] = place = grid(graph, rows, size, gap, (x, y + PANEL_TITLE))
        if len(patterns) * (place.width + PANEL_SPACE) > max(
                WIDEST_ROW, len(patterns) * place.height):
            y += PANEL_TITLE + place.height + PANEL_SPACE
        else:
            x += place.width + PANEL_SPACE
    return found


def extent(places: Iterable[Grid]) -> tuple[float, float]:
    """Return how far to the right and down windows reach."""
    ends = [(place.corner[0] + place.width, place.corner[1] + place.height) for place in places]
    return max(x for x, _ in ends), max(y for _, y in ends)


def draw_title(axes: Axes, place: Grid, title: str) -> Text:
    """Write a title above one of several windows."""
    return axes.text(place.corner[0], place.corner[1] - 0.07, title, fontsize=9.5,
                     fontweight='bold')


def check_window(graph: GraphSpec, size: int) -> None:
    """Refuse a window that is empty, or too large to be read."""
    if size < 1:
        raise DrawingError(f'window: {size} is no size; the smallest has the frames 0 and 1')
    cells, edges = (size + 1) * len(graph.nodes), (size + 1) * len(graph.edges)
    if cells > MOST_CELLS or edges > MOST_EDGES:
        most = min(MOST_CELLS // len(graph.nodes), MOST_EDGES // len(graph.edges)) - 1
        raise DrawingError(
            f'window: {cells} nodes and {edges} edges in frames 0 to {size} are too many to '
            'draw; ' + (f'a window up to {most} has room' if most > 0 else 'draw a smaller graph'))


def common_rows(graph: GraphSpec, pattern: Pattern) -> list[str]:
    """
    Return rows that suit several patterns of a graph: the sequential rollout's update order.

    :param pattern: Whose order to take where the graph file marks no sequential rollout.
    """
    try:
        return update_order(graph, sequential_pattern(graph))
    except InvalidRolloutError:
        return update_order(graph, pattern)


def label(graph: GraphSpec, name: str) -> str:
    """Return what stands before a node's row."""
    node = graph.node(name)
    rate = f' (every {node.period}, +{node.offset})' if node.period > 1 else ''
    role = ' (input)' if name in graph.inputs else ' (output)' if name == graph.output else ''
    return f'{name}{role}{rate}'


def draw_labels(axes: Axes, graph: GraphSpec, place: Grid) -> None:
    """Name rows and columns."""
    left, top = place.corner
    for name in place.rows:
        axes.text(left, place.boxes[0, name].y, label(graph, name), fontsize=LABEL_SIZE,
                  va='center', fontweight='bold' if name == graph.output else 'normal')
    for i in range(place.columns):
        axes.text(place.boxes[i, place.rows[0]].x, top + HEAD_ROOM - 0.12,
                  str(i) if i else 'frame 0', fontsize=LABEL_SIZE, ha='center', color=FAINT)


def held_spans(graph: GraphSpec, size: int) -> list[tuple[FrameNode, int]]:
    """Return which nodes are held from which frame to which; those of one frame are left out."""
    spans = []
    for node in graph.nodes:
        updates = [i for i in range(size + 1) if i == 0 or node.updates_at(i)] + [size + 1]
        spans += [((a, node.name), b - 1) for a, b in zip(updates, updates[1:]) if b - 1 > a]
    return spans


def bars(place: Grid, spans: list[tuple[FrameNode, int]]) -> list[Box]:
    """Return the bars that stand for held values."""
    found = []
    for (start, name), end in spans:
        first, last = place.boxes[start, name], place.boxes[end, name]
        left, right = first.x, last.x + WIDTH / 2
        found.append(Box((left + right) / 2, first.y, right - left, 0.45 * HEIGHT))
    return found
