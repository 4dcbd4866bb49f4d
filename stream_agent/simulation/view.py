"""What a camera sees of a course, its ground and its surroundings: what a seed stands for."""

from dataclasses import replace
from functools import lru_cache
import math

import cv2
import numpy as np
from stream_agent.simulation.camera import Camera
from stream_agent.simulation.course import Course, random_course
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.texture import (
    Appearance, as_ink, draw_ground, GroundTexture, random_appearance)
from stream_agent.simulation.vehicle import Motion, Pose

WIDTH_PX = 1536
PIXELS_PER_RADIAN = WIDTH_PX / (2.0 * np.pi)
# Elevations [rad] of the first and the last row; the ground hides what lies deeper.
TOP = 0.9
BOTTOM = -0.05


def draw_panorama(look: Appearance, rng: np.random.Generator, coloured: bool,
                  clutter: float = 1.0) -> np.ndarray:
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
        grey = rng.uniform(25.0, 220.0)
        colour = tuple(np.clip(grey + rng.uniform(-30.0, 30.0, 3), 0.0, 255.0))
        left = int(rng.integers(0, WIDTH_PX))
        width = int(rng.uniform(0.03, 0.35) * PIXELS_PER_RADIAN)
        top = int((TOP - rng.uniform(0.01, 0.3) ** 1.3) * PIXELS_PER_RADIAN)
        # A box over the seam shows on both ends.
        for start in (left, left - WIDTH_PX):
            cv2.rectangle(pixels, (start, top), (start + width, rows), as_ink(colour, coloured),
                          -1)
    return pixels


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


# Noise is drawn once, on a larger field than an image, and cut out at random places.
SPARE_PX = 128
FLICKER_PERIOD = 7.0
NEUTRAL = 128


class Sensor:
    """
    Makes a clean image look taken.

    :param shape: Of the images, (H, W) or (H, W, 3).
    :param look: Of which light and noise count here.
    :param seed: Of the noise.
    """

    def __init__(self, shape: tuple[int, ...], look: Appearance, seed: int) -> None:
        self.shape = shape
        self.look = look
        self._seed = seed
        self._light = light_field(shape, look)
        self._noise = noise_field(shape, look.noise, np.random.default_rng([seed, 2]))
        self.restart()

    def restart(self) -> None:
        """Repeat the same noise and flicker from now on."""
        self._rng = np.random.default_rng([self._seed, 3])
        self._phase = self._rng.uniform(0.0, 2.0 * math.pi)

    def take(self, image: np.ndarray, time: float, quiet: bool = False) -> np.ndarray:
        """
        Apply light and noise.

        :param image: uint8, of the sensor's shape; not modified.
        :param time: Of the flicker [s].
        :param quiet: Without what changes from image to image: flicker and noise.
        """
        gain = self.look.gain
        if not quiet:
            angle = 2.0 * math.pi * time / FLICKER_PERIOD + self._phase
            gain *= 1.0 + self.look.flicker * math.sin(angle)
        lit = cv2.multiply(image, self._light, scale=gain / NEUTRAL)
        if quiet or self._noise is None:
            return lit
        row, column = self._rng.integers(0, SPARE_PX, 2)
        noise = self._noise[row:row + self.shape[0], column:column + self.shape[1]]
        return cv2.addWeighted(lit, 1.0, noise, 1.0, -NEUTRAL)


def light_field(shape: tuple[int, ...], look: Appearance) -> np.ndarray:
    """Return the light on every pixel of the sensor, uint8, 128 for as bright as drawn."""
    y, x = np.mgrid[-1.0:1.0:shape[0] * 1j, -1.0:1.0:shape[1] * 1j]
    light = 1.0 + look.slope * x - 0.5 * look.vignette * (x * x + y * y)
    light = np.clip(NEUTRAL * light, 0.0, 255.0).astype(np.uint8)
    return light if len(shape) == 2 else cv2.cvtColor(light, cv2.COLOR_GRAY2RGB)


def noise_field(shape: tuple[int, ...], deviation: float, rng: np.random.Generator
                ) -> np.ndarray | None:
    """Draw Gaussian noise around 128, larger than an image; None if there is none."""
    if deviation == 0.0:
        return None
    size = (shape[0] + SPARE_PX, shape[1] + SPARE_PX, *shape[2:])
    noise = NEUTRAL + deviation * rng.standard_normal(size, np.float32)
    return np.clip(np.rint(noise), 0.0, 255.0).astype(np.uint8)


# Courses are small and take long to find; whoever trains comes back to them.
cached_course = lru_cache(maxsize=256)(random_course)


class Scene:
    """
    A course, and how it is seen.

    :param settings: Of which the camera, the lane and the factors on the look count here.
    :param seed: Of the course.
    :param look_seed: Of everything that is seen.
    """

    def __init__(self, settings: SimulationSettings, seed: int, look_seed: int) -> None:
        rng = np.random.default_rng([look_seed, 1])
        self.course: Course = cached_course(seed, settings.lane_width)
        self.look = scaled(random_appearance(rng) if settings.randomized else Appearance(),
                           settings)
        self.camera = jittered(settings.camera, rng) if settings.randomized else settings.camera
        self.ground = draw_ground(self.course, self.look, rng, settings.coloured)
        self.panorama = draw_panorama(self.look, rng, settings.coloured, settings.clutter)
        self.view = View(self.camera, self.ground, self.panorama)
        self.sensor = Sensor(self.view.shape, self.look, look_seed)


def scaled(look: Appearance, settings: SimulationSettings) -> Appearance:
    """Return a look with the settings' factors on noise, light and clutter."""
    return replace(
        look, noise=look.noise * settings.noise, clutter=look.clutter * settings.clutter,
        stains=look.stains * settings.clutter,
        gain=1.0 + (look.gain - 1.0) * settings.light, flicker=look.flicker * settings.light,
        slope=look.slope * settings.light, vignette=look.vignette * settings.light)


def jittered(camera: Camera, rng: np.random.Generator) -> Camera:
    """Return a camera mounted as precisely as people mount cameras."""
    return replace(camera,
                   height=camera.height * rng.uniform(0.95, 1.05),
                   forward=camera.forward + rng.uniform(-0.01, 0.01),
                   pitch=camera.pitch + rng.uniform(-0.03, 0.03),
                   yaw=camera.yaw + rng.uniform(-0.015, 0.015))
