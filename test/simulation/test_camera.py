"""The camera's geometry against itself and against what one knows without it."""

import math

import numpy as np
import pytest
from stream_agent.simulation.camera import Camera
from stream_agent.simulation.vehicle import Pose
from support.projection import project

POSE = Pose(1.2, -0.7, 2.1)


def beside(pose, ahead, left, up=0.0):
    """Return the point of the world that lies so far from a vehicle [m], (1, 3)."""
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    return np.array([[pose.x + ahead * c - left * s, pose.y + ahead * s + left * c, up]])


def test_the_optical_axis_meets_the_ground_in_the_middle_of_the_image():
    camera = Camera(width_px=160, height_px=120, height=0.25, forward=0.1, pitch=0.35)
    ahead = 0.1 + 0.25 / math.tan(0.35)
    assert project(camera, beside(POSE, ahead, 0.0), POSE)[0] == pytest.approx([79.5, 59.5])


def test_the_field_of_view_reaches_from_edge_to_edge():
    camera = Camera(width_px=160, field_of_view=1.4, pitch=0.0, forward=0.0)
    left = beside(POSE, math.cos(0.7), math.sin(0.7), camera.height)
    right = beside(POSE, math.cos(0.7), -math.sin(0.7), camera.height)
    assert project(camera, left, POSE)[0, 0] == pytest.approx(-0.5)
    assert project(camera, right, POSE)[0, 0] == pytest.approx(159.5)


def test_left_is_left_and_near_is_low():
    camera = Camera()
    near, far = (project(camera, beside(POSE, ahead, 0.1), POSE)[0] for ahead in (0.5, 2.0))
    assert near[0] < far[0] < 79.5
    assert near[1] > far[1] > camera.horizon_px


def test_far_points_of_the_ground_approach_the_horizon():
    camera = Camera()
    pixel = project(camera, beside(POSE, 1e6, 2e5), POSE)[0]
    assert pixel[1] == pytest.approx(camera.horizon_px, abs=1e-3)


def test_points_behind_the_camera_have_no_pixel():
    assert np.isnan(project(Camera(), beside(POSE, -1.0, 0.0), POSE)).all()


def test_the_homographies_are_the_projection_of_the_ground():
    camera = Camera(yaw=0.05)
    points = np.concatenate([beside(POSE, ahead, left)
                             for ahead in (0.5, 1.0, 4.0) for left in (-0.5, 0.2)])
    pixels = project(camera, points, POSE)
    flat = np.stack([points[:, 0], points[:, 1], np.ones(len(points))])
    seen = camera.ground_to_pixels(POSE) @ flat
    assert np.allclose((seen[:2] / seen[2]).T, pixels)
    back = camera.pixels_to_ground(POSE) @ np.vstack([pixels.T, np.ones(len(points))])
    assert np.allclose((back[:2] / back[2]).T, points[:, :2])


def test_pose_in_world_and_matrix_are_all_that_a_projection_needs():
    camera = Camera(yaw=-0.1, pitch=0.5)
    rotation, position = camera.pose_in_world(POSE)
    point = beside(POSE, 1.5, 0.3, 0.1)[0]
    x, y, z = camera.matrix @ rotation.T @ (point - position)
    assert project(camera, point[None], POSE)[0] == pytest.approx([x / z, y / z])
    assert rotation @ rotation.T == pytest.approx(np.eye(3))
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_directions_point_where_projected_points_lie():
    camera = Camera(yaw=0.1)
    azimuths, elevations = camera.directions(20)
    azimuth, elevation = azimuths[3, 120] + POSE.yaw, elevations[3, 120]
    far = 1e7 * np.array([[math.cos(elevation) * math.cos(azimuth),
                           math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]])
    assert project(camera, far, POSE)[0] == pytest.approx([120.0, 3.0], abs=1e-3)
