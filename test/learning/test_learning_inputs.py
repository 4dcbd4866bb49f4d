"""Policies of several inputs: trained in the simulator by a robot's contract, and driven there."""

from dataclasses import replace
import json

import numpy as np
import pytest
from stream_agent.cli.arguments import robot_settings
from stream_agent.cli.evaluate import main as evaluate
from stream_agent.cli.train import main, parse, source_of
from stream_agent.contract.agreement import disagreements
from stream_agent.contract.conversions import AgeInput, CommandsInput, ScanInput, VectorInput
from stream_agent.driving.compute_model import Timeline, Work
from stream_agent.driving.drivers import NetworkDriver
from stream_agent.driving.drives import drive, drive_trial, PolicyDriver, Trial
from stream_agent.driving.observations import as_frames, Observer
from stream_agent.driving.vehicles import EmulatedClock, VehicleBatch
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.learning.policy_jobs import pattern_of
from stream_agent.learning.resume import pack
from stream_agent.learning.settings import TrainerOptions
from stream_agent.learning.trainer import Trainer
from stream_agent.learning.window_sampler import pack_episodes, unpack_episodes
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.share import policy_file
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.drive_log import Drive
from stream_agent.simulation.environment import DrivingEnvironment
from support.trainer_job import stop
import torch
import yaml

pytestmark = pytest.mark.usefixtures('one_thread')
SHAPES = {'last': [16], 'image': [1, 12, 16], 'scan': [1, 6, 10], 'odometry': [2], 'imu': [3],
          'age': [1]}
SHORT = ['--rounds', '2', '--environments', '2', '--frames', '40', '--updates', '2',
         '--last-updates', '0', '--batch', '4', '--workers', '1']


def data_of(*names, output=2):
    """Return a graph in which every input goes into a layer and the output."""
    nodes = {name: {'shape': SHAPES[name]} for name in names}
    return {'nodes': {**nodes, 'seen': {'shape': [8], 'activation': 'relu'},
                      'command': {'shape': [output], 'activation': 'tanh'}},
            'edges': [*(f'{name}->{target}' for name in names for target in ('seen', 'command')),
                      'seen->command', {'source': 'seen', 'target': 'seen', 'streams': True}],
            'output': 'command'}


def train(tmp_path, names, *options, output=2):
    (tmp_path / 'all.yaml').write_text(yaml.safe_dump(
        data_of(*names, output=output), sort_keys=False))
    return main(['--graph', str(tmp_path / 'all.yaml'), '--output', str(tmp_path),
                 '--pattern', 'streaming', *SHORT, *options])


def learner_of(names, *options, folder=None):
    torch.manual_seed(4)
    graph = graph_from_data(data_of(*names))
    source = source_of(parse([*SHORT, '--robot', 'scan_car', *options]))
    return source.learner(RolloutNetwork(graph, pattern_of(graph, 'streaming')), 'streaming', 4,
                          folder)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    """Return a policy of all inputs, trained a little."""
    folder = tmp_path_factory.mktemp('policy')
    assert train(folder, SHAPES, '--robot', 'scan_car') == 0
    return folder / 'all_streaming.safetensors'


def test_a_policy_says_of_every_input_what_the_contract_says(path):
    policy = load_policy(path)
    # The first input that any message brings, as the contract's trigger is among them.
    assert policy.trigger == 'image' and policy.network.inputs[0] == 'last'
    assert policy.preprocessing == Preprocessing((1, 12, 16), 0.25)
    assert policy.conversions['scan'] == ScanInput(60, -2.0, 2.0, 6.0, 6.0)
    assert policy.conversions['odometry'] == VectorInput(
        ('twist.twist.linear.x', 'twist.twist.angular.z'), ('m/s', 'rad/s'), (-2.0, -6.0),
        (2.0, 6.0))
    assert policy.conversions['last'] == CommandsInput(8, 2)
    assert isinstance(policy.conversions['age'], AgeInput)
    assert policy.training['robot'] == 'scan_car'


def test_without_the_contracts_trigger_the_first_input_with_a_topic_triggers(tmp_path):
    assert train(tmp_path, ['age', 'scan'], '--robot', 'scan_car') == 0
    policy = load_policy(tmp_path / 'all_streaming.safetensors')
    assert policy.trigger == 'scan' and list(policy.others) == ['age']


