"""Which nodes of a window depend on one image, and when the output does for the first time."""

from collections.abc import Mapping

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from stream_agent.drawing.graph_picture import (
    box_entry, draw_boxes, draw_curves, line_entry, SAME_FRAME, STREAMING)
from stream_agent.drawing.layout import Box
from stream_agent.drawing.plot_style import FAINT, INK, VERMILION
from stream_agent.drawing.style import canvas, HELD, PICTURE_STYLE, SEEN
from stream_agent.drawing.window_picture import (
    bars, draw_labels, draw_title, edge_curves, extent, Grid, held_spans, NUMBER_SIZE, panels,
    window_edges)
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import images_seen
from stream_agent.theory.patterns import Pattern
from stream_agent.theory.rollout import FrameNode, inference_tableau, window_nodes

COLUMN_GAP = 0.46
THIN = 1.0
RESPONSE = {'facecolor': 'none', 'edgecolor': VERMILION, 'linewidth': 2.4}


def draw_influence(graph: GraphSpec, patterns: Mapping[str, Pattern], image: int, size: int,
                   name: str = '') -> Figure:
    """
    Draw which nodes at which frames depend on an image, for one or several patterns.

    :param patterns: Valid patterns of the graph by their names.
    :param image: The frame of the image, from 1 (from 0 with the image of frame 0) to W.
    :param size: W; the windows have the frames 0, ..., W.
    :param name: The graph's, for the title.
    :raises DrawingError: If the windows are too large.
    """
    with rc_context(PICTURE_STYLE):
        places = panels(graph, patterns, size, COLUMN_GAP)
        title = f"{name + ': ' if name else ''}what depends on the image of frame {image}"
        figure, axes = canvas(*extent(places.values()), title,
                              entries(bool(held_spans(graph, size))))
        for label, pattern in patterns.items():
            draw_panel(axes, graph, pattern, places[label], image, label)
    return figure


def first_dependent(graph: GraphSpec, seen: dict[FrameNode, set[int]], image: int, size: int
                    ) -> int | None:
    """Return the first frame whose output depends on an image; None if none of the window's."""
    return next((i for i in range(size + 1) if image in seen[i, graph.output]), None)


def draw_panel(axes: Axes, graph: GraphSpec, pattern: Pattern, place: Grid, image: int,
               label: str) -> None:
    """Draw the window of one pattern."""
    size = place.columns - 1
    seen = images_seen(graph, pattern, size)
    depends = {node for node, images in seen.items() if image in images}
    tableau = inference_tableau(graph, pattern, size)
    first = first_dependent(graph, seen, image, size)
    draw_title(axes, place, headline(label, first, image, tableau.get((first, graph.output))))
    draw_labels(axes, graph, place)
    spans = held_spans(graph, size)
    for dependent, colour in ((False, HELD), (True, SEEN)):
        held = [span for span in spans if (span[0] in depends) is dependent]
        draw_boxes(axes, bars(place, held), 'held', zorder=1, facecolor=colour, edgecolor=FAINT,
                   linewidth=0.6)
    curves = edge_curves(graph, place, window_edges(graph, pattern, size))
    for style, streams in ((SAME_FRAME, False), (STREAMING, True)):
        draw_curves(axes, [points for edge, points in curves.items()
                           if edge.streams is streams and edge.source in depends],
                    {**style, 'linewidth': THIN}, 'influence')
    draw_nodes(axes, graph, place, depends, tableau)
    if first is not None:
        ring = place.boxes[first, graph.output]
        draw_boxes(axes, [Box(ring.x, ring.y, ring.width + 0.1, ring.height + 0.1)],
                   'first_response', graph.output in graph.inputs, zorder=1.5, **RESPONSE)


def headline(label: str, first: int | None, image: int, step: int | None) -> str:
    """Return a panel's title: after how many frames, and at which update step, it answers."""
    if first is None:
        return f'{label}: no response in this window'
    late = first - image
    when = 'in the same frame' if late == 0 else f"{late} frame{'s' if late > 1 else ''} later"
    return f'{label}: first response {when}, update step {step}'


def draw_nodes(axes: Axes, graph: GraphSpec, place: Grid, depends: set[FrameNode],
               tableau: dict[FrameNode, int]) -> None:
    """Draw the window's nodes: filled if they depend on the image."""
    for dependent in (False, True):
        for is_input in (False, True):
            nodes = [node for node in window_nodes(graph, place.columns - 1)
                     if (node in depends) is dependent and (node[1] in graph.inputs) is is_input]
            draw_boxes(axes, [place.boxes[node] for node in nodes],
                       'dependent' if dependent else 'independent', is_input,
                       facecolor=SEEN if dependent else 'white',
                       edgecolor=INK if dependent else FAINT,
                       linewidth=1.4 if dependent else 0.8)
            for node in nodes:
                axes.text(*place.boxes[node][:2], str(tableau[node]), fontsize=NUMBER_SIZE,
                          ha='center', va='center_baseline', zorder=6,
                          color=INK if dependent else FAINT)


def entries(held: bool) -> list[Artist]:
    """Return the legend."""
    found: list[Artist] = [
        box_entry('depends on the image', facecolor=SEEN, linewidth=1.4),
        box_entry('does not', edgecolor=FAINT),
        box_entry('first response', **RESPONSE),
        line_entry('carries it, same frame', SAME_FRAME),
        line_entry('carries it, streaming', STREAMING),
        box_entry('number: update step', edgecolor=INK)]
    return found + [box_entry('held', facecolor=HELD, edgecolor=FAINT)] * held
