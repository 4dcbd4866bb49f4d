"""Policies from files, driving under the timing of an emulated computer."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from stream_agent.learning.driving import Drive
from stream_agent.learning.emulation.drives import drive_together, Trial
from stream_agent.learning.emulation.figures import Figures, figures_of
from stream_agent.learning.emulation.intervals import difference, rms_ratio
from stream_agent.learning.emulation.timeline import Timeline, timeline_of, TimingError
from stream_agent.network.checkpoint import load_policy, Policy
from stream_agent.network.custom import allow_transforms
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.planning.candidates import Candidate, Device, kind_of, Rollout
from stream_agent.theory.planning.costs import load_costs, NodeCosts
import torch


@dataclass(frozen=True)
class Computer:
    """
    What the command line says of the computer to emulate.

    :param execution: 'serial' or 'parallel'.
    :param costs: File with the seconds of every node; None for nodes that cost alike.
    :param pass_periods: What a pass through all nodes costs, in camera periods; costs from a
        file are scaled to it. None to take them as they are.
    :param pipelined: Whether frames follow each other through a parallel device.
    """

    execution: str
    costs: Path | None = None
    pass_periods: float | None = None
    pipelined: bool = False


@dataclass(frozen=True)
class Timed:
    """A policy with its timing, and what that means for its commands."""

    path: str
    timeline: Timeline
    figures: Figures


def timed(paths: Sequence[str], computer: Computer, camera_period: float) -> list[Timed]:
    """
    Return when each policy answers on a computer.

    With ``pass_periods``, it is the policy with most to compute that takes so long.

    :raises TimingError: If a policy cannot run like that.
    :raises CostError: If the costs do not fit a policy's graph.
    """
    policies = [load_policy(path) for path in paths]
    costs = [load_costs(computer.costs, policy.network.graph) if computer.costs
             else equal_costs(policy.network.graph) for policy in policies]
    factor = 1.0
    if computer.pass_periods is not None:
        most = max(one.overhead + one.total() for one in costs)
        if not most:
            raise TimingError(f'{computer.costs}: all costs are 0 and cannot be scaled; leave '
                              '--pass-periods out, or write what nodes take')
        factor = computer.pass_periods * camera_period / most
    return [timed_policy(path, policy, scaled(one, factor), computer, camera_period)
            for path, policy, one in zip(paths, policies, costs)]


def timed_policy(path: str, policy: Policy, costs: NodeCosts, computer: Computer,
                 camera_period: float) -> Timed:
    """Return when one policy answers."""
    graph, pattern = policy.network.graph, policy.network.pattern
    candidate = Candidate(kind_of(graph, pattern), Rollout(
        graph, pattern, Device(costs, computer.execution, camera_period)),
        updates_per_frame=policy.updates_per_frame)
    try:
        timeline = timeline_of(candidate, computer.pipelined)
    except TimingError as error:
        raise TimingError(f'{path}: {error}') from None
    return Timed(path, timeline, figures_of(candidate, timeline))


def equal_costs(graph: GraphSpec) -> NodeCosts:
    """Return a second for every node."""
    return NodeCosts({node.name: 1.0 for node in graph.nodes if node.name not in graph.inputs})


def scaled(costs: NodeCosts, factor: float) -> NodeCosts:
    """Return costs on a slower or a faster computer."""
    return replace(costs, overhead=factor * costs.overhead, nodes={
        name: factor * seconds for name, seconds in costs.nodes.items()})


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
