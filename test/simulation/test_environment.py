"""The environment: exact delays, determinism, an expert that stays in its lane."""

from dataclasses import replace
import math
import time

import numpy as np
import pytest
from stream_agent.command import Command, STOP
from stream_agent.simulation.environment import CommandError, DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings

SMALL = SimulationSettings(width_px=64, height_px=48)
# Without lag the path can be told beforehand.
PROMPT = replace(SMALL, speed_time_constant=0.0, turn_time_constant=0.0)
AHEAD = Command(0.6, 0.0)


def distance(frame, start):
    return math.hypot(frame.now.pose.x - start.x, frame.now.pose.y - start.y)


@pytest.mark.parametrize('vehicle', ['differential', 'bicycle'])
@pytest.mark.parametrize('seed', [0, 1, 2, 3])
def test_the_expert_drives_two_laps_inside_the_lane(vehicle, seed):
    environment = DrivingEnvironment(replace(SMALL, vehicle=vehicle), seed)
    frame, errors = environment.reset(), []
    while frame.laps < 2.0:
        assert frame.time < 60.0
        after = environment.step(frame.now.reference)
        assert after.progress >= frame.progress
        frame = after
        errors.append(frame.lateral_error)
        assert not frame.departed
    assert np.sqrt(np.mean(np.square(errors))) < 0.03
    assert frame.progress == pytest.approx(2.0 * environment.course.length, abs=0.05)


@pytest.mark.parametrize('lateral, heading', [(0.25, 0.3), (-0.25, -0.3), (0.0, 0.8)])
def test_the_expert_returns_from_where_it_is_placed(lateral, heading):
    environment = DrivingEnvironment(SMALL, 4)
    environment.place(lateral, heading, arc_length=7.0)
    frame = environment.look()
    assert frame.lateral_error == pytest.approx(lateral, abs=1e-3)
    for _ in range(120):
        frame = environment.step(frame.reference)
    assert abs(frame.lateral_error) < 0.02
    assert frame.progress > 2.0


@pytest.mark.parametrize('delay', [0.0, 0.02, 1.0 / 30.0, 0.05, 0.1, 0.137])
def test_an_image_is_exactly_as_old_as_the_camera_delay(delay):
    environment = DrivingEnvironment(replace(PROMPT, camera_delay=delay), 0)
    frame = environment.reset()
    start = frame.pose
    for step in range(12):
        assert frame.now.time == pytest.approx(step / 30.0)
        assert frame.time == pytest.approx(step / 30.0 - delay)
        driven = math.hypot(frame.pose.x - start.x, frame.pose.y - start.y)
        assert driven == pytest.approx(0.6 * max(frame.time, 0.0), abs=1e-9)
        assert distance(frame, start) == pytest.approx(0.6 * step / 30.0, abs=1e-9)
        frame = environment.step(AHEAD)


def test_a_delayed_image_is_the_earlier_image_and_its_reference():
    prompt = DrivingEnvironment(replace(SMALL, noise=0.0), 0)
    late = DrivingEnvironment(replace(SMALL, noise=0.0, camera_delay=0.1), 0)
    commands = [Command(0.8, 0.3 * math.sin(0.2 * i)) for i in range(20)]
    first = [prompt.step(command) for command in commands]
    second = [late.step(command) for command in commands]
    for earlier, frame in zip(first[:-3], second[3:]):
        assert np.array_equal(frame.image, earlier.image)
        assert frame.reference == pytest.approx(earlier.reference)
        assert frame.lateral_error == pytest.approx(earlier.lateral_error)
    assert second[-1].now.reference == pytest.approx(first[-1].reference)


@pytest.mark.parametrize('delay', [0.0, 0.007, 1.0 / 30.0, 0.08, 0.25])
def test_a_command_acts_exactly_the_actuator_delay_later(delay):
    environment = DrivingEnvironment(replace(PROMPT, actuator_delay=delay), 0)
    start = environment.reset().pose
    for step in range(1, 15):
        frame = environment.step(AHEAD)
        assert distance(frame, start) == pytest.approx(
            0.6 * max(step / 30.0 - delay, 0.0), abs=1e-9)


