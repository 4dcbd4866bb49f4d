"""How cheap a frame can be on a device that runs all ready nodes at once."""

from collections.abc import Iterator, Mapping
from itertools import count

from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import memory_edges
from stream_agent.theory.patterns import (
    Edge, sequential_pattern, streaming_pattern, update_order)
from stream_agent.theory.rollout import sources_of


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
