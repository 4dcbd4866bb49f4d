"""Closed courses: a smooth centre line, where on it something is, and random ones by seed."""

from dataclasses import dataclass
from functools import cached_property
import math
from typing import NamedTuple, TypeGuard

import numpy as np

# Training draws its seeds from below; courses from here on are held out for evaluation.
FIRST_HELD_OUT_SEED = 1_000_000
SPACING = 0.025
DRAFT_SPACING = 0.1
ATTEMPTS = 2000
NEWTON_STEPS = 20
# Half a lane of grass between the borders of two stretches keeps them distinct.
SEPARATION_IN_LANE_WIDTHS = 1.5
# Points nearer than this [m] along the course may be near because they are neighbours.
NEIGHBOUR_DISTANCE = 2.0
SEARCH_RADIUS = 0.6


class CourseError(ValueError):
    """A course that cannot be made; the message says what to change."""


class Location(NamedTuple):
    """How far a position is along the centre line [m], and to the left of it [m]."""

    arc_length: float
    lateral_error: float


@dataclass(frozen=True, eq=False)
class Course:
    """
    A closed lane; the last sample is followed by the first one.

    :param points: Centre line [m], (N, 2), at equal distances along it.
    :param headings: Of the centre line [rad], (N,), without jumps from sample to sample.
    :param curvatures: Of the centre line [1/m], (N,), positive in left bends.
    :param lane_width: From border to border [m].
    :param length: Of the centre line [m], once around.
    """

    points: np.ndarray
    headings: np.ndarray
    curvatures: np.ndarray
    lane_width: float
    length: float

    @cached_property
    def spacing(self) -> float:
        """Distance between two samples along the centre line [m]."""
        return self.length / len(self.points)

    @cached_property
    def _most_curved(self) -> float:
        return float(np.abs(self.curvatures).max())

    @cached_property
    def _samples(self) -> list[tuple[list[float], float, float]]:
        """Return points, headings and curvatures as plain numbers."""
        return list(zip(self.points.tolist(), self.headings.tolist(), self.curvatures.tolist()))

    def locate(self, position: tuple[float, float], hint: float | None = None) -> Location:
        """
        Find the nearest point of the centre line; the distance to it is exact to 0.1 mm.

        :param position: x and y [m].
        :param hint: An arc length [m] near which the position was just before: the search
            stays near it, and so does not leap to another stretch. Everywhere if None.
        """
        index = None if hint is None else self._walk(*position, int(hint / self.spacing))
        if index is None:
            index = self._search(position, hint)
        (x, y), heading, curvature = self._samples[index]
        cosine, sine = math.cos(heading), math.sin(heading)
        dx, dy = position[0] - x, position[1] - y
        ahead, left = dx * cosine + dy * sine, dy * cosine - dx * sine
        # Inside a bend the centre line passes faster than the position does.
        arc_length = index * self.spacing + ahead / max(1.0 - curvature * left, 0.1)
        return Location(arc_length % self.length, left)

    def _walk(self, x: float, y: float, start: int) -> int | None:
        """Go from sample to sample while they get nearer; None where that may mislead."""
        samples, count, index = self._samples, len(self._samples), start

        def distance(i: int) -> float:
            px, py = samples[i % count][0]
            return (px - x) * (px - x) + (py - y) * (py - y)

        least = distance(start)
        step = 1 if distance(start + 1) < least else -1
        while (following := distance(index + step)) < least:
            least, index = following, index + step
        # So near, the squared distance is convex over all that is searched: it has one minimum.
        walked = abs(index - start) * self.spacing
        if walked > 0.5 * SEARCH_RADIUS or (
                self._most_curved * (math.sqrt(least) + SEARCH_RADIUS + 0.1) > 1.0):
            return None
        return index % count

    def _search(self, position: tuple[float, float], hint: float | None) -> int:
        """Compare all samples near the hint, or all there are."""
        indices = np.arange(len(self.points))
        if hint is not None:
            reach, middle = int(SEARCH_RADIUS / self.spacing), int(hint / self.spacing)
            indices = np.arange(middle - reach, middle + reach + 1) % len(self.points)
        offsets = self.points[indices] - position
        index = int(indices[np.einsum('ij,ij->i', offsets, offsets).argmin()])
        if hint is not None and index in (indices[0], indices[-1]):
            return self._search(position, None)
        return index

    def pose_at(self, arc_length: float) -> tuple[float, float, float]:
        """Return x, y [m] and heading [rad] of the centre line at an arc length [m]."""
        sample, part = divmod(arc_length / self.spacing, 1.0)
        (x, y), heading, curvature = self._samples[int(sample) % len(self._samples)]
        ahead = part * self.spacing
        turn = ahead * curvature
        # Between samples the line is a circle; its chord points halfway between the headings.
        return (x + ahead * math.cos(heading + 0.5 * turn),
                y + ahead * math.sin(heading + 0.5 * turn), heading + turn)

    def border(self, lateral: float) -> np.ndarray:
        """Return the line at a distance [m] to the left of the centre line, (N, 2)."""
        normals = np.stack([-np.sin(self.headings), np.cos(self.headings)], axis=1)
        return self.points + lateral * normals


