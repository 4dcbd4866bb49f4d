"""Camera images by compiled code, as long as they are OpenCV's pixel by pixel."""

from collections.abc import Sequence
from functools import cache
import math

import cv2
import numpy as np
from stream_agent.simulation.camera import Camera
from stream_agent.simulation.kernels import BEYOND_PX, expose
from stream_agent.simulation.signs import corners_of, NEAREST, Plate, sprites_of
from stream_agent.simulation.texture import Appearance, GroundTexture
from stream_agent.simulation.vehicle import Motion, Pose
from stream_agent.simulation.view import (
    Development, MOST_EXPOSURES, PIXELS_PER_RADIAN, Sensor, View, WIDTH_PX)

# OpenCV rounds the last columns otherwise if the width is no multiple of this.
LANES = 16


def texels(pixels: np.ndarray, beyond: tuple[float, ...]) -> np.ndarray:
    """
    Return every 2 x 2 pixels of a texture as one number, so that they are read together.

    :param pixels: uint8, (rows, columns) or (rows, columns, channels).
    :returns: uint32, (channels, rows + 3, columns + 3): the first is two pixels up and left of the
        texture; the lowest eight bits are the upper left pixel, then come upper right, lower left.
    """
    ink = np.clip(np.rint(beyond), 0, 255).astype(np.uint8)
    planes = np.moveaxis(np.atleast_3d(pixels), 2, 0)
    channels, rows, columns = planes.shape
    padded = np.empty((channels, rows + 2 * BEYOND_PX, columns + 2 * BEYOND_PX), np.uint8)
    padded[:] = ink[:, None, None]
    padded[:, BEYOND_PX:-BEYOND_PX, BEYOND_PX:-BEYOND_PX] = planes
    quads = np.empty((channels, rows + 3, columns + 3, 4), np.uint8)
    for i, (down, right) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        quads[..., i] = padded[:, down:rows + 3 + down, right:columns + 3 + right]
    return quads.view('<u4')[..., 0]


class CompiledView:
    """
    Takes the images that a view and a sensor take, in one call each.

    :param sensor: Of the view's images.
    """

    def __init__(self, view: View, sensor: Sensor) -> None:
        camera = view.camera
        self._shape = view.shape
        channels = view.shape[2] if len(view.shape) == 3 else 1
        self._images = np.empty((MOST_EXPOSURES, channels, *view.shape[:2]), np.uint8)
        self._camera = (camera.pixels_to_near_ground, camera.rotation_in_vehicle, camera.matrix,
                        np.array([camera.forward, camera.height]))
        quads = [texels(band.texture.pixels, band.texture.beyond) for band in view.bands]
        offsets = np.cumsum([0, *(quad[0].size for quad in quads)])
        self._ground = (
            np.concatenate([quad.reshape(channels, -1) for quad in quads], axis=1),
            np.array([(band.rows.start, band.rows.stop, offset, *quad.shape[1:])
                      for band, offset, quad in zip(view.bands, offsets, quads)]),
            np.array([(matrix[0, 0], matrix[0, 2], matrix[1, 2]) for matrix in (
                band.texture.from_world for band in view.bands)]))
        self._sky = (*seen_around(view, channels), view.leftmost, PIXELS_PER_RADIAN,
                     float(WIDTH_PX))
        self._light, self._noise = (
            field.reshape(len(field), -1) for field in (sensor.light, sensor.noise))
        self._shown: Sequence[Plate] = ()
        self._plates = packed(())

    def take(self, motion: Motion, duration: float, count: int, plates: Sequence[Plate],
             how: Development) -> np.ndarray:
        """Return what ``Sensor.develop`` makes of what ``View.mean`` returns."""
        if plates is not self._shown:
            self._shown, self._plates = plates, packed(plates)
        taken = np.empty(self._shape, np.uint8)
        (x, y, yaw), speed, yaw_rate = motion
        expose((x, y, yaw, speed, yaw_rate, duration, count), self._images, self._camera,
               self._ground, self._sky, self._plates, self._light, self._noise, tuple(how),
               taken.reshape(len(taken), -1))
        return taken


def seen_around(view: View, channels: int) -> tuple[np.ndarray, ...]:
    """Return the last four arguments of ``draw_sky``."""
    upper, rows = np.floor(view.row_map), len(view.panorama)
    # Of all around, only the rows that the camera sees.
    first = int(np.clip(upper.min(), 0, rows - 1)) if upper.size else 0
    last = int(np.clip(upper.max() + 2, first + 1, rows)) if upper.size else 1
    edges = cv2.copyMakeBorder(view.panorama[first:last], BEYOND_PX, BEYOND_PX, BEYOND_PX,
                               BEYOND_PX, cv2.BORDER_REPLICATE)
    quads = texels(edges, (0.0,))[:, BEYOND_PX:-BEYOND_PX, BEYOND_PX:-BEYOND_PX]
    rows, columns = quads.shape[1:]
    starts = np.clip(upper - first + BEYOND_PX, 0, rows - 1) * columns + BEYOND_PX
    return (quads.reshape(channels, -1), view.column_offsets, starts.astype(np.int32),
            view.row_map - upper)


def packed(plates: Sequence[Plate]) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return plates as ``expose`` takes them."""
    if not plates:
        return np.empty((0, 4, 3)), np.empty((0, 0, 2), np.float32), np.empty(0, np.int64), NEAREST
    sprites = [np.concatenate([sprite.reshape(-1, 2) for sprite in plate.sprites])
               for plate in plates]
    return (np.stack([plate.corners for plate in plates]), np.stack(sprites),
            np.array([len(sprite) for sprite in plates[0].sprites]), NEAREST)


@cache
def equals_opencv(shape: tuple[int, ...]) -> bool:
    """Tell whether images of a shape, (H, W) or (H, W, 3), are the same by OpenCV, by trial."""
    if shape[1] % LANES:
        return False
    rng, channels = np.random.default_rng(0), shape[2:]
    camera = Camera(shape[1], shape[0], pitch=0.15)
    beyond = tuple(rng.uniform(0.0, 255.0, channels or 1).tolist())
    ground = GroundTexture(rng.integers(0, 256, (400, 300, *channels), np.uint8), (-1.5, -2.0),
                           0.01, beyond)
    view = View(camera, ground, rng.integers(0, 256, (232, WIDTH_PX, *channels), np.uint8))
    sensor = Sensor(shape, Appearance(gain=1.1, slope=0.1), 0)
    compiled = CompiledView(view, sensor)
    for yaw in rng.uniform(-9.0, 9.0, 6).tolist():
        x, y = rng.uniform(-0.2, 0.2, 2).tolist()
        motion = Motion(Pose(x, y, yaw), 0.8, 0.5)
        how = sensor.next_image(0.0)
        plates = [trial_plate(motion.pose, rng) for _ in range(3)]
        exposed = motion, 0.02, MOST_EXPOSURES, plates
        if not np.array_equal(compiled.take(*exposed, how),
                              sensor.develop(view.mean(*exposed), how)):
            return False
    return True


def trial_plate(pose: Pose, rng: np.random.Generator) -> Plate:
    """Return a plate somewhere ahead."""
    ahead, left, turn = rng.uniform((1.0, -0.5, -0.3), (3.0, 0.5, 0.3))
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    middle = np.array([pose.x + c * ahead - s * left, pose.y + s * ahead + c * left, 0.3])
    across = np.array([-math.sin(pose.yaw + turn), math.cos(pose.yaw + turn), 0.0])
    return Plate('cross', corners_of(middle, across),
                 sprites_of('cross', *rng.uniform(20.0, 235.0, 2)))