def test_an_engine_drives_as_the_network_does_on_the_same_inputs(path):
    policy = load_policy(path)
    settings = source_of(parse(['--robot', 'scan_car'])).simulation
    environment = DrivingEnvironment(settings, 5)
    driver, observe = PolicyDriver(policy), Observer(policy.conversions, policy.limits)
    frame, known, state = environment.reset(), [], policy.network.initial_state()
    for _ in range(6):
        start = frame.time + 0.02
        (command,) = driver.commands([frame], [known], start)
        driver.settle()
        inputs = as_frames(observe(frame, known, start), policy.network.shapes, 0, 'cpu')
        with torch.inference_mode():
            output, state = policy.network.step(
                {name: value[None] for name, value in inputs.items()}, state)
        np.testing.assert_allclose(command, policy.limits.command(output[0].numpy()), rtol=1e-5)
        known = [command, *known]
        frame = environment.step(command)
    assert driver.known_commands == 8


def test_a_stopped_training_of_several_inputs_resumes_bit_by_bit(tmp_path):
    names = ['image', 'scan', 'odometry', 'last', 'age']
    options = TrainerOptions(4, 1e-3, seed=4, quiet=True, save_every=0)
    whole, first, second = (learner_of(names, '--pass-periods', '1.6', folder=tmp_path / name)
                            for name in ('whole', 'halves', 'halves'))
    losses = Trainer(whole, options, tmp_path / 'whole').run().losses
    assert not Trainer(first, options, tmp_path / 'halves').run(stop(1)).finished
    assert Trainer(second, options, tmp_path / 'halves').run().losses == losses
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])


def test_rounds_on_disk_are_what_was_driven():
    learner = learner_of(['image', 'odometry', 'last'])
    driven, departures = learner._collector.collect(
        learner.network, True, np.random.default_rng(3))
    found, told = unpack_episodes(pack_episodes(driven, departures), 'image')
    assert told == departures and len(found) == len(driven)
    for one, other in zip(driven, found):
        assert {name: values[0].dtype for name, values in other.observations.items()} == {
            'image': np.uint8, 'odometry': np.float32, 'last': np.float32}
        for name, values in one.observations.items():
            np.testing.assert_array_equal(values, other.observations[name])
        np.testing.assert_allclose(one.targets, other.targets, rtol=1e-6)


def test_a_round_from_before_there_were_other_inputs_is_of_the_image():
    data = pack({'pixels': torch.arange(10, dtype=torch.uint8).reshape(5, 1, 1, 2),
                 'targets': torch.zeros(5, 2), 'lengths': torch.tensor([2, 3])},
                {'departures': 1})
    (first, second), departures = unpack_episodes(data, 'camera')
    assert (len(first), len(second), departures) == (2, 3, 1)
    assert np.ravel(second.observations['camera']).tolist() == list(range(4, 10))


def test_the_mean_over_processes_is_the_loss_of_one(monkeypatch):
    names = ['image', 'scan', 'last']
    alone, losses = learner_of(names), []
    assert alone.prepare(0)
    for rank in range(2):
        monkeypatch.setenv('WORLD_SIZE', '2')
        monkeypatch.setenv('RANK', str(rank))
        learner = learner_of(names)
        learner.episodes = alone.episodes
        losses.append(learner.loss(0).item())
    monkeypatch.delenv('WORLD_SIZE')
    assert alone.loss(0).item() == pytest.approx(sum(losses) / 2, abs=1e-6)


def test_a_policy_by_scan_is_trained_without_a_camera():
    learner = learner_of(['scan'])
    driver = learner._collector.driver(learner.network)
    assert not driver.sees
    environment = learner._collector._new_environment(np.random.default_rng(0), driver.sees)
    assert environment.reset().image is None


