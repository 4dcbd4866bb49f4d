"""What a camera sees of a course, its ground and its surroundings, all made from seeds."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
import math
from typing import NamedTuple, TYPE_CHECKING

import cv2
import numpy as np
from stream_agent.simulation.camera import Camera
from stream_agent.simulation.course import Course, random_course
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.signs import draw_plates, Plate, Signs
from stream_agent.simulation.texture import (
    Appearance, as_ink, draw_ground, GroundTexture, random_appearance, tinted)
from stream_agent.simulation.vehicle import Motion, Pose

if TYPE_CHECKING:
    from stream_agent.simulation.compiled import CompiledView

WIDTH_PX = 1536
PIXELS_PER_RADIAN = WIDTH_PX / (2.0 * np.pi)
# Elevations [rad] of the first and the last row; the ground hides what is lower.
TOP = 0.9
BOTTOM = -0.05


def draw_panorama(look: Appearance, rng: np.random.Generator, coloured: bool, clutter: float
                  ) -> np.ndarray:
    """
    Draw the surroundings, all around.

    :param clutter: Factor on the number of boxes.
    :returns: uint8, (rows, WIDTH_PX) or (rows, WIDTH_PX, 3): columns are azimuths to the
        *right*, starting and ending at the x axis; rows are elevations from the top.
    """
    rows = int((TOP - BOTTOM) * PIXELS_PER_RADIAN)
    shade = np.linspace(1.1, 0.85, rows)[:, None, None]
    sky = np.clip(shade * as_ink(look.sky, coloured), 0.0, 255.0).astype(np.uint8)
    pixels = np.repeat(sky, WIDTH_PX, axis=1)
    pixels = np.ascontiguousarray(pixels if coloured else pixels[:, :, 0])
    for _ in range(int(clutter * rng.integers(15, 45))):
        ink = as_ink(tinted(rng, rng.uniform(25.0, 220.0), 30.0), coloured)
        left = int(rng.integers(0, WIDTH_PX))
        width = int(rng.uniform(0.03, 0.35) * PIXELS_PER_RADIAN)
        top = int((TOP - rng.uniform(0.01, 0.3) ** 1.3) * PIXELS_PER_RADIAN)
        # A box over the seam shows on both ends.
        for start in (left, left - WIDTH_PX):
            cv2.rectangle(pixels, (start, top), (start + width, rows), ink, -1)
    return pixels


LEVELS = 5
# More would not be visible: up to there, exposures are a pixel or less apart.
MOST_EXPOSURES = 3
LINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class Band(NamedTuple):
    """
    Rows of the image that see the ground at about the same scale.

    :param texture: In a resolution that suits the distance.
    :param shift: The matrix (3, 3) from the band's pixels to the image's.
    """

    rows: slice
    texture: GroundTexture
    shift: np.ndarray


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
        # The image is not wider than half a turn, so one more half makes every view whole.
        self.panorama = cv2.copyMakeBorder(panorama, 0, 0, 0, WIDTH_PX // 2 + 2,
                                           cv2.BORDER_WRAP)
        azimuths, elevations = camera.directions(self.sky_rows)
        self.column_offsets = np.float32(-azimuths * PIXELS_PER_RADIAN)
        self.leftmost = float(self.column_offsets.min()) if self.sky_rows else 0.0
        self._focal_length_px = camera.focal_length_px
        self.row_map = np.float32((TOP - elevations) * PIXELS_PER_RADIAN)

    def render(self, pose: Pose, plates: Sequence[Plate] = ()) -> np.ndarray:
        """
        Return the image at a pose of the vehicle: uint8, (H, W) or (H, W, 3).

        :param plates: That stand there, the farthest first.
        """
        image = np.empty(self.shape, np.uint8)
        if self.sky_rows:
            # Above the horizon, azimuth and elevation tell what is seen.
            first = (self.leftmost - pose.yaw * PIXELS_PER_RADIAN) % WIDTH_PX
            columns = self.column_offsets + np.float32(first - self.leftmost)
            image[:self.sky_rows] = cv2.remap(
                self.panorama, columns, self.row_map, cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE)
        to_ground = self.camera.pixels_to_ground(pose)
        for band in self.bands:
            target = image[band.rows]
            cv2.warpPerspective(
                band.texture.pixels, band.texture.from_world @ to_ground @ band.shift,
                (target.shape[1], target.shape[0]), target, LINEAR, cv2.BORDER_CONSTANT,
                band.texture.beyond)
        draw_plates(image, self.camera, pose, plates)
        return image

    def count(self, motion: Motion, exposure: float) -> int:
        """Return how many pictures make up an exposure [s]."""
        turned = abs(motion.yaw_rate) * exposure
        rolled = abs(motion.speed) * exposure / self.camera.height
        moved_px = self._focal_length_px * (turned + 0.5 * rolled)
        # About as many as show the motion without gaps.
        return min(MOST_EXPOSURES, 1 + math.ceil(moved_px)) if moved_px >= 0.25 else 1

    def mean(self, motion: Motion, exposure: float, count: int, plates: Sequence[Plate] = ()
             ) -> np.ndarray:
        """Return the mean of pictures taken during an exposure [s] that ends now."""
        mean = self.render(motion.pose, plates)
        for i in range(1, count):
            image = self.render(motion.before(exposure * i / (count - 1)), plates)
            mean = cv2.addWeighted(mean, 1.0 - 1.0 / (i + 1), image, 1.0 / (i + 1), 0.0)
        return mean


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
    bands = []
    for level in np.unique(levels):
        first, last = rows[levels == level][[0, -1]].tolist()
        shift = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, first], [0.0, 0.0, 1.0]])
        bands.append(Band(slice(first, last + 1), textures[level], shift))
    return bands


# Noise is drawn once, on a larger field than an image, and cut out at random places.
SPARE_PX = 128
FLICKER_PERIOD = 7.0
# Places that are drawn at a time.
PLACES = 64
# The grey value of as much light as drawn, and of no noise.
NEUTRAL = 128


class Development(NamedTuple):
    """
    How a clean image becomes one that looks taken.

    :param gain: Of the light's field, in which ``NEUTRAL`` is as much as drawn.
    :param row: From which on the noise is cut out; ``column`` likewise.
    :param noisy: Whether there is noise.
    """

    gain: float
    row: int
    column: int
    noisy: bool


class Sensor:
    """
    Makes a clean image look taken: applies the light and the noise of a look.

    :param shape: Of the images, (H, W) or (H, W, 3).
    :param seed: Of the noise.
    :ivar light: Of that shape, uint8.
    :ivar noise: Larger by ``SPARE_PX`` to both sides, uint8.
    """

    def __init__(self, shape: tuple[int, ...], look: Appearance, seed: int) -> None:
        self.shape, self.look, self._seed = shape, look, seed
        y, x = np.mgrid[-1.0:1.0:shape[0] * 1j, -1.0:1.0:shape[1] * 1j]
        light = 1.0 + look.slope * x - 0.5 * look.vignette * (x * x + y * y)
        light = np.clip(NEUTRAL * light, 0.0, 255.0).astype(np.uint8)
        self.light = light if len(shape) == 2 else cv2.cvtColor(light, cv2.COLOR_GRAY2RGB)
        size = (shape[0] + SPARE_PX, shape[1] + SPARE_PX, *shape[2:])
        noise = NEUTRAL + look.noise * np.random.default_rng([seed, 2]).standard_normal(
            size, np.float32)
        self.noise = np.clip(np.rint(noise), 0.0, 255.0).astype(np.uint8)
        self.restart()

    def restart(self) -> None:
        """Repeat the same noise and flicker from now on."""
        self._rng = np.random.default_rng([self._seed, 3])
        self._phase = self._rng.uniform(0.0, 2.0 * math.pi)
        self._places: list[tuple[int, int]] = []

    def next_image(self, time: float, quiet: bool = False) -> Development:
        """
        Return how the next image is developed.

        :param time: Of the flicker [s].
        :param quiet: Without what changes from image to image: flicker and noise.
        """
        gain = self.look.gain
        if not quiet:
            angle = 2.0 * math.pi * time / FLICKER_PERIOD + self._phase
            gain *= 1.0 + self.look.flicker * math.sin(angle)
        if quiet or not self.look.noise:
            return Development(gain / NEUTRAL, 0, 0, False)
        if not self._places:
            # Many in one draw, which are the same as one by one.
            places = self._rng.integers(0, SPARE_PX, (PLACES, 2)).tolist()
            self._places = [(row, column) for row, column in reversed(places)]
        row, column = self._places.pop()
        return Development(gain / NEUTRAL, row, column, True)

    def develop(self, image: np.ndarray, how: Development) -> np.ndarray:
        """Apply light and noise to an image, uint8, of the sensor's shape; not modified."""
        lit = cv2.multiply(image, self.light, scale=how.gain)
        if not how.noisy:
            return lit
        noise = self.noise[how.row:how.row + self.shape[0],
                           how.column:how.column + self.shape[1]]
        return cv2.addWeighted(lit, 1.0, noise, 1.0, -NEUTRAL)


