"""Frames with commands, by time: held against examples worked out by hand."""

from collections import Counter

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from stream_agent.bounded_settings import SettingsError
from stream_agent.recordings.alignment import (
    Alignment, check_rates, choose_stamps, cut, pick, TopicTimes)
from stream_agent.recordings.recording import BadRecordingError, camera_period, Commands

MS = 10**6
# Frames every 50 ms; commands every 40 ms, steering = their number.
FRAMES = np.arange(100, 600, 50) * MS
STEERING = Commands(np.arange(120, 600, 40) * MS,
                    np.array([(1.0, number) for number in range(12)]), 'yaw rate')


def steering_of(commands=STEERING, frames=FRAMES, **options):
    """Return frames, steering and counts of the only episode."""
    skipped = Counter()
    (span,) = cut(frames, commands, Alignment(**options), skipped)
    return frames[span.frames] // MS, span.commands[:, 1], +skipped


def test_the_command_in_force_at_the_frames_time():
    frames, steering, skipped = steering_of()
    assert frames.tolist() == [150, 200, 250, 300, 350, 400, 450, 500, 550]
    #                           120  200  240  280  320  400  440  480  520
    assert steering.tolist() == [0, 2, 3, 4, 5, 7, 8, 9, 10]
    assert skipped == {'frames before the first command': 1}


def test_the_actuation_delay_asks_for_a_later_command():
    frames, steering, skipped = steering_of(delay=0.1)
    assert frames[0] == 100
    #        at  200 250 300 350 400 450 500 550 600 650
    assert steering.tolist() == [2, 3, 4, 5, 7, 8, 9, 10, 11, 11]
    assert not skipped


def test_between_commands_by_a_line():
    _, steering, _ = steering_of(interpolation='linear')
    np.testing.assert_allclose(steering, [0.75, 2, 3.25, 4.5, 5.75, 7, 8.25, 9.5, 10.75])


def test_old_commands_and_commands_that_are_no_numbers_are_counted():
    values = STEERING.values.copy()
    values[2:4, 1] = np.nan, np.inf
    commands = Commands(STEERING.stamps, values, 'yaw rate')
    frames, _, skipped = steering_of(commands, np.arange(100, 1100, 50) * MS, oldest_command=0.3,
                                     longest_gap=0.2)
    assert frames.tolist() == [150, *range(300, 900, 50)]
    assert skipped == {'frames before the first command': 1,
                       'frames whose command is older than 0.3 s': 4,
                       'frames whose command is NaN or infinite': 2}


def test_gaps_begin_new_episodes_and_the_shortest_are_left_out():
    frames = np.array([150, 200, 250, 401, 430, 581]) * MS
    skipped = Counter()
    spans = cut(frames, STEERING, Alignment(), skipped)
    assert [span.frames.tolist() for span in spans] == [[0, 1, 2], [3, 4]]
    assert +skipped == {'episodes of under 2 frames': 1}
    (span,) = cut(frames, STEERING, Alignment(longest_gap=0.2), skipped)
    assert len(span.frames) == 6


def test_resampling_takes_the_nearest_frames():
    frames = np.array([0, 49, 100, 160, 205, 240, 310]) * MS
    assert pick(frames, 10).tolist() == [0, 2, 4, 6]
    assert pick(frames, 20).tolist() == [0, 1, 2, 3, 4, 5, 6]
    _, steering, _ = steering_of(resample=10)
    assert steering.tolist() == [0, 3, 5, 8, 10]


class Camera:
    path, topic = 'bag', '/camera'

    def __init__(self, rate):
        self.rate = rate


