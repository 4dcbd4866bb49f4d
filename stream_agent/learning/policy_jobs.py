"""Policies to train, each a job: from the graph file to the file of the policy."""

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path
import shutil
from typing import NamedTuple

from stream_agent.cli.arguments import robot_settings
from stream_agent.driving.compute_model import EmulatedRollout, timings
from stream_agent.driving.options import computer_of
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.learning import cloning_options, distributed, imitation_options
from stream_agent.learning.collecting import DrivingLearner
from stream_agent.learning.trainer import Trainer, TrainingOutcome
from stream_agent.learning.trainer_options import trainer_options
from stream_agent.learning.worker_pool import run_side_by_side
from stream_agent.network.checkpoint import Policy, save_policy
from stream_agent.network.custom import allow_transforms
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import (
    newest_image_pattern, pattern_from_streams, sequential_pattern)
import torch


class PolicyJob(NamedTuple):
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
    :param verdict: How good the policy is; empty if that is not known.
    """

    path: Path
    outcome: TrainingOutcome
    steps: int
    verdict: str


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


def train(job: PolicyJob) -> Result:
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
    path, verdict = write_policy(job, learner, outcome)
    return Result(path, outcome, learner.steps, verdict)


def make_learner(job: PolicyJob, network: RolloutNetwork) -> DrivingLearner:
    """Choose what is learnt from; all that depends on it comes from the learner."""
    if job.arguments.bag:
        return cloning_options.make_learner(job.arguments, network, job.label)
    return imitation_options.make_learner(job.arguments, network, job.label, job.folder)


def write_policy(job: PolicyJob, learner: DrivingLearner, outcome: TrainingOutcome
                 ) -> tuple[Path, str]:
    """
    Write the policy as it is now.

    :returns: Its file, where one that was stopped replaces none that was finished; and how good
        it is.
    """
    path = job.arguments.output / f'{job.name}.safetensors'
    stopped = path.with_suffix('.stopped.safetensors')
    verdict = ''
    if distributed.rank() == 0:
        provenance = learner.provenance()
        verdict = learner.verdict(provenance)
        training = {'command': 'stream_agent train', 'date': date.today().isoformat(),
                    'seed': job.arguments.seed, **provenance,
                    **({'robot': job.arguments.robot} if job.arguments.robot else {}),
                    'torch': torch.__version__, 'duration_s': round(outcome.seconds)}
        if not outcome.finished:
            training['stopped'] = f'at step {outcome.step} of {learner.steps}'
        path.parent.mkdir(parents=True, exist_ok=True)
        save_policy(path if outcome.finished else stopped,
                    Policy(learner.network, learner.preprocessing, learner.limits, job.label,
                           training, learner.updates_per_frame))
        if outcome.finished:
            stopped.unlink(missing_ok=True)
    return path if outcome.finished else stopped, verdict


def check_command(network: RolloutNetwork) -> None:
    """Refuse a network whose output is no command."""
    output = network.graph.output
    if network.shapes[output] != (2,):
        raise ValueError(f"the output '{output}' has the shape {list(network.shapes[output])}; a "
                         'policy that drives gives [2]: speed, yaw rate')


def check_timings(jobs: Sequence[PolicyJob]) -> None:
    """Refuse a pattern that cannot run on the computer to emulate before any is trained."""
    arguments = jobs[0].arguments
    computer = computer_of(arguments)
    if computer:
        allow_transforms(arguments.allow)
        graph = load_graph(arguments.graph)
        timings([EmulatedRollout(job.label, graph, pattern_of(graph, job.pattern),
                                 arguments.updates_per_frame) for job in jobs],
                computer, robot_settings(arguments.robot).period)


def train_all(jobs: Sequence[PolicyJob]) -> list[Result | None]:
    """
    Train every pattern for itself, side by side where there are cores.

    With torchrun, all processes train one after the other together.

    :returns: What became of the jobs; None for those not begun before a stop.
    """
    check_timings(jobs)
    if jobs[0].arguments.fresh and distributed.rank() == 0:
        remove_unfinished(jobs)
    if len(jobs) > 1 and distributed.world_size() == 1:
        return run_side_by_side(train, jobs, jobs[0].arguments.workers)
    results: list[Result | None] = []
    for job in jobs:
        stopped = results and not (results[-1] and results[-1].outcome.finished)
        results.append(None if stopped else train(job))
    return results


def remove_unfinished(jobs: Sequence[PolicyJob]) -> None:
    """Remove what stopped trainings would go on from."""
    for job in jobs:
        if job.folder.exists():
            shutil.rmtree(job.folder)
