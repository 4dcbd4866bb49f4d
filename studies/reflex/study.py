"""One training and its test drives: a row of the study of reflex and recognition."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
import fcntl
import json
import math
from pathlib import Path
import time
from typing import Any, NamedTuple

import numpy as np
from stream_agent.driving.compute_model import figures_of
from stream_agent.driving.drives import drive_trial, RoadTask, Trial
from stream_agent.learning.imitation import filled, Imitation
from stream_agent.learning.policy_sources import limits_for
from stream_agent.learning.progress import StopRequests
from stream_agent.learning.recognition import Recognition, SignReader, soften
from stream_agent.learning.settings import ImitationSchedule, RecognitionSchedule
from stream_agent.learning.trainer import Trainer, TrainerOptions
from stream_agent.network.checkpoint import load_driving_policy, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.share import share_folder
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.settings import read_settings
from stream_agent.theory.information import memory_edges
from studies.reflex.drivers import AGE_ROWS, COMMANDS, LONGEST_AGE, ReflexCollector, ReflexDriver
from studies.reflex.schemes import CHAIN, HEAD, operations, ReflexScheme
import torch

SETTINGS = read_settings(share_folder() / 'config' / 'robots' / 'reflex.yaml')
# Nobody has looked at these courses, neither while the task was made nor for a try.
FIRST_COURSE = FIRST_HELD_OUT_SEED + 16_000
# Those on which a training is chosen among the tries of a scheme.
FIRST_OF_TRIES = FIRST_HELD_OUT_SEED + 15_000
LIMITS = limits_for(SETTINGS)
PUSHES = 1.5
HANDOVER = 1.0
MEMORY_STEPS = 4
# Tried in this order.
LEARNING_RATES = (2e-3, 4e-3, 1e-3, 8e-3)
RECOGNITION_SEED = 1
# Of the whole network, in a gradient step.
MOST_PASSES = 960


@dataclass(frozen=True)
class ReflexBudget:
    """
    What every scheme gets alike: as much time of training, up to what its images cost.

    :param recognition: How layers that recognise signs learn first. All schemes and trainings
        with the same layers begin with the same of these.
    :param schedule: Of the training, but for its frames and windows.
    :param drive: Of every environment in every round [s].
    :param learning_rates: A try each; of the policies, the best on courses of their own is kept.
    :param courses: Held-out courses of the test drives.
    :param duration: Of each test drive [s].
    """

    recognition: RecognitionSchedule
    schedule: ImitationSchedule
    drive: float
    learning_rates: tuple[float, ...]
    courses: int
    duration: float


FULL = ReflexBudget(RecognitionSchedule(), ImitationSchedule(
    rounds=16, environments=12, updates=60, last_updates=640, batch=16, window=24,
    burn_in=MEMORY_STEPS, loss_time=1.0, warm_up=80, pushes=PUSHES),
    16.0, LEARNING_RATES[:1], 16, 40.0)
QUICK = ReflexBudget(RecognitionSchedule(views=2000, recognition_steps=200), ImitationSchedule(
    rounds=3, environments=4, updates=30, last_updates=60, batch=8, window=24,
    burn_in=MEMORY_STEPS, loss_time=0.4, warm_up=20, pushes=PUSHES),
    8.0, LEARNING_RATES[:1], 4, 12.0)


def schedule_of(scheme: ReflexScheme, budget: ReflexBudget) -> ImitationSchedule:
    """Return the schedule with windows in which oldest information arrives, and memory fills."""
    candidate, timeline = scheme.candidate, scheme.timeline
    if scheme.copies > 1:
        # What one of them takes.
        timeline = replace(timeline, work=tuple(
            one._replace(busy=scheme.copies * one.busy) for one in timeline.work))
    schedule = replace(budget.schedule, frames=timeline.images_within(budget.drive),
                       updates_per_frame=candidate.updates_per_frame)
    schedule = filled(schedule, candidate.rollout.graph, candidate.rollout.pattern, timeline)
    # As many frames as in a step of others cost more where every frame goes through all layers.
    graph = candidate.rollout.graph
    share = operations(graph) / operations(CHAIN.graph) / graph.hyperperiod
    batch = max(1, min(schedule.batch, round(MOST_PASSES / (share * schedule.window))))
    return replace(schedule, frames=schedule.frames * scheme.copies, batch=batch)


def preprocessing_of(network: RolloutNetwork) -> Preprocessing:
    """Return the preprocessing, which keeps all: signs stand above the road."""
    return Preprocessing(network.shapes[network.input])


def study_id(budget: ReflexBudget) -> str:
    """Return all that rows need to have in common to be compared."""
    return json.dumps([SETTINGS.as_compared()]
                      + [asdict(part) for part in (LIMITS, COMMANDS, budget)]
                      + [PUSHES, HANDOVER, FIRST_COURSE, LONGEST_AGE, str(AGE_ROWS),
                         RECOGNITION_SEED, MOST_PASSES], sort_keys=True)


class Trained(NamedTuple):
    """
    What a training gave.

    :param recognised: Share of legible signs that the layers told apart before it drove; nan
        where there are no such layers.
    """

    network: RolloutNetwork
    recognised: float


def trained(scheme: ReflexScheme, seed: int, budget: ReflexBudget, rate: float, folder: Path,
            trunk: Path | None) -> Trained | None:
    """
    Train a scheme under the timing that it will have; None if that was stopped.

    :param folder: Of layers that recognise signs.
    :param trunk: Policy whose weights are kept, and whose read-out the head begins with.
    """
    torch.manual_seed(seed)
    rollout = scheme.candidate.rollout
    network = RolloutNetwork(rollout.graph, rollout.pattern)
    reader = None
    if trunk:
        policy = load_driving_policy(trunk)
        recognised = policy.training['recognised']
        freeze(network, policy.network)
    else:
        soften(network)
        recognised = recognise(network, budget, folder / 'recognition')
        if recognised is None:
            return None
        if memory_edges(rollout.graph):
            reader = SignReader(network, budget.recognition.sign_loss)
    schedule = schedule_of(scheme, budget)
    collector = ReflexCollector(
        SETTINGS, preprocessing_of(network), LIMITS, schedule.environments, schedule.frames,
        schedule.updates_per_frame, scheme.timeline,
        0.5 / figures_of(scheme.candidate, scheme.timeline).rate, HANDOVER, 0.0,
        pushes=schedule.pushes, scheme=scheme)
    imitation = Imitation(network, collector, schedule, seed, scheme.name, sign_reader=reader)
    outcome = Trainer(imitation, TrainerOptions(
        steps=schedule.all_updates, learning_rate=rate, warm_up=schedule.warm_up, seed=seed,
        quiet=True), None).run()
    return Trained(network, recognised) if outcome.finished else None


def recognise(network: RolloutNetwork, budget: ReflexBudget, folder: Path) -> float | None:
    """
    Give a network layers that recognise signs, which all trainings with the same layers share.

    :returns: The share of legible signs that they tell apart, nan without such layers; None if
        it was stopped.
    """
    recognition = Recognition(network, SETTINGS, preprocessing_of(network), budget.recognition,
                              RECOGNITION_SEED, folder)
    with locked(folder), StopRequests() as stop:
        return recognition.learn(lambda: bool(stop.requested))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process after the other work in a folder: what the first makes, others find."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
    """
    Return what is written of drives: by course, and over all of them.

    A drive that does not come as far as the first judged image scores nothing and obeys no sign.
    """
    courses = {
        'task_score': [100 * np.nan_to_num(drive.score) for drive in drives],
        'mean_squares': [drive.lateral_rms ** 2 for drive in drives],
        'speed_squares': [mean_of(np.square(drive.speed_errors)) for drive in drives],
        'signs_obeyed': [100 * np.nan_to_num(drive.signs_obeyed) for drive in drives],
        'seconds_until_obeyed': [mean_of(drive.seconds_until_obeyed) for drive in drives],
        'departures_per_minute': [60 * drive.departures * SETTINGS.rate
                                  / max(1, len(drive.lateral_errors)) for drive in drives]}
    return {'courses': {name: [known(value) for value in values]
                        for name, values in courses.items()},
            'task_score': mean_of(courses['task_score']),
            'lateral_rms': known(math.sqrt(mean_of(courses['mean_squares']))),
            'signs_obeyed': mean_of(courses['signs_obeyed'])}


def known(value: float) -> float | None:
    """Return a number as JSON has it, which knows no nan."""
    return None if math.isnan(value) else float(value)


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
        found = trained(scheme, seed, budget, rate, policy.parent, trunk)
        if found is None:
            return None
        seeds = range(FIRST_OF_TRIES, FIRST_OF_TRIES + budget.courses)
        score = (math.nan if len(budget.learning_rates) == 1 else figures_of_drives(
            driven(scheme, found.network, seeds, budget.duration))['task_score'])
        tries.append((score, rate, found))
    # The first where there is no other.
    _, rate, (network, recognised) = max(tries, key=lambda one: one[0])
    middle = time.perf_counter()
    seeds = range(FIRST_COURSE, FIRST_COURSE + budget.courses)
    figures = figures_of_drives(driven(scheme, network, seeds, budget.duration))
    save_policy(policy, Policy(network, preprocessing_of(network), LIMITS, scheme.kind, {
        'command': 'python -m studies reflex', 'seed': seed, 'learning_rate': rate,
        'recognised': known(recognised), 'schedule': asdict(schedule_of(scheme, budget))},
        scheme.candidate.updates_per_frame))
    return {**told(scheme), 'seed': seed, **figures, 'recognised': known(recognised),
            'tries': [{'learning_rate': tried, 'task_score': known(score)}
                      for score, tried, _ in tries],
            'training_s': middle - start, 'driving_s': time.perf_counter() - middle}


def told(scheme: ReflexScheme) -> dict[str, Any]:
    """Return what a row says of its scheme; times in seconds."""
    device = scheme.candidate.rollout.device
    figures = figures_of(scheme.candidate, scheme.timeline)
    return {'key': scheme.key, 'scheme': scheme.name, 'kind': scheme.kind,
            'device': device.execution, 'r': scheme.pass_periods,
            'operations': operations(scheme.candidate.rollout.graph),
            'newest_s': figures.newest, 'deep_s': figures.deep,
            'latency_s': figures.latency, 'rate_hz': figures.rate}
