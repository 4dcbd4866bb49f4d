"""Cloning end to end: an arm's recording becomes a policy that commands its joints."""

import json
from pathlib import Path

import numpy as np
import pytest
from stream_agent.cli.compare import main as compare
from stream_agent.cli.train import main as train, parse, source_of
from stream_agent.contract.conversions import OutputScale, VectorInput
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import newest_image_pattern
from support.recordings_files import joint_state, multi_array, stamps, write
import yaml

pytestmark = pytest.mark.usefixtures('one_thread')

ROBOT = Path(__file__).parents[2] / 'config' / 'robots' / 'six_joint_arm.yaml'
NAMES = [f'joint_{number}' for number in range(1, 7)]
GRAPH = {'nodes': {'joints': {'shape': [12]}, 'command': {'shape': [6]}},
         'edges': ['joints->command'], 'output': 'command'}
PERIOD = 20_000_000


def arm(path, seed, count=300):
    """
    Write a drive of the arm of config/robots/six_joint_arm.yaml: each joint is braked and pulled.

    The order of the joints changes from message to message.
    """
    random = np.random.default_rng(seed)
    times = stamps(count, PERIOD)
    phases, rates = random.uniform(0, 6, (2, 6))
    seconds = np.arange(count)[:, np.newaxis] * 0.02
    positions = np.sin(rates * seconds + phases)
    velocities = 0.5 * np.cos(rates[::-1] * seconds + phases[::-1])
    commands = -0.3 * positions - 0.5 * velocities + 0.1 * positions[:, ::-1]
    orders = [random.permutation(6) for _ in times]
    states = [(t, joint_state(t, [NAMES[j] for j in order], position[order], velocity[order]))
              for t, order, position, velocity in zip(times, orders, positions, velocities)]
    return write(path, ('/joint_states', states), ('/velocity_controller/commands', [
        (t, multi_array(t, command)) for t, command in zip(times, commands)]))


def trained(tmp_path, *options):
    (tmp_path / 'arm.yaml').write_text(yaml.safe_dump(GRAPH))
    return train(['--bag', str(tmp_path / 'bags'), '--cache', str(tmp_path / 'cache'), '--robot',
                  'six_joint_arm', '--graph', str(tmp_path / 'arm.yaml'), '--pattern',
                  'sequential', '--output', str(tmp_path), '--streams', '4', '--window', '8',
                  '--learning-rate', '0.02', *options])


def test_an_arm_is_cloned_and_compared_with_its_driver(tmp_path, capsys):
    for seed in range(5):
        arm(tmp_path / 'bags' / f'drive_{seed}', seed)
    assert trained(tmp_path, '--epochs', '15') == 0
    policy = load_policy(tmp_path / 'arm_sequential.safetensors')
    scores = policy.training['held_out_r2']
    assert list(scores) == NAMES and min(scores.values()) > 0.999
    assert isinstance(policy.preprocessing, VectorInput) and policy.trigger == 'joints'
    assert policy.limits == OutputScale(
        tuple(NAMES), ('rad/s',) * 6, (-0.8, -0.8, -0.8, -1.2, -1.2, -1.2),
        (0.8, 0.8, 0.8, 1.2, 1.2, 1.2))
    # Training continues from there, with the inputs and limits that it has.
    assert train(['--bag', str(tmp_path / 'bags'), '--cache', str(tmp_path / 'cache'), '--robot',
                  'six_joint_arm', '--init', str(tmp_path / 'arm_sequential.safetensors'),
                  '--output', str(tmp_path / 'more'), '--epochs', '1', '--learning-rate',
                  '1e-6']) == 0
    (more,) = (tmp_path / 'more').glob('*.safetensors')
    assert min(load_policy(more).training['held_out_r2'].values()) > 0.999
    capsys.readouterr()
    drive = str(arm(tmp_path / 'new', 99))
    chosen = ['--bag', drive, '--robot', 'six_joint_arm', '--policy',
              str(tmp_path / 'arm_sequential.safetensors')]
    assert compare([*chosen, '--json', '--output', str(tmp_path / 'out'), '--backend', 'eager',
                    '--threads', '1']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['frames'] == 300
    errors = found['policies']['arm_sequential']['error']
    assert len(errors) == 6 and max(errors) < 0.01
    assert compare([*chosen, '--pass-periods', '2', '--json']) == 0
    data = json.loads(capsys.readouterr().out)
    fresh, late = data['agreements']
    for name in NAMES:
        assert fresh[f'{name}_r2'] > 0.999 and late[f'{name}_rmse'] > 2 * fresh[f'{name}_rmse']


def test_the_graph_of_the_page_reads_and_commands_the_arm(tmp_path):
    page = (ROBOT.parents[2] / 'docs' / 'contract.md').read_text().partition('## Recorded')[2]
    text = page.partition('```yaml\n')[2].partition('```')[0]
    (tmp_path / 'arm.yaml').write_text(text)
    arm(tmp_path / 'bags' / 'drive', 0, 60)
    assert train(['--bag', str(tmp_path / 'bags'), '--cache', str(tmp_path / 'cache'), '--robot',
                  'six_joint_arm', '--graph', str(tmp_path / 'arm.yaml'), '--pattern',
                  'sequential', '--output', str(tmp_path), '--epochs', '1']) == 0
    policy = load_policy(tmp_path / 'arm_sequential.safetensors')
    assert policy.conversions.keys() == {'joints'} and policy.limits.names == tuple(NAMES)


def test_commands_beyond_the_contract_are_refused(tmp_path, capsys):
    times = stamps(20, PERIOD)
    write(tmp_path / 'bags' / 'drive', ('/joint_states', [
        (t, joint_state(t, NAMES, np.zeros(6), np.zeros(6))) for t in times]),
        ('/velocity_controller/commands', [
            (t, multi_array(t, [0, 0.9, 0, 0, 0, 0])) for t in times]))
    assert trained(tmp_path) == 1
    assert capsys.readouterr().err.endswith(
        "'joint_2' is commanded 0.9 to 0.9 rad/s, and the contract allows -0.8 to 0.8; change "
        'output.lowest and output.highest there, or leave the recording out\n')


def test_a_changed_contract_uses_no_old_values(tmp_path):
    arm(tmp_path / 'bags' / 'drive', 0, 60)
    robot, folder = yaml.safe_load(ROBOT.read_text()), tmp_path / 'cache'
    joints = robot['/**']['ros__parameters']['inputs']['joints']
    kept = []
    for changes in ({}, {}, {'low': [-4.0]}, {'align': 'hold'}):
        joints |= changes
        (tmp_path / 'robot.yaml').write_text(yaml.safe_dump(robot))
        source = source_of(parse(['--bag', str(tmp_path / 'bags'), '--cache', str(folder),
                                  '--robot', str(tmp_path / 'robot.yaml'), '--held-out', '0']))
        network = RolloutNetwork(graph := graph_from_data(GRAPH), newest_image_pattern(graph))
        learner = source.learner(network, 'streaming', seed=1)
        values = learner.episodes[0].observations(slice(None))['joints']
        kept.append((len(list(folder.iterdir())), values[0, 0]))
    first = np.float32(kept[0][1])
    # What becomes -1 is 0.86 less.
    assert [count for count, _ in kept] == [1, 1, 2, 3]
    position = (first + 1) * 3.1416 - 3.1416
    assert [value for _, value in kept[2:]] == pytest.approx(
        [(position + 4) * 2 / (3.1416 + 4) - 1] * 2, abs=1e-6)
