"""Training: it learns, its files drive, and the command line says what went wrong."""

from dataclasses import asdict, replace
import os
from pathlib import Path
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from stream_agent.cli.train import labels_of, main, parse, source_of
from stream_agent.driving.compute_model import ComputeModel, immediate
from stream_agent.driving.drives import drive, PolicyDriver
from stream_agent.driving.evaluation import timed
from stream_agent.graph_files.graph_file import graph_from_data, load_graph
from stream_agent.learning.imitation import (
    Collector, filled, Imitation, imitation_loss, lengthened)
from stream_agent.learning.policy_jobs import pattern_of
from stream_agent.learning.policy_sources import limits_for
from stream_agent.learning.resume import LearnerState, ResumeError, ResumeFile, TrainingState
from stream_agent.learning.settings import ImitationSchedule, TrainerOptions
from stream_agent.learning.trainer import Trainer
from stream_agent.network import transforms
from stream_agent.network.checkpoint import CommandScale, load_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.rollout import inference_factor, response_cone
from support.graphs import bare_graph
from support.jobs import wait_for
from support.recordings_files import drive as record
from support.trainer_job import SMALL_TEXT, stop
import torch
import yaml

CONFIG = Path(__file__).parents[2] / 'config'
LANE = load_graph(CONFIG / 'graphs' / 'lane.yaml')
SMALL = graph_from_data(yaml.safe_load(SMALL_TEXT))
EVERY_FRAME = immediate(1 / 30)
SHORT = ImitationSchedule(rounds=2, environments=3, frames=60, updates=25, last_updates=0, batch=8)


def test_names_of_patterns():
    assert inference_factor(LANE, pattern_of(LANE, 'streaming')) == 1
    assert response_cone(LANE, pattern_of(LANE, 'streaming'), 1) == ['command']
    assert inference_factor(LANE, pattern_of(LANE, 'sequential')) == 8
    hybrid = pattern_of(LANE, 'course->command,memory->memory')
    assert [edge for edge, streams in hybrid.items() if streams] == [
        ('memory', 'memory'), ('course', 'command')]


def test_the_loss_leaves_the_burn_in_out():
    outputs, targets = torch.zeros(2, 5, 2), torch.zeros(2, 5, 2)
    outputs[:, :3] = 9
    assert imitation_loss(outputs, targets, burn_in=3) == 0
    assert imitation_loss(outputs, targets, burn_in=2) > 0


def imitation_of(graph, schedule, pattern='streaming', folder=None):
    torch.manual_seed(4)
    network = RolloutNetwork(graph, pattern_of(graph, pattern))
    collector = Collector(SimulationSettings(),
                          Preprocessing(network.shapes['image'], crop_top=0.25),
                          limits_for(SimulationSettings()), schedule.environments, schedule.frames)
    return Imitation(network, collector, schedule, 4, folder=folder)


def options_for(schedule, **others):
    return TrainerOptions(schedule.all_updates, schedule.learning_rate, seed=4, quiet=True,
                          **others)


@pytest.mark.parametrize('graph, options', [
    (SMALL, {'updates': 60, 'learning_rate': 5e-3}),
    pytest.param(LANE, {'updates': 25, 'learning_rate': 2e-3}, marks=pytest.mark.slow)],
    ids=['small', 'lane'])
def test_imitation_learns(graph, options, one_thread):
    schedule = replace(SHORT, environments=2, frames=40, batch=4, window=14, **options)
    learner = imitation_of(graph, schedule, 'streaming')
    losses = Trainer(learner, options_for(schedule), None).run().losses
    assert len(losses) == schedule.all_updates
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:3])


