"""How cheap a frame can be on a device that runs all ready nodes at once."""

from collections.abc import Iterator, Mapping
from itertools import count

from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import memory_edges
from stream_agent.theory.patterns import (
    Edge, Pattern, sequential_pattern, streaming_pattern, update_order)
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.partition import (
    Message, MessageCost, messages_of, sent_at, work_order)
from stream_agent.theory.rollout import response_cone, sources_of


class Pipelines:
    """
    The best that a parallel device can do, with the marked edges streaming.

    :param seconds: Cost of every node that is no input.
    """

    def __init__(self, graph: GraphSpec, seconds: Mapping[str, float]) -> None:
        self._graph = graph
        self._seconds = seconds
        memory = memory_edges(graph)
        self._sources = {v: [u for u, r in sources if (u, v) not in memory]
                         for v, sources in sources_of(graph, streaming_pattern(graph)).items()}
        self._order = [v for v in update_order(graph, sequential_pattern(graph))
                       if v not in graph.inputs]

    def cheapest_frames(self) -> Iterator[tuple[float, dict[Edge, int]]]:
        """
        Yield the cheapest frame if the oldest information is 0, 1, 2, ... frames old.

        :returns: Its seconds and a pattern; the last is the cheapest of all, that of the
            dearest node.
        """
        least = max(self._seconds.values())
        for age in count():
            low, high = least, sum(self._seconds.values())
            if self.pattern(least)[0] <= age:
                high = least
            while high - low > 1e-6 * high:
                middle = (low + high) / 2
                low, high = ((low, middle) if self.pattern(middle)[0] <= age
                             else (middle, high))
            yield high, self.pattern(high)[1]
            if high == least:
                return

    def pattern(self, limit: float) -> tuple[int, dict[Edge, int]]:
        """
        Return the least oldest age if no path of R = 0 edges may take longer than a limit.

        Every node takes the least (age, finish) that its sources allow: an edge from a source
        younger than that may stream for nothing, an edge from one of the same age has to be in
        time. A node that is older or later helps no node after it, so this is the least age of
        all patterns.

        :param limit: Seconds, no less than the dearest node takes.
        :returns: The age in frames, and the pattern.
        """
        pattern = streaming_pattern(self._graph)
        age, finish = dict.fromkeys(self._graph.inputs, 0), dict.fromkeys(self._graph.inputs, 0.0)
        for v in self._order:
            age[v] = max((age[u] for u in self._sources[v]), default=0)
            waits = max((finish[u] for u in self._sources[v] if age[u] == age[v]), default=0.0)
            if waits + self._seconds[v] > limit * (1 + 1e-9):
                age[v] += 1
                waits = 0.0
            for u in self._sources[v]:
                pattern[u, v] = int(age[u] < age[v] and u not in self._graph.inputs)
            finish[v] = waits + self._seconds[v]
        return age[self._graph.output], pattern


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
                 rank_of: Mapping[str, int], link: MessageCost) -> None:
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
