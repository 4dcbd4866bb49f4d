"""The engine: one owner of state; it answers first and settles the rest after."""

from collections.abc import Callable, Collection, Mapping
from typing import Any
import warnings

import numpy as np
from stream_agent.engine.autotune import check_outputs, choose_backend, Measured
from stream_agent.engine.backends import BackendConfig, make_backend
from stream_agent.engine.torch_globals import flushed_denormals, torch_threads
from stream_agent.network.program import Arrays, by_input
from stream_agent.network.rollout_network import RolloutNetwork
import torch


def choose_device(name: str) -> torch.device:
    """
    Return the torch device of that name; 'auto' is the GPU if there is one.

    :raises ValueError: If the device is not available.
    """
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device '{name}' is not available ({reason}); "
                         "use 'auto', 'cpu', or a CUDA device that nvidia-smi lists") from None
    return device


def warn_of(old: str, new: str) -> None:
    """Warn whoever called us of a name that the next release does not have."""
    warnings.warn(f"Engine: '{old}' is called '{new}' now; rename it, as the next release does "
                  'not know the old name', FutureWarning, stacklevel=3)


class FrameCheck:
    """
    Refuses arrays that do not fit a network's inputs, and brings others into a backend's form.

    :param batch_size: As of ``Engine``.
    :param kept: Inputs whose arrays are copied, besides those that have gaps in memory.
    """

    def __init__(self, network: RolloutNetwork, batch_size: int | None = None,
                 kept: Collection[str] = ()) -> None:
        self._batched = batch_size is not None
        batch = () if batch_size is None else (batch_size,)
        self._shapes = {name: (*batch, *network.shapes[name]) for name in network.inputs}
        self._inputs, self._kept = network.inputs, {*kept}
        # Of the only input, if there is one.
        self._shape = self._shapes[network.input] if len(network.inputs) == 1 else None
        self._keeps = network.input in self._kept

    def take(self, frame: Arrays) -> Arrays:
        """
        Return what a backend takes: with a batch axis, and an array where there is one input.

        :raises ValueError: If an array has another type or shape, or an input is missing.
        """
        # One array is every robot's case until it has several sensors, and costs the least.
        if isinstance(frame, np.ndarray) and (
                frame.dtype == np.float32 and frame.shape == self._shape):
            # What a later frame reads must not be the caller's memory.
            array = frame.copy() if self._keeps or not frame.flags.carray else frame
            return array if self._batched else array[np.newaxis]
        try:
            arrays = by_input(self._inputs, frame)
        except ValueError as error:
            raise ValueError(f'respond: {error}') from None
        given = isinstance(frame, Mapping)
        taken = {name: self._taken(name, value, f"the input '{name}'" if given else 'the frame')
                 for name, value in arrays.items()}
        return taken if len(taken) > 1 else taken[self._inputs[0]]

    def _taken(self, name: str, array: np.ndarray, what: str) -> np.ndarray:
        shape = self._shapes[name]
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            kind = getattr(array, 'dtype', type(array).__name__)
            raise ValueError(f'respond: {what} is {kind}; it needs to be a float32 array, as '
                             'preprocessing makes it')
        if array.shape != shape:
            raise ValueError(f'respond: {what} has the shape {list(array.shape)}; the network '
                             f'takes {list(shape)}')
        if name in self._kept or not array.flags.carray:
            array = array.copy()
        return array if self._batched else array[np.newaxis]

    def black(self) -> dict[str, np.ndarray]:
        """Return zeros for every input."""
        return {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}


