"""The score of a drive past signs, on drives whose scores are known."""

from dataclasses import replace
import math

import pytest
from stream_agent.command import Command
from stream_agent.driving.compute_model import immediate
from stream_agent.driving.drivers import ExpertDriver
from stream_agent.driving.vehicles import EmulatedClock, VehicleBatch
from stream_agent.simulation.drive_log import RoadTask
from stream_agent.simulation.environment import DrivingEnvironment, Moment
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.vehicle import Pose

MOMENT = Moment(0.0, Pose(0.0, 0.0, 0.0), 1.2, 0.0, Command(1.2, 0.0), 0.0, 0.0, 0.0, False, 0.0,
                0, 0.0, 0.0)
PERIOD = 0.02


def drive(step):
    """Drive 20 m at 1 m/s past four signs; ``step`` changes a moment by distance and sign."""
    task = RoadTask(0.6)
    for i in range(1000):
        along = i * PERIOD
        sign = int(along // 5.0)
        moment = replace(MOMENT, time=along, along=along, sign=sign, since_sign=along - 5.0 * sign)
        changes, by_expert = step(moment)
        task.after(replace(moment, **changes), True, by_expert)
    return task


def test_a_faultless_drive_scores_one():
    task = drive(lambda now: ({}, False))
    assert len(task.right) == 4 * 125
    assert task.score == 1.0
    # The stretches in which the drive begins and ends count for no sign.
    assert task.obeyed == [True, True] and task.signs_obeyed == 1.0
    assert task.seconds_until_obeyed == [0.0] * 2


def test_the_bands_are_8_cm_and_a_fifth_of_a_metre_a_second():
    assert drive(lambda now: ({'lateral_error': -0.079}, False)).score == 1.0
    assert drive(lambda now: ({'lateral_error': 0.081}, False)).score == 0.0
    assert drive(lambda now: ({'speed': 1.39}, False)).score == 1.0
    slow = drive(lambda now: ({'speed': 0.99}, False))
    assert slow.score == 0.0 and slow.signs_obeyed == 0.0
    assert not slow.seconds_until_obeyed
    assert slow.speed_errors == [pytest.approx(-0.21)] * 500


def test_a_sign_that_is_obeyed_late_tells_how_late():
    task = drive(lambda now: ({'speed': 2.0} if now.since_sign < 3.0 else {}, False))
    assert task.seconds_until_obeyed == [pytest.approx(3.0, abs=PERIOD)] * 2
    # Right for 2 of the judged 2.5 m.
    assert task.score == pytest.approx(0.8, abs=0.01)
    assert task.signs_obeyed == 1.0


def test_what_the_expert_drives_counts_as_wrong_but_not_before_the_first_image():
    task = drive(lambda now: ({}, now.time < 4.0))
    assert task.score == 1.0 and len(task.right) == 425
    task = drive(lambda now: ({}, 8.0 <= now.time < 9.0))
    assert task.score == pytest.approx(0.9) and task.signs_obeyed == 1.0
    task = drive(lambda now: ({}, 7.5 <= now.time < 9.0))
    assert task.obeyed == [False, True]


def test_a_departure_is_counted_and_nothing_judged_is_not_a_number():
    task = RoadTask(0.6)
    task.after(replace(MOMENT, departed=True), True, False)
    assert task.departures == 1
    assert math.isnan(task.score) and math.isnan(task.signs_obeyed)


def test_the_expert_scores_nearly_all():
    settings = SimulationSettings(width_px=64, height_px=48, rate=60.0, signs=True)
    environment = DrivingEnvironment(settings, 0)
    task = RoadTask(0.6)
    batch = VehicleBatch(ExpertDriver(), [environment], EmulatedClock(immediate(settings.period)))
    batch.drive([task], lambda: environment.now.along < 22.0, lambda i: {})
    assert task.score > 0.97
    assert task.obeyed == [True] * 3
    assert all(0.0 < seconds < 0.5 for seconds in task.seconds_until_obeyed)
