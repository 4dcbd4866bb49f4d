"""The partition with the shortest period: exact for small graphs, a good one for large ones."""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import (
    InvalidRolloutError, Pattern, sequential_pattern, update_order)
from stream_agent.theory.planning.costs import check_costs, NodeCosts
from stream_agent.theory.planning.partition import (
    blocks_of, MessageCost, messages_of, Partition, PartitionError, rank_seconds, RankPipeline,
    sent_at, size_of)

# Blocks placed by each search before it stops: some half a second.
MOST_PLACED = 30_000
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
        self.seconds: list[np.ndarray] = [
            sum([np.array([costs.nodes[v] * graph.node(v).updates_at(t) for t in frames])
                 for v in block], np.zeros(len(frames))) for block in self.names]
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

    def rank_of(self, ranks: list[int]) -> dict[str, int]:
        """Return the rank of every node, renamed from 1 on in the graph's order."""
        rank_of = dict.fromkeys(self.graph.inputs, 0) | {
            v: rank for block, rank in zip(self.names, ranks) for v in block}
        met = list(dict.fromkeys([0, *(rank_of[name] for name in self.graph.by_name)]))
        return {name: met.index(rank_of[name]) for name in self.graph.by_name}


class Placement:
    """Some blocks on ranks, block 0 among them."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        #: Of every block that is placed.
        self.ranks = [0] * len(blocks.names)
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
        """What is better if it is less; it only grows as blocks are placed."""
        return self.key_of(float(self.seconds.max()))

    def key_of(self, period: float) -> Key:
        """Return the key if the slowest rank took so many seconds."""
        return (round(period / self.blocks.step), self._messages, self._bytes,
                round(period * 1e9))

    def place(self, block: int, rank: int) -> None:
        """Put a block on a rank."""
        self.effort += 1
        self.ranks[block] = rank
        self._count_block(block, rank, 1)

    def lift(self, block: int) -> None:
        """Take a block from its rank, which undoes ``place``."""
        self._count_block(block, self.ranks[block], -1)

    def _count_block(self, block: int, rank: int, sign: int) -> None:
        """Count the work and the messages of a block that is placed (1) or lifted (-1)."""
        self._count[rank] += sign
        if rank and self._count[rank] == (sign > 0):
            self.seconds[[0, rank]] += sign * self.blocks.link.per_message
        self.seconds[rank] += sign * self.blocks.seconds[block]
        for source in self.blocks.reads[block]:
            self._readers[source][rank] += sign
            if self._readers[source][rank] == (sign > 0):
                self._send(source, rank, sign)
        for source in self.blocks.read[block]:
            self._home[source] = rank
            for reader, readers in enumerate(self._readers[source]):
                if readers:
                    self._send(source, reader, sign)
            if sign < 0:
                self._home[source] = None

    def _send(self, source: str, rank: int, sign: int) -> None:
        """Count a message to a rank that reads the node, or discount it."""
        home = self._home[source]
        if home not in (None, rank):
            size, seconds = self.blocks.message[source]
            self.seconds[home] += sign * seconds
            self.seconds[rank] += sign * seconds
            self._messages += sign
            self._bytes += sign * size

    def move(self, block: int, rank: int) -> None:
        """Put a block on another rank."""
        self.lift(block)
        self.place(block, rank)


def partition(graph: GraphSpec, pattern: Pattern, costs: NodeCosts, ranks: int,
              link: MessageCost = MessageCost(), *, tolerance: float = 0.01,
              least_gain: float = 0.1, most_placed: int = MOST_PLACED) -> Partition:
    """
    Assign every node to a rank so that the slowest rank takes as little time as possible.

    Of partitions with about the same period one with few messages is taken. Ranks may be left
    without work, as when messages cost more than they save.

    :param graph: With shapes where the sizes of messages are to count.
    :param pattern: A valid pattern of the graph; nodes that it joins by R = 0 stay together.
    :param ranks: At least 1.
    :param tolerance: What is about the same, as a share of the least possible period; measured
        costs are no more exact.
    :param least_gain: By what share of one rank's time several have to be faster, waiting
        included, or one is taken.
    :param most_placed: Effort of each search; the result says if it was enough to be exact.
    :raises PartitionError: If `ranks` is below 1.
    :raises CostError: If the costs do not fit the graph.
    :raises InvalidRolloutError: If the pattern is not valid.
    """
    if ranks < 1:
        raise PartitionError(f'ranks is {ranks}; it is at least 1')
    check_costs(costs, graph)
    update_order(graph, pattern)
    blocks = Blocks(graph, pattern, costs, ranks, link, tolerance)
    best = min((improved(start, most_placed) for start in starts(blocks)),
               key=lambda placed: placed.key)
    search = ExactSearch(best, most_placed)
    rank_of = blocks.rank_of(search.run())
    found = forecast(graph, pattern, costs, rank_of, ranks, link, search.exact)
    if found.period > (1 - least_gain) * found.one_rank:
        found = forecast(graph, pattern, costs, dict.fromkeys(rank_of, 0), ranks, link,
                         search.exact)
    return found


def forecast(graph: GraphSpec, pattern: Pattern, costs: NodeCosts, rank_of: Mapping[str, int],
             ranks: int, link: MessageCost = MessageCost(), exact: bool = False) -> Partition:
    """Say what to expect of nodes on ranks; ``exact`` if no partition is better."""
    seconds = rank_seconds(graph, pattern, costs, rank_of, ranks, link)
    period, one_rank = (RankPipeline(graph, pattern, costs, places, link).period()
                        for places in (rank_of, dict.fromkeys(rank_of, 0)))
    idle = ranks - len({*rank_of.values()})
    return Partition(rank_of, tuple(seconds.max(axis=1).tolist()),
                     tuple(messages_of(graph, pattern, rank_of)), period, one_rank, exact,
                     reason(len(blocks_of(graph, pattern)), idle, ranks) if idle else '')


def reason(parts: int, idle: int, ranks: int) -> str:
    """Return why ranks are idle, given the parts that can be computed at the same time."""
    count = f'{idle} of {ranks} ranks {"has" if idle == 1 else "have"} no work'
    if parts == 1:
        return (f'{count}: edges with R = 0 join all nodes, so that each waits for another '
                'within the frame; let edges stream')
    if parts < ranks:
        return (f'{count}: edges with R = 0 leave {parts} parts that can be computed at the same '
                'time; let more edges stream')
    return f'{count}: messages and waiting for them would take most of what is saved, or more'


def starts(blocks: Blocks) -> Iterator[Placement]:
    """Yield all on one rank, cuts of the chain, and the most expensive blocks placed first."""
    try:
        names = update_order(blocks.graph, sequential_pattern(blocks.graph))
    except InvalidRolloutError:
        names = list(blocks.graph.by_name)
    order = sorted(range(1, len(blocks.names)),
                   key=lambda block: names.index(blocks.names[block][0]))
    yield placed_on(blocks, order, [0] * len(order))
    means = np.array([blocks.seconds[block].mean() for block in order])
    middles = np.cumsum(means) - means / 2
    parts = (blocks.ranks * middles / max(means.sum(), 1e-12)).astype(int)
    for first in range(blocks.ranks):
        yield placed_on(blocks, order, [int(part + first) % blocks.ranks for part in parts])
    placed = Placement(blocks)
    for block in sorted(order, key=lambda block: -blocks.seconds[block].max()):
        placed.place(block, int(placed.seconds.max(axis=1).argmin()))
    yield placed


def placed_on(blocks: Blocks, order: list[int], ranks: list[int]) -> Placement:
    """Return a placement of blocks on the ranks that are given for them."""
    placed = Placement(blocks)
    for block, rank in zip(order, ranks):
        placed.place(block, rank)
    return placed


def improved(placed: Placement, most_placed: int) -> Placement:
    """Move single blocks, and exchange pairs with the slowest rank, as long as that helps."""
    end = placed.effort + most_placed
    singles = [[move] for move in product(range(1, len(placed.ranks)),
                                          range(placed.blocks.ranks))]
    helped = True
    while helped and placed.effort < end:
        # In lists, as what follows a move that helped may help as well.
        helped = any([try_moves(placed, moves) for moves in singles]) or any(
            [try_moves(placed, moves) for moves in exchanges(placed, end)])
    return placed


def exchanges(placed: Placement, end: int) -> Iterator[list[tuple[int, int]]]:
    """Yield exchanges of a block of the rank that takes longest for a cheaper one of another."""
    costs = [seconds.max() for seconds in placed.blocks.seconds]
    for one in range(1, len(placed.ranks)):
        slowest = placed.seconds.max(axis=1).argmax()
        for two in range(1, len(placed.ranks)):
            ranks = placed.ranks[one], placed.ranks[two]
            if (ranks[0] == slowest != ranks[1] and costs[one] > costs[two]
                    and placed.effort < end):
                yield [(one, ranks[1]), (two, ranks[0])]


def try_moves(placed: Placement, moves: list[tuple[int, int]]) -> bool:
    """Make moves if the placement is better for it; returns whether it was."""
    before, back = placed.key, [(block, placed.ranks[block]) for block, _ in moves]
    if back == moves:
        return False
    for block, rank in moves:
        placed.move(block, rank)
    if placed.key < before:
        return True
    for block, rank in back:
        placed.move(block, rank)
    return False


class ExactSearch:
    """
    Branch and bound over all placements; ranks without work are alike, so one of them is tried.

    It begins with a placement to beat, and gives up after ``most_placed`` blocks.
    """

    def __init__(self, best: Placement, most_placed: int) -> None:
        self._blocks = blocks = best.blocks
        self._key, self._ranks = best.key, list(best.ranks)
        self._left = most_placed
        self._order = sorted(range(1, len(blocks.names)),
                             key=lambda block: -blocks.seconds[block].max())
        #: Seconds of the blocks from a position of the order on.
        self._rest = [sum((blocks.seconds[block] for block in self._order[i:]),
                          np.zeros_like(blocks.overhead)) for i in range(len(self._order) + 1)]

    @property
    def exact(self) -> bool:
        """Whether nothing was left out."""
        return self._left > 0

    def run(self) -> list[int]:
        """Return the rank of every block in the best placement."""
        self._descend(Placement(self._blocks), 0, 0)
        return self._ranks

    def _descend(self, placed: Placement, depth: int, last: int) -> None:
        """Place the rest of the order; the ranks up to ``last`` have work."""
        mean = (placed.seconds.sum(axis=0) + self._rest[depth]) / self._blocks.ranks
        least = max(float(placed.seconds.max()), float(mean.max()))
        if placed.key_of(least) >= self._key or not self.exact:
            return
        if depth == len(self._order):
            self._key, self._ranks = placed.key, list(placed.ranks)
            return
        for rank in range(min(self._blocks.ranks, last + 2)):
            self._left -= 1
            placed.place(self._order[depth], rank)
            self._descend(placed, depth + 1, max(last, rank))
            placed.lift(self._order[depth])
