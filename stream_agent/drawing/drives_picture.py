"""How policies drove under emulated computers: bars for one, curves for several."""

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from stream_agent.drawing.plot_style import (
    BLUE, FAINT, GREEN, INK, legend_outside, ORANGE, PICTURE_STYLE, PURPLE, shortened, SKY,
    VERMILION, wrapped)

WIDTH, LONGEST_NAME = 10.2, 28
# Of every panel: its title, what it shows of a row, and the unit.
PANELS: tuple[tuple[str, Callable[[dict], float], str], ...] = (
    ('lateral RMS', lambda row: row['lateral_rms'] * 1e3, 'mm'),
    ('lane departures', lambda row: row['departures'] / row['laps'] if row['laps'] else 0.0,
     'a lap'),
    ('latency', lambda row: row['latency'] * 1e3, 'ms'),
    ('age of the newest', lambda row: row['newest'] * 1e3, 'ms'),
    ('age of the deep', lambda row: row['deep'] * 1e3, 'ms'),
    ('rate', lambda row: row['rate'], 'Hz'))


def draw_drives(rows: Sequence[dict], title: str) -> Figure:
    """
    Draw how policies drove, and under which timing.

    :param rows: As ``evaluate`` prints them; the first panel has the intervals of the ratios to
        the first row.
    """
    with rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(WIDTH, 1.4 + 0.35 * len(rows)), layout='constrained')
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(PANELS), sharey=True)
        places = range(len(rows))
        for axes, (name, value, unit) in zip(panels, PANELS):
            values = [value(row) for row in rows]
            axes.barh(places, values, height=0.62, color=BLUE)
            for place, number in zip(places, values):
                axes.annotate(f' {number:.3g}', (number, place), va='center', fontsize=8)
            axes.set_title(name, loc='left', fontsize=9)
            axes.set_xlabel(unit)
            axes.set_xlim(0, 1.35 * max(values) or 1.0)
            axes.grid(axis='y', visible=False)
        first = PANELS[0][1](rows[0])
        for place, row in zip(places, rows):
            _, low, high = row['rms_ratio']
            panels[0].plot([first * low, first * high], [place + 0.22] * 2, color=INK,
                           linewidth=1.2)
        panels[0].axvline(first, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
        names = shortened([row['driver'] for row in rows], LONGEST_NAME)
        panels[0].set_yticks(list(places), names)
        panels[0].invert_yaxis()
        figure.suptitle('\n'.join(wrapped(title, WIDTH)), x=0.01, ha='left', fontsize=10)
        figure.set_label(title)
    return figure


# A colour and a marker for every policy; after six, they come again.
LOOKS = ((VERMILION, 's'), (GREEN, 'D'), (BLUE, 'o'), (PURPLE, '^'), (ORANGE, 'v'), (SKY, 'P'))
SOLID, DASHED = '-', (0, (4, 2))
CURVE_PANELS: tuple[tuple[str, str, Callable[[dict], float]], ...] = (
    ('in lane, at the right speed', '%', lambda row: 100 * row['task_score']),
    ('signs obeyed', '%', lambda row: 100 * row['signs_obeyed']),
    ('lateral RMS', 'mm', lambda row: 1e3 * row['lateral_rms']),
    ('lane departures', 'a lap', PANELS[1][1]),
    ('jerk', 'm/s³', lambda row: row['jerk']),
    ('reversals', 'a second', lambda row: row['reversals']))


class Curve(NamedTuple):
    """
    One policy's figure against the cost of a pass.

    :param policy: Name in the legend; the same in all panels.
    :param points: Each a cost of a pass in camera periods, and a figure.
    :param dashed: Whether it is the one to compare with others of this policy.
    """

    policy: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


class Panel(NamedTuple):
    """What is drawn beside other panels: ``unit`` may be empty."""

    title: str
    unit: str
    curves: Sequence[Curve]


def draw_robustness(rows: Sequence[dict], title: str) -> Figure:
    """Draw how policies drove against the cost of a pass; rows are those of ``evaluate``."""
    conditions = list(dict.fromkeys((row['jitter'], row['drop_bursts']) for row in rows))
    names = list(dict.fromkeys(row['driver'] for row in rows))
    panels = [Panel(name, unit, [
        Curve(driver, [(row['pass_periods'], value(row)) for row in rows
                       if row['driver'] == driver
                       and (row['jitter'], row['drop_bursts']) == condition],
              dashed=condition != conditions[0])
        for driver in names for condition in conditions])
        for name, unit, value in CURVE_PANELS[0 if 'task_score' in rows[0] else 2:]]
    return draw_curves(panels, title, 'disturbed')


def draw_curves(panels: Sequence[Panel], title: str, dashed: str) -> Figure:
    """
    Draw figures of policies against the cost of a pass, in panels side by side.

    :param dashed: What the dashed lines are, for the legend.
    """
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    names = list(dict.fromkeys(curve.policy for panel in panels for curve in panel.curves))
    looks = dict(zip(names, cycle(LOOKS)))
    with rc_context(PICTURE_STYLE):
        height = 2.6 * -(-len(panels) // columns) + 0.9
        figure = Figure(figsize=(WIDTH * max(columns, 2) / 3, height), layout='constrained')
        FigureCanvasAgg(figure)
        places = figure.subplots(-(-len(panels) // columns), columns, squeeze=False).ravel()
        for axes in places[len(panels):]:
            axes.set_visible(False)
        for axes, panel in zip(places, panels):
            draw_panel(axes, panel, looks)
        handles = [Line2D([], [], color=looks[name][0], marker=looks[name][1], label=label)
                   for name, label in zip(names, shortened(names, LONGEST_NAME))]
        if any(curve.dashed for panel in panels for curve in panel.curves):
            handles.append(Line2D([], [], color=INK, linestyle=DASHED, label=dashed))
        legend_outside(figure, 'lower left', handles=handles, ncols=4)
        figure.suptitle('\n'.join(wrapped(title, figure.get_figwidth())), x=0.01, ha='left',
                        fontsize=10)
        figure.set_label(title)
    return figure


def draw_panel(axes: Axes, panel: Panel, looks: dict[str, tuple[str, str]]) -> None:
    """Draw the curves of one panel; doubling the cost of a pass is the same step everywhere."""
    costs = sorted({cost for curve in panel.curves for cost, _ in curve.points})
    for curve in panel.curves:
        colour, marker = looks[curve.policy]
        axes.plot(*zip(*curve.points), color=colour, marker=marker, markersize=4.5,
                  linewidth=1.4, linestyle=DASHED if curve.dashed else SOLID,
                  markerfacecolor='white' if curve.dashed else colour)
    # Matplotlib leaves out what is nan.
    if all(not value < 0 for curve in panel.curves for _, value in curve.points):
        axes.set_ylim(bottom=0)
    axes.set_xscale('log', base=2)
    axes.set_xticks(costs, [f'{cost:g}' for cost in costs])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel('cost of a pass [camera periods]')
    axes.set_title(f'{panel.title} [{panel.unit}]' if panel.unit else panel.title, loc='left',
                   fontsize=9)
