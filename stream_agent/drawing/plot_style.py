"""How plots and pictures look, and how they become files that are the same every time."""

from collections.abc import Iterable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from stream_agent.share import write_file

# Okabe and Ito's colours: told apart by colour-blind readers. In print it is dashes, markers
# and lightness that tell things apart.
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, YELLOW = (
    '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#F0E442')
INK, FAINT = '#222222', '#8a8a8a'
STYLE: dict[Any, Any] = {
    # Text stays text: it can be searched, and the reader's own fonts draw it.
    'svg.fonttype': 'none', 'svg.hashsalt': 'stream_agent',
    # Names are not formulas, whatever they look like.
    'text.parse_math': False,
    'font.family': ['DejaVu Sans', 'sans-serif'],
    'axes.spines.top': False, 'axes.spines.right': False, 'axes.edgecolor': FAINT,
    'axes.labelcolor': INK, 'xtick.color': INK, 'ytick.color': INK, 'text.color': INK,
    'legend.frameon': False, 'axes.grid': True, 'grid.color': '#e6e6e6', 'axes.axisbelow': True}
HELD, CONE, SEEN = '#dcdcdc', '#FBD38B', '#A9D5F2'
PICTURE_STYLE = {**STYLE, 'font.size': 9, 'legend.fontsize': 8.5,
                 'figure.facecolor': 'white', 'savefig.facecolor': 'white'}
MARGIN, LINE, TITLE_SIZE = 0.15, 0.2, 10.5
# Letters are set on whole pixels, and a reader's font may be a little wider.
WIDER = 1.04
DPI = 150
# Agg draws up to 2^16 pixels.
MOST_INCHES = 2 ** 16 / DPI - 1


class DrawingError(ValueError):
    """A picture that cannot be drawn; the message says what would be smaller."""


@cache
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the width [inches] that a line of text in the font of the pictures needs."""
    font = FontProperties(family='DejaVu Sans', weight='bold' if bold else 'normal')
    width = TextPath((0, 0), text, size, prop=font).get_extents().width if text else 0.0
    return WIDER * width / 72


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
    entries = [0.62 + text_width(handle.get_label(), 8.5) for handle in handles]
    # No word of the title and no entry of the legend is broken.
    whole = max(width, 4.6, *entries, *(
        text_width(word, TITLE_SIZE, bold=True) for word in title.split())) + 2 * MARGIN
    lines = wrapped(title, whole - 2 * MARGIN)
    columns = (len(handles) if sum(entries) < whole
               else min(len(handles), max(1, int(whole / max(entries)))))
    below = MARGIN + LINE * -(-len(handles) // columns) + 0.05
    above = MARGIN + LINE * len(lines) + 0.1
    tall = above + height + below
    if max(whole, tall) > MOST_INCHES:
        raise DrawingError(f'picture: {whole:.0f} x {tall:.0f} inches are over {MOST_INCHES:.0f}; '
                           'draw a smaller graph or a smaller window')
    figure = Figure(figsize=(whole, tall))
    FigureCanvasAgg(figure)
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
    picture = BytesIO()
    with rc_context(PICTURE_STYLE):
        if path.suffix == '.svg':
            figure.savefig(picture, format='svg', metadata={
                'Title': figure.get_label(), 'Date': None, 'Creator': None, 'Format': None,
                'Type': None})
        else:
            figure.savefig(picture, format='png', dpi=DPI, metadata={
                'Title': figure.get_label(), 'Software': None})
    write_file(path, picture.getvalue())


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Shorten long names in the middle, or elsewhere if that is where they differ."""
    for tail in (longest // 2, *range(longest)):
        short = [name if len(name) <= longest else
                 f'{name[:longest - 1 - tail]}…{name[len(name) - tail:]}' for name in names]
        if len(set(short)) == len(short):
            break
    return short


def legend_outside(figure: Figure, place: str, **settings: Any) -> None:
    """Draw a legend at 'upper right' or 'lower left', for which constrained axes make room."""
    try:
        figure.legend(**settings | {'loc': f'outside {place}'})
    except ValueError:
        # Ubuntu 24.04 has matplotlib 3.6, which lays axes out without looking at legends.
        legend = figure.legend(**settings | {'loc': place})
        figure.draw_without_rendering()
        height = legend.get_window_extent().height / figure.bbox.height
        bottom = height if place.startswith('lower') else 0
        getattr(figure.get_layout_engine(), 'set')(rect=(0, bottom, 1, 1 - height))
