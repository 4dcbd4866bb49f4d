"""The study on recordings: its figures, and that nobody learns what is held out."""

import json

import numpy as np
import pytest
from studies import driving
from studies.__main__ import main
from support.recordings_files import raw, stamps, twist_stamped, write
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

    def watched_answers(network, episode, *rest, **options):
        answered.append(episode.name)
        return answers(network, episode, *rest, **options)

    def watched_ridge(episodes, held_out):
        learnt.append(('ridge', {each.name for each in episodes}))
        answered.extend(each.name for each in held_out)
        return ridge(episodes, held_out)
    answers, ridge = driving.predict, driving.ridge
    monkeypatch.setattr(driving, 'Trainer', Watched)
    monkeypatch.setattr(driving, 'predict', watched_answers)
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
