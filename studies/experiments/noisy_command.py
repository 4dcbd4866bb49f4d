"""The experiments on noisy images: trainings side by side, and what they have found."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
import json
import math
from pathlib import Path
import sys

from stream_agent.cli.arguments import add_settings, positive
from stream_agent.learning import distributed
from stream_agent.learning.settings import OPTIMISERS, TrainerOptions
from stream_agent.learning.worker_pool import run_side_by_side
from studies.experiments.jobs import ExperimentJob, read_curve, run
from studies.experiments.noisy import EXPERIMENTS, NoisySchedule, quickened
from studies.experiments.readers import DataError
from studies.experiments.report import write_report
import torch

STOPPED = 130


def jobs_of(arguments: argparse.Namespace) -> list[ExperimentJob]:
    """Return the trainings that the command line asks for, seed by seed."""
    experiment, schedule = EXPERIMENTS[arguments.experiment], schedule_of(arguments)
    wanted = [(network, rollout) for network in arguments.networks or experiment.networks
              for rollout in experiment.rollouts[network]
              if rollout in (arguments.rollouts or experiment.rollouts[network])]
    if not wanted:
        raise DataError(f'--rollouts: {" and ".join(arguments.networks)} have no rollout '
                        f'{" or ".join(arguments.rollouts)}')
    seeds = arguments.seeds or (1 if arguments.quick else 3)
    quiet = arguments.json or not sys.stderr.isatty()
    return [ExperimentJob(arguments.experiment, network, rollout, seed, arguments.data,
                          arguments.output,
                          schedule, arguments.device, arguments.precision, arguments.save_every,
                          arguments.tensorboard, position, quiet)
            for seed in range(1, seeds + 1)
            for position, (network, rollout) in enumerate(wanted)]


def schedule_of(arguments: argparse.Namespace) -> NoisySchedule:
    """Return the schedule: the default, the quick or the published one, with what is changed."""
    experiment = EXPERIMENTS[arguments.experiment]
    schedule = (experiment.published if arguments.published else
                quickened(experiment) if arguments.quick else experiment.schedule)
    changed = {name: getattr(arguments, name) for name in (
        'epochs', 'batch', 'learning_rate', 'optimiser', 'test_clips')}
    return replace(schedule, **{name: value for name, value in changed.items()
                                if value is not None})


def work(job: ExperimentJob) -> bool:
    """Do a job in a worker, on one thread; and say that it is done."""
    torch.set_num_threads(1)
    finished = run(job)
    if finished:
        say(job)
    return finished


def say(job: ExperimentJob) -> None:
    """Tell what a training has come to."""
    curve = read_curve(job)
    if distributed.rank() == 0 and curve:
        print(f'{job.network} {job.rollout}, seed {job.seed}: {curve["training_s"]:.0f} s, '
              f'{100 * curve["accuracy"][0]:.1f} % at update step {curve["steps"][0]}, '
              f'{100 * curve["accuracy"][-1]:.1f} % at {curve["steps"][-1]}', file=sys.stderr)


def do(jobs: Sequence[ExperimentJob], workers: int) -> bool:
    """
    Do the jobs that are not done yet.

    :returns: Whether all of them are done now.
    """
    left = [job for job in jobs if read_curve(job) is None]
    if len(left) > 1 and workers > 1 and distributed.world_size() == 1:
        left = [replace(job, position=i % workers) for i, job in enumerate(left)]
        return all(run_side_by_side(work, left, workers))
    for job in left:
        if not run(replace(job, position=0)):
            return False
        say(job)
    return True


def run_noisy(arguments: argparse.Namespace) -> int:
    """Train, test, and write the results; returns the exit code."""
    jobs = jobs_of(arguments)
    if arguments.fresh and distributed.rank() == 0:
        for path in (path for job in jobs for path in job.files):
            path.unlink(missing_ok=True)
    # Before the first training, not after it: what is asked for has to be possible.
    distributed.find_device(arguments.device)
    EXPERIMENTS[arguments.experiment].load(arguments.data)
    arguments.output.mkdir(parents=True, exist_ok=True)
    finished = do(jobs, arguments.workers)
    if distributed.rank() == 0:
        text, data = write_report(EXPERIMENTS[arguments.experiment], jobs, arguments.output)
        print(json.dumps(data, indent=1) if arguments.json else
              f'{text}\n\nwrote {arguments.output}')
        if not finished:
            print('experiment: stopped; the same command goes on from there', file=sys.stderr)
    return 0 if finished else STOPPED


def add_noisy(commands: argparse._SubParsersAction, name: str, data: str) -> None:
    """Take the options of a noisy experiment."""
    experiment = EXPERIMENTS[name]
    default = experiment.schedule
    parser = commands.add_parser(name, help=f'networks of the paper on {experiment.title}')
    parser.set_defaults(do=run_noisy)
    parser.add_argument('--data', type=Path, required=True, metavar='DIR', help=data)
    parser.add_argument('--output', type=Path, default=Path('results') / name,
                        help=f'folder of the results (results/{name})')
    parser.add_argument('--networks', nargs='+', choices=experiment.networks, metavar='NAME',
                        help=f'of {", ".join(experiment.networks)} (all)')
    parser.add_argument('--rollouts', nargs='+', metavar='NAME',
                        choices=sorted({name for rollouts in experiment.rollouts.values()
                                        for name in rollouts}),
                        help='streaming, sequential, or of SR hybrid (all)')
    parser.add_argument('--seeds', type=positive, help='trainings of every rollout (3; 1 if it '
                        'is to be quick); two give an interval')
    parser.add_argument('--epochs', type=above_zero, help='times that the data are seen, such as '
                        f'0.5 ({default.epochs:g})')
    parser.add_argument('--batch', type=positive, help=f'windows in a gradient step '
                        f'({default.batch})')
    parser.add_argument('--learning-rate', type=above_zero, metavar='RATE',
                        help=f'at the start ({default.learning_rate:g})')
    parser.add_argument('--optimiser', choices=OPTIMISERS, help=default.optimiser)
    parser.add_argument('--test-clips', type=positive, metavar='N',
                        help='look at so many of the test clips (all)')
    parser.add_argument('--workers', type=positive, default=2,
                        help='trainings side by side, a thread each (2)')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--quick', action='store_true', help='a look within a few minutes: '
                       + ', '.join(f'{key.replace("_", " ")} {value}'
                                   for key, value in experiment.quick.items()))
    which.add_argument('--published', action='store_true', help='train as the authors did: '
                       f'{experiment.published.epochs:g} epochs, RMSprop at 1e-4')
    parser.add_argument('--json', action='store_true', help='for programs')
    add_settings(parser, TrainerOptions, only=('device', 'precision', 'tensorboard', 'save_every'))
    parser.add_argument('--fresh', action='store_true',
                        help='start anew, even if an earlier training could be resumed')


def above_zero(text: str) -> float:
    """Read a number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
    return value
