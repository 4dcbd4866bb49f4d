"""What is odd about a recording is said with its amount, and put right where that is certain."""

from collections import Counter
import json
from pathlib import Path

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from stream_agent.learning.recorded_episodes import cut_recordings, decoded_recordings
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.recordings.alignment import Alignment, choose_stamps, cut, TopicTimes
from stream_agent.recordings.inspection import odd_colours, oddities
from stream_agent.recordings.publishers import drivers_commands
from stream_agent.recordings.recording import (
    BadRecordingError, Commands, NS, Reading, Recording)
from stream_agent.recordings.sources import open_recordings
from support.recordings_files import (
    compressed, drive, joy, picture, raw, stamps, START, tub, twist, twist_stamped,
    write)


def opened(path, **reading):
    (recording,) = open_recordings([path], Reading(**reading))
    return recording


def said(path, alignment=Alignment(), **reading):
    """Return what is odd, without the recording's name."""
    recording = opened(path, **reading)
    for _ in recording.images():
        pass
    return [line.removeprefix(f'{recording.name}: ') for line in oddities(recording, alignment)]


def bag(path, frames, commands, command=twist_stamped, image=raw):
    """Write frames at times, and commands as (time, speed, steering)."""
    return write(path, ('/camera', [(t, image(t, picture(i))) for i, t in enumerate(frames)]),
                 ('/cmd_vel', [(t, command(t, *map(float, values))) for t, *values in commands]))


def usual(count=200):
    return [(t, 0.5, np.sin(i / 10)) for i, t in enumerate(stamps(count))]


# Publishers

def source(rate, what, seconds=8.0, phase=0.0, jitter=0.0, seed=0):
    """Return the messages of one publisher: time [s] and values of each."""
    times = np.arange(phase / rate, seconds, 1 / rate)
    times += np.random.default_rng(seed).uniform(-jitter, jitter, len(times)) / rate
    return [(t, *what(t)) for t in times]


def received(*sources):
    """Return what a recorder gets: times, values, and who sent each."""
    merged = np.array(sorted((*message, number) for number, messages in enumerate(sources)
                             for message in messages))
    times = TopicTimes('/cmd_vel', None, START + np.rint(merged[:, 0] * NS).astype(np.int64))
    return times, merged[:, 1:3].copy(), merged[:, 3]


def winding(t):
    return 0.5, np.sin(1.3 * t)


def zeros(t):
    return 0.0, 0.0


def with_a_stop(t):
    return zeros(t) if 3 < t < 5 else winding(t)


@settings(deadline=None)
@given(driver=st.sampled_from([5, 10, 20, 50, 100]), other=st.sampled_from([10, 20, 30, 50, 100]),
       phase=st.floats(0.1, 0.9), jitter=st.floats(0.0, 0.2))
def test_zeros_of_a_second_publisher_are_left_out(driver, other, phase, jitter):
    times, values, sender = received(
        source(driver, winding, jitter=jitter, phase=0.01),
        source(other, zeros, jitter=jitter, phase=phase, seed=1))
    kept, (note,) = drivers_commands(times, values, 'auto')
    assert (kept == (sender == 0)).all()
    assert note.startswith(f"two publishers sent commands on '/cmd_vel': {kept.sum()} (")
    assert f'that are always 0, 0: {(~kept).sum()} are left out; ' in note
    everything, notes = drivers_commands(times, values, 'all')
    assert everything.all() and not notes


@settings(deadline=None)
@given(driver=st.sampled_from([20, 50]), other=st.sampled_from([20, 50]),
       phase=st.floats(0.1, 0.9))
