from html import escape
from html.parser import HTMLParser
import json
import math
from pathlib import Path
import re
import resource
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from hypothesis import given, strategies as st
from matplotlib import rc_context
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
import numpy as np
import pytest
from stream_agent.measurement import report
from stream_agent.measurement.bootstrap import Interval
from stream_agent.measurement.comparison import (
    compare, ERROR_RESOLUTION, LATENCY_RESOLUTION)
from stream_agent.measurement.plots import (
    COLOURS, draw, error_against_latency, first_responses, labels_of, latency_distribution,
    NARROW, REPORT_STYLE, shortened, stage_split, style_of)
from stream_agent.measurement.recording import RecordingError, Writer
from stream_agent.measurement.report import html, main, PLOTS, text, tiles
from stream_agent.measurement.rows import AT_ARRIVAL, Element, Row, WHEN_TAKEN
from stream_agent.measurement.summary import figure_rows, plain, remarks, RULE, sentences
from stream_agent.measurement.traces import make_run, read_run
from support.recordings import ns, PERIOD, winding_road
from support.strategies import examples

pytestmark = pytest.mark.thorough

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
                   '1 frame, 36.3 ms', '1 frame, 36.3 ms (3 of 3 changes)',
                   '-12.000 [-12.000, -12.000]',
                   'robot <7>: Cortex & Co, 4 cores', 'numpy 2.4.6', '2026-11-21 02:50'):
        assert figure in words


def by_title_of(lines):
    width = max(len(line.split('  ')[0]) for line in lines[1:15])
    return {line[:width].strip(): re.split(r'  +', line[width:].strip()) for line in lines[1:15]}


def html_without_plots(comparison):
    """Return the page, without what takes nearly all of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, 'plot_grid', lambda _: '')
        return html(comparison)


@pytest.mark.parametrize('jitter, found', [(1e-3, 'No difference'), (8e-3, 'answered')])
def test_headline_cards_table_and_differences_are_one_statistic(jitter, found):
    """Where it scatters, the median of the differences is not the difference of the medians."""
    comparison = comparison_of({
        'agent': {'latency': 3e-3, 'jitter': 1e-3, 'noise': 0.01, 'lost': 0.05},
        'baseline': {'latency': 3e-3, 'jitter': jitter, 'noise': 0.01, 'lost': 0.02}})
    page, lines = html_without_plots(comparison), text(comparison).splitlines()
    words = ' '.join(read(page).words)
    (headline, *_), by_title = sentences(comparison), by_title_of(lines)
    assert found in headline and headline in words and headline in lines
    cards = [float(number) for number in re.findall(r'<dd>([\d.]+) ms</dd>', page)]
    medians = [float(cell.split()[0]) for cell in by_title['latency p50/90/99/99.9/worst [ms]']]
    assert cards == medians
    (difference,) = re.findall(r'^  latency \[ms\]: (\S+) ', '\n'.join(lines), re.MULTILINE)
    assert difference in words
    assert float(difference) == pytest.approx(medians[0] - medians[1], abs=0.011)
    assert abs(medians[0] - medians[1]) > 0.001
    effects = [figures.effect[1] for figures in comparison.figures.values()]
    assert re.findall(r'<dd>([\d.]+) rad/s</dd>', page) == [f'{one:.3f}' for one in effects]
    by_name = {one.quantity: one for one in comparison.differences}
    assert by_name['yaw rate error in effect'].interval.estimate == pytest.approx(
        effects[0] - effects[1], abs=1e-12)


DOCS = Path(__file__).parents[2] / 'docs'


def test_the_rule_is_one(page):
    """Terminal, page and documentation say of no difference what the code does."""
    assert RULE in text(comparison_of()).splitlines()
    assert RULE in ' '.join(read(page).words)
    rule = RULE.removeprefix('No difference: ')
    assert rule in ' '.join((DOCS / 'results.md').read_text().split())
    latency, error = map(float, re.findall(r'(\S+) ms, or (\S+) %', rule)[0])
    assert (latency / 1000, error / 100) == (LATENCY_RESOLUTION, ERROR_RESOLUTION)


def test_responses_are_counted_alike_everywhere(page):
    """Frames after the change; 0 is the changed frame itself, as in an agent's diagnostics."""
    comparison = comparison_of()
    assert [f.response.predicted for f in comparison.figures.values()] == [1, 0]
    assert [f.response.counts for f in comparison.figures.values()] == [{1: 3}, {0: 3}]
    by_title = by_title_of(text(comparison).splitlines())
    assert re.findall(r'<dd>(\d frames?), [\d.]+ ms</dd>', page) == ['1 frame', '0 frames']
    assert [cell.split(',')[0] for cell in by_title['first response, measured']] == [
        '1 frame', '0 frames'] == by_title['first response, predicted']
    assert 'frames after the change until the first response' in page


