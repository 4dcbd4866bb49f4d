"""A graph as a picture: nodes in layers, and which edges stream."""

from collections import Counter
from collections.abc import Iterable

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path
import numpy as np
from stream_agent.drawing.layout import Box, Curve, lay_out, Layout
from stream_agent.drawing.plot_style import BLUE, FAINT, INK
from stream_agent.drawing.style import canvas, CONE, headline, PICTURE_STYLE, text_width
from stream_agent.theory.graph import GraphSpec, NodeSpec
from stream_agent.theory.patterns import Pattern
from stream_agent.theory.rollout import response_cone

HEAD, HALF_HEAD = 0.085, 0.034
DASHES = (0, (3.2, 1.6))
# How edges look: by dashes and lightness, and by colour for those who see it.
STREAMING = {'edgecolor': BLUE, 'linestyle': DASHES, 'linewidth': 1.3}
SAME_FRAME = {'edgecolor': INK, 'linestyle': '-', 'linewidth': 1.3}


def draw_curves(axes: Axes, curves: Iterable[Curve], style: dict, name: str,
                zorder: float = 2) -> None:
    """
    Draw edges with arrowheads at their ends.

    :param name: Names the lines in the file.
    """
    curves = list(curves)
    if not curves:
        return
    lines, heads = [], []
    for points in curves:
        direction = points[-1] - points[-2]
        direction = direction / np.hypot(*direction)
        across = HALF_HEAD * np.array([-direction[1], direction[0]])
        back = points[-1] - HEAD * direction
        heads.append([points[-1], back + across, back - across])
        # The line ends inside the head, so that its blunt end does not show.
        lines.append(Path(np.concatenate([points[:-2], points[-2:] - 0.7 * HEAD * direction]),
                          [Path.MOVETO] + [Path.CURVE4] * (len(points) - 1)))
    for collection in (
            PathCollection(lines, facecolor='none', gid=name, zorder=zorder, **style),
            PolyCollection(heads, facecolor=style['edgecolor'], linewidth=0, gid=f'{name}_heads',
                           zorder=zorder + 0.1)):
        collection.set_clip_on(False)
        axes.add_collection(collection, autolim=False)


def draw_boxes(axes: Axes, boxes: Iterable[Box], name: str, round_ends: bool = False,
               zorder: float = 4, **style) -> PathCollection:
    """
    Draw boxes.

    :param round_ends: As an input, rather than as any other node.
    """
    paths = [rounded(box, box.height / 2 if round_ends else 0.05) for box in boxes]
    style = {'facecolor': 'white', 'edgecolor': INK, 'linewidth': 1.1} | style
    collection = PathCollection(paths, gid=name, zorder=zorder, clip_on=False, **style)
    axes.add_collection(collection, autolim=False)
    return collection


def rounded(box: Box, radius: float) -> Path:
    """Return the outline of a box with rounded corners."""
    radius = min(radius, box.width / 2, box.height / 2)
    low = np.array([box.x - box.width / 2, box.y - box.height / 2])
    high = np.array([box.x + box.width / 2, box.y + box.height / 2])
    # 0.4477 = 1 - 0.5523, with which a cubic comes closest to a quarter of a circle.
    near, control = radius, 0.4477 * radius
    (left, top), (right, bottom) = low, high
    points = [(left + near, top), (right - near, top),
              (right - control, top), (right, top + control), (right, top + near),
              (right, bottom - near),
              (right, bottom - control), (right - control, bottom), (right - near, bottom),
              (left + near, bottom),
              (left + control, bottom), (left, bottom - control), (left, bottom - near),
              (left, top + near),
              (left, top + control), (left + control, top), (left + near, top),
              (left + near, top)]
    codes = [Path.MOVETO] + 4 * [Path.LINETO, *[Path.CURVE4] * 3] + [Path.CLOSEPOLY]
    return Path(points, codes)


def inner(box: Box, by: float = 0.035) -> Box:
    """Return a box inside another, for the double border of an output."""
    return box._replace(width=box.width - 2 * by, height=box.height - 2 * by)


def line_entry(label: str, style: dict) -> Line2D:
    """Return a legend's entry for edges."""
    return Line2D([], [], color=style['edgecolor'], linestyle=style['linestyle'],
                  linewidth=style['linewidth'] * 1.2, label=label)


def box_entry(label: str, **style) -> Patch:
    """Return a legend's entry for boxes."""
    return Patch(**{'facecolor': 'white', 'edgecolor': INK, 'linewidth': 1.1} | style,
                 label=label)


def marker_entry(label: str, marker: str, **style) -> Line2D:
    """Return a legend's entry for a marker."""
    return Line2D([], [], linestyle='', marker=marker, label=label, **style)


NAME_SIZE, DETAIL_SIZE = 9, 7.5
LINE_HEIGHT, PADDING = 0.15, 0.1
PORT_HEIGHT = 0.105
HATCH = '/////'


