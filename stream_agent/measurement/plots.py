"""The plots of the report, each a self-contained piece of SVG."""

from collections.abc import Callable
import io
import math
import re
from typing import TypeVar

from matplotlib import rc_context
from matplotlib.figure import Figure
import numpy as np
from stream_agent.drawing.plot_style import (
    BLUE, FAINT, GREEN, INK, legend_outside, ORANGE, PURPLE, shortened, SKY, STYLE, VERMILION,
    YELLOW)
from stream_agent.measurement.bootstrap import paired_interval
from stream_agent.measurement.comparison import (
    arrived, Comparison, diagnostics_of, in_effect, late_limits, settled_effect, shown)
from stream_agent.measurement.traces import RunTraces

LONGEST_NAME = 34
# As a share of the figure's width; the reader's font may be a little wider than the measured one.
WIDEST = 0.96
# Rows of a legend that a figure has room for, and the height of every other one [inches].
USUAL_ROWS, ROW_HEIGHT = 3, 0.2
# Names are told from each other by their places beside a curve only as long as they are few.
MOST_MEDIANS = 5


def labels_of(comparison: Comparison, longest: int = LONGEST_NAME) -> dict[str, str]:
    """Return the policies' labels for a plot, with shortened names, by their names."""
    figures = comparison.figures
    # Matplotlib leaves out of a legend what begins with an underscore.
    return {name: re.sub('^_', ' _', figures[name].label.replace(name, short, 1))
            for name, short in zip(figures, shortened(list(figures), longest))}


