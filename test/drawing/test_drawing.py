"""Pictures against the theory that they show, and files that are the same every time."""

from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given, settings, strategies
from matplotlib.colors import to_hex
from matplotlib.text import Annotation, Text
import numpy as np
from PIL import Image
import pytest
from stream_agent.drawing.drives_picture import (
    Curve, draw_curves, draw_drives, draw_robustness, Panel)
from stream_agent.drawing.graph_picture import draw_graph, headline
from stream_agent.drawing.plot_style import CONE, DPI, DrawingError, save, SEEN
from stream_agent.drawing.steps_animation import animate_update_steps, update_states
from stream_agent.drawing.tradeoff import draw_tradeoff, KINDS, TradeoffPoint
from stream_agent.drawing.window_picture import (
    check_window, common_rows, draw_influence, draw_window, edge_curves, grid, window_edges)
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.patterns import (
    read_newest_image, sequential_pattern, streaming_pattern, update_order)
from stream_agent.theory.rollout import (
    inference_tableau, response_cone, rollout_window, window_nodes)
from support.curves import sample
from support.graphs import bare_graph, EVERY_LAYER, FF, FIGURE_2, SR

pytestmark = pytest.mark.thorough

SLOW = with_schedule(SR, {'h2': (3, 1), 'out': (2, 0)})
GRAPHS = {'figure 2': FIGURE_2, 'SR': SR, 'FF': FF, 'multi-rate': SLOW}
SIZE = 4
PAIR = {'streaming': streaming_pattern(SR), 'sequential': sequential_pattern(SR)}


def every_pattern():
    """Return all valid patterns of the graphs."""
    return [pytest.param(graph, pattern, id=f'{name} {i}') for name, graph in GRAPHS.items()
            for i, pattern in enumerate(valid_patterns(graph))]


def some_patterns():
    """Return streaming, sequential, newest-image and a hybrid pattern of the graphs."""
    found = []
    for name, graph in GRAPHS.items():
        streaming, sequential = streaming_pattern(graph), sequential_pattern(graph)
        hybrid = sequential | dict.fromkeys(list(sequential)[1:2], 1)
        found += [pytest.param(graph, pattern, id=f'{name} {which}') for which, pattern in (
            ('streaming', streaming), ('sequential', sequential), ('hybrid', hybrid),
            ('newest', read_newest_image(graph, streaming)))]
    return found


def drawn(figure, name):
    """Return what a figure's first axes hold under a name: all paths of it."""
    return [path for collection in figure.axes[0].collections if collection.get_gid() == name
            for path in collection.get_paths()]


def fills(figure, colour):
    """Return the names of the collections that are filled with a colour."""
    return {collection.get_gid() for collection in figure.axes[0].collections
            if len(collection.get_facecolor())
            and to_hex(collection.get_facecolor()[0]).upper() == colour.upper()}


def texts_at(figure, places):
    """Return what is written in boxes."""
    found = {}
    for text in figure.axes[0].texts:
        for node, box in places.items():
            if np.allclose(text.get_position(), box[:2]):
                found[node] = text.get_text()
    return found


@pytest.mark.parametrize('graph, pattern', some_patterns())
def test_a_graph_shows_what_streams_and_what_answers(graph, pattern):
    figure = draw_graph(graph, pattern)
    streaming = sum(pattern.values())
    assert len(drawn(figure, 'streaming_edges')) == streaming
    assert len(drawn(figure, 'same_frame_edges')) == len(pattern) - streaming
    answering = {v for frame in range(1, graph.hyperperiod + 1)
                 for v in response_cone(graph, pattern, frame)}
    assert fills(figure, CONE) == {f'node_{v}' for v in answering}


def test_a_graph_says_what_is_in_it_and_nothing_else():
    figure = draw_graph(FF, streaming_pattern(FF), name='FF')
    assert {text.get_text() for text in figure.legends[0].texts} == {
        'streams: reads the frame before (R = 1)', 'response cone',
        'input: round ends; output: double border'}


def test_nodes_say_shape_and_rate():
    graph = with_schedule(EVERY_LAYER, {'edges': (4, 1)})
    figure = draw_graph(graph, streaming_pattern(graph))
    said = {text.get_text() for text in figure.axes[0].texts}
    assert {'image', '1×8×8', 'every 4 frames, +1', '4×5',
            'reshape, permute, linear, ...'} <= said