def test_a_driver_that_stops_itself_does_stop(driver, other, phase):
    times, values, sender = received(
        source(driver, with_a_stop), source(other, zeros, phase=phase))
    kept, _ = drivers_commands(times, values, 'auto')
    assert kept[values.any(axis=1)].all()
    # In force at any time is what the driver sent last, but for a moment after the stop.
    at = START + np.arange(0.5, 7.5, 0.01) * NS
    right = np.array([with_a_stop(t) for t in np.floor((at - START) / NS * driver) / driver])
    last = np.searchsorted(times.received[kept], at, side='right') - 1
    wrong = np.abs(values[kept][last] - right).max(axis=1) > 0.15
    assert wrong.sum() <= 100 * 2 / driver + 2
    # Nothing but the second publisher's zeros was sent here.
    assert not kept[(times.received < START + 2.8 * NS) & (sender == 1)].any()


def test_zeros_are_told_apart_by_headers_where_reception_comes_in_bursts():
    times, values, sender = received(source(20, winding), source(50, zeros, phase=0.3))
    bursts = times.received // 10**8 * 10**8 + 10**8 + np.arange(len(values)) * 1000
    assert drivers_commands(TopicTimes('/cmd_vel', None, bursts), values, 'auto')[0].all()
    kept, (note,) = drivers_commands(
        TopicTimes('/cmd_vel', times.received, bursts), values, 'auto')
    assert (kept == (sender == 0)).all() and '(20.0 Hz) and' in note


@pytest.mark.parametrize('driver, other', [(20, 50), (50, 20), (20, 20)])
def test_a_second_publisher_that_repeats_one_command_is_left_out_if_asked_for(driver, other):
    times, values, sender = received(source(driver, winding), source(
        other, lambda t: (0.2, 0.0), phase=0.4))
    with pytest.raises(BadRecordingError) as error:
        drivers_commands(times, values, 'auto')
    counts = [(sender == number).sum() for number in (0, 1)]
    assert str(error.value) == (
        f"two publishers sent commands on '/cmd_vel': {counts[0]} ({driver}.0 Hz) and {counts[1]} "
        f'({other}.0 Hz) that are always 0.2, 0; give --publishers changing to leave these out, '
        'or --publishers all to take all of them')
    kept, (note,) = drivers_commands(times, values, 'changing')
    assert (kept == (sender == 0)).all() and 'that are always 0.2, 0' in note
    assert drivers_commands(times, values, 'all')[0].all()


@pytest.mark.parametrize('other', [20, 30, 50])
def test_two_drivers_are_refused(other):
    times, values, _ = received(source(20, winding), source(
        other, lambda t: (1.0, np.cos(2 * t)), phase=0.4))
    for wanted in ('auto', 'changing'):
        with pytest.raises(BadRecordingError, match='that differ; give another topic by '
                           '--command-topic, .* or give --publishers all'):
            drivers_commands(times, values, wanted)
    assert drivers_commands(times, values, 'all')[0].all()


@settings(deadline=None)
@given(rate=st.sampled_from([5, 20, 50]), jitter=st.floats(0.0, 0.45), seed=st.integers(0, 99),
       kind=st.sampled_from([
           'winding', 'stop', 'noise', 'taps', 'zigzag', 'steps', 'now and then', 'zero']))
def test_one_publisher_is_one_whatever_it_does(rate, jitter, seed, kind):
    random = np.random.default_rng(seed)
    what = {'winding': winding, 'stop': with_a_stop, 'zero': zeros,
            'noise': lambda t: random.uniform(-1, 1, 2),
            'taps': lambda t: (0.5 * (t % 1 < 0.15), 0.0),
            'zigzag': lambda t: (0.5, np.sign(np.sin(8 * t))),
            'steps': lambda t: (0.3, random.integers(-1, 2)),
            'now and then': lambda t: (0.5, float(random.random() > 0.1))}[kind]
    times, values, _ = received(source(rate, what, jitter=jitter, seed=seed))
    kept, notes = drivers_commands(times, values, 'auto')
    assert kept.all() and not notes


def test_labels_are_the_driver_s_where_fifty_zeros_a_second_are_beside_them(tmp_path):
    mixed = sorted([*usual(), *((START + 3_000_000 + i * 20_000_000, 0.0, 0.0)
                                for i in range(500))])
    recording = opened(bag(tmp_path / 'bag', stamps(200), mixed))
    (span,) = cut(recording.frame_stamps, recording.commands, Alignment(), Counter())
    np.testing.assert_allclose(span.commands[:, 1], np.sin(np.arange(200) / 10))
    assert recording.summary().endswith('; left out: 500 commands of a second publisher')
    assert len(opened(tmp_path / 'bag', publishers='all').commands.stamps) == 700


