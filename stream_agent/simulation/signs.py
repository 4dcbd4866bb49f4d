"""Plates beside the lane whose glyphs command the speed, and how a camera sees them."""

from collections.abc import Iterator, Sequence
from functools import cache
import math
from typing import NamedTuple

import cv2
import numpy as np
from stream_agent.simulation.camera import Camera, rotation_about_z
from stream_agent.simulation.course import Course
from stream_agent.simulation.vehicle import Pose

# Distance between two plates along the lane [m], and how many in a row show the same glyph.
SPACING, PER_COMMAND = 1.0, 5
COMMAND_LENGTH = SPACING * PER_COMMAND
# Two glyphs command each of these speeds [m/s].
SPEEDS = (0.8, 1.2, 1.6, 2.0)
GLYPHS = ('ring', 'cross', 'triangle', 'plus', 'frame', 'bars', 'chevron', 'tee')
# Alike, but without a meaning.
DISTRACTORS = ('half ring', 'slash', 'wedge', 'lines', 'diamond')
# Side of a plate [m], height of its middle, and its distance from the lane's border.
SIDE, HEIGHT, APART = 0.45, 0.3, 0.1
# Plates further ahead, or nearer, are not drawn [m]; the nearer ones are beside the image.
FARTHEST, NEAREST = 4.5, 0.1
GREATEST_TURN = math.radians(20.0)
CONTRASTS = (55.0, 110.0)
DISTRACTION = 0.5
SPRITE_PX = 64


class Plate(NamedTuple):
    """
    One plate as it stands in the world.

    :param glyph: Of ``GLYPHS`` or ``DISTRACTORS``.
    :param corners: Upper left, upper right, lower right, lower left as seen from the lane [m],
        (4, 3).
    :param sprites: What is on it in falling resolution: value times opacity, and opacity, each
        (n, n, 2) float32.
    """

    glyph: str
    corners: np.ndarray
    sprites: tuple[np.ndarray, ...]


class SpeedCommand(NamedTuple):
    """
    What the plates of one stretch command.

    :param number: Of the stretch, counted from the start of the course.
    :param speed: [m/s]; None for the expert's own.
    :param since: How far the vehicle has driven since it came into force [m].
    """

    number: int
    speed: float | None
    since: float