def test_a_stopped_imitation_goes_on_with_the_rounds_it_has_driven(one_thread, tmp_path):
    schedule = ImitationSchedule(rounds=3, environments=2, frames=40, updates=4, last_updates=0,
                                 batch=4)
    whole, first, second = (imitation_of(SMALL, schedule, folder=tmp_path / name)
                            for name in ('whole', 'halves', 'halves'))
    options = options_for(schedule, save_every=0)
    losses = Trainer(whole, options, tmp_path / 'whole').run().losses
    assert not Trainer(first, options, tmp_path / 'halves').run(stop(5)).finished
    assert Trainer(second, options, tmp_path / 'halves').run().losses == losses
    assert second.figures() == whole.figures()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])
    driven = tmp_path / 'halves' / 'imitation.round2.safetensors'
    driven.write_bytes(driven.read_bytes()[:-5])
    with pytest.raises(ResumeError) as error:
        Trainer(imitation_of(SMALL, schedule, folder=tmp_path / 'halves'), options,
                tmp_path / 'halves').run()
    assert str(error.value).startswith(f'{driven}: the episodes of a round cannot be read (')


@pytest.mark.parametrize('updates, last, steps, driven', [
    (4, 2, [0, 3, 4, 8, 13], [1, 1, 2, 3, 3]), (0, 5, [0, 4], [3, 3])])
def test_a_round_is_driven_before_its_first_gradient_step(updates, last, steps, driven):
    schedule = ImitationSchedule(rounds=3, updates=updates, last_updates=last)
    assert [schedule.rounds_before(step) for step in steps] == driven


def test_the_command_writes_a_checkpoint_that_says_where_it_comes_from(tmp_path):
    assert main(['--pattern', 'streaming', '--rounds', '1', '--updates', '2',
                 '--last-updates', '0', '--output', str(tmp_path), '--seed', '7',
                 '--environments', '1', '--frames', '40', '--robot', 'turtlebot3']) == 0
    policy = load_policy(tmp_path / 'lane_streaming.safetensors')
    # Of a robot whose expert drives 0.2 m/s: all is slower, and takes longer.
    assert policy.limits == CommandScale(max_speed=0.25, max_yaw_rate=0.5)
    assert policy.training['robot'] == 'turtlebot3'
    assert policy.training['schedule']['frames'] == 4 * 40
    assert policy.pattern_name == 'streaming'
    assert policy.training['seed'] == 7 and policy.steering == 'yaw rate'
    assert policy.training['frames'] > 0


def test_recordings_are_learnt_from_instead_of_the_simulator(tmp_path, capsys):
    (tmp_path / 'small.yaml').write_text(SMALL_TEXT)
    for i in range(3):
        record(tmp_path / 'bags' / f'drive_{i}', 12)
    common = ['--graph', str(tmp_path / 'small.yaml'), '--pattern', 'streaming', '--output',
              str(tmp_path), '--bag', str(tmp_path / 'bags')]
    assert main([*common, '--cache', str(tmp_path / 'cache'), '--streams', '2', '--window', '4',
                 '--epochs', '2']) == 0
    training = load_policy(tmp_path / 'small_streaming.safetensors').training
    assert training['frames'] == 24 and len(training['held_out']) == 1
    assert not list(tmp_path.glob('*.unfinished'))
    for options, remedy in (
            ([*common, '--rounds', '3'], '--rounds: this has an effect only without --bag'),
            ([*common, '--costs', 'a'], '--costs: this has an effect only without --bag'),
            (['--epochs', '3'], '--epochs: this has an effect only with --bag')):
        with pytest.raises(SystemExit):
            main(options)
        assert f'train: error: {remedy}\n' in capsys.readouterr().err


def test_no_policy_overwrites_another():
    assert labels_of(['a->b', 'streaming', 'b->c', 'sequential', 'c->d']) == [
        'hybrid', 'streaming', 'hybrid_2', 'sequential', 'hybrid_3']