def test_other_rates_are_refused_unless_resampling_is_asked_for():
    recordings = [Camera(20.0), Camera(21.5), Camera(30.0)]
    check_rates(recordings[:2], Alignment())
    check_rates(recordings, Alignment(resample=20))
    for alignment, rate, wanted in ((Alignment(), 30, 20), (Alignment(rate=30), 20, 30)):
        with pytest.raises(BadRecordingError) as error:
            check_rates(recordings, alignment)
        assert str(error.value) == (
            f"'bag': topic '/camera': {rate}.0 Hz, where {wanted}.0 Hz is expected; memory counts "
            'in frames, so give --resample RATE to pick frames by time, or leave the recording '
            'out')
    with pytest.raises(BadRecordingError) as error:
        check_rates(recordings, Alignment(resample=30))
    assert str(error.value) == ("'bag': topic '/camera': 20.0 Hz, less than --resample 30; frames "
                                'are picked, not made up')


def test_an_impossible_delay():
    with pytest.raises(SettingsError) as error:
        Alignment(delay=-0.1)
    assert str(error.value) == ('delay is -0.1; set it to a number from 0 to 1 s (actuation '
                                "delay: a frame's command is that of so much later)")


def test_a_command_holds_until_the_next_one_if_asked_for():
    frames = np.arange(100, 5000, 50) * MS
    commands = Commands(np.array([200, 3000]) * MS, np.array([(0.5, 1.0), (0.5, 2.0)]), 'yaw rate')
    (span,) = cut(frames, commands, Alignment(hold_commands=True), skipped := Counter())
    assert span.commands[:, 1].tolist() == [1.0] * 56 + [2.0] * 40
    assert +skipped == {'frames before the first command': 2}


# Clocks. Frame i was captured when command i was sent; both are received a little later.

T, START = 50 * MS, 1_700_000_000 * 10**9
TIMES = START + np.arange(200) * T


def numbered(count):
    """Return commands that are their own numbers."""
    return np.repeat(np.arange(count, dtype=float), 2).reshape(-1, 2)


def paired(frames, commands):
    """Return for every frame the number of its command; -1 if it has none."""
    (span,) = cut(frames, Commands(commands, numbered(len(commands)), ''),
                  Alignment(longest_gap=1e6, hold_commands=True), Counter())
    found = np.full(len(frames), -1)
    found[span.frames] = span.commands[:, 0]
    return found


def chosen(frame_headers, command_headers, wanted='auto', frames=TIMES, commands=TIMES,
           latency=(8 * MS, MS)):
    """Return the stamps of both, and what is said; headers None for none."""
    (stamps, _), (others, _), notes = choose_stamps(
        TopicTimes('/camera', frame_headers, frames + latency[0]),
        TopicTimes('/cmd_vel', command_headers, commands + latency[1]), wanted)
    return stamps, others, notes


def held_against_reception(frame_headers, command_headers):
    """Check that both go by reception, and return what is said of it."""
    stamps, others, (note,) = chosen(frame_headers, command_headers)
    assert (stamps == TIMES + 8 * MS).all() and (others == TIMES + MS).all()
    assert paired(stamps, others).tolist() == list(range(200))
    assert note.endswith(': both go by reception; synchronise the clocks (chrony), or give '
                         '--stamps header if the headers are right')
    return note


def test_headers_that_agree_are_taken():
    stamps, others, notes = chosen(TIMES, TIMES)
    assert (stamps == TIMES).all() and (others == TIMES).all() and not notes
    # On a clock of both, however far from the recorder's.
    stamps, others, notes = chosen(TIMES - 10**15, TIMES - 10**15)
    assert (stamps == TIMES - 10**15).all() and (others == stamps).all() and not notes


@settings(deadline=None)
@given(offset=st.one_of(st.integers(-10**8, -15), st.integers(15, 10**8)).map(
    lambda hundredths: 10 * hundredths + 7))
