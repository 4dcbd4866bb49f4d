"""
Reflex and recognition in one drive: ours against every peer, under emulated timing.

A lane is to be kept under pushes, which needs a quick answer, at the speed that signs command,
which needs a deep look. Every scheme is trained under the very timing that it will have, with the
same budget and as many tries, and then drives held-out courses. Finished rows are kept in a
folder, and a second call resumes.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
import json
import sys
from typing import NamedTuple

from stream_agent.cli.arguments import check_folder, positive
from stream_agent.driving.drives import Trial
from stream_agent.measurement.machine import show
from stream_agent.theory.planning.candidates import PARALLEL, SERIAL
from studies.chain import OURS
from studies.law import FIRST_COURSE
from studies.reflex.bounds import bound_row, bounds_table, TimedScheme
from studies.reflex.picture import draw
from studies.reflex.schemes import INPUTS, KINDS, ReflexScheme, schemes
from studies.reflex.study import (
    FULL, HANDOVER, LEARNING_RATES, PUSHES, QUICK, ReflexBudget, SETTINGS, study_id, study_row)
from studies.reflex.tables import ReflexResult, tables, verdicts
from studies.rows import add_row_options, keep, longer, make_all, missing, row_path, RowJob

RATIOS = (6.4, 3.2, 1.6, 0.8, 0.16)
# What is run once where no claim is made, to show that the others' order turns there; narrower
# networks are there for what width is worth.
ELSEWHERE = ('sequential', 'smaller', 'narrower', 'pipelined', OURS)
# Those of one core that matter most, and those of the parallel device.
CORE = (OURS, 'sequential', 'smaller', 'narrower', 'frozen trunk')
CORE_PARALLEL = (OURS, 'streaming', 'pipelined', 'staggered')


class Wanted(NamedTuple):
    """A scheme on a device, with the number of its trainings."""

    device: str
    scheme: ReflexScheme
    seeds: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the options of the study."""
    parser.add_argument('--quick', action='store_true', help='a few minutes: sequential and '
                        'planned on one core, briefly trained once; shows that it works, and not '
                        'who wins')
    parser.add_argument('--devices', nargs='+', choices=(SERIAL, PARALLEL), default=None)
    parser.add_argument('--schemes', nargs='+', default=None, metavar='NAME',
                        help=f'some of {", ".join(KINDS)}, each also as NAME+'
                        + ', NAME+'.join((INPUTS[0], '+'.join(INPUTS[:2]), INPUTS[2]))
                        + '; at these ratios and on these devices whatever the rest of the study '
                        'leaves out (all)')
    parser.add_argument('--tries', type=positive, default=1, metavar='N', help='learning rates '
                        'that every training tries, of which it keeps the best on courses of '
                        f'their own; at most {len(LEARNING_RATES)} (1)')
    parser.add_argument('--bounds', action='store_true', help='train nothing: print what timing '
                        'alone allows, the scores of a perfect learner')
    add_row_options(parser, 'results/reflex', RATIOS)


def wanted(arguments: argparse.Namespace) -> Iterator[Wanted]:
    """Yield what is asked for; what is the same on both devices is there twice."""
    for ratio in arguments.ratios:
        for device in arguments.devices:
            for scheme in schemes(ratio, device, SETTINGS.period):
                seeds = arguments.seeds
                if arguments.schemes:
                    seeds *= scheme.name in arguments.schemes
                elif ratio < 3.2:
                    seeds = int(scheme.kind in ELSEWHERE and not scheme.inputs)
                elif device == PARALLEL and ratio < 6.4:
                    seeds = 0
                if seeds:
                    yield Wanted(device, scheme, seeds)


def urgency(one: Wanted, seed: int) -> tuple:
    """Return what decides when a row is made; the least comes first."""
    scheme, serial = one.scheme, one.device == SERIAL
    core = CORE if serial else CORE_PARALLEL
    if scheme.inputs:
        stage = 5
    elif scheme.pass_periods < 3.2:
        stage = 3
    elif scheme.kind not in core:
        stage = 4
    else:
        stage = 2 if scheme.pass_periods < 6.4 else 0 if serial else 1
    place = core.index(scheme.kind) if scheme.kind in core else len(core)
    # What is claimed, and what it is fitted on, comes before the first training of the rest.
    return stage > 3, seed, stage, -scheme.pass_periods, len(scheme.inputs), place


