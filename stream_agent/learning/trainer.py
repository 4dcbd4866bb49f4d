"""The loop of every training: gradient steps, shared by several processes, that resume."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
import ctypes
from dataclasses import asdict, dataclass
import math
from pathlib import Path
import sys
import time
from typing import Any

import numpy as np
from stream_agent.contract.conversions import Conversion, OutputScale
from stream_agent.engine.torch_globals import flushed_denormals
from stream_agent.learning import distributed
from stream_agent.learning.progress import Progress, StopRequests
from stream_agent.learning.resume import LearnerState, ResumeError, ResumeFile, TrainingState
from stream_agent.learning.settings import (
    DECAYS, OPTIMISERS, PRECISIONS, TrainerOptions, TrainingError)
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.rollout_network import RolloutNetwork
import torch
from torch import nn, Tensor
from torch.nn.parallel import DistributedDataParallel


class Learner(ABC):
    """
    What is trained: a network, and the loss of every gradient step.

    :ivar label: Shown, and in the files' names.
    :ivar frames_per_step: Frames in a gradient step, of this process.
    :ivar device: Where the network is; set by the trainer.
    :ivar segment: Frames of a window whose values are kept for the gradients at a time; None for
        all. Set by the trainer.
    :ivar stopped: Tells whether the training has been asked to stop; set by the trainer.
    :ivar origin: Names the policy that the weights are from; empty if they were drawn.
    :ivar frozen: Nodes whose weights stay, as the command line names them.
    """

    network: nn.Module
    label: str
    frames_per_step: int
    device: torch.device = torch.device('cpu')
    segment: int | None = None
    stopped: Callable[[], bool] = staticmethod(lambda: False)
    origin: str = ''
    frozen: tuple[str, ...] = ()

    @abstractmethod
    def loss(self, step: int) -> Tensor:
        """
        Return the mean over this process's share of a gradient step's joint batch.

        What is drawn must depend only on seed and step, and all processes need to draw the same
        joint batch, of which each takes ``distributed.local_slice``.

        :param step: From 0 on.
        """

    def prepare(self, step: int) -> bool:
        """
        Do what comes before a gradient step and has no gradient, such as driving.

        :returns: False if it was ``stopped`` in between; the next call begins anew.
        """
        return True

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Return the weights with their learning rates, as torch's optimisers take them."""
        return [{'params': [weight for weight in self.network.parameters()
                            if weight.requires_grad], 'lr': rate}]

    def figures(self) -> dict[str, Any]:
        """Return what is shown besides the loss."""
        return {}

    def initial_settings(self) -> dict[str, Any]:
        """Return as JSON what must be the same for a training to be resumed."""
        return {}

    def state_dict(self) -> tuple[dict[str, Tensor], Any]:
        """Return tensors and JSON that the learner resumes from, besides the network's weights."""
        return {}, None

    def load_state_dict(self, tensors: Mapping[str, Tensor], data: Any) -> None:
        """Resume from what ``state_dict`` returned."""


class DrivingLearner(Learner):
    """
    A learner whose network becomes a policy.

    :ivar preprocessing: Conversion of the input that triggers; ``others`` of the other inputs.
    :ivar steps: Gradient steps of the whole training.
    :ivar learning_rate: At the start.
    :ivar updates_per_frame: Update steps for which every image is held.
    :ivar warm_up: Steps in which the learning rate rises to that.
    """

    network: RolloutNetwork
    preprocessing: Conversion
    limits: CommandScale | OutputScale
    steps: int
    learning_rate: float
    others: Mapping[str, Conversion] = {}
    updates_per_frame: int = 1
    warm_up: int = 0

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Return as JSON what the policy's file says about how its weights were trained."""

    def verdict(self, provenance: dict[str, Any]) -> str:
        """Say by the provenance how good the policy is; empty if unknown."""
        return ''


# From <malloc.h>: size from which free memory at the heap's end returns to the system, -1 for
# never; and how many large pieces may each be mapped anew.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
NEVER, NONE = -1, 0


