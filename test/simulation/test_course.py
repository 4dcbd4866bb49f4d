"""Courses close, bend within bounds, keep apart from themselves, and know where one is."""

import numpy as np
import pytest
from stream_agent.simulation.course import CourseError, least_separation, random_course

SEEDS = range(12)


@pytest.mark.parametrize('seed', SEEDS)
def test_course_is_closed_and_sampled_uniformly(seed):
    course = random_course(seed)
    steps = np.linalg.norm(np.roll(course.points, -1, axis=0) - course.points, axis=1)
    # The last of these steps closes the course.
    assert np.abs(steps - course.spacing).max() < 1e-6
    gained = course.headings[-1] + course.curvatures[-1] * course.spacing - course.headings[0]
    assert abs(gained) == pytest.approx(2.0 * np.pi, abs=1e-3)
    assert 15.0 <= course.length <= 20.0


@pytest.mark.parametrize('seed', SEEDS)
def test_headings_and_curvatures_are_those_of_the_points(seed):
    course = random_course(seed)
    steps = np.roll(course.points, -1, axis=0) - np.roll(course.points, 1, axis=0)
    error = np.arctan2(steps[:, 1], steps[:, 0]) - course.headings
    assert np.abs((error + np.pi) % (2.0 * np.pi) - np.pi).max() < 1e-3
    turned = np.gradient(course.headings, course.spacing)
    assert np.abs(turned - course.curvatures).max() < 0.02


@pytest.mark.parametrize('seed', SEEDS)
def test_bends_go_both_ways_within_the_bound(seed):
    course = random_course(seed)
    assert np.abs(course.curvatures).max() <= 1.0
    assert course.curvatures.max() > 0.25
    assert course.curvatures.min() < -0.25


@pytest.mark.parametrize('seed', SEEDS)
def test_no_two_stretches_come_near_each_other(seed):
    course = random_course(seed)
    assert least_separation(course) > 1.5 * course.lane_width
    # Another way to say it: borders do not cross, so the lane's area is length x width.
    outlines = [course.border(side * course.lane_width / 2) for side in (1.0, -1.0)]
    areas = [abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
             for x, y in (outline.T for outline in outlines)]
    assert abs(areas[0] - areas[1]) == pytest.approx(course.length * course.lane_width, rel=1e-3)


@pytest.mark.parametrize('seed', SEEDS)
def test_locate_agrees_with_brute_force(seed):
    course = random_course(seed)
    rng = np.random.default_rng(seed)
    arcs = np.arange(0.0, course.length, 0.001)
    dense = np.array([course.pose_at(arc) for arc in arcs])
    for arc in rng.uniform(0.0, course.length, 20):
        x, y, heading = course.pose_at(arc)
        lateral = rng.uniform(-0.4, 0.4)
        position = np.array([x - lateral * np.sin(heading), y + lateral * np.cos(heading)])
        distances = np.linalg.norm(dense[:, :2] - position, axis=1)
        for hint in (None, (arc + rng.uniform(-0.3, 0.3)) % course.length):
            found = course.locate(position, hint)
            gap = abs(found.arc_length - arcs[distances.argmin()])
            assert min(gap, course.length - gap) < 0.003
            assert abs(found.lateral_error) == pytest.approx(distances.min(), abs=2e-4)
            assert np.sign(found.lateral_error) == np.sign(lateral)
            assert 0.0 <= found.arc_length < course.length


@pytest.mark.parametrize('seed', SEEDS)
def test_walking_ends_where_comparing_all_does(seed):
    course = random_course(seed)
    rng, walked = np.random.default_rng(seed), 0
    for arc in rng.uniform(0.0, course.length, 300):
        x, y, heading = course.pose_at(arc)
        lateral, hint = rng.uniform(-0.7, 0.7), (arc + rng.uniform(-0.7, 0.7)) % course.length
        x, y = x - lateral * np.sin(heading), y + lateral * np.cos(heading)
        index = course._walk(x, y, int(hint / course.spacing))
        walked += index is not None
        assert index in (None, course._search((x, y), hint))
    assert walked > 40


def test_locate_with_a_useless_hint_searches_everywhere():
    course = random_course(0)
    x, y, _ = course.pose_at(3.0)
    assert course.locate((x, y), 4.5).arc_length == pytest.approx(3.0, abs=1e-3)


def test_locate_stays_on_its_stretch():
    course = random_course(6)
    # Nearer to a stretch on the other side than to its own, with a hint on its own.
    x, y, heading = course.pose_at(5.0)
    found = course.locate((x - 0.55 * np.sin(heading), y + 0.55 * np.cos(heading)), 5.0)
    assert abs(found.arc_length - 5.0) < 0.5


def test_pose_at_runs_on_past_the_seam():
    course = random_course(2)
    before, after = course.pose_at(course.length - 1e-6), course.pose_at(course.length)
    assert np.allclose(before[:2], after[:2], atol=1e-5)
    assert after[:2] == pytest.approx(tuple(course.points[0]), abs=1e-9)


def test_a_seed_is_a_course():
    assert np.array_equal(random_course(5).points, random_course(5).points)
    assert random_course(5).length != random_course(6).length


def test_an_impossible_course_is_refused():
    with pytest.raises(CourseError) as caught:
        random_course(0, lane_width=0.6, max_curvature=0.3, shortest=15.0, longest=16.0)
    assert str(caught.value) == (
        'course: none found with lane_width 0.6 m, max_curvature 0.3 1/m and a length of '
        '15 to 16 m; make it longer, narrower or more curved')
