"""The expert, which knows the true pose and steers by pure pursuit."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
import math
from typing import NamedTuple

from stream_agent.command import Command
from stream_agent.simulation.course import Course
from stream_agent.simulation.signs import Signs
from stream_agent.simulation.vehicle import limited, Pose


@dataclass(frozen=True)
class PurePursuit:
    """
    Steers on a circle towards a point of the centre line some way ahead.

    Its commands depend on the pose alone, and on the plate ahead where there are any, so a
    single image shows what it does.

    :param target_speed: [m/s], everywhere.
    :param look_ahead: Distance of that point along the centre line [m].
    :param max_yaw_rate: Bound of the commanded yaw rate [rad/s].
    """

    target_speed: float = 0.8
    look_ahead: float = 0.5
    max_yaw_rate: float = 1.5

    def command(self, course: Course, pose: Pose, arc_length: float,
                speed: float | None = None) -> Command:
        """
        Steer back to the course, whose point nearest to the pose is at an arc length [m].

        :param speed: That is commanded there [m/s]; the target speed if None.
        """
        speed = self.target_speed if speed is None else speed
        x, y, _ = course.pose_at((arc_length + self.look_ahead) % course.length)
        dx, dy = x - pose.x, y - pose.y
        left = dy * math.cos(pose.yaw) - dx * math.sin(pose.yaw)
        curvature = 2.0 * left / (dx * dx + dy * dy)
        return Command(speed, limited(speed * curvature, self.max_yaw_rate))


# Enough for images that are late by a second among poses at a kilohertz.
MOST_POSES = 1000
MOST_FRAMES = 100


class Judgement(NamedTuple):
    """
    A vehicle at the moment of an image.

    :param reference: What the expert commands there.
    :param progress: Driven along the course since the first judgement [m].
    :param lateral_error: Distance from the centre line [m], positive to the left.
    """

    stamp_ns: int
    reference: Command
    progress: float
    lateral_error: float


class Observer:
    """
    Matches images and true poses that come with stamps of one clock, in any order.

    :param signs: That the expert obeys, the same in every lap.
    """

    def __init__(self, course: Course, expert: PurePursuit, signs: Signs | None = None) -> None:
        self._course = course
        self._expert = expert
        self._signs = signs
        self._poses: deque[tuple[int, Pose]] = deque(maxlen=MOST_POSES)
        self._frames: deque[int] = deque(maxlen=MOST_FRAMES)
        self._arc_length: float | None = None
        self._progress = 0.0
        #: Number of images from before the first known pose.
        self.too_early = 0

    def add_pose(self, stamp_ns: int, pose: Pose) -> None:
        """Note where the vehicle was; a clock that went back starts anew."""
        if self._poses and stamp_ns < self._poses[-1][0]:
            self._poses.clear()
            self._frames.clear()
            self._arc_length = None
        self._poses.append((stamp_ns, pose))

    def add_frame(self, stamp_ns: int) -> None:
        """Note that there is an image."""
        self._frames.append(stamp_ns)

    def judgements(self) -> Iterator[Judgement]:
        """Return those that can be made by now, each once."""
        while self._frames and self._poses and self._frames[0] <= self._poses[-1][0]:
            stamp_ns = self._frames.popleft()
            pose = self._pose_at(stamp_ns)
            if pose is None:
                self.too_early += 1
                continue
            arc_length, lateral_error = self._course.locate((pose.x, pose.y), self._arc_length)
            if self._arc_length is not None:
                self._progress += math.remainder(arc_length - self._arc_length,
                                                 self._course.length)
            self._arc_length = arc_length
            speed = self._signs.command(arc_length).speed if self._signs else None
            yield Judgement(stamp_ns, self._expert.command(self._course, pose, arc_length, speed),
                            self._progress, lateral_error)

    def _pose_at(self, stamp_ns: int) -> Pose | None:
        """Return the pose between two that are known; None before all of them."""
        while len(self._poses) > 1 and self._poses[1][0] <= stamp_ns:
            self._poses.popleft()
        before_ns, before = self._poses[0]
        if stamp_ns < before_ns:
            return None
        if stamp_ns == before_ns:
            return before
        after_ns, after = self._poses[1]
        share = (stamp_ns - before_ns) / (after_ns - before_ns)
        turn = math.remainder(after.yaw - before.yaw, 2.0 * math.pi)
        return Pose(before.x + share * (after.x - before.x),
                    before.y + share * (after.y - before.y), before.yaw + share * turn)
