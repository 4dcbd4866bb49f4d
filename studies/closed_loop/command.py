"""
Which rollout drives best on which computer: training and driving under emulated timing.

Every scheme is trained under the very timing that it will have, with the same budget, and then
drives held-out courses. Finished rows are kept in a folder, and a second call resumes.
"""

import argparse
from collections.abc import Sequence
import json
import sys

from stream_agent.cli.arguments import check_folder
from stream_agent.measurement.machine import show
from stream_agent.theory.planning.candidates import PARALLEL, SERIAL
from studies.chain import OURS, Scheme
from studies.closed_loop.picture import draw
from studies.closed_loop.schemes import KINDS, schemes
from studies.closed_loop.study import FULL, QUICK, SETTINGS, study_id, study_row, StudyBudget
from studies.closed_loop.tables import cells_of, SchemeResult, tables, verdicts
from studies.rows import add_row_options, keep, longer, make_all, missing, row_path, RowJob

RATIOS = (0.16, 0.8, 1.6, 3.2, 6.4)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the options of the study."""
    parser.add_argument('--quick', action='store_true', help='a few minutes: sequential and '
                        'streaming at two costs, briefly trained once; shows that it works, and '
                        'not who wins')
    parser.add_argument('--devices', nargs='+', choices=(PARALLEL, SERIAL),
                        default=[PARALLEL, SERIAL])
    parser.add_argument('--schemes', nargs='+', choices=[
        *KINDS, *(f'{kind}+commands' for kind in KINDS)], default=None, metavar='NAME',
        help=f'some of {", ".join(KINDS)}, each also as NAME+commands (all)')
    add_row_options(parser, 'results/closed_loop', RATIOS)


def chosen(arguments: argparse.Namespace) -> list[tuple[float, str, Scheme]]:
    """Return what is asked for; what is the same on both devices is there twice."""
    return [(ratio, device, scheme) for ratio in arguments.ratios for device in arguments.devices
            for scheme in schemes(ratio, device, SETTINGS.period)
            if not arguments.schemes or scheme.name in arguments.schemes]


def jobs_for(wanted: Sequence[tuple[float, str, Scheme]], arguments: argparse.Namespace,
             budget: StudyBudget) -> list[RowJob]:
    """
    Return the rows that are not there yet, those that matter most first.

    Own commands are of use where a pass is most expensive; elsewhere they come last, after all
    seeds of everything else.
    """
    highest = max(cost for cost, _, _ in wanted)
    return missing(
        ((bool(scheme.inputs) and cost < highest, seed, scheme.kind not in ('sequential', OURS)),
         RowJob(scheme, seed, budget,
                row_path(arguments.output, study_id(budget), scheme, seed)))
        for cost, _, scheme in wanted for seed in range(1, arguments.seeds + 1))


def make(job: RowJob) -> None:
    """Make one row and keep it; nothing is kept of a training that was stopped."""
    keep(job.path, study_row(job.scheme, job.seed, job.budget,
                             job.path.with_suffix('.safetensors')))


def found(wanted: Sequence[tuple[float, str, Scheme]], arguments: argparse.Namespace,
          budget: StudyBudget) -> list[SchemeResult]:
    """Read the rows that are there."""
    rows = {}
    for ratio, device, scheme in wanted:
        paths = [row_path(arguments.output, study_id(budget), scheme, seed)
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
    budget = longer(QUICK if arguments.quick else FULL, arguments.effort)
    arguments.output.mkdir(parents=True, exist_ok=True)
    wanted = chosen(arguments)
    make_all(make, jobs_for(wanted, arguments, budget), arguments)
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