def random_course(seed: int, lane_width: float = 0.6, max_curvature: float = 1.0,
                  shortest: float = 15.0, longest: float = 20.0) -> Course:
    """
    Draw a closed course with bends to both sides; the same one for the same arguments.

    :param lane_width: From border to border [m].
    :param max_curvature: Bound of the centre line's absolute curvature [1/m].
    :param shortest: Least length [m]; ``longest`` is the greatest.
    :raises CourseError: If no such course was found.
    """
    rng = np.random.default_rng(seed)
    for _ in range(ATTEMPTS):
        length = rng.uniform(shortest, longest)
        turn = 2.0 * np.pi if rng.random() < 0.5 else -2.0 * np.pi
        bends = rng.uniform(-0.8, 0.8, int(rng.integers(8, 13))) * max_curvature
        plan = (turn / length + bends, turn, length, lane_width)
        # Most draws are useless, which a coarse draft shows at a quarter of the cost.
        if is_drivable(closed_course(*plan, DRAFT_SPACING), max_curvature) and is_drivable(
                course := closed_course(*plan), max_curvature):
            return course
    raise CourseError(
        f'course: none found with lane_width {lane_width:g} m, max_curvature '
        f'{max_curvature:g} 1/m and a length of {shortest:g} to {longest:g} m; make it longer, '
        'narrower or more curved')


def closed_course(knots: np.ndarray, turn: float, length: float, lane_width: float,
                  spacing: float = SPACING) -> Course | None:
    """
    Close a clothoid spline, the shape of roads: its curvature is linear between knots.

    :param knots: Curvatures [1/m] at K equal distances, (K,); changed as little as closes it.
    :param turn: Heading gained in one lap [rad]: 2 pi or -2 pi.
    :param spacing: Approximate distance between samples [m].
    :returns: None if no such change was found.
    """
    count = round(length / spacing)
    step = length / count
    weights = knot_weights(len(knots), count)
    following = np.roll(weights, -1, axis=0)
    # Headings are linear in the knots: at every sample, and half a step after it.
    gains = 0.5 * step * (weights + following)
    headings = np.cumsum(gains, axis=0) - gains
    halfway = headings + 0.125 * step * (3.0 * weights + following)
    total = gains.sum(axis=0)
    for _ in range(NEWTON_STEPS):
        cosines, sines = np.cos(halfway @ knots) * step, np.sin(halfway @ knots) * step
        gap = np.array([total @ knots - turn, cosines.sum(), sines.sum()])
        if np.abs(gap).max() < 1e-9:
            steps = np.stack([cosines, sines], axis=1)
            return Course(np.cumsum(steps, axis=0) - steps, headings @ knots, weights @ knots,
                          lane_width, length)
        slopes = np.stack([total, -sines @ halfway, cosines @ halfway])
        knots = knots - np.linalg.lstsq(slopes, gap, rcond=None)[0]
    return None


def knot_weights(knots: int, count: int) -> np.ndarray:
    """Return by how much each knot counts at each sample, (count, knots); rows sum to 1."""
    rows = np.arange(count)
    left, part = np.divmod(rows * (knots / count), 1.0)
    weights = np.zeros((count, knots))
    weights[rows, left.astype(int) % knots] = 1.0 - part
    weights[rows, (left.astype(int) + 1) % knots] += part
    return weights


def is_drivable(course: Course | None, max_curvature: float) -> TypeGuard[Course]:
    """Tell whether a course bends enough to both sides, nowhere too much, and keeps apart."""
    if course is None or np.abs(course.curvatures).max() > max_curvature:
        return False
    bend = 0.25 * max_curvature
    if min((course.curvatures > bend).mean(), (course.curvatures < -bend).mean()) < 0.08:
        return False
    return least_separation(course) > SEPARATION_IN_LANE_WIDTHS * course.lane_width


def least_separation(course: Course) -> float:
    """Return the least distance [m] between points of the course that are not neighbours."""
    every = max(1, round(0.1 / course.spacing))
    points = course.points[::every]
    arc = np.arange(len(points)) * every * course.spacing
    along = np.abs(arc[:, None] - arc)
    along = np.minimum(along, course.length - along)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    return float(distances[along > NEIGHBOUR_DISTANCE].min())
