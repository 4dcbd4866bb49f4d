"""A graph as a picture: nodes in layers, and which edges stream."""

from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path
import numpy as np
from stream_agent.drawing.layers import check_places
from stream_agent.drawing.layout import Box, Curve, lay_out
from stream_agent.drawing.plot_style import (
    BLUE, canvas, CONE, FAINT, INK, PICTURE_STYLE, text_width)
from stream_agent.theory.graph import GraphSpec, NodeSpec
from stream_agent.theory.information import first_response
from stream_agent.theory.patterns import (
    edges_of, InvalidRolloutError, newest_image_pattern, Pattern, sequential_pattern,
    streaming_pattern)
from stream_agent.theory.rollout import inference_factor, response_cone

NAME_SIZE, DETAIL_SIZE = 9, 7.5
LINE_HEIGHT, PADDING = 0.15, 0.1
PORT_HEIGHT = 0.105
HATCH = '/////'
HEAD, HALF_HEAD = 0.085, 0.034
DASHES = (0, (3.2, 1.6))
# How edges look: by dashes and lightness, and by colour for those who see it.
STREAMING = {'edgecolor': BLUE, 'linestyle': DASHES, 'linewidth': 1.3}
SAME_FRAME = {'edgecolor': INK, 'linestyle': '-', 'linewidth': 1.3}
BOX: dict = {'facecolor': 'white', 'edgecolor': INK, 'linewidth': 1.1}


def draw_edges(axes: Axes, curves: Iterable[tuple[bool, Curve]], name: str = '', **style) -> None:
    """Draw edges by whether each streams; in the file they have a name, or that of their kind."""
    curves = list(curves)
    for kind, look, streams in (('same_frame', SAME_FRAME, False), ('streaming', STREAMING, True)):
        draw_curves(axes, [points for streaming, points in curves if streaming is streams],
                    {**look, **style}, name or f'{kind}_edges')


def draw_curves(axes: Axes, curves: Collection[Curve], style: dict, name: str) -> None:
    """Draw edges with arrowheads at their ends."""
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
            PathCollection(lines, facecolor='none', gid=name, zorder=2, **style),
            PolyCollection(heads, facecolor=style['edgecolor'], linewidth=0, gid=f'{name}_heads',
                           zorder=2.1)):
        collection.set_clip_on(False)
        axes.add_collection(collection, autolim=False)


def draw_boxes(axes: Axes, boxes: Iterable[Box], name: str, round_ends: bool = False,
               zorder: float = 4, **style) -> PathCollection:
    """Draw boxes, with round ends as those of inputs, or with corners as all others."""
    paths = [rounded(box, box.height / 2 if round_ends else 0.05) for box in boxes]
    collection = PathCollection(paths, gid=name, zorder=zorder, clip_on=False, **BOX | style)
    axes.add_collection(collection, autolim=False)
    return collection


def rounded(box: Box, radius: float) -> Path:
    """Return the outline of a box with rounded corners."""
    radius = min(radius, box.width / 2, box.height / 2)
    left, right = box.x - box.width / 2, box.x + box.width / 2
    top, bottom = box.y - box.height / 2, box.y + box.height / 2
    # 0.4477 = 1 - 0.5523, with which a cubic comes closest to a quarter of a circle.
    control = 0.4477 * radius
    points = [(left + radius, top)]
    # Clockwise from the upper right corner: the corner, and the directions back and onwards.
    for x, y, (ax, ay), (bx, by) in (
            (right, top, (-1, 0), (0, 1)), (right, bottom, (0, -1), (-1, 0)),
            (left, bottom, (1, 0), (0, -1)), (left, top, (0, 1), (1, 0))):
        points += [(x + ax * radius, y + ay * radius), (x + ax * control, y + ay * control),
                   (x + bx * control, y + by * control), (x + bx * radius, y + by * radius)]
    codes = [Path.MOVETO] + 4 * [Path.LINETO, *[Path.CURVE4] * 3] + [Path.CLOSEPOLY]
    return Path([*points, points[0]], codes)


def inner(box: Box, by: float = 0.035) -> Box:
    """Return a box inside another, for the double border of an output."""
    return box._replace(width=box.width - 2 * by, height=box.height - 2 * by)


def line_entry(label: str, style: dict) -> Line2D:
    """Return a legend's entry for edges."""
    return Line2D([], [], color=style['edgecolor'], linestyle=style['linestyle'],
                  linewidth=style['linewidth'] * 1.2, label=label)


def box_entry(label: str, **style) -> Patch:
    """Return a legend's entry for boxes."""
    return Patch(**BOX | style, label=label)


