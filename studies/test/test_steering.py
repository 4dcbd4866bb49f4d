"""The study on recordings: its figures, and that nobody learns what is held out."""

import json

import numpy as np
import pytest
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.learning.cloning import r2_score
from stream_agent.learning.settings import CloningSchedule, TrainerOptions
from stream_agent.learning.trainer import Trainer
from stream_agent.learning.window_sampler import RecordedEpisode
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import sequential_pattern
from studies import driving
from studies.__main__ import main
from support.recordings_files import raw, stamps, twist_stamped, write
import torch
import yaml

pytestmark = pytest.mark.usefixtures('one_thread')
GRAPH = {
    'nodes': {'image': {'shape': [3, 6, 8]}, 'command': {'shape': [2], 'activation': 'tanh'}},
    'edges': ['image->command', {'source': 'command', 'target': 'command', 'streams': True}],
    'output': 'command'}
NAMES = {f'drive_{i}' for i in range(5)}


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
    """Record drivers who steer by the brightness of the left half."""
    folder, generator = tmp_path_factory.mktemp('drives'), np.random.default_rng(0)
    for name in sorted(NAMES):
        times, left = stamps(24), generator.integers(0, 255, 24)
        pixels = np.full((24, 12, 16, 3), 90, np.uint8)
        pixels[:, :, :8] = left[:, None, None, None]
        write(folder / 'bags' / name,
              ('/camera', [(t, raw(t, image)) for t, image in zip(times, pixels)]),
              ('/cmd_vel', [(t, twist_stamped(t, 0.5, value / 255 - 0.5))
                            for t, value in zip(times, left.tolist())]))
    (folder / 'graph.yaml').write_text(yaml.safe_dump(GRAPH))
    return ['--data', str(folder / 'bags'), '--graph', str(folder / 'graph.yaml'),
            '--cache', str(folder / 'cache'), '--streams', '4', '--quick', '--json']


@pytest.fixture
def seen(monkeypatch):
    """Write down which recordings each policy learns from, and which it answers."""
    learnt, answered = [], []

    class Watched(driving.Trainer):

        def run(self, report=None):
            learnt.append((self.learner.label, {each.name for each in self.learner.episodes}))
            return super().run(report)

    def watched(predict):
        def watched_answers(network, episode, *rest):
            answered.append(episode.name)
            return predict(network, episode, *rest)
        return watched_answers

    def watched_ridge(episodes, held_out):
        learnt.append(('ridge', {each.name for each in episodes}))
        answered.extend(each.name for each in held_out)
        return ridge(episodes, held_out)
    ridge = driving.ridge
    monkeypatch.setattr(driving, 'Trainer', Watched)
    for name in ('predict', 'predict_alone'):
        monkeypatch.setattr(driving, name, watched(getattr(driving, name)))
    monkeypatch.setattr(driving, 'ridge', watched_ridge)
    return learnt, answered


def test_four_policies_on_recordings_that_none_of_them_learnt(arguments, seen, capsys):
    assert main(['driving', *arguments]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures['policies']) == ['streaming', 'sequential', 'plain CNN', 'ridge']
    for policy in figures['policies'].values():
        assert np.isfinite([policy['r2'], *policy['r2_by_fold'], *policy['interval']]).all()
        assert policy['r2_by_fold'] == [policy['r2']] and policy['r2'] < 1
    assert figures['policies']['ridge']['r2'] > 0.8
    assert set(figures['differences']) == {'streaming - sequential', 'streaming - plain CNN',
                                           'streaming - ridge'}
    learnt, answered = seen
    assert [name for name, _ in learnt] == list(figures['policies'])
    (held_out,) = set(answered)
    assert len(answered) == 4
    assert all(names == NAMES - {held_out} for _, names in learnt)


def columns(length, seed, late):
    """Make frames with a bright column, and steer by the column of ``late`` frames before."""
    seen = np.random.default_rng(seed).integers(0, 8, length)
    pixels = np.zeros((length, 3, 6, 8), np.uint8)
    pixels[np.arange(length), :, :, seen] = 255
    steering = np.roll((seen - 3.5) / 4, late)
    return RecordedEpisode('', {'image': pixels}, np.arange(length),
                           np.stack([np.full(length, 0.5), steering], 1).astype(np.float32))


@pytest.mark.parametrize('late', [0, 1])
def test_single_frames_teach_only_what_is_in_the_frame(late):
    torch.manual_seed(3)
    graph = graph_from_data(GRAPH)
    network = RolloutNetwork(graph, sequential_pattern(graph))
    schedule = CloningSchedule(epochs=15, streams=6, window=12, learning_rate=0.02)
    learner = driving.FrameLearner(
        network, Preprocessing((3, 6, 8)), CommandScale(1.0, 1.0),
        [columns(60, seed, late) for seed in range(12)], schedule, None, seed=5)
    Trainer(learner, TrainerOptions(learner.steps, 0.02, quiet=True), None).run()
    held_out = columns(60, 99, late)
    score = r2_score(held_out.targets, driving.predict_alone(network, held_out))[driving.STEERING]
    assert score > 0.8 if late == 0 else score < 0.2
