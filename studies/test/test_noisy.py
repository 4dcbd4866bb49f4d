"""The command: a tiny data set in true files is learnt, reported, gone on with, and refused."""

import csv
import json

import numpy as np
import pytest
from studies.__main__ import main
from studies.noisy.report import draw_curves
from studies.noisy.results import (
    collect, compared, Curve, differences, estimate, published_curves)
from studies.noisy.task import drawn, noisy
from support.data_files import write_mnist
import torch

pytestmark = [pytest.mark.usefixtures('one_thread'), pytest.mark.thorough]
SHORT = ['--networks', 'S', '--epochs', '6', '--batch', '40', '--workers', '1']


@pytest.fixture(scope='module')
def tried(tmp_path_factory, one_thread):
    """Return the data and the results of a first run."""
    folder = tmp_path_factory.mktemp('experiment')
    write_mnist(folder / 'data', train=160, test=100)
    assert call(folder, '--seeds', '2') == 0
    return folder


def call(folder, *arguments):
    return main(['noisy-mnist', '--data', str(folder / 'data'), '--output',
                 str(folder / 'results'), *SHORT, *arguments])


@pytest.mark.slow
def test_an_easy_task_is_learnt(tried):
    results = json.loads((tried / 'results' / 'results.json').read_text())
    curves = {curve['rollout']: curve for curve in results['curves']}
    assert [output['update_step'] for output in curves['streaming']['outputs']] == [*range(2, 10)]
    assert [output['update_step'] for output in curves['sequential']['outputs']] == [
        *range(3, 25, 3)]
    for curve in curves.values():
        assert curve['seeds'] == [1, 2]
        # Ten classes: chance is 0.1.
        assert curve['outputs'][-1]['mean'] > 0.5
    assert results['trainings'] == {'finished': 2 * 2, 'asked_for': 2 * 2}


def test_the_folder_has_text_numbers_and_pictures(tried):
    folder = tried / 'results'
    assert {path.name for path in folder.iterdir()} == {
        'summary.txt', 'results.json', 'curves.csv', 'curves', 'confusion', 'unfinished',
        'confusion_S.png', *(f'{stem}{suffix}' for stem in ('accuracy', 'accuracy_by_frame')
                             for suffix in ('.svg', '.png'))}
    assert list((folder / 'unfinished').iterdir()) == []
    rows = list(csv.DictReader((folder / 'curves.csv').open()))
    assert len(rows) == 2 * 2 * 8
    text = (folder / 'summary.txt').read_text()
    assert 'S streaming, 2 seeds' in text and '  published       45.6   59.4' in text
    assert '(published +11.1)' in text
    assert 'streaming, published' in (folder / 'accuracy.svg').read_text()


def test_matrices_count_every_test_clip(tried):
    results = json.loads((tried / 'results' / 'results.json').read_text())
    for matrices in results['confusion']:
        for which in ('new', 'old'):
            counts = np.array(matrices[which])
            assert (counts.sum(axis=2) == 2 * 10).all()


@pytest.mark.slow
def test_a_second_call_trains_what_is_missing(tried, capsys):
    kept = tried / 'results' / 'curves' / 'S_streaming_1.json'
    lost = tried / 'results' / 'curves' / 'S_streaming_2.json'
    before, time = lost.read_text(), kept.stat().st_mtime_ns
    lost.unlink()
    assert call(tried, '--seeds', '2', '--json') == 0
    assert kept.stat().st_mtime_ns == time
    found = capsys.readouterr()
    assert json.loads(found.out)['trainings']['finished'] == 4
    assert found.err.count('seed') == found.err.count('S streaming, seed 2') == 1
    # The same seed on one thread is the same training.
    assert json.loads(lost.read_text())['accuracy'] == json.loads(before)['accuracy']


def test_curves_of_another_schedule_are_not_mixed_in(tried, capsys):
    assert call(tried, '--seeds', '1', '--learning-rate', '0.5') == 1
    said = capsys.readouterr().err
    assert 'S_streaming_1.json: it comes from schedule' in said
    assert said.endswith('give another --output, or the same options\n')