def test_commands_between_frames_act_at_their_own_time():
    environment = DrivingEnvironment(PROMPT, 0)
    start = environment.reset().pose
    environment.send(AHEAD, after=0.01)
    environment.send(STOP, after=0.03)
    environment.send(AHEAD, after=0.1)
    driven = [distance(environment.advance(), start) for _ in range(4)]
    assert driven == pytest.approx([0.012, 0.012, 0.012, 0.012 + 0.6 * (4 / 30.0 - 0.1)])


def test_commands_do_not_overtake_each_other():
    environment = DrivingEnvironment(PROMPT, 0)
    start = environment.reset().pose
    environment.send(AHEAD, after=0.02)
    environment.send(STOP, after=0.01)
    assert distance(environment.advance(), start) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize('settings', [
    SMALL, replace(SMALL, coloured=True, camera_delay=0.05, actuator_delay=0.03)])
def test_a_seed_repeats_an_episode(settings):
    def drive(environment):
        frames = [environment.reset(3)]
        for _ in range(20):
            frames.append(environment.step(frames[-1].reference))
        return frames

    environment = DrivingEnvironment(settings, 8)
    first, again = drive(environment), drive(environment)
    environment.reset(5)
    for frames in (again, drive(DrivingEnvironment(settings, 3)), drive(environment)):
        assert all(np.array_equal(a.image, b.image) and a.pose == b.pose
                   for a, b in zip(first, frames))


def test_images_do_not_depend_on_the_global_random_state():
    np.random.seed(0)
    first = DrivingEnvironment(SMALL, 3).reset().image
    np.random.seed(1)
    assert np.array_equal(first, DrivingEnvironment(SMALL, 3).reset().image)


def test_a_look_can_change_without_the_course():
    environment = DrivingEnvironment(SMALL, 3)
    points, image = environment.course.points, environment.reset().image
    other = environment.reset(look_seed=9)
    assert np.array_equal(environment.course.points, points)
    assert np.abs(other.image.astype(int) - image).mean() > 5.0


def test_without_randomization_only_course_and_clutter_differ():
    environment = DrivingEnvironment(replace(SMALL, randomized=False), 0)
    look, camera = environment.scene.look, environment.scene.camera
    environment.reset(1)
    assert environment.scene.look == look
    assert environment.scene.camera == camera == environment.settings.camera
    shown = DrivingEnvironment(SMALL, 1).scene
    assert shown.look != look and shown.camera != camera


@pytest.mark.parametrize('coloured, shape', [(False, (48, 64)), (True, (48, 64, 3))])
def test_images_have_the_asked_for_shape(coloured, shape):
    image = DrivingEnvironment(replace(SMALL, coloured=coloured), 0).reset().image
    assert image.shape == shape and image.dtype == np.uint8
    assert image.flags['C_CONTIGUOUS']


def test_grey_is_the_luminance_of_colour():
    # Rounding, and colours that light drives beyond white, leave small differences.
    look = replace(SMALL, noise=0.0, clutter=0.0, light=0.0)
    red, green, blue = np.moveaxis(
        DrivingEnvironment(replace(look, coloured=True), 0).reset().image.astype(float), 2, 0)
    grey = DrivingEnvironment(look, 0).reset().image
    assert np.abs(0.299 * red + 0.587 * green + 0.114 * blue - grey).mean() < 1.5


def test_quiet_images_of_a_still_vehicle_are_equal_and_change_with_its_place():
    environment = DrivingEnvironment(SMALL, 2)
    noisy = [environment.step(STOP).image for _ in range(2)]
    assert not np.array_equal(*noisy)
    environment.quiet = True
    first, second = (environment.step(STOP).image for _ in range(2))
    assert np.array_equal(first, second)
    environment.place(lateral=0.15)
    moved = environment.step(STOP)
    assert moved.lateral_error == pytest.approx(0.15, abs=1e-3)
    assert np.abs(moved.image.astype(int) - first).mean() > 2.0
    environment.place()
    assert np.array_equal(environment.step(STOP).image, first)


