"""What sensors besides the camera measure: exact geometry, errors of a seed, enough to drive."""

from dataclasses import fields, replace
import math
from pathlib import Path
import re

import numpy as np
import pytest
from stream_agent.bounded_settings import SettingsError
from stream_agent.command import Command
from stream_agent.contract.settings import IMU, ODOMETRY
from stream_agent.simulation.course import Course, random_course
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.sensors import (
    CORNER_STEP, distances, WALL_DISTANCE, Walls, walls_of)
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.vehicle import Pose
from support.wall_follower import follow

SMALL = SimulationSettings(width_px=64, height_px=48)
EXACT = replace(SMALL, scan_rays=60, scan_noise=0.0, scan_dropout=0.0)
NOISY = replace(SMALL, scan_rays=60, odometry_scale=0.05, odometry_speed_noise=0.03,
                odometry_yaw_noise=0.04, imu_yaw_bias=0.1, imu_yaw_noise=0.05,
                imu_acceleration_noise=0.3)


def unseen(settings, seed):
    return DrivingEnvironment(settings, seed, camera=False)


def plainly(walls, pose, increment, count):
    """Hold every ray against every wall."""
    angles = pose.yaw + increment * np.arange(count)
    cosines, sines = np.cos(angles)[:, None], np.sin(angles)[:, None]
    (x, y), (dx, dy) = (walls.starts - pose[:2]).T, walls.edges.T
    across = cosines * dy - sines * dx
    ahead, part = (x * dy - y * dx) / across, (x * sines - y * cosines) / across
    met = (ahead > 0.0) & (part >= 0.0) & (part <= 1.0)
    return np.where(met, ahead, math.inf).min(axis=1)


@pytest.mark.parametrize('count, turn', [(60, 4.0), (360, 2.0 * math.pi), (2, 0.3), (7, 6.28)])
@pytest.mark.parametrize('seed', [0, 1])
def test_rays_end_where_a_plain_search_finds_the_nearest_wall(count, turn, seed):
    course, rng = DrivingEnvironment(SMALL, seed, camera=False).course, np.random.default_rng(seed)
    walls = walls_of(course)
    for _ in range(40):
        x, y, yaw = course.pose_at(rng.uniform(0.0, course.length))
        # Also from beyond the walls, and looking anywhere.
        pose = Pose(*(rng.normal((x, y), 0.4)), yaw + rng.uniform(-9.0, 9.0))
        increment = turn / (count - 1)
        np.testing.assert_allclose(distances(walls, pose, increment, count),
                                   plainly(walls, pose, increment, count), atol=1e-9)


def square(half):
    """Return four walls around the origin."""
    corners = np.array([(half, half), (-half, half), (-half, -half), (half, -half)])
    return Walls(corners, np.roll(corners, -1, axis=0) - corners)


def test_distances_in_a_square_are_those_of_trigonometry():
    # Rays straight at walls, and exactly into all four corners.
    found = distances(square(2.0), Pose(0.0, 0.0, 0.0), math.pi / 4.0, 8)
    np.testing.assert_allclose(found, [2.0, 2.0 * math.sqrt(2.0)] * 4)
    found = distances(square(2.0), Pose(1.0, 0.5, math.pi / 2.0), math.pi / 2.0, 4)
    np.testing.assert_allclose(found, [1.5, 3.0, 2.5, 1.0])


def test_walls_that_are_seen_from_their_end_or_not_at_all():
    # In line with two of the walls, outside the square.
    found = distances(square(1.0), Pose(3.0, 1.0, math.pi - 0.2), 0.1, 5)
    assert found[[0, 1]].tolist() == [math.inf] * 2
    np.testing.assert_allclose(found[2], 2.0)
    np.testing.assert_allclose(found[3:], 2.0 / np.cos([0.1, 0.2]))


