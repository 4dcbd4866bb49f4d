"""Training: it learns, its files drive, and the command line says what went wrong."""

from pathlib import Path

import numpy as np
import pytest
from stream_agent.command import Command
from stream_agent.learning.driving import drive, PolicyDriver
from stream_agent.learning.imitation import (
    Disturbance, Imitation, imitation_loss, Schedule)
from stream_agent.learning.train import LIMITS, main, pattern_of
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import Settings
from stream_agent.theory.graph import load_graph
from stream_agent.theory.rollout import inference_factor, response_cone
import torch

CONFIG = Path(__file__).parents[2] / 'config'
LANE = load_graph(CONFIG / 'graphs' / 'lane.yaml')
SHORT = Schedule(rounds=2, environments=3, frames=60, updates=25, last_updates=0, batch=8)


def test_names_of_patterns():
    assert inference_factor(LANE, pattern_of(LANE, 'streaming')) == 1
    assert response_cone(LANE, pattern_of(LANE, 'streaming')) == ['command']
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


def test_a_wrong_graph_is_said_in_a_sentence(tmp_path, capsys):
    (tmp_path / 'graph.yaml').write_text('nodes: {}')
    assert main(['--graph', str(tmp_path / 'graph.yaml'), '--pattern', 'streaming']) == 1
    assert capsys.readouterr().err == (
        f"train: {tmp_path / 'graph.yaml'}: 'edges' is missing; "
        'the keys are nodes, edges, output\n')


@pytest.mark.parametrize('path', sorted((CONFIG / 'policies').glob('*.safetensors')),
                         ids=lambda path: path.stem)
def test_the_shipped_policies_drive_a_course_that_training_never_saw(path):
    policy = load_policy(path)
    environment = DrivingEnvironment(Settings(), FIRST_HELD_OUT_SEED + 77)
    result = drive(environment, PolicyDriver(policy), laps=1)
    assert result.departures == 0
    assert result.laps >= 1
    assert result.lateral_rms < 0.1
