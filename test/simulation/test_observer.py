"""Images and true poses meet by their stamps, whichever comes first."""

import math

import pytest
from stream_agent.simulation.course import random_course
from stream_agent.simulation.expert import Observer, PurePursuit
from stream_agent.simulation.signs import Signs
from stream_agent.simulation.vehicle import Pose

EXPERT = PurePursuit()
MS = 1_000_000


@pytest.fixture(scope='module')
def course():
    return random_course(3)


@pytest.fixture
def observer(course):
    return Observer(course, EXPERT)


def on_course(course, arc_length, lateral=0.0):
    x, y, heading = course.pose_at(arc_length % course.length)
    return Pose(x - lateral * math.sin(heading), y + lateral * math.cos(heading), heading)


def test_an_image_between_two_poses_is_judged_between_them(course, observer):
    observer.add_pose(0, on_course(course, 1.0, 0.1))
    observer.add_frame(5 * MS)
    assert list(observer.judgements()) == []
    observer.add_pose(20 * MS, on_course(course, 1.02, 0.1))
    (found,) = observer.judgements()
    pose = on_course(course, 1.005, 0.1)
    assert found.stamp_ns == 5 * MS
    assert found.lateral_error == pytest.approx(0.1, abs=1e-3)
    assert found.reference == pytest.approx(EXPERT.command(course, pose, 1.005), abs=0.01)
    assert list(observer.judgements()) == []


def test_poses_may_come_first(course, observer):
    for i in range(10):
        observer.add_pose(10 * i * MS, on_course(course, 0.01 * i))
    observer.add_frame(0)
    observer.add_frame(45 * MS)
    observer.add_frame(90 * MS)
    first, middle, last = observer.judgements()
    assert (first.progress, middle.progress, last.progress) == pytest.approx((0, 0.045, 0.09),
                                                                             abs=1e-3)


def test_progress_continues_over_the_seam_and_back(course, observer):
    for i in range(60):
        observer.add_pose(i * MS, on_course(course, course.length - 1.0 + 0.05 * i))
        observer.add_frame(i * MS)
    *_, last = observer.judgements()
    assert last.progress == pytest.approx(0.05 * 59, abs=0.01)
    for i in range(60, 100):
        observer.add_pose(i * MS, on_course(course, course.length + 1.95 - 0.05 * (i - 59)))
        observer.add_frame(i * MS)
    *_, last = observer.judgements()
    assert last.progress == pytest.approx(0.05 * 59 - 0.05 * 40, abs=0.01)


def test_headings_are_interpolated_the_short_way(course, observer):
    pose = on_course(course, 2.0)
    for stamp, yaw in ((0, math.pi - 0.01), (10, -math.pi + 0.01)):
        observer.add_pose(stamp * MS, pose._replace(yaw=yaw))
    observer.add_frame(5 * MS)
    (found,) = observer.judgements()
    expected = EXPERT.command(course, pose._replace(yaw=math.pi), 2.0)
    assert found.reference == pytest.approx(expected, abs=1e-6)


def test_images_of_before_all_poses_are_counted(course, observer):
    observer.add_frame(1 * MS)
    observer.add_pose(5 * MS, on_course(course, 0.0))
    assert list(observer.judgements()) == []
    assert observer.too_early == 1


def test_a_clock_that_goes_back_starts_anew(course, observer):
    observer.add_pose(10_000 * MS, on_course(course, 5.0))
    observer.add_frame(10_100 * MS)
    observer.add_pose(10 * MS, on_course(course, 0.0))
    observer.add_frame(10 * MS)
    (found,) = observer.judgements()
    assert found.stamp_ns == 10 * MS
    assert found.progress == 0


def test_the_expert_obeys_signs_that_are_the_same_in_every_lap():
    course = random_course(1)
    signs = Signs(course, 1)
    observer = Observer(course, EXPERT, signs)
    for i, along in enumerate((2.0, 7.0, 2.0 + course.length)):
        observer.add_pose(i, Pose(*course.pose_at(along % course.length)))
        observer.add_frame(i)
    speeds = [judgement.reference.speed for judgement in observer.judgements()]
    first, second = (signs.command(along).speed for along in (2.0, 7.0))
    assert speeds == [first, second, first] and first != second