def test_corners_are_near_the_borders_they_stand_for():
    course = DrivingEnvironment(SMALL, 3, camera=False).course
    walls, half = walls_of(course), len(course.points[::CORNER_STEP])
    for side, starts, edges in ((1.0, walls.starts[:half], walls.edges[:half]),
                                (-1.0, walls.starts[half:], walls.edges[half:])):
        middles = starts + 0.5 * edges
        for place in np.concatenate([starts, middles]):
            away = course.locate(tuple(place)).lateral_error
            assert away == pytest.approx(side * WALL_DISTANCE * course.lane_width, abs=1e-3)
        # Closed, without gaps.
        np.testing.assert_allclose(starts + edges, np.roll(starts, -1, axis=0))


@pytest.mark.parametrize('lane_width', [0.3, 0.6, 0.8])
@pytest.mark.parametrize('seed', range(4))
def test_no_wall_stands_in_another_stretch(seed, lane_width):
    course = random_course(seed, lane_width)
    apart = walls_of(course).starts[:, None] - course.points
    nearest = np.linalg.norm(apart, axis=2).min(axis=1)
    assert nearest == pytest.approx(WALL_DISTANCE * lane_width, abs=1e-3)


def straight(lane_width):
    """Return a course so large that it is straight nearby."""
    count, radius = 40_000, 1000.0
    headings = np.arange(count) * 2.0 * np.pi / count
    return Course(radius * np.stack([np.sin(headings), 1.0 - np.cos(headings)], axis=1), headings,
                  np.full(count, 1.0 / radius), lane_width, 2.0 * np.pi * radius)


def test_a_scan_says_where_the_lane_is(monkeypatch):
    environment = unseen(replace(EXACT, scan_rays=5, scan_angle_min=-math.pi / 2,
                                 scan_angle_max=math.pi / 2, scan_forward=0.2), 0)
    monkeypatch.setattr('stream_agent.simulation.view.cached_course',
                        lambda seed, lane_width: straight(lane_width))
    environment.reset(1)
    environment.place(lateral=0.1)
    scan = environment.look().scan
    half = WALL_DISTANCE * 0.6
    right, left = half + 0.1, half - 0.1
    assert scan.ranges.dtype == np.float32
    assert scan.ranges == pytest.approx(
        [right, right * math.sqrt(2.0), math.inf, left * math.sqrt(2.0), left], abs=2e-3)
    assert (scan.angle_min, scan.range_min, scan.range_max) == (-math.pi / 2, 0.05, 6.0)
    assert scan.angle_increment == pytest.approx(math.pi / 4)
    # Turned to the left about its axle, it is nearer to the left wall and looks at it.
    environment.place(heading=math.pi / 2)
    ahead = environment.look().scan.ranges[2]
    assert ahead == pytest.approx(half - 0.2, abs=2e-3)


def test_what_is_too_near_or_too_far_is_infinite():
    environment = unseen(replace(EXACT, scan_range_min=0.5, scan_range_max=0.8), 2)
    ranges = environment.reset().scan.ranges
    exact = unseen(EXACT, 2).reset().scan.ranges
    assert (ranges[exact < 0.5] == -math.inf).all() and (exact < 0.5).any()
    assert (ranges[exact > 0.8] == math.inf).all() and (exact > 0.8).any()
    kept = (exact >= 0.5) & (exact <= 0.8)
    assert np.array_equal(ranges[kept], exact[kept]) and kept.any()


def drive(environment, frames=200):
    shots = [environment.reset()]
    while len(shots) < frames:
        shots.append(environment.step(shots[-1].reference))
    return shots


def errors(noisy, exact, kind, field):
    return np.array([a.sensed[kind][field] - b.sensed[kind][field]
                     for a, b in zip(noisy, exact)])


def test_noise_and_lost_rays_are_as_many_as_set():
    far = replace(EXACT, scan_range_min=0.0, scan_range_max=100.0)
    got, exact = (drive(unseen(settings, 4)) for settings in (
        replace(far, scan_noise=0.03, scan_dropout=0.1), far))
    lost = np.array([np.isinf(frame.scan.ranges) for frame in got])
    off = np.array([a.scan.ranges - b.scan.ranges for a, b in zip(got, exact)])[~lost]
    assert lost.mean() == pytest.approx(0.1, abs=0.01)
    assert off.std() == pytest.approx(0.03, rel=0.05) and abs(off.mean()) < 0.002


