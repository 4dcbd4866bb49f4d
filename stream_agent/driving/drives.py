"""Drivers, and what comes of letting them drive the embedded simulator."""

from collections.abc import Sequence
from dataclasses import dataclass, field
import math
import time
from typing import Protocol

import numpy as np
from stream_agent.command import Command
from stream_agent.driving.compute_model import Timeline
from stream_agent.driving.vehicles import CommandRows, VehicleBatch
from stream_agent.engine.engine import Engine
from stream_agent.network.checkpoint import CommandScale, Policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.environment import DrivingEnvironment, SimulatedFrame
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.vehicle import VehicleDisturbance


class Driver(Protocol):
    """Whoever answers frames with commands."""

    def reset(self) -> None:
        """Forget every frame seen so far."""

    def command(self, frame: SimulatedFrame) -> Command:
        """Answer one frame."""

    def settle(self) -> None:
        """Use the time after the answer."""


class ExpertDriver:
    """Drives by the true pose: what the simulator gives as the reference."""

    def reset(self) -> None:
        """Nothing is remembered."""

    def command(self, frame: SimulatedFrame) -> Command:
        """Return the frame's reference."""
        return frame.reference

    def settle(self) -> None:
        """Nothing is left to do."""


class PolicyDriver:
    """Drives by the camera's frames alone."""

    def __init__(self, policy: Policy, device: str = 'cpu') -> None:
        self._policy = policy
        self._engine = Engine(policy.network, device)
        self._engine.warm_up()

    def reset(self) -> None:
        """Forget every frame seen so far."""
        self._engine.reset()

    def command(self, frame: SimulatedFrame) -> Command:
        """Answer one frame by the response cone."""
        image = self._policy.preprocessing(frame.image)
        for _ in range(self._policy.updates_per_frame - 1):
            self._engine.step(image)
        return self._policy.limits.command(self._engine.respond(image))

    def settle(self) -> None:
        """Compute what only later frames need."""
        self._engine.settle()


@dataclass
class Drive:
    """
    How one drive went.

    :param lateral_errors: Of every frame [m], positive to the left of the lane's middle.
    :param lane_width: From border to border [m].
    :param laps: Times around the course.
    :param departures: Times that the lane was left; after each the robot is put back.
    :param unanswered: Frames that came while the one before was still in work.
    """

    lane_width: float
    lateral_errors: list[float] = field(default_factory=list)
    laps: float = 0.0
    departures: int = 0
    unanswered: int = 0

    def note(self, frame: SimulatedFrame) -> None:
        """Count one frame."""
        self.lateral_errors.append(frame.lateral_error)
        self.laps = frame.laps
        self.departures += frame.departed

    @property
    def lateral_rms(self) -> float:
        """Root mean square of the lateral error [m]."""
        return float(np.sqrt(np.mean(np.square(self.lateral_errors))))

    @property
    def largest_lateral_error(self) -> float:
        """Largest distance from the lane's middle [m]."""
        return float(np.abs(self.lateral_errors).max())


class Lockstep:
    """No clock: the simulator waits for every answer."""

    def wait_for_frame(self) -> int:
        """Return how many frames came and went unanswered; none, here."""
        return 0

    def since_frame(self) -> float:
        """Return the seconds between the frame and now; none, here."""
        return 0.0


class RealTime:
    """
    The wall clock: frames come when they are due, whether the last was answered or not.

    :param camera_period: Seconds between two frames.
    """

    def __init__(self, camera_period: float) -> None:
        self._period = camera_period
        self._due = time.perf_counter()

    def wait_for_frame(self) -> int:
        """Sleep until the next frame is due; return how many came and went unanswered."""
        self._due += self._period
        missed = max(0, math.floor((time.perf_counter() - self._due) / self._period))
        self._due += missed * self._period
        time.sleep(max(0.0, self._due - time.perf_counter()))
        return missed

    def since_frame(self) -> float:
        """Return the seconds between the frame and now."""
        return time.perf_counter() - self._due


def drive(environment: DrivingEnvironment, driver: Driver, laps: float,
          pacing: Lockstep | RealTime | None = None) -> Drive:
    """
    Drive until the laps are done, or a third longer than the expert's speed needs for them.

    :param pacing: Real time or, by default, lockstep. In real time an answer acts as long after
        its frame as it took, and frames that come meanwhile go unanswered.
    """
    pacing = pacing or Lockstep()
    settings, course = environment.settings, environment.course
    result = Drive(course.lane_width)
    most_frames = math.ceil(4 / 3 * laps * course.length / settings.target_speed * settings.rate)
    driver.reset()
    frame = environment.reset()
    while frame.laps < laps and len(result.lateral_errors) < most_frames:
        for _ in range(pacing.wait_for_frame()):
            frame = environment.advance()
            result.note(frame)
            result.unanswered += 1
        environment.send(driver.command(frame), after=pacing.since_frame())
        driver.settle()
        frame = environment.advance()
        result.note(frame)
        if frame.departed:
            environment.place(speed=settings.target_speed)
            frame = environment.look()
            driver.reset()
    return result


@dataclass(frozen=True)
class Trial:
    """
    What every network has to drive.

    :param seeds: Of the courses; each has pushes of its own, the same for every network.
    :param duration: Seconds on each course.
    :param pushes: Largest yaw rate that is added now and then [rad/s].
    :param handover: Seconds that the expert drives at the start and after a departure, until a
        late network knows where it is; they do not count.
    :raises ValueError: If that is all of the drive.
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
    """
    Drive all courses of a trial side by side.

    :returns: How it went on each; unanswered are the images that were not taken.
    """
    settings = trial.settings
    environments = [DrivingEnvironment(settings, seed) for seed in trial.seeds]
    pushes = [VehicleDisturbance(np.random.default_rng(seed), trial.pushes) for seed
              in trial.seeds]
    drives = [Drive(environment.course.lane_width) for environment in environments]
    fleet = VehicleBatch(network, environments, preprocessing, limits, timeline, updates_per_frame,
                         command_rows)
    placed = [0.0] * len(environments)
    for i in range(len(environments)):
        fleet.place(i, settings.target_speed)
    for _ in range(round(trial.duration * settings.rate)):
        taken = fleet.look()
        for i, (environment, drive) in enumerate(zip(environments, drives)):
            by_expert = environment.time - placed[i] < trial.handover
            moment = fleet.move(i, pushes[i].advance(), by_expert)
            if not by_expert:
                drive.note(moment)
                drive.unanswered += taken is None
            if moment.departed:
                fleet.place(i, settings.target_speed)
                placed[i] = environment.time
        fleet.next_image()
    return drives


def mean_squares(drives: Sequence[Drive]) -> list[float]:
    """Return the mean squared lateral error on every course [m^2]."""
    return [drive.lateral_rms ** 2 for drive in drives]
