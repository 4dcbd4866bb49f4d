"""The picture of the closed-loop study: what each scheme's driving is like, and its timing."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogFormatter, NullLocator
import numpy as np
from stream_agent.drawing.plot_style import (
    BLUE, FAINT, GREEN, INK, legend_outside, ORANGE, PICTURE_STYLE, PURPLE, save, SKY, VERMILION,
    YELLOW)
from studies.chain import OURS
from studies.closed_loop.schemes import KINDS
from studies.closed_loop.tables import by_name, MARKS, names_in, SchemeResult, verdicts
from studies.layout import MarkResult

LOOKS = dict(zip(KINDS, (('s', VERMILION), ('X', ORANGE), ('v', YELLOW), ('o', BLUE), ('P', SKY),
                         ('D', GREEN), ('^', PURPLE), ('*', INK))))
TIMING = {'latency': 'latency', 'newest': 'age of newest information',
          'deep': 'age of deep information', 'rate': 'answers a second'}
MISSED = '#B00020'


def draw(cells: Sequence[SchemeResult], path: Path) -> None:
    """Draw driving above and timing below, a side for each device."""
    devices = list(dict.fromkeys(cell.device for cell in cells))
    with rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(5.3 * len(devices), 10.4), layout='constrained')
        grid = figure.add_gridspec(4, 2 * len(devices), height_ratios=(2.6, 1.5, 1, 1))
        for i, device in enumerate(devices):
            here = [cell for cell in cells if cell.device == device]
            wide = slice(2 * i, 2 * i + 2)
            draw_rms(figure.add_subplot(grid[0, wide]), device, here, verdicts(cells))
            axes = figure.add_subplot(grid[1, wide])
            axes.set_title('Lane departures a minute', loc='left', fontsize=10)
            lines(axes, here, lambda cell: cell.departures.mean())
            axes.set_ylim(bottom=0)
            for j, (name, title) in enumerate(TIMING.items()):
                small = figure.add_subplot(grid[2 + j // 2, 2 * i + j % 2])
                draw_timing(small, here, name, title)
        legend_outside(figure, 'lower left', handles=entries(cells), ncols=4)
        figure.set_label('Driving on an emulated computer, by rollout')
    save(figure, path)


def draw_rms(axes: Axes, device: str, cells: Sequence[SchemeResult], given: Sequence[MarkResult]
             ) -> None:
    """Draw lateral RMS relative to the sequential rollout, the marks, and which are missed."""
    axes.set_title(f'{device.capitalize()} device: lateral RMS relative to sequential',
                   loc='left', fontsize=10, fontweight='bold')
    lines(axes, cells, lambda cell: cell.ratio.estimate)
    for cell in cells:
        if cell.scheme == OURS:
            axes.vlines(cell.cost, cell.ratio.low, cell.ratio.high, color=look(cell.scheme)[1],
                        linewidth=4, alpha=0.3)
    for cost, mark in MARKS[device].items():
        axes.plot([cost * 0.82, cost / 0.82], [mark, mark], color=INK, linewidth=2.0)
    said = [verdict for verdict in given if verdict.device == device]
    missed = [verdict for verdict in said if not verdict.reached]
    text = '\n'.join(f'missed at {verdict.cost:g}: {short(verdict)}' for verdict in missed)
    axes.annotate(text or ('all marks that were run are reached' if said else 'no mark was run'),
                  (0.02, 0.02), xycoords='axes fraction', fontsize=7.5, va='bottom',
                  color=MISSED if missed else INK)
    axes.axhline(1, color=FAINT, linewidth=0.8)


def short(verdict: MarkResult) -> str:
    """Say in a few words what missed its mark."""
    if 'departures' in verdict.what:
        return f'{verdict.value.estimate:+.1f} departures a minute ({verdict.value.high:+.1f})'
    against = 'best peer' if 'peer' in verdict.what else 'sequential'
    return f'{verdict.value.estimate:.2f} of {against}, mark {verdict.mark:g}'


def draw_timing(axes: Axes, cells: Sequence[SchemeResult], name: str, title: str) -> None:
    """Draw one quantity of the timing, which own commands do not change."""
    plain = [cell for cell in cells if '+' not in cell.scheme]
    axes.set_title(title, loc='left', fontsize=9)
    lines(axes, plain, lambda cell: getattr(cell.figures, name), size=3.5)
    axes.set_yscale('linear' if name == 'rate' else 'log')
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    if name != 'rate':
        # The usual one writes formulas.
        axes.yaxis.set_minor_formatter(LogFormatter())
        axes.set_ylabel('camera periods', fontsize=8)


def lines(axes: Axes, cells: Sequence[SchemeResult], value: Callable[[SchemeResult], float],
          size: float = 5.5
          ) -> None:
    """Draw a line for every scheme against the cost of a pass."""
    known = by_name(cells)
    costs = sorted({cell.cost for cell in cells})
    for name in reversed(names_in(cells)):
        device = cells[0].device
        there = [cost for cost in costs if (device, cost, name) in known]
        axes.plot(there, [value(known[device, cost, name]) for cost in there],
                  **look_of(name, size))
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(costs)
    axes.set_xlim(0.75 * min(costs), 1.35 * max(costs))
    axes.set_xlabel('cost of a pass / camera period', fontsize=8)


def look(name: str) -> tuple[str, str]:
    """Return marker and colour of a scheme."""
    return LOOKS[name.partition('+')[0]]


def look_of(name: str, size: float) -> dict:
    """Return how the line of a scheme looks; with own commands it is dashed and hollow."""
    marker, colour = look(name)
    own = '+' in name
    return {'color': colour, 'marker': marker, 'markersize': size,
            'linewidth': 1.0 if own else 1.6, 'linestyle': (0, (3, 2)) if own else '-',
            'markeredgecolor': colour if own else 'white',
            'markeredgewidth': 0.8 if own else 0.5, 'markerfacecolor': 'white' if own else colour}


def entries(cells: Sequence[SchemeResult]) -> list[Line2D]:
    """Return the legend's entries."""
    kinds = [name for name in names_in(cells) if '+' not in name]
    trainings = sorted({len(cell.squares) for cell in cells})
    seeds = ' to '.join(str(count) for count in dict.fromkeys((trainings[0], trainings[-1])))
    courses = np.max([cell.squares.shape[1] for cell in cells])
    return [*(Line2D([], [], **look_of(kind, 6), label=kind) for kind in kinds),
            Line2D([], [], **look_of('sequential+commands', 6) | {'color': FAINT,
                                                                  'markeredgecolor': FAINT},
                   label='dashed: knows its last commands'),
            Line2D([], [], color=INK, linewidth=2.0, label='to be reached'),
            Line2D([], [], color=FAINT, linewidth=4, alpha=0.5,
                   label=f'95 %: {courses} courses, {seeds} trainings')]
