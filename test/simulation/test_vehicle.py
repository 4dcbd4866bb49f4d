"""Vehicles follow commands as the equations of a first-order lag and of a circle say."""

import math

import numpy as np
import pytest
from stream_agent.command import Command, STOP
from stream_agent.simulation.vehicle import Bicycle, DifferentialDrive, Pose


@pytest.mark.parametrize('kind', [DifferentialDrive, Bicycle])
def test_speed_is_the_solution_of_a_first_order_lag(kind):
    vehicle = kind(speed_time_constant=0.2)
    for n in range(1, 40):
        motion = vehicle.step(Command(0.8, 0.0), 0.013)
        time = 0.013 * n
        assert motion.speed == pytest.approx(0.8 * (1 - math.exp(-time / 0.2)), abs=1e-12)
        assert motion.pose.x == pytest.approx(
            0.8 * (time - 0.2 * (1 - math.exp(-time / 0.2))), abs=1e-12)


def test_yaw_is_the_solution_of_a_first_order_lag():
    vehicle = DifferentialDrive(turn_time_constant=0.15)
    motion = vehicle.step(Command(0.0, 1.0), 0.4)
    assert motion.yaw_rate == pytest.approx(1 - math.exp(-0.4 / 0.15), abs=1e-12)
    assert motion.pose.yaw == pytest.approx(
        0.4 - 0.15 * (1 - math.exp(-0.4 / 0.15)), abs=1e-12)


@pytest.mark.parametrize('vehicle', [
    DifferentialDrive(speed_time_constant=0.0, turn_time_constant=0.0),
    Bicycle(speed_time_constant=0.0, turn_time_constant=0.0)])
def test_without_lag_it_drives_a_circle(vehicle):
    for n in range(1, 100):
        pose = vehicle.step(Command(0.8, 0.5), 0.05).pose
        angle = 0.5 * 0.05 * n
        expected = (1.6 * math.sin(angle), 1.6 * (1 - math.cos(angle)), angle)
        assert pose == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('kind', [DifferentialDrive, Bicycle])
def test_the_path_agrees_with_very_fine_steps(kind):
    rng = np.random.default_rng(0)
    coarse, fine = kind(), kind()
    for _ in range(30):
        command = Command(rng.uniform(0.2, 1.0), rng.uniform(-1.5, 1.5))
        coarse.step(command, 0.1)
        for _ in range(1000):
            fine.step(command, 0.0001)
    assert coarse.motion.pose == pytest.approx(fine.motion.pose, abs=2e-4)


def test_a_bicycle_cannot_turn_on_the_spot():
    vehicle = Bicycle()
    assert vehicle.step(Command(0.0, 1.0), 1.0).pose == Pose(0.0, 0.0, 0.0)


def test_a_bicycle_keeps_its_steering_angle_while_it_brakes():
    vehicle = Bicycle(speed_time_constant=0.5, turn_time_constant=0.0)
    before = vehicle.step(Command(0.8, 0.4), 5.0)
    after = vehicle.step(STOP, 0.3)
    assert after.speed < 0.6 * before.speed
    assert after.yaw_rate / after.speed == pytest.approx(before.yaw_rate / before.speed)


def test_limits_hold():
    assert Bicycle(wheel_base=0.25, max_steering=0.5).step(
        Command(0.5, 9.0), 5.0).yaw_rate == pytest.approx(0.5 * math.tan(0.5) / 0.25)
    motion = DifferentialDrive(max_speed=1.0, max_yaw_rate=2.0).step(Command(-5.0, -5.0), 5.0)
    assert (motion.speed, motion.yaw_rate) == pytest.approx((-1.0, -2.0))


def test_before_undoes_a_steady_motion():
    vehicle = DifferentialDrive(speed_time_constant=0.0, turn_time_constant=0.0)
    start = vehicle.step(Command(0.8, 0.7), 1.0).pose
    assert vehicle.step(Command(0.8, 0.7), 0.2).before(0.2) == pytest.approx(start, abs=1e-9)