def draw_graph(graph: GraphSpec, pattern: Pattern, name: str = '') -> Figure:
    """
    Draw a graph from left to right.

    Edges that lead back run below the nodes, self-edges above. Edges that stream look different
    from those that read the same frame, and the nodes of the response cone are filled.

    :param pattern: A valid pattern.
    :param name: The graph's name, for the title.
    :raises DrawingError: If the graph is too large.
    """
    # Every edge takes a place at least, which is known before texts are measured.
    check_places(graph, len(graph.nodes) + sum(u != v for u, v in edges_of(graph)))
    with rc_context(PICTURE_STYLE):
        layout = lay_out(graph, sizes(graph))
        cones = [set(response_cone(graph, pattern, frame))
                 for frame in range(1, graph.hyperperiod + 1)]
        always, ever = set.intersection(*cones), set.union(*cones)
        figure, axes = canvas(layout.width, layout.height, headline(graph, pattern, name),
                              [*edge_entries(map(bool, pattern.values())),
                               *[box_entry('response cone', facecolor=CONE)] * bool(always),
                               *[box_entry('response cone of some frames', facecolor=CONE,
                                           hatch=HATCH)] * (ever > always),
                               box_entry('input: round ends; output: double border',
                                         edgecolor=FAINT)])
        draw_edges(axes, ((bool(pattern[edge]), points)
                          for edge, points in layout.curves.items()))
        for node in graph.nodes:
            draw_node(axes, graph, node, layout.boxes[node.name], {
                'facecolor': CONE if node.name in ever else 'white',
                'hatch': HATCH if node.name in ever - always else None})
    return figure


def headline(graph: GraphSpec, pattern: Pattern, name: str = '') -> str:
    """Return a title: graph, pattern, inference factor and first response."""
    response = first_response(graph, pattern)
    steps = 'step' if response.update_step == 1 else 'steps'
    return (f"{name + ': ' if name else ''}{name_of(graph, pattern)} rollout, F = "
            f'{inference_factor(graph, pattern)}, first response in frame {response.frame} after '
            f'{response.update_step} update {steps}')


def name_of(graph: GraphSpec, pattern: Pattern) -> str:
    """Return what a pattern is called; 'hybrid' if it has no name of its own."""
    for name, make in (('streaming', streaming_pattern),
                       ('streaming, newest image', newest_image_pattern),
                       ('sequential', sequential_pattern)):
        with suppress(InvalidRolloutError):
            if dict(pattern) == make(graph):
                return name
    return 'hybrid'


def details(node: NodeSpec) -> list[str]:
    """Return the lines below a node's name; of a body the three kinds that are most of it."""
    lines = ['×'.join(map(str, node.shape))] if node.shape else []
    kinds = Counter(step.get('kind', '') for step in node.body)
    if kinds:
        lines.append(', '.join(f'{count} {kind}' if count > 1 else kind
                               for kind, count in kinds.most_common(3))
                     + ', ...' * (len(kinds) > 3))
    return lines + [f'every {node.period} frames, +{node.offset}'] * (node.period > 1)


def sizes(graph: GraphSpec) -> dict[str, tuple[float, float]]:
    """Return the width and height of every node, in which its text and its arrowheads fit."""
    edges = Counter([*((edge.source, 'out') for edge in graph.edges),
                     *((edge.target, 'in') for edge in graph.edges)])
    found = {}
    for node in graph.nodes:
        widths = [text_width(node.name, NAME_SIZE, bold=True),
                  *(text_width(line, DETAIL_SIZE) for line in details(node))]
        found[node.name] = (
            max(0.45, max(widths) + 2 * PADDING),
            max(LINE_HEIGHT * len(widths) + 1.4 * PADDING,
                PORT_HEIGHT * max(edges[node.name, 'in'], edges[node.name, 'out'])))
    return found


def draw_node(axes: Axes, graph: GraphSpec, node: NodeSpec, box: Box, fill: dict) -> None:
    """Draw a node's box and text: inputs with round ends, the output with a double border."""
    is_input = node.name in graph.inputs
    draw_boxes(axes, [box], f'node_{node.name}', is_input, **fill)
    if node.name == graph.output:
        draw_boxes(axes, [inner(box)], f'output_{node.name}', is_input, facecolor='none',
                   linewidth=0.8)
    behind = {'boxstyle': 'square,pad=0.05', 'facecolor': fill['facecolor'], 'linewidth': 0}
    lines = details(node)
    top = box.y - LINE_HEIGHT * len(lines) / 2
    for i, line in enumerate([node.name, *lines]):
        axes.text(box.x, top + LINE_HEIGHT * i, line, fontsize=DETAIL_SIZE if i else NAME_SIZE,
                  fontweight='normal' if i else 'bold', ha='center', va='center_baseline',
                  zorder=6, bbox=behind if fill['hatch'] else None)


def edge_entries(streams: Iterable[bool]) -> list[Line2D]:
    """Return a legend's entries for the kinds of edges that there are."""
    found = {False: line_entry('reads the same frame (R = 0)', SAME_FRAME),
             True: line_entry('streams: reads the frame before (R = 1)', STREAMING)}
    return [found[kind] for kind in sorted(set(streams))]
