"""Nodes that are computed one by one, as the executors of one process compute them."""

from collections.abc import Collection

from stream_agent.engine.executors import ExecutorError, obstacle
from stream_agent.engine.packed import PackedExecutor
from stream_agent.engine.task_executor import BoundTask, Values
from stream_agent.engine.torch_state import computing
from stream_agent.network.rollout_network import RolloutNetwork, State
from stream_agent.theory.halves import Task, terms
import torch

# Those that compute single nodes; runtimes and CUDA graphs compile halves of a step.
EXECUTORS = ('eager', 'packed')


class EagerNodes:
    """
    Computes nodes of a network as they are, with the network's own operations.

    :param network: In evaluation mode. It keeps the weights of these nodes only, on the device,
        and is of no use to others any more.
    :param names: The nodes.
    """

    def __init__(self, network: RolloutNetwork, names: Collection[str], device: torch.device
                 ) -> None:
        self._network, self._device = network, device
        keep_weights(network, names, device)

    def initial_values(self) -> Values:
        """Return every node before the first frame, laid out as its values will be."""
        return {name: torch.zeros(1, *shape, device=self._device)
                for name, shape in self._network.state_shapes.items()}

    def compute(self, name: str, now: Values, before: Values) -> None:
        """Compute a node from the values of this frame and of the one before, into the former."""
        self._network.update([name], State(now), State(before))


class ExactNodes(EagerNodes):
    """The same on a GPU, where cuDNN rounds unless it is told not to."""

    def compute(self, name: str, now: Values, before: Values) -> None:
        """Compute a node, as above."""
        with computing(tf32=False):
            super().compute(name, now, before)


class PackedNodes(PackedExecutor):
    """
    Computes nodes with packed weights, on the CPU.

    :param names: The nodes.
    :param precision: Of feature maps and convolutions.
    """

    def __init__(self, network: RolloutNetwork, names: Collection[str],
                 precision: torch.dtype = torch.float32) -> None:
        super().__init__(network, precision=precision)
        with torch.inference_mode():
            self._computed = {name: super(PackedNodes, self).bind(
                Task(name, terms(network.graph, name))) for name in names}
        keep_weights(network, names, torch.device('cpu'))

    def bind(self, task: Task) -> BoundTask:
        """Do nothing for halves of a step, which are for one process."""
        return lambda now, before: None

    def compute(self, name: str, now: Values, before: Values) -> None:
        """Compute a node from the values of this frame and of the one before, into the former."""
        self._computed[name](now, before)


def make_nodes(network: RolloutNetwork, names: Collection[str], device: torch.device,
               executor: str, precision: str) -> EagerNodes | PackedNodes:
    """
    Return what computes nodes.

    :param executor: A name in ``EXECUTORS``.
    :param precision: 'float32' or 'bfloat16', as for ``Engine``.
    :raises ExecutorError: If the executor is not to be had.
    """
    if executor not in EXECUTORS:
        raise ExecutorError(f"executor '{executor}' computes no single nodes; "
                            f"ranks take {' or '.join(EXECUTORS)}")
    reason = obstacle(executor, device.type, precision)
    if reason:
        raise ExecutorError(f"executor '{executor}': {reason}")
    if executor == 'packed':
        return PackedNodes(network, names, getattr(torch, precision))
    kind = EagerNodes if device.type == 'cpu' else ExactNodes
    return kind(network, names, device)


def keep_weights(network: RolloutNetwork, names: Collection[str], device: torch.device) -> None:
    """Move the weights of some nodes to a device, and free those of all others."""
    kept = set(names)
    for edge in network.graph.edges:
        if edge.target in names:
            kept |= {f'{edge.source}-{edge.target}', edge.share}
    for modules in (network.transforms, network.normalisations, network.cells,
                    network.activations):
        for key, module in modules.items():
            module.to(device if key in kept else 'meta')
