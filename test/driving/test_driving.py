"""Drives in the simulator, by the expert and by drivers that are late or wrong."""

import time

import pytest
from stream_agent.command import Command
from stream_agent.driving.drivers import ExpertDriver
from stream_agent.driving.drives import drive
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings


class Straight(ExpertDriver):
    """Does not see the bends."""

    def commands(self, frames, known, start):
        return [Command(0.8, 0.0)]


class Slow(ExpertDriver):
    """Answers every third frame so late that the next one but one has come."""

    def __init__(self, period):
        self._period = period
        self._count = 0

    def commands(self, frames, known, start):
        self._count += 1
        if self._count % 3 == 0:
            time.sleep(2.2 * self._period)
        return super().commands(frames, known, start)


def test_the_expert_drives_a_lap_inside_the_lane():
    result = drive(DrivingEnvironment(SimulationSettings(), 3), ExpertDriver(), laps=1)
    assert result.laps >= 1
    assert result.departures == 0
    assert result.lateral_rms < 0.05
    assert result.lateral_rms <= result.largest_lateral_error < result.lane_width / 2


def test_who_drives_straight_on_leaves_the_lane_and_is_put_back():
    result = drive(DrivingEnvironment(SimulationSettings(), 3), Straight(), laps=0.5)
    assert result.departures >= 2
    assert result.largest_lateral_error > result.lane_width / 2


@pytest.mark.real_time
def test_real_time_takes_real_time_and_counts_late_answers():
    settings = SimulationSettings()
    start = time.monotonic()
    result = drive(DrivingEnvironment(settings, 3), Slow(1 / settings.rate), laps=0.05,
                   real_time=True)
    frames = len(result.lateral_errors)
    assert time.monotonic() - start > (frames - 1) / settings.rate
    assert result.unanswered == pytest.approx(frames / 4, abs=3)


def test_lockstep_waits_for_every_answer():
    result = drive(DrivingEnvironment(SimulationSettings(), 3), Slow(0.01), laps=0.02)
    assert result.unanswered == 0
