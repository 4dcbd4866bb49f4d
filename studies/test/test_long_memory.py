"""The long-memory task: what a sequence is, that it is learnt, and what is said of who won."""

import json

import pytest
from studies.__main__ import main
from studies.long_memory.command import Contests, ContestsError, ratios, table
from studies.long_memory.task import (
    Classifier, contest, CONTESTANTS, MemoryContest, MemoryTask, sequences)
import torch

pytestmark = pytest.mark.usefixtures('one_thread')
TINY = MemoryTask(length=12, hidden=16, layers=1, batch=32, learning_rate=0.03, limit=20)


def test_a_sequence_begins_with_its_class_and_never_says_it_again():
    vectors, classes = sequences(MemoryTask(50, batch=40), 1, 0, torch.device('cpu'))
    assert vectors.shape == (40, 50, 128)
    assert (vectors[:, 0, 0] == 2 * classes - 1).all() and 0 < classes.sum() < 40
    assert (vectors[:, 0, 1:] == 0).all() and (vectors[:, 1:, 0] == 0).all()
    assert (vectors[:, 1:].sum(dim=2) == 1).all() and (vectors[:, 1:].max(dim=2).values == 1).all()
    again, _ = sequences(MemoryTask(50, batch=40), 1, 0, torch.device('cpu'))
    other, _ = sequences(MemoryTask(50, batch=40), 1, 1, torch.device('cpu'))
    assert torch.equal(vectors, again) and not torch.equal(vectors, other)


# As torch starts its LSTM, even twelve vectors are too many for a test.
@pytest.mark.parametrize('name', [name for name in CONTESTANTS if name != 'lstm-as-is'])
def test_every_contestant_converges_on_a_short_memory(name):
    done = contest(name, TINY, seed=1)
    assert done.converged and done.minibatches >= 5
    # A new network on sequences it has not seen.
    assert done == contest(name, TINY, seed=1)._replace(seconds=done.seconds)


@pytest.mark.parametrize('name, comes_back', [
    ('gilr', True), ('gilr-lstm', True), ('lstm', True), ('lstm-as-is', False)])
def test_a_gradient_comes_back_over_a_thousand_vectors(name, comes_back):
    """With gates at 1/2 it is 0, in float32."""
    task = MemoryTask(1000, hidden=16, batch=2)
    vectors, _ = sequences(task, 1, 0, torch.device('cpu'))
    vectors.requires_grad_(True)
    Classifier(name, task, 1)(vectors)[:, 1].sum().backward()
    assert (vectors.grad[:, 0].abs().max() > 1e-6) == comes_back


def test_who_does_not_converge_within_the_limit_is_told_so():
    done = contest('lstm', MemoryTask(400, hidden=8, batch=2, learning_rate=1e-6, limit=0.2), 1)
    assert not done.converged and 0.2 < done.seconds < 5
    assert 'did not converge within 0.2 s' in table(MemoryTask(400, limit=0.2), [done])


def test_ratios_are_bounds_where_the_lstm_did_not_converge():
    def one(name, seed, seconds, converged=True):
        return MemoryContest(name, seed, converged, 10, seconds, 1)

    contests = [one('gilr', 1, 2), one('lstm', 1, 8), one('gilr', 2, 1), one('lstm', 2, 16)]
    assert ratios(contests) == [{
        'contestant': 'gilr', 'reference': 'lstm', 'ratio': pytest.approx(8),
        'of_each_seed': [4, 16], 'at_least': False}]
    contests[3] = one('lstm', 2, 16, converged=False)
    assert [found['at_least'] for found in ratios(contests)] == [True]
    assert table(TINY, contests).endswith('gilr converges at least 8.0 times as fast as lstm')
    contests.append(one('lstm-as-is', 2, 4))
    assert ratios(contests)[1]['ratio'] == 4
    contests[0] = one('gilr', 1, 2, converged=False)
    # Of seed 1 there is nothing to compare with lstm-as-is.
    assert [found['reference'] for found in ratios(contests)] == ['lstm-as-is']


def test_the_command_keeps_what_is_over(tmp_path, capsys):
    command = ['long-memory', '--length', '10', '--hidden', '8', '--layers', '1', '--limit', '9',
               '--learning-rate', '0.03', '--output', str(tmp_path)]
    assert main([*command, '--contestants', 'gilr']) == 0
    first = json.loads((tmp_path / 'results.json').read_text())['contests']
    assert main([*command, '--contestants', 'gilr', 'lstm', '--json']) == 0
    found = capsys.readouterr()
    data = json.loads(found.out[found.out.index('{'):])
    assert data['contests'][0] == first[0]
    assert [one['contestant'] for one in data['contests']] == ['gilr', 'lstm']
    assert found.err.count('gilr, seed 1') == 1
    assert main([*command, '--hidden', '9']) == 1
    assert 'give another --output, or add --fresh' in capsys.readouterr().err


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / 'a.json').write_text('{"task": 3}')
    with pytest.raises(ContestsError, match='it is not a file of contests'):
        Contests(tmp_path / 'a.json', TINY)
