"""The ground is drawn where the course is, in the colours of its look."""

from dataclasses import replace

import numpy as np
import pytest
from stream_agent.simulation.course import random_course
from stream_agent.simulation.texture import Appearance, draw_ground, random_appearance

PLAIN = replace(Appearance(), grain=0.0, blotch=0.0, clutter=0.0, stains=0.0)


def at(ground, points):
    """Return the texture's values at points of the world [m], (N, 2)."""
    flat = np.column_stack([points, np.ones(len(points))])
    column, row, _ = np.rint(ground.from_world @ flat.T).astype(int)
    return ground.pixels[row, column].astype(float)


@pytest.mark.parametrize('coloured', [False, True])
@pytest.mark.parametrize('seed', [0, 7])
def test_lane_borders_and_ground_lie_where_the_course_says(coloured, seed):
    course = random_course(seed)
    ground = draw_ground(course, PLAIN, np.random.default_rng(0), coloured)
    middle_of_border = 0.5 * (course.lane_width - PLAIN.line_width)
    luminance = np.array([0.299, 0.587, 0.114])
    for lateral, colour in ((0.15, PLAIN.asphalt), (-0.15, PLAIN.asphalt),
                            (middle_of_border, PLAIN.border),
                            (-middle_of_border, PLAIN.border),
                            (0.36, PLAIN.ground), (-0.36, PLAIN.ground)):
        expected = colour if coloured else luminance @ colour
        assert np.abs(at(ground, course.border(lateral)) - expected).max() <= 1.0


def test_dashes_cover_half_of_the_centre_line():
    course = random_course(0)
    ground = draw_ground(course, PLAIN, np.random.default_rng(0), False)
    marked = at(ground, course.points) > 130.0
    assert marked.mean() == pytest.approx(0.5, abs=0.05)
    changes = np.count_nonzero(marked != np.roll(marked, 1))
    assert changes == pytest.approx(course.length / PLAIN.dash, abs=2.0)


def test_no_dash_where_the_look_has_none():
    course = random_course(0)
    ground = draw_ground(course, replace(PLAIN, dash=0.0), np.random.default_rng(0), False)
    assert np.ptp(at(ground, course.points)) == 0.0


def test_clutter_and_stains_change_the_ground_and_clutter_not_the_lane():
    course = random_course(1)
    plain, cluttered, stained = (
        draw_ground(course, look, np.random.default_rng(3), False).pixels
        for look in (PLAIN, replace(PLAIN, clutter=2.0), replace(PLAIN, stains=0.7)))
    assert (plain != cluttered).mean() > 0.03
    assert (plain != stained).mean() > 0.01
    ground = draw_ground(course, replace(PLAIN, clutter=2.0), np.random.default_rng(3), False)
    assert np.ptp(at(ground, course.border(0.15))) == 0.0


def test_the_ground_fades_into_what_lies_beyond():
    course = random_course(0)
    look = replace(Appearance(), clutter=3.0)
    ground = draw_ground(course, look, np.random.default_rng(0), True)
    edges = np.concatenate([ground.pixels[0], ground.pixels[-1], ground.pixels[:, 0],
                            ground.pixels[:, -1]])
    assert np.abs(edges - np.array(ground.beyond)).max() <= 1.0


def test_half_the_resolution_shows_the_same_places():
    course = random_course(0)
    ground = draw_ground(course, PLAIN, np.random.default_rng(0), False)
    # Wide enough that an area of 2 x 2 texels lies within.
    points = course.border(0.15)
    assert np.abs(at(ground, points) - at(ground.halved(), points)).max() <= 1.0


def test_the_same_seed_draws_the_same_ground():
    course = random_course(0)
    first, same, other = (draw_ground(course, Appearance(), np.random.default_rng(seed), False)
                          for seed in (1, 1, 2))
    assert np.array_equal(first.pixels, same.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def test_borders_stay_visible_in_every_look():
    for seed in range(200):
        look = random_appearance(np.random.default_rng(seed))
        # The tints of both may take some of the difference.
        assert np.mean(look.border) - np.mean(look.asphalt) > 70.0
