"""Policies of several inputs compared on recordings, with the contract of a robot."""

from dataclasses import replace
import json

import numpy as np
import pytest
from stream_agent.cli.compare import main
from stream_agent.cli.replay import Player, ReplayedFrame
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, OutputScale, ScanInput, VectorInput)
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.checkpoint import CommandScale, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import sequential_pattern
from support.recordings_files import (
    drive, laser_scan, odometry, picture, raw, stamps, tub, twist_stamped, write)
import torch
import yaml

pytestmark = pytest.mark.usefixtures('one_thread')

EAGER = ('--backend', 'eager', '--threads', '1', '--device', 'cpu')
WHEELS = VectorInput(('twist.twist.linear.x', 'twist.twist.angular.z'), ('m/s', 'rad/s'),
                     (-2.0, -6.0), (2.0, 6.0))
SCAN = ScanInput(3, -0.9, 0.9, 8.0, 8.0)
INPUTS = {
    'image': {'type': 'sensor_msgs/msg/Image', 'topic': 'camera', 'trigger': True},
    'odometry': {'type': 'nav_msgs/msg/Odometry', 'topic': 'odom', 'fields': list(WHEELS.fields),
                 'units': list(WHEELS.units), 'low': list(WHEELS.low), 'high': list(WHEELS.high),
                 'oldest': 0.1},
    'scan': {'type': 'sensor_msgs/msg/LaserScan', 'topic': 'scan', 'rays': 3, 'angle_min': -0.9,
             'angle_max': 0.9, 'high': [8.0], 'invalid': 8.0},
    'last': {'type': 'own/commands', 'count': 1}, 'age': {'type': 'own/age', 'high': [0.5]}}
SIZES = {'image': (1, 6, 8), 'odometry': (2,), 'scan': (3,), 'last': (2,), 'age': (1,)}
CONVERSIONS = {'image': Preprocessing((1, 6, 8)), 'odometry': WHEELS, 'scan': SCAN,
               'last': CommandsInput(1, 2), 'age': AgeInput(0.5)}


def policy_of(*names, weights={}, trigger=None):
    """
    Return a policy of some inputs, without memory.

    :param weights: From an input's numbers to the output's, (2, size), by input; others are zero.
    """
    graph = graph_from_data({
        'nodes': {name: {'shape': list(SIZES[name])} for name in names} | {
            'command': {'shape': [2]}},
        'edges': [f'{name}->command' for name in names], 'output': 'command'})
    network = RolloutNetwork(graph, sequential_pattern(graph))
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.zero_()
            for source, each in weights.items():
                if f'.{source}-command.' in name and value.dim() > 1:
                    value.copy_(torch.as_tensor(each))
    trigger = trigger or names[0]
    return Policy(network, CONVERSIONS[trigger], CommandScale(2.0, 6.0), 'sequential', {}, others={
        name: CONVERSIONS[name] for name in names if name != trigger})


@pytest.fixture
def robot(tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': {
        'inputs': INPUTS, 'output': {'type': 'twist_stamped', 'topic': 'cmd_vel'}}}}))
    return str(path)


def recorded(path, count=40, without=range(0)):
    """Write a drive whose driver does what the wheels say; these are silent in some frames."""
    times = stamps(count)
    speeds = [np.sin(0.3 * i) for i in range(count)]
    return write(
        path, ('/odom', [(t, odometry(t, s, -2 * s)) for i, (t, s) in enumerate(zip(
            times, speeds)) if i not in without]),
        ('/scan', [(t, laser_scan(t, np.arange(1, 22) / 3)) for t in times]),
        ('/camera', [(t, raw(t, picture(i))) for i, t in enumerate(times)]),
        ('/cmd_vel', [(t, twist_stamped(t, s, -2 * s)) for t, s in zip(times, speeds)]))


def saved(folder, **policies):
    arguments = []
    for name, policy in policies.items():
        save_policy(folder / f'{name}.safetensors', policy)
        arguments += ['--policy', str(folder / f'{name}.safetensors')]
    return arguments


def test_policies_of_other_inputs_answer_the_same_frames(tmp_path, robot, capsys):
    recorded(tmp_path / 'drive', without=range(10, 20))
    arguments = ['--bag', str(tmp_path / 'drive'), '--robot', robot, '--output', str(tmp_path),
                 '--json', *EAGER, *saved(
                     tmp_path, wheels=policy_of('image', 'odometry', weights={
                         'odometry': np.eye(2, dtype=np.float32)}), blind=policy_of('image'))]
    assert main(arguments) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    # What the wheels said last is 0.1 s old at most in two of the ten.
    assert data['frames'] == 32
    assert "8 frames without input 'odometry'" in said.err
    late = sum(abs(np.sin(0.3 * 9) - np.sin(0.3 * i)) for i in (10, 11)) / 32
    np.testing.assert_allclose(data['policies']['wheels']['error'], [late, 2 * late], atol=1e-6)
    assert data['policies']['blind']['error'][1] > 0.5


