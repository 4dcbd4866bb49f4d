"""The loop of every training: the same by several processes, and after it was killed."""

from dataclasses import replace
import io
import json
import math
import multiprocessing
import os
from pathlib import Path
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from stream_agent.bounded_settings import SettingsError
from stream_agent.learning import distributed, progress
from stream_agent.learning.progress import ProgressError
from stream_agent.learning.resume import ResumeError
from stream_agent.learning.settings import TrainerOptions, TrainingError
from stream_agent.learning.trainer import Trainer
from stream_agent.network.checkpoint import load_policy
from support import trainer_job
from support.trainer_job import OPTIONS, stop, Summing, weights
import torch

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(scope='module')
def unbroken(one_thread):
    """Return a learner that was trained without a stop, and how that went."""
    learner = Summing(dropout=0.2)
    return learner, Trainer(learner, OPTIONS, None).run()


def test_the_loss_falls_and_the_same_seed_gives_the_same_curve(unbroken):
    learner, outcome = unbroken
    assert outcome.finished and outcome.step == OPTIONS.steps == len(outcome.losses)
    assert np.mean(outcome.losses[-8:]) < 0.6 * np.mean(outcome.losses[:8])
    again = Summing(dropout=0.2)
    assert Trainer(again, OPTIONS, None).run().losses == outcome.losses
    assert weights(again) == weights(learner)
    other = Summing(dropout=0.2)
    assert Trainer(other, replace(OPTIONS, seed=4), None).run().losses != outcome.losses


@pytest.mark.child_process
def test_after_a_kill_it_goes_on_as_if_nothing_had_happened(unbroken, tmp_path):
    learner, outcome = unbroken
    victim = multiprocessing.get_context('spawn').Process(
        target=trainer_job.be_killed, args=(tmp_path, 17))
    victim.start()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
    taken = []
    resumed = Summing(dropout=0.2)
    trainer = Trainer(resumed, OPTIONS, tmp_path)
    result = trainer.run(lambda step, loss: taken.append(step))
    assert taken == list(range(17, OPTIONS.steps))
    assert result.losses == outcome.losses
    assert weights(resumed) == weights(learner)
    trainer.discard()
    assert not list(tmp_path.iterdir())


class Watched(Summing):
    """Notes before every gradient step the weights, and what torch would draw."""

    def prepare(self, step):
        state = torch.get_rng_state()
        self.seen.append((self.network[0].weight.detach().clone(), torch.rand(1).item()))
        torch.set_rng_state(state)
        return True

    def __init__(self):
        super().__init__()
        self.seen = []


@pytest.mark.parametrize('decay, least, most', [('cosine', 0, 0.02), ('none', 0.1, 1.1)])
def test_steps_become_smaller_and_each_draws_anew(decay, least, most):
    learner = Watched()
    Trainer(learner, replace(OPTIONS, decay=decay), None).run()
    weights, drawn = zip(*learner.seen)
    changes = [(after - before).abs().max().item()
               for before, after in zip(weights, [*weights[1:], learner.network[0].weight])]
    assert changes[0] == pytest.approx(OPTIONS.learning_rate, rel=0.02)
    assert least < changes[-1] / changes[0] < most
    assert len(set(drawn)) == OPTIONS.steps


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_ends_it_between_two_steps(unbroken, tmp_path, number):
    learner, outcome = unbroken
    before = signal.getsignal(number)
    # A request counts at the end of the step after the one that was reported.
    first = Trainer(Summing(dropout=0.2), OPTIONS, tmp_path).run(stop(4, number))
    assert not first.finished
    assert first.step == len(first.losses) == 6
    assert signal.getsignal(number) is before
    resumed = Summing(dropout=0.2)
    assert Trainer(resumed, OPTIONS, tmp_path).run().losses == outcome.losses
    assert weights(resumed) == weights(learner)


def test_a_finished_training_is_not_repeated(tmp_path):
    outcome = Trainer(Summing(), OPTIONS, tmp_path).run()
    again = Summing()
    taken = []
    assert Trainer(again, OPTIONS, tmp_path).run(
        lambda step, loss: taken.append(step)).losses == outcome.losses
    assert not taken