def jobs_for(found: list[Wanted], arguments: argparse.Namespace, budget: ReflexBudget
             ) -> list[RowJob]:
    """Return the rows that are not there yet, those that matter most first."""
    return missing(
        (urgency(one, seed), RowJob(one.scheme, seed, budget, row_path(
            arguments.output, study_id(budget), one.scheme, seed)))
        for one in found for seed in range(1, one.seeds + 1))


def make(job: RowJob) -> None:
    """Make one row and keep it, and before it that of its trunk; nothing if it was stopped."""
    policy, trunk = job.path.with_suffix('.safetensors'), job.scheme.trunk
    if trunk is None:
        keep(job.path, study_row(job.scheme, job.seed, job.budget, policy))
        return
    path = row_path(job.path.parent, study_id(job.budget), trunk, job.seed)
    if not path.exists():
        make(job._replace(scheme=trunk, path=path))
    if path.exists():
        keep(job.path, study_row(job.scheme, job.seed, job.budget, policy,
                                 path.with_suffix('.safetensors')))


def results(found: list[Wanted], arguments: argparse.Namespace, budget: ReflexBudget
            ) -> list[ReflexResult]:
    """Read the rows that are there."""
    cells = []
    for one in found:
        paths = [row_path(arguments.output, study_id(budget), one.scheme, seed)
                 for seed in range(1, one.seeds + 1)]
        rows = tuple(json.loads(path.read_text()) for path in paths if path.exists())
        if rows:
            cells.append(ReflexResult(one.device, one.scheme, rows))
    return cells


def complete(arguments: argparse.Namespace) -> ReflexBudget:
    """Fill in what was not given; returns the budget of every training."""
    quick = arguments.quick
    arguments.ratios = arguments.ratios or ((6.4,) if quick else RATIOS)
    arguments.devices = arguments.devices or ([SERIAL] if quick else [SERIAL, PARALLEL])
    arguments.seeds = arguments.seeds or (1 if quick else 3)
    if quick:
        arguments.schemes = arguments.schemes or ['sequential', OURS]
    budget = longer(QUICK if quick else FULL, arguments.effort)
    return replace(budget, learning_rates=LEARNING_RATES[:arguments.tries])


def show_bounds(found: list[Wanted], arguments: argparse.Namespace, budget: ReflexBudget) -> None:
    """Drive the perfect learner of every scheme, on courses that are not those of the study."""
    trial = Trial(SETTINGS, tuple(range(FIRST_COURSE, FIRST_COURSE + budget.courses)),
                  budget.duration, PUSHES, HANDOVER)
    once: dict[str, ReflexScheme] = {}
    for one in found:
        if not (one.scheme.inputs or one.scheme.spread):
            once.setdefault(one.scheme.key, one.scheme)
    rows = [bound_row(TimedScheme(scheme.name, scheme.pass_periods, scheme.candidate,
                                  scheme.timeline, scheme.kind != 'smaller'), trial)
            for scheme in once.values()]
    show([bounds_table(rows, arguments.markdown)], {'bounds': rows}, arguments.json)


def run(arguments: argparse.Namespace) -> int:
    """Train and drive what is missing, and show what is there; returns the exit code."""
    check_folder(arguments.draw)
    budget = complete(arguments)
    found = list(wanted(arguments))
    if not found:
        raise ValueError(f'no such scheme on {" and ".join(arguments.devices)} device at '
                         f'{" ".join(f"{ratio:g}" for ratio in arguments.ratios)}: '
                         f'{", ".join(arguments.schemes or [])}; names are in --help')
    if arguments.bounds:
        show_bounds(found, arguments, budget)
        return 0
    make_all(make, jobs_for(found, arguments, budget), arguments)
    cells = results(found, arguments, budget)
    if not cells:
        print('studies: no row is finished yet; call again to resume', file=sys.stderr)
        return 1
    given = verdicts(cells)
    if arguments.draw:
        draw(cells, arguments.draw)
    show([tables(cells, arguments.markdown), *map(str, given)],
         {'cells': [cell.as_data() for cell in cells],
          'verdicts': [verdict._asdict() for verdict in given]}, arguments.json)
    return 0
