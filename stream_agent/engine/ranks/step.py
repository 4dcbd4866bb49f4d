"""One rank's part of every frame: its own nodes, from its own values and those that come."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from stream_agent.engine.backends import BackendError, why_unusable
from stream_agent.engine.packed import Packing
from stream_agent.engine.ranks.exchange import Exchange
from stream_agent.engine.torch_globals import computing
from stream_agent.network.program import bind, Run, Values
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.planning.partition import Partition, work_order
import torch
from torch import Tensor

# Those that compute single nodes; runtimes and CUDA graphs compile halves of a step.
BACKENDS = ('eager', 'packed')


class BoundNodes(NamedTuple):
    """
    Nodes of a network that can be computed one by one.

    :param initial_values: Gives every node before the first frame, laid out as its values will be.
    :param compute: By node; adds its value to those of this frame, given those of the one before.
    """

    initial_values: Callable[[], Values]
    compute: dict[str, Run]


def check_backend(backend: str, device: str, precision: str) -> None:
    """Raise BackendError for what cannot compute the nodes of a rank on a type of device."""
    if backend not in BACKENDS:
        raise BackendError(f"backend '{backend}' computes no single nodes; "
                           f"ranks take {' or '.join(BACKENDS)}")
    reason = why_unusable(backend, device, precision)
    if reason:
        raise BackendError(f"backend '{backend}': {reason}")


def make_nodes(network: RolloutNetwork, names: Collection[str], device: torch.device,
               backend: str, precision: str) -> BoundNodes:
    """
    Bind nodes of a network.

    :param network: In evaluation mode. It keeps the weights of these nodes only, on the device,
        and must not be used for anything else afterwards.
    :param backend: A name in ``BACKENDS``.
    :param precision: 'float32' or 'bfloat16', as for ``Engine``.
    :raises BackendError: If the backend is not available.
    """
    check_backend(backend, device.type, precision)
    if backend == 'packed':
        packing = Packing(network, 1, getattr(torch, precision))
        with torch.inference_mode():
            nodes = BoundNodes(packing.initial_values, {
                name: packing.bind(network.programs[name]) for name in names})
    else:
        runs = {name: bind(network.programs[name].operations()) for name in names}
        if device.type != 'cpu':  # cuDNN rounds unless it is told not to
            runs = {name: computing(tf32=False)(run) for name, run in runs.items()}
        nodes = BoundNodes(lambda: {name: torch.zeros(1, *shape, device=device)
                                    for name, shape in network.state_shapes.items()}, runs)
    keep_weights(network, names, device)
    return nodes


def keep_weights(network: RolloutNetwork, names: Collection[str], device: torch.device) -> None:
    """Move the weights of some nodes to a device, and free those of all others."""
    kept = set(names)
    for edge in network.graph.edges:
        if edge.target in names:
            kept |= {f'{edge.source}-{edge.target}', edge.share}
    for modules in (network.transforms, network.normalisations, network.cells,
                    network.activations, network.bodies):
        for key, module in modules.items():
            module.to(device if key in kept else 'meta')


class RankStep:
    """
    Owns the state of the nodes of one rank.

    :param network: Its graph and pattern are read, and nothing else.
    """

    def __init__(self, network: RolloutNetwork, partition: Partition, nodes: BoundNodes,
                 exchange: Exchange, device: torch.device) -> None:
        self._nodes, self._exchange, self._device = nodes, exchange, device
        self._inputs, self._output = network.inputs, network.graph.output
        names = nodes.compute
        self._reads = {v: [u for u in exchange.sources if (u, v) in network.pattern]
                       for v in names}
        #: What a frame holds, responds with and settles, each in the order of its work.
        self._frames: list[tuple[list[str], ...]] = []
        for held, _, *halves in network.schedules:
            respond, settle = ([work.node for work in half if work.node in names]
                               for half in halves)
            self._frames.append(([name for name in held if name in names], respond, work_order(
                network.graph, network.pattern, partition.rank_of, settle)))
        self._forget()

    def _forget(self) -> None:
        values = self._nodes.initial_values()
        self._before = {name: values[name] for name in (
            *self._nodes.compute, *self._exchange.sources, *self._inputs)}
        self._frame = 0
        self.under_way = False

    def begin(self, frame: Mapping[str, Tensor]) -> None:
        """Start a frame, of those inputs that nodes of this rank read, (1, *shape) each."""
        self.under_way = True
        self._frame += 1
        held, *self._halves = self._frames[self._frame % len(self._frames)]
        self._exchange.begin(self._frame)
        self._now = {name: self._before[name] for name in held}
        for name, value in frame.items():
            self._now[name] = value.to(self._device)

    def respond(self) -> Tensor:
        """Compute the response cone, which is on rank 0, and return the output."""
        self._compute(self._halves[0])
        return self._now[self._output]

    def settle(self) -> None:
        """Compute all other nodes, and end the frame."""
        self._compute(self._halves[1])
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
            self._nodes.compute[name](self._now, self._before)
            self._exchange.send(name, self._now[name])

    def reset(self) -> None:
        """Forget every frame seen so far, once nothing is on its way."""
        self._exchange.drain()
        self._exchange.forget()
        self._forget()
