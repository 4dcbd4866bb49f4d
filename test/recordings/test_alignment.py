"""Frames with commands, by time: held against examples worked out by hand."""

from collections import Counter

import numpy as np
import pytest
from stream_agent.bounded_settings import SettingsError
from stream_agent.recordings.alignment import Alignment, check_rates, cut, pick
from stream_agent.recordings.recording import BadRecordingError, Commands

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
