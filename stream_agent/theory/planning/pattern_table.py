"""Many patterns of one graph at once: what each costs, and how old its answers are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import delay_edges, memory_edges
from stream_agent.theory.patterns import (
    Edge, edges_of, Pattern, sequential_pattern, update_order)


@dataclass(frozen=True)
class PatternTable:
    """
    N patterns and their figures, one row each.

    :param bits: R of every edge, (N, |E|), in the order of the graph's edges.
    :param valid: Whether the R = 0 edges form no cycle; other columns mean nothing if not.
    :param cone: Seconds of the response cone, node after node.
    :param path: Seconds of the dearest path of R = 0 edges that ends in the output.
    :param longest_path: Seconds of the dearest path of R = 0 edges.
    :param newest: Frames until the output depends on a new image.
    :param oldest: Age of the oldest information in frames, as in ``information_ages``.
    """

    bits: np.ndarray
    valid: np.ndarray
    cone: np.ndarray
    path: np.ndarray
    longest_path: np.ndarray
    newest: np.ndarray
    oldest: np.ndarray


class PatternEvaluator:
    """
    Fills pattern tables of one graph, without a schedule.

    :param seconds: Cost of every node that is no input.
    :raises InvalidRolloutError: If a cycle of the graph has no marked edge.
    """

    def __init__(self, graph: GraphSpec, seconds: Mapping[str, float]) -> None:
        self.edges = edges_of(graph)
        self._graph = graph
        self._seconds = {node.name: float(seconds.get(node.name, 0.0)) for node in graph.nodes}
        self.memory = memory_edges(graph)
        rank = {name: i for i, name in enumerate(update_order(graph, sequential_pattern(graph)))}
        # In this order one round over the edges settles all paths that lead forward.
        self._forward = sorted(((i, u, v) for i, (u, v) in enumerate(self.edges)
                                if (u, v) not in self.memory),
                               key=lambda edge: (rank[edge[2]], rank[edge[1]]))
        self._all = self._forward + [(i, u, v) for i, (u, v) in enumerate(self.edges)
                                     if (u, v) in self.memory]

    def pattern(self, bits: Sequence[int]) -> dict[Edge, int]:
        """Return a row of bits as a pattern."""
        return dict(zip(self.edges, map(int, bits)))

    def row(self, pattern: Pattern) -> np.ndarray:
        """Return a pattern as a row of bits."""
        return np.array([pattern[edge] for edge in self.edges], np.int8)

    def table(self, bits: np.ndarray) -> PatternTable:
        """
        Compute the figures of patterns.

        :param bits: (N, |E|).
        """
        columns = np.ascontiguousarray(bits.T.astype(bool))
        finish, _ = self._longest_paths(columns, self._seconds)
        _, valid = self._longest_paths(columns, dict.fromkeys(self._seconds, 1.0))
        cone = self._cone(columns)
        newest = self._newest(columns)
        return PatternTable(
            bits, valid, sum(cone[v] * self._seconds[v] for v in cone), finish[self._graph.output],
            np.max([finish[v] for v in finish], axis=0), newest,
            np.maximum(newest, self._oldest(columns)))

    def _longest_paths(self, columns: np.ndarray, seconds: Mapping[str, float]
                       ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """
        Return the dearest path of R = 0 edges to every node, and which patterns have one.

        :param seconds: Of every node. Where some take none, a cycle may look like a path.
        """
        count = columns.shape[1]
        finish = {v: np.full(count, seconds[v]) for v in seconds}
        for _ in range(len(finish) + 1):
            changed = np.zeros(count, bool)
            for i, u, v in self._all:
                later = np.where(columns[i], 0.0, finish[u] + seconds[v])
                changed |= later > finish[v]
                np.maximum(finish[v], later, out=finish[v])
            if not changed.any():
                break
        return finish, ~changed

    def _cone(self, columns: np.ndarray) -> dict[str, np.ndarray]:
        """Return which patterns need a node in the output's frame."""
        inside = {v: np.full(columns.shape[1], v == self._graph.output) for v in self._seconds}
        changed = True
        while changed:
            changed = False
            for i, u, v in reversed(self._all):
                more = inside[v] & ~columns[i] & ~inside[u]
                if more.any():
                    inside[u] |= more
                    changed = True
        return inside

    def _newest(self, columns: np.ndarray) -> np.ndarray:
        """Return the least number of streaming edges on a way from an input to the output."""
        far = np.iinfo(np.int32).max // 2
        ages = {v: np.full(columns.shape[1], 0 if v in self._graph.inputs else far, np.int32)
                for v in self._seconds}
        changed = True
        while changed:
            changed = False
            for i, u, v in self._all:
                younger = ages[u] + columns[i]
                if (younger < ages[v]).any():
                    np.minimum(ages[v], younger, out=ages[v])
                    changed = True
        return ages[self._graph.output]

    def _oldest(self, columns: np.ndarray) -> np.ndarray:
        """Return the greatest number of streaming edges on a way that leads forward."""
        ages = {v: np.zeros(columns.shape[1], np.int32) for v in self._seconds}
        for i, u, v in self._forward:
            np.maximum(ages[v], ages[u] + columns[i], out=ages[v])
        return ages[self._graph.output]


def free_edges(graph: GraphSpec) -> list[Edge]:
    """Return the edges that may do either: neither self-edges nor designed delays."""
    delays = delay_edges(graph)
    return [(u, v) for u, v in edges_of(graph) if u != v and (u, v) not in delays]


def all_bits(graph: GraphSpec, chunk: int = 2**16) -> Iterator[np.ndarray]:
    """
    Yield every choice of R for the edges whose R is free, valid or not.

    :returns: Rows of bits, at most ``chunk`` in a piece.
    """
    edges = edges_of(graph)
    free = [edges.index(edge) for edge in free_edges(graph)]
    for start in range(0, 2**len(free), chunk):
        numbers = np.arange(start, min(start + chunk, 2**len(free)))
        bits = np.ones((len(numbers), len(edges)), np.int8)
        for place, i in enumerate(free):
            bits[:, i] = numbers >> place & 1
        yield bits