class Signs:
    """
    The plates along a course; those of a second lap are others.

    A stretch of 5 m has one command. Its plates stand 1, 2, ... 5 m after its start, so that the
    nearest plate ahead shows what is in force. All is drawn from the seed and the stretch's
    number, so everyone is told the same in the same order.
    """

    def __init__(self, course: Course, seed: int) -> None:
        self._course, self._seed = course, seed
        self._glyphs: list[int] = []
        self._plates: dict[int, list[Plate]] = {}
        self._ahead: tuple[range, list[Plate]] = range(0), []

    def glyph(self, number: int) -> int:
        """Return the index of a stretch's glyph; its speed differs from that of the one before."""
        while len(self._glyphs) <= number:
            draw = np.random.default_rng([self._seed, 6, len(self._glyphs)])
            steps, twin = draw.integers(1, len(SPEEDS)), int(draw.integers(2))
            before = self._glyphs[-1] // 2 if self._glyphs else int(draw.integers(len(SPEEDS)))
            self._glyphs.append(2 * int((before + steps) % len(SPEEDS)) + twin)
        return self._glyphs[number]

    def command(self, along: float) -> SpeedCommand:
        """Return what is in force after a distance along the course [m], laps included."""
        number = max(0, math.floor(along / COMMAND_LENGTH))
        return SpeedCommand(number, SPEEDS[self.glyph(number) // 2],
                            along - number * COMMAND_LENGTH)

    def plates_ahead(self, along: float) -> list[Plate]:
        """
        Return the plates that can be seen from a place on the course, the farthest first.

        :returns: The same list for as long as they are the same plates.
        """
        last = math.floor((along + FARTHEST) / SPACING)
        first = max(1, math.ceil((along + NEAREST) / SPACING))
        indices = range(last, first - 1, -1)
        if indices != self._ahead[0]:
            self._ahead = indices, [plate for index in indices for plate in self.plates_at(index)]
        return self._ahead[1]

    def first_lap(self) -> list[Plate]:
        """Return all plates of the first lap, which stand for good where a world is built."""
        count = math.floor(self._course.length / SPACING)
        return [plate for index in range(1, count + 1) for plate in self._draw(index)]

    def plates_at(self, index: int) -> list[Plate]:
        """Return the plate, and the distractor opposite if there is one, at a multiple of 1 m."""
        if index not in self._plates:
            # Nobody drives back.
            self._plates.pop(index - 2 * round(FARTHEST / SPACING), None)
            self._plates[index] = self._draw(index)
        return self._plates[index]

    def _draw(self, index: int) -> list[Plate]:
        draw = np.random.default_rng([self._seed, 7, index])
        glyph = GLYPHS[self.glyph((index - 1) // PER_COMMAND)]
        left = 1 if draw.random() < 0.5 else -1
        plates = [self._plate(index, left, glyph, draw)]
        if draw.random() < DISTRACTION:
            plates.append(self._plate(index, -left, str(draw.choice(DISTRACTORS)), draw))
        return plates

    def _plate(self, index: int, left: int, glyph: str, draw: np.random.Generator) -> Plate:
        x, y, heading = self._course.pose_at(index * SPACING % self._course.length)
        lateral = left * (0.5 * self._course.lane_width + APART + 0.5 * SIDE)
        across = rotation_about_z(heading + draw.uniform(-GREATEST_TURN, GREATEST_TURN)) @ (
            0.0, 1.0, 0.0)
        middle = np.array([x - math.sin(heading) * lateral, y + math.cos(heading) * lateral,
                           HEIGHT])
        corners = corners_of(middle, across)
        contrast = draw.uniform(*CONTRASTS)
        darker = draw.uniform(20.0, 235.0 - contrast)
        values = (darker, darker + contrast)
        return Plate(glyph, corners, sprites_of(glyph, *(values if draw.random() < 0.5
                                                         else values[::-1])))


def corners_of(middle: np.ndarray, across: np.ndarray) -> np.ndarray:
    """
    Return the corners of an upright plate [m], (4, 3), in the order of ``Plate``.

    :param across: Direction of its upper edge, from right to left, (3,), of length 1.
    """
    return np.stack([middle + 0.5 * SIDE * (side * across + np.array([0.0, 0.0, up]))
                     for side, up in ((1, 1), (-1, 1), (-1, -1), (1, -1))])


def sprites_of(glyph: str, value: float, ground: float) -> tuple[np.ndarray, ...]:
    """
    Return what is on a plate, in falling resolution, as for ``Plate``.

    :param value: Grey value of the glyph; ``ground`` is that of the plate, 0 to 255.
    """
    drawn = glyph_mask(glyph).astype(np.float32) / 255.0
    sprite = np.stack([ground + (value - ground) * drawn, np.ones_like(drawn)], axis=-1)
    sprites = [sprite]
    while sprites[-1].shape[0] > 8:
        sprites.append(cv2.resize(sprites[-1], None, fx=0.5, fy=0.5,
                                  interpolation=cv2.INTER_AREA))
    # A transparent margin, so that a plate's edges are smooth.
    return tuple(cv2.copyMakeBorder(one, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0.0, 0.0))
                 for one in sprites)


# Corners of glyphs: 0 is near the left or upper edge of a plate, 2 near the right or lower one.
LINES = {
    'cross': [[(0, 0), (2, 2)], [(0, 2), (2, 0)]], 'slash': [[(0, 2), (2, 0)]],
    'plus': [[(1, 0), (1, 2)], [(0, 1), (2, 1)]], 'tee': [[(1, 0), (1, 2)], [(0, 0), (2, 0)]],
    'bars': [[(0, 0), (0, 2)], [(2, 0), (2, 2)]], 'lines': [[(0, 0), (2, 0)], [(0, 2), (2, 2)]],
    'frame': [[(0, 0), (2, 0), (2, 2), (0, 2), (0, 0)]],
    'diamond': [[(1, 0), (2, 1), (1, 2), (0, 1), (1, 0)]], 'chevron': [[(0, 2), (1, 0), (2, 2)]]}
AREAS = {'triangle': [(1, 0), (2, 2), (0, 2)], 'wedge': [(0, 0), (2, 0), (1, 2)]}
# In degrees, clockwise from the right.
ARCS = {'ring': 360, 'half ring': 180}


@cache
def glyph_mask(glyph: str) -> np.ndarray:
    """Return a glyph or a distractor by its name, uint8, (SPRITE_PX, SPRITE_PX), 255 where ink."""
    # Drawn twice as large, for smooth edges.
    side = 2 * SPRITE_PX
    mask = np.zeros((side, side), np.uint8)
    thick = round(0.14 * side)

    def pixels(corners: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        return [np.rint((0.2 + 0.3 * np.array(corners)) * side).astype(np.int32)]

    for corners in LINES.get(glyph, []):
        cv2.polylines(mask, pixels(corners), False, 255, thick)
    if glyph in AREAS:
        cv2.fillPoly(mask, pixels(AREAS[glyph]), 255)
    if glyph in ARCS:
        radius = round(0.28 * side)
        cv2.ellipse(mask, (side // 2, side // 2), (radius, radius), 0, 0, ARCS[glyph], 255, thick)
    return cv2.resize(mask, (SPRITE_PX, SPRITE_PX), interpolation=cv2.INTER_AREA)


def draw_plates(image: np.ndarray, camera: Camera, pose: Pose, plates: Sequence[Plate]) -> None:
    """
    Draw plates into an image, (H, W) or (H, W, 3) uint8, in the given order.

    :param pose: Of the vehicle that the camera is on.
    """
    for plate, corners in plates_seen(camera, pose, plates):
        draw_plate(image, corners, plate.sprites)


def plates_seen(camera: Camera, pose: Pose, plates: Sequence[Plate]
                ) -> Iterator[tuple[Plate, np.ndarray]]:
    """Yield those of some plates whose front is seen, with their corners in pixels, (4, 2)."""
    rotation, position = camera.pose_in_world(pose)
    for plate in plates:
        seen = (plate.corners - position) @ rotation
        if seen[:, 2].min() <= NEAREST:
            continue
        corners = (seen @ camera.matrix.T)[:, :2] / seen[:, 2:]
        # The turned-away back of a plate shows nothing of its front.
        if cv2.contourArea(corners.astype(np.float32), oriented=True) > 0:
            yield plate, corners


def draw_plate(image: np.ndarray, corners: np.ndarray, sprites: Sequence[np.ndarray]) -> None:
    """
    Draw one plate.

    :param corners: In pixels as for ``Camera``, (4, 2), in the order of ``Plate``.
    """
    first = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 1, 0)
    last = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 2, image.shape[1::-1])
    if (last <= first).any():
        return
    width = np.linalg.norm(corners[1] - corners[0])
    # The smallest sprite that is not coarser than the image.
    sprite = next((one for one in reversed(sprites) if one.shape[0] - 2 >= width), sprites[0])
    edge = sprite.shape[0] - 1.5
    # Pixel coordinates are those of centres; the margin is a pixel wide.
    inside = np.array([(0.5, 0.5), (edge, 0.5), (edge, edge), (0.5, edge)], np.float32)
    to_image = cv2.getPerspectiveTransform(inside, (corners - first).astype(np.float32))
    width_px, height_px = (last - first).tolist()
    painted = cv2.warpPerspective(sprite, to_image, (width_px, height_px))
    part = image[first[1]:last[1], first[0]:last[0]]
    if part.ndim == 3:
        painted = painted[:, :, None]
    part[:] = np.rint(part * (1.0 - painted[..., 1]) + painted[..., 0])
