"""The patterns that no other beats on a device: exactly, or with bounds on what is missed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
import heapq

import numpy as np
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import delay_edges, memory_edges
from stream_agent.theory.patterns import (
    Edge, edges_of, newest_image_pattern, Pattern, sequential_pattern, streaming_pattern,
    update_order)
from stream_agent.theory.planning.candidates import cut, Device, Pipelines, SERIAL


@dataclass(frozen=True)
class PatternTable:
    """
    N patterns and their figures, one row each.

    :param bits: R of every edge in the graph's order, (N, |E|).
    :param valid: Whether the R = 0 edges form no cycle; other columns mean nothing if not.
    :param cone: Seconds of the response cone, node after node.
    :param nodes: Number of nodes in the response cone.
    :param path: Seconds of the most expensive path of R = 0 edges that ends in the output.
    :param longest_path: Seconds of the most expensive path of R = 0 edges.
    :param newest: Frames until the output depends on a new image.
    :param oldest: Age of the oldest information in frames, as in ``information_ages``.
    """

    bits: np.ndarray
    valid: np.ndarray
    cone: np.ndarray
    nodes: np.ndarray
    path: np.ndarray
    longest_path: np.ndarray
    newest: np.ndarray
    oldest: np.ndarray


class PatternEvaluator:
    """
    Fills pattern tables of one graph, without a schedule.

    :param seconds: Cost of every node except the inputs.
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

    def pattern(self, bits: Sequence[int] | np.ndarray) -> dict[Edge, int]:
        """Return a row of bits as a pattern."""
        return dict(zip(self.edges, map(int, bits)))

    def row(self, pattern: Pattern) -> np.ndarray:
        """Return a pattern as a row of bits."""
        return np.array([pattern[edge] for edge in self.edges], np.int8)

    def table(self, bits: np.ndarray) -> PatternTable:
        """Compute the figures of patterns, given as rows of bits, (N, |E|)."""
        columns = np.ascontiguousarray(bits.T.astype(bool))
        seconds, output = self._seconds, self._graph.output
        finish, _ = self._longest_paths(columns, seconds)
        # A cycle of nodes that take no time would look like a path.
        _, valid = self._longest_paths(columns, dict.fromkeys(seconds, 1.0))
        cone = {v: np.full(len(bits), v == output) for v in seconds}
        settle(cone, [(i, v, u) for i, u, v in reversed(self._all)],
               lambda i, v, u: cone[u] | cone[v] & ~columns[i])
        far = np.iinfo(np.int32).max // 2
        ages = {v: np.full(len(bits), 0 if v in self._graph.inputs else far, np.int32)
                for v in seconds}
        settle(ages, self._all, lambda i, u, v: np.minimum(ages[v], ages[u] + columns[i]))
        oldest = {v: np.zeros(len(bits), np.int32) for v in seconds}
        for i, u, v in self._forward:
            np.maximum(oldest[v], oldest[u] + columns[i], out=oldest[v])
        return PatternTable(
            bits, valid, sum((cone[v] * seconds[v] for v in cone), np.zeros(len(bits))),
            np.sum([*cone.values()], axis=0), finish[output],
            np.max([*finish.values()], axis=0), ages[output],
            np.maximum(ages[output], oldest[output]))

    def _longest_paths(self, columns: np.ndarray, seconds: Mapping[str, float]
                       ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return what the longest path of R = 0 edges to every node takes, and for which rows."""
        finish = {v: np.full(columns.shape[1], seconds[v]) for v in seconds}
        return finish, settle(finish, self._all, lambda i, u, v: np.maximum(
            finish[v], np.where(columns[i], 0.0, finish[u] + seconds[v])))


def settle(values: dict[str, np.ndarray], edges: Iterable[tuple[int, str, str]],
           passed_on: Callable[[int, str, str], np.ndarray]) -> np.ndarray:
    """
    Pass values on along edges until none changes, or until only a cycle can change them further.

    :param values: By node, a row for every pattern; they are replaced.
    :param passed_on: Takes an edge, and gives the new value of the node that it leads to.
    :returns: For which rows nothing changes any more.
    """
    for _ in range(len(values) + 1):
        changed = np.zeros_like(next(iter(values.values())), bool)
        for i, u, v in edges:
            new = passed_on(i, u, v)
            changed |= new != values[v]
            values[v] = new
        if not changed.any():
            break
    return ~changed


def free_edges(graph: GraphSpec) -> list[Edge]:
    """Return the edges that may do either: neither self-edges nor designed delays."""
    delays = delay_edges(graph)
    return [(u, v) for u, v in edges_of(graph) if u != v and (u, v) not in delays]


def all_bits(graph: GraphSpec, chunk: int = 2**16) -> Iterator[np.ndarray]:
    """Yield every choice of R for the free edges, valid or not, ``chunk`` rows at a time."""
    edges = edges_of(graph)
    free = [edges.index(edge) for edge in free_edges(graph)]
    for start in range(0, 2**len(free), chunk):
        numbers = np.arange(start, min(start + chunk, 2**len(free)))
        bits = np.ones((len(numbers), len(edges)), np.int8)
        for place, i in enumerate(free):
            bits[:, i] = numbers >> place & 1
        yield bits


# 2^22 patterns take some five seconds.
MOST_EXACT_EDGES = 22
# Rows times edges that a search weighs at most: some three seconds.
MOST_WORK = 10**7
MOST_ROWS = 2**14


@dataclass(frozen=True)
class SearchBound:
    """
    How well the patterns were searched.

    :param weighed: Valid patterns that were weighed; all of them if ``exact``.
    :param statements: What no pattern of the graph can have, found or not; for people.
    """

    exact: bool
    weighed: int
    statements: tuple[str, ...] = ()


def best_patterns(graph: GraphSpec, device: Device) -> tuple[list[dict[Edge, int]], SearchBound]:
    """
    Return patterns that no other beats in response latency, frame cost, and both ages.

    Of patterns with equal figures one with the most nodes in its response cone is taken, so that
    a node that costs nothing joins fresh information with stale; then the fewest streaming edges
    decide.
    """
    evaluator = PatternEvaluator(graph, device.costs.nodes)
    if len(free_edges(graph)) <= MOST_EXACT_EDGES:
        front = Front(device, evaluator.edges)
        bound = SearchBound(True, sum(front.add(evaluator.table(bits))
                                      for bits in all_bits(graph)))
    else:
        cheapest = [] if device.execution == SERIAL else [
            *Pipelines(graph, device.costs.nodes).cheapest_frames()]
        front, weighed = climb(evaluator, device, [
            *seeds(graph, device), *(pattern for _, pattern in cheapest)])
        bound = SearchBound(False, weighed, tuple(bounds(
            graph, device, front, [seconds for seconds, _ in cheapest])))
    return [evaluator.pattern(row) for row in front.bits], bound


class Front:
    """
    The rows of pattern tables that no other row beats.

    :param figures: (N, 4): response latency and frame cost without overhead [s], frames until
        the response, age of the oldest information [frames].
    :param bits: (N, |E|).
    :param nodes: In the response cones, (N,).
    """

    def __init__(self, device: Device, edges: Sequence[Edge]) -> None:
        self._device = device
        self.figures = np.empty((0, 4))
        self.bits = np.empty((0, len(edges)), np.int8)
        self.nodes = np.empty(0, int)

    def add(self, table: PatternTable) -> int:
        """Take the rows of a table that nothing beats; returns how many are valid."""
        latency, cost = (
            (table.cone, np.full(len(table.cone), self._device.costs.total()))
            if self._device.execution == SERIAL else (table.path, table.longest_path))
        # Sums of seconds are rounded to be comparable.
        figures = np.concatenate([self.figures, np.stack([
            latency.round(12), cost.round(12), table.newest, table.oldest], axis=1)[table.valid]])
        bits = np.concatenate([self.bits, table.bits[table.valid]])
        nodes = np.concatenate([self.nodes, table.nodes[table.valid]])
        # Of equal rows the one with the largest cone, then the fewest streaming edges, comes
        # first, and stays.
        order = np.lexsort([bits.sum(axis=1), -nodes, *figures.T[::-1]])
        figures, bits, nodes = figures[order], bits[order], nodes[order]
        kept = unbeaten_rows(figures)
        self.figures, self.bits, self.nodes = figures[kept], bits[kept], nodes[kept]
        return int(table.valid.sum())


def unbeaten_rows(figures: np.ndarray) -> np.ndarray:
    """
    Return the indices of rows than which no earlier row is at least as good in all columns.

    :param figures: (N, K), sorted by the first column, then the second, and so on; less is
        better. So no row can be beaten by a later one.
    """
    left = np.arange(len(figures))
    kept = []
    while len(left):
        first = left[0]
        kept.append(first)
        left = left[(figures[left] < figures[first]).any(axis=1)]
    return np.array(kept, int)


def climb(evaluator: PatternEvaluator, device: Device, start: list[dict[Edge, int]]
          ) -> tuple[Front, int]:
    """Improve a front by changes of one edge, or of all edges into a node, while that helps."""
    front = Front(device, evaluator.edges)
    weighed = front.add(evaluator.table(np.array([evaluator.row(pattern) for pattern in start])))
    seen: set[bytes] = set()
    while new := [row for row in front.bits if row.tobytes() not in seen]:
        seen.update(row.tobytes() for row in new)
        for rows in neighbours(evaluator, new):
            weighed += front.add(evaluator.table(rows))
            if len(evaluator.edges) * weighed > MOST_WORK:
                return front, weighed
    return front, weighed


def neighbours(evaluator: PatternEvaluator, rows: list[np.ndarray]) -> Iterator[np.ndarray]:
    """
    Yield the rows that differ in one edge, or in the edges into one node, in pieces.

    Marked edges stay as they are, so that all rows are valid.
    """
    edges = evaluator.edges
    free = np.array([edge not in evaluator.memory for edge in edges])
    into = {v: np.array([w == v for _, w in edges]) & free for _, v in edges}
    found: list[np.ndarray] = []
    for row in rows:
        found.append((row ^ np.eye(len(edges), dtype=np.int8))[free])
        found += [np.where(mask, value, row)[None].astype(np.int8)
                  for mask in into.values() for value in (0, 1)]
        if sum(map(len, found)) > MOST_ROWS:
            yield np.concatenate(found)
            found = []
    if found:
        yield np.concatenate(found)


def seeds(graph: GraphSpec, device: Device) -> list[dict[Edge, int]]:
    """Return patterns to begin a search with, the best for a serial device among them."""
    sequential = sequential_pattern(graph)
    order = [v for v in update_order(graph, sequential) if v not in graph.inputs]
    return [sequential, streaming_pattern(graph), newest_image_pattern(graph),
            *(cut(graph, cone) for cone in (
                {graph.output}, {*cheapest_path(graph, device)},
                *({*order[i:], graph.output} for i in range(1, len(order)))))]


def cheapest_path(graph: GraphSpec, device: Device) -> list[str]:
    """Return the nodes after the input of the cheapest way without a designed delay; or none."""
    targets: dict[str, list[str]] = {}
    for u, v in free_edges(graph):
        targets.setdefault(u, []).append(v)
    queue: list[tuple[float, list[str]]] = [(0.0, [name]) for name in graph.inputs]
    done = set()
    while queue:
        cost, path = heapq.heappop(queue)
        if path[-1] == graph.output:
            return path[1:]
        if path[-1] not in done:
            done.add(path[-1])
            for v in targets.get(path[-1], ()):
                heapq.heappush(queue, (cost + device.costs.nodes[v], [*path, v]))
    return []


def bounds(graph: GraphSpec, device: Device, front: Front, cheapest: list[float]
           ) -> Iterator[str]:
    """Say what no pattern can have, and how near the search came; cheapest frames are by age."""
    seconds = device.costs.nodes
    latency, cost, newest, oldest = front.figures.T
    yield (f'no pattern responds in less than {ms(seconds[graph.output])}, the output node alone; '
           f'found: {ms(latency.min())}')
    path = cheapest_path(graph, device)
    if path:
        yield (f'none answers by the newest image in less than {ms(sum(seconds[v] for v in path))}'
               f', the cheapest path; found: {least(latency[newest == 0])}')
    if device.execution == SERIAL:
        yield 'a frame costs the same under every pattern of a serial device'
    for age, limit in enumerate(cheapest):
        yield (f'none with oldest information of {age} frames, and with streaming marked '
               f'edges, has a frame of less than about {ms(limit)}; found: '
               f'{least(cost[oldest <= age])}')


def least(seconds: np.ndarray) -> str:
    """Write the least of some durations."""
    return ms(seconds.min()) if len(seconds) else 'none'


def ms(seconds: float) -> str:
    """Write seconds as milliseconds."""
    return f'{seconds * 1e3:.3g} ms' if seconds * 1e3 < 1000 else f'{seconds * 1e3:,.0f} ms'
