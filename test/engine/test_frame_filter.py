"""Which frames are stepped: every fresh one once, in order."""

import numpy as np
import pytest
from stream_agent.engine.frame_filter import FrameFilter, FrameFilterSettings

T = 1 / 30
NOW = 10**12


def ns(seconds):
    return round(seconds * 1e9)


@pytest.mark.parametrize('age, reason', [
    (0.0, ''), (0.1999, ''), (0.2, ''), (0.2001, 'stale'), (5.0, 'stale'),
    (-0.0999, ''), (-0.1, ''), (-0.1001, 'future'), (-9.0, 'future')])
def test_both_borders_of_the_age(age, reason):
    frame_filter = FrameFilter(FrameFilterSettings(T))
    assert frame_filter.refuse(NOW - ns(age), NOW) == reason
    assert dict(frame_filter.dropped) == ({reason: 1} if reason else {})


def test_the_oldest_age_follows_a_slow_camera():
    assert FrameFilterSettings(0.1).oldest == pytest.approx(0.5)
    assert FrameFilterSettings(0.1, max_age=0.3).oldest == 0.3


def test_shuffled_and_repeated_frames_leave_the_sorted_unique_sequence():
    generator = np.random.default_rng(3)
    frame_filter = FrameFilter(FrameFilterSettings(T))
    accepted = []
    order = np.clip(np.arange(300) + generator.integers(-3, 4, 300), 0, None)
    for index in order:
        stamp = NOW + ns(index * T)
        if not frame_filter.refuse(stamp, stamp + ns(0.01)):
            frame_filter.accept(stamp)
            accepted.append(index)
    assert accepted == sorted(set(accepted))
    assert accepted == sorted(set(np.maximum.accumulate(order)))
    dropped = frame_filter.dropped
    assert len(accepted) + dropped['duplicate'] + dropped['out of order'] == 300


@pytest.mark.parametrize('missing, resets', [(0, False), (1, False), (3, False), (4, True)])
def test_a_gap_is_counted_and_a_long_one_resets(missing, resets):
    frame_filter = FrameFilter(FrameFilterSettings(T, max_gap=3))
    assert frame_filter.accept(NOW) is False
    assert frame_filter.accept(NOW + ns((missing + 1) * T)) is resets
    assert frame_filter.dropped['missed'] == missing


def test_a_clock_that_is_set_back_resets_and_goes_on():
    frame_filter = FrameFilter(FrameFilterSettings(T))
    frame_filter.accept(NOW)
    back = NOW - ns(30.0)
    assert frame_filter.refuse(back, back) == ''
    assert frame_filter.accept(back) is True


@pytest.mark.parametrize('arguments, sentence', [
    ((0.0,), 'camera_period is 0.0; set it to a number from 0.001 to 10 s (time between two '
             'frames)'),
    ((float('nan'),), 'camera_period is nan; set it to a number from 0.001 to 10 s (time between '
                      'two frames)'),
    ((T, -1.0), 'max_age is -1.0; set it to a number from 0 to 60 s (oldest frame that is '
                'stepped; 0: five camera periods, at least 0.2 s)')])
def test_impossible_settings(arguments, sentence):
    with pytest.raises(ValueError) as error:
        FrameFilterSettings(*arguments)
    assert str(error.value) == sentence