def test_the_readme_shows_the_figures_of_the_results():
    """Both are from one run, printed as the report prints it."""
    _, drives, _, shadow, *_ = (DOCS / 'results.md').read_text().split('```\n')
    by_title = by_title_of(shadow.splitlines())
    comparison = comparison_of()
    assert list(figure_rows(comparison.figures['agent'], comparison)) == list(by_title)
    assert all(re.match(r'\d+ frames?, ', cell) for cell in by_title['first response, measured'])
    printed = {title: cells for title, *cells in (
        re.split(r' {2,}', line) for line in drives.splitlines()) if len(cells) == 3}
    rows = dict(re.findall(r'^\| ([^|]+) \| ([^|]+ \| [^|]+ \| [^|]+) \|$',
                           (DOCS.parent / 'README.md').read_text(), re.MULTILINE))
    shown = {title: cells.split(' | ') for title, cells in rows.items() if title in printed}
    assert len(shown) >= 5
    assert shown == {title: printed[title] for title in shown}


def test_the_terminal_shows_the_same_figures():
    lines = text(comparison_of()).splitlines()
    assert lines[0].split() == ['agent', '(streaming)', 'baseline', '(sequential)']
    by_title = by_title_of(lines)
    assert by_title['frames'] == ['600', '600']
    assert by_title['on time, up to 5.00 ms'] == ['100.00 %', '0.00 %']
    assert by_title['late, over 5.00 ms'] == ['0 (0.00 %)', '600 (100.00 %)']
    assert by_title['lateral error RMS [m]'] == ['-', '-']
    assert by_title['first response, predicted'] == ['1 frame', '0 frames']
    assert '  latency [ms]: -12.000 [-12.000, -12.000]  agent is better' in lines


def test_no_difference_is_said_in_words():
    same = {'latency': 3e-3, 'noise': 0.02, 'jitter': 1e-3}
    first, second = sentences(comparison_of({'agent': same, 'baseline': same}))
    assert re.fullmatch(r'No difference in latency: \d\.\d\d ms at the median for agent '
                        r'\(streaming\), \d\.\d\d for baseline \(sequential\)\.', first)
    assert second.startswith('No difference in error in effect: 0.0')


def test_a_single_policy_is_not_compared():
    description = {**DESCRIPTION, 'policies': {'agent': 'policy_command'}}
    assert sentences(comparison_of({'agent': {'latency': 3e-3}}, 5.0, description)) == [
        'agent (streaming) answered after 3.00 ms at the median.']


def test_a_short_recording_says_that_it_is_too_short():
    assert sentences(comparison_of(seconds=0.5)) == [
        'Too few frames to say whether agent (streaming) or baseline (sequential) answered '
        'earlier.',
        'Too few frames to say whether agent (streaming) or baseline (sequential) had the '
        'smaller error.']


def test_without_reference_latencies_are_still_compared():
    rows, changes = winding_road(POLICIES, 10.0)
    nan = float('nan')
    rows = [row._replace(reference=(nan, nan)) for row in rows]
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


def test_a_policy_that_nobody_started_is_not_missed():
    rows, changes = winding_road({'agent': {'latency': 1e-3}}, 1.0)
    run = make_run(rows, changes, {**DESCRIPTION, 'absent': ['baseline']})
    assert not any('baseline' in remark for remark in remarks(compare(run)))


def test_dropped_rows_and_strangers_are_reported():
    said = text(comparison_of(seconds=2.0, description={
        **DESCRIPTION, 'dropped': 7, 'without_frame': 40}))
    assert '7 rows are missing, as the disk was too slow or full.' in said
    assert ('40 messages had a stamp that is not of a frame of the last second; check that all '
            'use the same camera and clock.') in said


def test_names_are_text_and_not_markup():
    page = html(comparison_of({'<b>': {'latency': 1e-3}, 'a&b': {'latency': 9e-3}},
                              description={'policies': {'<b>': 'x', 'a&b': 'y'}}))
    assert '<b>' not in page
    assert '<b> answered 8.00 ms earlier than a&b' in ''.join(read(page).words)


def test_a_name_is_no_formula_no_markup_and_no_comment():
    names = '$x^{ & <i>', r'_it\'s, "so" $\frac{$'
    comparison = comparison_of(dict(zip(names, POLICIES.values())), description={})
    assert all(escape(name) in tiles(comparison) for name in names)
    for _, _, plot, size in PLOTS:
        said = ''.join(ElementTree.fromstring(draw(plot, comparison, size)).itertext())
        assert all(name in said for name in names), plot