# Everything else

def test_nothing_is_odd_about_a_usual_recording(tmp_path):
    assert said(bag(tmp_path / 'bag', stamps(200), usual())) == []
    assert said(bag(tmp_path / 'twist', stamps(200), usual(), twist, compressed)) == []


def test_headers_on_another_clock_pair_what_was_received_together(tmp_path):
    path = write(tmp_path / 'bag', ('/camera', [
        (t, raw(t - 3 * NS // 2, picture(i))) for i, t in enumerate(stamps(100))]),
        ('/cmd_vel', [(t, twist_stamped(t, 0.5, i / 10)) for i, t in enumerate(stamps(100))]))
    recording = opened(path)
    (span,) = cut(recording.frame_stamps, recording.commands, Alignment(), Counter())
    assert span.commands[80, 1] == 8
    (line,) = oddities(recording)
    assert line.startswith("bag: the headers of '/camera' are up to 1.50 s behind those of "
                           "'/cmd_vel': both go by reception; ")


def test_a_simulator_at_a_third_of_real_time_keeps_its_rate(tmp_path):
    times = [START + i * NS // 10 for i in range(100)]
    path = write(tmp_path / 'bag', ('/camera', [
        (t, raw(5 * NS + i * NS // 30, picture(i))) for i, t in enumerate(times)]),
        ('/cmd_vel', [(t + 10**7, twist(t, 0.5, i / 8)) for i, t in enumerate(times)]))
    recording = opened(path)
    assert recording.rate == pytest.approx(30, rel=1e-3)
    (span,) = cut(recording.frame_stamps, recording.commands, Alignment(), Counter())
    assert span.frames.tolist() == list(range(1, 100))
    assert (8 * span.commands[:, 1]).tolist() == list(range(99))
    assert said(path) == [
        "the clock of the headers of '/camera' runs 0.33 times as fast as that of the recorder "
        "(30.0 Hz by header, 10.0 Hz by reception): frames and commands go by the headers' clock; "
        "give --stamps receive if the recorder's is right"]
    assert opened(path, stamps='receive').rate == 10


def test_stamps_in_bursts_and_gaps(tmp_path):
    times = [START + (i // 3) * 150_000_000 + (i % 3) * 3_000_000 for i in range(240)]
    times[120:] = [t + 3 * NS for t in times[120:]]
    path = bag(tmp_path / 'bag', times, [(t, 0.5, i / 20) for i, t in enumerate(times)])
    assert opened(path).rate == pytest.approx(20, rel=0.05)
    assert said(path) == [
        'stamps come in bursts or frames are missing: 333.3 Hz by the median distance, 20.3 Hz by '
        'their number, which counts; let the driver of the camera set the stamps',
        '1 times frames are missing, for up to 3.1 s: an episode ends at each; give --longest-gap '
        'SECONDS to bridge them']
    assert len(said(path, Alignment(longest_gap=4.0))) == 1


def test_times_of_a_conversion_and_frames_that_came_twice(tmp_path):
    fast = [START + i * 3_000_000 for i in range(100)]
    (line,) = said(bag(tmp_path / 'fast', fast, [(t, 0.5, i / 20) for i, t in enumerate(fast)]))
    assert line.startswith('333 Hz is faster than cameras are: ')
    twice = sorted(stamps(100)[::1] + stamps(100)[::5])
    (line,) = said(bag(tmp_path / 'twice', twice, [(t, 0.5, i / 20) for i, t in enumerate(twice)]))
    assert line.startswith('20 of 120 frames have the stamp of the frame before and are left out;')


def test_a_driver_that_speaks_only_on_change_is_told_what_helps(tmp_path):
    path = bag(tmp_path / 'bag', stamps(200), [
        (START + i * 2 * NS, 0.5, i) for i in range(5)], twist)
    assert said(path) == [
        '55 of 200 frames (28%) are used, without 145 frames whose command is older than 0.5 s; '
        'the driver seems to send commands only when they change, so give --oldest-command 2 '
        '(116 frames more), or --hold-commands (145 more)']
    recording = opened(path)
    for alignment, used in ((Alignment(oldest_command=2.0), 55 + 116 + 29),
                            (Alignment(hold_commands=True), 200)):
        spans = cut(recording.frame_stamps, recording.commands, alignment, Counter())
        assert sum(len(span.frames) for span in spans) == used
        assert said(path, alignment) == []


def test_topics_that_were_not_recorded_at_the_same_time(tmp_path):
    path = bag(tmp_path / 'bag', stamps(200), [(t, 0.5, i) for i, t in enumerate(stamps(20))])
    (line,) = said(path)
    assert line == ('30 of 200 frames (15%) are used, without 170 frames whose command is older '
                    'than 0.5 s; check that frames and commands were recorded at the same time')


def test_what_helps_depends_on_what_leaves_frames_out(tmp_path):
    commands = [(t, np.nan, i) for i, t in enumerate(stamps(30))]
    assert said(bag(tmp_path / 'nan', stamps(30), commands)) == [
        '0 of 30 frames (0%) are used, without 30 frames whose command is NaN or infinite; let '
        'the driver of the commands send numbers, or leave the recording out']
    assert said(bag(tmp_path / 'one', stamps(1), [(t, 0.5, 1) for t in stamps(1)])) == [
        '0 of 1 frames (0%) are used, without those of short episodes; leave the recording out, '
        'or record longer drives']


@pytest.mark.parametrize('commands, begins', [
    ([(t, 0, 0) for t in stamps(200)],
     'all 200 commands are zero, so there is nothing to learn; '),
    ([(t, 0.5 * (i > 150), 0) for i, t in enumerate(stamps(200))],
     '151 of 200 commands (76%) are zero: a policy learns above all to stand still; '),
    ([(t, 0.5, 40 - i / 5) for i, t in enumerate(stamps(200))],
     'a yaw rate of up to 40 rad/s: these may be degrees per second, where radians are '),
    ([(t, 150, 0.1 * np.sin(i)) for i, t in enumerate(stamps(200))],
     'speeds of up to 150 m/s: these may be of another unit; '),
])
def test_commands_that_say_nothing_or_too_much(tmp_path, commands, begins):
    (line,) = said(bag(tmp_path / 'bag', stamps(200), commands))
    assert line.startswith(begins)


def test_a_tub_in_which_nobody_drove(tmp_path):
    path = tub(tmp_path / 'tub', 20)
    for file in path.glob('*.catalog'):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text(''.join(json.dumps(line | {'user/angle': 0.0, 'user/throttle': 0.0}) + '\n'
                                for line in lines))
    assert said(path) == ['all 20 commands are zero, so there is nothing to learn; leave it out']


def test_a_joystick_that_repeats_one_value_for_a_minute(tmp_path):
    commands = [(t, 0.4, 0.25 if i > 100 else i / 100) for i, t in enumerate(stamps(1400))]
    assert said(bag(tmp_path / 'bag', stamps(1400), commands)) == [
        '0.4, 0.25 is repeated for 65 s (1299 commands); leave that part out if a joystick got '
        'stuck there']
    large = [(t, 0.4, 1400 + i) for i, t in enumerate(stamps(100))]
    (line,) = said(bag(tmp_path / 'joy', stamps(100), large, joy), steering_axis=0)
    assert line.startswith('shares of up to 1499, where 1 is all there is')


def test_frames_that_differ_in_size_and_colour(tmp_path):
    def mixed(stamp, pixels):
        if stamp % (2 * NS // 20) == START % (2 * NS // 20):
            return raw(stamp, pixels[..., :1].copy(), 'mono8')
        return raw(stamp, pixels)
    path = bag(tmp_path / 'bag', stamps(200), usual(), image=mixed)
    assert said(path) == ['frames differ: 100 of 16x12 grey, 100 of 16x12 colour; record '
                          'each camera by itself']


@pytest.mark.parametrize('channels, said_of_grey', [(3, 2), (1, 1)])
def test_what_is_said_when_a_policy_is_to_learn(tmp_path, channels, said_of_grey):
    def grey(stamp, pixels):
        return compressed(stamp, pixels[..., 0].copy())
    bag(tmp_path / 'bags' / 'grey', stamps(50), usual(50), image=grey)
    drive(tmp_path / 'bags' / 'colour', 50)
    for _ in range(2):
        # The second time from the cache.
        lines = []
        recordings = decoded_recordings([tmp_path / 'bags'], Reading(), Preprocessing(
            (channels, 6, 8)), tmp_path / 'cache', lines.append)
        assert len(lines[1:]) == said_of_grey
        assert lines[1:] == odd_colours(recordings, channels)
    if channels == 3:
        assert lines[1].startswith('50 of 100 frames are grey, and the policy takes colour: ')
    assert lines[-1] == (
        'the recordings differ in the size or colour of frames: 50 of 16x12 colour, 50 of 16x12 '
        'grey; all are brought to the same size, so check that they show the same')


def test_what_was_odd_when_it_was_read_is_remembered_with_the_pixels(tmp_path):
    path = bag(tmp_path / 'bag', stamps(200), [(t, 0, 0) for t in stamps(200)])
    for _ in range(2):
        lines = []
        recordings = decoded_recordings([path], Reading(), Preprocessing((1, 6, 8)),
                                        tmp_path / 'cache')
        cut_recordings(recordings, Alignment(), lines.append)
        assert [line.partition(';')[0] for line in lines] == [
            'bag: all 200 commands are zero, so there is nothing to learn']


class Timed(Recording):
    """A recording of times alone."""

    def recorded_frames(self):
        yield from ()

    def files(self):
        return []


def odd_times(random, count):
    """Return times of reception, and headers that may be wrong in any way."""
    times = START + np.cumsum(random.choice([0, 10**7, 5 * 10**7, 10**9, 10**12], count,
                                            p=[0.1, 0.3, 0.5, 0.05, 0.05]))
    headers = times + random.choice([0, -10**7, 15 * 10**8, -10**15])
    return times, [None, headers, headers - random.choice([0, 10**9, 10**10], count),
                   np.where(random.random(count) < random.random(), 0, headers),
                   (times - times[0]) // 3 + 1, random.permutation(headers)][random.integers(6)]


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), wanted=st.sampled_from(['auto', 'header', 'receive']),
       sizes=st.tuples(*[st.sampled_from([1, 2, 3, 20, 60])] * 2))
@pytest.mark.filterwarnings('error')
def test_whatever_the_clocks_are_frames_ascend_or_it_is_refused(seed, wanted, sizes):
    random = np.random.default_rng(seed)
    (frames, headers), (sent, stamped) = (odd_times(random, size) for size in sizes)
    values = random.choice([0.0, 0.0, 0.5, -0.5, np.nan, np.inf, 1e300], (sizes[1], 2))
    try:
        orders = TopicTimes('/cmd_vel', stamped, sent)
        kept, notes = drivers_commands(orders, values, 'auto')
        chosen = choose_stamps(TopicTimes('/camera', headers, frames), orders.only(kept), wanted)
        recording = Timed(
            Path('bag'), '/camera', *chosen.frames,
            Commands(chosen.commands[0], values[kept], 'yaw rate'), notes + chosen.notes)
    except BadRecordingError as error:
        assert '; give ' in str(error)
        return
    assert (np.diff(recording.frame_stamps) > 0).all()
    assert (np.diff(recording.commands.stamps) >= 0).all()
    assert len(recording.commands.stamps) == kept.sum()
    for alignment in (Alignment(), Alignment(hold_commands=True, interpolation='linear')):
        assert all('; ' in line for line in oddities(recording, alignment))
