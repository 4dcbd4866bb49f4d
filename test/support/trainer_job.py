"""A small learner, and what the tests of the trainer start as processes of their own."""

import json
import os
from pathlib import Path
import signal
import sys

import numpy as np
from stream_agent.cli.train import main as train
from stream_agent.learning import distributed
from stream_agent.learning.settings import TrainerOptions
from stream_agent.learning.trainer import Learner, Trainer, TrainingOutcome
import torch
from torch import nn

BATCH = 8
OPTIONS = TrainerOptions(steps=30, learning_rate=0.02, seed=3, quiet=True, save_every=0)

SMALL_TEXT = """
nodes:
  image: {shape: [1, 15, 30]}
  seen: {shape: [6], activation: relu, dropout: 0.1}
  command: {shape: [2], activation: tanh}
edges: [image->seen, seen->command, image->command]
"""


class Summing(Learner):
    """
    Learns the sine of a sum, and what it has carried from step to step.

    :param dropout: Of the hidden layer, so that a loss depends on torch's random numbers.
    """

    def __init__(self, dropout: float = 0.0, label: str = 'sum') -> None:
        self.label = label
        # Every process begins elsewhere; the trainer has to make them equal.
        torch.manual_seed(5 + distributed.rank())
        self.network = nn.Sequential(
            nn.Linear(5, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))
        # No loss depends on it.
        self.network.register_parameter('spare', nn.Parameter(torch.ones(2)))
        self.frames_per_step = BATCH // distributed.world_size()
        self.carried = torch.zeros(self.frames_per_step, 1)

    def loss(self, step):
        values = np.random.default_rng([3, step]).normal(size=(BATCH, 4)).astype(np.float32)
        values = torch.from_numpy(values)[distributed.local_slice(BATCH)]
        outputs = self.network(torch.cat([values, self.carried], 1))
        self.carried = 0.5 * self.carried + outputs.detach().float()
        return nn.functional.mse_loss(outputs, (0.4 * values.sum(1, keepdim=True)).sin())

    def initial_settings(self):
        return {'task': 'sine'}

    def state_dict(self):
        return {'carried': self.carried}, {'rank': distributed.rank()}

    def load_state_dict(self, tensors, data):
        assert data['rank'] == distributed.rank()
        self.carried = tensors['carried']


def weights(learner: Learner) -> dict[str, list]:
    return {name: value.tolist() for name, value in learner.network.state_dict().items()}


def killed_at(step: int):
    """Return a report that ends the process at once, as the system does when memory runs out."""
    def report(now, loss):
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)
    return report


def be_killed(folder: Path, step: int) -> None:
    """Train until the process is killed."""
    torch.set_num_threads(1)
    Trainer(Summing(dropout=0.2), OPTIONS, folder).run(killed_at(step))


def stop(step: int, number: int = signal.SIGINT):
    """Return a report that asks this process to stop."""
    return lambda now, loss: now == step and signal.raise_signal(number)


def told(outcome: TrainingOutcome, learner: Learner) -> dict:
    return {'finished': outcome.finished, 'losses': outcome.losses, 'weights': weights(learner)}


def main(folder: Path) -> None:
    """Be one of the processes that torchrun started; process 0 writes what came of it."""
    torch.set_num_threads(1)
    found = {}
    whole = Summing()
    found['whole'] = told(Trainer(whole, OPTIONS, None).run(), whole)
    first = Summing(label='halves')
    # Ctrl-C reaches one of the processes, and it is the other one that has a report.
    if distributed.rank() == 1:
        heard, first.loss = first.loss, lambda step: (
            step == 11 and signal.raise_signal(signal.SIGINT), heard(step))[1]
    found['first half'] = told(Trainer(first, OPTIONS, folder).run(), first)
    second = Summing(label='halves')
    found['second half'] = told(Trainer(second, OPTIONS, folder).run(), second)
    graph = folder / 'small.yaml'
    if distributed.rank() == 0:
        graph.write_text(SMALL_TEXT)
    distributed.summed([0.0])  # so that all of them see the file
    found['policy'] = train(
        ['--graph', str(graph), '--pattern', 'streaming', '--rounds', '1', '--updates', '3',
         '--last-updates', '0', '--output', str(folder)])
    if distributed.rank() == 0:
        (folder / 'found.json').write_text(json.dumps(found))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
