"""Limits: what is a number, how far a command may go, how often it was held back."""

import math

from hypothesis import given, strategies
import pytest
from stream_agent.command import Command, STOP
from stream_agent.gate.limits import approach, ClampShare, FLOAT_MAX, is_finite, Limiter
from stream_agent.gate.settings import GateSettings

SETTINGS = GateSettings()
T = SETTINGS.camera_period
FINITE = strategies.floats(-FLOAT_MAX, FLOAT_MAX)


@pytest.mark.parametrize('value', [
    math.nan, math.inf, -math.inf, math.nextafter(FLOAT_MAX, math.inf),
    -math.nextafter(FLOAT_MAX, math.inf), 1e39, -1.7e308])
def test_what_is_no_number_within_float_range_is_not_finite(value):
    assert not is_finite(Command(value, 0.0))
    assert not is_finite(Command(0.0, value))
    assert not is_finite(Command(value, value))


@pytest.mark.parametrize('value', [0.0, -0.0, 5e-324, -5e-324, 1.0, FLOAT_MAX, -FLOAT_MAX])
def test_every_number_within_float_range_is_finite(value):
    assert is_finite(Command(value, -value))


@pytest.mark.parametrize('previous, target, expected', [
    (0.0, 1.0, 0.1),        # a step input
    (0.0, 0.05, 0.05),      # within reach: exactly there
    (0.1, 0.0, 0.0),        # an ordinary stop that is within reach
    (0.5, 0.0, 0.4),        # and one that ramps
    (0.05, -1.0, -0.05),    # through zero, at the same rate
    (-0.5, 1.0, -0.4),
    (0.45, 9.0, 0.5),       # saturated
    (-0.45, -9.0, -0.5),
    (0.5, FLOAT_MAX, 0.5),
    (0.9, 0.9, 0.8),        # a limit lowered on the way: ramps down to it
])
def test_approach(previous, target, expected):
    assert approach(previous, target, greatest=0.5, step=0.1) == pytest.approx(expected, abs=1e-15)


def test_a_stop_has_no_sign():
    assert math.copysign(1.0, approach(0.0, -0.0, greatest=0.5, step=0.1)) == 1.0
    assert math.copysign(1.0, approach(-0.0, 0.0, greatest=0.0, step=0.0)) == 1.0


@given(FINITE, FINITE, strategies.floats(0.0, 20.0), strategies.floats(0.0, 1e3))
def test_approach_goes_towards_the_target_and_no_further(previous, target, greatest, step):
    aim = min(max(target, -greatest), greatest)
    reached = approach(previous, target, greatest, step)
    assert min(previous, aim) <= reached <= max(previous, aim)
    assert abs(reached - previous) <= step * (1 + 1e-12) + abs(previous) * 1e-15
    assert reached == aim or abs(reached - previous) >= step * (1 - 1e-9) - abs(previous) * 1e-15


@pytest.mark.parametrize('elapsed, licensed', [
    (0.0, 0.0), (0.01, 0.01), (T, T), (2 * T, 2 * T), (2.001 * T, 2 * T), (3600.0, 2 * T),
    (-1.0, 0.0)])
def test_the_slew_counts_two_periods_at_most_and_no_negative_time(elapsed, licensed):
    limiter = Limiter(100.0)
    sent = limiter.limit(Command(9.0, -9.0), 100.0 + elapsed, SETTINGS)
    assert sent == pytest.approx((2.5 * licensed, -3.2 * licensed), abs=1e-12)


def test_a_step_input_becomes_a_ramp():
    limiter = Limiter(0.0)
    speeds = [limiter.limit(Command(0.5, 0.0), i * 0.02, SETTINGS).speed for i in range(13)]
    assert speeds == pytest.approx([min(i * 0.05, 0.5) for i in range(13)])
    assert speeds[-3:] == [0.5, 0.5, 0.5]


def test_a_stalled_clock_licenses_one_step():
    limiter = Limiter(0.0)
    sent = [limiter.limit(Command(0.5, 2.0), 1.0, SETTINGS) for _ in range(100)]
    assert set(sent) == {Command(2.5 * 2 * T, 3.2 * 2 * T)}


def test_a_clock_that_went_back_does_not_freeze_the_robot():
    limiter = Limiter(1000.0)
    limiter.limit(Command(0.5, 0.0), 10.0, SETTINGS)
    assert limiter.limit(Command(0.5, 0.0), 10.02, SETTINGS).speed == pytest.approx(0.05)


def test_an_emergency_zero_is_immediate_and_the_way_back_a_ramp():
    limiter = Limiter(0.0)
    for i in range(30):
        limiter.limit(Command(0.5, 2.0), i * T, SETTINGS)
    assert limiter.stop(1.0) == STOP
    assert limiter.limit(Command(0.5, 2.0), 1.01, SETTINGS) == pytest.approx((0.025, 0.032))


def feed(clamps, start, seconds, pattern):
    """Add 100 commands a second, clamped where the pattern says 1; return the end."""
    for i in range(round(seconds * 100)):
        clamps.add(pattern[i % len(pattern)] == '1', start + i * 0.01)
    return start + seconds


def test_the_share_of_clamped_commands_is_that_of_the_last_five_seconds():
    clamps = ClampShare()
    now = feed(clamps, 0.0, 10.0, '10')
    assert clamps.share(now) == pytest.approx(0.5, abs=0.01)
    now = feed(clamps, now, 2.5, '0')
    assert clamps.share(now) == pytest.approx(0.25, abs=0.01)
    now = feed(clamps, now, 2.51, '0')
    assert clamps.share(now) == 0.0
    now = feed(clamps, now, 1.0, '1')
    assert clamps.share(now) == pytest.approx(0.2, abs=0.01)


def test_what_is_five_seconds_old_still_counts():
    clamps = ClampShare()
    for i in range(21):
        clamps.add(i == 0, i * 0.25)
    assert clamps.share(5.0) == 1 / 21
    assert clamps.share(5.25) == 0.0


def test_the_share_is_no_matter_before_five_seconds():
    clamps = ClampShare()
    assert clamps.share(0.0) == 0.0
    feed(clamps, 0.0, 4.99, '1')
    assert clamps.share(4.99) == 0.0
    clamps.add(True, 5.0)
    assert clamps.share(5.0) == 1.0


def test_the_five_seconds_begin_again_after_a_break():
    clamps = ClampShare()
    feed(clamps, 0.0, 6.0, '1')
    assert clamps.share(20.0) == 0.0
    feed(clamps, 20.0, 4.0, '1')
    assert clamps.share(24.0) == 0.0
