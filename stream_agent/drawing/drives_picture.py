"""How policies drove under the timing of an emulated computer, as bars side by side."""

from collections.abc import Callable, Sequence

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from stream_agent.drawing.plot_style import (
    BLUE, FAINT, INK, PICTURE_STYLE, shortened, wrapped)

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
