"""What trainings have found, together: curves with intervals, differences, and files of them."""

from collections.abc import Iterable, Mapping
import csv
from dataclasses import dataclass
import io
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as students_t
from stream_agent.measurement.bootstrap import CONFIDENCE
from stream_agent.share import share_folder

PLATEAU = 4
PUBLISHED = 'config/published/streaming_rollouts_2018.csv'


@dataclass(frozen=True)
class Curve:
    """
    Accuracies of one rollout of a network.

    :param frames: Of the outputs; empty if unknown.
    :param steps: Update steps at which the outputs are there.
    :param seeds: One for each row of ``accuracy``.
    :param accuracy: (seeds, outputs).
    """

    network: str
    rollout: str
    frames: list[int]
    steps: list[int]
    seeds: list[int]
    accuracy: np.ndarray

    @property
    def title(self) -> str:
        """For people."""
        return f'{self.network} {self.rollout}'


class Estimate(NamedTuple):
    """A mean over seeds and its 95 % interval; nan for the interval of a single seed."""

    mean: float
    low: float
    high: float


def estimate(values: np.ndarray) -> Estimate:
    """
    Return the mean over seeds with Student's interval.

    :param values: (seeds,).
    """
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return Estimate(mean, np.nan, np.nan)
    reach = float(students_t.ppf(0.5 + CONFIDENCE / 2, count - 1)
                  * np.std(values, ddof=1) / np.sqrt(count))
    return Estimate(mean, mean - reach, mean + reach)


def collect(found: Iterable[Mapping[str, Any]]) -> list[Curve]:
    """Put the curves of the same network and rollout together, in the order of the first ones."""
    groups: dict[tuple[str, str], list] = {}
    for curve in found:
        groups.setdefault((curve['network'], curve['rollout']), []).append(curve)
    return [Curve(network, rollout, group[0]['frames'], group[0]['steps'],
                  [curve['seed'] for curve in group],
                  np.array([curve['accuracy'] for curve in group]))
            for (network, rollout), group in groups.items()]


def published_curves() -> list[Curve]:
    """Return the curves of the paper's figures."""
    points: dict[tuple[str, str], list[tuple[int, float]]] = {}
    with (share_folder() / PUBLISHED).open() as file:
        for row in csv.DictReader(line for line in file if not line.startswith('#')):
            points.setdefault((row['network'], row['rollout']), []).append(
                (int(row['update_step']), float(row['accuracy'])))
    return [Curve(*key, [], [step for step, _ in curve], [0],
                  np.array([[value for _, value in curve]])) for key, curve in points.items()]


class AccuracyDifference(NamedTuple):
    """
    Points of accuracy by which one rollout is ahead of another.

    :param question: What is compared.
    :param here: Over the seeds that both have.
    :param published: The same of the paper's figures; None if they do not tell.
    """

    network: str
    question: str
    here: Estimate
    published: float | None


def differences(curves: Iterable[Curve], published: Iterable[Curve]) -> list[AccuracyDifference]:
    """Compare the streaming rollout of every network with the sequential one."""
    ours, theirs = by_network(curves), by_network(published)
    found = []
    for network, rollouts in ours.items():
        if not {'streaming', 'sequential'} <= rollouts.keys():
            continue
        here = compared(rollouts)
        there = compared(theirs.get(network, {}))
        found += [AccuracyDifference(network, question, estimate(100 * values),
                                     float(100 * there[question][0])
                                     if question in there else None)
                  for question, values in here.items()]
    return found


def by_network(curves: Iterable[Curve]) -> dict[str, dict[str, Curve]]:
    """Return the curves by network and rollout."""
    found: dict[str, dict[str, Curve]] = {}
    for curve in curves:
        found.setdefault(curve.network, {})[curve.rollout] = curve
    return found


