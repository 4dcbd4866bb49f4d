"""
What timing alone allows: the expert drives with the ages of information that a scheme has.

A perfect learner sees in every image all that the expert knows. It steers by the newest
information and takes the speed from the deep information, for a glyph is not read without all
layers. So its score is what no training of the scheme can surpass by more than foresight; it takes
seconds, and tells before any training whether a task tells schemes apart.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from stream_agent.command import Command
from stream_agent.driving.compute_model import figures_of, Timeline
from stream_agent.driving.drivers import Driver
from stream_agent.driving.drives import drive_trial, RoadTask, Trial
from stream_agent.simulation.environment import SimulatedFrame
from stream_agent.simulation.signs import SPEEDS
from stream_agent.theory.information import ages_of_nodes, memory_edges
from stream_agent.theory.planning.candidates import Candidate

# What a driver that cannot read signs drives at [m/s].
UNTOLD = sum(SPEEDS) / len(SPEEDS)
# Ages in taken frames that are remembered.
LONGEST_AGE = 64


class PerfectLearner(Driver):
    """
    Commands what the expert would have, had it known no more than a scheme's output does.

    The yaw rate is the newest information's curvature at the speed of the deep information.

    :param reads: Whether the scheme has the layers that read signs.
    """

    sees = False

    def __init__(self, candidate: Candidate, count: int, reads: bool = True) -> None:
        self._ages = ages_of_answers(candidate)
        self._past = [deque[Command]([], LONGEST_AGE) for _ in range(count)]
        self._reads = reads

    def commands(self, frames: Sequence[SimulatedFrame], known: Sequence[Sequence[Command]],
                 start: float) -> list[Command]:
        newest, deep = next(self._ages)
        answers = []
        for frame, past in zip(frames, self._past):
            past.appendleft(frame.reference)
            # Shortly after a start, the oldest that there is.
            seen, told = (past[int(min(age, len(past) - 1))] for age in (newest, deep))
            speed = told.speed if self._reads else UNTOLD
            answers.append(Command(speed, speed * seen.yaw_rate / seen.speed))
        return answers

    def forget(self, index: int) -> None:
        self._past[index].clear()


def ages_of_answers(candidate: Candidate) -> Iterator[tuple[float, float]]:
    """Yield how many taken frames old the newest and the deep information of every answer is."""
    graph, pattern = candidate.rollout.graph, candidate.rollout.pattern
    updates = candidate.updates_per_frame
    memory = memory_edges(graph)
    newest, deep = (
        (ages[graph.output] // updates for ages in islice(
            ages_of_nodes(graph, edges, choose), updates - 1, None, updates))
        for edges, choose in ((pattern, min), (
            {edge: r for edge, r in pattern.items() if edge not in memory}, max)))
    for one, other in zip(newest, deep):
        yield one, max(one, other)


class TimedScheme(NamedTuple):
    """
    A scheme on a computer.

    :param name: In tables.
    :param ratio: Cost of a pass through the whole network, in camera periods.
    :param reads: Whether it has the layers that read signs.
    """

    name: str
    ratio: float
    candidate: Candidate
    timeline: Timeline
    reads: bool = True


def bound(scheme: TimedScheme, trial: Trial) -> list[RoadTask]:
    """Drive the perfect learner of a scheme; the settings of the trial have signs."""
    learner = PerfectLearner(scheme.candidate, len(trial.seeds), scheme.reads)
    drives = drive_trial(learner, scheme.timeline, trial)
    return [drive for drive in drives if isinstance(drive, RoadTask)]


def bound_row(scheme: TimedScheme, trial: Trial) -> dict[str, Any]:
    """Return the figures of ``bound``, named as in rows of trained schemes."""
    drives = bound(scheme, trial)
    figures = figures_of(scheme.candidate, scheme.timeline)
    errors = [error for drive in drives for error in drive.speed_errors]
    seconds = sum(len(drive.lateral_errors) for drive in drives) / trial.settings.rate
    return {
        'scheme': scheme.name, 'kind': scheme.name,
        'device': scheme.candidate.rollout.device.execution, 'r': scheme.ratio,
        'newest_s': figures.newest, 'deep_s': figures.deep, 'latency_s': figures.latency,
        'rate_hz': figures.rate,
        'task_score': 100 * float(np.mean([drive.score for drive in drives])),
        'lateral_rms': float(np.sqrt(np.mean([drive.lateral_rms ** 2 for drive in drives]))),
        'speed_rms': float(np.sqrt(np.mean(np.square(errors)))),
        'departures_per_minute': 60 * sum(drive.departures for drive in drives) / seconds,
        'signs_obeyed': 100 * float(np.mean([drive.signs_obeyed for drive in drives]))}


HEADER = ('r', 'device', 'scheme', 'newest ms', 'deep ms', 'answers/s', 'score %', 'RMS mm',
          'departures/min', 'signs %')


def bounds_table(rows: Sequence[Mapping[str, Any]], markdown: bool = False) -> str:
    """Write rows of ``bound_row`` as a table, a line each."""
    lines = [HEADER, *((
        f"{row['r']:g}", row['device'], row['scheme'], f"{1e3 * row['newest_s']:.0f}",
        f"{1e3 * row['deep_s']:.0f}", f"{row['rate_hz']:.0f}", f"{row['task_score']:.1f}",
        f"{1e3 * row['lateral_rms']:.0f}", f"{row['departures_per_minute']:.1f}",
        f"{row['signs_obeyed']:.0f}") for row in rows)]
    if markdown:
        return '\n'.join('| ' + ' | '.join(line) + ' |' for line in (
            lines[0], ['---'] * len(HEADER), *lines[1:]))
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join('  '.join(
        cell.ljust(width) if place in (1, 2) else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)
