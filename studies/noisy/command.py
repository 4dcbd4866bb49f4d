"""The experiments on noisy images: trainings side by side, and what they have found."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
import json
from pathlib import Path
import sys

from stream_agent.cli.arguments import add_settings, add_shared, positive, settings_of
from stream_agent.learning import distributed
from stream_agent.learning.settings import TrainerOptions
from stream_agent.learning.worker_pool import run_side_by_side
from studies.noisy.datasets import DataError
from studies.noisy.experiments import EXPERIMENTS, NoisySchedule
from studies.noisy.jobs import ExperimentJob, read_curve, train_and_test
from studies.noisy.report import write_report
import torch

STOPPED = 130


def jobs_of(arguments: argparse.Namespace) -> list[ExperimentJob]:
    """Return the trainings that the command line asks for, seed by seed."""
    experiment, schedule = EXPERIMENTS[arguments.study], schedule_of(arguments)
    wanted = [(network, rollout) for network in arguments.networks or experiment.networks
              for rollout in experiment.rollouts[network]
              if rollout in (arguments.rollouts or experiment.rollouts[network])]
    if not wanted:
        raise DataError(f'--rollouts: {" and ".join(arguments.networks)} have no rollout '
                        f'{" or ".join(arguments.rollouts)}')
    seeds = arguments.seeds or (1 if arguments.quick else 3)
    quiet = arguments.json or not sys.stderr.isatty()
    return [ExperimentJob(arguments.study, network, rollout, seed, arguments.data,
                          arguments.output, schedule, arguments.device, arguments.precision,
                          arguments.save_every, arguments.tensorboard, position, quiet)
            for seed in range(1, seeds + 1)
            for position, (network, rollout) in enumerate(wanted)]


def schedule_of(arguments: argparse.Namespace) -> NoisySchedule:
    """Return the schedule: the default, the quick or the published one, with what is changed."""
    experiment = EXPERIMENTS[arguments.study]
    return settings_of(arguments, experiment.published if arguments.published else
                       experiment.quickened if arguments.quick else experiment.schedule)


def work(job: ExperimentJob) -> bool:
    """Do a job in a worker, on one thread; and say that it is done."""
    torch.set_num_threads(1)
    finished = train_and_test(job)
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
        if not train_and_test(replace(job, position=0)):
            return False
        say(job)
    return True


def run(arguments: argparse.Namespace) -> int:
    """Train, test, and write the results; returns the exit code."""
    experiment = EXPERIMENTS[arguments.study]
    arguments.output = arguments.output or Path('results') / arguments.study
    jobs = jobs_of(arguments)
    if arguments.fresh and distributed.rank() == 0:
        for path in (path for job in jobs for path in job.files):
            path.unlink(missing_ok=True)
    # Before the first training, not after it: what is asked for needs to be possible.
    distributed.find_device(arguments.device)
    experiment.load(arguments.data)
    arguments.output.mkdir(parents=True, exist_ok=True)
    finished = do(jobs, arguments.workers)
    if distributed.rank() == 0:
        text, data = write_report(experiment, jobs, arguments.output)
        print(json.dumps(data, indent=1) if arguments.json else
              f'{text}\n\nwrote {arguments.output}')
        if not finished:
            print('studies: stopped; the same command resumes from there', file=sys.stderr)
    return 0 if finished else STOPPED


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the options of the noisy experiment that the parser's default ``study`` names."""
    name = parser.get_default('study')
    experiment = EXPERIMENTS[name]
    parser.add_argument('--data', type=Path, required=True, metavar='DIR', help=experiment.data)
    parser.add_argument('--output', type=Path, help=f'folder of the results (results/{name})')
    parser.add_argument('--networks', nargs='+', choices=experiment.networks, metavar='NAME',
                        help=f'of {", ".join(experiment.networks)} (all)')
    rollouts = sorted({name for rollouts in experiment.rollouts.values() for name in rollouts})
    parser.add_argument('--rollouts', nargs='+', choices=rollouts, metavar='NAME',
                        help=f'of {", ".join(rollouts)} (all that a network has)')
    parser.add_argument('--seeds', type=positive, help='trainings of every rollout (3; 1 with '
                        '--quick); two give an interval')
    add_shared(parser, ('epochs', 'batch', 'learning_rate', 'optimiser'), {
        'in full': experiment.schedule, 'with --quick': experiment.quickened,
        'with --published': experiment.published})
    add_settings(parser, experiment.schedule, only=('test_clips',))
    parser.add_argument('--workers', type=positive, default=2,
                        help='trainings side by side, a thread each (2)')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--quick', action='store_true', help='a look within a few minutes: '
                       + ', '.join(f'{key.replace("_", " ")} {value}'
                                   for key, value in experiment.quick.items()))
    which.add_argument('--published', action='store_true', help='train as the authors did')
    parser.add_argument('--json', action='store_true', help='for programs')
    add_settings(parser, TrainerOptions, only=('device', 'precision', 'tensorboard', 'save_every'))
    parser.add_argument('--fresh', action='store_true',
                        help='start anew, even if an earlier training could be resumed')
