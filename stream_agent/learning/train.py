"""Command line: train driving policies, in the simulator or on recordings; write their files."""

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path
import shutil
import signal
import sys
from typing import NamedTuple

from stream_agent.learning import cloning_options, imitation, sharing
from stream_agent.learning.driving_learner import DrivingLearner
from stream_agent.learning.side_by_side import run_side_by_side
from stream_agent.learning.trainer import Outcome, Trainer
from stream_agent.learning.trainer_options import (
    add_trainer_options, not_negative, trainer_options)
from stream_agent.network.checkpoint import Policy, save_policy
from stream_agent.network.custom import allow_transforms
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.options import add_allowed, find_graph, in_words, positive
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.graph_file import load_graph
from stream_agent.theory.patterns import (
    newest_image_pattern, pattern_from_streams, sequential_pattern)
import torch

STOPPED = 130


class Job(NamedTuple):
    """
    One policy to train.

    :param pattern: As on the command line.
    :param label: What the policy is called.
    :param position: Line of the terminal for the progress bar.
    """

    arguments: argparse.Namespace
    pattern: str
    label: str
    position: int

    @property
    def name(self) -> str:
        """Of the files."""
        return f'{self.arguments.graph.stem}_{self.label}'

    @property
    def folder(self) -> Path:
        """Where what a stopped training goes on from lies, apart from the policies."""
        return self.arguments.output / f'{self.name}.unfinished'


class Result(NamedTuple):
    """
    What became of a job.

    :param path: The policy.
    :param steps: Gradient steps of the whole training.
    """

    path: Path
    outcome: Outcome
    steps: int


def pattern_of(graph: GraphSpec, name: str) -> dict[tuple[str, str], int]:
    """
    Return the pattern that a name on the command line stands for.

    :param name: 'streaming' or 'newest-image' (edges that leave the image are R = 0),
        'sequential', or the edges that stream, as 'a->b,b->b'.
    """
    if name in ('streaming', 'newest-image'):
        return newest_image_pattern(graph)
    if name == 'sequential':
        return sequential_pattern(graph)
    return pattern_from_streams(graph, [edge.strip() for edge in name.split(',')])


def labels_of(pattern_names: Sequence[str]) -> list[str]:
    """Return what the policies are called, each differently: they become names of files."""
    labels: list[str] = []
    for name in pattern_names:
        kind = name if name in ('streaming', 'sequential') else 'hybrid'
        again = sum(label.split('_')[0] == kind for label in labels)
        labels.append(f'{kind}_{again + 1}' if again else kind)
    return labels


def train(job: Job) -> Result:
    """Train one policy, from where an earlier training of it was stopped, and write it."""
    arguments = job.arguments
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    allow_transforms(arguments.allow)
    graph = load_graph(arguments.graph)
    network = RolloutNetwork(graph, pattern_of(graph, job.pattern))
    check_command(network)
    learner = make_learner(job, network)
    options = trainer_options(arguments, steps=learner.steps, seed=arguments.seed,
                              learning_rate=learner.learning_rate, position=job.position)
    outcome = Trainer(learner, options, job.folder).run()
    return Result(write_policy(job, learner, outcome), outcome, learner.steps)


def make_learner(job: Job, network: RolloutNetwork) -> DrivingLearner:
    """Choose what is learnt from; all that depends on it comes from the learner."""
    if job.arguments.bag:
        return cloning_options.make_learner(job.arguments, network, job.label)
    return imitation.make_learner(job.arguments, network, job.label, job.folder)


def write_policy(job: Job, learner: DrivingLearner, outcome: Outcome) -> Path:
    """
    Write the policy as it is now.

    :returns: Its file; a policy that was stopped replaces none that was finished.
    """
    path = job.arguments.output / f'{job.name}.safetensors'
    stopped = path.with_suffix('.stopped.safetensors')
    if sharing.rank() == 0:
        training = {'command': 'stream_agent train', 'date': date.today().isoformat(),
                    'seed': job.arguments.seed, **learner.provenance(),
                    'torch': torch.__version__, 'duration_s': round(outcome.seconds)}
        if not outcome.finished:
            training['stopped'] = f'at step {outcome.step} of {learner.steps}'
        path.parent.mkdir(parents=True, exist_ok=True)
        save_policy(path if outcome.finished else stopped,
                    Policy(learner.network, learner.preprocessing, learner.limits, job.label,
                           training, learner.updates_per_frame))
        if outcome.finished:
            stopped.unlink(missing_ok=True)
    return path if outcome.finished else stopped


def check_command(network: RolloutNetwork) -> None:
    """Refuse a network whose output is no command."""
    output = network.graph.output
    if network.shapes[output] != (2,):
        raise ValueError(f"the output '{output}' has the shape {list(network.shapes[output])}; a "
                         'policy that drives gives [2]: speed, yaw rate')


def train_all(jobs: Sequence[Job]) -> list[Result | None]:
    """
    Train every pattern for itself, side by side where there are cores.

    With torchrun, all processes train one after the other together.

    :returns: What became of the jobs; None for those not begun before a stop.
    """
    if jobs[0].arguments.fresh and sharing.rank() == 0:
        remove_unfinished(jobs)
    if len(jobs) > 1 and sharing.ranks() == 1:
        return run_side_by_side(train, jobs, jobs[0].arguments.workers)
    results: list[Result | None] = []
    for job in jobs:
        stopped = results and not (results[-1] and results[-1].outcome.finished)
        results.append(None if stopped else train(job))
    return results


def remove_unfinished(jobs: Sequence[Job]) -> None:
    """Remove what stopped trainings would go on from."""
    for job in jobs:
        if job.folder.exists():
            shutil.rmtree(job.folder)


def tell(jobs: Sequence[Job], results: Sequence[Result | None], finished: bool) -> None:
    """Say which files there are now, and tidy up if no more are to come."""
    for job, result in zip(jobs, results):
        if result is None:
            print(f'{job.label}: not begun')
        elif result.outcome.finished:
            print(f'wrote {result.path}')
        else:
            print(f'{job.label}: stopped at step {result.outcome.step} of {result.steps}; wrote '
                  f'{result.path}, the policy as it is now')
    if finished:
        # Not before: whoever repeats a stopped command has no finished policy trained again.
        remove_unfinished(jobs)
    else:
        print('the same command goes on from there; with --fresh it starts anew')


def parse(args: list[str] | None) -> argparse.Namespace:
    """Read the command line; defaults are those of the shipped policies."""
    simulator, recordings = (argparse.ArgumentParser(add_help=False) for _ in range(2))
    imitation.add_schedule(simulator)
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
    return arguments


def main(args: list[str] | None = None) -> int:
    """Train and say where the checkpoints are."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    arguments = parse(args)
    jobs = [Job(arguments, pattern, label, position) for position, (pattern, label)
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
    if sharing.rank() == 0:
        tell(jobs, results, finished)
    return 0 if finished else STOPPED
