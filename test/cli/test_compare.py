"""Replay: the same frames for every policy, the driver as reference, and the recorder's report."""

from collections import Counter
from itertools import accumulate, count, cycle
import json
from pathlib import Path
import signal

import numpy as np
import pytest
from stream_agent.cli.compare import labels_of, main, Record
from stream_agent.cli.replay import Playback, Player, replay_fast, replay_true
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.measurement.comparison import compare, error_in_effect
from stream_agent.measurement.recording import read_rows
from stream_agent.measurement.summary import remarks
from stream_agent.measurement.traces import read_run
from stream_agent.network.checkpoint import CommandScale, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading
from stream_agent.recordings.sources import open_recordings
from stream_agent.theory.patterns import sequential_pattern, streaming_pattern
from support.recordings_files import (
    ackermann_stamped, drive, PERIOD, picture, raw, stamps, tub, twist_stamped, write)
import torch

pytestmark = pytest.mark.usefixtures('one_thread')

SHAPE = (1, 12, 16)
NODES = {'image': {'shape': list(SHAPE)}, 'command': {'shape': [2]}}
PLAIN = graph_from_data({'nodes': NODES, 'edges': ['image->command'], 'output': 'command'})
MEMORY = graph_from_data({
    'nodes': NODES, 'output': 'command',
    'edges': ['image->command', {'source': 'command', 'target': 'command', 'streams': True}]})
EAGER = ('--backend', 'eager', '--threads', '1', '--device', 'cpu')


def policy_of(graph, pattern, limits=CommandScale(1.0, 1.0), training=None):
    """Return a policy that steers by the mean brightness, and half by its last command."""
    network = RolloutNetwork(graph, pattern(graph))
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.zero_()
            if value.shape == (2, 192):
                value[1] = 1 / 192
            elif value.shape == (2, 2):
                value[1, 1] = 0.5
            elif 'image' in name:
                value[0] = 0.5
    name = 'streaming' if pattern is streaming_pattern else 'sequential'
    return Policy(network, Preprocessing(SHAPE), limits, name, training or {})


def brightness(i):
    return round(127 + 100 * np.sin(0.3 * i))


def bag(path, times):
    """Write a bag whose driver steers by the mean brightness."""
    frames = [(t, raw(t, np.full((12, 16), brightness(i), np.uint8), 'mono8'))
              for i, t in enumerate(times)]
    commands = [(t, twist_stamped(t, 0.5, brightness(i) / 255 - 0.5))
                for i, t in enumerate(times)]
    return write(path, ('/camera', frames), ('/cmd_vel', commands))


def playback_of(path, alignment=Alignment(), most_frames=0):
    (recording,) = open_recordings([path], Reading())
    return Playback(recording, alignment, int(recording.frame_stamps[0]), most_frames)


def player_of(graph=PLAIN, pattern=sequential_pattern, name='one', now_ns=lambda: 0, **options):
    policy = policy_of(graph, pattern, **options)
    return Player(name, policy, Engine(policy.network), now_ns)


def yaw_rates(player):
    return {answer.number: answer.command.yaw_rate for answer in player.answers}


def record_of(folder, playbacks, players, replay=replay_fast):
    folder.mkdir()
    record = Record(folder, players, {player.name: Path('somewhere') for player in players},
                    'fast')
    for playback in playbacks:
        replay(playback, players)
        record.add(playback)
    record.finish()
    return read_run(folder)


@pytest.fixture
def without_plots(monkeypatch):
    """Leave the plots out of the reports of a test that does not look at them."""
    monkeypatch.setattr('stream_agent.measurement.report.PLOTS', ())