def record(folder, names, seconds=3.0, **description):
    """Record policies of those names and POLICIES' kinds, through the disk."""
    rows, changes = winding_road(dict(zip(names, POLICIES.values())), seconds)
    writer = Writer(folder, 1000)
    writer.put_rows(rows)
    writer.describe({**DESCRIPTION, 'driving': '', 'policies': dict.fromkeys(names, 'topic'),
                     **description})
    assert writer.close(5.0)
    return rows


def test_names_from_outside_control_nothing(tmp_path, capsys):
    """S4: neither a terminal, nor the page, nor a path."""
    evil, endless = '\x1b[2J\x07../../x\r\n,"\x9b31m', 'long' * 1000
    record(tmp_path, [evil, endless], machine='\x1b]0;title\x07', remarks=['a\x00\u202eb'],
           versions={'\x1b[31m': '\n'})
    before = {path.name for path in tmp_path.parent.iterdir()}
    assert main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    page = (tmp_path / 'report.html').read_text()
    for text_ in (shown, page):
        assert not re.search('[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]', text_)
        assert 'long' * 49 in text_ and 'long' * 50 not in text_
        assert '[2J' in text_ and '../../x' in text_
    read(page)
    assert {path.name for path in tmp_path.parent.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'report.html', 'rows.csv', 'run.json', 'scene_changes.csv']


def test_a_report_is_written_into_its_folder_only(tmp_path, capsys):
    """A link in place of the report, or of the file it is made in, is replaced, not followed."""
    folder, other = tmp_path / 'recording', tmp_path / 'precious'
    folder.mkdir()
    other.write_text('mine')
    record(folder, ['agent', 'baseline'])
    for name in ('report.html', '.report.html'):
        (folder / name).symlink_to(other)
    assert main([str(folder)]) == 0
    assert other.read_text() == 'mine'
    assert not (folder / 'report.html').is_symlink()


@pytest.mark.parametrize('file, old, new, sentence', [
    ('rows.csv', 'agent,0,', 'agent,first,',
     "line 2: not a row ('first' is not a whole number from 0 to 2^63 - 1); remove the line"),
    ('rows.csv', 'agent,0,', f'agent,{10**30},', f"line 2: not a row ('{10**30}' is not a whole "
     'number from 0 to 2^63 - 1); remove the line'),
    ('rows.csv', 'agent,0,', 'agent,0,7,', 'line 2: not a row (15 columns instead of 14); remove '
     'the line'),
    ('rows.csv', 'stamp_ns', 'stamp', 'the first line names the columns stamp,policy,'),
    ('rows.csv', 'agent,0,', 'agent,0\0,', 'line 2: not a row'),
    ('scene_changes.csv', '\n', '\nsoon\n', "line 2: not a stamp in ns ('soon' is not a "
     'whole number from 0 to 2^63 - 1); remove the line'),
    ('run.json', '"camera_period": 0.03', '"camera_period": "fast", "x": 0.03',
     'camera_period is "fast" where a number of seconds is expected; correct or remove the entry'),
    ('run.json', '"camera_period": 0.03', '"camera_period": -0.03',
     'where a number of seconds is expected; correct or remove the entry'),
    ('run.json', '"policies": {', '"policies": 3, "x": {',
     'policies is 3 where an object is expected; correct or remove the entry'),
    ('run.json', '{', '', 'not valid JSON'),
    ('run.json', '{', '[{}]', 'not valid JSON')])
