"""What becomes of a drive: lateral errors and departures, and the score past signs."""

from dataclasses import dataclass, field
import math

import numpy as np
from stream_agent.simulation.environment import Moment


class DriveLog:
    """Notes what becomes of one vehicle; this one notes nothing."""

    def before(self, now: Moment, answer: float | None) -> None:
        """Note when an image comes and when its command is out [s], None if it is not taken."""

    def after(self, now: Moment, answered: bool, by_expert: bool) -> None:
        """Note when the next image comes, if the last was taken, and if the expert drove since."""


@dataclass
class Drive(DriveLog):
    """
    How one drive went, without the parts that the expert drove.

    :param lane_width: From border to border [m].
    :param lateral_errors: Of every image [m], positive to the left of the lane's middle.
    :param laps: Times around the course.
    :param departures: Times that the lane was left; after each the robot is put back.
    :param unanswered: Images that came while the one before was being computed.
    :param motions: Speed [m/s] and yaw rate [rad/s] at every image; nan where the expert drove,
        and where the robot was put back.
    """

    lane_width: float
    lateral_errors: list[float] = field(default_factory=list)
    laps: float = 0.0
    departures: int = 0
    unanswered: int = 0
    motions: list[tuple[float, float]] = field(default_factory=list)

    def after(self, now: Moment, answered: bool, by_expert: bool) -> None:
        self.motions.append((math.nan, math.nan) if by_expert or now.departed else
                            (now.speed, now.yaw_rate))
        if by_expert:
            return
        self.lateral_errors.append(now.lateral_error)
        self.laps = now.laps
        self.departures += now.departed
        self.unanswered += not answered

    @property
    def lateral_rms(self) -> float:
        """Root mean square of the lateral error [m]."""
        return float(np.sqrt(np.mean(np.square(self.lateral_errors))))

    @property
    def largest_lateral_error(self) -> float:
        """Largest distance from the lane's middle [m]."""
        return float(np.abs(self.lateral_errors).max())


# Around the lane's middle [m], around the commanded speed [m/s], and how far after a change of
# the command the judgement begins [m].
LANE_BAND, SPEED_BAND, SETTLING = 0.08, 0.2, 2.5


@dataclass
class RoadTask(Drive):
    """
    A drive past signs: the lane's middle is to be kept, at the speed that they command.

    Judged is every image from 2.5 m after a change of the command on. What the expert drives after
    a departure counts as wrong; what it drives before the driver's first image is left out. The
    stretch in which the drive begins, and the one in which it ends, count for no sign.

    :param right: Whether the vehicle was in both bands, for every judged image.
    :param speed_errors: Of the judged images that the expert did not drive [m/s].
    :param obeyed: For every whole stretch, whether the speed was right in most judged images.
    :param seconds_until_obeyed: From a change of the command until the speed was right, of every
        stretch in which that happened.
    """

    right: list[bool] = field(default_factory=list)
    speed_errors: list[float] = field(default_factory=list)
    obeyed: list[bool] = field(default_factory=list)
    seconds_until_obeyed: list[float] = field(default_factory=list)
    _began: bool = False
    _sign: int | None = None
    _since: float | None = None
    _speed_right: list[bool] = field(default_factory=list)
    _found: float | None = None

    def after(self, now: Moment, answered: bool, by_expert: bool) -> None:
        super().after(now, answered, by_expert)
        self._began = self._began or not by_expert
        if not self._began:
            return
        if now.sign != self._sign:
            self._close_stretch()
            # The first one had begun before.
            self._since = None if self._sign is None else now.time
            self._sign = now.sign
        speed_error = now.speed - now.reference.speed
        speed_is_right = not by_expert and abs(speed_error) < SPEED_BAND
        if self._since is not None and self._found is None and speed_is_right:
            self._found = now.time - self._since
        if now.since_sign < SETTLING:
            return
        self._speed_right.append(speed_is_right)
        self.right.append(speed_is_right and abs(now.lateral_error) < LANE_BAND)
        if not by_expert:
            self.speed_errors.append(speed_error)

    def _close_stretch(self) -> None:
        """Judge the sign whose stretch is over."""
        if self._since is not None and self._speed_right:
            self.obeyed.append(float(np.mean(self._speed_right)) > 0.5)
            if self._found is not None:
                self.seconds_until_obeyed.append(self._found)
        self._speed_right, self._found = [], None

    @property
    def score(self) -> float:
        """Share of the judged images in both bands; nan if none was judged."""
        return float(np.mean(self.right)) if self.right else math.nan

    @property
    def signs_obeyed(self) -> float:
        """Share of the signs that were obeyed; nan if there was none."""
        return float(np.mean(self.obeyed)) if self.obeyed else math.nan


class DriveTrace:
    """
    Every frame of a drive, in columns; those of ``judged`` on are 0 or 1.

    :ivar columns: ``time`` [s], ``x``, ``y`` [m], ``yaw`` [rad], ``speed``, ``commanded`` [m/s],
        ``lateral`` error [m], place ``along`` the course [m], number of the ``sign`` in force,
        whether the frame was ``judged``, whether it was ``right``, whether the ``expert`` drove,
        and by which yaw rate the vehicle was pushed until then, ``push`` [rad/s].
    """

    NAMES = ('time', 'x', 'y', 'yaw', 'speed', 'commanded', 'lateral', 'along', 'sign', 'judged',
             'right', 'expert', 'push')

    def __init__(self) -> None:
        self.columns: dict[str, list[float]] = {name: [] for name in self.NAMES}
        self._judged = 0

    def add(self, now: Moment, task: RoadTask | None, by_expert: bool, push: float) -> None:
        """Note a frame, after the task of the drive has judged it."""
        judged = task is not None and len(task.right) > self._judged
        right = task is not None and judged and task.right[-1]
        self._judged += judged
        row = (now.time, *now.pose, now.speed, now.reference.speed, now.lateral_error, now.along,
               now.sign, judged, right, by_expert, push)
        for column, value in zip(self.columns.values(), row):
            column.append(round(value, 4) if isinstance(value, float) else int(value))
