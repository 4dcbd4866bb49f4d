"""A rollout window as a picture: what every node waits for, frame by frame."""

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stream_agent.plot_style import FAINT, INK
from stream_agent.theory.drawing.grid import (
    bars, common_rows, draw_labels, Grid, grid, held_spans)
from stream_agent.theory.drawing.shapes import (
    box_entry, draw_boxes, draw_curves, inner, line_entry, SAME_FRAME, STREAMING)
from stream_agent.theory.drawing.style import canvas, CONE, headline, HELD, PICTURE_STYLE
from stream_agent.theory.drawing.window_edges import edge_curves, window_edges
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Pattern
from stream_agent.theory.rollout import (
    FrameNode, inference_tableau, response_cone, window_nodes)

NUMBER_SIZE = 8.5


def draw_window(graph: GraphSpec, pattern: Pattern, size: int, name: str = '') -> Figure:
    """
    Draw a rollout window: frames from left to right, nodes in the order of their updates.

    Every node shows its number of the inference tableau. The response cone of every frame is
    filled. A node that is held has no copy of its own, but a bar from its last update on.

    :param pattern: A valid pattern.
    :param size: W; the window has the frames 0, ..., W.
    :param name: The graph's, for the title.
    :raises DrawingError: If the window is too large.
    """
    with rc_context(PICTURE_STYLE):
        place = grid(graph, common_rows(graph, pattern), size)
        spans = held_spans(graph, size)
        curves = edge_curves(graph, place, window_edges(graph, pattern, size))
        figure, axes = canvas(place.width, place.height, headline(graph, pattern, name),
                              entries({edge.streams for edge in curves}, bool(spans)))
        draw_labels(axes, graph, place)
        draw_boxes(axes, bars(place, spans), 'held', zorder=1, facecolor=HELD, edgecolor=FAINT,
                   linewidth=0.6)
        for style, streams, title in ((SAME_FRAME, False, 'same_frame_edges'),
                                      (STREAMING, True, 'streaming_edges')):
            draw_curves(axes, [points for edge, points in curves.items()
                               if edge.streams is streams], style, title)
        cones = {(i, v) for i in range(1, size + 1) for v in response_cone(graph, pattern, i)}
        draw_nodes(axes, graph, place, cones, inference_tableau(graph, pattern, size))
    return figure


def draw_nodes(axes: Axes, graph: GraphSpec, place: Grid, cones: set[FrameNode],
               tableau: dict[FrameNode, int]) -> None:
    """Draw the window's nodes with their numbers."""
    kinds: dict[tuple[str, bool], list[FrameNode]] = {}
    for node in window_nodes(graph, place.columns - 1):
        kind = 'cone' if node in cones else 'initial' if node[0] == 0 else 'node'
        kinds.setdefault((kind, node[1] in graph.inputs), []).append(node)
    for (kind, is_input), nodes in kinds.items():
        draw_boxes(axes, [place.boxes[node] for node in nodes], kind, is_input,
                   facecolor=CONE if kind == 'cone' else 'white',
                   edgecolor=FAINT if kind == 'initial' else INK,
                   linewidth=1.5 if kind == 'cone' else 0.9)
        for node in nodes:
            axes.text(*place.boxes[node][:2], str(tableau[node]), fontsize=NUMBER_SIZE,
                      ha='center', va='center_baseline', zorder=6,
                      color=FAINT if kind == 'initial' else INK)
    outputs = [node for nodes in kinds.values() for node in nodes if node[1] == graph.output]
    draw_boxes(axes, [inner(place.boxes[node], 0.03) for node in outputs], 'outputs',
               graph.output in graph.inputs, facecolor='none', linewidth=0.7)


def entries(streams: set[bool], held: bool) -> list[Artist]:
    """Return the legend: what is in the picture, and nothing else."""
    found: list[Artist] = [box_entry('number: update step at which the node is there')]
    if False in streams:
        found.append(line_entry('reads the same frame (R = 0)', SAME_FRAME))
    if True in streams:
        found.append(line_entry('streams: reads the frame before (R = 1)', STREAMING))
    found.append(box_entry('response cone of the frame', facecolor=CONE, linewidth=1.5))
    if held:
        found.append(box_entry('held', facecolor=HELD, edgecolor=FAINT, linewidth=0.6))
    return [*found, box_entry('frame 0: initial state', edgecolor=FAINT)]
