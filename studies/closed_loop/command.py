"""
Which rollout drives best on which computer: training and driving under emulated timing.

Every scheme is trained under the very timing that it will have, with the same budget, and then
drives held-out courses. Finished rows are kept in a folder, and a second call resumes.
"""

import argparse
from collections.abc import Sequence
import hashlib
import json
import os
from pathlib import Path
import sys
import time
from typing import NamedTuple

from stream_agent.cli.arguments import check_folder, positive
from stream_agent.learning.worker_pool import run_side_by_side
from stream_agent.measurement.machine import show
from stream_agent.theory.planning.candidates import PARALLEL, SERIAL
from studies.closed_loop.picture import draw
from studies.closed_loop.schemes import KINDS, OURS, Scheme, schemes
from studies.closed_loop.study import FULL, QUICK, SETTINGS, study_id, study_row, StudyBudget
from studies.closed_loop.tables import cells_of, SchemeResult, tables, verdicts

RATIOS = (0.16, 0.8, 1.6, 3.2, 6.4)


class StudyJob(NamedTuple):
    """A row to be made, in a process of its own."""

    scheme: Scheme
    seed: int
    budget: StudyBudget
    path: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the options of the study."""
    parser.add_argument('--quick', action='store_true', help='a few minutes: sequential and '
                        'streaming at two costs, briefly trained once; shows that it works, and '
                        'not who wins')
    parser.add_argument('--ratios', nargs='+', type=float, default=None, metavar='R',
                        help='costs of a pass, in camera periods (0.16 0.8 1.6 3.2 6.4)')
    parser.add_argument('--devices', nargs='+', choices=(PARALLEL, SERIAL),
                        default=[PARALLEL, SERIAL])
    parser.add_argument('--schemes', nargs='+', choices=[
        *KINDS, *(f'{kind}+commands' for kind in KINDS)], default=None, metavar='NAME',
        help=f'some of {", ".join(KINDS)}, each also as NAME+commands (all)')
    parser.add_argument('--seeds', type=positive, default=None, help='trainings of each (3)')
    parser.add_argument('--effort', type=positive, default=1, help='times the usual training, to '
                        'see whether verdicts change (1)')
    parser.add_argument('--workers', type=positive, default=os.cpu_count(),
                        help='trainings side by side, a core each')
    parser.add_argument('--output', type=Path, default=Path('results/closed_loop'),
                        help='folder of rows and policies (results/closed_loop)')
    parser.add_argument('--minutes', type=float, default=float('inf'),
                        help='start no training after so many; call again to resume')
    parser.add_argument('--draw', type=Path, metavar='FILE', help='a picture: .svg or .png')
    parser.add_argument('--markdown', action='store_true', help='print tables of docs')
    parser.add_argument('--json', action='store_true', help='print figures for programs')


def chosen(arguments: argparse.Namespace) -> list[tuple[float, str, Scheme]]:
    """Return what is asked for; what is the same on both devices is there twice."""
    return [(ratio, device, scheme) for ratio in arguments.ratios for device in arguments.devices
            for scheme in schemes(ratio, device, SETTINGS.period)
            if not arguments.schemes or scheme.name in arguments.schemes]


def row_path(folder: Path, scheme: Scheme, seed: int, budget: StudyBudget) -> Path:
    """Return where a row is kept; another budget or task makes another row."""
    study = hashlib.sha256(study_id(budget).encode()).hexdigest()[:8]
    return folder / f'{study}-{scheme.key}-{seed}.json'


def missing(wanted: Sequence[tuple[float, str, Scheme]], arguments: argparse.Namespace,
            budget: StudyBudget) -> list[StudyJob]:
    """
    Return the rows that are not there yet, each once, those that matter most first.

    Own commands are of use where a pass is most expensive; elsewhere they come last, after all
    seeds of everything else.
    """
    highest = max(cost for cost, _, _ in wanted)
    jobs: dict[Path, tuple[tuple, StudyJob]] = {}
    for cost, _, scheme in wanted:
        for seed in range(1, arguments.seeds + 1):
            path = row_path(arguments.output, scheme, seed, budget)
            urgency = (scheme.commands and cost < highest, seed,
                       scheme.kind not in ('sequential', OURS))
            job = urgency, StudyJob(scheme, seed, budget, path)
            jobs[path] = min(jobs.get(path, job), job, key=lambda job: job[0])
    return [job for _, job in sorted(jobs.values(), key=lambda job: job[0])
            if not job.path.exists()]


def make(job: StudyJob) -> None:
    """Make one row and keep it; nothing is kept of a training that was stopped."""
    row = study_row(job.scheme, job.seed, job.budget, job.path.with_suffix('.safetensors'))
    if row is None:
        return
    unfinished = job.path.with_suffix('.part')
    unfinished.write_text(json.dumps(row))
    unfinished.replace(job.path)


def make_all(jobs: Sequence[StudyJob], arguments: argparse.Namespace) -> None:
    """Make rows side by side, a few at a time, and say how far it is."""
    start = time.perf_counter()
    for i in range(0, len(jobs), arguments.workers):
        minutes = (time.perf_counter() - start) / 60
        if minutes > arguments.minutes:
            break
        part = jobs[i:i + arguments.workers]
        run_side_by_side(make, part, arguments.workers)
        if not all(job.path.exists() for job in part):
            break
        print(f'{i + len(part)} of {len(jobs)} rows, {(time.perf_counter() - start) / 60:.1f} '
              'minutes', file=sys.stderr)


def found(wanted: Sequence[tuple[float, str, Scheme]], arguments: argparse.Namespace,
          budget: StudyBudget) -> list[SchemeResult]:
    """Read the rows that are there."""
    rows = {}
    for ratio, device, scheme in wanted:
        paths = [row_path(arguments.output, scheme, seed, budget)
                 for seed in range(1, arguments.seeds + 1)]
        rows[ratio, device, scheme.name] = scheme, [
            json.loads(path.read_text()) for path in paths if path.exists()]
    return cells_of(rows, SETTINGS.period)


def run(arguments: argparse.Namespace) -> int:
    """Train and drive what is missing, and show what is there; returns the exit code."""
    check_folder(arguments.draw)
    arguments.ratios = arguments.ratios or ((0.16, 6.4) if arguments.quick else RATIOS)
    arguments.seeds = arguments.seeds or (1 if arguments.quick else 3)
    if arguments.quick:
        arguments.schemes = arguments.schemes or ['sequential', 'streaming']
    budget = (QUICK if arguments.quick else FULL).longer(arguments.effort)
    arguments.output.mkdir(parents=True, exist_ok=True)
    wanted = chosen(arguments)
    jobs = missing(wanted, arguments, budget)
    make_all(jobs, arguments)
    cells = found(wanted, arguments, budget)
    if not cells:
        print('studies: no row is finished yet; call again to resume', file=sys.stderr)
        return 1
    if arguments.draw:
        draw(cells, arguments.draw)
    given = verdicts(cells)
    show([tables(cells, arguments.markdown), *map(str, given)],
         {'cells': [cell.as_data() for cell in cells],
          'verdicts': [verdict._asdict() for verdict in given]}, arguments.json)
    return 0
