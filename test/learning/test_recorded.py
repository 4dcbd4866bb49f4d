"""From recordings to a learner: limits, what is held out, and what is said."""

import numpy as np
import pytest
from stream_agent.cli.train import main, parse, source_of
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.learning.recorded_episodes import rounded_up
from stream_agent.learning.settings import TrainerOptions
from stream_agent.learning.trainer import Trainer
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import graph_to_data
from stream_agent.theory.patterns import newest_image_pattern
from support.recordings_files import drive, raw, stamps, tub, twist_stamped, write
import yaml

GRAPH = graph_from_data({
    'nodes': {'image': {'shape': [1, 6, 8]}, 'command': {'shape': [2], 'activation': 'tanh'}},
    'edges': ['image->command'], 'output': 'command'})


def learner_of(tmp_path, *options):
    source = source_of(parse(['--cache', str(tmp_path / 'cache'), '--streams', '2', '--window',
                              '3', *options]))
    return source.learner(RolloutNetwork(GRAPH, newest_image_pattern(GRAPH)), 'streaming', seed=1)


def test_recordings_become_a_learner_that_says_what_it_was_given(tmp_path, capsys):
    for i, count in enumerate((12, 10, 9, 8, 7)):
        drive(tmp_path / 'bags' / f'drive_{i}', count)
    learner = learner_of(tmp_path, '--bag', str(tmp_path / 'bags'), '--delay', '0.1')
    assert capsys.readouterr().out.splitlines() == [
        f"5 recordings, 46 frames; decoded ones are kept in '{tmp_path / 'cache'}'",
        '46 frames with a command in 5 episodes of 5 recordings',
        '9 of 46 frames (20 %) are held out: drive_2']
    assert (learner.limits.max_speed, learner.limits.max_yaw_rate) == (0.5, 1.1)
    assert [episode.name for episode in learner.held_out.episodes] == ['drive_2']
    np.testing.assert_allclose(learner.episodes[1].targets[:, 1] * 1.1,
                               [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9], atol=1e-6)
    Trainer(learner, TrainerOptions(steps=3, quiet=True), None).run()
    about = learner.provenance()
    assert (about['frames'], about['held_out']) == (37, ['drive_2'])
    assert about['held_out_frames'] == 9
    assert list(about['held_out_r2']) == ['steering']
    assert about['steering'] == 'yaw rate'
    assert learner.verdict(about) == (
        f'R2 of the steering {about["held_out_r2"]["steering"]:.3f}, of the speed unknown (it '
        'never varies), on 9 frames held out: drive_2; an R2 below 0 is worse than always '
        'answering the mean command')
    assert about['held_out_r2']['steering'] < 0


def test_the_command_trains_on_recordings_and_says_how_well(tmp_path, capsys):
    for i in range(5):
        drive(tmp_path / 'bags' / f'drive_{i}', 20)
    (tmp_path / 'tiny.yaml').write_text(yaml.safe_dump(graph_to_data(GRAPH)))
    assert main(['--bag', str(tmp_path / 'bags'), '--cache', str(tmp_path / 'cache'), '--graph',
                 str(tmp_path / 'tiny.yaml'), '--pattern', 'sequential', '--output',
                 str(tmp_path), '--epochs', '2', '--streams', '2', '--window', '4',
                 '--crop-top', '0.5']) == 0
    *_, wrote, verdict = capsys.readouterr().out.splitlines()
    assert wrote == f'wrote {tmp_path / "tiny_sequential.safetensors"}'
    policy = load_policy(tmp_path / 'tiny_sequential.safetensors')
    assert policy.preprocessing.crop_top == 0.5
    assert policy.limits.max_yaw_rate == 1.9
    assert policy.training['held_out'] == ['drive_0'] and policy.steering == 'yaw rate'
    assert verdict.startswith(
        f'  R2 of the steering {policy.training["held_out_r2"]["steering"]:.3f}, of the speed '
        'unknown (it never varies), on 20 frames held out: drive_0')
    assert main(['--bag', str(tmp_path / 'nothing'), '--pattern', 'sequential']) == 1
    assert capsys.readouterr().err == (
        f"train: '{tmp_path / 'nothing'}': there is no such file or folder; give the path "
        'of a recording, or of a folder of them\n')


def test_what_is_left_out_is_said(tmp_path, capsys):
    learner_of(tmp_path, '--bag', str(drive(tmp_path / 'bag', 30)), '--held-out', '0',
               '--delay', '0.9', '--oldest-command', '0.6')
    assert capsys.readouterr().out.splitlines()[1:] == [
        'bag: 30 frames at 20.0 Hz (stamps: header), 30 commands (yaw rate; stamps: header); not '
        'used: 6 frames whose command is older than 0.6 s',
        '24 frames with a command in 1 episodes of 1 recordings']


def test_the_end_of_the_only_episode_is_held_out(tmp_path, capsys):
    path = drive(tmp_path / 'bag', 30)
    learner = learner_of(tmp_path, '--bag', str(path))
    assert capsys.readouterr().out.splitlines()[-1] == (
        '6 of 30 frames (20 %) are held out: the end of an episode of bag, after a gap of 3')
    assert learner.episodes[0].frames.tolist() == list(range(21))
    assert learner.held_out.episodes[0].frames.tolist() == list(range(24, 30))
    np.testing.assert_allclose(learner.held_out.episodes[0].targets[:, 1] * 2.9,
                               np.arange(24, 30) / 10, atol=1e-6)
    learner = learner_of(tmp_path, '--bag', str(path), '--held-out', '0')
    assert not learner.held_out.episodes
    # Who holds nothing out is not told so.
    assert learner.verdict(learner.provenance()) == ''
    assert 'held out' not in capsys.readouterr().out


def test_episodes_of_one_recording_are_no_recordings_held_out(tmp_path):
    times = [t + 10**9 * (i // 10) for i, t in enumerate(stamps(30))]
    pixels = np.random.default_rng(0).integers(0, 255, (30, 12, 16, 3), np.uint8)
    path = write(tmp_path / 'bag', ('/camera', [(t, raw(t, image))
                                                for t, image in zip(times, pixels)]),
                 ('/cmd_vel', [(t, twist_stamped(t, i % 7, i)) for i, t in enumerate(times)]))
    learner = learner_of(tmp_path, '--bag', str(path), '--held-out', '0.4')
    scores = learner.scores()
    assert learner.verdict(learner.provenance()) == (
        f'R2 of the steering {scores["steering"]:.3f}, of the speed {scores["speed"]:.3f}, on 10 '
        'frames held out: 1 of the episodes of bag; an R2 below 0 is worse than always answering '
        'the mean command')


def test_a_policy_says_what_it_learnt_to_steer_by(tmp_path):
    path = tub(tmp_path / 'tub', 20)
    learner = learner_of(tmp_path, '--bag', str(path), '--held-out', '0')
    assert learner.provenance()['steering'] == 'steering'
    # Trainings resume only where they learn the same.
    assert learner.initial_settings()['steering'] == 'steering'


def test_limits_that_recorded_commands_exceed(tmp_path):
    path = drive(tmp_path / 'bag', 30)
    with pytest.raises(ValueError) as error:
        learner_of(tmp_path, '--bag', str(path), '--max-yaw-rate', '2')
    assert str(error.value) == ('--max-yaw-rate 2: the recordings have commands up to 2.9; give '
                                'at least that, or leave the option out')


def test_rounding_up():
    assert [rounded_up(value) for value in (0.5, 1.0, 0.1234, 2.9, 12.31, 0.999)] == [
        0.5, 1.0, 0.13, 2.9, 13.0, 1.0]
