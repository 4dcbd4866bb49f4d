"""Boxes, curves with arrowheads, and the entries of legends; many of a kind at once."""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path
import numpy as np
from stream_agent.plot_style import BLUE, INK
from stream_agent.theory.drawing.layout import Box, Curve

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
