"""Drives in the embedded simulator, and how they went."""

from collections.abc import Sequence
from dataclasses import dataclass, field
import math

import numpy as np
from stream_agent.command import Command
from stream_agent.driving.compute_model import immediate, Timeline
from stream_agent.driving.drivers import CommandRows, Driver, NetworkDriver
from stream_agent.driving.vehicles import DriveLog, EmulatedClock, VehicleBatch, WallClock
from stream_agent.engine.engine import Engine
from stream_agent.network.checkpoint import CommandScale, Policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.environment import DrivingEnvironment, Moment, SimulatedFrame
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.vehicle import VehicleDisturbance


class PolicyDriver(Driver):
    """Drives one vehicle by the engine that steps the network on a robot."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._engine = Engine(policy.network)
        self._engine.warm_up()

    def commands(self, frames: Sequence[SimulatedFrame], known: Sequence[Sequence[Command]]
                 ) -> list[Command]:
        (frame,) = frames
        image = self._policy.preprocessing(frame.image)
        for _ in range(self._policy.updates_per_frame - 1):
            self._engine.step(image)
        return [self._policy.limits.command(self._engine.respond(image))]

    def forget(self, index: int) -> None:
        self._engine.reset()

    def settle(self) -> None:
        self._engine.settle()


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


def drive(environment: DrivingEnvironment, driver: Driver, laps: float, real_time: bool = False
          ) -> Drive:
    """
    Drive until the laps are done, or a third longer than the expert's speed needs for them.

    :param real_time: Commands act as long after their image as they took to compute, and images
        that come meanwhile go unanswered; otherwise the simulator waits for every command.
    """
    settings, course = environment.settings, environment.course
    result = (RoadTask if settings.signs else Drive)(course.lane_width)
    most_images = math.ceil(4 / 3 * laps * course.length / settings.target_speed * settings.rate)
    clock = WallClock(settings.period) if real_time else EmulatedClock(immediate(settings.period))
    batch = VehicleBatch(driver, [environment], clock)
    batch.drive([result], lambda: environment.now.laps < laps and batch.image < most_images,
                lambda _: {'speed': settings.target_speed})
    return result


@dataclass(frozen=True)
class Trial:
    """
    The test drives that every network is given alike.

    :param seeds: Of the courses; each has pushes of its own, the same for every network.
    :param duration: Of the drive on each course [s].
    :param pushes: Largest yaw rate that is added occasionally [rad/s].
    :param handover: Seconds that the expert drives at the start and after a departure, until a
        late network knows where it is; they do not count.
    :raises ValueError: If the expert drives all the time.
    """

    settings: SimulationSettings
    seeds: tuple[int, ...]
    duration: float = 20.0
    pushes: float = 0.0
    handover: float = 1.0

    def __post_init__(self) -> None:
        if self.handover >= self.duration:
            raise ValueError(f'the expert drives {self.handover:g} s of {self.duration:g} s, and '
                             'nothing is left to the policy; let it drive longer')


def drive_together(network: RolloutNetwork, preprocessing: Preprocessing, limits: CommandScale,
                   timeline: Timeline, trial: Trial, updates_per_frame: int = 1,
                   command_rows: CommandRows | None = None) -> list[Drive]:
    """Drive all courses of a trial side by side; images that are not taken are unanswered."""
    driver = NetworkDriver(network, preprocessing, limits, len(trial.seeds), updates_per_frame,
                           command_rows)
    return drive_trial(driver, timeline, trial)


def drive_trial(driver: Driver, timeline: Timeline, trial: Trial,
                kind: type[DrivingEnvironment] = DrivingEnvironment) -> list[Drive]:
    """
    Drive all courses of a trial side by side, with any driver.

    :param driver: Of as many vehicles as there are courses.
    :param kind: Of the environments.
    """
    settings = trial.settings
    environments = [kind(settings, seed, compiled=True) for seed in trial.seeds]
    log = RoadTask if settings.signs else Drive
    drives = [log(environment.course.lane_width) for environment in environments]
    batch = VehicleBatch(driver, environments, EmulatedClock(timeline), trial.handover)
    for i, environment in enumerate(environments):
        batch.place(i, speed=environment.now.reference.speed)
    batch.drive(drives, lambda: batch.image < round(trial.duration * settings.rate),
                lambda i: {'speed': environments[i].now.reference.speed},
                [VehicleDisturbance(np.random.default_rng(seed), trial.pushes)
                 for seed in trial.seeds])
    return drives
