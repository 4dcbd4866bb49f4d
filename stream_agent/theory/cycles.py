"""How many update steps a frame takes in the long run, if the next may begin before it ends."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import count

import networkx as nx
import numpy as np
from stream_agent.theory.checks import check_work, GraphError
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Pattern, update_order
from stream_agent.theory.rollout import sources_of

# Edges times steps of the search for a cycle, a second's work.
MOST_STEPS = 20_000_000


def steps_per_frame_pipelined(graph: GraphSpec, pattern: Pattern) -> Fraction:
    """
    Return the update steps per frame in the limit, when frames are pipelined.

    Every node is computed as soon as what it reads is there, and all images are there from the
    start. Then the largest T((i, v)) / i tends to the largest ratio, over all cycles, of the nodes
    computed in the cycle to the frames that pass, |c| / sum of R over c; 0 without a cycle. The
    inference factor is what a frame takes if the frame before has to be complete.

    With a schedule, the cycles are those of the updates in a hyperperiod.

    :raises InvalidRolloutError: If the pattern is not valid.
    :raises GraphError: If the cycles are too long to be compared in a few seconds.
    """
    update_order(graph, pattern)
    check_work(graph, graph.hyperperiod)
    ratio = Fraction(0)
    if edges := cyclic(unfold(graph, pattern)):
        reads = UpdateGraph(edges)
        while (better := reads.ratio_above(ratio)) is not None:
            ratio = better
    return ratio


def unfold(graph: GraphSpec, pattern: Pattern) -> list[tuple[int, int, int]]:
    """
    Return which update reads which, over one hyperperiod that repeats for ever.

    :returns: (source, target, frames from the source's update to the target's); updates are
        numbered over phases and nodes, inputs left out.
    """
    number = {v: i for i, v in enumerate(graph.by_name)}
    edges = []
    for v, sources in sources_of(graph, pattern).items():
        for phase in range(graph.hyperperiod):
            for u, r in sources:
                if graph.node(v).updates_at(phase) and u not in graph.inputs:
                    source = graph.node(u)
                    passed = r + (phase - r - source.offset) % source.period
                    at = (phase - passed) % graph.hyperperiod
                    edges.append((at * len(number) + number[u], phase * len(number) + number[v],
                                  passed))
    return edges


def cyclic(edges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return the edges that lie in cycles."""
    network = nx.DiGraph((u, v) for u, v, _ in edges)
    part = {v: i for i, nodes in enumerate(nx.strongly_connected_components(network))
            for v in nodes}
    return [(u, v, frames) for u, v, frames in edges if part[u] == part[v]]


class UpdateGraph:
    """Updates and what they read, as from ``unfold``, to search for a cycle of a large ratio."""

    def __init__(self, edges: Sequence[tuple[int, int, int]]) -> None:
        sources, targets, self._frames = np.array(sorted(edges, key=lambda edge: edge[1])).T
        names, ends = np.unique([sources, targets], return_inverse=True)
        self._size = len(names)
        self._sources, self._targets = ends.reshape(2, -1)
        self._first = np.flatnonzero(np.diff(self._targets, prepend=-1))
        self._read = self._targets[self._first]
        self._group = np.cumsum(np.diff(self._targets, prepend=-1) > 0) - 1

    def ratio_above(self, ratio: Fraction) -> Fraction | None:
        """
        Return the ratio of a cycle that is larger than the given one, or None.

        By Bellman and Ford: such a cycle has a positive sum of 1 - ratio * frames, so the values
        along it grow without end, and at last every node of it follows from the one before.
        """
        weight = ratio.denominator - ratio.numerator * self._frames
        value = np.zeros(self._size, np.int64)
        last = np.full(self._size, -1)
        for step in count(1):
            if step * len(weight) > MOST_STEPS:
                raise GraphError('graph: the cycles are too long and too many to compare; take '
                                 'a smaller graph')
            reached = value[self._sources] + weight
            best = np.maximum.reduceat(reached, self._first)
            grown = best > value[self._read]
            if not grown.any():
                return None
            edges = np.flatnonzero((reached == best[self._group]) & grown[self._group])
            last[self._targets[edges]] = edges
            value[self._read[grown]] = best[grown]
            # Rarely, as it takes longer than a step: after 1, 2, 4, 8, ... of them.
            if step & (step - 1) == 0 and (found := self._cycle_ratios(last.tolist())):
                return max(found)
        raise AssertionError('steps end')

    def _cycle_ratios(self, last: list[int]) -> list[Fraction]:
        """Return the ratios of the cycles in which each node has one edge, its last."""
        sources, frames = self._sources.tolist(), self._frames.tolist()
        seen = [-1] * self._size
        ratios = []
        for start in range(self._size):
            v, path = start, []
            while seen[v] < 0 <= last[v]:
                seen[v] = start
                path.append(v)
                v = sources[last[v]]
            if seen[v] == start and v in path:
                cycle = path[path.index(v):]
                ratios.append(Fraction(len(cycle), sum(frames[last[u]] for u in cycle)))
        return ratios
