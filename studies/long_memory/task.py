"""
The long-memory task: what came first of a sequence decides, and thousands of others follow.

Problem 2b of Hochreiter and Schmidhuber (Long short-term memory, 1997) as in PLR18, section 4.4.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
import time
from typing import NamedTuple

import numpy as np
from stream_agent.bounded_settings import check, choice, free_text, quantity
from stream_agent.learning.settings import learning_rate, PRECISIONS, TrainerOptions
from stream_agent.learning.trainer import Learner, Trainer
from stream_agent.network.recurrence.layers import Gilr, GilrLstm, Stack
import torch
from torch import nn, Tensor

SYMBOLS = 128
IN_A_ROW = 5
MOST_STEPS = 10**9
#: Torch's LSTM, with the start that all have, and as torch starts it.
REFERENCES = ('lstm', 'lstm-as-is')


@dataclass(frozen=True)
class MemoryTask:
    """
    What is learnt, and how large the networks are.

    :raises SettingsError: If a number is outside its range.
    """

    length: int = quantity(1024, '', 2, 2**24, 'n, vectors in a sequence')
    hidden: int = quantity(64, '', 1, 2**16, 'features of a layer; as published, 512, and 64 for '
                           'a million vectors')
    layers: int = quantity(2, '', 1, 1000, 'layers')
    batch: int = quantity(32, '', 1, 10**6, 'sequences in a minibatch')
    learning_rate: float = learning_rate(3e-2)
    limit: float = quantity(600.0, 's', 0.01, 1e9, 'time that a network has to converge')
    device: str = free_text('cpu', "torch device, such as 'cuda'", 'DEVICE')
    precision: str = choice('float32', 'of the forward pass', tuple(PRECISIONS))

    def __post_init__(self) -> None:
        check(self)


def sequences(task: MemoryTask, seed: int, step: int, device: torch.device
              ) -> tuple[Tensor, Tensor]:
    """
    Draw a minibatch.

    :returns: One-hot vectors (B, n, 128), the first of them times 1 or -1, and the classes (B,):
        1 where it is positive. Symbol 0 comes first and never again.
    """
    random = np.random.default_rng([seed, step])
    symbols = torch.from_numpy(random.integers(1, SYMBOLS, (task.batch, task.length)))
    classes = torch.from_numpy(random.integers(0, 2, task.batch)).to(device)
    symbols[:, 0] = 0
    vectors = torch.zeros(task.batch, task.length, SYMBOLS, device=device)
    vectors.scatter_(2, symbols.to(device).unsqueeze(2), 1)
    vectors[:, 0, 0] = 2.0 * classes - 1
    return vectors, classes


class TorchLstm(nn.LSTM):
    """Torch's LSTM, on (B, T, features)."""

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__(inputs, hidden, layers, batch_first=True)

    def remember(self, length: int) -> None:
        """Set the biases of the gates, see ``memories``."""
        for i in range(self.num_layers):
            getattr(self, f'bias_hh_l{i}').zero_()
            into, forget, _, _ = getattr(self, f'bias_ih_l{i}').zero_().chunk(4)
            forget.copy_(memories(length, len(forget)))
            into.copy_(-forget)


class AsIs(TorchLstm):
    """Torch's LSTM with its own first weights."""

    def remember(self, length: int) -> None:
        """Leave them as they are."""


class Stacked(Stack):
    """
    Layers of a linear recurrence.

    :param gates: Where in the bias of a layer, in multiples of its features, the gates are that
        keep what is remembered, and those that let something in, or None.
    """

    def __init__(self, kind: Callable, gates: list[tuple[int, int | None]], inputs: int,
                 hidden: int, layers: int) -> None:
        super().__init__([kind(inputs if i == 0 else hidden, hidden) for i in range(layers)])
        self._gates = gates

    def remember(self, length: int) -> None:
        """Set the biases of the gates, see ``memories``."""
        for layer in self:
            parts = layer.weights.bias.view(-1, layer.features)
            for keeping, into in self._gates:
                parts[keeping] = memories(length, layer.features)
                if into is not None:
                    parts[into] = -parts[keeping]


