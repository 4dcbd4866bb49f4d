"""The exact geometry of a pinhole camera on a vehicle."""

from dataclasses import dataclass
from functools import cached_property
import math

import numpy as np
from stream_agent.simulation.vehicle import Pose


@dataclass(frozen=True)
class Camera:
    """
    An undistorted camera that looks ahead and down from a vehicle; the horizon stays level.

    Pixel coordinates are (column, row); (0, 0) is the centre of the upper left pixel.
    Optical axes as in REP 103: x to the right, y down, z ahead.

    :param width_px: Columns of the image.
    :param height_px: Rows of the image.
    :param field_of_view: Horizontal, from edge to edge of the image [rad].
    :param height: Above the ground [m].
    :param forward: Ahead of the vehicle's pose [m].
    :param pitch: Downwards from the horizontal [rad].
    :param yaw: To the left of the vehicle's heading [rad].
    """

    width_px: int = 160
    height_px: int = 120
    field_of_view: float = 1.4
    height: float = 0.25
    forward: float = 0.1
    pitch: float = 0.35
    yaw: float = 0.0

    @property
    def focal_length_px(self) -> float:
        """Distance of the image plane in pixels, the same for columns and rows."""
        return 0.5 * self.width_px / math.tan(0.5 * self.field_of_view)

    @property
    def horizon_px(self) -> float:
        """Row of the horizon; it may lie outside the image."""
        return 0.5 * (self.height_px - 1) - self.focal_length_px * math.tan(self.pitch)

    @cached_property
    def matrix(self) -> np.ndarray:
        """Return the intrinsic matrix K, (3, 3): optical coordinates to pixels."""
        f = self.focal_length_px
        return np.array([[f, 0.0, 0.5 * (self.width_px - 1)],
                         [0.0, f, 0.5 * (self.height_px - 1)],
                         [0.0, 0.0, 1.0]])

    @cached_property
    def rotation_in_vehicle(self) -> np.ndarray:
        """Return the optical axes in the vehicle's frame (x ahead, y left, z up), one a column."""
        c, s = math.cos(self.pitch), math.sin(self.pitch)
        level = np.array([[0.0, -s, c], [-1.0, 0.0, 0.0], [0.0, -c, -s]])
        return rotation_about_z(self.yaw) @ level

    def pose_in_world(self, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
        """Return the optical axes in the world, one a column, (3, 3), and the position [m]."""
        turn = rotation_about_z(pose.yaw)
        position = turn @ (self.forward, 0.0, self.height) + (pose.x, pose.y, 0.0)
        return turn @ self.rotation_in_vehicle, position

    def ground_to_pixels(self, pose: Pose) -> np.ndarray:
        """Return the homography (3, 3) from (x, y, 1) on the ground [m] to pixels."""
        rotation, position = self.pose_in_world(pose)
        return self.matrix @ np.stack([rotation[0], rotation[1], -rotation.T @ position], axis=1)

    @cached_property
    def pixels_to_near_ground(self) -> np.ndarray:
        """Return the homography (3, 3) from pixels to (x, y, 1) in the vehicle's frame [m]."""
        return np.linalg.inv(self.ground_to_pixels(Pose(0.0, 0.0, 0.0)))

    def pixels_to_ground(self, pose: Pose) -> np.ndarray:
        """Return the homography (3, 3) from pixels to (x, y, 1) on the ground [m]."""
        to_world = rotation_about_z(pose.yaw)
        to_world[:2, 2] = pose.x, pose.y
        return to_world @ self.pixels_to_near_ground

    def directions(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Return where the pixels of the upper rows look, as two arrays (rows, width) [rad].

        :returns: Azimuths to the left of the vehicle's heading, and elevations.
        """
        column, row = np.meshgrid(np.arange(self.width_px), np.arange(rows))
        pixels = np.stack([column, row, np.ones_like(row)], axis=-1)
        rays = pixels @ np.linalg.inv(self.matrix).T @ self.rotation_in_vehicle.T
        return (np.arctan2(rays[..., 1], rays[..., 0]),
                np.arctan2(rays[..., 2], np.hypot(rays[..., 0], rays[..., 1])))


def rotation_about_z(angle: float) -> np.ndarray:
    """Return the matrix (3, 3) that turns to the left by an angle [rad]."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
