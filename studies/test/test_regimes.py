"""The benchmark of regimes: its clock, its ages, its task, and where curves cross."""

import json
import time

import numpy as np
import pytest
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.theory.planning.costs import NodeCosts
from studies.__main__ import main
from studies.layout import layout
from studies.regimes.effect import (
    Drift, error_in_effect, fresh_network, MovingScene, readouts, sources_of_output, still_errors,
    train, watch, Watched, with_estimates)
from studies.regimes.picture import draw
from studies.regimes.rollouts import KINDS, rollouts
from studies.regimes.tables import (
    crossing, crossing_text, forecasts, Point, RolloutResult, tables)
from studies.regimes.timing import (
    answers, engine_of, EngineRun, go_on, make_engine, mean_ages, run_in_real_time, same_but_older)

pytestmark = pytest.mark.thorough

# A small policy: three layers in a chain, one of them recurrent, each read by the output.
CHAIN = with_estimates(graph_from_data({
    'nodes': {'image': {'shape': [3, 32, 40]},
              'first': {'channels': 4, 'activation': 'relu'},
              'second': {'channels': 4, 'activation': 'relu'},
              'third': {'channels': 4, 'activation': 'relu'},
              'command': {'shape': [2], 'activation': 'tanh'}},
    'edges': [
        {'source': 'image', 'target': 'first', 'transform': 'convolution', 'stride': 2},
        {'source': 'first', 'target': 'second', 'transform': 'convolution', 'stride': 2},
        {'source': 'second', 'target': 'third', 'transform': 'convolution'},
        {'source': 'third', 'target': 'third', 'transform': 'convolution', 'streams': True},
        *({'source': source, 'target': 'command', 'transform': 'readout', 'kernel': 4}
          for source in ('image', 'first', 'second', 'third'))],
    'output': 'command'}))
COSTS = NodeCosts({'first': 2.0, 'second': 2.0, 'third': 2.0, 'command': 1.0}, 0.5)
SOURCES = sources_of_output(CHAIN)
SCENE = MovingScene((3, 32, 40), 8)
IMAGES = [SCENE.image(frame) for frame in range(24)]


@pytest.fixture(scope='module')
def network():
    return fresh_network(CHAIN)


def ideal_run(candidate, periods):
    """Return a run that takes exactly as long as the planner says."""
    first = EngineRun(candidate.camera_period, np.array([0]), np.array([0.0]),
                      np.array([candidate.response_latency]), np.array([candidate.frame_cost]))
    return go_on(first, periods, 1)


@pytest.mark.parametrize('ratio', [0.1, 0.3, 0.7])
def test_ages_in_force_are_those_that_the_planner_expects(ratio):
    for kind, candidate in rollouts(CHAIN, COSTS, ratio).items():
        if kind != 'multi-rate':
            newest, deep = mean_ages(ideal_run(candidate, 50), candidate)
            assert (newest, deep) == pytest.approx((candidate.newest_age, candidate.oldest_age))


@pytest.mark.parametrize('ratio', [1.37, 2.71])
def test_ages_of_a_device_that_is_too_slow_are_those_that_the_planner_expects(ratio):
    for kind in ('sequential', 'streaming', 'hybrid'):
        candidate = rollouts(CHAIN, COSTS, ratio)[kind]
        run = ideal_run(candidate, 3000)
        assert run.dropped == pytest.approx(1 - 1 / ratio, abs=0.01)
        newest, deep = mean_ages(run, candidate)
        assert (newest, deep) == pytest.approx((candidate.newest_age, candidate.oldest_age),
                                               rel=0.02)


def test_waves_are_no_older_than_the_planner_says_of_the_worst():
    candidate = rollouts(CHAIN, COSTS, 0.7)['multi-rate']
    newest, deep = mean_ages(ideal_run(candidate, 50), candidate)
    assert newest == pytest.approx(candidate.newest_age)
    assert candidate.oldest_age - candidate.camera_period <= deep < candidate.oldest_age


@pytest.mark.parametrize('ratio, kinds', [
    (0.1, {*KINDS} - {'truncated'}), (1.5, {*KINDS} - {'k updates'})])
