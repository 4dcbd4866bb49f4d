from html.parser import HTMLParser
import json
import re
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure
import numpy as np
import pytest
from stream_agent.measurement.bootstrap import Interval
from stream_agent.measurement.comparison import compare
from stream_agent.measurement.plots import labels_of, REPORT_STYLE, shortened
from stream_agent.measurement.recording import Writer
from stream_agent.measurement.report import html, main, PLOTS, text
from stream_agent.measurement.summary import plain, sentences
from stream_agent.measurement.traces import make_run
from support.recordings import ns, PERIOD, winding_road

STAGES = {'arrival p50': '0.0004', 'convert p50': '0.0003', 'respond p50': '0.0012',
          'publish p50': '0.0002', 'settle p50': '0.009'}
DESCRIPTION = {
    'policies': {'agent': 'policy_command', 'baseline': 'baseline/policy_command'},
    'driving': 'agent', 'camera_period': PERIOD, 'date': '2026-11-21 02:50',
    'machine': 'robot <7>: Cortex & Co, 4 cores', 'versions': {'numpy': '2.4.6'},
    'diagnostics': {
        'agent: frames': {'pattern': 'streaming', 'first response frame': '1', **STAGES},
        'baseline: frames': {'pattern': 'sequential', 'first response frame': '0', **STAGES}}}
POLICIES = {'agent': {'latency': 3e-3, 'frames_late': 1, 'noise': 0.01},
            'baseline': {'latency': 15e-3, 'noise': 0.002}}


def comparison_of(policies=POLICIES, seconds=20.0, description=DESCRIPTION):
    rows, changes = winding_road(policies, seconds, driving='agent')
    return compare(make_run(rows, changes, description))


@pytest.fixture(scope='module')
def page():
    return html(comparison_of())


