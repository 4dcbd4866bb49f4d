"""Drives of a network on several courses at once, under the timing of an emulated computer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from stream_agent.learning.collecting import Disturbance
from stream_agent.learning.driving import Drive
from stream_agent.learning.emulation.command_rows import CommandRows
from stream_agent.learning.emulation.fleet import Fleet
from stream_agent.learning.emulation.timeline import Timeline
from stream_agent.network.checkpoint import CommandLimits
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import Settings


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

    settings: Settings
    seeds: tuple[int, ...]
    duration: float = 20.0
    pushes: float = 0.0
    handover: float = 1.0

    def __post_init__(self) -> None:
        if self.handover >= self.duration:
            raise ValueError(f'the expert drives {self.handover:g} s of {self.duration:g} s, and '
                             'nothing is left to the policy; let it drive longer')


def drive_together(network: RolloutNetwork, preprocessing: Preprocessing, limits: CommandLimits,
                   timeline: Timeline, trial: Trial, updates_per_frame: int = 1,
                   command_rows: CommandRows | None = None) -> list[Drive]:
    """
    Drive all courses of a trial side by side.

    :returns: How it went on each; unanswered are the images that were not taken.
    """
    settings = trial.settings
    environments = [DrivingEnvironment(settings, seed) for seed in trial.seeds]
    pushes = [Disturbance(np.random.default_rng(seed), trial.pushes) for seed in trial.seeds]
    drives = [Drive(environment.course.lane_width) for environment in environments]
    fleet = Fleet(network, environments, preprocessing, limits, timeline, updates_per_frame,
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
