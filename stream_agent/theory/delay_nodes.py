"""Edges that read their source more than one frame back, by nodes that pass a value on."""

from collections.abc import Mapping
from dataclasses import replace

from stream_agent.theory.errors import nearest
from stream_agent.theory.graph import EdgeSpec, GraphError, GraphSpec, NodeSpec
from stream_agent.theory.patterns import Edge


def with_copies(graph: GraphSpec, delays: Mapping[Edge, int]) -> GraphSpec:
    """
    Return a graph in which edges u -> v have R = d > 1, by d - 1 copy nodes in between.

    u -> u_v_1 -> ... -> v stream, so node v of frame i reads u of frame i - d (SR18: "R(e) > 1
    reduces to {0, 1}"). A copy holds what its source had a frame ago; the last edge is the
    former one, with its transform and its options.

    :param delays: d by (source, target), at least 1, where the edge is only marked to stream.
    :raises GraphError: If there is no such edge, or a delay is not a whole number of frames.
    """
    names = [edge.name for edge in graph.edges]
    for (u, v), delay in delays.items():
        if f'{u}->{v}' not in names:
            raise GraphError(f"delays: no edge '{u}->{v}'; {nearest(f'{u}->{v}', names, 'edges')}")
        if type(delay) is not int or delay < 1:
            raise GraphError(f'delays.{u}->{v}: {delay!r} is not a whole number of frames, 1 or '
                             'more; an edge with R = 0 needs no entry')
        if u == v and delay > 1 and graph.node(u).cell:
            raise GraphError(f"delays.{u}->{v}: the cell of '{u}' reads its own last value; "
                             'write streams: true')
    nodes, edges = list(graph.nodes), []
    for edge in graph.edges:
        delay = delays.get((edge.source, edge.target), 0)
        copies = copies_of(graph.node(edge.source), edge, delay - 1, {node.name for node in nodes})
        nodes += copies
        chain = [edge.source, *(copy.name for copy in copies)]
        edges += [EdgeSpec(u, v, transform='identity', streams=True, place=edge.place)
                  for u, v in zip(chain, chain[1:])]
        edges.append(replace(edge, source=chain[-1], streams=edge.streams or delay > 0))
    return replace(graph, nodes=tuple(nodes), edges=tuple(edges))


def copies_of(source: NodeSpec, edge: EdgeSpec, number: int, taken: set[str]) -> list[NodeSpec]:
    """Return nodes that pass a source on; their names are not taken yet."""
    copies = []
    for i in range(1, number + 1):
        name = f'{source.name}_{edge.target}_{i}'
        while name in taken:
            name += '_'
        taken = taken | {name}
        copies.append(NodeSpec(name, shape=source.shape, channels=source.channels,
                               place=edge.place))
    return copies
