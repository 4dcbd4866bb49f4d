"""One rank's part of every frame: its own nodes, from its own values and those that come."""

from collections.abc import Iterable

from stream_agent.engine.ranks.exchange import Exchange
from stream_agent.engine.ranks.nodes import EagerNodes, PackedNodes
from stream_agent.network.rollout_network import RolloutNetwork, StepPlan
from stream_agent.theory.planning.partition import Partition, work_order
import torch
from torch import Tensor


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
        self._plans = [StepPlan(
            cone=self._own(plan.cone),
            rest=work_order(network.graph, network.pattern, partition.rank_of,
                            self._own(plan.rest)),
            held=self._own(plan.held)) for plan in network.plans]
        self._forget()

    def _own(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in self._names]

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
        self._plan = self._plans[self._frame % len(self._plans)]
        self._exchange.begin(self._frame)
        self._now = {name: self._before[name] for name in self._plan.held}
        if image is not None:
            self._now[self._input] = image.to(self._device)

    def respond(self) -> Tensor:
        """Compute the response cone, which is on rank 0, and return the output."""
        self._compute(self._plan.cone)
        return self._now[self._output]

    def settle(self) -> None:
        """Compute all other nodes, and end the frame."""
        self._compute(self._plan.rest)
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