def test_all_rollouts_are_compared_that_there_are(ratio, kinds):
    assert set(rollouts(CHAIN, COSTS, ratio)) == kinds


def test_a_held_image_gets_no_updates_that_bring_nothing_new():
    candidate = rollouts(CHAIN, COSTS, 0.01)['k updates']
    assert candidate.updates_per_frame == 4
    assert candidate.ages.oldest == 0


@pytest.mark.parametrize('ratio', [0.3, 1.5])
def test_estimates_of_every_rollout_are_the_sequential_ones_only_older(network, ratio):
    reference = answers(make_engine(network, 'cpu'), IMAGES)
    for candidate in rollouts(CHAIN, COSTS, ratio).values():
        engine = engine_of(candidate, network, 'cpu')
        assert same_but_older(engine, candidate, SOURCES, IMAGES, reference)


def test_an_engine_that_runs_another_rollout_is_found_out(network):
    reference = answers(make_engine(network, 'cpu'), IMAGES)
    candidates = rollouts(CHAIN, COSTS, 0.3)
    engine = engine_of(candidates['streaming'], network, 'cpu')
    assert not same_but_older(engine, candidates['hybrid'], SOURCES, IMAGES, reference)


@pytest.mark.real_time
def test_the_newest_frame_wins_and_the_others_are_counted():
    def step(frame):
        time.sleep(0.010)
        answered = time.perf_counter()
        time.sleep(0.015)
        return answered, time.perf_counter()

    run = run_in_real_time(step, 0.010, 8)
    assert (np.diff(run.frames) >= 2).all()
    assert run.dropped > 0.5
    # The newest frame is not older than a period when it is taken.
    assert np.median(run.begins - run.frames * 0.010) < 0.010
    assert run.latency >= 0.010


def test_an_engine_that_is_free_waits_for_the_stamp():
    def step(frame):
        return time.perf_counter(), time.perf_counter()

    run = run_in_real_time(step, 0.005, 8)
    assert (np.diff(run.frames) >= 1).all()
    assert (run.begins >= run.frames * 0.005).all()


def test_a_run_goes_on_with_its_durations_in_order():
    run = EngineRun(1.0, np.arange(2), np.array([0.0, 1.0]), np.array([0.1, 1.2]),
                    np.array([0.3, 2.5]))
    long = go_on(run, 5, 2)
    assert long.frames.tolist() == [0, 1, 2, 3, 4, 5]
    assert long.begins == pytest.approx([0, 1, 2.5, 3, 4.5, 5])
    assert long.answers - long.begins == pytest.approx([0.1, 0.2] * 3)


def test_a_slow_scene_is_a_fast_one_seen_slowly():
    fast, slow = (Drift(slowness, np.random.default_rng(3)) for slowness in (4, 12))
    moments = np.linspace(0, 50, 200)
    np.testing.assert_allclose(slow.at(3 * moments), fast.at(moments))
    assert np.abs(fast.at(moments)).max() < 1


