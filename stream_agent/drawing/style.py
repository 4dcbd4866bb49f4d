"""How pictures look, and how they become files that are the same every time."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from stream_agent.drawing.plot_style import STYLE
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import first_response
from stream_agent.theory.patterns import (
    InvalidRolloutError, newest_image_pattern, Pattern, sequential_pattern, streaming_pattern)
from stream_agent.theory.rollout import inference_factor

HELD, CONE, SEEN = '#dcdcdc', '#FBD38B', '#A9D5F2'
PICTURE_STYLE = {**STYLE, 'font.size': 9, 'legend.fontsize': 8.5,
                 'figure.facecolor': 'white', 'savefig.facecolor': 'white'}
MARGIN, LINE, TITLE_SIZE = 0.15, 0.2, 10.5
DPI = 150
# Agg draws up to 2^16 pixels.
MOST_INCHES = 2 ** 16 / DPI - 1


class DrawingError(ValueError):
    """A picture that cannot be drawn; the message says what would be smaller."""


@cache
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the width [inches] of a line of text in the font of the pictures."""
    font = FontProperties(family='DejaVu Sans', weight='bold' if bold else 'normal')
    return TextPath((0, 0), text, size, prop=font).get_extents().width / 72 if text else 0.0


def wrapped(title: str, width: float) -> list[str]:
    """Break a title into lines that are not wider than they may be."""
    lines: list[str] = []
    for word in title.split():
        longer = f'{lines[-1]} {word}' if lines else word
        if lines and text_width(longer, TITLE_SIZE, bold=True) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def canvas(width: float, height: float, title: str, legend: Iterable[Artist]
           ) -> tuple[Figure, Axes]:
    """
    Make a figure whose drawing has the given size, with a title above and a legend below.

    :param width: [inches], as in the axes, where y points downwards.
    :raises DrawingError: If it is too large for a file.
    """
    handles = list(legend)
    whole = max(width, 4.6) + 2 * MARGIN
    lines = wrapped(title, whole - 2 * MARGIN)
    entries = [0.62 + text_width(handle.get_label(), 8.5) for handle in handles]
    columns = (len(handles) if sum(entries) < whole
               else min(len(handles), max(1, int(whole / max(entries)))))
    below = MARGIN + LINE * -(-len(handles) // columns) + 0.05
    above = MARGIN + LINE * len(lines) + 0.1
    if max(whole, above + height + below) > MOST_INCHES:
        raise DrawingError(f'picture: {whole:.0f} x {above + height + below:.0f} inches are over '
                           f'{MOST_INCHES:.0f}; draw a smaller graph or a smaller window')
    figure = Figure(figsize=(whole, above + height + below))
    FigureCanvasAgg(figure)
    tall = above + height + below
    axes = figure.add_axes((MARGIN / whole, below / tall, width / whole, height / tall))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis('off')
    figure.text(MARGIN / whole, 1 - MARGIN / tall, '\n'.join(lines), fontsize=TITLE_SIZE, va='top',
                fontweight='bold', linespacing=1.2)
    figure.legend(handles=handles, loc='lower left', ncols=columns, borderaxespad=0,
                  bbox_to_anchor=(MARGIN / whole, 0.08 / tall), borderpad=0, handlelength=2.6,
                  columnspacing=1.4, labelspacing=0.45)
    figure.set_label(title)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """
    Write a picture, as its path's suffix says: ``.svg`` or ``.png``.

    The same figure gives the same bytes: nothing in the file is dated.

    :raises OSError: If the file cannot be written.
    """
    with rc_context(PICTURE_STYLE):
        if path.suffix == '.svg':
            figure.savefig(path, format='svg', metadata={
                'Title': figure.get_label(), 'Date': None, 'Creator': None, 'Format': None,
                'Type': None})
        else:
            figure.savefig(path, format='png', dpi=DPI, metadata={
                'Title': figure.get_label(), 'Software': None})


def name_of(graph: GraphSpec, pattern: Pattern) -> str:
    """Return what a pattern is called: 'streaming', 'sequential', 'newest image' or 'hybrid'."""
    pattern = dict(pattern)
    if pattern == streaming_pattern(graph):
        return 'streaming'
    if pattern == newest_image_pattern(graph):
        return 'streaming, newest image'
    try:
        return 'sequential' if pattern == sequential_pattern(graph) else 'hybrid'
    except InvalidRolloutError:
        return 'hybrid'


def headline(graph: GraphSpec, pattern: Pattern, name: str = '') -> str:
    """Return a title: graph, pattern, inference factor and first response."""
    response = first_response(graph, pattern)
    steps = 'step' if response.update_step == 1 else 'steps'
    return (f"{name + ': ' if name else ''}{name_of(graph, pattern)} rollout, F = "
            f'{inference_factor(graph, pattern)}, first response in frame {response.frame} after '
            f'{response.update_step} update {steps}')
