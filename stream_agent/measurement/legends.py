"""Legends of plots, which stay inside the picture however long the policies' names are."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from stream_agent.measurement.comparison import Comparison
from stream_agent.plot_style import legend_outside

LONGEST_NAME = 34
# Of the figure's width: readers' fonts differ by little from the one that is measured.
WIDEST = 0.96


def labels_of(comparison: Comparison, longest: int = LONGEST_NAME) -> dict[str, str]:
    """Return what the policies are called in a plot: their labels, with short names."""
    names = list(comparison.figures)
    return {name: comparison.figures[name].label.replace(name, short, 1)
            for name, short in zip(names, shortened(names, longest))}


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Leave out the middles of long names, or what lies elsewhere if they differ there."""
    short = list(names)
    for tail in (longest // 2, *range(longest)):
        short = [name if len(name) <= longest else
                 f'{name[:longest - 1 - tail]}…{name[len(name) - tail:]}' for name in names]
        if len(set(short)) == len(short):
            break
    return short


def legend_above(figure: Figure, **settings: Any) -> None:
    """
    Draw a legend above the axes, in as few rows as its width allows.

    :param settings: As for the figure's ``legend``.
    """
    count = sum(len(axes.get_legend_handles_labels()[1]) for axes in figure.axes)
    for columns in range(max(1, count), 0, -1):
        legend = figure.legend(**settings, ncols=columns)
        width = legend.get_window_extent().width
        legend.remove()
        if width < WIDEST * figure.bbox.width:
            break
    legend_outside(figure, 'upper right', ncols=columns, **settings)
