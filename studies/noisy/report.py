"""The folder of results of a noisy experiment: text, numbers and pictures."""

from collections.abc import Iterable, Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
import numpy as np
from stream_agent.drawing.plot_style import (
    BLUE, FAINT, GREEN, INK, legend_outside, PURPLE, save, STYLE, VERMILION)
from studies.noisy.confusion import read_confusion, TemporalConfusion
from studies.noisy.experiments import Noisy
from studies.noisy.jobs import ExperimentJob, read_curve
from studies.noisy.results import (
    as_csv, as_data, by_network, collect, Curve, differences, estimate, published_curves, table)

SUFFIXES = ('.svg', '.png')
COLOURS = {'streaming': BLUE, 'sequential': VERMILION, 'hybrid': GREEN}
DASHES = {'streaming': '-', 'sequential': (0, (4, 1.5)), 'hybrid': (0, (5, 1, 1, 1))}
MARKERS = {'streaming': 'o', 'sequential': 's', 'hybrid': '^'}
MOST_COLUMNS = 4
# Columns of pixels between two matrices.
GAP = 1


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


def draw_curves(curves: Sequence[Curve], published: Sequence[Curve], paths: Sequence[Path],
                against: str = 'steps') -> None:
    """
    Draw accuracies of every network over the published ones.

    :param paths: Files to write; the suffix says of which kind.
    :param against: 'steps' for update steps, in which an output holds until the next; 'frames'.
    """
    networks, theirs = by_network(curves), by_network(published)
    columns = min(MOST_COLUMNS, len(networks))
    rows = -(-len(networks) // columns)
    with rc_context({**STYLE, 'font.size': 9.5}):
        figure = Figure(figsize=(1 + 3.6 * columns, 0.6 + 3.1 * rows), layout='constrained')
        grid = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        for axes in grid[len(networks):]:
            axes.remove()
        for axes, (network, rollouts) in zip(grid, networks.items()):
            for curve in (theirs.get(network, {}).values() if against == 'steps' else ()):
                draw_published(axes, curve)
            for curve in rollouts.values():
                draw_curve(axes, curve, getattr(curve, against), held=against == 'steps')
            axes.set(title=network, ylabel='test accuracy [%]' if axes is grid[0] else '',
                     xlabel='update step' if against == 'steps' else 'frame')
            axes.xaxis.get_major_locator().set_params(integer=True)
        handles = {label: handle for axes in figure.axes
                   for handle, label in zip(*axes.get_legend_handles_labels())}
        legend_outside(figure, 'lower left', handles=list(handles.values()),
                       labels=list(handles), ncols=3)
        figure.set_label(f'accuracy by {"update step" if against == "steps" else "frame"}')
        for path in paths:
            save(figure, path)


def draw_curve(axes: Axes, curve: Curve, places: Sequence[int], held: bool) -> None:
    """Draw one curve with its intervals."""
    name = curve.rollout
    colour = COLOURS.get(name, PURPLE)
    means = [estimate(100 * values) for values in curve.accuracy.T]
    values = [value.mean for value in means]
    if len(curve.seeds) > 1:
        axes.errorbar(places, values, yerr=[value.high - value.mean for value in means],
                      color=colour, linestyle='none', capsize=2, linewidth=1)
    axes.plot(places, values, color=colour, linestyle=DASHES.get(name, ':'), linewidth=1.5,
              drawstyle='steps-post' if held else 'default', label=name)
    axes.plot(places, values, color=colour, marker=MARKERS.get(name, 'D'), markersize=4,
              linestyle='none')


def draw_published(axes: Axes, curve: Curve) -> None:
    """Draw one of the paper's curves, faintly."""
    axes.plot(curve.steps, 100 * curve.accuracy[0], color=COLOURS.get(curve.rollout, PURPLE),
              alpha=0.35, linewidth=4 if len(curve.steps) > 1 else 0, zorder=1,
              marker=MARKERS.get(curve.rollout, 'D'), markersize=8,
              label=f'{curve.rollout}, published')


def draw_confusion(network: str, confusions: Mapping[str, TemporalConfusion], path: Path) -> None:
    """
    Draw the matrices of a network's rollouts side by side, one for every frame since the change.

    :param confusions: By rollout.
    """
    rows = [(rollout, which) for rollout in confusions for which in ('new', 'old')]
    delays = max(len(found.steps) for found in confusions.values())
    with rc_context({**STYLE, 'font.size': 9, 'axes.grid': False}):
        figure = Figure(figsize=(1.2 + 1.3 * delays, 0.6 + 1.75 * len(rows)), layout='constrained')
        for axes, (rollout, which) in zip(figure.subplots(len(rows), squeeze=False).flat, rows):
            draw_matrices(axes, confusions[rollout], which, delays)
            axes.set_ylabel(f'{rollout}\n{which} class', color=COLOURS.get(rollout, INK))
        title = (f'{network}: told class (across) against the class shown now (new) and before '
                 'the change (old)')
        figure.suptitle(title)
        figure.set_label(title)
        save(figure, path)


def draw_matrices(axes: Axes, found: TemporalConfusion, which: str, delays: int) -> None:
    """
    Draw the matrices of all delays in one picture; a row of one goes from 0 %, white, to 100 %.

    :param delays: How many the picture has room for.
    """
    counts = getattr(found, which)
    classes = counts.shape[1]
    width = classes + GAP
    shares = np.full((classes, delays * width - GAP), np.nan)
    for delay, matrix in enumerate(counts):
        shares[:, delay * width:delay * width + classes] = matrix / np.maximum(
            1, matrix.sum(axis=1, keepdims=True))
    axes.imshow(np.ma.masked_invalid(shares), cmap='Blues', vmin=0, vmax=1,
                interpolation='nearest', aspect='equal')
    right = np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))
    axes.set_xticks(np.arange(len(counts)) * width + classes / 2 - 0.5, [
        f'frame {delay}, step {step}\n{100 * share:.0f} %'
        for delay, (step, share) in enumerate(zip(found.steps, right))], fontsize=8)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for delay in range(len(counts)):
        axes.add_patch(Rectangle((delay * width - 0.5, -0.5), classes, classes, fill=False,
                                 edgecolor=FAINT, linewidth=0.7))