def test_what_is_missing_is_said_before_the_training(tmp_path, capsys):
    assert call(tmp_path) == 1
    assert capsys.readouterr().err == (
        f'studies: {tmp_path}/data: it does not exist; give --data the folder with the data\n')
    assert call(tmp_path, '--rollouts', 'hybrid') == 1
    assert capsys.readouterr().err == 'studies: --rollouts: S have no rollout hybrid\n'
    with pytest.raises(SystemExit):
        call(tmp_path, '--epochs', '0')
    assert "'0' is not a number from 0.001 to 1e+06" in capsys.readouterr().err


def test_noise_is_new_in_every_frame_and_clipped():
    torch.manual_seed(0)
    frames = noisy(np.full((400, 1, 1, 8, 8), 51, np.uint8), 3, 0.5, torch.device('cpu'))
    assert frames.shape == (400, 3, 1, 8, 8)
    assert frames.min() == 0 and frames.max() == 1
    assert not torch.equal(frames[:, 0], frames[:, 1])
    # Of 0.2 + 0.5 n, below 0 is n < -0.4 and above 1 is n > 1.6.
    assert (frames == 0).float().mean() == pytest.approx(0.3446, abs=0.006)
    assert (frames == 1).float().mean() == pytest.approx(0.0548, abs=0.004)


def test_an_epoch_shows_every_clip_once():
    seen = np.concatenate([drawn(10, 4, 1, step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert not (seen[:10] == seen[10:]).all()
    assert (drawn(10, 4, 1, 3) == seen[12:16]).all()


def test_intervals_are_students():
    mean, low, high = estimate(np.array([1.0, 2.0, 3.0]))
    # t of 0.975 with two degrees of freedom is 4.3027; the standard error 1 / sqrt(3).
    assert (mean, low, high) == pytest.approx((2, 2 - 2.4841, 2 + 2.4841), abs=1e-4)
    assert np.isnan(estimate(np.array([1.0])).low)


def test_differences_pair_seeds_and_hold_outputs():
    """At update step 4 the streaming output of step 3 still holds."""
    fast = Curve('N', 'streaming', [2, 3, 4, 5], [2, 3, 5, 6], [1, 2],
                 np.array([[0.1, 0.5, 0.6, 0.7], [0.2, 0.6, 0.7, 0.8]]))
    slow = Curve('N', 'sequential', [1, 2, 3, 4], [4, 8, 12, 16], [2, 3],
                 np.array([[0.3, 0.4, 0.5, 0.6], [0, 0, 0, 0]]))
    found = compared({'streaming': fast, 'sequential': slow})
    assert {question: values.tolist() for question, values in found.items()} == {
        'streaming - sequential at update step 4': [pytest.approx(0.3)],
        'streaming - sequential, last 4 outputs': [pytest.approx(0.575 - 0.45)],
        'sequential - streaming by output, mean': [pytest.approx(0.45 - 0.575)]}


def test_every_network_has_axes_of_its_own(tmp_path):
    curves = [curve for curve in published_curves() if curve.network != 'SR']
    draw_curves(curves, [], [tmp_path / 'a.svg'])
    text = (tmp_path / 'a.svg').read_text()
    assert [text.count(f'>{name}<') for name in ('FF', 'S', 'DSR0', 'DSR6', 'SR')] == [
        1, 1, 1, 1, 0]
    assert text.count('>update step<') == 2 + 7


def test_the_published_differences_are_those_of_the_paper():
    published = published_curves()
    found = {(d.network, d.question): d.here.mean for d in differences(published, published)}
    assert found['SR', 'streaming - sequential at update step 3'] == pytest.approx(13.40)
    assert found['S', 'streaming - sequential, last 4 outputs'] == pytest.approx(11.6, abs=0.1)
    assert found['DSR6', 'streaming - sequential at update step 10'] == pytest.approx(13.09)
    assert len(collect([])) == 0
