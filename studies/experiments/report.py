"""The folder of results of a noisy experiment: text, numbers and pictures."""

from collections.abc import Iterable, Sequence
import json
from pathlib import Path
from typing import Any

import numpy as np
from studies.experiments.confusion import read_confusion, TemporalConfusion
from studies.experiments.jobs import ExperimentJob, read_curve
from studies.experiments.noisy import Noisy
from studies.experiments.pictures import draw_confusion, draw_curves
from studies.experiments.results import (
    as_csv, as_data, collect, Curve, differences, published_curves, table)

SUFFIXES = ('.svg', '.png')


def write_report(experiment: Noisy, jobs: Sequence[ExperimentJob], output: Path
                 ) -> tuple[str, dict]:
    """
    Write what the finished trainings have found.

    :returns: The text, and the same for programs.
    """
    found = [(job, curve) for job in jobs if (curve := read_curve(job))]
    curves = collect(curve for _, curve in found)
    published = published_curves() if experiment.has_figure else []
    changes = differences(curves, published)
    confusions = joined(job for job, _ in found)
    data = {'experiment': experiment.title, **as_data(curves, changes),
            'trainings': {'finished': len(found), 'asked_for': len(jobs)},
            'confusion': confusion_data(confusions)}
    text = '\n'.join([
        f'{experiment.title}: {len(found)} of {len(jobs)} trainings', *schedule_of(found), '',
        table(curves, changes, published), *confusion_lines(confusions)]).rstrip()
    (output / 'summary.txt').write_text(text + '\n')
    (output / 'results.json').write_text(json.dumps(data, indent=1) + '\n')
    (output / 'curves.csv').write_text(as_csv(curves))
    if found:
        draw(curves, published, confusions, output)
    return text, data


def draw(curves: Sequence[Curve], published: Sequence[Curve],
         confusions: dict[str, dict[str, TemporalConfusion]], output: Path) -> None:
    """Write the pictures."""
    draw_curves(curves, published, files(output / 'accuracy'))
    draw_curves(curves, [], files(output / 'accuracy_by_frame'), against='frames')
    for network, rollouts in confusions.items():
        draw_confusion(network, rollouts, output / f'confusion_{network}.png')


def files(stem: Path) -> list[Path]:
    """Return the files of a picture."""
    return [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]


def schedule_of(found: Sequence[tuple[ExperimentJob, dict[str, Any]]]) -> list[str]:
    """Say how the networks were trained, and how long that took."""
    if not found:
        return []
    job, curve = found[0]
    schedule, seconds = job.schedule, [curve['training_s'] for _, curve in found]
    return [f'{schedule.epochs:g} epochs of batches of {schedule.batch}, {schedule.optimiser} at '
            f'{schedule.learning_rate:g} ({schedule.decay} decay), on {job.device}; tested on '
            f"{curve['test_clips']} clips", f'{np.median(seconds):.0f} s a training (median), '
            f'{sum(seconds):.0f} s together; {curve["machine"]}']


def joined(jobs: Iterable[ExperimentJob]) -> dict[str, dict[str, TemporalConfusion]]:
    """Return the matrices of finished trainings by network and rollout, added over seeds."""
    found: dict[str, dict[str, TemporalConfusion]] = {}
    for job in jobs:
        rollouts, one = found.setdefault(job.network, {}), read_confusion(job.confusion)
        rollouts[job.rollout] = (rollouts[job.rollout].added_to(one)
                                 if job.rollout in rollouts else one)
    return found


def confusion_data(confusions: dict[str, dict[str, TemporalConfusion]]) -> list[dict[str, Any]]:
    """Return the matrices for programs."""
    return [{'network': network, 'rollout': rollout, 'update_steps': found.steps.tolist(),
             'new': found.new.tolist(), 'old': found.old.tolist()}
            for network, rollouts in confusions.items() for rollout, found in rollouts.items()]


def confusion_lines(confusions: dict[str, dict[str, TemporalConfusion]]) -> list[str]:
    """Write how often the new and the old class are told, for every frame since the change."""
    lines = []
    for network, rollouts in confusions.items():
        lines += ['', f'{network}: told after the image has changed [%], by frame since then']
        for rollout, found in rollouts.items():
            for which, shares in zip(('new', 'old'), found.accuracies()):
                lines.append(f'  {f"{rollout}, {which} class":<24}'
                             + ''.join(f'{100 * share:>6.1f}' for share in shares))
            lines.append(f'  {"  at update step":<24}'
                         + ''.join(f'{step:>6}' for step in found.steps))
    return lines