def test_what_is_not_a_recording_is_a_sentence(tmp_path, capsys, file, old, new, sentence):
    record(tmp_path, ['agent', 'baseline'], 1.0)
    path = tmp_path / file
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    assert main([str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == '' and shown.err.startswith(f"report: '{path}'") and sentence in shown.err
    assert shown.err.count('\n') == 1


def test_words_in_the_diagnostics_are_no_numbers():
    """They come from whoever publishes on the topic, and must not cost the report."""
    said = {'pattern': 7, 'first response frame': '²', 'respond p50': 'fast', 'convert p50': 'nan',
            'publish p50': None}
    comparison = comparison_of(description={**DESCRIPTION, 'diagnostics': {
        'agent: frames': said, 'baseline: frames': ['nothing']}})
    assert draw(stage_split, comparison, NARROW)
    assert comparison.figures['agent'].response.predicted is None
    assert comparison.figures['agent'].label == 'agent (7)'


def test_commands_that_are_no_numbers_are_unknown():
    rows, changes = winding_road(POLICIES, 5.0)
    rows = [row._replace(command=(float('inf'), 1e300), reference=(0.8, float('-inf')))
            if i % 3 == 0 else row for i, row in enumerate(rows)]
    page = html(compare(make_run(rows, changes, DESCRIPTION)))
    assert 'inf' not in re.sub(r'info|first', '', ' '.join(read(page).words))


def test_frames_of_another_clock_are_said_and_left_out():
    rows, changes = winding_road(POLICIES, 10.0, driving='agent')
    hour = 3600 * 10**9
    stray = [row._replace(stamp_ns=row.stamp_ns + hour) if 200 <= i < 202 else row
             for i, row in enumerate(rows)]
    comparison = compare(make_run(stray, changes, DESCRIPTION))
    assert comparison.figures['agent'].frames == 299
    assert len(comparison.run.stamps) == 299 and comparison.run.stamps[-1] < 10
    assert ("1 frame left out: stamped over 2 s from when the others come; check the camera's "
            'clock.') in text(comparison)


def test_a_clock_that_is_set_back_leaves_everything_comparable():
    rows, changes = winding_road(POLICIES, 20.0, driving='agent')
    back = 3 * 10**9

    def moved(row):
        return row._replace(stamp_ns=row.stamp_ns - back, arrival_ns=row.arrival_ns - back,
                            frame_arrival_ns=row.frame_arrival_ns - back)

    late = [i for i, row in enumerate(rows) if row.stamp_ns >= ns(12)]
    rows = [*rows[:late[0]], *map(moved, rows[late[0]:])]
    comparison = compare(make_run(rows, [*changes[:2], changes[2] - back], DESCRIPTION))
    assert comparison.run.set_backs == 1
    assert (np.diff(comparison.run.stamps) > 0).all()
    assert [f.frames for f in comparison.figures.values()] == [600, 600]
    assert [f.classes['lost'] for f in comparison.figures.values()] == [0, 0]
    assert [f.response.counts for f in comparison.figures.values()] == [{1: 3}, {0: 3}]
    assert 'The clock was set back, or frames came again, 1 times;' in text(comparison)


def test_the_same_frames_again_are_further_frames():
    """A recording that is played twice in simulated time has the same stamps."""
    rows, _ = winding_road(POLICIES, 5.0)
    comparison = compare(make_run([*rows, *rows], [ns(2), ns(2)], DESCRIPTION))
    assert comparison.figures['agent'].frames == 300
    assert comparison.run.set_backs == 1
    assert comparison.run.changes == pytest.approx([2.0, comparison.run.stamps[150] + 2.0])


@pytest.mark.parametrize('arrivals, remark', [(AT_ARRIVAL, False), (WHEN_TAKEN, True)])
def test_how_arrivals_were_measured_is_said(arrivals, remark):
    comparison = comparison_of(seconds=2.0, description={
        **DESCRIPTION, 'arrivals': arrivals, 'versions': {'middleware': 'rmw_of_the_test'}})
    words = ' '.join(read(html_without_plots(comparison)).words)
    assert f'middleware rmw_of_the_test · arrivals measured {arrivals}' in words
    assert ('latencies include what a message waited' in text(comparison)) == remark


@pytest.mark.parametrize('plot', [error_against_latency, first_responses, latency_distribution])
def test_a_policy_has_one_colour_in_all_plots(plot):
    """The first of three never answered, and the colours of the others are theirs all the same."""
    comparison = comparison_of({'silent': {'latency': 0, 'lost': 1.0}, **POLICIES},
                               description={'policies': dict.fromkeys(('silent', *POLICIES))})
    figure = Figure()
    plot(figure, comparison)
    (axes,) = figure.axes
    for handle, label in zip(*axes.get_legend_handles_labels()):
        name = re.split(r'[ ,]', label)[0]
        artist = handle.patches[0] if hasattr(handle, 'patches') else handle[0] if isinstance(
            handle, tuple) else handle
        colour = artist.get_facecolor() if hasattr(artist, 'get_facecolor') else artist.get_color()
        assert to_hex(colour).upper() == style_of(comparison, name)['color']
    assert [style_of(comparison, name)['color'] for name in POLICIES] == list(COLOURS[1:3])


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


ODD = ('', '-1', '10', f'{10**30}', f'-{10**30}', f'{2**63 - 1}', 'nan', 'inf', '1e300', '1e999',
       'x', '"', '1_0', ' 5', '5.0', '٣', '\0', '1e-320', '1' * 5000)


@pytest.mark.slow
@examples(40)
@given(data=st.data())
def test_any_odd_value_anywhere_is_a_sentence_or_a_report(recorded, data):
    """Nothing that is written into a recording by hand ends in a traceback."""
    name = data.draw(st.sampled_from(['rows.csv', 'scene_changes.csv']))
    lines = (recorded / name).read_text().split('\n')
    for _ in range(data.draw(st.integers(1, 3))):
        line = data.draw(st.integers(0, len(lines) - 1))
        fields = lines[line].split(',')
        fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(st.sampled_from(ODD))
        lines[line] = ','.join(fields)
    with TemporaryDirectory() as name_of_copy:
        copy = Path(name_of_copy)
        for file in recorded.iterdir():
            (copy / file.name).write_text(file.read_text())
        (copy / name).write_text('\n'.join(lines))
        try:
            assert text(compare(read_run(copy)))
        except RecordingError as error:
            assert str(error).startswith(f"'{copy / name}'")


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp('recorded')
    record(folder, ['agent', 'baseline'], 1.0)
    return folder


def test_a_full_disk_leaves_no_report(tmp_path, capsys):
    record(tmp_path, ['agent', 'baseline'], 1.0)
    before = sorted(tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        assert main([str(tmp_path)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"report: '{tmp_path / 'report.html'}': File too large; make room" in (
        capsys.readouterr().err)
    assert sorted(tmp_path.iterdir()) == before


def test_the_report_of_an_arm_has_its_elements_and_their_units(tmp_path):
    arm = tuple(Element(name, unit) for name, unit in (
        ('joint_1', 'rad/s'), ('joint_2', 'rad/s'), ('grip, left', 'N')))
    writer = Writer(tmp_path, 100_000, arm)
    said = {'agent: frames': {'pattern': 'streaming', 'dropped missing joints': '12'}}
    rows = []
    for i in range(300):
        wanted = (0.1, 0.5 * math.sin(0.3 * i), -2.0)
        for name, late, error in (('agent', 2e-3, 0.01), ('baseline', 9e-3, 0.2)):
            command = tuple(one + error for one in wanted)
            rows.append(Row(ns(i * PERIOD), name, 0, ns(i * PERIOD + late), late, command, wanted,
                            ns(i * PERIOD + late), command, ns(i * PERIOD)))
    writer.put_rows(rows)
    writer.describe(DESCRIPTION | {
        'diagnostics': said, 'outputs': {element.name: element.unit for element in arm}})
    assert writer.close(5.0)
    header, first, *_ = (tmp_path / 'rows.csv').read_text().splitlines()
    assert header == (
        'stamp_ns,policy,update,arrival_ns,latency,joint_1,joint_2,"grip, left",'
        'reference_joint_1,reference_joint_2,"reference_grip, left",gated_arrival_ns,'
        'gated_joint_1,gated_joint_2,"gated_grip, left",frame_arrival_ns,lateral_error')
    assert first == (f'{ns(0)},agent,0,{ns(2e-3)},0.002,0.11,0.01,-1.99,0.1,0,-2,{ns(2e-3)},'
                     f'0.11,0.01,-1.99,{ns(0)},')
    comparison = compare(read_run(tmp_path))
    assert comparison.run.elements == arm
    said = text(comparison)
    assert re.search(r'^error joint_1 \[rad/s\] +0.0100 +0.2000$', said, re.MULTILINE)
    assert re.search(r'^error grip, left \[N\] +0.0100 +0.2000$', said, re.MULTILINE)
    assert re.search(r'^of all, an input was missing or too old +12 \(joints 12\) +0$', said,
                     re.MULTILINE)
    assert ('The error in effect of agent (streaming) was 95 % smaller: 0.010 instead of 0.200 N '
            'of grip, left') in said
    assert 'agent moved the robot; the others answered the same frames' in said
    assert not re.search('yaw|speed|lane|camera saw', said)
    page = html(comparison)
    assert 'joint_2 in effect [rad/s]' in page and 'error in effect, joint_2' in page
    assert not re.search('yaw rate|lateral', page)


def test_a_header_without_any_element_is_refused(tmp_path):
    record(tmp_path, ['agent'], 1.0)
    path = tmp_path / 'rows.csv'
    lines = path.read_text().splitlines()
    lines[0] = 'stamp_ns,policy,update,arrival_ns,latency,gated_arrival_ns,frame_arrival_ns,' + (
        'lateral_error')
    path.write_text('\n'.join(lines) + '\n')
    with pytest.raises(RecordingError, match='the first line names the columns stamp_ns,policy'):
        read_run(tmp_path)
