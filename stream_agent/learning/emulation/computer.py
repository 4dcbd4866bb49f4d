"""A computer to emulate, and when rollouts answer on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from stream_agent.learning.emulation.figures import Figures, figures_of
from stream_agent.learning.emulation.timeline import Timeline, timeline_of, TimingError
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Pattern
from stream_agent.theory.planning.candidates import Candidate, Device, kind_of, Rollout
from stream_agent.theory.planning.costs import load_costs, NodeCosts


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

    def __str__(self) -> str:
        parts = [f'{self.execution} device']
        if self.pass_periods is not None:
            parts.append(f'{self.pass_periods:g} camera periods a pass')
        if self.costs is not None:
            parts.append(f'costs of {self.costs}')
        return ', '.join(parts + ['pipelined'] * self.pipelined)


class Run(NamedTuple):
    """
    A rollout that the computer is to run.

    :param name: For errors.
    :param updates_per_frame: Update steps for which every image is held.
    """

    name: str
    graph: GraphSpec
    pattern: Pattern
    updates_per_frame: int = 1


class Timing(NamedTuple):
    """When a run takes and answers images, and what that means for its commands."""

    timeline: Timeline
    figures: Figures

    @property
    def aim(self) -> float:
        """Seconds from an answer to the middle of the time that it is in force."""
        return 0.5 / self.figures.rate


def timings(runs: Sequence[Run], computer: Computer, camera_period: float) -> list[Timing]:
    """
    Return when each run answers on a computer.

    With ``pass_periods``, it is the run with most to compute that takes so long.

    :raises OSError: If the costs cannot be read.
    :raises CostError: If they do not fit a graph.
    :raises TimingError: If a rollout cannot run like that.
    """
    costs = [load_costs(computer.costs, run.graph) if computer.costs else equal_costs(run.graph)
             for run in runs]
    factor = 1.0
    if computer.pass_periods is not None:
        most = max(one.overhead + one.total() for one in costs)
        if not most:
            raise TimingError(f'{computer.costs}: all costs are 0 and cannot be scaled; leave '
                              '--pass-periods out, or write what nodes take')
        factor = computer.pass_periods * camera_period / most
    return [timing_of(run, Device(scaled(one, factor), computer.execution, camera_period),
                      computer.pipelined) for run, one in zip(runs, costs)]


def timing_of(run: Run, device: Device, pipelined: bool) -> Timing:
    """Return when one run answers."""
    candidate = Candidate(kind_of(run.graph, run.pattern), Rollout(run.graph, run.pattern, device),
                          updates_per_frame=run.updates_per_frame)
    try:
        timeline = timeline_of(candidate, pipelined)
    except TimingError as error:
        raise TimingError(f'{run.name}: {error}') from None
    return Timing(timeline, figures_of(candidate, timeline))


def equal_costs(graph: GraphSpec) -> NodeCosts:
    """Return a second for every node."""
    return NodeCosts({node.name: 1.0 for node in graph.nodes if node.name not in graph.inputs})


def scaled(costs: NodeCosts, factor: float) -> NodeCosts:
    """Return costs on a slower or a faster computer."""
    return replace(costs, overhead=factor * costs.overhead, nodes={
        name: factor * seconds for name, seconds in costs.nodes.items()})
