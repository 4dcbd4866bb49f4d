"""The model of a computer: when rollouts on it take images, and when they answer them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice, takewhile
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from stream_agent.bounded_settings import BoundedSettings, choice, file_path, quantity
from stream_agent.graph_files.graph_file import load_costs
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import ages_of_nodes, memory_edges
from stream_agent.theory.patterns import Pattern
from stream_agent.theory.planning.candidates import (
    Candidate, Device, EXECUTIONS, kind_of, PARALLEL, Rollout, SERIAL)
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.rollout import response_cone

# Shares of a camera period that differ by less are one instant.
SAME_INSTANT = 1e-6
# Seconds that the expert drives after a start, until a late network knows where it is.
HANDOVER = 1.0
# Rounds of a schedule over which means are taken, after as many in which ages settle.
ROUNDS, FEWEST_FRAMES = 20, 400


class TimingError(ValueError):
    """A rollout that cannot run as the compute model asks; the message says why."""


class Work(NamedTuple):
    """
    The durations of one frame's work on a computer [s].

    :param response: From the start of the frame until its answer is out.
    :param busy: From the start until the computer takes the next frame.
    """

    response: float
    busy: float


class Taken(NamedTuple):
    """
    An image that the computer took; times in seconds, image 0 comes at 0.

    :param image: Its number among all images of the camera.
    :param start: When the work on it began.
    :param answer: When its answer is out.
    """

    image: int
    start: float
    answer: float


@dataclass(frozen=True)
class Timeline:
    """
    The images that a computer takes, in order and without end.

    :param work: Of the frames 1, 2, ... that it takes; repeats.
    :param camera_period: Seconds between two images.
    """

    work: tuple[Work, ...]
    camera_period: float

    def __iter__(self) -> Iterator[Taken]:
        free, last = 0.0, -1
        for work in cycle(self.work):
            image = self.newest(free, last)
            start = max(free, image * self.camera_period)
            yield Taken(image, start, start + work.response)
            free, last = start + work.busy, image

    def newest(self, free: float, last: int) -> int:
        """Return which image is taken by a computer that is free from a time on [s]."""
        return max(math.floor(free / self.camera_period + SAME_INSTANT), last + 1)

    def images_within(self, seconds: float) -> int:
        """Return how many images are taken of those that come before a time."""
        images = math.ceil(seconds / self.camera_period - SAME_INSTANT)
        return sum(1 for _ in takewhile(lambda taken: taken.image < images, self))


def immediate(camera_period: float) -> Timeline:
    """Return the timeline of a computer that needs no time for an answer."""
    return Timeline((Work(0.0, 0.0),), camera_period)


def timeline_of(candidate: Candidate, pipelined: bool = False) -> Timeline:
    """
    Return when a rollout takes and answers images on the device it was planned for.

    :param pipelined: Whether a frame may follow the one before as soon as the most expensive
        node is free; only on a parallel device.
    :raises TimingError: If device or pattern allow no pipelining.
    """
    rollout, device = candidate.rollout, candidate.rollout.device
    if pipelined and device.execution != PARALLEL:
        raise TimingError('a serial device works on one node at a time and pipelines nothing; '
                          'choose the parallel device or leave pipelining out')
    for (u, v), r in rollout.pattern.items():
        if pipelined and r and u != v:
            raise TimingError(f"the edge '{u}->{v}' streams, so a frame waits for the one before; "
                              'only patterns whose self-edges alone stream are pipelined')
    return Timeline(tuple(frame_work(candidate, frame, pipelined)
                          for frame in range(rollout.graph.hyperperiod)), device.camera_period)


def frame_work(candidate: Candidate, frame: int, pipelined: bool) -> Work:
    """Return the work of a frame, 0 being the first; its last update step answers."""
    rollout, updates = candidate.rollout, candidate.updates_per_frame
    graph, pattern, device = rollout.graph, rollout.pattern, rollout.device
    steps = [device.seconds(graph, pattern, [
        node.name for node in graph.nodes
        if node.name not in graph.inputs and node.updates_at(frame * updates + i)])
        for i in range(1, updates + 1)]
    cone = device.seconds(graph, pattern,
                          response_cone(graph, pattern, (frame + 1) * updates))
    busy = updates * max(device.costs.nodes.values()) if pipelined else sum(steps)
    overhead = device.costs.overhead
    return Work(overhead + sum(steps[:-1]) + cone, overhead + busy)


class TimingFigures(NamedTuple):
    """
    What a timeline means for the commands: means over time [s], unless said otherwise.

    :param latency: From an image to its answer, including the wait.
    :param newest: Age of the newest information in the command in force.
    :param deep: Age of the information that came through most layers.
    :param rate: Answers a second.
    :param dropped: Share of images that were not taken.
    """

    latency: float
    newest: float
    deep: float
    rate: float
    dropped: float


def figures_of(candidate: Candidate, timeline: Timeline) -> TimingFigures:
    """Return the figures of a timeline, followed until they have settled."""
    graph, pattern = candidate.rollout.graph, candidate.rollout.pattern
    forward = {edge: r for edge, r in pattern.items() if edge not in memory_edges(graph)}
    count = max(FEWEST_FRAMES, 2 * ROUNDS * len(timeline.work))
    taken = list(islice(timeline, count))
    ages = {}
    for name, edges, choose in (('newest', pattern, min), ('deep', forward, max)):
        updates = islice(ages_of_nodes(graph, edges, choose),
                         candidate.updates_per_frame * count)
        ages[name] = [known[graph.output] // candidate.updates_per_frame for known in updates
                      ][candidate.updates_per_frame - 1::candidate.updates_per_frame]
    # The deep information is never younger than the newest, even where only memory is deep.
    ages['deep'] = np.maximum(ages['deep'], ages['newest']).tolist()
    half = slice(count // 2, count)
    span = taken[-1].answer - taken[half][0].answer
    return TimingFigures(
        float(np.mean([one.answer - one.image * timeline.camera_period for one in taken[half]])),
        mean_age(taken, ages['newest'], timeline.camera_period),
        mean_age(taken, ages['deep'], timeline.camera_period),
        (len(taken[half]) - 1) / span,
        1 - (len(taken) - 1) / (taken[-1].image or 1))


def mean_age(taken: list[Taken], ages: Sequence[float], period: float) -> float:
    """Return the mean age over time of the command in force [s], from ``ages`` in frames."""
    total = spent = 0.0
    for i in range(len(taken) // 2, len(taken) - 1):
        out, next_out = taken[i].answer, taken[i + 1].answer
        captured = taken[i - int(ages[i])].image * period
        total += (next_out - out) * ((out + next_out) / 2 - captured)
        spent += next_out - out
    return total / spent


@dataclass(frozen=True)
class ComputeModel(BoundedSettings):
    """A computer to emulate, and how long it works on every node."""

    execution: str = choice(SERIAL, 'one node after the other, or every node on a device of its '
                            'own', EXECUTIONS)
    costs: Path | None = file_path(
        None, 'seconds of the nodes, as `plan --save-costs` writes them; without it, all nodes '
        'cost the same')
    pass_periods: float | None = quantity(
        None, 'camera periods', 1e-6, 1e6, 'what a pass through all nodes costs; costs of a file '
        'are scaled to it', whole=False)
    pipelined: bool = choice(False, 'let a frame follow the one before through a parallel device, '
                             'as soon as the most expensive node is free')

    def __str__(self) -> str:
        parts = [f'{self.execution} device']
        if self.pass_periods is not None:
            parts.append(f'{self.pass_periods:g} camera periods a pass')
        if self.costs is not None:
            parts.append(f'costs of {self.costs}')
        return ', '.join(parts + ['pipelined'] * self.pipelined)


class EmulatedRollout(NamedTuple):
    """
    A rollout that the emulated computer runs.

    :param name: For errors, such as the policy's path.
    :param updates_per_frame: Update steps for which every image is held.
    """

    name: str
    graph: GraphSpec
    pattern: Pattern
    updates_per_frame: int = 1


class EmulatedTiming(NamedTuple):
    """When the rollout of a name answers images, and what that means for its commands."""

    name: str
    timeline: Timeline
    figures: TimingFigures


def timings(runs: Sequence[EmulatedRollout], compute_model: ComputeModel, camera_period: float
            ) -> list[EmulatedTiming]:
    """
    Return when each run answers on a computer.

    With ``pass_periods``, the run with most to compute takes that long, or the whole graph of
    which the file of costs speaks. Without such a file, all nodes cost the same.

    :raises OSError: If the costs cannot be read.
    :raises CostError: If they do not fit a graph.
    :raises TimingError: If a rollout cannot run like that.
    """
    costs = scaled_costs([run.graph for run in runs], compute_model, camera_period)
    return [timing_of(run, Device(cost, compute_model.execution, camera_period),
                      compute_model.pipelined) for run, cost in zip(runs, costs)]


def scaled_costs(graphs: Sequence[GraphSpec], compute_model: ComputeModel, camera_period: float
                 ) -> list[NodeCosts]:
    """Return what the nodes of each graph take on a computer; errors as of ``timings``."""
    costs = [load_costs(compute_model.costs, graph, part=True) if compute_model.costs else
             NodeCosts({node.name: 1.0 for node in graph.nodes if node.name not in graph.inputs})
             for graph in graphs]
    factor = 1.0
    if compute_model.pass_periods is not None:
        most = max(one.overhead + one.total() + one.elsewhere for one in costs)
        if not most:
            raise TimingError(f'{compute_model.costs}: all costs are 0 and cannot be scaled; '
                              'leave pass_periods out, or give the durations of the nodes')
        factor = compute_model.pass_periods * camera_period / most
    return [replace(cost, overhead=factor * cost.overhead, nodes={
        name: factor * seconds for name, seconds in cost.nodes.items()}) for cost in costs]


def timing_of(run: EmulatedRollout, device: Device, pipelined: bool) -> EmulatedTiming:
    """Return when one run answers."""
    candidate = Candidate(kind_of(run.graph, run.pattern), Rollout(run.graph, run.pattern, device),
                          updates_per_frame=run.updates_per_frame)
    try:
        timeline = timeline_of(candidate, pipelined)
    except TimingError as error:
        raise TimingError(f'{run.name}: {error}') from None
    return EmulatedTiming(run.name, timeline, figures_of(candidate, timeline))
