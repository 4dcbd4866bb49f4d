"""
Which rank computes which node, so that several devices share a frame.

Nodes that stream into each other can be computed at the same time, on different ranks: what
crosses is needed a frame later, and is sent while the next frame computes. Nodes that R = 0
edges join would wait for each other within the frame, so they stay on one rank. The input's
edges are the exception: the image is sent to all that read it, as soon as it is there. Rank 0
gets the image, computes the output, and answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import networkx as nx
import numpy as np
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Pattern, update_order
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.rollout import response_cone, sources_of


class PartitionError(ValueError):
    """A partition that cannot be run; the message says where, what, and the remedy."""


@dataclass(frozen=True)
class MessageCost:
    """
    Seconds that a message takes of the rank that sends it, and of the one that receives it.

    The defaults are those of gloo between two processes of one machine. Time on a wire is
    counted as if the ranks had to work for it, so a forecast for a slow network is too long.

    :param per_message: Whatever its size.
    :param per_byte: Besides.
    :param latency: Until it is there, with ends that compute: it waits for a core as long as
        half a time slice of the system's. Most of it passes while others compute.
    """

    per_message: float = 1e-4
    per_byte: float = 3e-10
    latency: float = 1.5e-3

    def seconds(self, size: int) -> float:
        """Return what a message of so many bytes takes."""
        return self.per_message + self.per_byte * size


class Message(NamedTuple):
    """A node's value on its way between two ranks; 0 bytes if the graph lacks its shape."""

    source: str
    sender: int
    receiver: int
    size: int


@dataclass(frozen=True)
class Partition:
    """
    Nodes on ranks, and what to expect of it.

    :param rank_of: Of every node; inputs and the output are on rank 0.
    :param seconds: Of every rank, in the most expensive frame of the schedule, messages included.
    :param messages: What crosses, in the graph's order; images too.
    :param period: Seconds from frame to frame, waiting for each other included.
    :param one_rank: The same on a single rank.
    :param exact: Whether no partition has a faster slowest rank by the same costs; if not, it is
        the best that was found.
    :param reason: Why ranks are left without work; empty if none is.
    """

    rank_of: Mapping[str, int]
    seconds: tuple[float, ...]
    messages: tuple[Message, ...]
    period: float
    one_rank: float
    exact: bool = False
    reason: str = ''

    @property
    def ranks(self) -> int:
        """Ranks, with those that have no work."""
        return len(self.seconds)

    def nodes_on(self, rank: int) -> list[str]:
        """Return the nodes of a rank in the graph's order, inputs among them on rank 0."""
        return [name for name, place in self.rank_of.items() if place == rank]


def blocks_of(graph: GraphSpec, pattern: Pattern) -> list[list[str]]:
    """Return the nodes that have to stay together, each in the graph's order; no inputs."""
    index = {name: i for i, name in enumerate(graph.by_name) if name not in graph.inputs}
    joined = nx.Graph((u, v) for (u, v), r in pattern.items() if not r and u in index)
    joined.add_nodes_from(index)
    blocks = [sorted(block, key=index.__getitem__) for block in nx.connected_components(joined)]
    return sorted(blocks, key=lambda block: index[block[0]])


def check_partition(graph: GraphSpec, pattern: Pattern, rank_of: Mapping[str, int]) -> None:
    """Refuse, by a PartitionError, ranks that do not fit a graph and its pattern."""
    for name in graph.by_name:
        if name not in rank_of:
            raise PartitionError(f"partition: no rank for the node '{name}'; give every node one")
    for name in rank_of:
        if name not in graph.by_name:
            raise PartitionError(f"partition: no node named '{name}' in the graph; make the "
                                 'partition of the graph that is run')
    for name in (*graph.inputs, graph.output):
        if rank_of[name]:
            raise PartitionError(f"partition: '{name}' is on rank {rank_of[name]}, but images "
                                 'come to rank 0 and answers leave it; put it there')
    for (u, v), r in pattern.items():
        if not r and u not in graph.inputs and rank_of[u] != rank_of[v]:
            raise PartitionError(
                f'partition: the edge {u}->{v} has R = 0, but leads from rank {rank_of[u]} to '
                f'rank {rank_of[v]}; put both on one rank, or let the edge stream')


def messages_of(graph: GraphSpec, pattern: Pattern, rank_of: Mapping[str, int]) -> list[Message]:
    """Return what crosses, in the graph's order: a value goes to each rank that reads it once."""
    crossing = {(u, rank_of[v]) for u, v in pattern if rank_of[u] != rank_of[v]}
    return [Message(u, rank_of[u], rank, size_of(graph, u))
            for u in graph.by_name for rank in sorted({*rank_of.values()})
            if (u, rank) in crossing]


def size_of(graph: GraphSpec, name: str) -> int:
    """Return the bytes of a node's value in float32; 0 if the graph lacks its shape."""
    shape = graph.node(name).shape
    return 4 * prod(shape) if shape else 0


def sent_at(graph: GraphSpec, pattern: Pattern, source: str, frame: int) -> bool:
    """
    Return whether a node has a new value at a frame that others read later.

    They read it from the next frame on, and until the one after it has its next value.
    """
    node = graph.node(source)
    readers = [graph.node(v) for (u, v), r in pattern.items() if u == source != v and r]
    return node.updates_at(frame) and any(
        reader.updates_at(later) for reader in readers
        for later in range(frame + 1, frame + 1 + node.period))


