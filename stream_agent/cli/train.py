"""Command line: train driving policies, in the simulator or on recordings; write their files."""

import argparse
from collections.abc import Sequence
from pathlib import Path
import signal
import sys

from stream_agent.cli.arguments import (
    add_allowed, add_computer, add_robot, add_settings, add_shared, check_computer, computer_of,
    find_graph, in_words, positive, refuse_given, robot_settings, settings_of, STOPPED)
from stream_agent.cli.command_parser import CommandParser
from stream_agent.driving.compute_model import ComputeModel
from stream_agent.learning import distributed
from stream_agent.learning.augmentation import Augmentation
from stream_agent.learning.policy_jobs import (
    FromExpert, FromRecordings, PolicyJob, remove_unfinished, Result, train_all)
from stream_agent.learning.settings import (
    CloningSchedule, FrameCrop, ImitationSchedule, RecordingsChoice, SIMULATOR_CROP,
    TrainerOptions)
from stream_agent.recordings.alignment import Alignment
from stream_agent.recordings.recording import Reading

SIMULATOR, RECORDINGS = 'in the simulator', 'from recordings'
# What both ways to learn have, with a default of its own each.
SHARED = ('window', 'learning_rate', 'updates_per_frame')


def labels_of(pattern_names: Sequence[str]) -> list[str]:
    """Return what the policies are called, each differently: they become names of files."""
    labels: list[str] = []
    for name in pattern_names:
        kind = name if name in ('streaming', 'sequential') else 'hybrid'
        again = sum(label.split('_')[0] == kind for label in labels)
        labels.append(f'{kind}_{again + 1}' if again else kind)
    return labels


def tell(jobs: Sequence[PolicyJob], results: Sequence[Result | None], finished: bool) -> None:
    """Say which files there are now, and tidy up if no more are to come."""
    for job, result in zip(jobs, results):
        if result is None:
            print(f'{job.label}: not started')
        elif result.outcome.finished:
            print(f'wrote {result.path}')
        else:
            print(f'{job.label}: stopped at step {result.outcome.step} of {result.steps}; wrote '
                  f'{result.path}, the policy as it is now')
        if result and result.verdict:
            print(f'  {result.verdict}')
    if finished:
        # Not before: whoever repeats a stopped command has no finished policy trained again.
        remove_unfinished(jobs)
    else:
        print('the same command resumes from there; with --fresh it starts anew')


def parse(args: list[str] | None) -> argparse.Namespace:
    """Read the command line; defaults are those of the shipped policies."""
    parser = CommandParser('train', __doc__)
    parser.add_argument('--graph', type=find_graph, default='lane',
                        help='graph file, or the name of one that is shipped (%(default)s)')
    add_allowed(parser)
    parser.add_argument('--pattern', nargs='+', default=['streaming', 'sequential'],
                        help="'streaming', 'sequential', or the edges that stream: 'a->b,b->b' "
                        '(streaming sequential)')
    parser.add_argument('--output', type=Path, default=Path('policies'), metavar='DIR',
                        help='folder of the checkpoints (%(default)s)')
    parser.add_argument('--workers', type=positive, default=2, metavar='N',
                        help='policies trained side by side (%(default)s)')
    parser.add_argument('--fresh', action='store_true',
                        help='start anew, even if an earlier training could be resumed')
    add_settings(parser, TrainerOptions, without=['learning_rate'])
    add_shared(parser, SHARED, {SIMULATOR: ImitationSchedule, RECORDINGS: CloningSchedule})
    add_shared(parser, (), {SIMULATOR: SIMULATOR_CROP, RECORDINGS: FrameCrop})
    group = parser.add_argument_group('learning in the simulator')
    add_settings(group, ImitationSchedule, without=SHARED)
    add_robot(group)
    add_computer(parser, 'drives in the simulator as if every node took its time, and learns what '
                 'the expert commands by then; to drive under the same timing, give the same '
                 'options to `evaluate`')
    for title, kind in (('recordings', Reading), ('alignment of frames and commands', Alignment)):
        add_settings(parser.add_argument_group(title), kind)
    group = parser.add_argument_group('learning from recordings')
    add_settings(group, RecordingsChoice)
    add_settings(group, CloningSchedule, without=SHARED)
    add_settings(group, Augmentation)
    arguments = parser.parse_args(args)
    check_way(parser, arguments)
    return arguments


def check_way(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Refuse options of what the policies do not learn from."""
    others: tuple[type, ...]
    if arguments.bag:
        others, why = (ImitationSchedule, ComputeModel), 'this has an effect only without --bag'
        if arguments.robot:
            parser.error(f'--robot: {why}')
    else:
        others = (Reading, Alignment, RecordingsChoice, CloningSchedule, Augmentation)
        why = 'this has an effect only with --bag'
    for kind in others:
        refuse_given(parser, arguments, kind, why, SHARED)
    check_computer(parser, arguments)


def source_of(arguments: argparse.Namespace) -> FromExpert | FromRecordings:
    """Return what the policies learn from; ValueError if settings contradict each other."""
    if not arguments.bag:
        return FromExpert(
            robot_settings(arguments.robot), arguments.robot or '', computer_of(arguments),
            settings_of(arguments, ImitationSchedule), settings_of(arguments, SIMULATOR_CROP))
    return FromRecordings(*(settings_of(arguments, kind) for kind in (
        RecordingsChoice, Reading, Alignment, CloningSchedule, Augmentation, FrameCrop)))


def jobs_of(arguments: argparse.Namespace) -> list[PolicyJob]:
    """Return a job for every pattern."""
    source = source_of(arguments)
    return [PolicyJob(
        arguments.graph, pattern, label, source, arguments.output,
        settings_of(arguments, TrainerOptions, steps=0, position=position), tuple(arguments.allow))
        for position, (pattern, label) in enumerate(zip(
            arguments.pattern, labels_of(arguments.pattern)))]


def main(args: list[str] | None = None) -> int:
    """Train and say where the checkpoints are."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    arguments = parse(args)
    try:
        jobs = jobs_of(arguments)
        results = train_all(jobs, arguments.workers, arguments.fresh)
    except KeyboardInterrupt:
        print('\ntrain: stopped immediately; what was trained is as it was last saved',
              file=sys.stderr)
        return STOPPED
    except (OSError, ValueError) as error:
        print(f'train: {in_words(error)}', file=sys.stderr)
        return 1
    finished = all(result and result.outcome.finished for result in results)
    if distributed.rank() == 0:
        tell(jobs, results, finished)
    return 0 if finished else STOPPED