def watched_perfectly(scene, frames, noise=0.0):
    """Return estimates of the sign's place that are right but for noise."""
    drawn = watch(FirstPixel(), scene, frames)
    place = drawn.truth[::len(drawn.truth) // frames]
    random = np.random.default_rng(0)
    return Watched(place[:, None] + noise * random.standard_normal((frames, len(SOURCES))),
                   drawn.truth)


class FirstPixel:
    """Stands where an engine would: nothing of a picture counts here."""

    def reset(self):
        pass

    def step(self, image):
        return image[0, 0, :len(SOURCES)]


def test_the_error_in_effect_grows_with_age_and_noise_and_ends_at_saying_middle():
    candidates = rollouts(CHAIN, COSTS, 0.02)
    sequential = candidates['sequential']
    run = ideal_run(sequential, 1200)
    watched = watched_perfectly(SCENE, 1200)
    late = EngineRun(run.period, run.frames, run.begins, run.answers + 2 * run.period, run.ends)
    noisy = watched_perfectly(SCENE, 1200, noise=0.3)
    blind = watched_perfectly(SCENE, 1200, noise=1000.0)
    prompt, old, unsure, none = (error_in_effect(*found) for found in (
        (run, sequential, SOURCES, watched), (late, sequential, SOURCES, watched),
        (run, sequential, SOURCES, noisy), (run, sequential, SOURCES, blind)))
    assert prompt < 0.1 < old < 0.5
    assert prompt < unsure < none
    assert none == pytest.approx(1, abs=0.1)


def test_training_improves_estimates_and_keeps_them_apart():
    network = fresh_network(CHAIN)
    random = np.random.default_rng(5)
    stills = [SCENE.still(random) for _ in range(100)]
    before = still_errors(network, stills)[0].item()
    train(network, SCENE, 30)
    assert still_errors(network, stills)[0].item() < before / 2
    for i, weights in enumerate(readouts(network)):
        for weight in weights:
            assert weight[i].abs().sum() > 0
            assert weight.abs().sum() == weight[i].abs().sum()
    memory = network.transforms['third-third'].parameters()
    assert all(weight.abs().sum() == 0 for weight in memory)


@pytest.mark.parametrize('values, expected', [
    ((0.5, 0.5, 0.5), 1.0), ((2.0, 2.0, 2.0), None), ((2.0, 0.5, 2.0), None),
    ((2.0, 2.0, 0.5), 200 ** 0.5), ((1.0, 0.5, 0.5), 1.0), ((0.5, 0.5, 1.0), None)])
def test_where_a_curve_crosses_for_good(values, expected):
    found = crossing([Point(ratio, 3 * value, 3) for ratio, value in zip((1, 10, 20), values)])
    assert found == (pytest.approx(expected) if expected else None)


def test_crossings_are_written_in_words():
    better, worse = [Point(0.02, 1, 2), Point(2, 1, 2)], [Point(0.02, 2, 1), Point(2, 2, 1)]
    assert crossing_text(better, 0.02) == 'everywhere'
    assert crossing_text(worse, 0.02) == 'nowhere'
    assert crossing_text([worse[0], better[1]], 0.02) == '0.2'
    # A rollout that begins later is better from there on.
    assert crossing_text(better[1:], 0.02) == '2'
    assert crossing_text([], 0.02) == '-'


def test_tables_for_people_and_for_pages():
    rows = [['ratio', 'streaming'], ['0.02', '1']]
    assert layout(rows, markdown=False) == ['ratio  streaming', '0.02   1']
    assert layout(rows, markdown=True) == ['| ratio | streaming |', '|---|---|', '| 0.02 | 1 |']


@pytest.mark.slow
def test_what_was_measured_stands_next_to_what_was_forecast(tmp_path):
    cells = [RolloutResult(ratio, kind, candidate, True,
                           [forecasts(candidate)._replace(errors=(error,))
                            for error in (0.2, 0.3, 0.9)])
             for ratio in (0.1, 2) for kind, candidate in rollouts(CHAIN, COSTS, ratio).items()]
    lines = tables(cells, CHAIN, COSTS, ['a scene'], markdown=False)
    assert '0.1    sequential  sequential' in lines
    assert '0.1    0.60 (0.60)  0.52 (0.52)' in '\n'.join(lines)
    assert '2      1 (0.300)   1.00' in '\n'.join(lines)
    draw(cells, CHAIN, COSTS, ['a scene'], tmp_path / 'regimes.svg')
    assert 'Age of the deep information in force' in (tmp_path / 'regimes.svg').read_text()


@pytest.mark.real_time
def test_the_command_measures_all_rollouts_and_finds_their_outputs_right(tmp_path, capsys):
    assert main(['regimes', '--quick', '--ages-only', '--ratios', '2', '--json', '--draw',
                 str(tmp_path / 'regimes.svg')]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['outputs_equal'] and found['scenes'] == [] and (tmp_path / 'regimes.svg').exists()
    assert [cell['kind'] for cell in found['cells']] == [
        kind for kind in KINDS if kind != 'k updates']
    assert all(cell['latency'] > 0 and cell['deep'] >= cell['newest'] for cell in found['cells'])
