"""Signs: where their plates appear, what they command, and that everyone is told the same."""

from dataclasses import replace
from itertools import pairwise
import math

import numpy as np
import pytest
from stream_agent.simulation.camera import Camera
from stream_agent.simulation.course import random_course
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.signs import (
    COMMAND_LENGTH, DISTRACTORS, draw_plates, glyph_mask, GLYPHS, Plate, Signs, SPEEDS,
    sprites_of)
from stream_agent.simulation.vehicle import Pose
from support.projection import project

SETTINGS = SimulationSettings(width_px=64, height_px=48, rate=60.0, camera_pitch=0.15, signs=True,
                              look_ahead=0.4, max_yaw_rate=2.5)


def plate_at(middle, yaw, sprites, side=0.45):
    """Return a plate that looks back along a heading, from another statement than the product."""
    left = np.array([-math.sin(yaw), math.cos(yaw), 0.0]) * side / 2
    up = np.array([0.0, 0.0, side / 2])
    return Plate('cross', np.stack([middle + left + up, middle - left + up, middle - left - up,
                                    middle + left - up]), sprites)


@pytest.mark.parametrize('size', [(64, 48), (160, 120), (640, 480)])
@pytest.mark.parametrize('pose', [Pose(0.0, 0.0, 0.0), Pose(-0.4, 0.3, 2.2)])
@pytest.mark.parametrize('ahead, left, turn', [
    (1.2, 0.5, 0.0), (1.6, -0.6, 0.3), (2.2, 0.1, -0.3)])
def test_a_plate_covers_the_pixels_on_which_its_corners_are_projected(
        size, pose, ahead, left, turn):
    camera = Camera(*size, pitch=0.15)
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    middle = np.array([pose.x + ahead * c - left * s, pose.y + ahead * s + left * c, 0.3])
    plate = plate_at(middle, pose.yaw + turn, sprites_of('ring', 255.0, 255.0))
    image = np.zeros(size[::-1], np.uint8)
    draw_plates(image, camera, pose, [plate])
    corners = project(camera, plate.corners, pose)
    x, y = corners.T
    area = 0.5 * abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    # Light is area, edges and all, and its centre of gravity is that of the quadrilateral.
    assert image.sum() / 255.0 == pytest.approx(area, rel=0.02)
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    centre = [((one + np.roll(one, -1)) * cross).sum() / (3.0 * cross.sum()) for one in (x, y)]
    rows, columns = np.indices(image.shape)
    seen = [(axis * image).sum() / image.sum() for axis in (columns, rows)]
    assert seen == pytest.approx(centre, abs=0.2)


def test_a_glyph_stands_upright_and_is_not_mirrored():
    camera = Camera(320, 240, pitch=0.0)
    # Bright in the upper left quarter.
    sprite = np.zeros((64, 64, 2), np.float32)
    sprite[..., 1] = 1.0
    sprite[:32, :32, 0] = 200.0
    plate = plate_at(np.array([1.5, 0.0, 0.25]), 0.0, (np.pad(sprite, ((1, 1), (1, 1), (0, 0))),))
    image = np.full((240, 320), 50, np.uint8)
    draw_plates(image, camera, Pose(0.0, 0.0, 0.0), [plate])
    rows, columns = np.nonzero(image > 150)
    middle = project(camera, np.array([[1.5, 0.0, 0.25]]), Pose(0.0, 0.0, 0.0))[0]
    assert rows.max() < middle[1] and columns.max() < middle[0]


@pytest.mark.parametrize('pose', [Pose(3.0, 0.0, 0.0), Pose(1.45, 0.0, 0.0)])
def test_a_plate_that_is_behind_or_too_near_is_not_drawn(pose):
    image = np.zeros((48, 64), np.uint8)
    draw_plates(image, Camera(64, 48), pose, [
        plate_at(np.array([1.5, 0.0, 0.3]), 0.0, sprites_of('ring', 255.0, 255.0))])
    assert not image.any()


def test_the_nearer_plate_hides_the_farther_one():
    image = np.zeros((48, 64), np.uint8)
    plates = [plate_at(np.array([ahead, 0.0, 0.3]), 0.0, sprites_of('ring', value, value))
              for ahead, value in ((2.0, 100.0), (1.5, 200.0))]
    draw_plates(image, Camera(64, 48, pitch=0.15), Pose(0.0, 0.0, 0.0), plates)
    middle = project(Camera(64, 48, pitch=0.15), np.array([[2.0, 0.0, 0.3]]),
                     Pose(0.0, 0.0, 0.0))[0]
    assert image[round(middle[1]), round(middle[0])] == 200


