"""What a course looks like: colours, marks, clutter, light and noise, drawn by seed."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Appearance:
    """
    One look of a course and its surroundings; grey values and colours are 0 to 255.

    :param asphalt: Colour of the lane.
    :param ground: Colour beside the lane.
    :param border: Colour of the lane's borders.
    :param marking: Colour of the dashes along the centre line.
    :param sky: Colour above the horizon.
    :param grain: Standard deviation of the ground's fine texture, in grey values.
    :param blotch: Amplitude of its coarse texture, in grey values.
    :param line_width: Of the borders [m].
    :param dash: Length of a dash and of the gap after it [m]; no dashes if 0.
    :param clutter: Patches beside the lane per square metre.
    :param stains: Stains and shadows per metre of the lane.
    :param gain: Brightness of the light, 1 as drawn.
    :param flicker: Relative amplitude of the slow change of the light.
    :param slope: Relative change of the light from the image's centre to its right edge.
    :param vignette: Relative loss of light in the image's corners.
    :param noise: Standard deviation of the sensor's noise, in grey values.
    """

    asphalt: Colour = (85.0, 85.0, 90.0)
    ground: Colour = (105.0, 120.0, 80.0)
    border: Colour = (230.0, 230.0, 225.0)
    marking: Colour = (205.0, 185.0, 90.0)
    sky: Colour = (150.0, 175.0, 205.0)
    grain: float = 7.0
    blotch: float = 14.0
    line_width: float = 0.045
    dash: float = 0.25
    clutter: float = 1.2
    stains: float = 0.3
    gain: float = 1.0
    flicker: float = 0.0
    slope: float = 0.0
    vignette: float = 0.1
    noise: float = 3.0


def random_appearance(rng: np.random.Generator) -> Appearance:
    """Draw a look in which the borders stay clearly brighter than the lane."""
    asphalt = rng.uniform(50.0, 115.0)
    border = rng.uniform(max(180.0, asphalt + 90.0), 250.0)
    return Appearance(
        asphalt=tinted(rng, asphalt, 8.0),
        ground=tinted(rng, rng.uniform(45.0, 165.0), 35.0),
        border=tinted(rng, border, 12.0),
        marking=tinted(rng, rng.uniform(asphalt + 50.0, border), 40.0),
        sky=tinted(rng, rng.uniform(120.0, 230.0), 30.0),
        grain=rng.uniform(3.0, 11.0),
        blotch=rng.uniform(5.0, 24.0),
        line_width=rng.uniform(0.035, 0.06),
        dash=rng.uniform(0.12, 0.4) if rng.random() < 0.7 else 0.0,
        clutter=rng.uniform(0.4, 2.5),
        stains=rng.uniform(0.0, 0.7),
        gain=rng.uniform(0.7, 1.25),
        flicker=rng.uniform(0.0, 0.15),
        slope=rng.uniform(-0.2, 0.2),
        vignette=rng.uniform(0.0, 0.25),
        noise=rng.uniform(1.0, 6.0))


def tinted(rng: np.random.Generator, grey: float, tint: float) -> Colour:
    """Draw a colour around a grey value that differs from it by a tint at most."""
    red, green, blue = np.clip(grey + rng.uniform(-tint, tint, 3), 0.0, 255.0)
    return float(red), float(green), float(blue)
