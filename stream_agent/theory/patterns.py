"""
Rollout patterns: which edges stream, which patterns are valid, and in what order nodes update.

SR18 is Fischer, Koehler, Pfeil: The streaming rollout of deep networks - towards fully
model-parallel execution, NeurIPS 2018 (arXiv 1806.04965).
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
import heapq

from stream_agent.theory.graph import GraphSpec

Edge = tuple[str, str]
# R: E -> {0, 1}; the key is (source, target), 1 means that the edge streams.
Pattern = Mapping[Edge, int]


class InvalidRolloutError(ValueError):
    """A pattern whose R = 0 edges contain a cycle, so that no frame of it can be computed."""


def edges_of(graph: GraphSpec) -> list[Edge]:
    """Return E as (source, target)."""
    return [(edge.source, edge.target) for edge in graph.edges]


def streaming_pattern(graph: GraphSpec) -> dict[Edge, int]:
    """Return R = 1 on every edge (SR18, Definition "streaming rollout")."""
    return dict.fromkeys(edges_of(graph), 1)


def sequential_pattern(graph: GraphSpec) -> dict[Edge, int]:
    """
    Return R = 1 on self-edges and on the edges that the graph file marks, R = 0 on all others.

    :raises InvalidRolloutError: If a cycle has no marked edge.
    """
    pattern = {(edge.source, edge.target): int(edge.streams or edge.source == edge.target)
               for edge in graph.edges}
    update_order(graph, pattern)
    return pattern


def pattern_from_streams(graph: GraphSpec, streams: Iterable[str]) -> dict[Edge, int]:
    """
    Return the hybrid pattern in which exactly the named edges stream.

    :param streams: Edges as ``source->target``.
    :raises InvalidRolloutError: If an edge is unknown or the R = 0 edges contain a cycle.
    """
    names = {edge.name: (edge.source, edge.target) for edge in graph.edges}
    pattern = dict.fromkeys(names.values(), 0)
    for name in streams:
        if name not in names:
            near = get_close_matches(name, names, 1)
            hint = f"; the nearest is '{near[0]}'" if near else ''
            raise InvalidRolloutError(f"no edge '{name}'{hint}; edges are {', '.join(names)}")
        pattern[names[name]] = 1
    update_order(graph, pattern)
    return pattern


def read_newest_image(graph: GraphSpec, pattern: Pattern) -> dict[Edge, int]:
    """
    Return the pattern with R = 0 on the edges that leave an input.

    As model-parallel as before (inputs take no part in that definition), and the output is
    younger by one frame; what a real-time agent runs. Marked edges keep their delay.
    """
    marked = {(edge.source, edge.target) for edge in graph.edges if edge.streams}
    return {(u, v): 0 if u in graph.inputs and (u, v) not in marked else r
            for (u, v), r in pattern.items()}


def newest_image_pattern(graph: GraphSpec) -> dict[Edge, int]:
    """Return the streaming pattern that reads the newest image; the agent's streaming rollout."""
    return read_newest_image(graph, streaming_pattern(graph))


def streaming_edges(pattern: Pattern) -> list[str]:
    """Return the edges with R = 1 as ``source->target``; the reverse of pattern_from_streams."""
    return [f'{u}->{v}' for (u, v), r in pattern.items() if r]


def update_order(graph: GraphSpec, pattern: Pattern) -> list[str]:
    """
    Order the nodes so that every R = 0 edge leads forward; ties as in the graph file.

    A pattern is valid exactly if there is such an order (SR18, Definition "valid").

    :raises InvalidRolloutError: With the cycle of R = 0 edges.
    """
    names = list(graph.by_name)
    index = {name: i for i, name in enumerate(names)}
    targets: dict[str, list[str]] = {name: [] for name in names}
    missing = dict.fromkeys(names, 0)
    for (u, v), r in pattern.items():
        if not r:
            targets[u].append(v)
            missing[v] += 1
    ready = [i for i, name in enumerate(names) if not missing[name]]
    order = []
    while ready:
        order.append(names[heapq.heappop(ready)])
        for v in targets[order[-1]]:
            missing[v] -= 1
            if not missing[v]:
                heapq.heappush(ready, index[v])
    if len(order) < len(names):
        left = set(names) - set(order)
        sources: dict[str, list[str]] = {v: [] for v in names if v in left}
        for (u, v), r in pattern.items():
            if not r and {u, v} <= left:
                sources[v].append(u)
        cycle = find_cycle(sources)
        raise InvalidRolloutError(
            f"edges with R = 0 form the cycle {' -> '.join(cycle)}; one of them has to stream "
            '(streams: true in the graph file, or among the streaming edges of the pattern)')
    return order


def find_cycle(sources: Mapping[str, list[str]]) -> list[str]:
    """Return a cycle, first node repeated at the end; every node has a source."""
    path, v = dict[str, None](), next(iter(sources))
    while v not in path:
        path[v] = None
        v = sources[v][0]
    names = [*path, v]
    return names[names.index(v):][::-1]
