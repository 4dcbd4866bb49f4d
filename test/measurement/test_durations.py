import math

import numpy as np
import pytest
from stream_agent.measurement.durations import Durations, profile_table, Rate


def filled(values):
    durations = Durations()
    for value in values:
        durations.add(float(value))
    return durations


def test_percentiles_are_within_one_percent_of_the_true_ones():
    values = np.random.default_rng(0).lognormal(-6, 1.5, 20_000)
    for key, seconds in filled(values).percentiles().items():
        assert seconds == pytest.approx(np.percentile(values, float(key[1:])), rel=0.015)


def test_what_lies_outside_the_bins_is_still_counted():
    durations = filled([0.0, -1e-3, 1e-9, 5e3])
    assert durations.count == 4
    assert durations.longest == 5e3
    assert durations.percentile(50) <= 1.01e-7


def test_one_duration_is_every_percentile():
    assert set(filled([3e-3]).percentiles().values()) == {3e-3}


def test_no_durations_have_no_percentile():
    assert all(math.isnan(value) for value in Durations().percentiles().values())


def test_memory_does_not_grow():
    durations = filled([1e-3])
    before = len(durations._bins)
    for value in np.linspace(0, 200, 1000):
        durations.add(value)
    assert len(durations._bins) == before


def rate_of(times, now):
    """Count events at given times and return (now, mean, worst second) at a later one."""
    moment = [0.0]
    rate = Rate(clock=lambda: moment[0])
    for moment[0] in times:
        rate.add()
    moment[0] = now
    return rate.now(), rate.mean(), rate.worst_second()


def test_rate_of_a_regular_camera():
    now, mean, worst = rate_of(np.arange(0, 10, 1 / 32), 10.0)
    assert (now, mean, worst) == (31, 32, 32)


def test_the_worst_second_is_the_one_with_fewest_events():
    times = [t for t in np.arange(0, 10, 1 / 32) if not 4.25 <= t < 4.5]
    assert rate_of(times, 10.0)[2] == 24


def test_a_second_without_events_is_the_worst():
    assert rate_of([0.0, 0.5, 1.5, 3.5], 4.0)[2] == 0
    assert rate_of([0.0, 0.5], 3.0)[::2] == (0, 0)


def test_without_a_full_second_no_rate_is_claimed():
    now, mean, worst = rate_of([0.0, 0.2, 0.4], 0.5)
    assert now == 3 and math.isnan(mean) and math.isnan(worst)


def test_profile_shows_milliseconds_and_shares():
    table = profile_table({'convert': filled([1e-3] * 10), 'respond': filled([3e-3] * 10),
                           'unused': Durations()})
    lines = table.splitlines()
    assert lines[0].split() == ['stage', 'count', 'p50', 'p90', 'p99', 'p99.9', 'longest', 'share']
    assert lines[1].split() == ['respond', '10', *['3.000'] * 5, '75.0%']
    assert lines[2].split() == ['convert', '10', *['1.000'] * 5, '25.0%']
    assert lines[3].split() == ['unused', '0', *['-'] * 5, '0.0%']