def test_wheels_and_imu_are_as_wrong_as_set():
    got, exact = drive(unseen(NOISY, 4)), drive(unseen(SMALL, 4))
    speed = errors(got, exact, ODOMETRY, 'twist.twist.linear.x')[40:]
    assert speed.std() == pytest.approx(0.03, rel=0.2)
    assert abs(speed.mean()) < 0.05 * 0.8 + 0.01
    assert errors(got, exact, ODOMETRY, 'twist.twist.angular.z').std() == pytest.approx(
        0.04, rel=0.3)
    yaw = errors(got, exact, IMU, 'angular_velocity.z')
    assert yaw.std() == pytest.approx(0.05, rel=0.2) and abs(yaw.mean()) < 0.11
    for axis in 'xy':
        assert errors(got, exact, IMU, f'linear_acceleration.{axis}').std() == pytest.approx(
            0.3, rel=0.2)
    # Another seed, another scale and another bias.
    constant = replace(SMALL, odometry_scale=0.05, imu_yaw_bias=0.1)
    found = [drive(unseen(constant, seed), 60)[-1] for seed in range(8)]
    factors = [frame.sensed[ODOMETRY]['twist.twist.linear.x'] / frame.speed for frame in found]
    biases = [frame.sensed[IMU]['angular_velocity.z'] - frame.yaw_rate for frame in found]
    assert np.ptp(factors) > 0.03 and max(np.abs(np.array(factors) - 1.0)) <= 0.05
    assert np.ptp(biases) > 0.06 and max(np.abs(biases)) <= 0.1


def test_without_errors_the_truth_is_measured():
    for frame in drive(unseen(SMALL, 5), 60):
        assert frame.sensed == {
            ODOMETRY: {'twist.twist.linear.x': frame.speed,
                       'twist.twist.angular.z': frame.yaw_rate},
            IMU: {'angular_velocity.z': frame.yaw_rate,
                  'linear_acceleration.x': frame.acceleration,
                  'linear_acceleration.y': frame.speed * frame.yaw_rate}}
        assert frame.scan is None


@pytest.mark.parametrize('vehicle', ['differential', 'bicycle'])
def test_the_acceleration_is_the_speed_s_change(vehicle):
    environment = unseen(replace(SMALL, vehicle=vehicle, rate=120.0), 0)
    shots = [environment.reset()] + [environment.step(Command(0.8, 0.2)) for _ in range(60)]
    for before, frame, after in zip(shots[1:], shots[2:], shots[3:]):
        assert frame.acceleration == pytest.approx(
            (after.speed - before.speed) * 60.0, abs=0.03)
    assert shots[1].acceleration > 5.0
    # Who is put somewhere else has not felt it.
    environment.place(speed=0.1)
    assert environment.look().acceleration == 0.0


def test_errors_depend_on_the_seed_and_the_frame_and_not_on_what_was_asked_before():
    first, skipping = unseen(NOISY, 6), unseen(NOISY, 6)
    shots = [first.reset()] + [first.step(Command(0.5, 0.1)) for _ in range(6)]
    skipping.reset()
    for number in range(1, 7):
        skipping.send(Command(0.5, 0.1))
        if number % 3:
            skipping.skip()
            continue
        frame = skipping.advance()
        assert frame.sensed == shots[number].sensed
        assert np.array_equal(frame.scan.ranges, shots[number].scan.ranges)
    # A look at a moment measures what that frame did.
    assert skipping.look().sensed == shots[6].sensed
    again = first.reset()
    assert np.array_equal(again.scan.ranges, shots[0].scan.ranges)
    assert not np.array_equal(first.reset(look_seed=9).scan.ranges, shots[0].scan.ranges)
    other = unseen(replace(NOISY, scan_rays=0), 6).reset()
    assert other.sensed == shots[0].sensed