def test_who_does_what_the_driver_did_is_better(tmp_path, capsys):
    bag(tmp_path / 'bags' / 'drive', stamps(60))
    save_policy(tmp_path / 'driver.safetensors', policy_of(PLAIN, sequential_pattern))
    save_policy(tmp_path / 'late.safetensors', policy_of(PLAIN, streaming_pattern))
    assert main(['--bag', str(tmp_path / 'bags'), '--policy', str(tmp_path / 'driver.safetensors'),
                 '--policy', str(tmp_path / 'late.safetensors'), '--output', str(tmp_path / 'out'),
                 *EAGER]) == 0
    said = capsys.readouterr().out
    folder = (tmp_path / 'out' / 'latest').resolve()
    assert said.endswith(f'\n\nreport: {folder / "report.html"}\n')
    assert 'yaw rate error [rad/s]: -' in said and 'driver is better' in said
    assert 'The error in effect of driver (sequential) was ' in said
    assert 'The first 1 frames are left out' in said
    assert 'late has no answer to 1 frame at the start of episodes' in said
    assert 'Policies compared' in (folder / 'report.html').read_text()
    run = read_run(folder)
    driver, late = run.traces['driver'], run.traces['late']
    wanted = np.array([brightness(i) / 255 - 0.5 for i in range(60)])
    np.testing.assert_allclose(run.reference, np.stack([np.full(60, 0.5), wanted], 1), atol=1e-8)
    np.testing.assert_allclose(driver.commands, run.reference, atol=1e-6)
    np.testing.assert_allclose(late.commands[1:, 1], wanted[:-1], atol=1e-6)
    assert np.isnan(late.commands[0]).all() and (driver.arrivals > run.stamps).all()
    assert compare(run).figures['late'].classes['lost'] == 0


