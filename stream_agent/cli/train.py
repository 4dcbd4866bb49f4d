"""Command line: train driving policies, in the simulator or on recordings; write their files."""

import argparse
from collections.abc import Sequence
from pathlib import Path
import signal
import sys

from stream_agent.cli.arguments import add_allowed, find_graph, in_words, not_negative, positive
from stream_agent.driving.options import check_computer
from stream_agent.learning import cloning_options, distributed, imitation_options
from stream_agent.learning.policy_jobs import PolicyJob, remove_unfinished, Result, train_all
from stream_agent.learning.trainer_options import add_trainer_options

STOPPED = 130


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
            print(f'{job.label}: not begun')
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
        print('the same command goes on from there; with --fresh it starts anew')


def parse(args: list[str] | None) -> argparse.Namespace:
    """Read the command line; defaults are those of the shipped policies."""
    simulator, recordings = (argparse.ArgumentParser(add_help=False) for _ in range(2))
    imitation_options.add_imitation(simulator)
    cloning_options.add_cloning(recordings)
    parser = argparse.ArgumentParser(
        prog='train', description=__doc__, parents=[simulator, recordings],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--graph', type=find_graph, default='lane',
                        help='graph file, or the name of one that is shipped')
    add_allowed(parser)
    parser.add_argument('--pattern', nargs='+', default=['streaming', 'sequential'],
                        help="'streaming', 'sequential', or the edges that stream: 'a->b,b->b'")
    parser.add_argument('--output', type=Path, default=Path('policies'),
                        help='folder of the checkpoints')
    parser.add_argument('--seed', type=not_negative, default=1, help='of weights and courses')
    parser.add_argument('--updates-per-frame', type=positive, metavar='K', default=1,
                        help='update steps for which every image is held')
    parser.add_argument('--workers', type=positive, default=2,
                        help='policies trained side by side')
    add_trainer_options(parser)
    arguments = parser.parse_args(args)
    other, when = (simulator, 'without') if arguments.bag else (recordings, 'with')
    for name, default in vars(other.parse_args([])).items():
        if getattr(arguments, name) != default:
            parser.error(f"--{name.replace('_', '-')}: this has an effect only {when} --bag")
    check_computer(parser, arguments)
    return arguments


def main(args: list[str] | None = None) -> int:
    """Train and say where the checkpoints are."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    arguments = parse(args)
    jobs = [PolicyJob(arguments, pattern, label, position) for position, (pattern, label)
            in enumerate(zip(arguments.pattern, labels_of(arguments.pattern)))]
    try:
        results = train_all(jobs)
    except KeyboardInterrupt:
        print('\ntrain: stopped at once; what was trained lies as it was last saved',
              file=sys.stderr)
        return STOPPED
    except (OSError, ValueError) as error:
        print(f'train: {in_words(error)}', file=sys.stderr)
        return 1
    finished = all(result and result.outcome.finished for result in results)
    if distributed.rank() == 0:
        tell(jobs, results, finished)
    return 0 if finished else STOPPED