@pytest.fixture
def endless(tmp_path):
    """Return the real command in a group of processes of its own, as a terminal starts it."""
    (tmp_path / 'small.yaml').write_text(SMALL_TEXT)
    process = subprocess.Popen(
        [sys.executable, '-m', 'stream_agent', 'train', '--graph', 'small.yaml', '--output', '.',
         '--rounds', '1', '--updates', '100000', '--save-every', '0'], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, 'PYTHONPATH': str(CONFIG.parent)})
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.child_process
def test_ctrl_c_reaches_all_workers_and_leaves_policies(endless, tmp_path, capsys, monkeypatch):
    wait_for(lambda: len(list(tmp_path.glob('*.unfinished/*.resume.safetensors'))) == 2, 80)
    os.killpg(endless.pid, signal.SIGINT)
    said = endless.communicate(timeout=30)[0]
    assert endless.returncode == 130
    for label in ('streaming', 'sequential'):
        name = f'small_{label}.stopped.safetensors'
        training = load_policy(tmp_path / name).training
        step, = re.search(rf'^{label}: stopped at step (\d+) of 100240; wrote {name}, the policy '
                          'as it is now$', said, re.M).groups()
        assert int(step) > 0
        assert training['stopped'] == f'at step {step} of 100240'
    assert said.splitlines()[-1] == (
        'the same command resumes from there; with --fresh it starts anew')
    monkeypatch.chdir(tmp_path)
    assert main(['--graph', 'small.yaml', '--output', '.', '--pattern', 'streaming']) == 1
    assert capsys.readouterr().err == (
        'train: small_streaming.unfinished/streaming.resume.safetensors: the training in it began '
        'with rounds = 1, and this one has rounds = 12; give the same options as then to resume '
        'it; to start anew, add --fresh\n')
    assert main(['--graph', 'small.yaml', '--output', '.', '--pattern', 'streaming', '--fresh',
                 '--rounds', '1', '--updates', '1', '--last-updates', '0', '--environments', '1',
                 '--frames', '30']) == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "streaming: keeps the stopped training as 'small_streaming.1.unfinished'; renamed to "
        "'small_streaming.unfinished', it resumes")
    assert {path.name for path in tmp_path.glob('*streaming*')} == {
        'small_streaming.safetensors', 'small_streaming.1.unfinished',
        'small_streaming.stopped.1.safetensors'}
    assert {path.name for path in tmp_path.glob('*streaming.1.unfinished/*')} == {
        'streaming.resume.safetensors', 'streaming.round1.safetensors'}


PLANNED = """
nodes:
  image: {shape: [1, 60, 120]}
  seen: {channels: 4, activation: relu}
  deep: {shape: [8], activation: tanh, period: 3, offset: 1, dropout: 0.1}
  command: {shape: [2], activation: tanh}
edges:
  - {source: image, target: seen, transform: my_filters.wide, width: 5}
  - {source: seen, target: deep, transform: readout, kernel: 4}
  - {source: seen, target: command, transform: readout, kernel: 6}
  - deep->command
"""
FILTERS = """
from torch import nn
def wide(source, target, width):
    return nn.Conv2d(source[0], target[0], width, stride=4)
"""


