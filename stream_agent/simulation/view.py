"""Renders what a camera sees of the ground and of its surroundings."""

import math

import cv2
import numpy as np

from stream_agent.simulation.camera import Camera
from stream_agent.simulation.panorama import PIXELS_PER_RADIAN, TOP, WIDTH_PX
from stream_agent.simulation.texture import GroundTexture
from stream_agent.simulation.vehicle import Motion, Pose

LEVELS = 5
# More would not show: the exposures are a pixel or less apart up to there.
MOST_EXPOSURES = 3
LINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class Band:
    """
    Some rows of the image that see the ground in about the same scale.

    :param rows: First row, and the one after the last.
    :param texture: In a resolution that suits the distance.
    """

    def __init__(self, rows: tuple[int, int], texture: GroundTexture) -> None:
        self.rows = slice(*rows)
        self.texture = texture
        self.shift = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, rows[0]], [0.0, 0.0, 1.0]])
        self.to_texture = texture.from_world


class View:
    """
    Pictures of one scene through one camera, without the sensor's faults.

    :param camera: Its horizon lies above the image's lower edge.
    :param ground: The ground's texture.
    :param panorama: What ``draw_panorama`` drew, with as many channels.
    """

    def __init__(self, camera: Camera, ground: GroundTexture, panorama: np.ndarray) -> None:
        self.camera = camera
        self.shape = (camera.height_px, camera.width_px, *ground.pixels.shape[2:])
        self.sky_rows = max(0, min(camera.height_px, math.floor(camera.horizon_px) + 1))
        self.bands = make_bands(camera, ground, self.sky_rows)
        # The image is no wider than half a turn, so one more half makes every view whole.
        self.panorama = cv2.copyMakeBorder(panorama, 0, 0, 0, WIDTH_PX // 2 + 2,
                                           cv2.BORDER_WRAP)
        azimuths, elevations = camera.directions(self.sky_rows)
        self.column_offsets = np.float32(-azimuths * PIXELS_PER_RADIAN)
        self.row_map = np.float32((TOP - elevations) * PIXELS_PER_RADIAN)

    def render(self, pose: Pose) -> np.ndarray:
        """Return the image at a pose of the vehicle: uint8, (H, W) or (H, W, 3)."""
        image = np.empty(self.shape, np.uint8)
        self._render_surroundings(image, pose.yaw)
        to_ground = self.camera.pixels_to_ground(pose)
        for band in self.bands:
            target = image[band.rows]
            cv2.warpPerspective(
                band.texture.pixels, band.to_texture @ to_ground @ band.shift,
                (target.shape[1], target.shape[0]), target, LINEAR, cv2.BORDER_CONSTANT,
                band.texture.beyond)
        return image

    def _render_surroundings(self, image: np.ndarray, yaw: float) -> None:
        """Look up the pixels above the horizon by azimuth and elevation."""
        if self.sky_rows == 0:
            return
        leftmost = float(self.column_offsets.min())
        first = (leftmost - yaw * PIXELS_PER_RADIAN) % WIDTH_PX
        image[:self.sky_rows] = cv2.remap(
            self.panorama, self.column_offsets + np.float32(first - leftmost), self.row_map,
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def expose(self, motion: Motion, exposure: float) -> np.ndarray:
        """Return the mean of what is seen during an exposure [s] that ends now."""
        count = self.exposures(motion, exposure)
        if count == 1:
            return self.render(motion.pose)
        images = [self.render(motion.before(exposure * i / (count - 1))) for i in range(count)]
        total = images[0]
        for i, image in enumerate(images[1:], start=2):
            total = cv2.addWeighted(total, 1.0 - 1.0 / i, image, 1.0 / i, 0.0)
        return total

    def exposures(self, motion: Motion, exposure: float) -> int:
        """Return how many pictures show the motion of an exposure without gaps, about."""
        turned = abs(motion.yaw_rate) * exposure
        rolled = abs(motion.speed) * exposure / self.camera.height
        moved_px = self.camera.focal_length_px * (turned + 0.5 * rolled)
        return 1 if moved_px < 0.25 else min(MOST_EXPOSURES, 1 + math.ceil(moved_px))


def make_bands(camera: Camera, ground: GroundTexture, sky_rows: int) -> list[Band]:
    """Cut the rows below the horizon into bands, coarser textures towards the horizon."""
    textures = [ground]
    while len(textures) < LEVELS:
        textures.append(textures[-1].halved())
    rows = np.arange(sky_rows, camera.height_px)
    below = (rows - camera.horizon_px) / camera.focal_length_px
    # Side of the square on the ground as large as what a pixel sees; mean of both directions.
    footprint = camera.height / camera.focal_length_px * np.maximum(below, 1e-6) ** -1.5
    levels = np.floor(np.log2(np.maximum(footprint / ground.resolution, 1.0)))
    levels = np.minimum(levels, LEVELS - 1).astype(int)
    return [Band((int(rows[levels == level][0]), int(rows[levels == level][-1]) + 1),
                 textures[level]) for level in np.unique(levels)]