def test_headers_that_differ_from_those_of_the_other_topic_are_not_taken(offset):
    side = 'ahead of' if offset > 0 else 'behind'
    # Of images, whose latency is longer by 7 ms.
    note = held_against_reception(TIMES + offset * MS, TIMES)
    assert note.startswith(f"the headers of '/camera' are up to {abs(offset - 7) / 1000:.2f} s "
                           f"{side} those of '/cmd_vel'")
    held_against_reception(TIMES, TIMES + offset * MS)
    note = held_against_reception(TIMES + offset * MS, None)
    assert note.startswith(f"the headers of '/camera' are up to {abs(offset - 8) / 1000:.2f} s "
                           f"{side} the recorder's clock")
    note = held_against_reception(None, TIMES + offset * MS)
    assert note.startswith(f"the headers of '/cmd_vel' are up to {abs(offset - 1) / 1000:.2f} s "
                           f'{side} ')


@settings(deadline=None)
@given(percent=st.one_of(st.floats(-2.9, -1.5), st.floats(1.5, 2.9)))
def test_clocks_that_drift_apart(percent):
    drifted = TIMES + np.rint((TIMES - START) * percent / 100).astype(np.int64)
    held_against_reception(drifted, TIMES)
    held_against_reception(TIMES, drifted)
    stamps, others, notes = chosen(drifted, drifted)
    assert (stamps == drifted).all() and (others == drifted).all() and not notes


@settings(deadline=None)
@given(at=st.integers(30, 165), jump=st.sampled_from([-60_000, -700, 700, 60_000]))
def test_one_clock_that_jumps(at, jump):
    jumped = TIMES + jump * MS * (np.arange(200) >= at)
    held_against_reception(jumped, TIMES)
    held_against_reception(TIMES, jumped)
    held_against_reception(jumped, None)


@settings(deadline=None)
@given(at=st.integers(5, 195), back=st.integers(600, 10**6))
def test_a_clock_of_both_that_is_set_back_ends_an_episode(at, back):
    fallen = TIMES - back * MS * (np.arange(200) >= at)
    stamps, others, (note,) = chosen(fallen, fallen, commands=TIMES - MS)
    assert note == (f'the clock was set back by {(back - 50) / 1000:.1f} s at frame {at}: an '
                    'episode ends there; set clocks before a recording')
    (first, second) = cut(stamps, Commands(others, numbered(200), ''),
                          Alignment(), Counter())
    assert first.frames.tolist() == list(range(at))
    assert second.frames.tolist() == list(range(at, 200))
    for span in (first, second):
        assert span.commands[:, 0].tolist() == span.frames.tolist()


@settings(deadline=None)
@given(speed=st.sampled_from([0.1, 1 / 3, 0.9, 1.3, 5.0]), headers=st.booleans(),
       wanders=st.booleans())
def test_a_simulator_that_is_slower_or_faster_than_real_time(speed, headers, wanders):
    pace = 1 + 0.5 * wanders * np.sin(np.arange(200) / 20)
    simulated = 5 * 10**9 + np.cumsum(np.full(200, 33 * MS))
    received = START + np.cumsum(33 * MS / speed * pace).astype(np.int64)
    stamps, others, (note,) = chosen(simulated, simulated if headers else None, frames=received,
                                     commands=received, latency=(2 * MS, 3 * MS))
    assert (stamps == simulated).all()
    # The command came after the frame that it answers.
    assert paired(stamps, others + (headers and MS)).tolist() == [-1, *range(199)]
    assert 'times as fast as that of the recorder (30.' in note


@settings(deadline=None)
@given(at=st.integers(12, 195))
def test_a_simulator_that_was_started_anew_ends_an_episode(at):
    simulated = 5 * 10**9 + T * np.concatenate([np.arange(at), np.arange(200 - at)])
    # The first command of each part is lost if it came between the parts, without a header.
    stamps, others, notes = chosen(simulated, None, commands=TIMES - 20 * MS)
    assert [note.partition(' by ')[0] for note in notes] == ['the clock was set back']
    (first, second) = cut(stamps, Commands(others, numbered(200), ''), Alignment(), Counter())
    assert first.frames.tolist() == list(range(at))
    assert second.frames.tolist() == list(range(at + 1, 200))
    assert np.concatenate([first.commands, second.commands])[:, 0].tolist() == [
        *range(at), *range(at + 1, 200)]