class Engine:
    """
    One network, one device, one stream of frames or a batch of them.

    A step has two halves: ``respond`` computes what the output needs and returns it, ``settle``
    computes what only later frames need. With the backend 'eager' they equal the undivided step
    bit by bit, with others up to rounding.

    :param network: Moved to the device and put in evaluation mode.
    :param device: A torch device string such as 'cuda:0' or 'cpu', or 'auto'.
    :param updates_per_frame: Update steps that callers hold one image for, at least 1: they
        call ``step`` for all but the last, then ``respond`` and ``settle``.
    :param backend: A name in ``backends.BACKENDS``, or 'auto' for the one that is measured to
        be the fastest.
    :param precision: 'float32', 'tf32' or 'bfloat16'.
    :param threads: On the CPU; 0 to measure whether all cores are better than one, as 'auto'
        does anyway, None for as many as torch uses (1 in other runtimes).
    :param batch_size: B, for frames (B, *shape) and outputs alike; None for one stream without
        a batch axis.
    :param executor: What ``backend`` was called in the release before.
    :raises ValueError: If the device or the backend is not available.
    """

    def __init__(self, network: RolloutNetwork, device: str = 'cpu',
                 updates_per_frame: int = 1, *, backend: str = 'eager',
                 precision: str = 'float32', threads: int | None = None,
                 batch_size: int | None = None, executor: str | None = None) -> None:
        if executor is not None:
            warn_of('executor', 'backend')
            backend = executor
        if updates_per_frame < 1:
            raise ValueError(f'updates_per_frame is {updates_per_frame}; it is at least 1')
        if threads is not None and threads < 0:
            raise ValueError(f'threads is {threads}; it is at least 1, or 0 to measure')
        if batch_size is not None and batch_size < 1:
            raise ValueError(f'batch_size is {batch_size}; it is at least 1')
        self.device = choose_device(device)
        self.updates_per_frame = updates_per_frame
        self._check = FrameCheck(network, batch_size, kept=[
            source for (source, _), streams in network.pattern.items() if streams])
        self._take = self._check.take
        self._batched = batch_size is not None
        request = BackendConfig(network.to(self.device).eval(), batch_size or 1, precision,
                                threads or 1)
        #: What was measured to choose the backend, if that was asked for.
        self.measured: list[Measured] = []
        self.backend_name, self.threads = backend, threads
        with flushed_denormals():
            self._make_backend(request)
        #: Processes that share the work; with more see ``ranks.local_ranks``.
        self.ranks = 1
        self.reset()

    def _make_backend(self, request: BackendConfig) -> None:
        """Make the backend that was asked for, or find the fastest."""
        backend = self.backend_name
        if backend == 'auto' or self.threads == 0:
            names = () if backend == 'auto' else (backend,)
            chosen, measured = choose_backend(self.device, request, self.threads or 0, names)
            # The others' memory and threads are given back.
            self.measured = [one._replace(backend=None) for one in measured]
            self.backend_name, self.threads = chosen.name, chosen.threads
            assert chosen.backend is not None
            self._backend = chosen.backend
        else:
            self._backend = make_backend(backend, self.device, request)
            if backend != 'eager':
                check_outputs(backend, self._backend, request)

    @property
    def executor_name(self) -> str:
        """Name of the backend, as it was called in the release before."""
        warn_of('executor_name', 'backend_name')
        return self.backend_name

    def reset(self) -> None:
        """Forget every frame seen so far."""
        self._in_threads(self._backend.reset)
        self._settled = True

    def warm_up(self, frames: int = 20) -> None:
        """Take the slow first steps now, on black frames, and forget them."""
        self.reset()
        black = self._check.black()
        for _ in range(frames):
            self.step(black)
        self.reset()

    def respond(self, frame: Arrays) -> np.ndarray:
        """
        Answer a frame: compute what the output needs in it.

        :param frame: float32 of the input node's shape, with a batch axis if the engine has one;
            not to be written to before it is settled. A mapping from the names of the inputs to
            such arrays where the network has several.
        :returns: The output node, float32, likewise, on the host.
        :raises RuntimeError: If the frame before has not been settled.
        :raises ValueError: If the frame has another type or shape, or lacks an input.
        """
        if not self._settled:
            raise RuntimeError('respond: the frame before is not settled; call settle() first')
        output = self._in_threads(self._backend.respond, self._take(frame))
        self._settled = False
        # The backend may still read its own.
        return output.copy() if self._batched else output[0].copy()

    def settle(self) -> None:
        """
        Compute what only later frames need, and what the next one need not wait for.

        :raises RuntimeError: If there is no response to settle.
        """
        if self._settled:
            raise RuntimeError('settle: there is nothing to settle; call respond(frame) first')
        self._in_threads(self._backend.settle)
        self._settled = True

    def rehearse(self, frame: Arrays) -> None:
        """
        Answer a frame that nobody has asked about, and forget it.

        After 20 to 30 ms of other work, code and weights have to come from memory, so that an
        answer takes twice to three times as long. A rehearsal shortly before the next frame
        brings them back. It changes no state; while a frame is not settled, it does nothing.

        :param frame: As for ``respond``.
        """
        if self._settled and hasattr(self._backend, 'rehearse'):
            self._in_threads(self._backend.rehearse, self._take(frame))

    def _in_threads(self, work: Callable, *arguments: Arrays) -> Any:
        """Work with as many threads as this engine has, whatever other engines have."""
        with flushed_denormals():
            if self.threads in (None, torch.get_num_threads()):
                return work(*arguments)
            with torch_threads(self.threads):
                return work(*arguments)

    def close(self) -> None:
        """Give the backend's memory and threads back; nothing is stepped after that."""
        del self._backend

    def step(self, frame: Arrays) -> np.ndarray:
        """Respond, settle, and return the output."""
        output = self.respond(frame)
        self.settle()
        return output