def test_under_an_emulated_computer_a_network_knows_its_commands_and_the_age(path):
    policy = load_policy(path)
    settings = source_of(parse(['--robot', 'scan_car'])).simulation
    driver = NetworkDriver(policy.network, policy.preprocessing, policy.limits, 1,
                           others=policy.others)
    period = settings.period
    batch = VehicleBatch(driver, [DrivingEnvironment(settings, 7)], EmulatedClock(
        Timeline((Work(2.6 * period, 1.6 * period),), period)))
    seen, ages = [], []
    while batch.image < 9:
        batch.drive([Drive(1.0)], lambda image=batch.image: batch.image == image, lambda _: {})
        if not seen or driver.observations[0] is not seen[-1]:
            seen.append(driver.observations[0])
            ages.append((seen[-1]['age'][0] + 1) / 2 * policy.conversions['age'].most / period)
    # It is free after 1.6, 3.2, 4.8, 6.4 and 8 periods.
    assert ages == pytest.approx([0.0, 0.6, 0.2, 0.8, 0.4, 0.0], abs=1e-4)
    known = [int(np.count_nonzero(one['last'][::2])) for one in seen]
    assert known == [0, 0, 1, 2, 3, 4]


def test_it_drives_in_lockstep_and_on_an_emulated_computer(path, capsys):
    policy, settings = load_policy(path), source_of(parse(['--robot', 'scan_car'])).simulation
    timeline = Timeline((Work(0.02, 0.02),), settings.period)
    trial = Trial(settings, (3, 4), duration=2.0, pushes=1.0)
    alone = [drive_trial(NetworkDriver(policy.network, policy.preprocessing, policy.limits, 1,
                                       others=policy.others), timeline,
                         replace(trial, seeds=(seed,)))[0] for seed in trial.seeds]
    together = drive_trial(NetworkDriver(policy.network, policy.preprocessing, policy.limits, 2,
                                         others=policy.others), timeline, trial)
    for one, other in zip(alone, together):
        np.testing.assert_allclose(one.lateral_errors, other.lateral_errors, atol=1e-4)


@pytest.mark.slow
@pytest.mark.child_process
@pytest.mark.parametrize('options', [[], ['--pass-periods', '2.5', '--pushes', '0.5'],
                                     ['--real-time']])
def test_the_tool_drives_it(path, options, capsys):
    assert evaluate([str(path), '--robot', 'scan_car', '--courses', '1', '--laps', '0.05',
                     '--workers', '1', '--json', *options]) == 0
    assert json.loads(capsys.readouterr().out)[-1]['driver'] == 'all_streaming'


@pytest.mark.parametrize('names, output, options, said', [
    (['image', 'odometry'], 2, [],
     "the graph's input 'odometry' [2]: the robot has image; give one whose contract names it "
     '(such as --robot scan_car), or add it to inputs, in the section /** of the '
     "robot's file\n"),
    (['image', 'scan'], 2, ['--robot', 'turtlebot4'],
     "the graph's input 'scan' [1, 6, 10]: the robot has image, odometry; give one whose "
     'contract names it (such as --robot scan_car), or add it'),
    (['last', 'age'], 2, ['--robot', 'scan_car'],
     "the graph's inputs last, age are what the agent itself knows, and none of them makes it "
     'step; add an input of a topic'),
    (['image', 'scan'], 6, ['--robot', 'scan_car'],
     "the output 'command' has the shape [6]; a policy that drives gives [2]: speed, yaw rate"),
    (['image'], 6, ['--robot', 'six_joint_arm'],
     'the robot takes float64_multi_array for joint_1, joint_2, joint_3, joint_4, joint_5, '
     'joint_6, and the simulated one is a base, which takes speed and yaw rate; learn from '
     'recordings (--bag)')])
def test_what_cannot_be_trained_is_said_before_anything_is_driven(
        tmp_path, capsys, names, output, options, said):
    assert train(tmp_path, names, *options, output=output) == 1
    assert capsys.readouterr().err.startswith(f'train: {said}')
    assert not list(tmp_path.glob('*.safetensors'))


SHIPPED = {'scan_streaming': ['scan'], 'odometry_streaming': ['image', 'odometry'],
           'scan_image_streaming': ['image', 'scan'], 'aware_sequential': ['image', 'last', 'age']}