def keep_freed_memory() -> bool:
    """
    Let the process keep the memory that tensors free, for the next gradient step.

    The system clears every page that it hands out, and a window of large feature maps is tens of
    thousands of pages.

    :returns: Whether the C library, glibc, accepted that.
    """
    if not sys.platform.startswith('linux'):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    return mallopt is not None and bool(mallopt(MMAP_MAX, NONE)
                                        and mallopt(TRIM_THRESHOLD, NEVER))


# What may differ between the two halves of a training that was stopped.
FREE = ('device', 'segment', 'save_every', 'tensorboard', 'position', 'quiet')


@dataclass(frozen=True)
class TrainingOutcome:
    """
    How a training went.

    :param finished: Whether it took all of its steps; otherwise it was told to stop.
    :param step: Gradient steps taken, including those before it was resumed.
    :param losses: Of every gradient step, over the joint batch.
    :param seconds: Without the time between being stopped and resumed.
    :param resumed: Whether it began where an earlier one had stopped.
    """

    finished: bool
    step: int
    losses: list[float]
    seconds: float
    resumed: bool = False


class LossOf(nn.Module):
    """A learner's loss as a forward pass, after which gradients are exchanged."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.network = learner.network
        self._learner = learner

    def forward(self, step: int) -> Tensor:
        return self._learner.loss(step).float()


class Trainer:
    """
    Takes gradient steps until there are enough of them or it is asked to stop.

    With torchrun, every process has a trainer of its own, and all of them take the same steps
    on the mean gradient. The same options give the same losses and weights; on one CPU thread
    bit by bit, even if the training was stopped and resumed in between.

    :param folder: Of the file to resume from, ``LABEL.resume.safetensors``; None for no file.
    """

    def __init__(self, learner: Learner, options: TrainerOptions, folder: Path | None) -> None:
        self.learner = learner
        self.options = options
        self._device = learner.device = distributed.join(options.device)
        learner.segment = options.segment or None
        learner.network.to(self._device)
        if self._device.type == 'cuda':
            torch.backends.cudnn.deterministic = True
        self._optimiser = OPTIMISERS[options.optimiser](
            learner.parameter_groups(options.learning_rate), lr=options.learning_rate)
        self._rates = [group['lr'] for group in self._optimiser.param_groups]
        self._scaler = torch.amp.GradScaler(self._device.type,
                                            enabled=options.precision == 'float16')
        self._loss_of: nn.Module = LossOf(learner)
        if distributed.world_size() > 1:
            self._loss_of = DistributedDataParallel(self._loss_of, find_unused_parameters=True)
        self._file = None if folder is None else ResumeFile(
            folder / f'{learner.label}.resume.safetensors', {
                # Last what follows from the rest, such as steps.
                'initial policy': learner.origin or None,
                'frozen nodes': list(learner.frozen) or None, **learner.initial_settings(),
                **{name: value for name, value in asdict(options).items() if name not in FREE},
                'processes': distributed.world_size()})
        self._losses: list[float] = []
        self._earlier = 0.0
        self._resumed = False

    def run(self, report: Callable[[int, float], None] | None = None) -> TrainingOutcome:
        """
        Train; resume from the file if there is one, and write it regularly and at the end.

        :param report: Called by process 0 after every gradient step, with step and loss.
        :raises ResumeError: If there is a file from which the training cannot resume.
        :raises TrainingError: If the loss is no longer finite.
        :raises DistributedError: If another process has ended.
        """
        keep_freed_memory()
        self._resume()
        start = saved = time.perf_counter()
        stopped: float = False
        with StopRequests() as stop, self._open_progress() as progress, flushed_denormals():
            self.learner.stopped = lambda: stop.requested
            while not stopped and len(self._losses) < self.options.steps:
                step = len(self._losses)
                loss = self._take(step)
                if loss is None:
                    break
                due: float = time.perf_counter() - saved >= self.options.save_every
                # Clocks and Ctrl-C may differ between processes, which need to act as one.
                total, stopped, due = distributed.summed([loss, stop.requested, due])
                self._losses.append(self._checked(total / distributed.world_size()))
                if distributed.rank() == 0:
                    progress.show(step, self._losses[-1], self.learner.figures())
                    if report:
                        report(step, self._losses[-1])
                if due:
                    self._save(time.perf_counter() - start)
                    saved = time.perf_counter()
            seconds = time.perf_counter() - start
            self._save(seconds)
        return TrainingOutcome(len(self._losses) == self.options.steps, len(self._losses),
                               list(self._losses), self._earlier + seconds, self._resumed)

    def discard(self) -> None:
        """Remove the file to resume from: what was trained is now kept elsewhere."""
        if self._file:
            self._file.remove()

    def _open_progress(self) -> Progress:
        options, shown = self.options, distributed.rank() == 0
        return Progress(self.learner.label, len(self._losses), options.steps,
                        self.learner.frames_per_step * distributed.world_size(),
                        options.position if shown and not options.quiet else None,
                        options.tensorboard if shown else None)

    def _take(self, step: int) -> float | None:
        """Take one gradient step; returns this process's loss, None if it was stopped before."""
        # From the step alone, so that dropout after a resume is as it would have been.
        seeds = np.random.SeedSequence([self.options.seed, step, distributed.rank()])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
        if not self.learner.prepare(step):
            return None
        self.learner.network.train()
        for group, rate in zip(self._optimiser.param_groups, self._rates):
            group['lr'] = (rate * DECAYS[self.options.decay](step / self.options.steps)
                           * min(1.0, (step + 1) / max(1, self.options.warm_up)))
        self._optimiser.zero_grad()
        with distributed.told_in_words():
            precision = self.options.precision
            with (nullcontext() if precision == 'float32'
                  else torch.autocast(self._device.type, PRECISIONS[precision])):
                loss = self._loss_of(step)
            self._scaler.scale(loss).backward()
        if self.options.clip:
            self._scaler.unscale_(self._optimiser)
            nn.utils.clip_grad_norm_(self.learner.network.parameters(), self.options.clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        return loss.item()

    def _checked(self, loss: float) -> float:
        """Refuse a loss from which no weights recover."""
        if not math.isfinite(loss):
            precision = self.options.precision
            raise TrainingError(
                f'{self.learner.label}: the loss is {loss} at gradient step {len(self._losses)}; '
                f'use a smaller learning rate than {self.options.learning_rate:g}'
                + (f', or another precision than {precision}' if precision != 'float32' else ''))
        return loss

    def _save(self, seconds: float) -> None:
        """Write the file to resume from."""
        if not self._file:
            return
        tensors = {f'network/{name}': value
                   for name, value in self.learner.network.state_dict().items()}
        for i, kept in self._optimiser.state_dict()['state'].items():
            tensors |= {f'optimiser/{i}/{name}': value for name, value in kept.items()}
        tensors['losses'] = torch.tensor(self._losses, dtype=torch.float64)
        self._file.write(TrainingState(tensors, LearnerState(*self.learner.state_dict()), {
            'seconds': self._earlier + seconds, 'scaler': self._scaler.state_dict()}))

    def _resume(self) -> None:
        """Resume from the file, if there is one."""
        if self._file is None or (state := self._file.read()) is None:
            return
        weights, kept = dict[str, Tensor](), dict[int, dict[str, Tensor]]()
        for name, value in state.tensors.items():
            kind, *rest = name.split('/', 2)
            if kind == 'network':
                weights['/'.join(rest)] = value
            elif kind == 'optimiser':
                kept.setdefault(int(rest[0]), {})[rest[1]] = value
        try:
            self.learner.network.load_state_dict(weights)
            self._optimiser.load_state_dict({**self._optimiser.state_dict(), 'state': kept})
            self._scaler.load_state_dict(state.numbers['scaler'])
            self._losses = state.tensors['losses'].tolist()
            self._earlier = state.numbers['seconds']
        except (KeyError, RuntimeError, ValueError) as error:
            raise ResumeError(f'{self._file.path}: the file does not fit this network ({error}); '
                              'to start anew, add --fresh') from None
        self.learner.load_state_dict(*state.learner)
        self._resumed = True
        if distributed.rank() == 0 and not self.options.quiet:
            print(f'{self.learner.label}: resumes at step {len(self._losses)} of '
                  f"{self.options.steps}, from '{self._file.path}'", flush=True)