def test_figures_for_programs_at_true_pace(tmp_path, capsys, without_plots):
    bag(tmp_path / 'drive', stamps(8))
    save_policy(tmp_path / 'driver.safetensors', policy_of(PLAIN, sequential_pattern))
    assert main([
        '--bag', str(tmp_path / 'drive'), '--policy', str(tmp_path / 'driver.safetensors'),
        '--pace', 'true', '--limit-frames', '6', '--json', '--output', str(tmp_path), *EAGER]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data['frames'] <= 6 and data['differences'] == []
    figures = data['policies']['driver']
    np.testing.assert_allclose(figures['error'], [0, 0], atol=1e-6)
    assert sum(figures['classes'].values()) == figures['frames'] and figures['lateral'] is None
    assert data['remarks'][0].startswith('Replayed at true pace')


def test_both_paces_give_the_same_answers(tmp_path):
    playback = playback_of(bag(tmp_path / 'drive', stamps(12)))
    fast, true, other = (player_of(MEMORY) for _ in range(3))
    replay_fast(playback, [fast])
    slept = []
    replay_true(playback, [true, other], slept.append)
    assert yaw_rates(fast) == yaw_rates(true) == yaw_rates(other)
    assert [answer.arrival_ns for answer in true.answers] == stamps(12)
    assert np.sum(slept) == pytest.approx(2 * 11 * PERIOD / 1e9) and not true.missed


def test_a_busy_policy_takes_the_newest_frame(tmp_path):
    playback = playback_of(bag(tmp_path / 'drive', stamps(8)))
    ticks = count(0, PERIOD // 2)
    player = player_of(now_ns=lambda: next(ticks))
    replay_true(playback, [player], [].append)
    # Half a period each to convert, to respond and to settle: two frames of three are answered.
    assert [(answer.number, (answer.arrival_ns - stamps(1)[0]) / PERIOD)
            for answer in player.answers] == [(0, 1), (1, 2.5), (3, 4), (4, 5.5), (6, 7),
                                              (7, 8.5)]
    assert player.missed == [2, 5]
    assert {number: pytest.approx(brightness(number) / 255 - 0.5, abs=1e-6)
            for number in (0, 1, 3, 4, 6, 7)} == yaw_rates(player)
    # Had the replay been stopped while another policy saw frame 4, frame 5 would not count.
    del playback.decoded[5:]
    run = record_of(tmp_path / 'out', [playback], [player], lambda *_: None)
    assert len(run.stamps) == 5
    assert 'one let 1 frame pass while it was busy' in ' '.join(remarks(compare(run)))


def test_an_image_held_for_three_updates_is_stepped_and_timed_three_times(tmp_path):
    playback = playback_of(bag(tmp_path / 'drive', stamps(2)))
    ticks = accumulate(cycle([0, 1, *[10, 100] * 3]))
    policy = policy_of(MEMORY, sequential_pattern)
    player = Player('held', policy, Engine(policy.network, updates_per_frame=3),
                    lambda: next(ticks) * 10**9)
    replay_fast(playback, [player])
    assert {stage: (durations.count, durations.total, durations.longest)
            for stage, durations in player.stages.items()} == {
                'convert': (2, 2.0, 1.0), 'respond': (6, 60.0, 10.0), 'settle': (6, 600.0, 100.0)}
    expected, value = [], 0.0
    for i in range(2):
        for _ in range(3):
            value = brightness(i) / 255 - 0.5 + 0.5 * value
        expected.append(value)
    np.testing.assert_allclose(list(yaw_rates(player).values()), expected, atol=1e-6)
    # From the image to the last response: what comes before it belongs to the answer's time.
    assert [answer.arrival_ns - stamp for answer, stamp in zip(player.answers, stamps(2))] == [
        (1 + 2 * 110 + 10) * 10**9] * 2


def test_memory_is_empty_after_a_gap_and_in_the_next_recording(tmp_path):
    times = np.array(stamps(20))
    times[12:] += 4 * PERIOD
    playback = playback_of(bag(tmp_path / 'drive', times.tolist()))
    player, fresh = player_of(MEMORY), player_of(MEMORY)
    replay_fast(playback, [player])
    expected, value = [], 0.0
    for i in range(20):
        value = brightness(i) / 255 - 0.5 + (0.5 * value if i != 12 else 0)
        expected.append(value)
    np.testing.assert_allclose(list(yaw_rates(player).values()), expected, atol=1e-6)
    assert playback.episodes.tolist() == [0] * 12 + [1] * 8
    assert playback.stamps_ns.tolist() == stamps(20) and playback.end_ns == stamps(21)[-1]
    replay_fast(playback, [fresh])
    replay_fast(playback, [player])
    assert yaw_rates(player) == yaw_rates(fresh)


def test_a_policy_too_slow_for_its_memory_begins_anew(tmp_path):
    playback = playback_of(bag(tmp_path / 'drive', stamps(12)))
    ticks = count(0, PERIOD * 2)
    player = player_of(MEMORY, now_ns=lambda: next(ticks))
    replay_true(playback, [player], [].append)
    assert yaw_rates(player) == {
        number: pytest.approx(brightness(number) / 255 - 0.5, abs=1e-6) for number in (0, 6, 11)}


def test_no_command_is_in_effect_when_an_episode_begins(tmp_path):
    times = np.array(stamps(20))
    times[12:] += 40 * PERIOD
    first = playback_of(bag(tmp_path / 'a', times.tolist()))
    (recording,) = open_recordings([bag(tmp_path / 'b', stamps(6))], Reading())
    second = Playback(recording, Alignment(), first.end_ns)
    run = record_of(tmp_path / 'out', [first, second],
                    [player_of(), player_of(pattern=streaming_pattern, name='late')])
    np.testing.assert_allclose(np.diff(run.stamps), 0.05, atol=1e-9)
    late = run.traces['late']
    assert np.flatnonzero(np.isnan(late.arrivals)).tolist() == [0, 12, 20]
    effect = error_in_effect(run, late)[:-1, 1]
    assert np.flatnonzero(np.isnan(effect)).tolist() == [0, 12, 20]
    effect = error_in_effect(run, run.traces['one'])[:-1, 1]
    assert np.flatnonzero(np.isnan(effect)).tolist() == [12, 20]
    assert np.nanmax(effect) < 1e-6
    assert '26 frames of 2 recordings in 3 episodes' in remarks(compare(run))[1]


def test_what_is_left_out_is_counted_and_foreign_units_are_named(tmp_path):
    path = tub(tmp_path / 'tub', count=30)
    (path / 'images' / '7_cam_image_array_.jpg').write_bytes(b'no picture')
    run = record_of(tmp_path / 'out', [playback_of(path)],
                    [player_of(limits=CommandScale(1.0, 2.5))])
    assert len(run.stamps) == 29 and not np.isnan(run.traces['one'].arrivals).any()
    said = ' '.join(remarks(compare(run)))
    assert 'Left out of the recordings: 1 frames that cannot be decoded.' in said
    assert 'steering is shown wherever a yaw rate [rad/s] is named' in said
    # Angles 2.6, 2.7, 2.8 and 2.9 of 29 frames.
    assert 'one cannot ask for what the driver did in 13.8% of the frames' in said


def test_what_is_odd_about_a_recording_is_said(tmp_path, capsys, without_plots):
    save_policy(tmp_path / 'one.safetensors', policy_of(PLAIN, sequential_pattern))
    times = stamps(30)
    path = write(tmp_path / 'bag', ('/camera', [(t, raw(t, picture(i) if i % 2 else picture(
        i, (24, 32, 3)))) for i, t in enumerate(times)]),
        ('/cmd_vel', [(t, twist_stamped(t, 0.0, 0.0)) for t in times]))
    assert main(['--bag', str(path), '--policy', str(tmp_path / 'one.safetensors'), '--output',
                 str(tmp_path / 'results'), *EAGER]) == 0
    assert capsys.readouterr().err.splitlines() == [
        'bag: all 30 commands are zero, so there is nothing to learn; if the driver drove, give '
        'the topic of its commands by --command-topic',
        'bag: frames differ: 15 of 32x24 colour, 15 of 16x12 colour; record each camera by '
        'itself']


def test_delay_and_resampling_are_those_of_a_training(tmp_path):
    path = drive(tmp_path / 'drive', 12)
    playback = playback_of(path, Alignment(delay=0.1, resample=10))
    assert playback.period_ns == 2 * PERIOD and len(playback) == 6
    np.testing.assert_allclose(playback.reference[:, 1], [0.2, 0.4, 0.6, 0.8, 1.0, 1.1])
    player = player_of(MEMORY)
    replay_fast(playback, [player])
    assert [frame.values[0, 0, 0] for frame in playback.frames()] == [
        picture(i)[0, 0, 0] for i in range(0, 12, 2)]
    assert len(set(playback.episodes)) == 1 and len(player.answers) == 6


def test_an_episode_ends_where_a_training_would_end_it_even_between_picked_frames(tmp_path):
    times = np.array(stamps(12))
    times[6:] += 3 * PERIOD
    playback = playback_of(bag(tmp_path / 'drive', times.tolist()), Alignment(resample=10))
    player = player_of(MEMORY)
    replay_fast(playback, [player])
    assert playback.episodes.tolist() == [0, 0, 0, 1, 1, 1]
    assert yaw_rates(player)[3] == pytest.approx(brightness(6) / 255 - 0.5, abs=1e-6)


def test_commands_that_were_not_in_force_are_no_reference(tmp_path):
    times = stamps(20)
    path = write(tmp_path / 'drive', ('/camera', [(t, raw(t, picture(0))) for t in times]),
                 ('/cmd_vel', [(times[3], twist_stamped(times[3], 0.5, 0.1))]))
    run = record_of(tmp_path / 'out', [playback_of(path)], [player_of()])
    assert np.flatnonzero(~np.isnan(run.reference[:, 1])).tolist() == list(range(3, 14))
    assert '9 frames without a command of the driver' in ' '.join(remarks(compare(run)))


def stopped_at(monkeypatch, number, times=1):
    """Ask to stop, as Ctrl-C does, when a frame is decoded, or decoded again."""
    decoded, frames = count(1), Playback.frames

    def interrupted(playback):
        for frame in frames(playback):
            if frame.number == number and next(decoded) == times:
                signal.raise_signal(signal.SIGINT)
            yield frame
    monkeypatch.setattr(Playback, 'frames', interrupted)


@pytest.mark.slow
@pytest.mark.parametrize(('pace', 'times'), [('fast', 1), ('true', 2)])
def test_a_replay_that_is_stopped_reports_on_what_all_policies_have_seen(
        tmp_path, capsys, monkeypatch, without_plots, pace, times):
    for name, frames in (('a', 6), ('b', 12), ('c', 6)):
        bag(tmp_path / 'bags' / name, stamps(frames))
    save_policy(tmp_path / 'driver.safetensors', policy_of(PLAIN, sequential_pattern))
    save_policy(tmp_path / 'late.safetensors', policy_of(PLAIN, streaming_pattern))
    # Of the second recording only: the first has no frame 7.
    stopped_at(monkeypatch, 7, times)
    before = signal.getsignal(signal.SIGINT)
    assert main(['--bag', str(tmp_path / 'bags'), '--policy', str(tmp_path / 'driver.safetensors'),
                 str(tmp_path / 'late.safetensors'), '--pace', pace, '--json', '--output',
                 str(tmp_path / 'out'), *EAGER]) == 130
    assert signal.getsignal(signal.SIGINT) is before
    data = json.loads(capsys.readouterr().out)
    assert data['stopped'] and Path(data['report']).exists()
    assert data['remarks'][0] == ('Stopped on request: 2 of 3 recordings replayed, of the last 8 '
                                  'of 12 frames.')
    assert 'late has no answer to 2 frames' in ' '.join(data['remarks'])
    folder = tmp_path / 'out' / 'latest'
    # Every command ceases to be in effect where its recording ends, or where it was left.
    assert Counter(row.policy for row in read_rows(folder) if row.update) == {
        'driver': 2, 'late': 2}
    run = read_run(folder)
    driver, late = run.traces['driver'], run.traces['late']
    assert len(run.stamps) == data['frames'] == 14
    assert not np.isnan(driver.arrivals).any() and np.isnan(late.arrivals).sum() == 2


def test_what_was_stopped_before_it_answered_has_no_report(tmp_path, capsys, monkeypatch):
    bag(tmp_path / 'bag', stamps(6))
    save_policy(tmp_path / 'late.safetensors', policy_of(PLAIN, streaming_pattern))
    usual = ['--bag', str(tmp_path / 'bag'), '--policy', str(tmp_path / 'late.safetensors'),
             str(tmp_path / 'late.safetensors'), '--output', str(tmp_path / 'out'), *EAGER]
    for pace, number in (('fast', 0), ('true', 3)):
        with monkeypatch.context() as patch:
            stopped_at(patch, number)
            assert main([*usual, '--pace', pace]) == 130
        assert capsys.readouterr().err == (
            'compare: stopped before every policy had answered a frame, so there is no report\n')


def test_a_policy_of_another_quantity_is_refused_and_an_unknown_one_named(
        tmp_path, capsys, without_plots):
    yaw_rates = bag(tmp_path / 'bag', stamps(6))
    shares, files = tub(tmp_path / 'tub'), {}
    for kind in ('yaw rate', 'steering', ''):
        files[kind] = tmp_path / f'{kind or "unknown"}.safetensors'
        save_policy(files[kind], policy_of(PLAIN, sequential_pattern,
                                           training={'steering': kind} if kind else {}))
    usual = ('--output', tmp_path / 'out', *EAGER)
    assert fault(capsys, '--bag', shares, '--policy', files['steering'], files['yaw rate'],
                 *usual) == (
        f"compare: policy '{files['yaw rate']}' steers by yaw rates [rad/s], the driver of "
        f"'{shares}' by shares -1 ... 1 of all there is; give a policy that was trained on "
        'recordings like these, or leave the policy out\n')
    angles = [drive(tmp_path / 'angles' / name, 4, command=ackermann_stamped) for name in 'ab']
    assert fault(capsys, '--bag', *angles, '--policy', files['yaw rate'], *usual).endswith(
        f"the driver of '{angles[0]}' and 1 other recording by steering angles [rad]; give "
        '--wheelbase METRES to turn steering angles into yaw rates, or leave the policy out\n')
    assert not (tmp_path / 'out').exists()
    known = 'unknown learnt to steer by is not in the file; it is taken for'
    for path, others, unknown in (
            (shares, ['steering', ''], True), (shares, ['steering'], False),
            (yaw_rates, ['yaw rate', ''], False)):
        assert main(list(map(str, ['--bag', path, '--policy', *(files[kind] for kind in others),
                                   *usual]))) == 0
        assert capsys.readouterr().out.count(known) == unknown


def test_labels():
    assert labels_of([Path('a/x.safetensors'), Path('b/x.safetensors'), Path('y,z.safetensors'),
                      Path('a/x.safetensors')]) == ['a_x', 'b_x', 'y_z', 'a_x_2']


def fault(capsys, *arguments):
    assert main(list(map(str, arguments))) == 1
    return capsys.readouterr().err


def test_faults(tmp_path, capsys):
    path = drive(tmp_path / 'drive', 8)
    save_policy(tmp_path / 'late.safetensors', policy_of(PLAIN, streaming_pattern))
    usual = ('--policy', tmp_path / 'late.safetensors', '--output', tmp_path / 'out', *EAGER)
    assert fault(capsys, '--bag', path, '--image-topic', '/front', *usual).startswith(
        f"compare: '{path}': there is no topic '/front'; give another by --image-topic. Topics "
        'are: /camera (sensor_msgs/msg/Image)')
    assert fault(capsys, '--bag', path, '--policy', 'nowhere', *EAGER).startswith(
        "compare: policy 'nowhere': no such file; shipped policies are ")
    one = drive(tmp_path / 'one', 1)
    assert fault(capsys, '--bag', one, *usual) == (
        f"compare: '{one}': topic '/camera' has under 2 frames, as all recordings given; give "
        'longer ones, or another topic by --image-topic\n')
    slow = drive(tmp_path / 'slow', period=2 * PERIOD)
    assert 'give --resample RATE' in fault(capsys, '--bag', path, slow, *usual)
    assert not (tmp_path / 'out').exists()
    assert fault(capsys, '--bag', path, one, '--limit-frames', '1', *usual) == (
        '1 recording of under 2 frames left out: one\n'
        "compare: policy 'late' answered no frame: no episode is so long that its output depends "
        'on an image; give longer recordings, or leave the policy out\n')
