"""Rows of a study that takes hours: each is made once and kept, and a second call resumes."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
import hashlib
import json
import os
from pathlib import Path
import sys
import time
from typing import Any, NamedTuple

from stream_agent.cli.arguments import positive
from stream_agent.learning.resume import write_whole
from stream_agent.learning.worker_pool import run_side_by_side
from studies.chain import Scheme


class RowJob(NamedTuple):
    """
    A row to be made, in a process of its own.

    :param budget: What every scheme gets alike.
    :param path: Where the row is kept.
    """

    scheme: Scheme
    seed: int
    budget: Any
    path: Path


def add_row_options(parser: argparse.ArgumentParser, folder: str, ratios: Sequence[float]
                    ) -> None:
    """Take the options of every such study; ``ratios`` are those without ``--ratios``."""
    parser.add_argument('--ratios', nargs='+', type=float, default=None, metavar='R',
                        help='costs of a pass, in camera periods '
                        f'({" ".join(format(ratio, "g") for ratio in ratios)})')
    parser.add_argument('--seeds', type=positive, default=None, help='trainings of each (3)')
    parser.add_argument('--effort', type=positive, default=1, help='times the usual training, to '
                        'see whether verdicts change (1)')
    parser.add_argument('--workers', type=positive, default=os.cpu_count(),
                        help='trainings side by side, a core each')
    parser.add_argument('--output', type=Path, default=Path(folder),
                        help=f'folder of rows and policies ({folder})')
    parser.add_argument('--minutes', type=float, default=float('inf'),
                        help='start no training after so many; call again to resume')
    parser.add_argument('--draw', type=Path, metavar='FILE', help='a picture: .svg or .png')
    parser.add_argument('--markdown', action='store_true', help='print tables of docs')
    parser.add_argument('--json', action='store_true', help='print figures for programs')


def longer(budget: Any, factor: int) -> Any:
    """Return a budget with so many times the gradient steps, over as many rounds more."""
    schedule = budget.schedule
    return replace(budget, schedule=replace(
        schedule, rounds=factor * schedule.rounds, last_updates=factor * schedule.last_updates))


def row_path(folder: Path, study: str, scheme: Scheme, seed: int) -> Path:
    """
    Return where a row is kept.

    :param study: All that rows need to have in common; another budget or task is another row.
    """
    return folder / f'{hashlib.sha256(study.encode()).hexdigest()[:8]}-{scheme.key}-{seed}.json'


def missing(wanted: Iterable[tuple[tuple, RowJob]]) -> list[RowJob]:
    """
    Return the rows that are not there yet, each once.

    :param wanted: Jobs with their urgency; the least comes first.
    """
    jobs: dict[Path, tuple[tuple, RowJob]] = {}
    for one in wanted:
        path = one[1].path
        jobs[path] = min(jobs.get(path, one), one, key=lambda job: job[0])
    return [job for _, job in sorted(jobs.values(), key=lambda job: job[0])
            if not job.path.exists()]


def keep(path: Path, row: Mapping[str, Any] | None) -> None:
    """Keep a row; there is none if its training was stopped."""
    if row is not None:
        write_whole(path, json.dumps(row).encode())


def make_all(make: Callable[[RowJob], None], jobs: Sequence[RowJob],
             arguments: argparse.Namespace) -> None:
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
