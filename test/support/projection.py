"""Where a camera shows points: the statement that homographies and pictures are tested against."""

import numpy as np
from stream_agent.simulation.camera import Camera
from stream_agent.simulation.vehicle import Pose


def project(camera: Camera, points: np.ndarray, pose: Pose) -> np.ndarray:
    """
    Return columns and rows, (N, 2), also beyond the image's edges; NaN behind the camera.

    :param points: x, y, z in the world [m], (N, 3); the ground is z = 0.
    :param pose: The vehicle's.
    """
    rotation, position = camera.pose_in_world(pose)
    optical = (np.asarray(points, float) - position) @ rotation
    depth = np.where(optical[:, 2:] > 0.0, optical[:, 2:], np.nan)
    return (optical @ camera.matrix.T)[:, :2] / depth
