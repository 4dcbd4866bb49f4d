"""How plots and pictures look: colours that everybody can tell apart, and quiet axes."""

from typing import Any

from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart by colour-blind readers. In print it is dashes, markers
# and lightness that tell things apart.
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, YELLOW = (
    '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#F0E442')
INK, FAINT = '#222222', '#8a8a8a'
STYLE = {
    # Text stays text: it can be searched, and the reader's own fonts draw it.
    'svg.fonttype': 'none', 'svg.hashsalt': 'stream_agent',
    'font.family': ['DejaVu Sans', 'sans-serif'],
    'axes.spines.top': False, 'axes.spines.right': False, 'axes.edgecolor': FAINT,
    'axes.labelcolor': INK, 'xtick.color': INK, 'ytick.color': INK, 'text.color': INK,
    'legend.frameon': False, 'axes.grid': True, 'grid.color': '#e6e6e6', 'axes.axisbelow': True}


def legend_outside(figure: Figure, place: str, **settings: Any) -> None:
    """
    Draw a legend for which the axes make room.

    :param figure: Its layout is constrained.
    :param place: 'upper right' or 'lower left'.
    :param settings: As for the figure's ``legend``.
    """
    try:
        figure.legend(loc=f'outside {place}', **settings)
    except ValueError:
        # Ubuntu 24.04 has matplotlib 3.6, which lays axes out without looking at legends.
        legend = figure.legend(loc=place, **settings)
        figure.draw_without_rendering()
        height = legend.get_window_extent().height / figure.bbox.height
        bottom = height if place.startswith('lower') else 0
        figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - height))
