"""One rank's part of every frame: its own nodes, from its own values and those that come."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from stream_agent.engine.backends import BackendError, why_unusable
from stream_agent.engine.packed import Packing
from stream_agent.engine.ranks.exchange import Exchange
from stream_agent.engine.torch_globals import computing
from stream_agent.network.program import bind, Values
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.frame_schedule import NodeWork
from stream_agent.theory.planning.partition import Partition, work_order
import torch
from torch import Tensor

# Those that compute single nodes; runtimes and CUDA graphs compile halves of a step.
BACKENDS = ('eager', 'packed')


class EagerNodes:
    """
    Computes nodes of a network as they are, by the operations of their programs.

    :param network: In evaluation mode. It keeps the weights of these nodes only, on the device,
        and is of no use to others any more.
    :param names: The nodes.
    """

    def __init__(self, network: RolloutNetwork, names: Collection[str], device: torch.device
                 ) -> None:
        self._network, self._device = network, device
        self._nodes = {name: bind(network.programs[name].operations()) for name in names}
        keep_weights(network, names, device)

    def initial_values(self) -> Values:
        """Return every node before the first frame, laid out as its values will be."""
        return {name: torch.zeros(1, *shape, device=self._device)
                for name, shape in self._network.state_shapes.items()}

    def compute(self, name: str, now: Values, before: Values) -> None:
        """Compute a node from the values of this frame and of the one before, into the former."""
        self._nodes[name](now, before)


class ExactNodes(EagerNodes):
    """The same on a GPU, where cuDNN rounds unless it is told not to."""

    def compute(self, name: str, now: Values, before: Values) -> None:
        """Compute a node, as above."""
        with computing(tf32=False):
            super().compute(name, now, before)


class PackedNodes:
    """
    Computes nodes with packed weights, on the CPU.

    :param names: The nodes.
    :param precision: Of feature maps and convolutions.
    """

    def __init__(self, network: RolloutNetwork, names: Collection[str],
                 precision: torch.dtype = torch.float32) -> None:
        packing = Packing(network, 1, precision)
        #: Gives every node before the first frame.
        self.initial_values = packing.initial_values
        with torch.inference_mode():
            self._nodes = {name: packing.bind(network.programs[name]) for name in names}
        keep_weights(network, names, torch.device('cpu'))

    def compute(self, name: str, now: Values, before: Values) -> None:
        """Compute a node from the values of this frame and of the one before, into the former."""
        self._nodes[name](now, before)


def check_backend(backend: str, device: str, precision: str) -> None:
    """
    Refuse what cannot compute the nodes of a rank on a type of device.

    :raises BackendError: As in ``make_nodes``.
    """
    if backend not in BACKENDS:
        raise BackendError(f"backend '{backend}' computes no single nodes; "
                           f"ranks take {' or '.join(BACKENDS)}")
    reason = why_unusable(backend, device, precision)
    if reason:
        raise BackendError(f"backend '{backend}': {reason}")


def make_nodes(network: RolloutNetwork, names: Collection[str], device: torch.device,
               backend: str, precision: str) -> EagerNodes | PackedNodes:
    """
    Return what computes nodes.

    :param backend: A name in ``BACKENDS``.
    :param precision: 'float32' or 'bfloat16', as for ``Engine``.
    :raises BackendError: If the backend is not available.
    """
    check_backend(backend, device.type, precision)
    if backend == 'packed':
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


class OwnNodes(NamedTuple):
    """The nodes of a rank by what a frame does with them, in the order of its work."""

    held: list[str]
    respond: list[str]
    settle: list[str]


class RankStep:
    """
    Owns the state of the nodes of one rank.

    :param network: Whose graph and pattern it is.
    :param names: The nodes of this rank.
    :param nodes: Computes them.
    :param exchange: With the other ranks.
    """

    def __init__(self, network: RolloutNetwork, partition: Partition, names: list[str],
                 nodes: EagerNodes | PackedNodes, exchange: Exchange, device: torch.device
                 ) -> None:
        self._nodes, self._exchange, self._device = nodes, exchange, device
        self._names, self._input, self._output = names, network.input, network.graph.output
        self._reads = {v: [u for u in exchange.sources if (u, v) in network.pattern]
                       for v in names}
        self._frames = [OwnNodes(
            held=[name for name in schedule.held if name in names],
            respond=self._own(schedule.respond),
            settle=work_order(network.graph, network.pattern, partition.rank_of,
                              self._own(schedule.settle))) for schedule in network.schedules]
        self._forget()

    def _own(self, works: Iterable[NodeWork]) -> list[str]:
        return [work.node for work in works if work.node in self._names]

    def _forget(self) -> None:
        values = self._nodes.initial_values()
        self._before = {name: values[name] for name in (
            *self._names, *self._exchange.sources, self._input)}
        self._frame = 0
        self.under_way = False

    def begin(self, image: Tensor | None) -> None:
        """
        Start a frame.

        :param image: (1, *shape) on any device; None if no node of this rank reads it.
        """
        self.under_way = True
        self._frame += 1
        self._own_nodes = self._frames[self._frame % len(self._frames)]
        self._exchange.begin(self._frame)
        self._now = {name: self._before[name] for name in self._own_nodes.held}
        if image is not None:
            self._now[self._input] = image.to(self._device)

    def respond(self) -> Tensor:
        """Compute the response cone, which is on rank 0, and return the output."""
        self._compute(self._own_nodes.respond)
        return self._now[self._output]

    def settle(self) -> None:
        """Compute all other nodes, and end the frame."""
        self._compute(self._own_nodes.settle)
        self._exchange.end()
        for source in self._exchange.sources:
            self._now[source] = self._before[source]
        self._before = self._now
        self.under_way = False

    def _compute(self, names: list[str]) -> None:
        """Compute nodes, waiting for the values of other ranks where they are read."""
        for name in names:
            for source in self._reads[name]:
                value = self._exchange.take(source)
                if value is not None:
                    self._before[source] = value
            self._nodes.compute(name, self._now, self._before)
            self._exchange.send(name, self._now[name])

    def reset(self) -> None:
        """Forget every frame seen so far, once nothing is on its way."""
        self._exchange.drain()
        self._exchange.forget()
        self._forget()