def test_a_multi_rate_graph_with_own_code_and_held_images_is_trained_and_drives(
        tmp_path, monkeypatch):
    """What a plan may recommend: schedule, several update steps; and a transform from outside."""
    (tmp_path / 'planned.yaml').write_text(PLANNED)
    (tmp_path / 'my_filters.py').write_text(FILTERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(transforms, '_allowed', {})
    assert main(['--graph', str(tmp_path / 'planned.yaml'), '--pattern', 'deep->command',
                 '--updates-per-frame', '2', '--rounds', '1', '--updates', '2',
                 '--last-updates', '0', '--environments', '2', '--frames', '60',
                 '--output', str(tmp_path), '--allow', 'my_filters.wide']) == 0
    policy = load_policy(tmp_path / 'planned_hybrid.safetensors')
    assert policy.updates_per_frame == policy.training['schedule']['updates_per_frame'] == 2
    assert policy.network.graph.node('deep').period == 3
    driver = PolicyDriver(policy)
    environment = DrivingEnvironment(SimulationSettings(), FIRST_HELD_OUT_SEED)
    state = policy.network.initial_state()
    frame = environment.look()
    for _ in range(5):
        (command,) = driver.commands([frame], [()], 0.0)
        driver.settle()
        image = torch.from_numpy(policy.preprocessing(frame.image)).unsqueeze(0)
        with torch.inference_mode():
            output, state = policy.network.hold(image, state, 2)
        assert command == policy.limits.command(output[0].numpy())
        frame = environment.step(command)
    assert state.frame == 10


def test_a_network_that_gives_no_command_is_refused(capsys):
    assert main(['--graph', 'mnist_sr', '--pattern', 'sequential']) == 1
    assert capsys.readouterr().err == (
        "train: the output 'out' has the shape [10]; a policy that drives gives [2]: speed, yaw "
        'rate\n')


def test_windows_are_as_much_longer_as_the_first_answer_is_late():
    # Three layers, of which the second is read by the output as well.
    graph = bare_graph('x->a a->b b->c c->d b->d d->d', 'd', streams='d->d')
    streaming, twice = pattern_of(graph, 'streaming'), replace(SHORT, updates_per_frame=2)
    assert lengthened(SHORT, graph, pattern_of(graph, 'sequential')) == SHORT
    for schedule, late in ((lengthened(SHORT, graph, streaming), 2),
                           (lengthened(twice, graph, streaming), 1),
                           # The third layer's information comes a frame later.
                           (filled(SHORT, graph, streaming, EVERY_FRAME), 3),
                           (filled(twice, graph, streaming, EVERY_FRAME), 1)):
        assert schedule.burn_in == SHORT.burn_in + late
        assert schedule.window == SHORT.window + late
    # Memory that has a step in every fifth frame fills five times as slowly.
    rounds = with_schedule(graph, {'d': (5, 0)})
    schedule = filled(SHORT, rounds, pattern_of(rounds, 'sequential'), EVERY_FRAME)
    assert schedule.burn_in >= 5 * SHORT.burn_in
    assert schedule.window - schedule.burn_in == SHORT.window - SHORT.burn_in
    assert schedule.frames >= 2 * schedule.window


def learner_of(*options, graph=SMALL, label='streaming'):
    source = source_of(parse(['--updates', '1', *options]))
    return source.learner(RolloutNetwork(graph, pattern_of(graph, label)), label, 1, None)


def as_before(simulator):
    """Return what is said of the simulator, as trainings did before it had other sensors."""
    simulator['settings'] = {name: value for name, value in simulator['settings'].items()
                             if name.partition('_')[0] not in ('scan', 'odometry', 'imu')}
    assert simulator.pop('others') == {}
    return simulator


def test_who_emulates_nothing_trains_as_ever():
    learner = learner_of(graph=LANE)
    assert learner.initial_settings() | {'graph': None, 'pattern': None} == {
        **asdict(replace(ImitationSchedule(),
                         updates=1)), 'graph': None, 'pattern': None, 'computer': None,
        'recognition': None,
        'simulator': as_before(asdict(Collector(
            SimulationSettings(), learner.preprocessing, CommandScale(1.0, 2.0), 8, 160)))}
    assert 'emulated' not in learner.provenance()


@pytest.mark.parametrize('pattern, busy', [('streaming', 1.6), ('sequential', 3.2)])
def test_all_drive_as_long_whatever_they_take(pattern, busy):
    learner = learner_of('--pass-periods', '3.2', '--execution', 'parallel', label=pattern)
    frames = learner.initial_settings()['frames']
    assert busy * (frames - 2) < 3 * ImitationSchedule().frames <= busy * frames + 1


def test_a_policy_is_trained_under_the_timing_that_it_is_evaluated_with(tmp_path):
    (tmp_path / 'small.yaml').write_text(SMALL_TEXT)
    assert main(['--graph', str(tmp_path / 'small.yaml'), '--pattern', 'streaming', '--rounds',
                 '1', '--updates', '2', '--last-updates', '0', '--output', str(tmp_path),
                 '--environments', '2', '--pass-periods', '3.2', '--execution', 'parallel']) == 0
    path = tmp_path / 'small_streaming.safetensors'
    (one,) = timed([str(path)], ComputeModel('parallel', pass_periods=3.2),
                   SimulationSettings().period)
    told = load_policy(path).training['emulated']
    assert told['computer'] == 'parallel device, 3.2 camera periods a pass'
    assert told['work'] == [list(one.timeline.work[0])]
    # Each of the two nodes takes half a pass, so there is an answer every 1.6 periods.
    assert one.timeline.work[0].busy == pytest.approx(1.6 * SimulationSettings().period)
    assert told['aim'] == pytest.approx(0.8 * SimulationSettings().period, rel=0.01)
    assert told['handover'] == 1.0


def test_a_training_goes_on_under_its_own_timing_alone(tmp_path):
    options = (), ('--pass-periods', '3.2'), ('--pass-periods', '6.4')
    none, fast, slow = (
        ResumeFile(tmp_path / 'resume',
                   learner_of(*given).initial_settings()) for given in options)
    fast.write(TrainingState({}, LearnerState({}, None), {}))
    assert fast.read() is not None
    for other, now in ((none, 'no computer'), (slow, 'computer = serial device, 6.4 camera '
                                                     'periods a pass')):
        with pytest.raises(ResumeError) as error:
            other.read()
        assert str(error.value) == (
            f"{tmp_path / 'resume'}: the training in it began with computer = serial device, 3.2 "
            f'camera periods a pass, and this one has {now}; give the same options as then to '
            'resume it; to start anew, add --fresh')


def test_what_cannot_be_emulated_is_said_before_anything_is_trained(tmp_path, capsys):
    (tmp_path / 'small.yaml').write_text(SMALL_TEXT)
    assert main(['--graph', str(tmp_path / 'small.yaml'), '--pattern', 'sequential', 'streaming',
                 '--output', str(tmp_path), '--pass-periods', '2', '--execution', 'parallel',
                 '--pipelined']) == 1
    assert capsys.readouterr().err.startswith("train: streaming: the edge 'seen->command' streams")
    assert [path.name for path in tmp_path.iterdir()] == ['small.yaml']
    with pytest.raises(SystemExit):
        parse(['--pipelined'])
    assert ('train: error: --pipelined: this is of an emulated computer; add --pass-periods or '
            '--costs\n') in capsys.readouterr().err


def test_code_from_outside_needs_to_be_allowed(tmp_path, capsys, monkeypatch):
    (tmp_path / 'planned.yaml').write_text(PLANNED)
    monkeypatch.setattr(transforms, '_allowed', {})
    assert main(['--graph', str(tmp_path / 'planned.yaml'), '--pattern', 'sequential']) == 1
    assert capsys.readouterr().err.strip().endswith(
        "the graph asks for code from outside, 'my_filters.wide', which is not allowed; if you "
        'trust it, add --allow my_filters.wide')


def test_a_wrong_graph_is_said_in_a_sentence(tmp_path, capsys):
    (tmp_path / 'graph.yaml').write_text('nodes: {}')
    assert main(['--graph', str(tmp_path / 'graph.yaml'), '--pattern', 'streaming']) == 1
    assert capsys.readouterr().err == (
        f"train: {tmp_path / 'graph.yaml'}:1: there are no edges; a network has at least one\n")


@pytest.mark.slow
@pytest.mark.parametrize('path', sorted((CONFIG / 'policies').glob('lane_*.safetensors')),
                         ids=lambda path: path.stem)
def test_the_shipped_policies_drive_a_course_that_training_never_saw(path):
    policy = load_policy(path)
    environment = DrivingEnvironment(SimulationSettings(), FIRST_HELD_OUT_SEED + 77)
    result = drive(environment, PolicyDriver(policy), laps=1)
    assert result.departures == 0
    assert result.laps >= 1
    assert result.lateral_rms < 0.1
