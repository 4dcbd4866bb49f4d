"""One training and its test drives: a row of the closed-loop study."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
import json
from pathlib import Path
import time
from typing import Any

from stream_agent.driving.compute_model import figures_of
from stream_agent.driving.drivers import CommandRows
from stream_agent.driving.drives import drive_together, Trial
from stream_agent.learning.imitation import Collector, filled, Imitation
from stream_agent.learning.settings import ImitationSchedule
from stream_agent.learning.trainer import Trainer, TrainerOptions
from stream_agent.network.checkpoint import CommandScale, Policy, save_policy
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.settings import SimulationSettings
from studies.chain import Scheme
import torch

# Fast, through clutter and noise that deep layers see through, and with a slow actuator, so that
# it matters what a command rests on.
SETTINGS = SimulationSettings(rate=60.0, width_px=64, height_px=48, target_speed=2.0,
                              look_ahead=0.6,
                              max_yaw_rate=5.0, turn_time_constant=0.08, clutter=4.0, noise=4.0)
# Held-out courses before this one were driven while the task was chosen.
FIRST_COURSE = FIRST_HELD_OUT_SEED + 1000
LIMITS = CommandScale(max_speed=2.5, max_yaw_rate=6.0)
PUSHES = 1.0
HANDOVER = 1.0
COMMANDS = CommandRows(count=8)
MEMORY_STEPS = 6


@dataclass(frozen=True)
class StudyBudget:
    """
    What every scheme gets alike.

    All drive as long, and see of it what they take: with as many frames for each instead, those
    that drop most would drive longest, and learn most about the rest of a drive.

    :param schedule: Of the training, but for its frames.
    :param drive: Of every environment in every round [s].
    :param loss_frames: Frames of a window that bear loss, after those that fill the state.
    :param courses: Held-out courses of the test drives.
    :param duration: Of each test drive [s].
    """

    schedule: ImitationSchedule
    drive: float
    loss_frames: int
    courses: int
    duration: float


FULL = StudyBudget(ImitationSchedule(rounds=20, environments=8, updates=60, last_updates=600,
                                     batch=16, window=24, burn_in=8, warm_up=0,
                                     learning_rate=2e-3), 16.0, 12, 16, 20.0)
QUICK = StudyBudget(ImitationSchedule(rounds=4, environments=8, updates=40, last_updates=60,
                                      batch=16, window=24, burn_in=8, warm_up=0,
                                      learning_rate=2e-3), 6.0, 12, 4, 8.0)


def schedule_of(scheme: Scheme, budget: StudyBudget) -> ImitationSchedule:
    """Return the schedule with windows in which oldest information arrives, and memory fills."""
    candidate = scheme.candidate
    schedule = replace(
        budget.schedule, burn_in=MEMORY_STEPS, window=MEMORY_STEPS + budget.loss_frames,
        frames=scheme.timeline.images_within(budget.drive),
        updates_per_frame=candidate.updates_per_frame)
    return filled(schedule, candidate.rollout.graph, candidate.rollout.pattern, scheme.timeline)


def trained(scheme: Scheme, seed: int, budget: StudyBudget) -> tuple[RolloutNetwork, Any]:
    """Train a scheme under the timing that it will have; returns network and outcome."""
    torch.manual_seed(seed)
    rollout = scheme.candidate.rollout
    network = RolloutNetwork(rollout.graph, rollout.pattern)
    schedule = schedule_of(scheme, budget)
    collector = Collector(
        SETTINGS, preprocessing_of(network), LIMITS, schedule.environments, schedule.frames,
        schedule.updates_per_frame, scheme.timeline,
        0.5 / figures_of(scheme.candidate, scheme.timeline).rate, HANDOVER, 0.0,
        COMMANDS if scheme.inputs else None)
    imitation = Imitation(network, collector, schedule, seed, scheme.name)
    trainer = Trainer(imitation, TrainerOptions(
        steps=schedule.all_updates, learning_rate=schedule.learning_rate, seed=seed, quiet=True),
        None)
    return network, trainer.run()


def preprocessing_of(network: RolloutNetwork) -> Preprocessing:
    """Return the preprocessing that cuts off what is above the road."""
    return Preprocessing(network.shapes[network.input], crop_top=0.25)


def study_id(budget: StudyBudget) -> str:
    """Return all that rows need to have in common to be compared."""
    return json.dumps([SETTINGS.as_compared()]
                      + [asdict(part) for part in (LIMITS, COMMANDS, budget)]
                      + [PUSHES, HANDOVER, FIRST_COURSE], sort_keys=True)


def study_row(scheme: Scheme, seed: int, budget: StudyBudget, policy: Path | None = None
              ) -> Mapping[str, Any] | None:
    """
    Train a scheme and drive the held-out courses with it.

    :param policy: Where to keep what was trained; None to keep nothing.
    :returns: None if the training was stopped.
    """
    torch.set_num_threads(1)
    start = time.perf_counter()
    network, outcome = trained(scheme, seed, budget)
    if not outcome.finished:
        return None
    middle = time.perf_counter()
    trial = Trial(SETTINGS, tuple(range(FIRST_COURSE, FIRST_COURSE + budget.courses)),
                  budget.duration, PUSHES, HANDOVER)
    drives = drive_together(network, preprocessing_of(network), LIMITS, scheme.timeline, trial,
                            scheme.candidate.updates_per_frame,
                            COMMANDS if scheme.inputs else None)
    last = outcome.losses[-60:]
    row = {'key': scheme.key, 'scheme': scheme.name, 'seed': seed,
           'mean_squares': [drive.lateral_rms ** 2 for drive in drives],
           'departures': [drive.departures for drive in drives],
           'seconds': [len(drive.lateral_errors) / SETTINGS.rate for drive in drives],
           'loss': sum(last) / len(last), 'training_s': middle - start,
           'driving_s': time.perf_counter() - middle}
    if policy:
        save_policy(policy, Policy(network, preprocessing_of(network), LIMITS, scheme.kind, {
            'command': 'python -m studies closed-loop', 'seed': seed,
            'schedule': asdict(schedule_of(scheme, budget))},
            scheme.candidate.updates_per_frame))
    return row
