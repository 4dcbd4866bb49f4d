"""A graph as a picture: nodes in layers, and which edges stream."""

from collections import Counter

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stream_agent.plot_style import FAINT
from stream_agent.theory.drawing.layout import Box, lay_out, Layout
from stream_agent.theory.drawing.shapes import (
    box_entry, draw_boxes, draw_curves, inner, line_entry, SAME_FRAME, STREAMING)
from stream_agent.theory.drawing.style import canvas, CONE, headline, PICTURE_STYLE, text_width
from stream_agent.theory.graph import GraphSpec, NodeSpec
from stream_agent.theory.patterns import Pattern
from stream_agent.theory.rollout import response_cone

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
