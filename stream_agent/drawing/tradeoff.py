"""Candidates of a plan: how new and how old what the robot knows is, and what that costs."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from stream_agent.drawing.plot_style import (
    BLUE, DrawingError, FAINT, GREEN, INK, legend_outside, ORANGE, PICTURE_STYLE, PURPLE, SKY,
    VERMILION)

# A marker and a colour each; the colours alone would not do in print.
KINDS = {'streaming': ('o', BLUE), 'sequential': ('s', VERMILION), 'hybrid': ('D', GREEN),
         'multi-rate': ('^', PURPLE), 'truncated': ('v', ORANGE), 'k updates': ('P', SKY),
         'pipelined': ('X', VERMILION), 'staggered copies': ('*', VERMILION),
         'frozen trunk': ('h', PURPLE)}
SIZE = (10.6, 4.9)
MOST_LABELS = 6
# Where a label may stand around its point, in points: beside it first, then further away.
PLACES = [(dx * far, dy * far) for far in (9, 20, 34, 52, 74)
          for dx, dy in ((1, 0), (1, 0.8), (1, -0.8), (-1, 0), (-1, 0.8), (-1, -0.8),
                         (0, 1), (0, -1))]


class TradeoffPoint(NamedTuple):
    """
    One way to roll the graph out.

    :param label: What it is called in the picture.
    :param kind: One of ``KINDS``.
    :param newest_age: Of the newest information in an answer [s].
    :param oldest_age: Of the deep, oldest information in an answer [s].
    :param response_latency: From an image to its answer [s].
    :param frame_cost: Of everything that a frame computes [s].
    :param keeps_up: Whether frames are done before the next one comes.
    :param best: Whether no other candidate beats it in everything.
    """

    label: str
    kind: str
    newest_age: float
    oldest_age: float
    response_latency: float
    frame_cost: float
    keeps_up: bool
    recommended: bool = False
    best: bool = False


def draw_tradeoff(candidates: Sequence[TradeoffPoint], period: float, title: str = 'plan'
                  ) -> Figure:
    """
    Draw candidates where their ages put them, and where their durations do.

    :param period: Of the camera [s].
    :raises DrawingError: If there are no candidates, or one of an unknown kind.
    """
    if not candidates:
        raise DrawingError('plan: no candidates to draw')
    for candidate in candidates:
        if candidate.kind not in KINDS:
            raise DrawingError(f"plan: no kind '{candidate.kind}'; kinds are {', '.join(KINDS)}")
    ages = [(1e3 * c.newest_age, 1e3 * c.oldest_age) for c in candidates]
    durations = [(1e3 * c.frame_cost, 1e3 * c.response_latency) for c in candidates]
    with rc_context(PICTURE_STYLE):
        figure = Figure(figsize=SIZE, layout='constrained')
        FigureCanvasAgg(figure)
        figure.set_label(title)
        figure.suptitle(title, x=0.01, ha='left', fontsize=10.5, fontweight='bold')
        left, right = figure.subplots(1, 2)
        draw_points(left, candidates, ages)
        left.set(xlabel='age of the newest information [ms]',
                 ylabel='age of the oldest information [ms]',
                 xlim=(0, 1.25e3 * max(c.newest_age for c in candidates)),
                 ylim=(0, 1.12e3 * max(max(c.newest_age, c.oldest_age) for c in candidates)))
        draw_points(right, candidates, durations)
        draw_period(right, 1e3 * period,
                    1.25e3 * max(period, *(c.frame_cost for c in candidates)))
        right.set(xlabel='cost of a frame [ms]', ylabel='response latency [ms]',
                  ylim=(0, 1.2e3 * max(c.response_latency for c in candidates)))
        legend_outside(figure, 'lower left', handles=entries(candidates), ncols=5)
        # Labels need to know where the points will be.
        figure.canvas.draw()
        figure.set_layout_engine('none')
        name_points(left, candidates, ages)
        name_points(right, candidates, durations, 1e3 * period)
    return figure


def draw_period(axes: Axes, period: float, wide: float) -> None:
    """Draw the camera's period [ms], beyond which frames cost too much, in axes of a width."""
    axes.axvline(period, color=INK, linewidth=1, linestyle=(0, (6, 2)))
    axes.axvspan(period, wide, color='#f1f1f1', zorder=0)
    axes.text(period, 0.99, ' camera period', transform=axes.get_xaxis_transform(), va='top',
              fontsize=8)
    axes.set_xlim(0, wide)


