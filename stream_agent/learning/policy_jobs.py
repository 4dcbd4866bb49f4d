"""Policies to train, each a job: from a graph, and what it learns from, to the policy's file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
import shutil
from typing import Any, NamedTuple

from stream_agent.graph_files.graph_file import load_graph
from stream_agent.learning import distributed
from stream_agent.learning.initial_policy import freeze, InitialPolicy, load_initial
from stream_agent.learning.policy_sources import (
    check_folder, FromExpert, FromRecordings, signs_folder, UNFINISHED)
from stream_agent.learning.progress import curve_writer
from stream_agent.learning.resume import is_same_policy, set_aside
from stream_agent.learning.settings import TrainerOptions, TrainingError
from stream_agent.learning.trainer import DrivingLearner, Trainer, TrainingOutcome
from stream_agent.learning.worker_pool import run_side_by_side
from stream_agent.network.checkpoint import Policy, save_policy
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.transforms import allow_transforms
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import (
    newest_image_pattern, Pattern, pattern_from_streams, sequential_pattern)
import torch


# Patterns that follow from the emulated computer.
OF_COMPUTER = ('planned', 'smaller')


@dataclass(frozen=True)
class PolicyJob:
    """
    One policy to train.

    :param graph: File of the graph; None for that of the initial policy.
    :param pattern: As ``pattern_of`` takes it, or in ``OF_COMPUTER``; empty for that of the
        initial policy.
    :param name: Of the files.
    :param output: Folder of the policies.
    :param trainer: Gradient steps and learning rate are the learner's instead.
    :param allow: Names of the transforms from outside that the graph may import.
    :param init: File of the policy to begin with; None to draw weights.
    :param frozen: Nodes of that whose weights stay, as ``freeze`` takes them.
    :param overwrite: Whether an earlier policy of this name is replaced, and not kept.
    """

    graph: Path | None
    pattern: str
    label: str
    name: str
    source: FromExpert | FromRecordings
    output: Path
    trainer: TrainerOptions
    allow: tuple[str, ...] = ()
    init: Path | None = None
    frozen: tuple[str, ...] = ()
    overwrite: bool = False

    @property
    def path(self) -> Path:
        """File of the policy."""
        return self.output / f'{self.name}.safetensors'

    @property
    def stopped(self) -> Path:
        """File of the policy if the training is stopped."""
        return self.output / f'{self.name}.stopped.safetensors'

    @property
    def folder(self) -> Path:
        """Folder of what a stopped training resumes from, apart from the policies."""
        return self.output / f'{self.name}{UNFINISHED}'

    def network(self) -> tuple[RolloutNetwork, InitialPolicy | None]:
        """Return the network to train, and the policy that it is from, if there is one."""
        allow_transforms(self.allow)
        if self.init:
            initial = load_initial(self.init, self.graph)
            if self.pattern:
                initial = initial.rolled_out(*self._rollout(initial.network.graph))
            freeze(initial.network, self.frozen)
            return initial.network, initial
        assert self.graph  # a job has one of the two
        return RolloutNetwork(*self._rollout(load_graph(self.graph))), None

    def _rollout(self, graph: GraphSpec) -> tuple[GraphSpec, Pattern]:
        """Return the graph, or what a planner makes of it, and the pattern."""
        if self.pattern in OF_COMPUTER:
            if isinstance(self.source, FromExpert):
                return self.source.rollout(graph, self.pattern)
            raise TrainingError(
                f'--pattern {self.pattern} depends on an emulated computer, and recordings are '
                'learnt from without one; give the edges that stream, as `plan` names them, and '
                'the graph that `plan --write` writes as --graph')
        return graph, pattern_of(graph, self.pattern)

    def check(self) -> None:
        """
        Refuse a job that cannot be done, before costly work starts.

        :raises OSError: If a file cannot be read.
        :raises ValueError: Of whatever kind its files and options are refused by.
        """
        network, initial = self.network()
        distributed.find_device(self.trainer.device)
        if self.trainer.tensorboard:
            curve_writer()
            check_folder('--tensorboard', self.trainer.tensorboard)
        # In the file to resume from, the optimiser has two numbers or more for each weight.
        check_folder('--output', self.output, 2 * sum(
            weight.nbytes for weight in network.parameters()))
        self.source.check(self.label, network, initial)


class Result(NamedTuple):
    """
    What became of a job.

    :param path: The policy's file.
    :param steps: Gradient steps of the whole training.
    :param verdict: How good the policy is; empty if that is not known.
    :param kept: Earlier policies, by the names that they have now.
    """

    path: Path
    outcome: TrainingOutcome
    steps: int
    verdict: str
    kept: tuple[Path, ...] = ()


def pattern_of(graph: GraphSpec, name: str) -> dict[tuple[str, str], int]:
    """
    Return the pattern that a name on the command line means.

    :param name: 'streaming' or 'newest-image' (edges that leave the image are R = 0),
        'sequential', or the edges that stream, as 'a->b,b->b'.
    """
    if name in ('streaming', 'newest-image'):
        return newest_image_pattern(graph)
    if name == 'sequential':
        return sequential_pattern(graph)
    return pattern_from_streams(graph, [edge.strip() for edge in name.split(',')])


def train(job: PolicyJob) -> Result:
    """Train one policy, from where an earlier training of it stopped, and write it."""
    torch.set_num_threads(1)
    torch.manual_seed(job.trainer.seed)
    network, initial = job.network()
    learner = job.source.learner(network, job.label, job.trainer.seed, job.folder, initial)
    if initial:
        learner.origin, learner.frozen = initial.digest, job.frozen
    options = replace(job.trainer, steps=learner.steps, learning_rate=learner.learning_rate,
                      warm_up=learner.warm_up)
    try:
        outcome = Trainer(learner, options, job.folder).run()
        origin = {'init': initial.origin()} if initial else {}
        frozen = {'frozen': list(job.frozen)} if job.frozen else {}
        return write_policy(job, learner, outcome, origin | frozen)
    except OSError as error:
        if error.filename is None:
            raise
        left = f"the same command resumes from '{job.folder}'"
        if not can_resume(job):
            remove_unfinished([job])
            left = 'nothing was saved before'
        raise TrainingError(f"'{error.filename}': {error.strerror}; make room, or give another "
                            f'--output; {left}') from error


def write_policy(job: PolicyJob, learner: DrivingLearner, outcome: TrainingOutcome,
                 provenance: dict[str, Any]) -> Result:
    """
    Write the policy as it is; what another training has written keeps its numbered place.

    :param provenance: What its file says besides what the learner knows.
    """
    path = job.path if outcome.finished else job.stopped
    verdict, kept = '', tuple[Path, ...]()
    if distributed.rank() == 0:
        provenance = {**provenance, **learner.provenance()}
        verdict = learner.verdict(provenance)
        training = {'command': 'stream_agent train', 'date': date.today().isoformat(),
                    'seed': job.trainer.seed, **provenance,
                    **({'robot': robot} if (robot := getattr(job.source, 'robot', '')) else {}),
                    'torch': torch.__version__, 'duration_s': round(outcome.seconds)}
        if not outcome.finished:
            training['stopped'] = f'at step {outcome.step} of {learner.steps}'
        job.folder.mkdir(parents=True, exist_ok=True)
        whole = job.folder / path.name
        save_policy(whole, Policy(learner.network, learner.preprocessing, learner.limits,
                                  job.label, training, learner.updates_per_frame, learner.others))
        kept = tuple(set_aside(each) for each in earlier(job, outcome, whole))
        whole.replace(path)
        if outcome.finished:
            job.stopped.unlink(missing_ok=True)
    return Result(path, outcome, learner.steps, verdict, kept)


def earlier(job: PolicyJob, outcome: TrainingOutcome, whole: Path) -> list[Path]:
    """Return the files of other trainings that would be lost."""
    if job.overwrite:
        return []
    found = []
    if outcome.finished and job.path.exists() and not is_same_policy(whole, job.path):
        found.append(job.path)
    # What was stopped and resumed is part of this training.
    if job.stopped.exists() and not outcome.resumed:
        found.append(job.stopped)
    return found


Outcome = Result | OSError | ValueError | None


def attempt(job: PolicyJob) -> Outcome:
    """Train one policy of several; what fails does not end the others."""
    try:
        return train(job)
    except (OSError, ValueError) as error:
        return error


def train_all(jobs: Sequence[PolicyJob], workers: int, fresh: bool = False) -> list[Outcome]:
    """
    Train the policies side by side; with torchrun, all processes train one after the other.

    :param workers: Policies to train side by side.
    :param fresh: Start anew, even if an earlier training could be resumed; that one is kept.
    :returns: What became of the jobs: errors of those that failed beside others, None for those
        not started before a stop.
    :raises ValueError: If one of them cannot be done, before any is trained.
    """
    for job in jobs:
        job.check()
    if fresh and distributed.rank() == 0:
        keep_unfinished(jobs)
    if len(jobs) > 1 and distributed.world_size() == 1:
        return run_side_by_side(attempt, jobs, workers)
    results: list[Outcome] = []
    for job in jobs:
        last = results[-1] if results else None
        stopped = results and not (isinstance(last, Result) and last.outcome.finished)
        results.append(None if stopped else train(job))
    return results


def can_resume(job: PolicyJob) -> bool:
    """Tell whether a stopped training left what it resumes from."""
    return any(job.folder.glob('*.resume.safetensors'))


def keep_unfinished(jobs: Sequence[PolicyJob]) -> None:
    """Set aside what stopped trainings would resume from, and what they wrote."""
    for job in jobs:
        if job.overwrite or not can_resume(job):
            remove_unfinished([job])
        else:
            print(f"{job.label}: keeps the stopped training as '{set_aside(job.folder)}'; "
                  f"renamed to '{job.folder.name}', it resumes")
            if job.stopped.exists():
                set_aside(job.stopped)


def remove_unfinished(jobs: Sequence[PolicyJob]) -> None:
    """Remove what stopped trainings would resume from."""
    for folder in {job.folder for job in jobs} | {signs_folder(job.output) for job in jobs}:
        if folder.exists():
            shutil.rmtree(folder)
