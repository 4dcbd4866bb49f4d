"""
When the work of a frame can be done: ahead of its image, for the output, and after it.

The response cone is what the output needs in a frame. Only a part of it depends on the frame's
image: a sum over edges can begin with those that stream, which read the frame before, and a node
without a path of R = 0 edges from an input can be finished. Both fit into the idle time after the
output of the frame before.
"""

from typing import NamedTuple

from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Edge, Pattern, update_order
from stream_agent.theory.rollout import response_cone


class NodeWork(NamedTuple):
    """
    Work on one node, in its own frame: R = 0 edges read this frame, the others the one before.

    :param node: Whose value it is.
    :param edges: (source, node) of what is summed now, in the graph's order.
    :param begun: Whether this continues a sum that was begun ahead.
    :param finishes: Whether the value is complete after it; else it is a sum to be continued.
    """

    node: str
    edges: tuple[Edge, ...]
    begun: bool = False
    finishes: bool = True


class FrameSchedule(NamedTuple):
    """
    The work of one frame, in an order that its R = 0 edges allow.

    :param held: Nodes that keep their value, as their period says.
    :param ahead: What does not wait for the image, so that it is done in the frame before.
    :param respond: What the output then still needs.
    :param settle: What only later frames need.
    """

    held: tuple[str, ...]
    ahead: tuple[NodeWork, ...]
    respond: tuple[NodeWork, ...]
    settle: tuple[NodeWork, ...]


def frame_schedule(graph: GraphSpec, pattern: Pattern, frame: int, begin_ahead: bool = True
                   ) -> FrameSchedule:
    """
    Divide the work of a frame.

    :param pattern: A valid pattern of the graph.
    :param frame: From 1 on; matters only with periods.
    :param begin_ahead: Whether anything is done before the image is there; if not, the whole
        response cone is left for the output.
    """
    computed = [v for v in update_order(graph, pattern) if v not in graph.inputs]
    held = tuple(v for v in computed if not graph.node(v).updates_at(frame))
    cone = response_cone(graph, pattern, frame)
    late = nodes_after_the_image(graph, pattern, cone) if begin_ahead else {*cone}
    ahead, respond = [], []
    for v in cone:
        edges = terms(graph, v)
        waiting = edges_that_wait(graph, edges, pattern, late) if begin_ahead else edges
        begun = tuple(edge for edge in edges if edge not in waiting)
        if begun:
            ahead.append(NodeWork(v, begun, finishes=v not in late))
        if v in late:
            respond.append(NodeWork(v, waiting, begun=bool(begun)))
    settle = (NodeWork(v, terms(graph, v)) for v in computed if v not in (*held, *cone))
    return FrameSchedule(held, tuple(ahead), tuple(respond), tuple(settle))


def nodes_after_the_image(graph: GraphSpec, pattern: Pattern, cone: list[str]) -> set[str]:
    """Return the inputs, and the nodes of a cone that R = 0 edges lead to from them."""
    late = set(graph.inputs)
    for v in cone:
        if any(not pattern[edge] and edge[0] in late for edge in terms(graph, v)):
            late.add(v)
    return late


def terms(graph: GraphSpec, name: str) -> tuple[Edge, ...]:
    """Return the edges that a node sums, in the graph's order; a cell's self-edge is none."""
    carries = bool(graph.node(name).cell)
    return tuple((edge.source, name) for edge in graph.incoming[name]
                 if not (carries and edge.source == name))


def edges_that_wait(graph: GraphSpec, edges: tuple[Edge, ...], pattern: Pattern, late: set[str]
                    ) -> tuple[Edge, ...]:
    """Return the edges into a node whose terms need the image; all factors of a product do."""
    product = {(edge.source, edge.target): edge.product
               for _, name in edges[:1] for edge in graph.incoming[name]}
    waiting = {edge for edge in edges if not pattern[edge] and edge[0] in late}
    products = {product[edge] for edge in waiting} - {''}
    return tuple(edge for edge in edges if edge in waiting or product[edge] in products)
