"""Blocks of nodes on ranks, placed one by one, and what every rank then takes."""

import numpy as np
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import (
    InvalidRolloutError, Pattern, sequential_pattern, update_order)
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.partition import blocks_of, MessageCost, sent_at, size_of

# Seconds in steps of the tolerance, messages, bytes, and nanoseconds: what is less is better.
Key = tuple[int, int, int, int]


class Blocks:
    """
    What is placed: nodes that stay together, what they cost, and what they read.

    Block 0 holds the output, and rank 0 holds block 0.

    :param ranks: At least 1.
    :param tolerance: Share of the least possible period below which a difference does not matter.
    """

    def __init__(self, graph: GraphSpec, pattern: Pattern, costs: NodeCosts, ranks: int,
                 link: MessageCost, tolerance: float) -> None:
        self.graph, self.ranks, self.link = graph, ranks, link
        self.names = sorted(blocks_of(graph, pattern), key=lambda block: graph.output not in block)
        frames = range(1, graph.hyperperiod + 1)
        self.overhead = np.full(len(frames), costs.overhead)
        #: Of every block in every frame of the schedule.
        self.seconds = [sum(np.array([costs.nodes[v] * graph.node(v).updates_at(t)
                                      for t in frames]) for v in block) for block in self.names]
        self.step = max(1e-9, tolerance * costs.total() / ranks)
        block_of = {v: i for i, block in enumerate(self.names) for v in block}
        #: Nodes of other blocks, and inputs, that a block reads; and its own that others read.
        self.reads: list[dict[str, None]] = [{} for _ in self.names]
        self.read: list[dict[str, None]] = [{} for _ in self.names]
        for u, v in pattern:
            if block_of.get(u) != block_of[v]:
                self.reads[block_of[v]][u] = None
                if u in block_of:
                    self.read[block_of[u]][u] = None
        #: Bytes of a node's message, and its seconds in every frame.
        self.message = {
            u: (size_of(graph, u), link.per_byte * size_of(graph, u) if u in graph.inputs else
                np.array([link.seconds(size_of(graph, u)) * sent_at(graph, pattern, u, t)
                          for t in frames])) for u in graph.by_name}

    def in_chain_order(self) -> list[int]:
        """Return the blocks but the first, along the paths that frames take through the graph."""
        try:
            order = update_order(self.graph, sequential_pattern(self.graph))
        except InvalidRolloutError:
            order = list(self.graph.by_name)
        return sorted(range(1, len(self.names)),
                      key=lambda block: order.index(self.names[block][0]))

    def rank_of(self, ranks: list[int]) -> dict[str, int]:
        """
        Return the rank of every node.

        :param ranks: Of every block; those from 1 on are renamed in the graph's order.
        """
        rank_of = dict.fromkeys(self.graph.inputs, 0) | {
            v: rank for block, rank in zip(self.names, ranks) for v in block}
        met = list(dict.fromkeys([0, *(rank_of[name] for name in self.graph.by_name)]))
        return {name: met.index(rank_of[name]) for name in self.graph.by_name}


class Placement:
    """Some blocks on ranks, block 0 among them."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        #: Of every block; None if it is not placed.
        self.ranks: list[int | None] = [None] * len(blocks.names)
        #: Of every rank in every frame of the schedule, messages included.
        self.seconds = np.zeros((blocks.ranks, len(blocks.overhead)))
        self.seconds[0] += blocks.overhead
        #: Blocks placed so far, those that were lifted again among them.
        self.effort = 0
        self._count = [0] * blocks.ranks
        self._home: dict[str, int | None] = dict.fromkeys(blocks.graph.by_name) | dict.fromkeys(
            blocks.graph.inputs, 0)
        self._readers = {name: [0] * blocks.ranks for name in blocks.graph.by_name}
        self._messages = self._bytes = 0
        self.place(0, 0)

    @property
    def key(self) -> Key:
        """Return what is better if it is less; it only grows as blocks are placed."""
        return self.key_of(float(self.seconds.max()))

    def key_of(self, period: float) -> Key:
        """Return the key if the slowest rank took so many seconds."""
        return (round(period / self.blocks.step), self._messages, self._bytes,
                round(period * 1e9))

    def place(self, block: int, rank: int) -> None:
        """Put a block on a rank."""
        self.effort += 1
        self.ranks[block] = rank
        self._count[rank] += 1
        if rank and self._count[rank] == 1:
            self.seconds[[0, rank]] += self.blocks.link.per_message
        self.seconds[rank] += self.blocks.seconds[block]
        for source in self.blocks.reads[block]:
            self._readers[source][rank] += 1
            if self._readers[source][rank] == 1:
                self._send(source, rank, 1)
        for source in self.blocks.read[block]:
            self._home[source] = rank
            self._send_to_all(source, 1)

    def lift(self, block: int) -> None:
        """Take a block from its rank; undoes ``place``."""
        rank = self.ranks[block]
        for source in self.blocks.read[block]:
            self._send_to_all(source, -1)
            self._home[source] = None
        for source in self.blocks.reads[block]:
            self._readers[source][rank] -= 1
            if not self._readers[source][rank]:
                self._send(source, rank, -1)
        self.seconds[rank] -= self.blocks.seconds[block]
        if rank and self._count[rank] == 1:
            self.seconds[[0, rank]] -= self.blocks.link.per_message
        self._count[rank] -= 1
        self.ranks[block] = None

    def move(self, block: int, rank: int) -> None:
        """Put a block on another rank."""
        self.lift(block)
        self.place(block, rank)

    def _send_to_all(self, source: str, sign: int) -> None:
        for rank, readers in enumerate(self._readers[source]):
            if readers:
                self._send(source, rank, sign)

    def _send(self, source: str, rank: int, sign: int) -> None:
        """Count a message to a rank that reads the node, or discount it."""
        home = self._home[source]
        if home is None or home == rank:
            return
        size, seconds = self.blocks.message[source]
        self.seconds[home] += sign * seconds
        self.seconds[rank] += sign * seconds
        self._messages += sign
        self._bytes += sign * size
