"""What stands far away all around: a sky, and boxes of many sizes in front of it."""

import cv2
import numpy as np

from stream_agent.simulation.appearance import Appearance
from stream_agent.simulation.texture import as_ink

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