def draw_points(axes: Axes, candidates: Sequence[TradeoffPoint], points: list[tuple[float, float]]
                ) -> None:
    """Draw one marker for each candidate; hollow if it does not keep up with the camera."""
    # The best ones last, on top of what they beat.
    for candidate, (x, y) in sorted(zip(candidates, points), key=lambda item: (
            item[0].recommended, item[0].best)):
        marker, colour = KINDS[candidate.kind]
        axes.plot(x, y, marker=marker, markersize=8 if candidate.best else 5.5,
                  markerfacecolor=colour if candidate.keeps_up else 'white',
                  markeredgecolor=INK if candidate.keeps_up and candidate.best else colour,
                  markeredgewidth=1.0 if candidate.keeps_up else 1.5, linestyle='',
                  alpha=1 if candidate.best or candidate.recommended else 0.7,
                  clip_on=False, zorder=4)
        if candidate.recommended:
            axes.plot(x, y, marker='o', markersize=16, markerfacecolor='none',
                      markeredgecolor=INK, markeredgewidth=1.8, linestyle='', clip_on=False,
                      zorder=5)


def name_points(axes: Axes, candidates: Sequence[TradeoffPoint], points: list[tuple[float, float]],
                line: float | None = None) -> None:
    """Name the recommended, one of each kind, and a few of the best; not on a line [ms]."""
    firsts = {c.kind: i for i, c in reversed(list(enumerate(candidates)))}
    named = sorted((i for i, c in enumerate(candidates) if c.best or c.recommended
                    or i == firsts[c.kind]),
                   key=lambda i: (not candidates[i].recommended,
                                  i != firsts[candidates[i].kind], not candidates[i].keeps_up))
    scale, inside = axes.figure.dpi / 72, axes.get_window_extent()
    reach = [scale * (9 if c.recommended else 6 if c.best else 4) for c in candidates]
    taken = [Bbox.from_extents(x - r, y - r, x + r, y + r)
             for (x, y), r in zip(axes.transData.transform(points), reach)]
    if line is not None:
        x = axes.transData.transform((line, 0))[0]
        taken.append(Bbox.from_extents(x - scale, inside.y0, x + scale, inside.y1))
        taken += [text.get_window_extent() for text in axes.texts]
    for i in named[:MOST_LABELS]:
        place_label(axes, candidates[i], points[i], taken)


def place_label(axes: Axes, candidate: TradeoffPoint, point: tuple[float, float],
                taken: list[Bbox]) -> None:
    """Write one name where there is room, which is then taken; the recommended in any case."""
    def tried(place: tuple[float, float]) -> tuple[float, Bbox]:
        """Return what a name at a place covers that is taken or outside, and its box."""
        text = name_at(axes, candidate, point, place)
        # Of the text only, without the line that leads to the point.
        text.update_positions(getattr(axes.figure.canvas, 'get_renderer')())
        box = Text.get_window_extent(text).padded(1)
        text.remove()
        return sum(area(box, other) for other in taken) + box.width * box.height - area(
            box, axes.get_window_extent()), box

    tries = {place: tried(place) for place in PLACES}
    best = min(PLACES, key=lambda place: tries[place][0])
    covered, box = tries[best]
    if covered < 1 or candidate.recommended:
        name_at(axes, candidate, point, best)
        taken.append(box)


def name_at(axes: Axes, candidate: TradeoffPoint, point: tuple[float, float],
            place: tuple[float, float]) -> Annotation:
    """Write a name at a place beside its point; with a line between if that is far."""
    dx, dy = place
    further = 1.6 if candidate.recommended else 1
    return axes.annotate(
        candidate.label, point, (dx * further, dy * further), textcoords='offset points',
        ha='left' if dx > 0 else 'right' if dx else 'center',
        va='center' if dx else 'bottom' if dy > 0 else 'top',
        fontsize=8, fontweight='bold' if candidate.recommended else 'normal', zorder=6,
        arrowprops={'arrowstyle': '-', 'color': FAINT, 'linewidth': 0.7, 'shrinkA': 0,
                    'shrinkB': 4} if abs(dx) + abs(dy) > 18 else None)


def area(box: Bbox, other: Bbox) -> float:
    """Return how much of a box another covers."""
    both = Bbox.intersection(box, other)
    return both.width * both.height if both else 0.0


def entries(candidates: Sequence[TradeoffPoint]) -> list[Line2D]:
    """Return the legend: the kinds that there are, and what fill and ring mean."""
    def entry(label: str, marker: str = 'o', **style) -> Line2D:
        return Line2D([], [], linestyle='', marker=marker, label=label, **style)

    kinds = [(kind, *look) for kind, look in KINDS.items()
             if any(c.kind == kind for c in candidates)]
    hollow = entry('hollow: does not keep up', markersize=7, color=FAINT, markerfacecolor='white',
                   markeredgewidth=1.5)
    large = entry('large: nothing beats it', markersize=8, color=FAINT, markeredgecolor=INK)
    ring = entry('recommended', markersize=13, color=INK, markerfacecolor='none',
                 markeredgewidth=1.8)
    return [*(entry(kind, marker, color=colour, markersize=7) for kind, marker, colour in kinds),
            *[hollow] * any(not c.keeps_up for c in candidates), large,
            *[ring] * any(c.recommended for c in candidates)]
