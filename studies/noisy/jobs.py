"""Trainings of the noisy experiments and their tests, and what they leave on disk."""

from dataclasses import asdict, dataclass
from functools import lru_cache
import json
from pathlib import Path
import time
from typing import Any

import numpy as np
from stream_agent.cli.arguments import open_graph
from stream_agent.learning import distributed
from stream_agent.learning.resume import write_whole
from stream_agent.learning.trainer import Trainer, TrainerOptions, TrainingOutcome
from stream_agent.measurement.machine import machine, versions
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import streaming_edges
from studies.noisy.confusion import temporal_confusion
from studies.noisy.datasets import DataError
from studies.noisy.experiments import EXPERIMENTS, NoisySchedule
from studies.noisy.task import (
    accuracy, Clips, NoisyClassification, pattern_named, shortened, WindowOutputs)
import torch

FORMAT = 'stream_agent curve 1'


@dataclass(frozen=True)
class ExperimentJob:
    """
    One training and its test.

    :param experiment: A name in ``EXPERIMENTS``.
    :param data: Folder or archive of the data.
    :param output: Folder of the results.
    :param position: Line of the terminal for the progress.
    """

    experiment: str
    network: str
    rollout: str
    seed: int
    data: Path
    output: Path
    schedule: NoisySchedule
    device: str = 'cpu'
    precision: str = 'float32'
    save_every: float = 60.0
    tensorboard: Path | None = None
    position: int = 0
    quiet: bool = False

    @property
    def label(self) -> str:
        """Name of the files."""
        return f'{self.network}_{self.rollout}_{self.seed}'

    @property
    def unfinished(self) -> Path:
        """Folder of what a stopped training resumes from."""
        return self.output / 'unfinished'

    @property
    def curve(self) -> Path:
        """Accuracies, once the training is finished."""
        return self.output / 'curves' / f'{self.label}.json'

    @property
    def confusion(self) -> Path:
        """Temporal confusion matrices, written before the accuracies."""
        return self.output / 'confusion' / f'{self.label}.npz'

    @property
    def files(self) -> list[Path]:
        """All that a training leaves."""
        return [self.curve, self.confusion, self.unfinished / f'{self.label}.resume.safetensors']


@lru_cache(maxsize=1)
def clips_of(experiment: str, data: Path) -> tuple[Clips, Clips]:
    """Return training and test clips; a process reads them once."""
    return EXPERIMENTS[experiment].load(data)


def network_of(job: ExperimentJob) -> RolloutNetwork:
    """Return the network of a job with its first weights, which depend on the seed only."""
    experiment = EXPERIMENTS[job.experiment]
    graph = open_graph(experiment.networks[job.network])
    torch.manual_seed(job.seed)
    return RolloutNetwork(graph, pattern_named(
        graph, experiment.rollouts[job.network][job.rollout]))


def train_and_test(job: ExperimentJob) -> bool:
    """
    Train a network, or resume a training that was stopped; test it, and write its results.

    :returns: Whether it was finished.
    """
    train, test = clips_of(job.experiment, job.data)
    network = network_of(job)
    outputs = WindowOutputs(network.graph, network.pattern)
    learner = NoisyClassification(
        network, outputs, train, EXPERIMENTS[job.experiment].deviation, job.schedule.batch,
        job.seed, job.label)
    trainer = Trainer(learner, TrainerOptions(
        steps=job.schedule.steps(len(train.labels)), learning_rate=job.schedule.learning_rate,
        optimiser=job.schedule.optimiser, decay=job.schedule.decay, seed=job.seed,
        device=job.device, precision=job.precision, save_every=job.save_every,
        tensorboard=job.tensorboard, position=job.position, quiet=job.quiet), job.unfinished)
    outcome = trainer.run()
    if outcome.finished and distributed.rank() == 0:
        test_and_write(job, network, outputs, shortened(test, job.schedule.test_clips), outcome)
        trainer.discard()
    return outcome.finished


def test_and_write(job: ExperimentJob, network: RolloutNetwork, outputs: WindowOutputs,
                   clips: Clips, outcome: TrainingOutcome) -> None:
    """Test a network that is trained, and write its matrices and its curve."""
    experiment = EXPERIMENTS[job.experiment]
    start = time.perf_counter()
    right = accuracy(network, outputs, clips, experiment.deviation, job.seed)
    matrices = temporal_confusion(network, outputs, clips, experiment.deviation,
                                  experiment.classes, job.seed)
    job.confusion.parent.mkdir(parents=True, exist_ok=True)
    matrices.write(job.confusion)
    curve = {
        **settings_of(job), 'streams': streaming_edges(network.pattern),
        'frames': outputs.frames, 'steps': outputs.steps, 'accuracy': right.tolist(),
        'parameters': sum(weight.numel() for weight in network.parameters()),
        'gradient_steps': outcome.step, 'loss': float(np.mean(outcome.losses[-100:])),
        'test_clips': len(clips.labels), 'training_s': round(outcome.seconds, 1),
        'test_s': round(time.perf_counter() - start, 1), 'machine': machine(),
        'versions': versions('torch', 'numpy')}
    write_whole(job.curve, (json.dumps(curve, indent=1) + '\n').encode())


def settings_of(job: ExperimentJob) -> dict[str, Any]:
    """Return what needs to be the same for a curve to be taken for this job's."""
    return {'format': FORMAT, 'experiment': job.experiment, 'network': job.network,
            'rollout': job.rollout, 'seed': job.seed, 'precision': job.precision,
            'schedule': asdict(job.schedule)}


def read_curve(job: ExperimentJob) -> dict[str, Any] | None:
    """
    Return the curve of a job; None if it is still to be trained.

    :raises DataError: If the file is damaged, or of another schedule.
    """
    if not job.curve.exists():
        return None
    try:
        curve = json.loads(job.curve.read_text())
        settings = {name: curve.get(name) for name in settings_of(job)}
        curve['accuracy'], curve['steps']
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f'{job.curve}: it is not a valid curve ({error}); remove it') from None
    for name, now in settings_of(job).items():
        if settings[name] != now:
            raise DataError(f'{job.curve}: it comes from {name} {settings[name]}, not {now}; give '
                            'another --output, or the same options')
    return curve
