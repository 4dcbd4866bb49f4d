"""Training: it learns, its files drive, and the command line says what went wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stream_agent.command import Command
from stream_agent.learning.driving import drive, PolicyDriver
from stream_agent.learning.imitation import (
    Disturbance, Imitation, imitation_loss, Schedule)
from stream_agent.learning.train import labels_of, lengthened, LIMITS, main, pattern_of
from stream_agent.network import custom
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import Settings
from stream_agent.theory.graph_file import load_graph
from stream_agent.theory.rollout import inference_factor, response_cone
import torch

CONFIG = Path(__file__).parents[2] / 'config'
LANE = load_graph(CONFIG / 'graphs' / 'lane.yaml')
SHORT = Schedule(rounds=2, environments=3, frames=60, updates=25, last_updates=0, batch=8)


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


def test_disturbances_come_and_go_and_leave_the_speed_alone():
    disturbance = Disturbance(np.random.default_rng(0), strength=1.0)
    commands = [disturbance.added_to(Command(0.8, 0.1)) for _ in range(2000)]
    pushed = np.array([command.yaw_rate != 0.1 for command in commands])
    assert all(command.speed == 0.8 for command in commands)
    assert max(abs(command.yaw_rate - 0.1) for command in commands) <= 1.0
    assert 0.15 < pushed.mean() < 0.45


@pytest.mark.parametrize('pattern', ['streaming', 'sequential'])
def test_imitation_learns(pattern):
    torch.manual_seed(0)
    network = RolloutNetwork(LANE, pattern_of(LANE, pattern))
    losses = []
    imitation = Imitation(network, Preprocessing(network.shapes['image'], crop_top=0.25), LIMITS,
                          Settings(), SHORT, 0, lambda values: losses.append(values['loss']))
    imitation.run()
    assert len(losses) == SHORT.all_updates
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:3])


def test_the_same_seed_gives_the_same_weights():
    weights = []
    for _ in range(2):
        torch.manual_seed(4)
        network = RolloutNetwork(LANE, pattern_of(LANE, 'streaming'))
        schedule = Schedule(rounds=1, environments=2, frames=40, updates=3, last_updates=0,
                            batch=4)
        Imitation(network, Preprocessing(network.shapes['image']), LIMITS, Settings(), schedule,
                  4).run()
        weights.append(network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_command_writes_a_checkpoint_that_says_where_it_comes_from(tmp_path):
    assert main(['--pattern', 'streaming', '--rounds', '1', '--updates', '2',
                 '--last-updates', '0', '--output', str(tmp_path), '--seed', '7']) == 0
    policy = load_policy(tmp_path / 'lane_streaming.safetensors')
    assert policy.pattern_name == 'streaming'
    assert policy.training['seed'] == 7
    assert policy.training['frames'] > 0


def test_no_policy_overwrites_another():
    assert labels_of(['a->b', 'streaming', 'b->c', 'sequential', 'c->d']) == [
        'hybrid', 'streaming', 'hybrid_2', 'sequential', 'hybrid_3']


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
    monkeypatch.setattr(custom, '_allowed', {})
    assert main(['--graph', str(tmp_path / 'planned.yaml'), '--pattern', 'deep->command',
                 '--updates-per-frame', '2', '--rounds', '1', '--updates', '2',
                 '--last-updates', '0', '--output', str(tmp_path),
                 '--allow', 'my_filters.wide']) == 0
    policy = load_policy(tmp_path / 'planned_hybrid.safetensors')
    assert policy.updates_per_frame == policy.training['schedule']['updates_per_frame'] == 2
    assert policy.network.graph.node('deep').period == 3
    driver = PolicyDriver(policy)
    environment = DrivingEnvironment(Settings(), FIRST_HELD_OUT_SEED)
    state = policy.network.initial_state()
    frame = environment.look()
    driver.reset()
    for _ in range(5):
        command = driver.command(frame)
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
    schedule = lengthened(replace(SHORT, updates_per_frame=2), unanswered=5)
    assert (schedule.burn_in, schedule.window) == (SHORT.burn_in + 2, SHORT.window + 2)
    assert lengthened(SHORT, unanswered=0) == SHORT


def test_code_from_outside_needs_to_be_allowed(tmp_path, capsys, monkeypatch):
    (tmp_path / 'planned.yaml').write_text(PLANNED)
    monkeypatch.setattr(custom, '_allowed', {})
    assert main(['--graph', str(tmp_path / 'planned.yaml'), '--pattern', 'sequential']) == 1
    assert capsys.readouterr().err.strip().endswith(
        "the graph asks for code from outside, 'my_filters.wide', which is not allowed; if you "
        'trust it, add --allow my_filters.wide')


def test_a_wrong_graph_is_said_in_a_sentence(tmp_path, capsys):
    (tmp_path / 'graph.yaml').write_text('nodes: {}')
    assert main(['--graph', str(tmp_path / 'graph.yaml'), '--pattern', 'streaming']) == 1
    assert capsys.readouterr().err == (
        f"train: {tmp_path / 'graph.yaml'}:1: there are no edges; a network has at least one\n")


@pytest.mark.parametrize('path', sorted((CONFIG / 'policies').glob('*.safetensors')),
                         ids=lambda path: path.stem)
def test_the_shipped_policies_drive_a_course_that_training_never_saw(path):
    policy = load_policy(path)
    environment = DrivingEnvironment(Settings(), FIRST_HELD_OUT_SEED + 77)
    result = drive(environment, PolicyDriver(policy), laps=1)
    assert result.departures == 0
    assert result.laps >= 1
    assert result.lateral_rms < 0.1
