"""The watchdog: when a stop is due, how it is repeated, and when it ends."""

from dataclasses import replace
import random

import pytest
from stream_agent.gate.settings import GateSettings
from stream_agent.gate.watchdog import Watchdog

ON = GateSettings()
RELEASED = replace(ON, release_after_stop=True)


def zeros(watchdog, settings, start, end, tick):
    """Return the times of the repeated zeros if the timer fires every tick [s]."""
    times = [start + i * tick for i in range(1, round((end - start) / tick) + 1)]
    return [time for time in times if watchdog.repeat(time, settings)]


def test_it_starts_stopped_with_a_zero_due_at_once():
    watchdog = Watchdog(7.0)
    assert watchdog.stopped
    assert not watchdog.starved(99.0, ON)
    assert watchdog.repeat(7.0, ON)
    assert not watchdog.repeat(7.05, ON)
    assert watchdog.repeat(7.1, ON)


@pytest.mark.parametrize('waited, starved', [
    (0.0, False), (0.2, False), (0.2499, False), (0.25, True), (0.3, True), (1e6, True)])
def test_it_starves_after_the_timeout(waited, starved):
    watchdog = Watchdog(0.0)
    watchdog.feed(8.0)
    assert watchdog.starved(8.0 + waited, ON) is starved
    watchdog.feed(8.0 + waited)
    assert not watchdog.starved(8.0 + waited, ON)


def test_a_stop_is_not_starved_again():
    watchdog = Watchdog(0.0)
    watchdog.feed(1.0)
    watchdog.stop(1.25, ON)
    assert not watchdog.starved(5.0, ON)


def test_nothing_is_repeated_while_the_robot_drives():
    watchdog = Watchdog(0.0)
    watchdog.feed(1.0)
    assert watchdog.stopped is False
    assert zeros(watchdog, ON, 1.0, 3.0, 0.01) == []


@pytest.mark.parametrize('tick', [0.001, 0.02, 0.03, 0.05])
def test_a_stop_is_repeated_ten_times_a_second(tick):
    watchdog = Watchdog(0.0)
    watchdog.feed(1.0)
    watchdog.stop(2.0, ON)
    times = zeros(watchdog, ON, 2.0, 12.0, tick)
    assert len(times) == pytest.approx(100, abs=1)
    # Each on the grid of 0.1 s, late by one tick of the timer at most.
    assert all(2.0 + 0.1 * (i + 1) - 1e-9 <= time <= 2.0 + 0.1 * (i + 1) + tick + 1e-9
               for i, time in enumerate(times))


def test_a_released_stop_ends_after_two_seconds():
    watchdog = Watchdog(0.0)
    watchdog.feed(1.0)
    watchdog.stop(2.0, RELEASED)
    times = zeros(watchdog, RELEASED, 2.0, 12.0, 0.001)
    assert len(times) in (19, 20)
    assert 3.9 <= times[-1] <= 4.001
    assert not watchdog.released(4.0, RELEASED)
    assert watchdog.released(4.0001, RELEASED)
    assert not watchdog.released(4.0001, ON)


def test_a_command_ends_the_release():
    watchdog = Watchdog(0.0)
    assert watchdog.released(3.0, RELEASED)
    watchdog.feed(3.0)
    assert not watchdog.released(9.0, RELEASED)


def test_a_stall_is_followed_by_one_zero_and_no_burst():
    watchdog = Watchdog(0.0)
    watchdog.stop(0.0, ON)
    assert watchdog.repeat(5.03, ON)
    assert not watchdog.repeat(5.03, ON)
    assert not watchdog.repeat(5.12, ON)
    assert watchdog.repeat(5.131, ON)


def test_a_hundred_stops_at_random_moments():
    random.seed(1)
    watchdog, now = Watchdog(0.0), 0.0
    for _ in range(100):
        for _ in range(random.randrange(1, 20)):
            now += random.uniform(0.0, 0.2499)
            assert not watchdog.starved(now, ON)
            watchdog.feed(now)
        now += random.uniform(0.25, 3.0)
        assert watchdog.starved(now, ON)
        watchdog.stop(now, ON)
        assert len(zeros(watchdog, ON, now, now + 2.0, 0.01)) in (19, 20)
        now += 2.0


def test_a_zero_that_is_late_by_a_whole_period_is_sent_once():
    settings = replace(ON, stop_period=0.5)
    watchdog = Watchdog(0.0)
    watchdog.stop(0.0, settings)
    assert watchdog.repeat(1.0, settings)
    assert not watchdog.repeat(1.0, settings)
    assert not watchdog.repeat(1.25, settings)
    assert watchdog.repeat(1.5, settings)