def legend_above(figure: Figure) -> None:
    """Draw a legend above the axes, in as few rows as its width allows, and make room for it."""
    count = sum(len(axes.get_legend_handles_labels()[1]) for axes in figure.axes)
    for columns in range(max(1, count), 0, -1):
        legend = figure.legend(ncols=columns)
        width = legend.get_window_extent().width
        legend.remove()
        if width < WIDEST * figure.bbox.width:
            break
    rows = -(-count // columns)
    figure.set_figheight(figure.get_figheight() + ROW_HEIGHT * max(0, rows - USUAL_ROWS))
    legend_outside(figure, 'upper right', ncols=columns)


COLOURS = (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE)
DASHES = ('-', (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
MARKERS = ('o', 's', '^', 'D', 'v', 'P')
REPORT_STYLE = {**STYLE, 'font.size': 9.5, 'xtick.major.size': 3, 'ytick.major.size': 3,
                'grid.linewidth': 0.7}
WIDE, NARROW = (10.2, 4.3), (5.0, 3.1)
MOST_POINTS = 450
NARROW_NAME = 24
CLOSE_UP, LEAD_IN = 1.0, 0.25
STAGES = {'arrival': YELLOW, 'convert': SKY, 'respond': '#444444', 'publish': PURPLE,
          'transport': '#bbbbbb'}
AFTER: dict = {'color': 'white', 'edgecolor': FAINT, 'hatch': '////'}


Shown = TypeVar('Shown')


def draw(plot: Callable[[Figure, Shown], None], shown: Shown, size: tuple[float, float]) -> str:
    """Return a plot as an ``<svg>`` element without references to anything outside."""
    with rc_context(REPORT_STYLE):
        figure = Figure(figsize=size, layout='constrained')
        plot(figure, shown)
        file = io.StringIO()
        figure.savefig(file, format='svg', transparent=True, metadata={
            'Date': None, 'Creator': None, 'Format': None, 'Type': None})
    svg = file.getvalue()
    # Without width and height the page decides; the view box keeps the proportions.
    return re.sub(r'(<svg [^>]*?)(?: (?:width|height)="[\d.]+pt")+', r'\1',
                  svg[svg.index('<svg'):], count=1)


def style_of(comparison: Comparison, name: str) -> dict:
    """Return colour and dashes of a policy, the same in every plot."""
    i = number_of(comparison, name)
    return {'color': COLOURS[i % len(COLOURS)], 'linestyle': DASHES[i % len(DASHES)]}


def number_of(comparison: Comparison, name: str) -> int:
    """Return a policy's place among all policies, those that never answered included."""
    return list(comparison.run.traces).index(name)


def latency_distribution(figure: Figure, comparison: Comparison) -> None:
    """Draw the share of frames that were answered within a latency."""
    axes = figure.subplots()
    run, labels = comparison.run, labels_of(comparison)
    late, too_late = late_limits(run.period)
    high = 1.15e3 * max([late, *(f.latency['p99'] for f in comparison.figures.values())])
    for i, (name, figures) in enumerate(comparison.figures.items()):
        latency = (run.traces[name].arrivals - run.stamps)[comparison.start_up:]
        values = np.sort(latency[~np.isnan(latency)]) * 1e3
        shares = 100 * np.arange(1, len(values) + 1) / len(latency)
        drawn = np.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).round().astype(int)
        style = style_of(comparison, name)
        axes.plot([0, *values[drawn], high], [0, *shares[drawn], shares[-1]],
                  drawstyle='steps-post', linewidth=2, label=labels[name], **style)
        median = figures.latency['p50'] * 1e3
        right = median < 0.6 * high
        axes.plot(median, 50, marker='o', markersize=5, color=style['color'])
        if i < MOST_MEDIANS:
            # Medians may be equal, so their texts are placed one below the other.
            axes.annotate(f'{median:.1f} ms', (median, 50), (6 if right else -6, 7 - 14 * i),
                          textcoords='offset points', ha='left' if right else 'right',
                          va='center', fontweight='bold', color=style['color'])
    for limit, title in ((late, 'late'), (too_late, 'too late')):
        if limit * 1e3 < high:
            axes.axvline(limit * 1e3, color=FAINT, linewidth=1, linestyle=':')
            axes.text(limit * 1e3, 101.5, f'{title} from here', color=FAINT, fontsize=8,
                      ha='center', va='bottom')
    axes.set(xlim=(0, high), ylim=(0, 101), xlabel='latency, frame stamp to command [ms]',
             ylabel='frames answered [%]')
    legend_above(figure)


def time_lines(figure: Figure, comparison: Comparison) -> None:
    """Draw latency, and yaw rate or what moves most, over the whole recording."""
    column, element = shown(comparison.run)
    above, below = figure.subplots(2, sharex=True, height_ratios=(1, 1.25))
    run, names = comparison.run, labels_of(comparison)
    for name in comparison.figures:
        style = style_of(comparison, name)
        latency = (run.traces[name].arrivals - run.stamps) * 1e3
        times, low, middle, high = bands(run.stamps, latency)
        above.fill_between(times, low, high, color=style['color'], alpha=0.25, linewidth=0)
        above.plot(times, middle, linewidth=1.2, label=names[name], **style)
        times, _, middle, _ = bands(run.stamps, run.traces[name].commands[:, column])
        below.plot(times, middle, linewidth=1.2, **style)
    times, _, middle, _ = bands(run.stamps, run.reference[:, column])
    below.plot(times, middle, color=INK, linewidth=2.4, alpha=0.35, zorder=1, label='reference')
    for axes in (above, below):
        for change in run.changes:
            axes.axvline(change, color=FAINT, linewidth=0.8, linestyle=':')
    above.set(ylabel='latency [ms]', ylim=(0, None), xlim=(0, run.stamps[-1] + run.period))
    below.set(ylabel=f'{element.title} [{element.unit}]', xlabel='time of the frame [s]')
    legend_above(figure)


def bands(times: np.ndarray, values: np.ndarray
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return time, least, median and greatest value of at most 450 stretches; nan without any."""
    known = ~np.isnan(values)
    parts = np.array_split(np.arange(len(times)), min(len(times), MOST_POINTS))
    rows = [(times[part].mean(), *(np.percentile(values[part][known[part]], (0, 50, 100))
                                   if known[part].any() else (np.nan,) * 3)) for part in parts]
    return tuple(np.array(rows).reshape(-1, 4).T)


def close_up(figure: Figure, comparison: Comparison) -> None:
    """Draw the commands in effect, moment by moment, where the reference moves most."""
    axes = figure.subplots()
    run, labels = comparison.run, labels_of(comparison)
    column, element = shown(run)
    start = close_up_start(run, comparison.start_up)
    times = np.arange(start, start + CLOSE_UP, 1e-3)
    axes.plot(times, in_effect(run.stamps, run.reference, times)[:, column], color=INK,
              linewidth=3, alpha=0.35, label='reference')
    for name in comparison.figures:
        held = in_effect(*arrived(run.traces[name]), times)[:, column]
        axes.plot(times, held, linewidth=1.4, label=labels[name], **style_of(comparison, name))
    for change in run.changes[(run.changes > start) & (run.changes < start + CLOSE_UP)]:
        axes.axvline(change, color=FAINT, linewidth=1, linestyle=':')
        axes.text(change, 0.5, ' scene change', fontsize=8, color=FAINT, ha='right',
                  rotation=90, va='center', transform=axes.get_xaxis_transform())
    axes.set(xlabel='time [s]', ylabel=f'{element.title} in effect [{element.unit}]',
             xlim=(start, start + CLOSE_UP))
    legend_above(figure)


def close_up_start(run: RunTraces, start_up: int) -> float:
    """Return the time [s] shortly before the frame at which the reference moves most."""
    moved = np.nan_to_num(np.abs(np.diff(run.reference[:, shown(run)[0]])))
    inside = (run.stamps[:-1] >= run.stamps[start_up] + LEAD_IN) & (
        run.stamps[:-1] <= run.stamps[-1] - CLOSE_UP + LEAD_IN)
    if not inside.any():
        return float(run.stamps[start_up])
    return float(run.stamps[1 + np.where(inside, moved, -1).argmax()] - LEAD_IN)


def error_against_latency(figure: Figure, comparison: Comparison) -> None:
    """Draw every policy at its latency and its error in effect."""
    axes = figure.subplots()
    run, start_up = comparison.run, comparison.start_up
    labels, (column, element) = labels_of(comparison), shown(run)
    highest = []
    for name, figures in comparison.figures.items():
        colour = style_of(comparison, name)['color']
        marker = MARKERS[number_of(comparison, name) % len(MARKERS)]
        latency = (run.traces[name].arrivals - run.stamps)[start_up:] * 1e3
        error = settled_effect(run, run.traces[name])[start_up:, column]
        _, _, x, _ = bands(run.stamps[start_up:], latency)
        y = np.array([np.nanmean(part) if not np.isnan(part).all() else np.nan
                      for part in np.array_split(error, len(x))])
        highest.append(np.nanpercentile(y, 97) if not np.isnan(y).all() else 0)
        axes.scatter(x, y, s=9, alpha=0.3, color=colour, marker=marker, linewidths=0)
        middle, low, high = paired_interval(error, run.period)
        highest.append(np.nan_to_num(high))
        median = figures.latency['p50'] * 1e3
        spread = np.abs(np.nanpercentile(latency, (5, 95)) - median)[:, None]
        if np.isfinite(middle):
            axes.errorbar(median, middle, xerr=spread,
                          yerr=[[middle - low], [high - middle]] if np.isfinite(low) else None,
                          marker=marker, markersize=8, color=colour, markeredgecolor='white',
                          capsize=3, linewidth=1.8, label=labels[name], zorder=5)
    # A few moments are far above all others, and would compress these.
    axes.set(xlabel='latency [ms]', xlim=(0, None), ylim=(0, 1.3 * max(highest) or None),
             ylabel=f'{element.title} error in effect [{element.unit}]')
    if axes.get_legend_handles_labels()[0]:
        legend_above(figure)


def first_responses(figure: Figure, comparison: Comparison) -> None:
    """Draw after how many frames the policies responded to changes of the scene."""
    axes = figure.subplots()
    labels = labels_of(comparison, NARROW_NAME)
    responses = [figures.response for figures in comparison.figures.values()]
    last = max([1, *(frame for response in responses
                     for frame in (*response.counts, response.predicted or 0))])
    width = 0.8 / len(responses)
    for i, (name, response) in enumerate(zip(comparison.figures, responses)):
        label, colour = labels[name], style_of(comparison, name)['color']
        offset = (i + 0.5) * width - 0.4
        counts = [response.counts.get(frame, 0) for frame in range(last + 1)]
        bars = axes.bar(np.arange(last + 1) + offset, counts, width * 0.94, color=colour,
                        label=f'{label}, {len(response.frames)} of {response.changes}')
        axes.bar_label(bars, [str(count or '') for count in counts], fontsize=8)
        if response.predicted is not None:
            axes.text(response.predicted + offset, 1, '▼', ha='center', va='top', color=colour,
                      fontsize=13, transform=axes.get_xaxis_transform())
    most = max([1, *(count for one in responses for count in one.counts.values())])
    axes.set(xlabel='frames after the change until the first response (▼ predicted)',
             ylabel='scene changes', ylim=(0, most * 1.3), xlim=(-0.5, last + 0.5))
    axes.locator_params('x', integer=True)
    axes.grid(visible=False, axis='x')
    legend_above(figure)


def stage_split(figure: Figure, comparison: Comparison) -> None:
    """Draw which stage takes how much of the latency, from the agents' own diagnostics."""
    axes = figure.subplots()
    labels = [label.replace(' (', '\n(')
              for label in labels_of(comparison, NARROW_NAME).values()]
    figure.set_figheight(max(figure.get_figheight(), 1.2 + 0.45 * len(labels)))
    for row, figures in enumerate(comparison.figures.values()):
        said = diagnostics_of(comparison.run, figures.name)
        left, median = 0.0, figures.latency['p50'] * 1e3
        for stage, colour in STAGES.items():
            duration = (max(median - left, 0) if stage == 'transport'
                        else 1e3 * seconds_of(said, stage))
            axes.barh(row - 0.3, duration, 0.42, left, color=colour, edgecolor='white',
                      linewidth=0.6)
            left += duration
        axes.text(left, row - 0.3, f' {median:.1f} ms', va='center', fontweight='bold')
        # Settling comes after the answer, so it is drawn below and not counted.
        axes.barh(row + 0.1, 1e3 * seconds_of(said, 'settle'), 0.22, left, linewidth=0.8,
                  **AFTER)
    for title, colour in STAGES.items():
        axes.barh(0, 0, color=colour, label=title)
    axes.barh(0, 0, label='settle, after the answer', **AFTER)
    axes.set(xlabel='median duration [ms]', ylim=(len(labels) - 0.4, -0.7), xlim=(0, None))
    axes.set_yticks([row - 0.15 for row in range(len(labels))], labels)
    axes.margins(x=0.15)
    axes.grid(visible=False, axis='y')
    legend_outside(figure, 'upper right', ncols=3, fontsize=8.5)


def seconds_of(said: dict[str, str], stage: str) -> float:
    """Return a median duration that an agent reports [s]; 0 for what is not a duration."""
    try:
        seconds = float(said.get(f'{stage} p50', 0))
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0