@pytest.mark.parametrize('graph, pattern', some_patterns())
def test_a_window_shows_tableau_edges_and_cones(graph, pattern):
    figure = draw_window(graph, pattern, SIZE)
    place = grid(graph, update_order(graph, pattern), SIZE)
    tableau = inference_tableau(graph, pattern, SIZE)
    assert texts_at(figure, place.boxes) == {
        node: str(tableau[node]) for node in window_nodes(graph, SIZE)}
    edges = window_edges(graph, pattern, SIZE)
    assert len(drawn(figure, 'streaming_edges')) == sum(edge.streams for edge in edges)
    assert len(drawn(figure, 'same_frame_edges')) == sum(not edge.streams for edge in edges)
    assert len(drawn(figure, 'cone')) == sum(
        len(response_cone(graph, pattern, i)) for i in range(1, SIZE + 1))


@pytest.mark.parametrize('graph, pattern', every_pattern())
def test_a_windows_edges_are_those_of_the_theory(graph, pattern):
    """Drawn from the frame in which they read; the theory's begin where the value was made."""
    made = [((graph.node(u).last_update(i), u), target) for (i, u), target, _ in
            window_edges(graph, pattern, SIZE)]
    assert sorted(made) == sorted(edge for edge in rollout_window(graph, pattern, SIZE)
                                  if edge[1][0] > 0)


@pytest.mark.parametrize('rows_of', [update_order, common_rows])
@pytest.mark.parametrize('graph, pattern', every_pattern())
def test_no_edge_of_a_window_crosses_a_node(graph, pattern, rows_of):
    place = grid(graph, rows_of(graph, pattern), SIZE)
    check_window_edges(graph, pattern, place)


@settings(max_examples=40, deadline=None)
@given(strategies.sets(strategies.tuples(strategies.integers(0, 8), strategies.integers(1, 8)),
                       max_size=20), strategies.integers(0, 2 ** 30))
def test_no_edge_of_a_window_crosses_a_node_whatever_the_graph(pairs, bits):
    edges = dict.fromkeys([f'v{i}->v{i + 1}' for i in range(8)] + [
        f'v{i}->v{j}' for i, j in sorted(pairs)])
    graph = bare_graph(' '.join(edges), 'v8')
    # Any pattern that streams where edges lead back is valid.
    pattern = {(u, v): int(u >= v or bits >> i & 1)
               for i, (u, v) in enumerate(streaming_pattern(graph))}
    check_window_edges(graph, pattern, grid(graph, update_order(graph, pattern), 2))


def check_window_edges(graph, pattern, place):
    """Hold every edge of a window against every box of it."""
    boxes = np.array(list(place.boxes.values()))
    curves = edge_curves(place, pattern)
    for edge, points in curves.items():
        path = sample(points)
        # An input's edge begins on the round end of its box, within the corner.
        path = path[2:] if edge.source[1] in graph.inputs else path
        assert not ((np.abs(path[:, :1] - boxes[:, 0]) < boxes[:, 2] / 2 - 1e-6)
                    & (np.abs(path[:, 1:] - boxes[:, 1]) < boxes[:, 3] / 2 - 1e-6)).any()
        assert path[:, 0].max() <= place.width + 1e-6


def test_rows_of_several_patterns_do_without_marks():
    graph = bare_graph('a->b b->c c->b', 'c')
    assert common_rows(graph, streaming_pattern(graph)) == ['a', 'b', 'c']


def reached(graph, pattern, image, size):
    """Return the nodes of a window to which a path leads from an image."""
    found = {(image, name) for name in graph.inputs}
    edges = rollout_window(graph, pattern, size)
    for _ in range(len(window_nodes(graph, size))):
        found |= {target for source, target in edges if source in found}
    return found


@pytest.mark.parametrize('graph, pattern', some_patterns())
def test_influence_is_where_paths_of_the_window_lead(graph, pattern):
    size = 8
    figure = draw_influence(graph, {'it': pattern}, 1, size)
    found = reached(graph, pattern, 1, size)
    assert len(drawn(figure, 'dependent')) == len(found)
    late = min(i for i, name in found if name == graph.output) - 1
    when = 'in the same frame' if late == 0 else f"{late} frame{'s' if late > 1 else ''} later"
    step = inference_tableau(graph, pattern, size)[1 + late, graph.output]
    assert f'it: first response {when}, update step {step}' in {
        text.get_text() for text in figure.axes[0].texts}
    assert len(drawn(figure, 'first_response')) == 1