def rank_seconds(graph: GraphSpec, pattern: Pattern, costs: NodeCosts,
                 rank_of: Mapping[str, int], ranks: int, link: MessageCost) -> np.ndarray:
    """
    Return the seconds of every rank in every frame of the schedule, (ranks, frames).

    A message tells every rank that has nodes of every frame; the image is part of it.
    """
    frames = range(1, graph.hyperperiod + 1)
    seconds = np.zeros((ranks, len(frames)))
    seconds[0] += costs.overhead
    for name, cost in costs.nodes.items():
        seconds[rank_of[name]] += [cost * graph.node(name).updates_at(t) for t in frames]
    for rank in sorted(set(rank_of.values()) - {0}):
        seconds[[0, rank]] += link.per_message
    for source, sender, receiver, size in messages_of(graph, pattern, rank_of):
        seconds[[sender, receiver]] += (
            link.per_byte * size if source in graph.inputs else
            [link.seconds(size) * sent_at(graph, pattern, source, t) for t in frames])
    return seconds


def work_order(graph: GraphSpec, pattern: Pattern, rank_of: Mapping[str, int],
               names: list[str]) -> list[str]:
    """
    Order nodes of one rank so that messages have time to travel.

    Those whose values are sent come early, those that wait for another rank late, as far as
    R = 0 edges allow.

    :param names: In update order; what they read by R = 0 edges from other nodes is there.
    """
    sources = sources_of(graph, pattern)
    sent = {u for u, v in pattern if rank_of[u] != rank_of[v]}
    left = dict.fromkeys(names)
    order: list[str] = []

    def lateness(v: str) -> tuple[bool, bool]:
        awaits = any(r and rank_of[u] != rank_of[v] and u not in graph.inputs
                     for u, r in sources[v])
        return awaits, v not in sent

    while left:
        free = [v for v in left if not any(u in left and not r for u, r in sources[v])]
        order.append(min(free, key=lateness))
        del left[order[-1]]
    return order


# Frames that fill the pipeline, and that are counted then.
FILL, COUNTED = 20, 20
# When the value of a node is there, by node and receiver.
Arrivals = dict[tuple[str, int], float]


class RankPipeline:
    """Ranks that compute frames as fast as they can; all has to pass ``check_partition``."""

    def __init__(self, graph: GraphSpec, pattern: Pattern, costs: NodeCosts,
                 rank_of: Mapping[str, int], link: MessageCost) -> None:
        self._graph, self._pattern, self._costs, self._link = graph, pattern, costs, link
        self._rank_of = rank_of
        messages = messages_of(graph, pattern, rank_of)
        self._messages = [item for item in messages if item.source not in graph.inputs]
        self._ranks = sorted({0, *rank_of.values()})
        #: Seconds that the order for a rank, with its images, takes of either end.
        self._orders = {rank: link.seconds(sum(
            item.size for item in messages
            if item.source in graph.inputs and item.receiver == rank)) if rank else 0.0
            for rank in self._ranks}
        self._awaited = {v: [u for u, r in sources if r and u not in graph.inputs
                             and rank_of[u] != rank_of[v]]
                         for v, sources in sources_of(graph, pattern).items()}
        self._frames = [self._plan(frame) for frame in range(graph.hyperperiod)]

    def _plan(self, frame: int) -> tuple[dict[int, list[str]], list[Message]]:
        """Return what every rank computes in a frame, in order, and what crosses after it."""
        computed = [v for v in update_order(self._graph, self._pattern)
                    if v not in self._graph.inputs and self._graph.node(v).updates_at(frame)]
        cone = response_cone(self._graph, self._pattern, frame)
        nodes = {rank: work_order(self._graph, self._pattern, self._rank_of, [
            v for v in computed if self._rank_of[v] == rank and v not in cone])
            for rank in self._ranks}
        nodes[0] = cone + nodes[0]
        return nodes, [message for message in self._messages
                       if sent_at(self._graph, self._pattern, message.source, frame)]

    def period(self) -> float:
        """Return the seconds from frame to frame, once the pipeline is full."""
        counted = -(-COUNTED // self._graph.hyperperiod) * self._graph.hyperperiod
        times = dict.fromkeys(self._ranks, 0.0)
        arrivals: Arrivals = {}
        ends = []
        for frame in range(1, 1 + FILL + counted):
            arriving = dict(arrivals)
            ordered = times[0] + self._costs.overhead + sum(self._orders.values())
            for rank in self._ranks:
                start = ordered if rank == 0 else max(
                    times[rank], ordered + self._link.latency) + self._orders[rank]
                times[rank] = self._compute(frame, rank, start, arrivals, arriving)
            arrivals = arriving
            ends.append(max(times.values()))
        return (ends[-1] - ends[FILL - 1]) / counted

    def _compute(self, frame: int, rank: int, now: float, arrivals: Arrivals,
                 arriving: Arrivals) -> float:
        """Return when a rank has finished a frame, and note when its values arrive elsewhere."""
        nodes, crossing = self._frames[frame % len(self._frames)]
        for v in nodes[rank]:
            now = max([now, *(arrivals.get((u, rank), 0.0) for u in self._awaited[v])])
            now += self._costs.nodes[v]
            for message in crossing:
                if message.source == v:
                    now += self._link.seconds(message.size)
                    arriving[v, message.receiver] = now + self._link.latency
        return now + sum(self._link.seconds(message.size) for message in crossing
                         if message.receiver == rank)
