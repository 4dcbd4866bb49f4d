"""Agreement in effect: late answers to recorded drives, against what is computed by hand."""

import json

import numpy as np
import pytest
from stream_agent.cli.compare import main
from stream_agent.cli.effect import agreement_in_effect, judged, unlearnt
from stream_agent.driving.compute_model import ComputeModel, EmulatedRollout, timings
from stream_agent.network.checkpoint import save_policy
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading
from stream_agent.recordings.sources import open_recordings
from stream_agent.theory.patterns import sequential_pattern, streaming_pattern
from support.recordings_files import drive, raw, stamps, twist_stamped, write
from test_compare import bag, brightness, MEMORY, PLAIN, policy_of

pytestmark = pytest.mark.usefixtures('one_thread')

COUNT = 40
YAW_RATES = np.array([brightness(i) / 255 - 0.5 for i in range(COUNT)])


def effect_of(path, policy, passes):
    """Return the agreements of one policy without delay, and on a computer."""
    network = policy.network
    runs = [EmulatedRollout('one', network.graph, network.pattern)]
    timing = timings(runs, ComputeModel(pass_periods=passes), 0.05)
    return agreement_in_effect(open_recordings([path], Reading()), {'one': policy},
                               [(passes, timing)], Alignment())


@pytest.mark.parametrize('passes, in_force', [
    # Out within the period; just when the next image comes; half a period after that.
    (0.5, [i - 1 for i in range(1, COUNT)]),
    (1.0, [i - 1 for i in range(1, COUNT)]),
    # Every second image is taken, and answered when the next one is taken.
    (2.0, [2 * (i // 2) - 2 for i in range(2, COUNT)]),
    # Images 0, 2, 5, 7, ... are taken at 0, 2.5, 5, 7.5, ...
    (2.5, [int(2.5 * (int(i / 2.5) - 1)) for i in range(3, COUNT)])])
def test_a_driver_s_own_answers_come_late(tmp_path, passes, in_force):
    bag(tmp_path / 'drive', stamps(COUNT))
    found = effect_of(tmp_path / 'drive', policy_of(PLAIN, sequential_pattern), passes)
    instants = range(COUNT - len(in_force), COUNT)
    assert (found.instants, found.recorded) == (len(in_force), COUNT)
    at_once, late = found.agreements
    assert at_once.rmse == pytest.approx((0, 0), abs=1e-6)
    assert at_once.r2[1] == pytest.approx(1.0)
    errors = YAW_RATES[in_force] - YAW_RATES[instants]
    assert late.rmse[1] == pytest.approx(np.sqrt(np.mean(errors ** 2)), rel=1e-5)
    assert late.r2[1] == pytest.approx(1 - np.mean(errors ** 2) / np.var(YAW_RATES[instants]),
                                       rel=1e-5)
    assert late.timing.figures.rate == pytest.approx(20 / max(1.0, passes), rel=0.01)


def test_a_streaming_policy_answers_an_older_image_and_has_no_first_answer(tmp_path):
    bag(tmp_path / 'drive', stamps(COUNT))
    found = effect_of(tmp_path / 'drive', policy_of(PLAIN, streaming_pattern), 2.0)
    # Images 0, 2, 4, ...: the answer to one is about the one before.
    instants = range(4, COUNT)
    errors = YAW_RATES[[2 * (i // 2) - 4 for i in instants]] - YAW_RATES[instants]
    assert found.instants == len(instants)
    assert found.agreements[1].rmse[1] == pytest.approx(np.sqrt(np.mean(errors ** 2)), rel=1e-5)


def test_memory_takes_one_step_for_every_image_that_is_taken(tmp_path):
    bag(tmp_path / 'drive', stamps(COUNT))
    found = effect_of(tmp_path / 'drive', policy_of(MEMORY, sequential_pattern), 3.0)
    answers, last = [], 0.0
    for image in range(0, COUNT, 3):
        answers.append(last := YAW_RATES[image] + 0.5 * last)
    instants = range(3, COUNT)
    errors = np.array([answers[i // 3 - 1] for i in instants]) - YAW_RATES[instants]
    assert found.agreements[1].rmse[1] == pytest.approx(np.sqrt(np.mean(errors ** 2)), rel=1e-5)


def test_memory_is_empty_after_a_gap(tmp_path):
    bag(tmp_path / 'once', stamps(10))
    bag(tmp_path / 'twice', [*stamps(10), *(t + 10 ** 10 for t in stamps(10))])
    policy = policy_of(MEMORY, sequential_pattern)
    once, twice = (effect_of(tmp_path / name, policy, 1.0) for name in ('once', 'twice'))
    assert (once.instants, once.recorded, twice.instants, twice.recorded) == (9, 10, 18, 20)


def test_a_constant_driver_tells_only_how_far_off_a_policy_is(tmp_path):
    frames = [(t, raw(t, np.full((12, 16), brightness(i), np.uint8), 'mono8'))
              for i, t in enumerate(stamps(COUNT))]
    write(tmp_path / 'drive', ('/camera', frames),
          ('/cmd_vel', [(t, twist_stamped(t, 0.5, 0.1)) for t in stamps(COUNT)]))
    found = effect_of(tmp_path / 'drive', policy_of(PLAIN, sequential_pattern), 1.0)
    assert all(np.isnan(one.r2).all() for one in found.agreements)
    assert found.agreements[1].rmse[1] == pytest.approx(
        np.sqrt(np.mean((YAW_RATES[:-1] - 0.1) ** 2)), rel=1e-5)


def test_the_ratio_to_the_first_is_paired_over_recordings():
    random = np.random.default_rng(3)
    recording = np.repeat(np.arange(8), 50)
    hard = random.lognormal(0.0, 1.0, 8)[recording]
    driver = random.normal(size=(400, 2))
    errors = hard[:, None] * random.normal(size=(400, 2))
    (*_, same), (*_, half) = judged(driver, [driver + errors, driver + 0.5 * errors], recording)
    assert same == pytest.approx((1.0, 1.0, 1.0)) and half == pytest.approx((0.5, 0.5, 0.5))
    _, (_, _, unknown) = judged(driver, [driver, driver], recording)
    assert np.isnan(unknown).all()


def test_recordings_from_which_no_policy_learnt_are_preferred(tmp_path):
    for i in range(4):
        bag(tmp_path / f'drive_{i}', stamps(3))
    recordings = open_recordings([tmp_path], Reading())

    def chosen(*trainings):
        found, said = unlearnt(recordings, {f'policy_{i}': policy_of(
            PLAIN, sequential_pattern, training=training) for i, training in enumerate(trainings)})
        return [recording.name[-1] for recording in found], said

    assert chosen({'recordings': ['drive_1']}, {'held_out': ['drive_0', 'drive_1']}) == (
        ['0'], ['1 of 4 recordings are used, from which no policy learnt.'])
    assert chosen({'recordings': []}) == (list('0123'), [])
    everything, said = chosen({'recordings': [f'drive_{i}' for i in range(4)]}, {})
    assert everything == list('0123')
    assert said == ['Policies learnt from all of these recordings, so the figures are better than '
                    'on new ones; give others, or train with --held-out.',
                    'The files do not say from which recordings policy_1 learnt.']


def policies_in(folder):
    for name, pattern in (('driver', sequential_pattern), ('late', streaming_pattern)):
        save_policy(folder / f'{name}.safetensors', policy_of(PLAIN, pattern))
    return ['--policy', str(folder / 'driver.safetensors'), str(folder / 'late.safetensors')]


def test_the_command_prints_and_draws_agreement_in_effect(tmp_path, capsys):
    for i in range(3):
        bag(tmp_path / 'bags' / f'drive_{i}', stamps(COUNT))
    words = ['--bag', str(tmp_path / 'bags'), *policies_in(tmp_path), '--pass-periods', '1', '3']
    assert main([*words, '--plot', str(tmp_path / 'effect.svg')]) == 0
    said, errors = capsys.readouterr()
    assert '102 of 120 recorded instants count' in errors
    assert 'driver, late learnt' in errors
    header, *lines = said.splitlines()
    assert [line.split()[:2] for line in lines[:6]] == [
        [name, passes] for passes in ('no', '1', '3') for name in ('driver', 'late')]
    assert '3 recordings under an emulated serial device, 1, 3 camera periods a pass' in said
    picture = (tmp_path / 'effect.svg').read_text()
    assert 'R2 of the steering in effect' in picture and 'without delay' in picture
    assert main([*words, '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['camera_period'] == pytest.approx(0.05) and found['instants'] == 102
    rows = found['agreements']
    assert [(row['policy'], row['pass_periods']) for row in rows] == [
        (name, passes) for passes in (None, 1.0, 3.0) for name in ('driver', 'late')]
    assert rows[0]['steering_r2'] == pytest.approx(1.0) and rows[0]['speed_r2'] is None
    # The older the information, the worse.
    r2 = [row['steering_r2'] for row in rows]
    assert r2[0] > r2[2] > r2[4] > r2[5] and r2[1] > r2[3] > r2[5]
    assert rows[3]['steering_rmse_ratio'][0] == pytest.approx(
        rows[3]['steering_rmse'] / rows[2]['steering_rmse'])


@pytest.mark.parametrize('words, said', [
    (['--pass-periods', '2', '--pace', 'true'], '--pace: this is of a replay; leave it out'),
    (['--pass-periods', '2', '--backend', 'eager'], '--backend: this is of a replay'),
    (['--costs', 'costs.yaml', '--plot', 'a.svg'], 'add --pass-periods'),
    (['--pass-periods', '2', '--plot', 'a.txt'], "'a.txt' is neither .svg nor .png"),
    (['--plot', 'a.svg'], '--plot: this is of an emulated computer; add --pass-periods')])
def test_options_that_mean_nothing_are_refused(words, said, capsys):
    with pytest.raises(SystemExit):
        main(['--bag', 'bags', '--policy', 'one', *words])
    assert said in ' '.join(capsys.readouterr().err.split())


def test_recordings_that_are_over_before_an_answer_are_refused(tmp_path, capsys):
    drive(tmp_path / 'short', 4)
    words = ['--bag', str(tmp_path / 'short'), *policies_in(tmp_path)]
    assert main([*words, '--pass-periods', '9']) == 1
    assert 'no episode is so long that every policy has a command' in capsys.readouterr().err
    assert main([*words, '--pass-periods', '1']) == 0
