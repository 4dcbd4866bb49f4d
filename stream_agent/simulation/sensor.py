"""The faults of a camera's sensor: uneven and changing light, and noise."""

import math

import cv2
import numpy as np

from stream_agent.simulation.appearance import Appearance

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