def test_a_window_may_end_before_the_response():
    figure = draw_influence(SR, PAIR, 1, 2)
    assert 'streaming: no response in this window' in {
        text.get_text() for text in figure.axes[0].texts}
    assert len(drawn(figure, 'first_response')) == 1


@pytest.mark.parametrize('graph, pattern', every_pattern())
def test_update_states_are_there_when_the_tableau_says(graph, pattern):
    tableau = inference_tableau(graph, pattern, SIZE)
    states = list(update_states(graph, pattern, SIZE))
    for k, state in enumerate(states):
        assert state == {node: tableau[node] <= k for node in window_nodes(graph, SIZE)}
    assert len(states) == 1 + max(tableau.values())


def test_the_animation_counts_steps_and_ends_with_a_pause(tmp_path):
    path = tmp_path / 'steps.gif'
    animate_update_steps(SR, PAIR, SIZE, path, 'SR')
    durations, dark = [], []
    with Image.open(path) as image:
        for k in range(image.n_frames):
            image.seek(k)
            frame = np.asarray(image.convert('RGB')).astype(int)
            assert (frame[2, 2] == 255).all()
            durations.append(image.info['duration'])
            dark.append(int((np.abs(frame - (0, 114, 178)).max(axis=2) < 25).sum()))
    # The sequential rollout of SR takes 6 update steps for four frames.
    assert durations == [900] * 6 + [4000]
    new = [sum(list(inference_tableau(SR, pattern, SIZE).values()).count(k)
               for pattern in PAIR.values()) for k in range(1, 7)]
    area = (dark[1] - dark[0]) / new[0]
    # The double border takes a little of an output's area.
    assert [round((pixels - dark[0]) / area) for pixels in dark[1:]] == new
    assert path.stat().st_size < 400_000


def test_an_animation_of_too_many_steps_is_refused(tmp_path):
    with pytest.raises(DrawingError) as error:
        animate_update_steps(SR, PAIR, 90, tmp_path / 'steps.gif')
    assert str(error.value) == ('window: 93 update steps are too many for an animation, over 80; '
                                'take a smaller window')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('size, sentence', [
    (0, 'window: 0 is not a size; the smallest is 1'),
    (9999, 'window: 40000 nodes and 50000 edges in frames 0 to 9999 are too many to draw; '
           'a window up to 999 has room')])
def test_a_window_that_cannot_be_drawn_is_refused(size, sentence):
    with pytest.raises(DrawingError) as error:
        draw_window(SR, streaming_pattern(SR), size)
    assert str(error.value) == sentence


def test_the_largest_window_that_an_error_names_has_room():
    check_window(SR, 999)
    with pytest.raises(DrawingError):
        check_window(SR, 1000)


@pytest.mark.parametrize('pattern, expected', [
    (streaming_pattern(SR),
     'SR: streaming rollout, F = 1, first response in frame 2 after 2 update steps'),
    (read_newest_image(SR, streaming_pattern(SR)),
     'SR: streaming, newest image rollout, F = 1, first response in frame 2 after 2 update steps'),
    (sequential_pattern(SR),
     'SR: sequential rollout, F = 3, first response in frame 1 after 3 update steps'),
    (sequential_pattern(SR) | {('h1', 'out'): 1},
     'SR: hybrid rollout, F = 3, first response in frame 1 after 3 update steps')])
def test_titles_say_pattern_factor_and_response(pattern, expected):
    assert headline(SR, pattern, 'SR') == expected


@pytest.mark.slow
@pytest.mark.parametrize('picture', [
    lambda: draw_graph(SR, PAIR['streaming'], 'SR'),
    lambda: draw_window(SLOW, PAIR['sequential'], SIZE, 'SR'),
    lambda: draw_influence(SR, PAIR, 1, SIZE, 'SR'),
    lambda: draw_tradeoff(candidates(), 0.033, 'SR')],
    ids=['graph', 'window', 'influence', 'plan'])
def test_files_are_the_same_every_time_and_stand_alone(picture, tmp_path):
    for name in ('one', 'other'):
        figure = picture()
        for suffix in ('svg', 'png'):
            save(figure, tmp_path / f'{name}.{suffix}')
    for suffix in ('svg', 'png'):
        assert (tmp_path / f'one.{suffix}').read_bytes() == (
            tmp_path / f'other.{suffix}').read_bytes()
    svg = ElementTree.parse(tmp_path / 'one.svg').getroot()
    title, = svg.findall('{http://www.w3.org/2000/svg}title')
    assert title.text.startswith('SR')
    assert len(svg.findall('.//{http://www.w3.org/2000/svg}text')) > 4
    hrefs = [value for element in svg.iter() for key, value in element.attrib.items()
             if key.endswith('href')]
    assert all(href.startswith('#') for href in hrefs)