def test_files_come_as_often_as_asked_for(tmp_path):
    path = tmp_path / 'sum.resume.safetensors'
    there = []
    Trainer(Summing(), replace(OPTIONS, save_every=3600.0), tmp_path).run(
        lambda step, loss: there.append(path.exists()))
    assert not any(there)
    assert path.exists()


def interrupted(folder):
    """Leave the file of a training that was stopped."""
    Trainer(Summing(), OPTIONS, folder).run(stop(2))
    return folder / 'sum.resume.safetensors'


def refusal(folder, options=OPTIONS):
    with pytest.raises(ResumeError) as error:
        Trainer(Summing(), options, folder).run()
    return str(error.value)


def test_other_options_are_refused_by_name(tmp_path):
    path = interrupted(tmp_path)
    assert refusal(tmp_path, replace(OPTIONS, learning_rate=0.5)) == (
        f'{path}: the training in it began with learning_rate = 0.02, and this one has '
        'learning_rate = 0.5; give the same options as then to resume it; to start anew, add '
        '--fresh')
    assert Trainer(Summing(), replace(OPTIONS, save_every=9), tmp_path).run().finished


def test_another_network_is_refused(tmp_path):
    path = interrupted(tmp_path)
    other = Summing()
    other.network[3] = torch.nn.Linear(16, 2)
    with pytest.raises(ResumeError) as error:
        Trainer(other, OPTIONS, tmp_path).run()
    assert str(error.value).startswith(f'{path}: the file does not fit this network (')


@pytest.mark.parametrize('damage', [
    lambda data: data[:-20], lambda data: b'', lambda data: b'no such file',
    lambda data: data.replace(b'learner/0', b'learner/7')])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = interrupted(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    said = refusal(tmp_path)
    assert said.startswith(
        f'{path}: the file is damaged, so no training can resume from it (')
    assert said.endswith('); to start anew, add --fresh')


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / 'sum.resume.safetensors'
    policy = next((ROOT / 'config' / 'policies').glob('*.safetensors'))
    path.write_bytes(policy.read_bytes())
    assert refusal(tmp_path).startswith(f'{path}: ')


@pytest.mark.parametrize('precision', ['bfloat16', 'float16'])
def test_fewer_bits_learn_nearly_the_same(tmp_path, precision):
    options = replace(OPTIONS, precision=precision)
    whole, resumed = Summing(), Summing()
    losses = Trainer(whole, options, None).run().losses
    exact = Trainer(Summing(), OPTIONS, None).run().losses
    assert losses != exact
    np.testing.assert_allclose(losses, exact, rtol=0.1, atol=0.01)
    assert all(value.dtype == torch.float32 for value in whole.network.parameters())
    assert not Trainer(Summing(), options, tmp_path).run(stop(9)).finished
    assert Trainer(resumed, options, tmp_path).run().losses == losses
    assert weights(resumed) == weights(whole)


def test_a_loss_that_is_no_number_ends_it_and_spoils_no_file(tmp_path):
    class Exploding(Summing):

        def loss(self, step):
            return super().loss(step) * (math.nan if step == 5 else 1)

    with pytest.raises(TrainingError) as error:
        Trainer(Exploding(), OPTIONS, tmp_path).run()
    assert str(error.value) == ('sum: the loss is nan at gradient step 5; use a smaller learning '
                                'rate than 0.02')
    steps = []
    Trainer(Summing(), OPTIONS, tmp_path).run(lambda step, loss: steps.append(step))
    assert steps[0] == 5


@pytest.mark.parametrize('options, message', [
    ({'optimiser': 'sgd'}, "optimiser is 'sgd'; set it to adamw or rmsprop"),
    ({'precision': 'int8'}, "precision is 'int8'; set it to float32 or bfloat16 or float16"),
    ({'learning_rate': -1.0}, 'learning_rate is -1.0; set it to a number from 0 to 10 (learning '
     'rate at the start)')])
def test_options_that_are_none_are_refused(options, message):
    with pytest.raises(SettingsError) as error:
        TrainerOptions(steps=1, **options)
    assert str(error.value) == message


@pytest.mark.parametrize('device, remedy', [
    ('gpu', 'torch has no such device; use cpu, cuda, or one GPU of several, such as cuda:1'),
    pytest.param('cuda', 'torch finds no GPU here; use cpu',
                 marks=pytest.mark.skipif(torch.cuda.is_available(), reason='there is one'))])
def test_a_device_that_is_not_there_is_refused(device, remedy):
    with pytest.raises(distributed.DistributedError) as error:
        Trainer(Summing(), replace(OPTIONS, device=device), None)
    assert str(error.value) == f"device '{device}': {remedy}"


def test_a_batch_that_cannot_be_shared_equally_is_refused(monkeypatch):
    assert distributed.local_slice(5) == slice(0, 5)
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '1')
    assert distributed.local_slice(8) == slice(4, 8)
    with pytest.raises(distributed.DistributedError) as error:
        distributed.local_slice(5)
    assert str(error.value) == ('a batch of 5 cannot be shared equally by 2 processes; use a '
                                'multiple of 2, or start fewer processes')


