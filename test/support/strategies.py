"""Random networks and schedules, and the paper's definitions taken literally."""

from itertools import product

from hypothesis import settings, strategies as st
import networkx as nx
from stream_agent.theory.graph import EdgeSpec, GraphSpec, NodeSpec, with_schedule
from stream_agent.theory.patterns import edges_of
from stream_agent.theory.rollout import (
    initial_update_state, rollout_window, update_step, window_nodes)


def examples(number: int) -> settings:
    """Take the same examples in every run."""
    return settings(max_examples=number, deadline=None, derandomize=True, database=None)


@st.composite
def networks(draw, max_inner: int = 4, max_edges: int = 9) -> GraphSpec:
    """
    Draw a network: inputs, self-edges, cycles that nest, cross or meet not, every node fed.

    Edges that lead to an earlier node, or to their own, are marked to stream.
    """
    inputs = [f'x{i}' for i in range(draw(st.integers(1, 2)))]
    inner = [f'n{i}' for i in range(draw(st.integers(1, max_inner)))]
    names = inputs + inner
    edges = [(draw(st.sampled_from(names[:names.index(v)])), v) for v in inner]
    others = [edge for edge in product(names, inner) if edge not in edges]
    more = draw(st.integers(0, min(len(others), max_edges - len(edges))))
    edges += draw(st.lists(st.sampled_from(others), unique=True, min_size=more, max_size=more))
    return GraphSpec(
        tuple(NodeSpec(name) for name in names),
        tuple(EdgeSpec(u, v, streams=names.index(u) >= names.index(v)) for u, v in edges),
        draw(st.sampled_from(inner)))


@st.composite
def scheduled_networks(draw, max_inner: int = 3, max_edges: int = 6,
                       max_period: int = 4) -> GraphSpec:
    """Draw a network whose nodes have periods and offsets."""
    graph = draw(networks(max_inner, max_edges))
    schedule = {}
    for node in graph.nodes:
        if node.name not in graph.inputs:
            period = draw(st.integers(1, max_period))
            schedule[node.name] = period, draw(st.integers(0, period - 1))
    return with_schedule(graph, schedule)


@st.composite
def valid_patterns_of(draw, names, pairs):
    """Draw a pattern of some edges: R = 0 leads forward in some order of the nodes."""
    order = draw(st.permutations(names))
    return {(u, v): 1 if order.index(u) >= order.index(v) else draw(st.integers(0, 1))
            for u, v in sorted(pairs)}


def all_patterns(graph: GraphSpec):
    """Yield the 2^|E| patterns, valid or not."""
    edges = edges_of(graph)
    for values in product((0, 1), repeat=len(edges)):
        yield dict(zip(edges, values))


def has_no_cycle(graph: GraphSpec, pattern) -> bool:
    """Return whether the R = 0 edges contain no cycle."""
    return nx.is_directed_acyclic_graph(nx.DiGraph(e for e, r in pattern.items() if not r))


def window_graph(graph: GraphSpec, pattern, size: int) -> nx.DiGraph:
    """Return R_W."""
    window = nx.DiGraph(rollout_window(graph, pattern, size))
    window.add_nodes_from(window_nodes(graph, size))
    return window


def updates_graph(graph: GraphSpec, pattern, size: int) -> nx.DiGraph:
    """Return R_W without the edges that end in frame 0, whose values are there from the start."""
    window = window_graph(graph, pattern, size)
    window.remove_edges_from([edge for edge in window.edges if edge[1][0] == 0])
    return window


def paths_to(window: nx.DiGraph, node):
    """Yield every path of the window that ends in a node, as the list of its nodes."""
    yield [node]
    for source in window.predecessors(node):
        for path in paths_to(window, source):
            yield [*path, node]


def first_steps(graph: GraphSpec, pattern, size: int) -> dict:
    """Return the least k with U^k(S_init)(n) = 1 for the nodes of a window."""
    window = rollout_window(graph, pattern, size)
    state = initial_update_state(graph, size)
    first = {node: 0 for node, there in state.items() if there}
    k = 0
    while len(first) < len(state):
        k += 1
        state = update_step(window, state)
        first.update({node: k for node, there in state.items()
                      if there and node not in first})
    return first
