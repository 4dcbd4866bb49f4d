"""
Rollouts of a graph: windows, update steps, tableaus, response cones.

The periods and offsets of nodes are an extension of SR18 (see ``patterns``): a node that is not
updated at a frame holds its value, and has no copy of its own in the window. With periods of 1
everything is as in the paper.
"""

from collections.abc import Mapping

from stream_agent.theory.checks import check_work
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Pattern, update_order

FrameNode = tuple[int, str]
Window = list[tuple[FrameNode, FrameNode]]


def window_nodes(graph: GraphSpec, size: int) -> list[FrameNode]:
    """Return the nodes (i, v) of R_W, W = size: all of frame 0, then those that are updated."""
    return [(i, node.name) for i in range(size + 1) for node in graph.nodes
            if i == 0 or node.updates_at(i)]


def rollout_window(graph: GraphSpec, pattern: Pattern, size: int) -> Window:
    """
    Return the edges ((i, u), (i + R(u, v), v)) of R_W (SR18, Definition "rollout window").

    Where u is not updated in its frame, the edge comes from its last update instead.

    :param size: W; the window has the frames 0, ..., W.
    """
    return [((graph.node(u).last_update(j - r), u), (j, v))
            for j, v in window_nodes(graph, size)
            for u, r in sources_of(graph, pattern)[v] if j >= r]


def sources_of(graph: GraphSpec, pattern: Pattern) -> dict[str, list[tuple[str, int]]]:
    """Return for every node its sources with R of the edge."""
    sources: dict[str, list[tuple[str, int]]] = {node.name: [] for node in graph.nodes}
    for (u, v), r in pattern.items():
        sources[v].append((u, r))
    return sources


def initial_update_state(graph: GraphSpec, size: int) -> dict[FrameNode, bool]:
    """Return S_init: inputs and frame 0 are there (SR18, Definition "update state")."""
    return {(i, v): i == 0 or v in graph.inputs for i, v in window_nodes(graph, size)}


def update_step(window: Window, state: Mapping[FrameNode, bool]) -> dict[FrameNode, bool]:
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
    :returns: T((i, v)) for every frame i and node v; 0 for inputs and for frame 0; that of the
        last update for a node that is held.
    :raises GraphError: If the window is too large to be counted in a few seconds.
    """
    check_work(graph, size)
    sources = sources_of(graph, pattern)
    tableau = {(0, node.name): 0 for node in graph.nodes}
    order = update_order(graph, pattern)
    for i in range(1, size + 1):
        for v in order:
            tableau[i, v] = (
                max((tableau[i - r, u] + 1 for u, r in sources[v]), default=0)
                if graph.node(v).updates_at(i) else tableau[i - 1, v])
    return tableau


def inference_factor(graph: GraphSpec, pattern: Pattern) -> int:
    """
    Return F(R), the update steps that a frame takes once the frame before is complete.

    SR18, Definition "inference factor", the largest T of frame 1 in the window of size 1; by
    Theorem 1 it is 1 exactly for the patterns that are as model-parallel as the streaming
    rollout. With a schedule it is the largest over all frames of the hyperperiod.
    """
    check_work(graph, graph.hyperperiod)
    return max(max(depths(graph, pattern, frame).values())
               for frame in range(1, graph.hyperperiod + 1))


def depths(graph: GraphSpec, pattern: Pattern, frame: int) -> dict[str, int]:
    """Return at which update step of a frame each node is computed; 0 if it is not."""
    sources = sources_of(graph, pattern)
    depth: dict[str, int] = {}
    for v in update_order(graph, pattern):
        computed = v not in graph.inputs and graph.node(v).updates_at(frame)
        depth[v] = computed + max((depth[u] for u, r in sources[v] if not r), default=0) * computed
    return depth


def response_cone(graph: GraphSpec, pattern: Pattern, frame: int) -> list[str]:
    """
    Return the nodes that the output needs in a frame, in update order, inputs left out.

    They are the output and what it reads, directly or not, through R = 0 edges, as far as it
    is updated in this frame. All other nodes are needed by later frames only, so they can be
    computed after the answer is out.

    :param frame: Matters only with a schedule; it may be any frame without one.
    """
    sources = sources_of(graph, pattern)
    order = update_order(graph, pattern)
    cone = {graph.output}
    for v in reversed(order):
        if v in cone:
            if graph.node(v).updates_at(frame):
                cone |= {u for u, r in sources[v] if not r}
            else:
                cone.remove(v)
    return [v for v in order if v in cone and v not in graph.inputs]
