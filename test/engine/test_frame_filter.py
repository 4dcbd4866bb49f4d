"""Which frames are stepped: every fresh one once, in order."""

import numpy as np
import pytest
from stream_agent.engine.frame_filter import CameraWatch, FrameFilter, FrameFilterSettings

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


def offered(frame_filter, frames):
    """Offer (seconds, frame_id, number) that arrive when stamped; return why each is refused."""
    reasons = []
    for seconds, frame_id, number in frames:
        stamp = NOW + ns(seconds)
        reasons.append(frame_filter.refuse(stamp, stamp, frame_id, number))
        if not reasons[-1]:
            frame_filter.accept(stamp)
    return reasons


@pytest.mark.parametrize('second', [('right', 1), ('left', 1), ('right', None)])
def test_of_two_cameras_none_is_stepped_once_both_send(second):
    """F12: told apart by frame_id or by their publishers' counts, whatever their stamps are."""
    name, first_number = second
    frames = []
    for i in range(60):
        frames.append((i * T, 'left', None if first_number is None else 100 + i))
        if i >= 10:
            frames.append((i * T + T / 3, name, first_number and first_number + i - 10))
    frame_filter = FrameFilter(FrameFilterSettings(T))
    reasons = offered(frame_filter, frames)
    assert reasons[:11] == [''] * 11
    # The second frame of the other camera settles it, if only numbers tell them apart.
    assert reasons[11] == 'two cameras' and set(reasons[13:]) == {'two cameras'}
    assert repr(name) in frame_filter.reasons['two cameras']
    assert 'camera_frame' in frame_filter.reasons['two cameras']


def test_a_chosen_camera_is_stepped_beside_another():
    frame_filter = FrameFilter(FrameFilterSettings(T, camera_frame='left'))
    frames = [(i * T / 2, ('left', 'right')[i % 2], None) for i in range(40)]
    assert offered(frame_filter, frames) == ['', 'other camera'] * 20


def test_a_camera_that_starts_anew_costs_one_frame():
    frames = [(i * T, 'camera', 1000 + i) for i in range(20)]
    frames += [(1 + i * T, 'camera', 1 + i) for i in range(20)]
    reasons = offered(FrameFilter(FrameFilterSettings(T)), frames)
    assert [i for i, reason in enumerate(reasons) if reason] == [20]


@pytest.mark.parametrize('rate, resets', [(5.0, 4), (15.0, 0), (30.0, 0), (60.0, 0), (120.0, 0)])
def test_a_camera_of_another_rate_leaves_no_gaps(rate, resets):
    """F13: until its rate is known, after five frames, a camera of 5 Hz seems to have gaps."""
    frame_filter = FrameFilter(FrameFilterSettings(T))
    told = [frame_filter.accept(NOW + ns(i / rate)) for i in range(100)]
    assert sum(told) <= resets + 1 and not any(told[7:])
    # A true gap is still one.
    assert frame_filter.accept(NOW + ns(99 / rate + 5 * max(T, 1 / rate))) is True


def test_frames_that_were_not_taken_are_counted_by_the_publisher_s_own_count():
    frame_filter = FrameFilter(FrameFilterSettings(T))
    for i in range(0, 300, 3):
        frame_filter.accept(NOW + ns(i * T * 1.1), 2 if i else 0)
    assert frame_filter.dropped['missed'] == 2 * 99
    assert frame_filter.period == pytest.approx(T * 1.1)


@pytest.mark.parametrize('age, reason, words', [
    (3600.0, 'stale', '3.6e+03 s old where 0.2 s are allowed'),
    (-2.5, 'future', '2.5 s ahead of the clock here where 0.1 s')])
def test_a_refusal_says_by_how_much(age, reason, words):
    frame_filter = FrameFilter(FrameFilterSettings(T))
    frame_filter.refuse(NOW - ns(age), NOW)
    assert words in frame_filter.reasons[reason]


def watch(period=lambda: None, **settings):
    return CameraWatch(FrameFilterSettings(T, **settings), period)


def picture(value=0):
    return np.full(36_000, value, np.uint8)


def test_a_frozen_camera_is_one_whose_picture_stays_while_the_robot_moves():
    camera = watch(frozen_after=2.0)
    for i in range(100):
        camera.see(picture(), NOW + ns(i * T), 0.0, moves=False)
    assert not camera.is_frozen
    for i in range(100, 160):
        camera.see(picture(), NOW + ns(i * T), 0.0, moves=True)
        assert camera.is_frozen == (i - 99 >= 60)
    assert 'has not changed for 2.0 s' in camera.warnings()['frozen camera']
    other = picture()
    other[-1] = 1
    camera.see(other, NOW + ns(160 * T), 0.0, moves=True)
    assert not camera.is_frozen and not camera.warnings()


def test_nothing_is_frozen_where_that_is_switched_off():
    camera = watch(frozen_after=0.0)
    for i in range(1000):
        camera.see(picture(), NOW + ns(i * T), 0.0, moves=True)
    assert not camera.is_frozen


@pytest.mark.parametrize('age, wrong', [(0.05, False), (0.1, False), (0.12, True), (-0.02, True)])
def test_clocks_that_disagree_are_told_by_the_median_age(age, wrong):
    camera = watch()
    for i in range(30):
        camera.see(picture(i), NOW, 9.0 if i % 3 == 0 else age, moves=True)
    assert ('clock' in camera.warnings()) == wrong


@pytest.mark.parametrize('rate, wrong', [(5, True), (25.1, False), (35.9, False), (36.1, True),
                                         (60, True)])
def test_a_rate_that_is_not_the_policy_s_is_told_after_two_seconds(rate, wrong):
    camera = watch(lambda: 1 / rate)
    told = ['rate' in camera.warnings() for _ in range(4)]
    assert told == [False, False, wrong, wrong]
    if wrong:
        assert f'sends {rate:.3g} frames a second, the policy is set to 30' in (
            camera.warnings()['rate'])


def test_another_size_or_encoding_is_told_once():
    camera = watch()
    assert camera.changed('rgb8', 160, 120) == ''
    assert camera.changed('rgb8', 160, 120) == ''
    assert camera.changed('bgr8', 640, 480) == (
        "images are 'bgr8', 640 x 480 now; they were 'rgb8', 160 x 120")
    assert camera.changed('bgr8', 640, 480) == ''
