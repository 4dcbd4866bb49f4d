"""One training and its test drives: a row of the study of reflex and recognition."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
import json
import math
from pathlib import Path
import time
from typing import Any

import numpy as np
from stream_agent.driving.compute_model import figures_of
from stream_agent.driving.drives import drive_trial, RoadTask, Trial
from stream_agent.learning.imitation import filled, Imitation
from stream_agent.learning.settings import ImitationSchedule
from stream_agent.learning.trainer import Trainer, TrainerOptions
from stream_agent.network.checkpoint import CommandScale, load_policy, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.share import share_folder
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.settings import read_settings
from studies.reflex.drivers import AGE_ROWS, COMMANDS, LONGEST_AGE, ReflexCollector, ReflexDriver
from studies.reflex.schemes import HEAD, operations, ReflexScheme
import torch

SETTINGS = read_settings(share_folder() / 'config' / 'robots' / 'reflex.yaml')
# Nobody has looked at these courses, neither while the task was made nor for a try.
FIRST_COURSE = FIRST_HELD_OUT_SEED + 16_000
# Those on which a training is chosen among the tries of a scheme.
FIRST_OF_TRIES = FIRST_HELD_OUT_SEED + 15_000
LIMITS = CommandScale(max_speed=2.5, max_yaw_rate=6.0)
PUSHES = 2.5
HANDOVER = 1.0
MEMORY_STEPS = 4


@dataclass(frozen=True)
class ReflexBudget:
    """
    What every scheme gets alike.

    :param schedule: Of the training, but for its frames and windows.
    :param drive: Of every environment in every round [s].
    :param loss_seconds: Of a window that bear loss, after the frames that fill the state: a
        window shows the same stretch of road, however many of its images are taken.
    :param learning_rates: A try each; of the policies, the best on courses of their own is kept.
    :param courses: Held-out courses of the test drives.
    :param duration: Of each test drive [s].
    """

    schedule: ImitationSchedule
    drive: float
    loss_seconds: float
    learning_rates: tuple[float, ...]
    courses: int
    duration: float

    def longer(self, factor: int) -> 'ReflexBudget':
        """Return the same with so many times the gradient steps, over as many rounds more."""
        return replace(self, schedule=replace(
            self.schedule, rounds=factor * self.schedule.rounds,
            last_updates=factor * self.schedule.last_updates))


FULL = ReflexBudget(ImitationSchedule(rounds=12, environments=8, updates=60, last_updates=480,
                                      batch=16), 16.0, 1.0, (2e-3,), 16, 40.0)
QUICK = ReflexBudget(ImitationSchedule(rounds=3, environments=4, updates=30, last_updates=30,
                                       batch=8), 6.0, 0.5, (2e-3,), 4, 12.0)


def schedule_of(scheme: ReflexScheme, budget: ReflexBudget) -> ImitationSchedule:
    """Return the schedule with windows in which oldest information arrives, and memory fills."""
    candidate, timeline = scheme.candidate, scheme.timeline
    frames, loss_frames = (max(1, timeline.images_within(seconds) // scheme.copies)
                           for seconds in (budget.drive, budget.loss_seconds))
    schedule = replace(budget.schedule, burn_in=MEMORY_STEPS, window=MEMORY_STEPS + loss_frames,
                       frames=frames, updates_per_frame=candidate.updates_per_frame)
    schedule = filled(schedule, candidate.rollout.graph, candidate.rollout.pattern)
    return replace(schedule, frames=schedule.frames * scheme.copies)


def preprocessing_of(network: RolloutNetwork) -> Preprocessing:
    """Return the preprocessing, which keeps all: signs stand above the road."""
    return Preprocessing(network.shapes[network.input])


def study_id(budget: ReflexBudget) -> str:
    """Return all that rows need to have in common to be compared."""
    return json.dumps([asdict(part) for part in (SETTINGS, LIMITS, COMMANDS, budget)]
                      + [PUSHES, HANDOVER, FIRST_COURSE, MEMORY_STEPS, LONGEST_AGE,
                         str(AGE_ROWS)], sort_keys=True)


def trained(scheme: ReflexScheme, seed: int, budget: ReflexBudget, rate: float,
            trunk: Path | None) -> RolloutNetwork | None:
    """
    Train a scheme under the timing that it will have; None if that was stopped.

    :param trunk: Policy whose weights are kept, and whose read-out the head begins with.
    """
    torch.manual_seed(seed)
    rollout = scheme.candidate.rollout
    network = RolloutNetwork(rollout.graph, rollout.pattern)
    if trunk:
        freeze(network, load_policy(trunk).network)
    schedule = schedule_of(scheme, budget)
    collector = ReflexCollector(
        SETTINGS, preprocessing_of(network), LIMITS, schedule.environments, schedule.frames,
        schedule.updates_per_frame, scheme.timeline,
        0.5 / figures_of(scheme.candidate, scheme.timeline).rate, HANDOVER, 0.0,
        pushes=PUSHES, scheme=scheme)
    imitation = Imitation(network, collector, schedule, seed, scheme.name)
    outcome = Trainer(imitation, TrainerOptions(
        steps=schedule.all_updates, learning_rate=rate, seed=seed, quiet=True), None).run()
    return network if outcome.finished else None


def freeze(network: RolloutNetwork, trunk: RolloutNetwork) -> None:
    """Keep a trunk's weights, and let the head begin as its read-out."""
    kept = dict(trunk.named_parameters())
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name in kept:
                weight.copy_(kept[name]).requires_grad_(False)
            elif (same := name.replace(HEAD, '')) in kept:
                weight.copy_(kept[same])
            else:
                # What the head is told of the trunk's output.
                weight.zero_()