# Courses are small and take long to find, and training returns to them.
cached_course = lru_cache(maxsize=256)(random_course)


class Scene:
    """
    A course with its signs, if there are any, and how it is seen; each has its own seed.

    :param compiled: Take images by compiled code where numba is installed, which are the same.
    :param seen: Whether images are taken; else there are only the course and its signs.
    """

    def __init__(self, settings: SimulationSettings, seed: int, look_seed: int,
                 compiled: bool = False, seen: bool = True) -> None:
        rng = np.random.default_rng([look_seed, 1])
        self.course: Course = cached_course(seed, settings.lane_width)
        self.signs = Signs(self.course, seed) if settings.signs else None
        if not seen:
            return
        look, camera = Appearance(), settings.camera
        if settings.randomized:
            look = random_appearance(rng)
            # As precise as people mount cameras.
            camera = replace(camera, height=camera.height * rng.uniform(0.95, 1.05),
                             forward=camera.forward + rng.uniform(-0.01, 0.01),
                             pitch=camera.pitch + rng.uniform(-0.03, 0.03),
                             yaw=camera.yaw + rng.uniform(-0.015, 0.015))
        self.camera = camera
        self.look = replace(
            look, noise=look.noise * settings.noise, clutter=look.clutter * settings.clutter,
            stains=look.stains * settings.clutter,
            gain=1.0 + (look.gain - 1.0) * settings.light, flicker=look.flicker * settings.light,
            slope=look.slope * settings.light, vignette=look.vignette * settings.light)
        self.ground = draw_ground(self.course, self.look, rng, settings.coloured)
        self.panorama = draw_panorama(self.look, rng, settings.coloured, settings.clutter)
        self.view = View(self.camera, self.ground, self.panorama)
        self.sensor = Sensor(self.view.shape, self.look, look_seed)
        self.compiled_view = compiled_view(self.view, self.sensor) if compiled else None

    def photograph(self, motion: Motion, exposure: float, plates: Sequence[Plate], time: float,
                   quiet: bool) -> np.ndarray:
        """
        Return the image that is taken of a motion: uint8, (H, W) or (H, W, 3).

        :param exposure: That ends now [s].
        :param plates: That stand there, the farthest first.
        :param time: Of the flicker [s].
        :param quiet: Without noise, flicker and motion blur.
        """
        exposure = 0.0 if quiet else exposure
        count, how = self.view.count(motion, exposure), self.sensor.next_image(time, quiet)
        if self.compiled_view:
            return self.compiled_view.take(motion, exposure, count, plates, how)
        return self.sensor.develop(self.view.mean(motion, exposure, count, plates), how)


def compiled_view(view: View, sensor: Sensor) -> 'CompiledView | None':
    """Return what takes the same images faster; None if numba is missing or pixels differ."""
    try:
        from stream_agent.simulation.compiled import CompiledView, equals_opencv
    except ImportError:
        return None
    return CompiledView(view, sensor) if equals_opencv(view.shape) else None
