"""Jitter and lost images against what they are said to be, and how smoothly a robot drove."""

from dataclasses import replace
from itertools import islice
import math

from hypothesis import given, strategies as st
import numpy as np
import pytest
from stream_agent.driving.compute_model import immediate, Timeline, Work
from stream_agent.driving.disturbed_timeline import (
    Arrival, Disturbance, DisturbedTimeline, LONGEST_BURST, SHORTEST_BURST, taken_of)
from stream_agent.driving.drives import Drive
from stream_agent.driving.evaluation import reversals, smoothness
from support.strategies import examples

PERIOD = 1 / 60
WORK = Work(0.02, 0.03)


def taken(timeline, count=2000):
    return list(islice(timeline, count))


@given(st.lists(st.tuples(st.floats(0.0, 0.1), st.floats(0.0, 0.3)), min_size=1, max_size=4),
       st.sampled_from([1 / 60, 0.05, 0.1]), st.integers(0, 9))
@examples(60)
def test_no_disturbance_is_the_timeline_itself(work, period, seed):
    timeline = Timeline(tuple(Work(min(pair), max(pair)) for pair in work), period)
    assert Disturbance().applied(timeline, seed) is timeline
    assert taken(DisturbedTimeline(timeline.work, period, Disturbance(), seed), 60) == taken(
        timeline, 60)


def test_jitter_keeps_the_load_and_is_that_of_the_image():
    disturbance = Disturbance(jitter=0.4)
    one, other = (disturbance.applied(Timeline((work,), PERIOD), 7)
                  for work in (Work(1e-3, 1e-3), Work(2e-3, 0.04)))
    factors = {each.image: (each.answer - each.start) / 1e-3 for each in taken(one, 20_000)}
    assert np.mean(list(factors.values())) == pytest.approx(1.0, abs=0.02)
    assert np.std(np.log(list(factors.values()))) == pytest.approx(0.4, abs=0.01)
    # A policy that takes other images meets the same slow moments.
    shared = taken(other, 500)
    assert [one.image for one in shared] != list(range(500))
    assert [(each.answer - each.start) / 2e-3 for each in shared] == pytest.approx(
        [factors[each.image] for each in shared])
    elsewhere = taken(replace(one, seed=8), 10)
    assert [each.answer for each in elsewhere] != [each.answer for each in taken(one, 10)]


def test_images_are_lost_in_bursts_as_often_as_asked_for():
    timeline = Disturbance(drop_bursts=30.0).applied(immediate(PERIOD), 3)
    seen = [one.image for one in taken(timeline, 60_000)]
    gaps = [after - before - 1 for before, after in zip(seen, seen[1:]) if after > before + 1]
    minutes = seen[-1] * PERIOD / 60
    # Time in a burst begins none.
    expected = 30 * len(seen) / seen[-1]
    assert len(gaps) / minutes == pytest.approx(expected, rel=0.1)
    assert min(gaps) == SHORTEST_BURST and max(gaps) == LONGEST_BURST
    assert np.mean(gaps) == pytest.approx((SHORTEST_BURST + LONGEST_BURST) / 2, abs=0.3)
    # However often: a slow camera.
    assert len(taken(Disturbance(drop_bursts=600.0).applied(immediate(1.0), 0), 10)) == 10


def test_frames_cycle_as_they_are_taken_whatever_is_lost():
    turns = (Work(0.001, 0.001), Work(0.002, 0.002), Work(0.003, 0.003))
    timeline = Disturbance(drop_bursts=60.0).applied(Timeline(turns, PERIOD), 1)
    found = taken(timeline, 300)
    assert found[-1].image > 310
    assert [round(1e3 * (one.answer - one.start)) for one in found] == [1, 2, 3] * 100


def test_a_pipeline_answers_in_order():
    timeline = Disturbance(jitter=1.0).applied(Timeline((Work(0.1, 0.01),), PERIOD), 5)
    answers = [one.answer for one in taken(timeline)]
    assert answers == sorted(answers) and len(set(answers)) < len(answers)


def test_worked_example_of_uneven_images():
    # Busy for 10: image 1 at 4 is skipped for 2 at 9; then nothing new until 3 at 25.
    arrivals = [Arrival(0, 0.0), Arrival(1, 4.0), Arrival(2, 9.0), Arrival(3, 25.0, 2.0)]
    assert list(taken_of(arrivals, [Work(6.0, 10.0)])) == [
        (0, 0.0, 6.0), (2, 10.0, 16.0), (3, 25.0, 37.0)]
    assert list(taken_of([], [WORK])) == []


def test_what_happens_is_said_in_words():
    assert str(Disturbance()) == 'undisturbed'
    assert str(Disturbance(0.3, 20.0)) == 'jitter 0.3, 20 bursts of lost images a minute'


def driven(speeds, yaw_rates):
    return Drive(0.6, motions=list(zip(speeds, yaw_rates)))


def test_how_smoothly_a_sine_is_driven():
    times = np.arange(6000) * PERIOD
    speed, frequency = 2.0, 0.5
    sine = np.sin(2 * np.pi * frequency * times)
    found = smoothness([driven(np.full(6000, speed), sine)], PERIOD)
    # The derivative of the sine, times the speed; two turns a period.
    assert found['yaw_acceleration'] == pytest.approx(np.pi / math.sqrt(2), rel=1e-3)
    assert found['jerk'] == pytest.approx(speed * np.pi / math.sqrt(2), rel=1e-3)
    assert found['reversals'] == pytest.approx(2 * frequency, abs=0.02)
    # Straight on, the jerk is the second derivative of the speed.
    found = smoothness([driven(1.5 + 0.1 * times ** 2, np.zeros(6000))], PERIOD)
    assert found['jerk'] == pytest.approx(0.2) and found['reversals'] == 0.0


def test_nothing_is_judged_over_what_the_expert_drove():
    unknown = [math.nan] * 3
    halves = driven([1.0] * 50 + unknown + [2.0] * 50, [0.5] * 50 + unknown + [-0.5] * 50)
    assert smoothness([halves], PERIOD) == {'jerk': 0.0, 'yaw_acceleration': 0.0,
                                            'reversals': 0.0}
    assert all(map(math.isnan, smoothness([driven(unknown, unknown)], PERIOD).values()))
    assert all(map(math.isnan, smoothness([Drive(0.6)], PERIOD).values()))


@pytest.mark.parametrize('values, count', [
    ([0, 1, 0], 1), ([0, 1, 0, 1], 2), ([0, 0.1, 0, 0.1], 0), ([0, 1, 0.9, 1.5, 0.9], 1),
    ([1, 0, 0.15, -1, -1, 0], 1), ([0, 1, math.nan, 0, 1], 0), ([], 0)])
def test_turns_are_counted_from_a_gap_on(values, count):
    assert reversals(np.array(values, float), 0.2) == count
