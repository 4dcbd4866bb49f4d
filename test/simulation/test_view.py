"""Pictures show every point where the projection says."""

import math

import cv2
import numpy as np
import pytest
from stream_agent.simulation.camera import Camera
from stream_agent.simulation.texture import GroundTexture
from stream_agent.simulation.vehicle import Motion, Pose
from stream_agent.simulation.view import BOTTOM, PIXELS_PER_RADIAN, TOP, View, WIDTH_PX
from support.projection import project

CAMERAS = [Camera(), Camera(width_px=640, height_px=480, yaw=0.05, pitch=0.45)]
POSES = [Pose(0.0, 0.0, 0.0), Pose(0.31, -0.22, 2.4), Pose(-0.4, 0.1, -1.1)]


def black_ground(resolution=0.01, side=801):
    origin = -0.5 * (side - 1) * resolution
    return GroundTexture(np.zeros((side, side), np.uint8), (origin, origin), resolution, (0.0,))


def black_panorama():
    return np.zeros((int((TOP - BOTTOM) * PIXELS_PER_RADIAN), WIDTH_PX), np.uint8)


def centre_of_light(image):
    """Return the column and row of the light's centre of gravity."""
    total = image.astype(float).sum()
    assert total > 0.0
    rows, columns = np.indices(image.shape)
    return np.array([(columns * image).sum(), (rows * image).sum()]) / total


@pytest.mark.parametrize('camera', CAMERAS)
@pytest.mark.parametrize('pose', POSES)
@pytest.mark.parametrize('ahead, left', [(0.4, 0.05), (0.6, -0.2), (0.8, 0.3)])
def test_a_spot_on_the_ground_appears_where_it_is_projected(camera, pose, ahead, left):
    ground = black_ground()
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    x, y = pose.x + ahead * c - left * s, pose.y + ahead * s + left * c
    spot = np.rint((np.array([x, y]) - ground.origin) / ground.resolution).astype(int)
    ground.pixels[spot[1], spot[0]] = 255
    image = View(camera, ground, black_panorama()).render(pose)
    point = np.append(ground.origin + spot * ground.resolution, 0.0)
    expected = project(camera, point[None], pose)[0]
    assert np.abs(centre_of_light(image) - expected).max() < 0.5


@pytest.mark.parametrize('camera', CAMERAS)
@pytest.mark.parametrize('pose', POSES)
def test_far_rows_show_the_ground_at_the_right_distance(camera, pose):
    # Waves across the view: at 3 m a twentieth of a row changes them by eight grey values.
    ground = black_ground()
    rows, columns = np.indices(ground.pixels.shape)
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    x, y = (i * ground.resolution + ground.origin[0] for i in (columns, rows))

    def wave(x, y):
        return 128 + 100 * np.sin(4.0 * ((x - pose.x) * c + (y - pose.y) * s))

    ground.pixels[:] = np.rint(wave(x, y))
    image = View(camera, ground, black_panorama()).render(pose).astype(np.float32)
    ahead, left = np.random.default_rng(0).uniform((0.5, -0.2), (3.0, 0.2), (200, 2)).T
    points = np.stack([pose.x + ahead * c - left * s, pose.y + ahead * s + left * c,
                       np.zeros(200)], axis=1)
    pixels = project(camera, points, pose).astype(np.float32)
    seen = cv2.remap(image, pixels[:, :1], pixels[:, 1:], cv2.INTER_CUBIC)[:, 0]
    assert np.abs(seen - wave(*points.T[:2])).max() < 8.0


@pytest.mark.parametrize('pose', POSES)
def test_an_edge_is_sharp_to_a_fifth_of_a_pixel(pose):
    # Half the ground is white, from a line that runs straight away from the vehicle.
    ground = black_ground(resolution=0.005, side=1601)
    rows, columns = np.indices(ground.pixels.shape)
    x, y = (i * ground.resolution + ground.origin[0] for i in (columns, rows))
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    ahead, left = (x - pose.x) * c + (y - pose.y) * s, (y - pose.y) * c - (x - pose.x) * s
    ground.pixels[:] = np.clip((left - 0.1 * ahead) / ground.resolution + 0.5, 0, 1) * 255
    camera = Camera()
    image = View(camera, ground, black_panorama()).render(pose) / 255.0
    for distance in (0.4, 0.7, 1.2, 2.0):
        side = 0.1 * distance
        point = [[pose.x + distance * c - side * s, pose.y + distance * s + side * c, 0.0]]
        column, row = project(camera, point, pose)[0]
        edges = image[[math.floor(row), math.ceil(row)]].sum(axis=1) - 0.5
        edge = np.interp(row, [math.floor(row), math.ceil(row)], edges)
        assert edge == pytest.approx(column, abs=0.2)


@pytest.mark.parametrize('camera', CAMERAS)
@pytest.mark.parametrize('pose', POSES)
@pytest.mark.parametrize('aside', [-0.5, 0.0, 0.4])
def test_the_panorama_turns_with_the_yaw(camera, pose, aside):
    panorama = black_panorama()
    azimuth, elevation = pose.yaw + aside, 0.08
    column = round(-azimuth * PIXELS_PER_RADIAN) % WIDTH_PX
    row = round((TOP - elevation) * PIXELS_PER_RADIAN)
    panorama[row - 1:row + 2, np.arange(column - 1, column + 2) % WIDTH_PX] = 255
    image = View(camera, black_ground(), panorama).render(pose)
    azimuth, elevation = -column / PIXELS_PER_RADIAN, TOP - row / PIXELS_PER_RADIAN
    far = 1e7 * np.array([[math.cos(elevation) * math.cos(azimuth),
                           math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]])
    expected = project(camera, far, pose)[0]
    assert np.abs(centre_of_light(image) - expected).max() < 0.3


def test_the_ground_ends_at_the_horizon():
    ground = GroundTexture(np.full((64, 64), 200, np.uint8), (0.0, 0.0), 0.01, (200.0,))
    camera = Camera()
    image = View(camera, ground, black_panorama()).render(POSES[0])
    assert not image[:math.floor(camera.horizon_px) + 1].any()
    assert (image[math.floor(camera.horizon_px) + 1:] == 200).all()


def test_a_camera_that_looks_down_sees_no_sky():
    ground = GroundTexture(np.full((64, 64), 200, np.uint8), (0.0, 0.0), 0.01, (200.0,))
    view = View(Camera(pitch=1.1), ground, black_panorama())
    assert (view.render(POSES[1]) == 200).all()


def test_motion_blurs_along_the_motion():
    ground = black_ground()
    ground.pixels[:] = np.random.default_rng(0).integers(0, 255, ground.pixels.shape)
    view = View(Camera(), ground, black_panorama())
    still, turning = (Motion(POSES[0], 0.0, rate) for rate in (0.0, 2.0))

    def taken(motion, exposure):
        return view.mean(motion, exposure, view.count(motion, exposure))

    assert np.array_equal(taken(still, 0.02), view.render(POSES[0]))
    assert np.array_equal(taken(turning, 0.0), view.render(POSES[0]))
    sharp, blurred = (taken(motion, 0.02)[60:].astype(float) for motion in (still, turning))
    across = [np.abs(np.diff(image, axis=1)).mean() for image in (sharp, blurred)]
    assert across[1] < 0.75 * across[0]
