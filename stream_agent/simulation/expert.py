"""The expert: it knows the true pose and steers by pure pursuit."""

from dataclasses import dataclass
import math

from stream_agent.command import Command
from stream_agent.simulation.course import Course
from stream_agent.simulation.vehicle import limited, Pose


@dataclass(frozen=True)
class PurePursuit:
    """
    Steers on a circle towards a point of the centre line some way ahead.

    It answers to the pose alone, so that what it does can be seen in a single image.

    :param target_speed: [m/s], everywhere.
    :param look_ahead: Distance of that point along the centre line [m].
    :param max_yaw_rate: Bound of the commanded yaw rate [rad/s].
    """

    target_speed: float = 0.8
    look_ahead: float = 0.5
    max_yaw_rate: float = 1.5

    def command(self, course: Course, pose: Pose, arc_length: float) -> Command:
        """
        Steer back to the course.

        :param arc_length: Of the course's point that is nearest to the pose [m].
        """
        x, y, _ = course.pose_at((arc_length + self.look_ahead) % course.length)
        dx, dy = x - pose.x, y - pose.y
        left = dy * math.cos(pose.yaw) - dx * math.sin(pose.yaw)
        curvature = 2.0 * left / (dx * dx + dy * dy)
        return Command(self.target_speed,
                       limited(self.target_speed * curvature, self.max_yaw_rate))