def draw_graph(graph: GraphSpec, pattern: Pattern | None = None, name: str = '') -> Figure:
    """
    Draw a graph from left to right.

    Edges that lead back run below the nodes, self-edges above. With a pattern, edges that
    stream are told from those that read the same frame, and the response cone is filled.

    :param pattern: A valid pattern; if None, edges are told apart by what the graph file marks.
    :param name: The graph's, for the title.
    :raises DrawingError: If the graph is too large.
    """
    with rc_context(PICTURE_STYLE):
        layout = lay_out(graph, sizes(graph))
        title = name or 'graph' if pattern is None else headline(graph, pattern, name)
        always, at_times = cone_parts(graph, pattern)
        figure, axes = canvas(layout.width, layout.height, title,
                              entries(graph, pattern, always, at_times))
        draw_edges(axes, graph, pattern, layout)
        for node in graph.nodes:
            filled = node.name in always or node.name in at_times
            draw_node(axes, graph, node, layout.boxes[node.name], {
                'facecolor': CONE if filled else 'white',
                'hatch': HATCH if node.name in at_times else None})
    return figure


def details(node: NodeSpec) -> list[str]:
    """Return what stands below a node's name."""
    lines = ['×'.join(map(str, node.shape))] if node.shape else []
    return lines + [f'every {node.period} frames, +{node.offset}'] * (node.period > 1)


def sizes(graph: GraphSpec) -> dict[str, tuple[float, float]]:
    """Return the width and height of every node: its text and its arrowheads have room."""
    edges = Counter([*((edge.source, 'out') for edge in graph.edges),
                     *((edge.target, 'in') for edge in graph.edges)])
    found = {}
    for node in graph.nodes:
        width, height = text_size(node)
        most = max(edges[node.name, 'in'], edges[node.name, 'out'])
        found[node.name] = width, max(height, PORT_HEIGHT * most)
    return found


def text_size(node: NodeSpec) -> tuple[float, float]:
    """Return the width and height that a node's text needs."""
    widths = [text_width(node.name, NAME_SIZE, bold=True),
              *(text_width(line, DETAIL_SIZE) for line in details(node))]
    return (max(0.45, max(widths) + 2 * PADDING),
            LINE_HEIGHT * (1 + len(details(node))) + 1.4 * PADDING)


def cone_parts(graph: GraphSpec, pattern: Pattern | None) -> tuple[set[str], set[str]]:
    """Return the nodes in the response cone of every frame, and those of some frames only."""
    if pattern is None:
        return set(), set()
    cones = [set(response_cone(graph, pattern, frame))
             for frame in range(1, graph.hyperperiod + 1)]
    always = set.intersection(*cones)
    return always, set.union(*cones) - always


def draw_edges(axes: Axes, graph: GraphSpec, pattern: Pattern | None, layout: Layout) -> None:
    """Draw the edges that stream, and the others."""
    streams = {(edge.source, edge.target): edge.streams or edge.source == edge.target
               if pattern is None else pattern[edge.source, edge.target] for edge in graph.edges}
    for style, wanted, name in ((SAME_FRAME, False, 'same_frame_edges'),
                                (STREAMING, True, 'streaming_edges')):
        draw_curves(axes, [points for edge, points in layout.curves.items()
                           if bool(streams[edge]) is wanted], style, name)


def draw_node(axes: Axes, graph: GraphSpec, node: NodeSpec, box: Box, fill: dict) -> None:
    """Draw a node's box and text: inputs with round ends, the output with a double border."""
    is_input = node.name in graph.inputs
    draw_boxes(axes, [box], f'node_{node.name}', is_input, **fill)
    if node.name == graph.output:
        draw_boxes(axes, [inner(box)], f'output_{node.name}', is_input, facecolor='none',
                   linewidth=0.8)
    lines = details(node)
    behind = {'boxstyle': 'square,pad=0.05', 'facecolor': fill['facecolor'], 'linewidth': 0}
    top = box.y - LINE_HEIGHT * len(lines) / 2
    axes.text(box.x, top, node.name, fontsize=NAME_SIZE, fontweight='bold', ha='center',
              va='center_baseline', zorder=6, bbox=behind if fill['hatch'] else None)
    for i, line in enumerate(lines, 1):
        axes.text(box.x, top + LINE_HEIGHT * i, line, fontsize=DETAIL_SIZE, ha='center',
                  va='center_baseline', zorder=6, bbox=behind if fill['hatch'] else None)


def entries(graph: GraphSpec, pattern: Pattern | None, always: set[str], at_times: set[str]
            ) -> list[Artist]:
    """Return the legend: what is in the picture, and nothing else."""
    streams = [edge.streams or edge.source == edge.target if pattern is None
               else pattern[edge.source, edge.target] for edge in graph.edges]
    labels = ('edge', 'streams in every rollout (as marked)') if pattern is None else (
        'reads the same frame (R = 0)', 'streams: reads the frame before (R = 1)')
    found = []
    if not all(streams):
        found.append(line_entry(labels[0], SAME_FRAME))
    if any(streams):
        found.append(line_entry(labels[1], STREAMING))
    if always:
        found.append(box_entry('response cone', facecolor=CONE))
    if at_times:
        found.append(box_entry('response cone of some frames', facecolor=CONE, hatch=HATCH))
    return [*found, box_entry('input: round ends; output: double border', edgecolor=FAINT)]