class Reader(HTMLParser):
    """Collects text, attributes that refer to something, and whether tags match."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.words, self.ids = [], [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in ('meta', 'br'):
            self.open.append(tag)
        self.references += [value for key, value in attributes
                            if key in ('src', 'href', 'xlink:href', 'action', 'data')]

    def handle_startendtag(self, tag, attributes):
        self.references += [value for key, value in attributes if key in ('src', 'xlink:href')]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_the_page_is_whole_and_refers_to_nothing_outside(page):
    reader = read(page)
    assert reader.references and all(ref.startswith('#') for ref in reader.references)
    # Names of namespaces look like addresses, but are not.
    visible = re.sub(r'xmlns(:\w+)?="[^"]*"', '', page)
    assert not re.search(r'https?:|url\((?!#)|@import|<script|<link', visible)


def test_every_plot_is_valid_and_there(page):
    plots = re.findall(r'<svg.*?</svg>', page, re.DOTALL)
    assert len(plots) == 6
    for plot in plots:
        assert ElementTree.fromstring(plot).get('viewBox')


def test_a_plot_that_would_be_empty_is_left_out(page):
    rows, _ = winding_road(POLICIES, 20.0, driving='agent')
    silent = {**DESCRIPTION, 'diagnostics': {}}
    without = html(compare(make_run(rows, [], silent)))
    for title in ('First response to a change of the scene', 'Where the time goes'):
        assert title in page
        assert title not in without


def test_the_page_begins_with_what_came_out(page):
    found = re.findall(r'<p class="found">(.*?)</p>', page)
    assert found[0] == ('agent (streaming) answered 12.0 ms earlier than baseline (sequential) at '
                        'the median (95 % interval 12.0 to 12.0 ms).')
    assert re.fullmatch(r'The error in effect of baseline \(sequential\) was \d\d % smaller: '
                        r'0\.\d{3} instead of 0\.\d{3} rad/s of yaw rate '
                        r'\(95 % interval of the difference 0\.\d{3} to 0\.\d{3}\)\.', found[1])


def test_the_page_has_the_figures_it_was_given(page):
    words = ' '.join(read(page).words)
    for figure in ('3.00 ms', '15.0 ms', '600 frames at 30 Hz', '3.00 / 3.00 / 3.00',
                   '36.3 ms', 'frame 1, 36.3 ms (3 of 3 changes)', '-12.000 [-12.000, -12.000]',
                   'robot <7>: Cortex & Co, 4 cores', 'numpy 2.4.6', '2026-11-21 02:50'):
        assert figure in words


def test_the_terminal_shows_the_same_figures():
    lines = text(comparison_of()).splitlines()
    assert lines[0].split() == ['agent', '(streaming)', 'baseline', '(sequential)']
    by_title = {line[:34].strip(): re.split(r'  +', line[34:].strip()) for line in lines[1:15]}
    assert by_title['frames'] == ['600', '600']
    assert by_title['on time, up to 5.00 ms'] == ['100.00 %', '0.00 %']
    assert by_title['late, over 5.00 ms'] == ['0 (0.00 %)', '600 (100.00 %)']
    assert by_title['lateral error RMS [m]'] == ['-', '-']
    assert by_title['first response, predicted'] == ['frame 1', 'frame 0']
    assert '  latency [ms]: -12.000 [-12.000, -12.000]  agent is better' in lines


def test_no_difference_is_said_in_words():
    same = {'latency': 3e-3, 'noise': 0.02, 'jitter': 1e-3}
    first, second = sentences(comparison_of({'agent': same, 'baseline': same}))
    assert first.startswith('No difference in latency between agent (streaming) and baseline')
    assert second.startswith('No difference in error in effect: 0.0')


def test_a_single_policy_is_not_compared():
    description = {**DESCRIPTION, 'policies': {'agent': 'policy_command'}}
    assert sentences(comparison_of({'agent': {'latency': 3e-3}}, 5.0, description)) == [
        'agent (streaming) answered after 3.00 ms at the median; there was no other policy to '
        'compare it with.']


def test_a_short_recording_says_that_it_is_too_short():
    assert sentences(comparison_of(seconds=0.5)) == [
        'Too few frames to say whether agent (streaming) or baseline (sequential) answered '
        'earlier.',
        'Too few frames to say whether agent (streaming) or baseline (sequential) had the '
        'smaller error.']


def test_without_reference_latencies_are_still_compared():
    rows, changes = winding_road(POLICIES, 10.0)
    nan = float('nan')
    rows = [row._replace(reference_speed=nan, reference_yaw_rate=nan) for row in rows]
    comparison = compare(make_run(rows, changes, DESCRIPTION))
    first, second = sentences(comparison)
    assert first.startswith('agent (streaming) answered 12.0 ms earlier')
    assert second == ('Without a reference, the errors of agent (streaming) and baseline '
                      '(sequential) are unknown.')
    read(html(comparison))


@pytest.mark.parametrize('rows', [
    [], winding_road({'agent': {'latency': 0, 'lost': 1.0}}, 1.0)[0],
    winding_road({'agent': {'latency': 1e-3}}, 0.04)[0],
    winding_road({'agent': {'latency': 1e-3}}, 0.2)[0]], ids=['none', 'lost', 'one', 'six'])
def test_little_or_nothing_makes_a_page_too(rows):
    comparison = compare(make_run(rows, [ns(0)], DESCRIPTION))
    reader = read(html(comparison))
    assert ("Policy 'baseline' answered no frame on the topic 'baseline/policy_command'; check "
            'that its agent is active and its log is free of errors.') in reader.words


def test_dropped_rows_and_strangers_are_reported():
    said = text(comparison_of(seconds=2.0, description={
        **DESCRIPTION, 'dropped': 7, 'without_frame': 40}))
    assert '7 rows were dropped because the disk was too slow.' in said
    assert ('40 messages had a stamp that is not of a frame of the last second; check that all '
            'use the same camera and clock.') in said


def test_names_are_text_and_not_markup():
    page = html(comparison_of({'<b>': {'latency': 1e-3}, 'a&b': {'latency': 9e-3}},
                              description={'policies': {'<b>': 'x', 'a&b': 'y'}}))
    assert '<b>' not in page
    assert '<b> answered 8.00 ms earlier than a&b' in ''.join(read(page).words)


def test_the_report_can_be_made_again_from_the_folder(tmp_path, capsys):
    rows, changes = winding_road(POLICIES, 5.0, driving='agent')
    writer = Writer(tmp_path, 1000)
    writer.put_rows(rows)
    writer.describe(DESCRIPTION)
    assert writer.close(5.0)
    assert main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert 'agent (streaming) answered 12.0 ms earlier' in shown
    assert shown.endswith(f'{tmp_path / "report.html"}\n')
    read((tmp_path / 'report.html').read_text())


def test_a_folder_without_a_recording_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"report: '{tmp_path / 'rows.csv'}': No such file or directory; "
        'give the folder of a recording\n')


def test_what_is_not_a_number_becomes_null():
    data = {'ratio': Interval(1.0, np.nan, float('inf')), 'rows': np.array([[1.5, np.nan]]),
            'count': np.int64(3), 'more': (np.float32(0.5), None, 'text', True)}
    assert json.loads(json.dumps(plain(data), allow_nan=False)) == {
        'ratio': {'estimate': 1.0, 'low': None, 'high': None}, 'rows': [[1.5, None]], 'count': 3,
        'more': [0.5, None, 'text', True]}


# Legends of many policies with long names stay inside their pictures.

NAMES = [f'lane_{kind}_with_augmentation_and_every_other_option_there_is_seed_{seed}'
         for kind in ('streaming', 'sequential') for seed in (1, 2)]


@pytest.fixture(scope='module')
def many():
    rows, changes = winding_road({name: {'latency': 3e-3} for name in NAMES}, 6.0)
    return compare(make_run(rows, changes, {
        'policies': dict.fromkeys(NAMES, ''),
        'diagnostics': {f'{name}: frames': {'pattern': 'streaming'} for name in NAMES}}))


@pytest.mark.parametrize('plot', PLOTS, ids=[title for title, *_ in PLOTS])
def test_nothing_reaches_out_of_the_picture(many, plot):
    _, _, draw, size = plot
    with rc_context(REPORT_STYLE):
        figure = Figure(figsize=size, layout='constrained')
        draw(figure, many)
        figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 and box.x1 <= figure.bbox.width
    assert all(axes.get_window_extent().width > 0.4 * figure.bbox.width for axes in figure.axes)
    assert all(box.y0 >= axes.get_window_extent().y1 for axes in figure.axes)


def test_short_names_stay_and_long_ones_lose_what_they_share(many):
    assert shortened(['agent', 'baseline'], 8) == ['agent', 'baseline']
    assert shortened(['a_long_first_name', 'b_long_other_name'], 9) == ['a_lo…name', 'b_lo…name']
    # These differ in the middle only, so it is the end that goes.
    assert shortened(['run_1_of_the_policy', 'run_2_of_the_policy'], 9) == [
        'run_1_of…', 'run_2_of…']
    labels = labels_of(many, 24)
    assert list(labels) == NAMES and len(set(labels.values())) == 4
    assert all(re.fullmatch(r'.{24} \(streaming\)', label) for label in labels.values())
