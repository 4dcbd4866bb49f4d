"""Legends of many policies with long names stay inside their pictures."""

import re

from matplotlib import rc_context
from matplotlib.figure import Figure
import pytest
from stream_agent.measurement.comparison import compare
from stream_agent.measurement.plots import labels_of, REPORT_STYLE, shortened
from stream_agent.measurement.report import PLOTS
from stream_agent.measurement.traces import make_run
from support.recordings import winding_road

NAMES = [f'lane_{kind}_with_augmentation_and_every_other_option_there_is_seed_{seed}'
         for kind in ('streaming', 'sequential') for seed in (1, 2)]


@pytest.fixture(scope='module')
def comparison():
    rows, changes = winding_road({name: {'latency': 3e-3} for name in NAMES}, 6.0)
    return compare(make_run(rows, changes, {
        'policies': dict.fromkeys(NAMES, ''),
        'diagnostics': {f'{name}: frames': {'pattern': 'streaming'} for name in NAMES}}))


@pytest.mark.parametrize('plot', PLOTS, ids=[title for title, *_ in PLOTS])
def test_nothing_reaches_out_of_the_picture(comparison, plot):
    _, _, draw, size = plot
    with rc_context(REPORT_STYLE):
        figure = Figure(figsize=size, layout='constrained')
        draw(figure, comparison)
        figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 and box.x1 <= figure.bbox.width
    assert all(axes.get_window_extent().width > 0.4 * figure.bbox.width for axes in figure.axes)
    assert all(box.y0 >= axes.get_window_extent().y1 for axes in figure.axes)


def test_short_names_stay_and_long_ones_lose_what_they_share(comparison):
    assert shortened(['agent', 'baseline'], 8) == ['agent', 'baseline']
    assert shortened(['a_long_first_name', 'b_long_other_name'], 9) == ['a_lo…name', 'b_lo…name']
    # These differ in the middle only, so it is the end that goes.
    assert shortened(['run_1_of_the_policy', 'run_2_of_the_policy'], 9) == [
        'run_1_of…', 'run_2_of…']
    labels = labels_of(comparison, 24)
    assert list(labels) == NAMES and len(set(labels.values())) == 4
    assert all(re.fullmatch(r'.{24} \(streaming\)', label) for label in labels.values())