def test_a_delayed_scan_is_that_of_the_capture():
    late, prompt = (unseen(replace(EXACT, camera_delay=delay), 3) for delay in (0.1, 0.0))
    commands = [Command(0.8, 0.3 * math.sin(0.2 * i)) for i in range(20)]
    first = [prompt.step(command) for command in commands]
    for earlier, frame in zip(first[:-3], [late.step(command) for command in commands][3:]):
        np.testing.assert_allclose(frame.scan.ranges, earlier.scan.ranges, rtol=1e-5)
        assert frame.sensed[IMU] == pytest.approx(earlier.sensed[IMU])
        assert frame.now.time - frame.time == pytest.approx(0.1)
    # The start is seen several times, each time with other noise.
    noisy = unseen(replace(NOISY, camera_delay=0.05), 3)
    starts = [noisy.reset(), noisy.step(Command(0.8, 0.0)), noisy.look()]
    assert len({frame.scan.ranges.tobytes() for frame in starts}) == 3


def test_quiet_scans_of_a_still_vehicle_are_equal():
    environment = unseen(NOISY, 2)
    environment.quiet = True
    first, second = (environment.step(Command(0.0, 0.0)) for _ in range(2))
    assert np.array_equal(first.scan.ranges, second.scan.ranges)
    assert first.sensed == second.sensed


def test_sensors_change_no_image_and_no_drive():
    plain, sensing = (drive(DrivingEnvironment(settings, 7), 30) for settings in (SMALL, NOISY))
    blind = drive(unseen(NOISY, 7), 30)
    for frame, other, third in zip(plain, sensing, blind):
        assert np.array_equal(frame.image, other.image)
        assert frame.now == other.now == third.now
        assert np.array_equal(other.scan.ranges, third.scan.ranges)
        assert third.image is None and frame.scan is None


@pytest.mark.parametrize('vehicle', ['differential', 'bicycle'])
@pytest.mark.parametrize('seed', [0, 1, 2, 3])
def test_the_scan_alone_says_enough_to_stay_in_the_lane(seed, vehicle):
    environment = unseen(replace(NOISY, vehicle=vehicle), seed)
    frame, off = environment.reset(), []
    while frame.laps < 1.0:
        assert frame.time < 40.0
        frame = environment.step(follow(frame.scan))
        off.append(frame.lateral_error)
        assert not frame.departed
    assert np.sqrt(np.mean(np.square(off))) < 0.015


@pytest.mark.parametrize('setting, message', [
    ({'scan_rays': 1}, 'scan_rays is 1; set it to 0 for none, or to 2 or more'),
    ({'scan_angle_min': 1.0, 'scan_angle_max': 1.0},
     'scan_angle_min is 1 and scan_angle_max 1 rad; set the second to 0.01 to 6.2832 (a '
     'turn) more than the first'),
    ({'scan_angle_min': -4.0, 'scan_angle_max': 4.0},
     'scan_angle_min is -4 and scan_angle_max 4 rad; set the second to 0.01 to 6.2832 (a '
     'turn) more than the first'),
    ({'scan_range_min': 6.0}, 'scan_range_min is 6 and scan_range_max 6 m; set the second to '
     'more than the first')])
def test_settings_that_contradict_each_other_are_refused(setting, message):
    with pytest.raises(SettingsError) as caught:
        SimulationSettings(**setting)
    assert str(caught.value) == message


def test_the_page_on_the_contract_names_every_setting_with_its_default():
    page = (Path(__file__).parents[2] / 'docs' / 'contract.md').read_text()
    rows = re.findall(r'^\| (`scan_.*?|`odometry_.*?|`imu_.*?) \| (.*?) \|', page, re.MULTILINE)
    said = {name: float(default.split()[0]) for names, defaults in rows for name, default in zip(
        re.findall(r'`(\w+)`', names), defaults.split(', '))}
    assert said == {item.name: item.default for item in fields(SimulationSettings)
                    if item.name.startswith(('scan_', 'odometry_', 'imu_'))}
