"""Runs the tasks of a step: for the answer what needs the image, and all else after it."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
from stream_agent.engine.read_outs import join_read_outs, ReadOuts
from stream_agent.network.modules import Term
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.frame_schedule import frame_tasks, Task
import torch
from torch import nn, Tensor

Values = dict[str, Tensor]
# Computes a node from the values of its own frame and of the frame before, into the former.
BoundTask = Callable[[Values, Values], None]


class BoundFrame(NamedTuple):
    """The tasks of a frame, as in ``theory.halves.FrameTasks``, ready to be called."""

    held: tuple[str, ...]
    ahead: list[BoundTask]
    respond: list[BoundTask]
    rest: list[BoundTask]


class TaskBackend:
    """
    Steps a network by tasks, one after the other, with the network's own modules.

    Sums are added up in another order than in the network's step, so values may differ from it
    by rounding.

    :param network: In evaluation mode, on the device to work on.
    :param batch_size: B, streams of frames that are stepped together.
    """

    def __init__(self, network: RolloutNetwork, batch_size: int = 1) -> None:
        self._network = network
        self._batch_size = batch_size
        self._input, self._output = network.input, network.graph.output
        bind = cache(self.bind)
        self._frames = []
        for frame in range(network.graph.hyperperiod):
            held, *parts = frame_tasks(network.graph, network.pattern, frame)
            self._frames.append(BoundFrame(held, *(list(map(bind, part)) for part in parts)))
        self.reset()

    def bind(self, task: Task) -> BoundTask:
        """Make a task callable."""
        return bind_terms(self._network, task, terms_of(self._network, task))

    def initial_values(self) -> Values:
        """Return every node before the first frame."""
        return self._network.initial_state(self._batch_size).values

    def take(self, frame: np.ndarray) -> Tensor:
        """Return a frame as the input node's value."""
        return torch.from_numpy(frame)

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget every frame, and prepare for the first one."""
        self._frame = 0
        self._prepare(self.initial_values())

    def _prepare(self, before: Values) -> None:
        """Do what the next frame needs and does not have to wait for."""
        self._before = before
        self._frame += 1
        frame = self._frames[self._frame % len(self._frames)]
        self._now = {name: before[name] for name in frame.held}
        for run in frame.ahead:
            run(self._now, before)

    @torch.inference_mode()
    def respond(self, frame: np.ndarray) -> np.ndarray:
        """
        Answer a frame.

        :param frame: float32, (B, *shape) of the input node.
        :returns: The output node, float32, (B, *shape), on the host.
        """
        now, before = self._now, self._before
        now[self._input] = self.take(frame)
        for run in self._frames[self._frame % len(self._frames)].respond:
            run(now, before)
        return now[self._output].float().numpy()

    @torch.inference_mode()
    def settle(self) -> None:
        """Compute what only later frames need, and begin the next one."""
        now, before = self._now, self._before
        for run in self._frames[self._frame % len(self._frames)].rest:
            run(now, before)
        self._prepare(now)


def terms_of(network: RolloutNetwork, task: Task) -> list[Term]:
    """Return what a task sums."""
    sources = {source for source, _ in task.edges}
    return [term for term in network.at_work.terms[task.node] if term.source in sources]


def total_of(terms: Iterable[Term], now: Values, before: Values, total: Tensor | None) -> Tensor:
    """Add terms to a total; None for nothing yet."""
    for term in terms:
        value = term.module((before if term.streams else now)[term.source])
        for module, source, streams in term.others:
            value = value * module((before if streams else now)[source])
        total = value if total is None else total + value
    return total


class Ending(NamedTuple):
    """What a node's sum goes through; None for what does nothing."""

    prepare: nn.Module | None
    cell: nn.Module | None
    activation: nn.Module | None

    def __call__(self, total: Tensor, previous: Tensor | None) -> Tensor:
        """Return the node's value, from its sum and its value at the frame before."""
        total = self.prepare(total) if self.prepare else total
        total = self.cell(total, previous) if self.cell else total
        return self.activation(total) if self.activation else total


def bind_terms(network: RolloutNetwork, task: Task, terms: list[Term]) -> BoundTask:
    """Make a task callable, with the modules of its terms as they are."""
    name = task.node
    joined, terms = join_read_outs(terms)
    read_outs = ReadOuts([term.module for term in joined]) if joined else None
    ending = Ending(*network.at_work.ends[name])

    def run(now: Values, before: Values) -> None:
        total = now[name] if task.begun else None
        if read_outs:
            value = read_outs(*((before if term.streams else now)[term.source]
                                for term in joined))
            total = value if total is None else total + value
        total = total_of(terms, now, before, total)
        now[name] = ending(total, before.get(name)) if task.finishes else total

    return run
