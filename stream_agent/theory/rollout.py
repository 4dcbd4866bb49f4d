"""
Rollouts of a graph: patterns, windows, update steps, tableaus, response cones.

SR18 is Fischer, Koehler, Pfeil: The streaming rollout of deep networks - towards fully
model-parallel execution, NeurIPS 2018 (arXiv 1806.04965).
"""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

from stream_agent.theory.graph import GraphSpec

# R: E -> {0, 1}; the key is (source, target), 1 means that the edge streams.
Pattern = Mapping[tuple[str, str], int]
FrameNode = tuple[int, str]


class InvalidRolloutError(ValueError):
    """A pattern whose R = 0 edges contain a cycle, so that no frame of it can be computed."""


class FirstResponse(NamedTuple):
    """The first frame, and the first update step, at which the output depends on an image."""

    frame: int
    update_step: int


def edges_of(graph: GraphSpec) -> list[tuple[str, str]]:
    """Return E as (source, target)."""
    return [(edge.source, edge.target) for edge in graph.edges]


def streaming_pattern(graph: GraphSpec) -> dict[tuple[str, str], int]:
    """Return R = 1 on every edge (SR18, Definition "streaming rollout")."""
    return dict.fromkeys(edges_of(graph), 1)


def sequential_pattern(graph: GraphSpec) -> dict[tuple[str, str], int]:
    """
    Return R = 1 on the edges that the graph file marks, R = 0 on all others.

    :raises InvalidRolloutError: If a cycle has no marked edge.
    """
    pattern = {(edge.source, edge.target): int(edge.streams) for edge in graph.edges}
    update_order(graph, pattern)
    return pattern


def pattern_from_streams(graph: GraphSpec, streams: Iterable[str]
                         ) -> dict[tuple[str, str], int]:
    """
    Return the hybrid pattern in which exactly the named edges stream.

    :param streams: Edges as ``source->target``.
    :raises InvalidRolloutError: If an edge is unknown or the R = 0 edges contain a cycle.
    """
    names = {edge.name: (edge.source, edge.target) for edge in graph.edges}
    pattern = dict.fromkeys(names.values(), 0)
    for name in streams:
        if name not in names:
            raise InvalidRolloutError(f"no edge '{name}'; edges are {', '.join(names)}")
        pattern[names[name]] = 1
    update_order(graph, pattern)
    return pattern


def read_newest_image(graph: GraphSpec, pattern: Pattern) -> dict[tuple[str, str], int]:
    """
    Return the pattern with R = 0 on the edges that leave an input.

    As model-parallel as before (inputs take no part in that definition), and the output is
    younger by one frame; what a real-time agent runs.
    """
    return {(u, v): 0 if u in graph.inputs else r for (u, v), r in pattern.items()}


def update_order(graph: GraphSpec, pattern: Pattern) -> list[str]:
    """
    Order the nodes so that every R = 0 edge leads forward; ties as in the graph file.

    A pattern is valid exactly if there is such an order (SR18, Definition "valid").

    :raises InvalidRolloutError: With the cycle of R = 0 edges.
    """
    waiting = {node.name: [u for (u, v), r in pattern.items() if v == node.name and r == 0]
               for node in graph.nodes}
    order: list[str] = []
    while len(order) < len(waiting):
        ready = next((v for v in waiting if v not in order
                      and all(u in order for u in waiting[v])), None)
        if ready is None:
            cycle = find_cycle({v: [u for u in us if u not in order]
                                for v, us in waiting.items() if v not in order})
            raise InvalidRolloutError(
                f"edges with R = 0 form the cycle {' -> '.join(cycle)}; "
                'set streams: true on one of them')
        order.append(ready)
    return order


def find_cycle(sources: Mapping[str, list[str]]) -> list[str]:
    """Return a cycle, first node repeated at the end; every node has a source."""
    path = [next(iter(sources))]
    while path[-1] not in path[:-1]:
        path.append(sources[path[-1]][0])
    return path[path.index(path[-1]):][::-1]


def is_valid(graph: GraphSpec, pattern: Pattern) -> bool:
    """Return whether the rollout windows of the pattern are acyclic."""
    try:
        update_order(graph, pattern)
    except InvalidRolloutError:
        return False
    return True


def valid_patterns(graph: GraphSpec) -> list[dict[tuple[str, str], int]]:
    """Return all valid patterns by trying all 2^|E|; for small graphs."""
    edges = edges_of(graph)
    patterns = (dict(zip(edges, bits)) for bits in product((0, 1), repeat=len(edges)))
    return [pattern for pattern in patterns if is_valid(graph, pattern)]


