"""The picture of the regimes: four quantities against the ratio, measured and forecast."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from stream_agent.drawing.plot_style import FAINT, INK, legend_outside, PICTURE_STYLE, save
from stream_agent.drawing.tradeoff import KINDS as LOOKS
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.planning.candidates import SERIAL
from stream_agent.theory.planning.costs import NodeCosts
from studies.regimes.rollouts import KINDS
from studies.regimes.tables import (
    forecast_points, measured_points, Point, RolloutFigures, RolloutResult)

TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
# From the back to the front; where two coincide, both are seen.
ORDER = ('truncated', 'k updates', 'multi-rate', 'streaming', 'hybrid', 'sequential')
LABELS = {'hybrid': 'hybrid: answers, then all layers in order',
          'multi-rate': 'multi-rate: layers take turns',
          'k updates': 'k updates of a held image, streaming',
          'truncated': 'truncated: sequential, fewer layers'}
PANELS = {
    'latency': ('Response latency', (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)),
    'newest': ('Age of the newest information in force', (0.5, 1, 2, 5, 10)),
    'deep': ('Age of the deep information in force', (0.5, 1, 2, 5, 10, 20, 50))}


def draw(cells: Sequence[RolloutResult], graph: GraphSpec, costs: NodeCosts, scenes: Sequence[str],
         path: Path) -> None:
    """
    Draw response latency, both ages and, if it was taken, the error in effect.

    :param scenes: What they are called; the error in the middle one is drawn.
    """
    with rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(10.2, 7.4), layout='constrained')
        *ages, effect = figure.subplots(2, 2).flat
        for axes, (name, (title, ticks)) in zip(ages, PANELS.items()):
            draw_panel(axes, title, measured_points(cells, lambda found: getattr(found, name)),
                       forecast_points(graph, costs, SERIAL, name))
            mark(axes, ticks, 'camera periods')
        draw_effect(effect, cells, scenes)
        for axes in (ages[2], effect):
            axes.set_xlabel('cost of a pass / camera period')
        ages[0].annotate('a pass takes\none period', (1, 0.98), (4, 0), va='top', fontsize=8,
                         xycoords=ages[0].get_xaxis_transform(), textcoords='offset points')
        legend_outside(figure, 'lower left', handles=entries(cells), ncols=3)
        figure.set_label('Rollouts against the cost of a pass / camera period')
    save(figure, path)


def draw_panel(axes: Axes, title: str, measured: dict[str, list[Point]],
               forecast: dict[str, list[Point]]) -> None:
    """Draw forecasts as lines and measurements as points, against the ratio."""
    axes.set_title(title, loc='left', fontsize=10)
    for kind in ORDER:
        axes.plot([point.ratio for point in forecast[kind]],
                  [point.value for point in forecast[kind]], **line(kind))
        axes.plot([point.ratio for point in measured[kind]],
                  [point.value for point in measured[kind]], **points_of(kind), linestyle='')


def draw_effect(axes: Axes, cells: Sequence[RolloutResult], scenes: Sequence[str]) -> None:
    """Draw the error in effect in the scene of middle speed, relative to the sequential one's."""
    if not scenes:
        axes.set_axis_off()
        return
    i = len(scenes) // 2

    def value(found: RolloutFigures) -> float:
        return found.errors[i]

    axes.set_title(f'Error in effect, {scenes[i]}', loc='left', fontsize=10)
    measured = measured_points(cells, value)
    for kind in ORDER:
        axes.plot([point.ratio for point in measured[kind]],
                  [point.value / point.baseline for point in measured[kind]],
                  **line(kind) | {'linewidth': 0.9} | points_of(kind))
    mark(axes, (0.5, 0.7, 1, 1.5, 2, 2.5), "times the sequential rollout's")


def line(kind: str) -> dict:
    """Return how the line of a rollout looks."""
    return {'color': LOOKS[kind][1], 'linewidth': 2.2 if kind == 'streaming' else 1.4,
            'linestyle': (0, (3, 4)) if kind == 'hybrid' else '-'}


def points_of(kind: str) -> dict:
    """Return how the points of a rollout look."""
    marker, colour = LOOKS[kind]
    return {'color': colour, 'marker': marker, 'markeredgecolor': 'white',
            'markersize': 7 if kind == 'streaming' else 5, 'markeredgewidth': 0.5}


def mark(axes: Axes, ticks: Sequence[float], unit: str) -> None:
    """Make both axes logarithmic, with plain numbers, and mark where a pass takes a period."""
    axes.set(xscale='log', yscale='log', xlim=(0.017, 6))
    axes.set_ylabel(unit, labelpad=6)
    for axis, values in ((axes.xaxis, TICKS), (axes.yaxis, ticks)):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axis.set_minor_locator(NullLocator())
        axis.set_ticks(values)
    axes.axvline(1, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)


def entries(cells: Sequence[RolloutResult]) -> list[Line2D]:
    """Return the legend's entries."""
    there = {cell.kind for cell in cells}
    kinds = [Line2D([], [], **line(kind) | points_of(kind) | {'markersize': 6},
                    label=LABELS.get(kind, kind)) for kind in KINDS if kind in there]
    return [*kinds,
            Line2D([], [], color=FAINT, label="line: the planner's forecast"),
            Line2D([], [], color=FAINT, marker='o', linestyle='', label='point: measured')]