def candidates(count=0):
    """Return a few candidates, and more of a cloud of hybrid ones."""
    random = np.random.default_rng(0)
    return [
        TradeoffPoint('newest image', 'streaming', .004, .28, .004, .030, True, True, True),
        TradeoffPoint('streaming', 'streaming', .037, .31, .002, .030, True),
        TradeoffPoint('sequential', 'sequential', .030, .030, .030, .030, True, False, True),
        TradeoffPoint('course every 2', 'multi-rate', .004, .35, .004, .021, True, False, True),
        TradeoffPoint('2 updates', 'k updates', .05, .2, .05, .06, False)] + [
        TradeoffPoint(f'hybrid {i}', 'hybrid', age, 5 * age, age, .03, True, False, i % 5 == 0)
        for i, age in enumerate(random.uniform(.004, .06, count))]


def names_in(axes):
    """Return where the names of candidates stand, by name."""
    axes.figure.canvas.draw()
    return {text.get_text(): Text.get_window_extent(text) for text in axes.texts
            if isinstance(text, Annotation)}


@pytest.mark.slow
@pytest.mark.parametrize('count', [0, 30])
def test_names_in_a_plan_do_not_overlap(count):
    figure = draw_tradeoff(candidates(count), 0.033)
    for axes in figure.axes:
        names = names_in(axes)
        assert 'newest image' in names
        assert count or {'sequential', 'course every 2'} < set(names)
        for one, other in combinations(names.values(), 2):
            assert not one.overlaps(other)


def test_names_of_the_best_make_room_for_each_other():
    close = [TradeoffPoint(f'candidate {i}', 'hybrid', .02 + i * 1e-4, .2, .02, .02 + i * 1e-4,
                           True, i == 0, True) for i in range(5)]
    for axes in draw_tradeoff(close, 0.033).axes:
        names = names_in(axes)
        assert len(names) > 2
        for one, other in combinations(names.values(), 2):
            assert not one.overlaps(other)


def test_a_plan_shows_every_candidate_and_which_are_too_slow():
    figure = draw_tradeoff(candidates(), 0.033)
    for axes in figure.axes:
        marks = [line for line in axes.lines if line.get_marker() not in ('None', None)]
        rings = [line for line in marks if line.get_markersize() > 12]
        assert len(marks) == len(candidates()) + 1
        assert len(rings) == 1
        hollow = [line for line in marks if line not in rings
                  and line.get_markerfacecolor() == 'white']
        assert [line.get_marker() for line in hollow] == [KINDS['k updates'][0]]
    ages, durations = figure.axes
    assert sorted(line.get_xdata()[0] for line in durations.lines
                  if line.get_marker() == 's') == [pytest.approx(30)]
    assert [line.get_ydata()[0] for line in ages.lines
            if line.get_marker() == 's'] == [pytest.approx(30)]


@pytest.mark.parametrize('given, sentence', [
    ([], 'plan: no candidates to draw'),
    ([candidates()[0]._replace(kind='fast')],
     "plan: no kind 'fast'; kinds are streaming, sequential, hybrid, multi-rate, truncated, "
     'k updates, pipelined, staggered copies, frozen trunk')])
def test_a_plan_that_cannot_be_drawn_is_refused(given, sentence):
    with pytest.raises(DrawingError) as error:
        draw_tradeoff(given, 0.033)
    assert str(error.value) == sentence


def test_kinds_differ_without_colours():
    assert len({marker for marker, _ in KINDS.values()}) == len(KINDS)
    assert SEEN != CONE


LONG = 'a_very_long_name_that_somebody_has_chosen_for_a_layer'
CHAIN = bare_graph(f'{LONG}_0->{LONG}_1 {LONG}_1->{LONG}_2', f'{LONG}_2')


def inside(figure, text):
    """Return whether a text is not cut off at the border of its picture, in the bits of a PNG."""
    box, whole = text.get_window_extent(), figure.bbox
    return whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1


@pytest.mark.slow
@pytest.mark.parametrize('draw', [
    draw_graph, lambda *args: draw_window(*args[:2], 3, *args[2:]),
    lambda graph, pattern, name: draw_influence(graph, {'streaming': pattern}, 1, 3, name)])