def test_the_line_of_progress_and_the_curves(tmp_path, capsys):
    event_accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator')
    options = replace(OPTIONS, quiet=False, tensorboard=tmp_path / 'curves')
    Trainer(Summing(), options, tmp_path).run(stop(5))
    losses = Trainer(Summing(), options, tmp_path).run().losses
    out, err = capsys.readouterr()
    assert out == f"sum: resumes at step 7 of 30, from '{tmp_path / 'sum.resume.safetensors'}'\n"
    assert re.fullmatch(rf'sum: step 30 of 30, loss {losses[-1]:.5f}, \d+ frames/s, 0 s left\n',
                        err)
    read = event_accumulator.EventAccumulator(str(tmp_path / 'curves' / 'sum'))
    read.Reload()
    points = read.Scalars('loss')
    assert [point.step for point in points] == list(range(OPTIONS.steps))
    np.testing.assert_allclose([point.value for point in points], losses, rtol=1e-6)


class Terminal(io.StringIO):
    """An output of errors that is a terminal."""

    def isatty(self):
        return True


def test_a_terminal_has_a_bar_and_anything_else_lines_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, 'SECONDS_BETWEEN_LINES', 0.0)
    said = []
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, 'stderr', stream)
        Trainer(Summing(), replace(OPTIONS, quiet=False), None).run()
        said.append(stream.getvalue())
    last = said[0].rsplit('\r', 1)[-1]
    assert last.startswith('sum: 100%') and '30/30 [' in last and 'frames/s=' in last
    lines = said[1].splitlines()
    assert '\r' not in said[1] and len(lines) == OPTIONS.steps
    assert all(line.startswith(f'sum: step {i} of 30, loss ') for i, line in enumerate(lines, 1))


def test_curves_without_tensorboard_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    with pytest.raises(ProgressError) as error:
        Trainer(Summing(), replace(OPTIONS, tensorboard=tmp_path), None).run()
    assert str(error.value) == ('--tensorboard: TensorBoard is not installed; '
                                "pip install 'stream_agent[tensorboard]'")


@pytest.mark.slow
@pytest.mark.real_time
@pytest.mark.any_time
def test_two_processes_of_torchrun_train_as_one_does(tmp_path):
    subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2',
         trainer_job.__file__, str(tmp_path)], check=True, timeout=100,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'})
    found = json.loads((tmp_path / 'found.json').read_text())
    learner = Summing()
    outcome = Trainer(learner, OPTIONS, None).run()
    whole, first, second = (found[name] for name in ('whole', 'first half', 'second half'))
    np.testing.assert_allclose(whole['losses'], outcome.losses, rtol=1e-4)
    for name, value in weights(learner).items():
        np.testing.assert_allclose(whole['weights'][name], value, atol=1e-5)
    assert not first['finished'] and len(first['losses']) == 12
    assert second['losses'] == whole['losses']
    assert second['weights'] == whole['weights']
    assert found['policy'] == 0
    assert load_policy(tmp_path / 'small_streaming.safetensors').training['frames'] > 0
    assert not (tmp_path / 'small_streaming.unfinished').exists()