CONTESTANTS: dict[str, Callable[[int, int, int], nn.Module]] = {
    'gilr': lambda *sizes: Stacked(Gilr, [(0, None)], *sizes),
    # The edges give g, j, f, i, o, z.
    'gilr-lstm': lambda *sizes: Stacked(GilrLstm, [(0, None), (2, 3)], *sizes),
    'lstm': TorchLstm,
    'lstm-as-is': AsIs,
}


def memories(length: int, features: int) -> Tensor:
    """
    Return biases with which features remember for 1 to n steps, spread evenly.

    Tallec, Ollivier: Can recurrent neural networks warp time?, ICLR 2018. Left at zero, a gate
    of 1/2 has forgotten all after a hundred steps, and no gradient comes back either.
    """
    return torch.log(torch.empty(features).uniform_(1, max(2, length - 1)))


class Classifier(nn.Module):
    """Tells the sign of the first vector once it has seen the last."""

    def __init__(self, name: str, task: MemoryTask, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.recurrent = CONTESTANTS[name](SYMBOLS, task.hidden, task.layers)
        self.read_out = nn.Linear(task.hidden, 2)
        with torch.no_grad():
            self.recurrent.remember(task.length)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits, (B, 2), of (B, n, 128)."""
        values, _ = self.recurrent(vectors)
        return self.read_out(values[:, -1])


class LongMemory(Learner):
    """
    The sign of the first vector; knows how many minibatches in a row were all right.

    :ivar in_a_row: Up to the last one.
    """

    def __init__(self, name: str, task: MemoryTask, seed: int) -> None:
        self.network = Classifier(name, task, seed)
        self.label = f'{name}_{task.length}_{seed}'
        self.frames_per_step = task.batch * task.length
        self.in_a_row = 0
        self._task = task
        self._seed = seed

    def loss(self, step: int) -> Tensor:
        """Return the cross-entropy of a minibatch that was not seen before."""
        vectors, classes = sequences(self._task, self._seed, step, self.device)
        logits = self.network(vectors)
        right = bool((logits.argmax(dim=1) == classes).all())
        self.in_a_row = self.in_a_row + 1 if right else 0
        return nn.functional.cross_entropy(logits, classes)

    def figures(self) -> dict[str, int]:
        """Return the minibatches in a row that were all right."""
        return {'in a row': self.in_a_row}


class MemoryContest(NamedTuple):
    """
    How a network did.

    :param converged: Whether five minibatches in a row were all right within the limit.
    :param seconds: Until then, or until it was stopped.
    """

    contestant: str
    seed: int
    converged: bool
    minibatches: int
    seconds: float
    parameters: int


class Over(Exception):
    """Ends a training here."""


def contest(name: str, task: MemoryTask, seed: int) -> MemoryContest | None:
    """
    Train a network until it has converged or its time is over.

    One minibatch goes before, with another network: libraries and kernels are loaded by then.

    :returns: How it did; None if it was told to stop before.
    :raises TrainingError: If its loss is no longer a number.
    """
    options = TrainerOptions(
        steps=MOST_STEPS, learning_rate=task.learning_rate, decay='none', seed=seed,
        device=task.device, precision=task.precision, quiet=True)
    Trainer(LongMemory(name, task, seed), replace(options, steps=1), None).run()
    learner, clock = LongMemory(name, task, seed), Clock(task.limit)

    def report(step: int, loss: float) -> None:
        clock.look(step + 1, learner.in_a_row >= IN_A_ROW)

    try:
        Trainer(learner, options, None).run(report)
        return None
    except Over:
        return MemoryContest(name, seed, learner.in_a_row >= IN_A_ROW, clock.minibatches,
                             clock.seconds, sum(weight.numel() for weight in
                                                learner.network.parameters()))


class Clock:
    """Ends a training that has converged, or has used up its time."""

    def __init__(self, limit: float) -> None:
        self.minibatches, self.seconds = 0, 0.0
        self._limit, self._start = limit, time.perf_counter()

    def look(self, minibatches: int, converged: bool) -> None:
        """Note a minibatch; raises ``Over`` if it was the last."""
        self.minibatches, self.seconds = minibatches, time.perf_counter() - self._start
        if converged or self.seconds > self._limit:
            raise Over
