"""What can step a network: plain torch, prepared for a CPU, in another runtime, on a GPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
import sys
from typing import Any, NamedTuple, Protocol

import numpy as np
from stream_agent.engine import packed
from stream_agent.engine.torch_globals import computing
from stream_agent.network.program import Arrays, Frames
from stream_agent.network.rollout_network import RolloutNetwork
import torch

PRECISIONS = ('float32', 'tf32', 'bfloat16')


class Backend(Protocol):
    """Owns the state of one network on one device, for one stream of frames or a batch."""

    def reset(self) -> None:
        """Forget every frame."""

    def respond(self, frame: Arrays) -> np.ndarray:
        """
        Answer a frame.

        :param frame: float32, (B, *shape) of every input node; an array where there is one.
        :returns: The output node, float32, (B, *shape), on the host; it may be overwritten by
            a later frame.
        """

    def settle(self) -> None:
        """Compute what only later frames need."""


def to_tensors(frame: Arrays, device: torch.device) -> Frames:
    """Return what a network takes on a device; on the CPU in the arrays' own memory."""
    if isinstance(frame, np.ndarray):
        return torch.from_numpy(frame).to(device)
    return {name: torch.from_numpy(value).to(device) for name, value in frame.items()}


class EagerBackend:
    """
    The reference: steps a network as it is, on the device that holds its weights.

    Both halves of a step are the network's own, operation by operation.
    """

    def __init__(self, network: RolloutNetwork, batch_size: int = 1) -> None:
        self._network = network
        self._device = network.initial_state().values[network.input].device
        self._respond, self._settle = network.respond, network.settle
        if self._device.type == 'cuda':  # where cuDNN rounds unless it is told not to
            exactly = computing(tf32=False)
            self._respond, self._settle = exactly(network.respond), exactly(network.settle)
        self._batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        """Forget every frame."""
        self._state = self._network.initial_state(self._batch_size)
        self._now: Any = None  # or, until it is settled, a State

    @torch.inference_mode()
    def respond(self, frame: Arrays) -> np.ndarray:
        """Return the output node, (B, *shape), for a frame of the inputs, all float32."""
        output, self._now = self._respond(to_tensors(frame, self._device), self._state)
        return output.cpu().numpy()

    @torch.inference_mode()
    def rehearse(self, frame: Arrays) -> None:
        """Compute the answer to a frame, and forget it."""
        self._network.respond(to_tensors(frame, self._device), self._state)

    @torch.inference_mode()
    def settle(self) -> None:
        """Compute what only later frames need."""
        self._state = self._settle(self._now, self._state)
        self._now = None


class BackendConfig(NamedTuple):
    """
    What a backend is made for.

    :param network: In evaluation mode, on the device.
    :param batch_size: B, streams of frames that are stepped together.
    :param precision: A name in ``PRECISIONS``.
    """

    network: RolloutNetwork
    batch_size: int = 1
    precision: str = 'float32'
    threads: int = 1


class BackendKind(NamedTuple):
    """
    A kind of backend.

    :param devices: Types of torch devices that it works on.
    :param missing: Says what it lacks on this machine; '' for nothing.
    """

    make: Callable[[BackendConfig], Backend]
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    missing: Callable[[], str] = lambda: ''


def make_onnx_runtime(request: BackendConfig) -> Backend:
    """Make the backend in ONNX Runtime, which is imported only now."""
    from stream_agent.engine.onnx_runtime import OnnxRuntimeBackend
    return OnnxRuntimeBackend(request.network, request.batch_size, request.threads)


def make_openvino(request: BackendConfig) -> Backend:
    """Make the backend in OpenVINO, which is imported only now, and must not report that."""
    # Its import would fork this process, DDS and all, to send a report over the network;
    # without this package it does not (findings/openvino_import_forks.sh).
    sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]  # refuses it
    from stream_agent.engine.openvino import OpenVinoBackend
    return OpenVinoBackend(*request[:2], request.threads, request.precision)


def make_cuda_graphs(request: BackendConfig) -> Backend:
    """Make the backend of CUDA graphs."""
    from stream_agent.engine.cuda.graphs import CudaGraphBackend
    return CudaGraphBackend(*request[:3])


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    try:
        return bool(find_spec(package))
    except (ImportError, ValueError):  # a finder of modules may refuse it, too
        return False


def lacks(*packages: str) -> Callable[[], str]:
    """Return a function that says which of the packages are not installed."""
    def missing() -> str:
        names = [name for name in packages if not is_installed(name)]
        return f"{' and '.join(names)}; pip install {' '.join(names)}" if names else ''
    return missing


#: Backends by the names that parameters give them.
BACKENDS = {
    'eager': BackendKind(lambda request: EagerBackend(*request[:2]), ('cpu', 'cuda', 'mps', 'xpu'),
                         ('float32',)),
    'packed': BackendKind(lambda request: packed.PackedBackend(*request[:2], getattr(
                              torch, request.precision)), ('cpu',), ('float32', 'bfloat16'),
                          lambda: '' if packed.is_available() else 'the oneDNN operators'),
    'onnxruntime': BackendKind(make_onnx_runtime, ('cpu',), ('float32',),
                               lacks('onnx', 'onnxruntime')),
    'openvino': BackendKind(make_openvino, ('cpu',), ('float32', 'bfloat16'),
                            lacks('onnx', 'openvino')),
    'cuda_graphs': BackendKind(make_cuda_graphs, ('cuda',), PRECISIONS),
}


class BackendError(ValueError):
    """A backend is not available; the message says why, and which ones are."""


@contextmanager
def errors_named(name: str) -> Iterator[None]:
    """Turn whatever a backend fails with into a ``BackendError`` that names it."""
    try:
        yield
    except Exception as error:  # the errors of runtimes have no class in common
        # In runtimes, the reason comes last.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BackendError(
            f"backend '{name}' cannot step this network "
            f'({lines[-1] if lines else type(error).__name__}); '
            "take 'eager', or another transform") from error


def why_unusable(name: str, device: str, precision: str) -> str:
    """Return why a backend cannot be used; '' if it can."""
    kind = BACKENDS[name]
    if device not in kind.devices:
        return f"it works on {', '.join(kind.devices)}, not on {device}"
    if precision not in kind.precisions:
        return f"it works in {', '.join(kind.precisions)}, not in {precision}"
    missing = kind.missing()
    return missing and f'this machine lacks {missing}'


def usable(device: str, precision: str) -> list[str]:
    """Return the names of the backends that can be used on a type of device."""
    return [name for name in BACKENDS if not why_unusable(name, device, precision)]


def make_backend(name: str, device: torch.device, request: BackendConfig) -> Backend:
    """
    Make a backend by its name.

    :raises BackendError: If it is not available, or cannot step this network.
    """
    choices = usable(device.type, request.precision)
    if name not in BACKENDS:
        names = ', '.join([*choices, "'auto'"])
        raise BackendError(f"there is no backend '{name}'; on {device.type} in "
                           f'{request.precision} there are {names}')
    reason = why_unusable(name, device.type, request.precision)
    if reason:
        raise BackendError(f"backend '{name}': {reason}. On {device.type} in "
                           f"{request.precision} there are {', '.join(choices) or 'none'}")
    with errors_named(name):
        return BACKENDS[name].make(request)
