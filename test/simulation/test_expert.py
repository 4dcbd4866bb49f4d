"""Pure pursuit answers offsets with the right sign and a circle with its curvature."""

import numpy as np
import pytest
from stream_agent.simulation.course import Course
from stream_agent.simulation.expert import PurePursuit
from stream_agent.simulation.vehicle import Pose


def circle(radius, count=600):
    """Return a course to the left around (0, radius), starting at the origin."""
    angles = np.arange(count) * 2.0 * np.pi / count
    points = radius * np.stack([np.sin(angles), 1.0 - np.cos(angles)], axis=1)
    return Course(points, angles, np.full(count, 1.0 / radius), 0.6, 2.0 * np.pi * radius)


@pytest.mark.parametrize('radius', [1.2, 3.0])
def test_on_a_circle_it_asks_for_the_circle(radius):
    command = PurePursuit(target_speed=0.8).command(circle(radius), Pose(0.0, 0.0, 0.0), 0.0)
    assert command.speed == 0.8
    assert command.yaw_rate == pytest.approx(0.8 / radius, rel=1e-3)


def test_it_steers_back():
    expert, course = PurePursuit(), circle(100.0, 25000)
    straight = expert.command(course, Pose(0.0, 0.0, 0.0), 0.0).yaw_rate
    assert expert.command(course, Pose(0.0, 0.1, 0.0), 0.0).yaw_rate < straight - 0.3
    assert expert.command(course, Pose(0.0, -0.1, 0.0), 0.0).yaw_rate > straight + 0.3
    assert expert.command(course, Pose(0.0, 0.0, 0.2), 0.0).yaw_rate < straight - 0.3


def test_its_yaw_rate_is_bounded():
    expert = PurePursuit(max_yaw_rate=0.5)
    assert expert.command(circle(3.0), Pose(0.0, 0.0, -1.5), 0.0).yaw_rate == 0.5
    assert expert.command(circle(3.0), Pose(0.0, 0.0, 1.5), 0.0).yaw_rate == -0.5