@pytest.mark.parametrize('name, inputs', SHIPPED.items())
def test_the_shipped_policies_fit_the_shipped_robot(name, inputs):
    path = policy_file(name)
    policy, contract = load_policy(path), source_of(parse(['--robot', 'scan_car'])).contract
    assert list(policy.network.inputs) == inputs and policy.trigger == inputs[0]
    assert not list(disagreements(contract, policy.trigger, policy.conversions, policy.limits))
    assert policy.training['robot'] == 'scan_car' and path.stat().st_size < 400_000


@pytest.mark.slow
@pytest.mark.parametrize('name', SHIPPED)
def test_the_shipped_policies_drive_a_course_that_training_never_saw(name):
    policy, settings = load_policy(policy_file(name)), robot_settings('scan_car')
    driver = PolicyDriver(policy)
    environment = DrivingEnvironment(settings, FIRST_HELD_OUT_SEED + 77, camera=driver.sees)
    result = drive(environment, driver, laps=1)
    assert result.departures == 0 and result.laps >= 1
    assert result.lateral_rms < 0.1


ROBOT = """
/**:
  ros__parameters:
    inputs:
      scan: {type: sensor_msgs/msg/LaserScan, rays: 60, angle_min: -2.0, angle_max: 2.0,
             high: [6.0]}
      imu: {type: %s, fields: [%s, linear_acceleration.x, linear_acceleration.y],
            units: [rad/s, m/s^2, m/s^2], low: [-6.0, -9.0, -9.0], high: [6.0, 9.0, 9.0]}
      image: {trigger: true}
    output: {type: twist_stamped}
/**/simulation:
  ros__parameters: {scan_rays: %d, scan_angle_max: %s}
"""


@pytest.mark.parametrize('values, names, said', [
    (('sensor_msgs/msg/Imu', 'angular_velocity.z', 0, 2.0), ['scan'],
     "the input 'scan' is a laser scan, and the simulated robot has no scanner; give one that"),
    (('sensor_msgs/msg/Imu', 'angular_velocity.z', 90, 1.5), ['image', 'scan'],
     "the input 'scan' does not fit the scanner of the simulated robot: "),
    (('sensor_msgs/msg/Imu', 'angular_velocity.x', 0, 2.0), ['image', 'imu'],
     "the input 'imu' takes angular_velocity.x, and the simulated robot measures twist.twist."),
    (('my_msgs/msg/Motion', 'angular_velocity.z', 0, 2.0), ['image', 'imu'],
     "the input 'imu' is read of my_msgs/msg/Motion, which no simulated robot publishes; take "
     'nav_msgs/msg/Odometry or sensor_msgs/msg/Imu, or learn from recordings (--bag)')])
def test_inputs_that_the_simulated_robot_lacks_are_refused(tmp_path, capsys, values, names, said):
    robot = tmp_path / 'mine.yaml'
    robot.write_text(ROBOT % values)
    assert train(tmp_path, names, '--robot', str(robot)) == 1
    assert capsys.readouterr().err.startswith(f'train: {said}')


def test_a_policy_is_not_driven_by_a_robot_that_lacks_its_inputs(path, capsys):
    assert evaluate([str(path), '--courses', '1']) == 1
    assert capsys.readouterr().err == (
        f"evaluate: {path}: the input 'scan' is a laser scan, and the simulated robot has no "
        'scanner; give one that has (--robot scan_car), or scan_rays in the section '
        '/**/simulation of its file (it was trained for --robot scan_car)\n')


def test_another_training_begins_with_it_where_the_contract_is_the_same(path, tmp_path, capsys):
    words = ['--init', str(path), '--output', str(tmp_path), *SHORT]
    assert main([*words, '--robot', 'scan_car']) == 0
    ours, theirs = load_policy(tmp_path / 'all_streaming.safetensors'), load_policy(path)
    assert (ours.conversions, ours.trigger) == (theirs.conversions, theirs.trigger)
    robot = tmp_path / 'mine.yaml'
    robot.write_text(ROBOT % ('sensor_msgs/msg/Imu', 'angular_velocity.z', 127, 2.0))
    capsys.readouterr()
    assert main([*words, '--robot', str(robot)]) == 1
    assert capsys.readouterr().err.startswith(
        f"train: --init '{path}' does not fit the robot: input 'last': the policy reads it, and "
        "the robot's contract has scan, imu, image; ")