def test_headers_that_are_set_in_part_follow_from_reception():
    headers = TIMES - 10**15
    headers[::3] = 0
    stamps, others, (note,) = chosen(headers, TIMES - 10**15)
    np.testing.assert_allclose(stamps - START + 10**15, TIMES - START, atol=10_000)
    assert note == ("67 of 200 headers of '/camera' have no stamp: theirs follow from "
                    'reception; let the driver set them')
    headers[:190] = 0
    stamps, others, notes = chosen(headers, TIMES)
    assert (stamps == TIMES + 8 * MS).all() and (others == TIMES).all()
    assert notes == ["only 7 of 200 headers of '/camera' have a stamp: it goes by reception; "
                     'let the driver set them']


def test_headers_of_whole_seconds_are_no_times():
    coarse = TIMES // 10**9 * 10**9
    stamps, others, (note,) = chosen(coarse, None)
    assert (stamps == TIMES + 8 * MS).all()
    assert note == ("190 of 200 headers of '/camera' repeat the stamp before: it goes by "
                    'reception; let the driver set them finely')


def test_a_delay_in_transport_is_no_other_clock():
    late = TIMES.copy()
    # A link that hangs for half a second.
    late[100:110] = late[110]
    stamps, _, notes = chosen(TIMES, TIMES, frames=late)
    assert (stamps == TIMES).all() and not notes


def test_what_is_asked_for_is_done():
    stamps, others, _ = chosen(TIMES - 10**12, TIMES, 'header')
    assert (stamps == TIMES - 10**12).all() and (others == TIMES).all()
    stamps, others, _ = chosen(TIMES - 10**12, TIMES, 'receive')
    assert (stamps == TIMES + 8 * MS).all() and (others == TIMES + MS).all()
    # What has no headers is brought to the clock of those that there are.
    stamps, others, _ = chosen(TIMES - 10**12, None, 'header')
    assert (stamps == TIMES - 10**12).all()
    np.testing.assert_allclose(others, TIMES - 10**12 - 7 * MS, atol=1000)


def test_headers_without_any_order_are_refused():
    headers = np.random.default_rng(0).permutation(TIMES - 10**15)
    with pytest.raises(BadRecordingError, match='give --stamps receive'):
        chosen(headers, None, 'header')


@settings(deadline=None)
@given(size=st.integers(2, 6), within=st.integers(1, 5), period=st.sampled_from([33, 50, 80]),
       count=st.integers(150, 250), pauses=st.booleans())
def test_the_rate_of_stamps_in_bursts_is_that_of_their_number(size, within, period, count, pauses):
    numbers = np.arange(count)
    stamps = (numbers // size * size * period + numbers % size * within) * MS
    stamps += 5 * 10**9 * pauses * (numbers >= size * 10)
    found, in_bursts = camera_period(stamps)
    # The median of bursts of two may be half way between their distances: that is right, too.
    assert (in_bursts or size == 2) and found / MS == pytest.approx(period, rel=0.15)
    (*spans,) = cut(stamps, Commands(stamps, np.zeros((count, 2)), ''), Alignment(), Counter())
    assert [len(span.frames) for span in spans] == (
        [size * 10, count - size * 10] if pauses else [count])


@settings(deadline=None)
@given(jitter=st.integers(0, 10), lost=st.integers(0, 3), seed=st.integers(0, 99))
def test_jitter_pauses_and_lost_frames_are_no_bursts(jitter, lost, seed):
    random = np.random.default_rng(seed)
    stamps = (np.arange(200) * 50 + random.integers(0, jitter + 1, 200)) * MS
    stamps[100:] += 10**10
    stamps = stamps[random.random(200) >= lost / 10]
    found, in_bursts = camera_period(stamps)
    assert not in_bursts and found / MS == pytest.approx(50, abs=jitter + 1)