def compared(rollouts: Mapping[str, Curve]) -> dict[str, np.ndarray]:
    """Return differences by what they tell, for every seed that both rollouts have."""
    if not {'streaming', 'sequential'} <= rollouts.keys():
        return {}
    streaming, sequential = rollouts['streaming'], rollouts['sequential']
    seeds = [seed for seed in streaming.seeds if seed in sequential.seeds]
    fast, slow = (np.array([curve.accuracy[curve.seeds.index(seed)] for seed in seeds])
                  for curve in (streaming, sequential))
    if not seeds:
        return {}
    step = sequential.steps[0]
    at_step = np.array([held(streaming.steps, row, step)[-1] for row in fast])
    found = {f'streaming - sequential at update step {step}': at_step - slow[:, 0]}
    count = min(fast.shape[1], slow.shape[1])
    if count >= PLATEAU:
        last = fast[:, -PLATEAU:].mean(axis=1) - slow[:, -PLATEAU:].mean(axis=1)
        found |= {f'streaming - sequential, last {PLATEAU} outputs': last,
                  'sequential - streaming by output, mean':
                      (slow[:, :count] - fast[:, :count]).mean(axis=1)}
    return found


def held(steps: list[int], values: np.ndarray, until: int) -> np.ndarray:
    """
    Return a value for every update step: an output holds until the next one is there.

    :param steps: When the values are there, ascending.
    :param values: (outputs,).
    :param until: The last update step.
    :returns: For the update steps 1 to ``until``; nan before the first value.
    """
    newest = np.searchsorted(steps, np.arange(1, until + 1), side='right') - 1
    return np.where(newest < 0, np.nan, np.asarray(values, float)[newest])


def table(curves: Iterable[Curve], changes: Iterable[AccuracyDifference],
          published: Iterable[Curve]) -> str:
    """Write curves and differences for people."""
    theirs = {(curve.network, curve.rollout): curve for curve in published}
    lines = []
    for curve in curves:
        lines += [f'{curve.title}, {counted_seeds(len(curve.seeds))}',
                  row('  update step', curve.steps, '{:d}'),
                  row('  accuracy [%]', 100 * curve.accuracy.mean(axis=0), '{:.1f}')]
        if len(curve.seeds) > 1:
            reach = [estimate(100 * values) for values in curve.accuracy.T]
            lines.append(row('  95 % +-', [e.high - e.mean for e in reach], '{:.1f}'))
        paper = theirs.get((curve.network, curve.rollout))
        if paper:
            values = dict(zip(paper.steps, 100 * paper.accuracy[0]))
            lines.append(row('  published', [values.get(step) for step in curve.steps], '{:.1f}'))
        lines.append('')
    width = max([0, *(len(f'{d.network}: {d.question}') for d in changes)])
    lines += [f'{f"{d.network}: {d.question}":<{width}}  {interval(d.here)} points'
              + (f'  (published {d.published:+.1f})' if d.published is not None else '')
              for d in changes]
    return '\n'.join(lines).rstrip()


def row(title: str, values: Iterable[Any], form: str) -> str:
    """Write a row of numbers; a dash for what is unknown."""
    return f'{title:<15}' + ''.join(
        f'{"-" if value is None else form.format(value):>7}' for value in values)


def interval(value: Estimate) -> str:
    """Write an estimate."""
    if np.isnan(value.low):
        return f'{value.mean:+.1f}'
    return f'{value.mean:+.1f} ({value.low:+.1f} to {value.high:+.1f})'


def counted_seeds(number: int) -> str:
    """Write how many seeds there are."""
    return f'{number} seeds' if number > 1 else '1 seed (no interval)'


def as_data(curves: Iterable[Curve], changes: Iterable[AccuracyDifference]) -> dict[str, Any]:
    """Return curves and differences for programs; what is unknown is None."""
    return {
        'curves': [{
            'network': curve.network, 'rollout': curve.rollout, 'seeds': curve.seeds,
            'outputs': [{'frame': frame, 'update_step': step, **known(estimate(values)._asdict())}
                        for frame, step, values in zip(curve.frames, curve.steps,
                                                       curve.accuracy.T)]} for curve in curves],
        'differences': [{'network': d.network, 'question': d.question,
                         'points': known(d.here._asdict()), 'published': d.published}
                        for d in changes]}


def known(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return values of JSON, which has no nan."""
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def as_csv(curves: Iterable[Curve]) -> str:
    """Write every accuracy in a line of its own."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['network', 'rollout', 'seed', 'frame', 'update_step', 'accuracy'])
    for curve in curves:
        for seed, accuracies in zip(curve.seeds, curve.accuracy):
            for frame, step, value in zip(curve.frames, curve.steps, accuracies):
                writer.writerow([curve.network, curve.rollout, seed, frame, step, f'{value:.4f}'])
    return file.getvalue()