def driven(scheme: ReflexScheme, network: RolloutNetwork, seeds: Sequence[int], duration: float
           ) -> list[RoadTask]:
    """Drive courses."""
    trial = Trial(SETTINGS, tuple(seeds), duration, PUSHES, HANDOVER)
    driver = ReflexDriver(scheme, network, preprocessing_of(network), LIMITS, len(seeds),
                          SETTINGS, scheme.timeline)
    return [drive for drive in drive_trial(driver, scheme.timeline, trial)
            if isinstance(drive, RoadTask)]


def figures_of_drives(drives: Sequence[RoadTask]) -> dict[str, Any]:
    """Return what is written of drives: by course, and over all of them."""
    courses = {
        'task_score': [100 * drive.score for drive in drives],
        'mean_squares': [drive.lateral_rms ** 2 for drive in drives],
        'speed_squares': [mean_of(np.square(drive.speed_errors)) for drive in drives],
        'signs_obeyed': [100 * drive.signs_obeyed for drive in drives],
        'seconds_until_obeyed': [mean_of(drive.seconds_until_obeyed) for drive in drives],
        'departures_per_minute': [60 * drive.departures * SETTINGS.rate
                                  / max(1, len(drive.lateral_errors)) for drive in drives]}
    return {'courses': {name: [None if math.isnan(value) else value for value in values]
                        for name, values in courses.items()},
            'task_score': known_mean(courses['task_score']),
            'lateral_rms': math.sqrt(known_mean(courses['mean_squares'])),
            'signs_obeyed': known_mean(courses['signs_obeyed'])}


def known_mean(values: Sequence[float]) -> float:
    """Return the mean without what is nan: a short drive may pass no sign."""
    return mean_of([value for value in values if not math.isnan(value)])


def mean_of(values: Sequence[float] | np.ndarray) -> float:
    """Return the mean, nan of nothing."""
    return float(np.mean(values)) if len(values) else math.nan


def study_row(scheme: ReflexScheme, seed: int, budget: ReflexBudget, policy: Path,
              trunk: Path | None = None) -> Mapping[str, Any] | None:
    """
    Train a scheme and drive the held-out courses with it.

    :param policy: Where to keep what was trained.
    :param trunk: Policy of the scheme's trunk, if it has one.
    :returns: None if the training was stopped.
    """
    torch.set_num_threads(1)
    start = time.perf_counter()
    tries = []
    for rate in budget.learning_rates:
        network = trained(scheme, seed, budget, rate, trunk)
        if network is None:
            return None
        seeds = range(FIRST_OF_TRIES, FIRST_OF_TRIES + budget.courses)
        score = (figures_of_drives(driven(scheme, network, seeds, budget.duration))['task_score']
                 if len(budget.learning_rates) > 1 else math.inf)
        tries.append((score, rate, network))
    _, rate, network = max(tries, key=lambda one: one[0])
    middle = time.perf_counter()
    seeds = range(FIRST_COURSE, FIRST_COURSE + budget.courses)
    figures = figures_of_drives(driven(scheme, network, seeds, budget.duration))
    save_policy(policy, Policy(network, preprocessing_of(network), LIMITS, scheme.kind, {
        'command': 'python -m studies reflex', 'seed': seed, 'learning_rate': rate,
        'schedule': asdict(schedule_of(scheme, budget))}, scheme.candidate.updates_per_frame))
    return {**told(scheme), 'seed': seed, **figures,
            'tries': [{'learning_rate': rate, 'task_score': score if math.isfinite(score) else None}
                      for score, rate, _ in tries],
            'training_s': middle - start, 'driving_s': time.perf_counter() - middle}


def told(scheme: ReflexScheme) -> dict[str, Any]:
    """Return what a row says of its scheme; times in seconds."""
    device = scheme.candidate.rollout.device
    figures = figures_of(scheme.candidate, scheme.timeline)
    return {'key': scheme.key, 'scheme': scheme.name, 'kind': scheme.kind,
            'device': device.execution, 'r': scheme.pass_periods,
            'operations': operations(scheme.candidate.rollout.graph), 'newest_s': figures.newest, 'deep_s': figures.deep,
            'latency_s': figures.latency, 'rate_hz': figures.rate}