def test_agreement_in_effect_of_several_inputs(tmp_path, robot, capsys):
    recorded(tmp_path / 'drive')
    assert main(['--bag', str(tmp_path / 'drive'), '--robot', robot, '--json', '--pass-periods',
                 '1', *saved(tmp_path, wheels=policy_of('image', 'odometry', weights={
                     'odometry': np.eye(2, dtype=np.float32)}))]) == 0
    fresh, late = json.loads(capsys.readouterr().out)['agreements']
    assert fresh['steering_r2'] == pytest.approx(1.0) and fresh['speed_rmse'] < 1e-6
    speeds = np.sin(0.3 * np.arange(40))
    assert late['speed_rmse'] == pytest.approx(
        np.sqrt(np.mean((speeds[1:] - speeds[:-1]) ** 2)), rel=1e-4)


def test_a_drive_by_scan_alone(tmp_path, robot, capsys):
    recorded(tmp_path / 'drive')
    assert main(['--bag', str(tmp_path / 'drive'), '--robot', robot, '--json', '--output',
                 str(tmp_path), *EAGER, *saved(tmp_path, scan=policy_of('scan'))]) == 0
    assert json.loads(capsys.readouterr().out)['frames'] == 40


def test_a_player_knows_its_own_commands_and_how_old_a_frame_is():
    policy = policy_of('image', 'last', 'age', weights={
        'last': np.eye(2, dtype=np.float32), 'age': np.array([[0.0], [0.25]], np.float32)})
    player = Player('one', policy, Engine(policy.network), lambda: 0)

    class Endless:
        longest_gap_ns = 10**9

    player.begin(Endless())
    pixels = np.zeros((6, 8), np.uint8)
    for number, (episode, waited) in enumerate([(0, 0), (0, 0), (0, 10**8), (1, 0)]):
        stamp = number * 10**8
        player.answer(ReplayedFrame(number, episode, stamp, stamp, pixels, {'age': 0.15}),
                      stamp + waited)
    # An age of 0.15 s is -0.4, of 0.25 s 0; memory of before an episode is forgotten.
    found = [answer.command[1] / 6 for answer in player.answers]
    assert found == pytest.approx([-0.1, -0.2, -0.2, -0.1], abs=1e-6)


@pytest.mark.parametrize('policies, remedy', [
    ({'wheels': policy_of('image', 'odometry')},
     "input 'odometry': there is no topic 'odom'; record it, or change inputs.odometry in the "
     'contract, or take a policy without this input. Topics are: /camera '
     '(sensor_msgs/msg/Image), /cmd_vel (geometry_msgs/msg/TwistStamped)'),
    ({'one': policy_of('image'), 'other': policy_of('scan')},
     "other.safetensors' is triggered by 'scan', and '"),
    ({'wheels': policy_of('odometry', 'image', trigger='odometry')},
     "and the policy was trained to step with 'odometry'; set inputs.odometry.trigger to true")])
def test_what_does_not_fit_is_refused(tmp_path, robot, capsys, policies, remedy):
    drive(tmp_path / 'drive')
    assert main(['--bag', str(tmp_path / 'drive'), '--robot', robot,
                 *saved(tmp_path, **policies)]) == 1
    assert remedy in capsys.readouterr().err


def test_without_a_contract_there_is_one_image(tmp_path, capsys):
    chosen = saved(tmp_path, wheels=policy_of('image', 'odometry'))
    assert main(['--bag', str(drive(tmp_path / 'drive')), *chosen]) == 1
    assert capsys.readouterr().err == (
        f"compare: policy '{tmp_path / 'wheels.safetensors'}': input 'odometry': the contract "
        "does not say which topic of a recording gives it (none is given); give the robot's file "
        'that has it under inputs by --robot FILE\n')
    aware = saved(tmp_path, aware=policy_of('image', 'last', 'age'))
    assert main(['--bag', str(tub(tmp_path / 'tub', 12)), *aware, '--json', '--output',
                 str(tmp_path), *EAGER]) == 0
    assert json.loads(capsys.readouterr().out)['frames'] == 12


def test_who_obeys_a_vector_the_contract_says(tmp_path, capsys):
    lane = policy_of('image')
    scale = OutputScale(('a', 'b'), ('rad', 'rad'), (-1.0, -1.0), (1.0, 1.0))
    chosen = saved(tmp_path, arm=replace(lane, limits=scale))
    assert main(['--bag', str(drive(tmp_path / 'drive')), *chosen]) == 1
    assert capsys.readouterr().err == (
        f"compare: policy '{tmp_path / 'arm.safetensors'}' commands a, b, and no contract says "
        "which topic of a recording has such commands; give the robot's file that has it under "
        'output by --robot FILE\n')


def test_a_tub_has_no_other_inputs(tmp_path, robot, capsys):
    chosen = saved(tmp_path, wheels=policy_of('image', 'odometry'))
    assert main(['--bag', str(tub(tmp_path / 'tub')), '--robot', robot, *chosen]) == 1
    assert 'a DonkeyCar tub has images, angle and throttle alone, and no odometry' in (
        capsys.readouterr().err)
