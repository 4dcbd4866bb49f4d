"""How ranks wait for each other: frames of a partition, one after the other, on paper."""

from collections.abc import Iterator, Mapping

from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Pattern, update_order
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.partition import (
    Link, Message, messages_of, sent_at, work_order)
from stream_agent.theory.rollout import response_cone, sources_of

# Frames that fill the pipeline, and that are counted then.
FILL, COUNTED = 20, 20
# When the value of a node is there, by node and receiver.
Arrivals = dict[tuple[str, int], float]


class RankPipeline:
    """
    Ranks that compute frames as fast as they can.

    :param graph: With its schedule.
    :param pattern: A valid pattern of the graph.
    :param rank_of: A rank for every node that fits both, as ``check_partition`` says.
    """

    def __init__(self, graph: GraphSpec, pattern: Pattern, costs: NodeCosts,
                 rank_of: Mapping[str, int], link: Link) -> None:
        self._graph, self._pattern, self._costs, self._link = graph, pattern, costs, link
        self._rank_of = rank_of
        messages = messages_of(graph, pattern, rank_of)
        #: Bytes of the images that an order takes along.
        self._images = dict.fromkeys(rank_of.values(), 0)
        for message in messages:
            if message.source in graph.inputs:
                self._images[message.receiver] += message.size
        self._messages = [item for item in messages if item.source not in graph.inputs]
        self._ranks = sorted({0, *rank_of.values()})
        self._awaited = {v: [u for u, r in sources if r and u not in graph.inputs
                             and rank_of[u] != rank_of[v]]
                         for v, sources in sources_of(graph, pattern).items()}
        self._frames = [self._plan(frame) for frame in range(graph.hyperperiod)]

    def _plan(self, frame: int) -> tuple[dict[int, list[str]], list[Message]]:
        """Return what every rank computes in a frame, in order, and what crosses after it."""
        computed = [v for v in update_order(self._graph, self._pattern)
                    if v not in self._graph.inputs and self._graph.node(v).updates_at(frame)]
        cone = response_cone(self._graph, self._pattern, frame)
        nodes = {rank: work_order(self._graph, self._pattern, self._rank_of, [
            v for v in computed if self._rank_of[v] == rank and v not in cone])
            for rank in self._ranks}
        nodes[0] = cone + nodes[0]
        return nodes, [message for message in self._messages
                       if sent_at(self._graph, self._pattern, message.source, frame)]

    def period(self) -> float:
        """Return the seconds from frame to frame, once the pipeline is full."""
        rounds = -(-COUNTED // self._graph.hyperperiod)
        ends = list(self._ends(FILL + rounds * self._graph.hyperperiod))
        return (ends[-1] - ends[FILL - 1]) / (len(ends) - FILL)

    def _ends(self, frames: int) -> Iterator[float]:
        """Yield when all ranks have done with each of some frames."""
        times = dict.fromkeys(self._ranks, 0.0)
        arrivals: Arrivals = {}
        for frame in range(1, 1 + frames):
            arriving = dict(arrivals)
            ordered = times[0] + self._costs.overhead + sum(map(self._order_cost, self._ranks))
            for rank in self._ranks:
                start = ordered if rank == 0 else max(
                    times[rank], ordered + self._link.latency) + self._order_cost(rank)
                times[rank] = self._compute(frame, rank, start, arrivals, arriving)
            arrivals = arriving
            yield max(times.values())

    def _order_cost(self, rank: int) -> float:
        """Return the seconds that the order for a rank takes of either end."""
        return self._link.seconds(self._images[rank]) if rank else 0.0

    def _compute(self, frame: int, rank: int, now: float, arrivals: Arrivals,
                 arriving: Arrivals) -> float:
        """Return when a rank has done with a frame, and note when its values arrive elsewhere."""
        nodes, crossing = self._frames[frame % len(self._frames)]
        for v in nodes[rank]:
            now = max([now, *(arrivals.get((u, rank), 0.0) for u in self._awaited[v])])
            now += self._costs.nodes[v]
            for message in crossing:
                if message.source == v:
                    now += self._link.seconds(message.size)
                    arriving[v, message.receiver] = now + self._link.latency
        return now + sum(self._link.seconds(message.size) for message in crossing
                         if message.receiver == rank)
