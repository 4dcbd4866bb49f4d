"""Drives that a network learns from: it drives, and the expert says what to answer."""

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from stream_agent.command import Command
from stream_agent.driving.compute_model import immediate, Timeline
from stream_agent.driving.vehicles import CommandRows, VehicleBatch
from stream_agent.learning.learner import Learner
from stream_agent.learning.window_sampler import Episode
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment, Moment
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.vehicle import VehicleDisturbance


@dataclass
class PendingTargets:
    """
    Puts together what a network saw and what the expert commands as its answer acts.

    An answer to an image that is out later belongs to where the vehicle is by then, not to
    where it was: between two images the expert's commands are interpolated.

    :param waiting: Images whose answers are not out yet, with the times [s] when they will be.
    """

    limits: CommandScale
    waiting: deque[tuple[float, np.ndarray]] = field(default_factory=deque)
    episode: Episode = field(default_factory=Episode)
    _last: Moment | None = None

    def note(self, now: Moment) -> None:
        """Give those answers their targets that are out by now."""
        while self.waiting and self.waiting[0][0] <= now.time + 1e-9:
            out, pixels = self.waiting.popleft()
            last = self._last or now
            passed = now.time - last.time
            share = min(1.0, (now.time - out) / passed) if passed else 0.0
            self.episode.add(pixels, self.limits.output(Command(*(
                share * a + (1 - share) * b for a, b in zip(last.reference, now.reference)))))
        self._last = now

    def finish(self) -> Episode:
        """Return the episode and begin another; what waits is dropped."""
        episode, self.episode, self._last = self.episode, Episode(), None
        self.waiting.clear()
        return episode


@dataclass(frozen=True)
class Collector:
    """
    Drives courses side by side, new ones every time.

    :param settings: The simulator's settings; every course differs.
    :param environments: Courses driven at once.
    :param frames: Frames taken on each.
    :param updates_per_frame: Update steps for which every image is held.
    :param timeline: When images are taken and answered; every image, and at once, if None.
    :param aim: Seconds after an answer is out for whose instant it is to be right, such as half
        the time that it will be in force.
    :param handover: Seconds that the expert drives after a start, until a late network knows
        where it is.
    :param most_delay: Of the actuators [s]; each course has one, from 0 on.
    :param command_rows: How the network is told its last commands; not at all if None.
    """

    settings: SimulationSettings
    preprocessing: Preprocessing
    limits: CommandScale
    environments: int
    frames: int
    updates_per_frame: int = 1
    timeline: Timeline | None = None
    aim: float = 0.0
    handover: float = 0.0
    most_delay: float = 0.03
    command_rows: CommandRows | None = None

    def collect(self, network: RolloutNetwork, expert_drives: bool,
                generator: np.random.Generator) -> tuple[list[Episode], int]:
        """
        Drive new courses and keep every frame taken, with the expert's answer to it.

        :param network: Sees every frame taken; put into evaluation mode.
        :param generator: Of courses, places and disturbances, and of nothing else.
        :returns: What was driven, and how many times the lane was left.
        """
        environments = [self._new_environment(generator) for _ in range(self.environments)]
        disturbances = [VehicleDisturbance(generator, 1.0) for _ in environments]
        pending = [PendingTargets(self.limits) for _ in environments]
        fleet = VehicleBatch(network, environments, self.preprocessing, self.limits,
                             self.timeline or immediate(self.settings.period),
                             self.updates_per_frame,
                             self.command_rows)
        for i in range(self.environments):
            fleet.place(i, **self._place(environments[i], generator))
        placed = [0.0] * self.environments
        finished: list[Episode] = []
        count = 0
        while count < self.frames:
            taken = fleet.look()
            count += taken is not None
            for i, environment in enumerate(environments):
                if taken:
                    pending[i].waiting.append((taken.answer + self.aim, fleet.pixels[i]))
                pending[i].note(environment.now)
                by_expert = expert_drives or environment.time - placed[i] < self.handover
                if fleet.move(i, disturbances[i].advance(), by_expert).departed:
                    finished.append(pending[i].finish())
                    fleet.place(i, **self._place(environment, generator))
                    placed[i] = environment.time
            fleet.next_image()
        return finished + [one.episode for one in pending], len(finished)

    def _new_environment(self, generator: np.random.Generator) -> DrivingEnvironment:
        """Make an environment on a course of its own, with delays drawn anew."""
        seed = int(generator.integers(FIRST_HELD_OUT_SEED))
        settings = replace(self.settings, actuator_delay=generator.uniform(0.0, self.most_delay))
        return DrivingEnvironment(settings, seed)

    def _place(self, environment: DrivingEnvironment, generator: np.random.Generator
               ) -> dict[str, float]:
        """Draw a place somewhere on the course, a bit off the middle."""
        return {'arc_length': generator.uniform(0.0, environment.course.length),
                'lateral': generator.uniform(-0.12, 0.12),
                'heading': generator.uniform(-0.25, 0.25),
                'speed': self.settings.target_speed}


class DrivingLearner(Learner):
    """
    A learner whose network becomes a policy.

    :ivar steps: Gradient steps of the whole training.
    :ivar learning_rate: At the start.
    :ivar updates_per_frame: Update steps for which every image is held.
    """

    network: RolloutNetwork
    preprocessing: Preprocessing
    limits: CommandScale
    steps: int
    learning_rate: float
    updates_per_frame: int = 1

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Return as JSON what the policy's file says of how its weights came about."""

    def verdict(self, provenance: dict[str, Any]) -> str:
        """Say by the provenance how good the policy is; empty if others have to find out."""
        return ''