@pytest.mark.parametrize('title', ['tiny', f'my_${LONG}$_and_{LONG}'])
def test_nothing_is_cut_off_however_long_the_names_are(draw, title):
    for one in (CHAIN, bare_graph('a->b', 'b')):
        figure = draw(one, streaming_pattern(one), title)
        figure.set_dpi(DPI)
        figure.draw_without_rendering()
        texts = [*figure.texts, *figure.legends[0].texts, *figure.axes[0].texts]
        assert all(inside(figure, text) for text in texts)
        # As it is called, and not a formula.
        assert title in figure.texts[0].get_text()
        assert not figure.texts[0].get_parse_math()


def test_a_layer_s_name_ends_before_its_first_box():
    figure = draw_window(CHAIN, streaming_pattern(CHAIN), 2)
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    ends = [text.get_window_extent().x1 for text in axes.texts if LONG in text.get_text()]
    first = min(text.get_window_extent().x0 for text in axes.texts if text.get_text() == '0')
    assert len(ends) == 3
    assert max(ends) < first


def test_drives_of_policies_with_long_names_leave_room_for_the_bars():
    rows = [{'driver': f'{LONG}_{i}', 'lateral_rms': 0.01, 'departures': 0, 'laps': 3.0,
             'latency': 0.0, 'newest': 0.1, 'deep': 0.2, 'rate': 30.0, 'rms_ratio': (1, 0.9, 1.1)}
            for i in range(7)]
    figure = draw_drives(rows, f'lockstep with costs from {LONG} and {LONG}, and more than that')
    figure.draw_without_rendering()
    widths = [axes.get_position().width for axes in figure.axes]
    assert min(widths) > 0.1
    assert inside(figure, figure._suptitle)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(set(labels)) == 7
    # Nothing of all of them is still an axis that begins at zero.
    assert figure.axes[1].get_xlim() == (0.0, 1.0)


def robustness_rows(**more):
    return [{'driver': driver, 'pass_periods': passes, 'jitter': jitter, 'drop_bursts': 0.0,
             'lateral_rms': 0.01 * passes + jitter, 'departures': 0, 'laps': 0.0, 'jerk': 2.0,
             'reversals': 1.0} | more for passes in (1.6, 3.2) for jitter in (0.0, 0.3)
            for driver in ('one', 'other')]


def test_curves_of_drives_are_what_the_rows_say():
    figure = draw_robustness(robustness_rows(), 'a computer')
    titles = [axes.get_title(loc='left') for axes in figure.axes]
    assert titles == ['lateral RMS [mm]', 'lane departures [a lap]', 'jerk [m/s³]',
                      'reversals [a second]']
    lines = figure.axes[0].lines
    assert [[(x, round(y)) for x, y in line.get_xydata()] for line in lines] == 2 * [
        [(1.6, 16), (3.2, 32)], [(1.6, 316), (3.2, 332)]]
    # Colour and marker tell policies apart, dashes and hollow markers what was disturbed.
    looks = [(line.get_color(), line.get_marker(), line.is_dashed(),
              to_hex(line.get_markerfacecolor()) == '#ffffff') for line in lines]
    assert [look[2:] for look in looks] == 2 * [(False, False), (True, True)]
    assert looks[0][:2] == looks[1][:2] and looks[2][:2] == looks[3][:2]
    assert looks[0][0] != looks[2][0] and looks[0][1] != looks[2][1]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['one', 'other', 'disturbed']
    figure.draw_without_rendering()
    assert inside(figure, figure._suptitle)


def test_a_road_with_signs_has_its_scores_drawn():
    rows = robustness_rows(task_score=0.5, signs_obeyed=float('nan'))
    figure = draw_robustness(rows, 'a computer')
    assert [axes.get_title(loc='left') for axes in figure.axes][:2] == [
        'in lane, at the right speed [%]', 'signs obeyed [%]']
    assert list(figure.axes[0].lines[0].get_ydata()) == [50.0, 50.0]
    figure.draw_without_rendering()


def test_axes_begin_at_zero_unless_a_figure_is_below():
    curves = [[Curve('one', [(1.0, low), (2.0, 0.5)])] for low in (0.4, -0.3)]
    figure = draw_curves([Panel('any', '', each) for each in curves], 'a title', 'dashed')
    assert figure.axes[0].get_ylim()[0] == 0.0
    assert figure.axes[1].get_ylim()[0] < -0.3
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ['1', '2']
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['one']