@pytest.mark.parametrize('rate, delay, frames', [(30.0, 2.0 / 30.0, 2), (100.0, 0.29, 29)])
def test_images_captured_before_a_placement_show_the_old_place(rate, delay, frames):
    environment = DrivingEnvironment(replace(SMALL, rate=rate, camera_delay=delay), 2)
    environment.quiet = True
    before = environment.step(STOP).image
    environment.place(lateral=0.2)
    shown = [np.array_equal(environment.step(STOP).image, before) for _ in range(frames + 2)]
    assert shown == frames * [True] + [False, False]


def test_departures_and_laps_are_told():
    environment = DrivingEnvironment(PROMPT, 1)
    for lateral, departed in ((0.29, False), (0.31, True), (-0.31, True), (-0.29, False)):
        environment.place(lateral)
        assert environment.step(STOP).departed is departed
    frame = environment.reset()
    for _ in range(60):
        frame = environment.step(frame.reference)
    assert frame.laps == pytest.approx(frame.progress / environment.course.length)
    assert frame.progress == pytest.approx(0.8 * 2.0, abs=0.02)


def test_driving_backwards_undoes_progress():
    environment = DrivingEnvironment(PROMPT, 1)
    for _ in range(15):
        frame = environment.step(Command(-0.6, 0.0))
    assert frame.progress == pytest.approx(-0.3, abs=0.02)


@pytest.mark.parametrize('settings', [
    SimulationSettings(width_px=32, height_px=24, camera_pitch=1.2, camera_height=2.0,
                       lane_width=0.3),
    SimulationSettings(width_px=640, height_px=480, camera_pitch=0.0, field_of_view=2.4,
                       lane_width=0.8),
    SimulationSettings(camera_height=0.05, exposure=0.1, noise=5.0, light=2.0, clutter=5.0),
    SimulationSettings(rate=10.0, camera_delay=1.0, actuator_delay=1.0, target_speed=2.0)])
def test_extreme_settings_work(settings):
    environment = DrivingEnvironment(settings, 0)
    images = [environment.step(Command(2.0, 2.0)).image for _ in range(12)]
    assert images[-1].std() > 3.0
    assert environment.time == pytest.approx(12 * settings.period)


@pytest.mark.parametrize('command', [Command(math.nan, 0.0), Command(0.5, math.inf)])
def test_a_command_that_is_not_a_number_is_refused(command):
    environment = DrivingEnvironment(SMALL, 0)
    with pytest.raises(CommandError) as caught:
        environment.step(command)
    assert str(caught.value) == (
        f'command is ({command.speed} m/s, {command.yaw_rate} rad/s); both must be finite '
        'numbers')
    assert environment.time == 0.0


def test_a_skipped_frame_costs_no_image_and_no_time():
    skipping, other = (DrivingEnvironment(replace(SMALL, noise=0.0, camera_delay=0.05), 0)
                       for _ in range(2))
    for environment in (skipping, other):
        environment.send(Command(0.8, 0.4))
    skipping.skip()
    skipping.skip()
    frames = [environment.advance() for environment in (skipping, other, other, other)]
    assert np.array_equal(frames[0].image, frames[3].image)
    assert frames[0].now == frames[3].now


@pytest.mark.real_time
def test_frames_are_cheap():
    # The figure proper is benchmark/simulator.py's; a tenth of it here, the best of many
    # tries, fails only where something is badly wrong.
    environment = DrivingEnvironment(SimulationSettings(), 0)
    frame, best = environment.reset(), math.inf
    for _ in range(30):
        start = time.perf_counter()
        for _ in range(20):
            frame = environment.step(frame.reference)
        best = min(best, (time.perf_counter() - start) / 20)
    assert best < 0.01