def rollout_window(graph: GraphSpec, pattern: Pattern, size: int
                   ) -> list[tuple[FrameNode, FrameNode]]:
    """
    Return the edges ((i, u), (i + R(u, v), v)) of R_W (SR18, Definition "rollout window").

    :param size: W; the window has the frames 0, ..., W.
    """
    return [((i, u), (i + r, v)) for (u, v), r in pattern.items() for i in range(size + 1 - r)]


def initial_update_state(graph: GraphSpec, size: int) -> dict[FrameNode, bool]:
    """Return S_init: inputs and frame 0 are there (SR18, Definition "update state")."""
    return {(i, node.name): i == 0 or node.name in graph.inputs
            for i in range(size + 1) for node in graph.nodes}


def update_step(window: list[tuple[FrameNode, FrameNode]], state: Mapping[FrameNode, bool]
                ) -> dict[FrameNode, bool]:
    """Apply U once: a node is there once all its sources are (SR18, Definition "update step")."""
    missing = {target for source, target in window if not state[source]}
    return {node: there or node not in missing for node, there in state.items()}


def inference_tableau(graph: GraphSpec, pattern: Pattern, size: int) -> dict[FrameNode, int]:
    """
    Count the update steps that every node of a rollout window waits for.

    SR18, Definition "inference tableau": the length of the longest path to the node whose first
    edge does not end in frame 0.

    :param pattern: A valid pattern of the graph.
    :param size: W; the window has the frames 0, ..., W.
    :returns: T((i, v)) for every frame i and node v; 0 for inputs and for frame 0.
    """
    sources = {node.name: [(u, r) for (u, v), r in pattern.items() if v == node.name]
               for node in graph.nodes}
    tableau = {(0, node.name): 0 for node in graph.nodes}
    order = update_order(graph, pattern)
    for i in range(1, size + 1):
        for v in order:
            tableau[i, v] = max((tableau[i - r, u] + 1 for u, r in sources[v]), default=0)
    return tableau


def inference_factor(graph: GraphSpec, pattern: Pattern) -> int:
    """
    Return F(R), the update steps between two complete frames.

    SR18, Definition "inference factor"; by Theorem 1 it is 1 exactly for the patterns that are
    as model-parallel as the streaming rollout.
    """
    return max(inference_tableau(graph, pattern, size=1).values())


def images_seen(graph: GraphSpec, pattern: Pattern, size: int) -> dict[FrameNode, set[int]]:
    """
    Return the indices of the images that every node of a window depends on.

    Nodes of frame 0 that are no inputs hold initial states and depend on none.
    """
    sources = {node.name: [(u, r) for (u, v), r in pattern.items() if v == node.name]
               for node in graph.nodes}
    seen = {(0, node.name): {0} if node.name in graph.inputs else set() for node in graph.nodes}
    order = update_order(graph, pattern)
    for i in range(1, size + 1):
        for v in order:
            seen[i, v] = {i} if v in graph.inputs else set().union(
                *(seen[i - r, u] for u, r in sources[v]))
    return seen


def first_response(graph: GraphSpec, pattern: Pattern) -> FirstResponse:
    """Return when the output of a window first depends on an image, in frames and in steps."""
    size = len(graph.nodes)
    seen = images_seen(graph, pattern, size)
    frame = next(i for i in range(1, size + 1) if seen[i, graph.output])
    return FirstResponse(frame, inference_tableau(graph, pattern, frame)[frame, graph.output])


def frames_until_response(graph: GraphSpec, pattern: Pattern) -> int:
    """
    Return after how many further frames the output depends on a new image; 0 is the same frame.

    The least number of streaming edges on a path from an input to the output.
    """
    distance = dict.fromkeys(graph.inputs, 0)
    for _ in graph.nodes:
        for (u, v), r in pattern.items():
            if u in distance:
                distance[v] = min(distance.get(v, distance[u] + r), distance[u] + r)
    return distance[graph.output]


def response_cone(graph: GraphSpec, pattern: Pattern) -> list[str]:
    """
    Return the nodes that the output needs in this frame, in update order, inputs left out.

    They are the output and what it reads, directly or not, through R = 0 edges. All other
    nodes are needed by later frames only, so they can be computed after the answer is out.
    """
    cone = {graph.output}
    order = update_order(graph, pattern)
    for v in reversed(order):
        if v in cone:
            cone |= {u for (u, target), r in pattern.items() if target == v and r == 0}
    return [v for v in order if v in cone and v not in graph.inputs]
