"""The ground as seen from above: lane, borders, marks, clutter, on a grain of noise."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from stream_agent.simulation.course import Course

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Appearance:
    """
    One look of a course and its surroundings; grey values and colours are 0 to 255.

    :param asphalt: Colour of the lane; ``ground`` is the one beside it.
    :param marking: Colour of the dashes along the centre line.
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
    """Draw a colour whose channels differ from a grey value by a tint at most."""
    red, green, blue = np.clip(grey + rng.uniform(-tint, tint, 3), 0.0, 255.0).tolist()
    return red, green, blue


RESOLUTION = 0.01
MARGIN = 1.5
# Over this width [m] the texture fades into the flat ground that lies beyond its edge.
FADE = 0.5
# Fractional bits of the coordinates that OpenCV draws by.
SHIFT = 4


@dataclass(frozen=True, eq=False)
class GroundTexture:
    """
    A map of the ground: column to the right is x, row down is y.

    :param pixels: uint8, (rows, columns) or (rows, columns, 3) in RGB order.
    :param origin: x and y [m] of the centre of the first pixel.
    :param resolution: Side of a pixel [m].
    :param beyond: Colour of the ground outside the map, one value a channel.
    """

    pixels: np.ndarray
    origin: tuple[float, float]
    resolution: float
    beyond: tuple[float, ...]

    @cached_property
    def from_world(self) -> np.ndarray:
        """Return the matrix (3, 3) from (x, y, 1) [m] to (column, row, 1)."""
        x, y = self.origin
        scale = 1.0 / self.resolution
        return np.array([[scale, 0.0, -x * scale], [0.0, scale, -y * scale], [0.0, 0.0, 1.0]])

    def halved(self) -> 'GroundTexture':
        """Return the same map at half the resolution, for what is far away."""
        rows, columns = (side // 2 * 2 for side in self.pixels.shape[:2])
        x, y = self.origin
        return GroundTexture(
            cv2.resize(self.pixels[:rows, :columns], (columns // 2, rows // 2),
                       interpolation=cv2.INTER_AREA),
            (x + 0.5 * self.resolution, y + 0.5 * self.resolution), 2.0 * self.resolution,
            self.beyond)


def draw_ground(course: Course, look: Appearance, rng: np.random.Generator, coloured: bool
                ) -> GroundTexture:
    """Draw the ground around a course."""
    painter = Painter(course, look, rng, coloured)
    painter.patches()
    painter.lane()
    painter.stains()
    painter.grain()
    painter.fade()
    x, y = painter.origin.tolist()
    return GroundTexture(painter.pixels, (x, y), RESOLUTION, painter.ink(look.ground))


class Painter:
    """Draws on the ground around a course in metres; the picture has three channels or one."""

    def __init__(self, course: Course, look: Appearance, rng: np.random.Generator,
                 coloured: bool) -> None:
        self.course, self.look, self.rng, self.coloured = course, look, rng, coloured
        self.origin = course.points.min(axis=0) - MARGIN
        extent = course.points.max(axis=0) + MARGIN - self.origin
        columns, rows = (int(side) + 1 for side in extent / RESOLUTION)
        self.shape = rows, columns
        self.pixels = np.empty((*self.shape, 3) if coloured else self.shape, np.uint8)
        self.pixels[:] = self.ink(look.ground)

    def ink(self, colour: Colour) -> tuple[float, ...]:
        """Return a colour as this picture holds it."""
        return as_ink(colour, self.coloured)

    def layer(self, grey: np.ndarray) -> np.ndarray:
        """Return a picture of one channel with as many channels as this one."""
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB) if self.coloured else grey

    def polygons(self, pixels: np.ndarray, outlines: list[np.ndarray], ink: tuple[float, ...]
                 ) -> None:
        """Fill what lies within an odd number of outlines [m], each (N, 2)."""
        dots = [np.rint((outline - self.origin) / RESOLUTION * 2 ** SHIFT).astype(np.int32)
                for outline in outlines]
        cv2.fillPoly(pixels, dots, ink, cv2.LINE_AA, SHIFT)

    def patches(self) -> None:
        """Scatter ellipses and boxes; the lane is painted over them."""
        rows, columns = self.shape
        extent = np.array([columns, rows]) * RESOLUTION
        for _ in range(int(self.look.clutter * (rows * columns * RESOLUTION ** 2))):
            centre = self.origin + self.rng.uniform(0.0, 1.0, 2) * extent
            outline = random_outline(self.rng, centre, *self.rng.uniform(0.03, 0.3, 2))
            colour = tinted(self.rng, self.rng.uniform(20.0, 235.0), 25.0)
            self.polygons(self.pixels, [outline], self.ink(colour))

    def lane(self) -> None:
        """Paint asphalt, borders and the dashes of the centre line."""
        course, look = self.course, self.look
        self.line(course.points, course.lane_width, look.asphalt, closed=True)
        for side in (0.5, -0.5):
            border = course.border(side * (course.lane_width - look.line_width))
            self.line(border, look.line_width, look.border, closed=True)
        if look.dash:
            pairs = max(1, round(0.5 * course.length / look.dash))
            for part in np.array_split(course.points, 2 * pairs)[::2]:
                self.line(part, 0.6 * look.line_width, look.marking, closed=False)

    def line(self, points: np.ndarray, width: float, colour: Colour, closed: bool) -> None:
        """Paint a strip [m] around a line."""
        steps = (np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0) if closed
                 else np.gradient(points, axis=0))
        steps = steps / np.linalg.norm(steps, axis=1, keepdims=True)
        normals = np.stack([-steps[:, 1], steps[:, 0]], axis=1) * (0.5 * width)
        left, right = points + normals, points - normals
        # Two outlines of a closed strip leave its inside out, by the even-odd rule.
        outlines = [left, right] if closed else [np.concatenate([left, right[::-1]])]
        self.polygons(self.pixels, outlines, self.ink(colour))

    def stains(self) -> None:
        """Darken or brighten some places on and near the lane, marks included."""
        course, rng = self.course, self.rng
        layer = np.full(self.shape, 128, np.uint8)
        for _ in range(int(self.look.stains * course.length)):
            x, y, heading = course.pose_at(rng.uniform(0.0, course.length))
            side = rng.uniform(-0.5, 0.5)
            centre = np.array([x - side * np.sin(heading), y + side * np.cos(heading)])
            outline = random_outline(rng, centre, *rng.uniform(0.05, 0.4, 2))
            self.polygons(layer, [outline], (rng.uniform(75.0, 150.0),))
        layer = self.layer(cv2.blur(layer, (5, 5)))
        cv2.multiply(self.pixels, layer, self.pixels, 1.0 / 128.0)

    def grain(self) -> None:
        """Add coarse blotches and fine grain to everything."""
        rows, columns = self.shape
        coarse = self.rng.normal(0.0, 0.5, (rows // 24 + 2, columns // 24 + 2))
        noise = self.look.blotch * cv2.resize(coarse.astype(np.float32), (columns, rows),
                                              interpolation=cv2.INTER_CUBIC)
        noise += self.rng.standard_normal(self.shape, np.float32) * self.look.grain
        noise = self.layer(cv2.convertScaleAbs(noise + 128.0))
        cv2.addWeighted(self.pixels, 1.0, noise, 1.0, -128.0, self.pixels)

    def fade(self) -> None:
        """Let everything run into the colour of the ground towards the edges."""
        weights = [np.clip(np.minimum(np.arange(n), np.arange(n)[::-1])
                           * (RESOLUTION / FADE), 0.0, 1.0) for n in self.shape]
        weight = np.minimum.outer(*weights).astype(np.float32)
        width = int(FADE / RESOLUTION) + 1
        ink = np.array(self.ink(self.look.ground), np.float32)
        for edge in (np.s_[:width], np.s_[-width:], np.s_[:, :width], np.s_[:, -width:]):
            share = weight[edge][..., None] if self.coloured else weight[edge]
            self.pixels[edge] = ink + share * (self.pixels[edge] - ink)


def as_ink(colour: Colour, coloured: bool) -> tuple[float, ...]:
    """Return a colour in as many channels as a picture has: itself, or its luminance."""
    red, green, blue = colour
    return colour if coloured else (0.299 * red + 0.587 * green + 0.114 * blue,)


def random_outline(rng: np.random.Generator, centre: np.ndarray, half_length: float,
                   half_width: float) -> np.ndarray:
    """Return an ellipse or a box [m] around a centre, turned at random, (N, 2)."""
    count = 20 if rng.random() < 0.5 else 4
    angles = np.arange(count) * (2.0 * np.pi / count)
    outline = np.stack([half_length * np.cos(angles), half_width * np.sin(angles)], axis=1)
    turn = rng.uniform(0.0, np.pi)
    c, s = np.cos(turn), np.sin(turn)
    return centre + outline @ np.array([[c, s], [-s, c]])