def test_glyphs_and_distractors_differ_by_a_good_part_of_their_ink():
    masks = {name: glyph_mask(name) / 255.0 for name in GLYPHS + DISTRACTORS}
    assert len(masks) == 13
    for one, other in ((a, b) for a in masks for b in masks if a < b):
        assert np.abs(masks[one] - masks[other]).mean() > 0.03, (one, other)


@pytest.mark.parametrize('seed', [0, 1, 1_000_000])
def test_every_stretch_commands_another_speed_and_the_same_to_everyone(seed):
    course = random_course(seed)
    signs, again = Signs(course, seed), Signs(course, seed)
    backwards = [again.command((n + 0.5) * COMMAND_LENGTH) for n in reversed(range(200))][::-1]
    told = [signs.command((n + 0.5) * COMMAND_LENGTH) for n in range(200)]
    assert told == backwards
    assert [one.number for one in told] == list(range(200))
    assert [one.since for one in told] == pytest.approx([0.5 * COMMAND_LENGTH] * 200)
    speeds = [one.speed for one in told]
    assert all(a != b for a, b in pairwise(speeds))
    counts = [speeds.count(speed) for speed in SPEEDS]
    assert sum(counts) == 200 and min(counts) > 30
    assert {signs.glyph(n) for n in range(200)} == set(range(len(GLYPHS)))


def test_plates_stand_beside_the_lane_and_show_what_is_in_force():
    course = random_course(3)
    signs = Signs(course, 3)
    sides, opposite = [], 0
    for index in range(1, 101):
        plates = signs.plates_at(index)
        opposite += len(plates) == 2
        for plate in plates:
            middle = plate.corners.mean(0)
            arc, lateral = course.locate(middle[:2], index % course.length)
            assert abs((arc - index + 1.0) % course.length - 1.0) < 0.02
            assert abs(lateral) == pytest.approx(0.5 * 0.6 + 0.1 + 0.225, abs=0.01)
            assert np.ptp(plate.corners[:, 2]) == pytest.approx(0.45)
        sides.append(course.locate(plates[0].corners.mean(0)[:2], index % course.length)[1] > 0)
        assert np.array_equal(signs.plates_at(index)[0].corners, plates[0].corners)
        # The nearest plate ahead shows the command in force.
        shown = GLYPHS[signs.glyph(signs.command(index - 0.5).number)]
        ink = np.abs(plates[0].sprites[0][1:-1, 1:-1, 0]
                     - plates[0].sprites[0][1, 1, 0]) > 20.0
        assert np.array_equal(ink, glyph_mask(shown) / 255.0 * np.ptp(
            plates[0].sprites[0][1:-1, 1:-1, 0]) > 20.0)
    assert 30 < sum(sides) < 70 and 30 < opposite < 70


def test_without_signs_nothing_changes():
    frames = [DrivingEnvironment(replace(SETTINGS, signs=signs), 0).look()
              for signs in (False, True)]
    assert frames[0].since_sign == math.inf and frames[0].reference.speed == 0.8
    assert frames[1].since_sign == 0.0 and frames[1].reference.speed in SPEEDS
    assert not np.array_equal(frames[0].image, frames[1].image)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(3))
def test_the_expert_obeys_and_keeps_the_lane(seed):
    environment = DrivingEnvironment(SETTINGS, seed)
    frame, errors = environment.look(), []
    while frame.now.along < 25.0:
        frame = environment.step(frame.now.reference)
        if frame.since_sign > 2.0:
            assert frame.speed == pytest.approx(frame.reference.speed, abs=0.02)
            errors.append(frame.lateral_error)
    assert frame.now.sign == 5
    assert np.abs(errors).max() < 0.08


def test_a_vehicle_that_is_put_elsewhere_does_not_meet_old_signs():
    environment = DrivingEnvironment(SETTINGS, 0)
    environment.place(arc_length=7.0)
    assert environment.look().along == pytest.approx(7.0)
    environment.place(arc_length=2.0)
    assert environment.look().along == pytest.approx(2.0 + environment.course.length)
    environment.place(lateral=0.1)
    assert environment.look().along == pytest.approx(2.0 + environment.course.length, abs=0.02)
