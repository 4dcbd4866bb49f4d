"""Policies from files, driving under the timing of an emulated computer."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from stream_agent.learning.driving import Drive
from stream_agent.learning.emulation.computer import Computer, Run, timings
from stream_agent.learning.emulation.drives import drive_together, Trial
from stream_agent.learning.emulation.figures import Figures
from stream_agent.learning.emulation.intervals import difference, rms_ratio
from stream_agent.learning.emulation.timeline import Timeline
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.custom import allow_transforms
import torch


@dataclass(frozen=True)
class Timed:
    """A policy with its timing, and what that means for its commands."""

    path: str
    timeline: Timeline
    figures: Figures


def timed(paths: Sequence[str], computer: Computer, camera_period: float) -> list[Timed]:
    """
    Return when each policy answers on a computer.

    :raises ValueError: If a policy cannot run like that, or the costs do not fit its graph.
    """
    policies = [load_policy(path) for path in paths]
    runs = [Run(path, policy.network.graph, policy.network.pattern, policy.updates_per_frame)
            for path, policy in zip(paths, policies)]
    return [Timed(path, *timing) for path, timing
            in zip(paths, timings(runs, computer, camera_period))]


def drive_policy(one: Timed, trial: Trial, allowed: Sequence[str]) -> list[Drive]:
    """Let one policy drive all courses of a trial."""
    torch.set_num_threads(1)
    allow_transforms(allowed)
    policy = load_policy(one.path)
    return drive_together(policy.network, policy.preprocessing, policy.limits, one.timeline,
                          trial, policy.updates_per_frame)


def drive_all(policies: Sequence[Timed], trial: Trial, allowed: Sequence[str], pool: Executor,
              workers: int) -> list[list[Drive]]:
    """Drive every course with every policy, as many courses at once as there are workers."""
    parts = [replace(trial, seeds=part) for part in (
        trial.seeds[i::workers] for i in range(workers)) if part]
    found = [[pool.submit(drive_policy, one, part, allowed) for part in parts]
             for one in policies]
    drives = []
    for futures in found:
        by_seed = {seed: drive for part, future in zip(parts, futures)
                   for seed, drive in zip(part.seeds, future.result())}
        drives.append([by_seed[seed] for seed in trial.seeds])
    return drives


def compared(policies: Sequence[Timed], drives: Sequence[Sequence[Drive]]) -> list[dict]:
    """
    Return the figures of every policy, and what it differs by from the first.

    :returns: Seconds, and for ``rms_ratio`` and ``more_departures`` (estimate, low, high);
        departures are of one course.
    """
    squares = [np.array([drive.lateral_rms ** 2 for drive in one]) for one in drives]
    departures = [np.array([drive.departures for drive in one], float) for one in drives]
    return [{**one.figures._asdict(),
             'rms_ratio': tuple(map(float, rms_ratio(squares[i], squares[0]))),
             'more_departures': tuple(map(float, difference(departures[i], departures[0])))}
            for i, one in enumerate(policies)]
