"""The picture of the study: who has reflex and recognition, and what width is worth."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from stream_agent.drawing.plot_style import (
    BLUE, FAINT, GREEN, INK, ORANGE, PICTURE_STYLE, PURPLE, save, SKY, VERMILION)
from stream_agent.theory.planning.candidates import PARALLEL, SERIAL
from studies.chain import OURS
from studies.reflex.tables import by_name, HELD_AGAINST, names_in, ReflexResult, verdicts

LOOKS = {OURS: ('*', INK), 'sequential': ('s', VERMILION), 'smaller': ('v', ORANGE),
         'narrower': ('o', BLUE), 'pipelined': ('P', SKY), 'staggered': ('X', PURPLE),
         'frozen trunk': ('^', GREEN)}
OTHER = ('D', FAINT)
MISSED = '#B00020'


def draw(cells: Sequence[ReflexResult], path: Path) -> None:
    """Draw the score of every scheme above; below it against the cost, and signs against width."""
    devices = [device for device in (SERIAL, PARALLEL)
               if any((cell.device, cell.cost) == (device, HELD_AGAINST) for cell in cells)]
    most = max((len(names_in([cell for cell in cells if (cell.device, cell.cost) == (
        device, HELD_AGAINST)])) for device in devices), default=1)
    above, below = 1.6 + 0.24 * most, 3.4
    with rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(11, above + below), layout='constrained')
        grid = figure.add_gridspec(2, 2, height_ratios=(above, below))
        for i, device in enumerate(devices):
            draw_scores(figure.add_subplot(grid[0, i] if len(devices) > 1 else grid[0, :]),
                        [cell for cell in cells
                         if (cell.device, cell.cost) == (device, HELD_AGAINST)])
        draw_against_cost(figure.add_subplot(grid[1, 0]), cells)
        draw_width(figure.add_subplot(grid[1, 1]), cells)
        figure.set_label('Reflex and recognition: task score of all schemes')
    save(figure, path)


def look(kind: str) -> tuple[str, str]:
    """Return marker and colour of a scheme."""
    return LOOKS.get(kind, OTHER)


def draw_scores(axes: Axes, cells: Sequence[ReflexResult]) -> None:
    """Draw the score of every scheme with its interval, ours as a line, and the marks missed."""
    device, cost = cells[0].device, cells[0].cost
    axes.set_title(f'{device.capitalize()} device, {cost:g} camera periods a pass: task score, '
                   '95 %', loc='left', fontsize=10, fontweight='bold')
    ordered = sorted(cells, key=lambda cell: cell.mean('task_score'))
    for place, cell in enumerate(ordered):
        value = cell.score
        marker, colour = look(cell.scheme.kind)
        axes.hlines(place, value.low, value.high, color=colour, linewidth=2.5, alpha=0.45)
        axes.plot([value.estimate], [place], marker=marker, color=colour, markersize=7,
                  linestyle='', markerfacecolor='white' if cell.scheme.inputs else colour)
    ours = by_name(cells).get((device, cost, OURS))
    if ours:
        axes.axvline(ours.mean('task_score'), color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_yticks(range(len(ordered)), [
        cell.name for cell in ordered], fontsize=8)
    axes.set_ylim(-0.7, len(ordered) - 0.3)
    axes.set_xlabel('share of judged time in lane band and speed band, %', fontsize=8)
    said = verdicts(cells)
    missed = [f'missed: {one.what} {one.value.estimate:.1f}, mark {one.mark:g}'
              + (f'\n   {one.why}' if one.why else '') for one in said if not one.reached]
    axes.annotate('\n'.join(missed) or ('all marks that were run are reached' if said else
                                        'no mark was run'),
                  (0, 0), xycoords='axes fraction', xytext=(0, -34), textcoords='offset points',
                  fontsize=7, va='top', color=MISSED if missed else INK, annotation_clip=False)


def draw_against_cost(axes: Axes, cells: Sequence[ReflexResult]) -> None:
    """Draw the score against the cost of a pass, of those that were run at several costs."""
    axes.set_title('Task score against the cost of a pass', loc='left', fontsize=10,
                   fontweight='bold')
    costs = sorted({cell.cost for cell in cells})
    for name in LOOKS:
        for device, style in ((SERIAL, '-'), (PARALLEL, (0, (3, 2)))):
            there = sorted((cell for cell in cells if (cell.name, cell.device) == (name, device)),
                           key=lambda cell: cell.cost)
            if not there or (device == PARALLEL and name in ('sequential', 'smaller',
                                                             'narrower')):
                continue  # the same as on one core
            marker, colour = look(name)
            axes.plot([cell.cost for cell in there],
                      [cell.mean('task_score') for cell in there], marker=marker, color=colour,
                      linestyle=style, markersize=5.5, markeredgecolor='white',
                      markeredgewidth=0.5,
                      label=name + ', parallel' * (device == PARALLEL))
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(costs)
    axes.set_xlabel('cost of a pass / camera period', fontsize=8)
    axes.set_ylabel('%', fontsize=8)
    axes.legend(fontsize=7, ncols=2)


def draw_width(axes: Axes, cells: Sequence[ReflexResult]) -> None:
    """Draw signs obeyed against operations: a narrow network that reads as well would be level."""
    axes.set_title('Signs obeyed against operations of a pass', loc='left', fontsize=10,
                   fontweight='bold')
    for name in ('sequential', 'smaller', 'narrower', OURS):
        there = {cell.scheme.key: cell for cell in cells if cell.name == name}
        marker, colour = look(name)
        for i, cell in enumerate(there.values()):
            x = cell.rows[0]['operations'] / 1e6
            obeyed = cell.mean('signs_obeyed')
            axes.plot([x], [obeyed], marker=marker, color=colour, markersize=7, linestyle='',
                      label=None if i else name)
            axes.annotate(f' {cell.cost:g}', (x, obeyed), fontsize=7, va='center', color=FAINT)
    recognised = {cell.rows[0]['operations'] / 1e6: 100 * cell.rows[0]['recognised']
                  for cell in cells if cell.rows[0]['recognised'] is not None
                  and cell.scheme.trunk is None}
    axes.plot(sorted(recognised), [recognised[x] for x in sorted(recognised)], color=FAINT,
              linewidth=1.0, marker='.', label='signs told apart in single images')
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel('million multiplications (beside a mark: camera periods a pass)', fontsize=8)
    axes.set_ylabel('%', fontsize=8)
    axes.set_ylim(0, 100)
    axes.legend(fontsize=7, loc='lower right')
