"""What timing alone allows in the reflex task: drives of the expert with aged information."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from stream_agent.driving.drives import Trial
from stream_agent.simulation.settings import SimulationSettings
from studies.closed_loop.schemes import plain_schemes
from studies.reflex.bounds import (
    ages_of_answers, bound, bound_row, bounds_table, PerfectLearner, TimedScheme)

SETTINGS = SimulationSettings(rate=60.0, width_px=32, height_px=24, signs=True, target_speed=1.4,
                              look_ahead=0.4, max_yaw_rate=5.0, turn_time_constant=0.08)
TRIAL = Trial(SETTINGS, (1, 2), 20.0, 2.5, 1.0)


def timed(kind, ratio, execution='serial', reads=True):
    (scheme,) = [one for one in plain_schemes(ratio, execution, SETTINGS.period)
                 if one.kind == kind]
    return TimedScheme(kind, ratio, scheme.candidate, scheme.timeline, reads)


def test_ages_count_taken_frames():
    assert list(islice(ages_of_answers(timed('sequential', 6.4).candidate), 3)) == [(0, 0)] * 3
    hybrid = list(islice(ages_of_answers(timed('hybrid', 6.4).candidate), 5))
    assert hybrid[0][0] == 0 and hybrid[-1] == (0, 1)
    waves = timed('multi-rate', 3.2).candidate
    (period,) = {period for period, _ in waves.schedule.values()}
    settled = list(islice(ages_of_answers(waves), 40))[20:]
    assert {newest for newest, _ in settled} == {0}
    # The wave that was last finished began a period before it could be read, and ages by another.
    assert {deep for _, deep in settled} == set(range(period, 2 * period))
    held = timed('k updates', 6.4, 'parallel')
    assert held.candidate.updates_per_frame == 1
    double = replace(held.candidate, updates_per_frame=2)
    once, twice = (max(deep for _, deep in islice(ages_of_answers(one), 30))
                   for one in (held.candidate, double))
    assert twice == once // 2


def test_the_newest_steers_and_the_deep_sets_the_speed():
    learner = PerfectLearner(timed('hybrid', 6.4).candidate, 1)
    frames = [type('Frame', (), {'reference': reference}) for reference in (
        type('Command', (), {'speed': 1.0, 'yaw_rate': 0.5}),
        type('Command', (), {'speed': 2.0, 'yaw_rate': 3.0}))]
    for frame in (frames[0], frames[0]):
        learner.commands([frame], [[]], 0.0)
    (answer,) = learner.commands([frames[1]], [[]], 0.0)
    assert answer == (1.0, 1.5)
    blind = PerfectLearner(timed('hybrid', 6.4).candidate, 1, reads=False)
    assert blind.commands([frames[1]], [[]], 0.0)[0] == pytest.approx((1.4, 2.1))


def test_both_kinds_of_information_are_worth_something():
    score = {kind: np.mean([drive.score for drive in bound(timed(kind, 6.4, reads=reads), TRIAL)])
             for kind, reads in (('sequential', True), ('multi-rate', True), ('smaller', False))}
    assert score['multi-rate'] > 0.9
    assert score['sequential'] < score['multi-rate'] - 0.2
    assert score['smaller'] < 0.4


def test_the_table_has_a_line_for_every_row():
    row = bound_row(timed('sequential', 6.4), Trial(SETTINGS, (1,), 5.0, 2.5, 1.0))
    assert row['newest_s'] == pytest.approx(10 / 60, rel=0.02)
    header, line = bounds_table([row]).splitlines()
    assert header.split()[:3] == ['r', 'device', 'scheme']
    assert line.split()[:5] == ['6.4', 'serial', 'sequential', '167', '167']
    assert len(header) >= len(line)
    assert bounds_table([row], markdown=True).splitlines()[2].startswith(
        '| 6.4 | serial | sequential | 167 | 167 | ')
