"""The partition with the shortest period: exact for small graphs, a good one for large."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Pattern, update_order
from stream_agent.theory.planning.costs import check_costs, NodeCosts
from stream_agent.theory.planning.partition import (
    blocks_of, MessageCost, messages_of, Partition, PartitionError, rank_seconds)
from stream_agent.theory.planning.pipelines import RankPipeline
from stream_agent.theory.planning.placement import Blocks, Placement

# Blocks placed by each search before it stops: some half a second.
MOST_PLACED = 30_000


def partition(graph: GraphSpec, pattern: Pattern, costs: NodeCosts, ranks: int,
              link: MessageCost = MessageCost(), *, tolerance: float = 0.01,
              least_gain: float = 0.1,
              most_placed: int = MOST_PLACED) -> Partition:
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
    :raises PartitionError: If there is no rank.
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
    found = forecast(graph, pattern, costs, blocks.rank_of(search.run()), ranks, link,
                     search.exact)
    if found.period <= (1 - least_gain) * found.one_rank:
        return found
    return forecast(graph, pattern, costs, dict.fromkeys(graph.by_name, 0), ranks, link,
                    search.exact)


def forecast(graph: GraphSpec, pattern: Pattern, costs: NodeCosts, rank_of: Mapping[str, int],
             ranks: int, link: MessageCost = MessageCost(), exact: bool = False) -> Partition:
    """
    Say what is to be expected of nodes on ranks.

    :param rank_of: Of every node, below ``ranks``.
    :param exact: Whether nothing better is possible.
    """
    seconds = rank_seconds(graph, pattern, costs, rank_of, ranks, link)
    period, one_rank = (RankPipeline(graph, pattern, costs, places, link).period()
                        for places in (rank_of, dict.fromkeys(rank_of, 0)))
    idle = ranks - len({*rank_of.values()})
    return Partition(rank_of, tuple(seconds.max(axis=1).tolist()),
                     tuple(messages_of(graph, pattern, rank_of)), period, one_rank, exact,
                     reason(len(blocks_of(graph, pattern)), idle, ranks) if idle else '')


def reason(parts: int, idle: int, ranks: int) -> str:
    """
    Return why ranks are left without work.

    :param parts: Blocks of the graph, which can be computed at once.
    """
    count = f'{idle} of {ranks} ranks {"has" if idle == 1 else "have"} no work'
    if parts == 1:
        return (f'{count}: edges with R = 0 join all nodes, so that each waits for another '
                'within the frame; let edges stream')
    if parts < ranks:
        return (f'{count}: edges with R = 0 leave {parts} parts that can be computed at once; '
                'let more edges stream')
    return f'{count}: messages and waiting for them would take most of what is saved, or more'


def starts(blocks: Blocks) -> Iterator[Placement]:
    """Yield placements to begin with: all on one rank, cuts of the chain, the dearest first."""
    order = blocks.in_chain_order()
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
    blocks = range(1, len(placed.ranks))
    moves = [[(block, rank)] for block in blocks for rank in range(placed.blocks.ranks)]
    while placed.effort < end and (try_all(placed, moves)
                                   or try_all(placed, exchanges(placed, end))):
        pass
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


def try_all(placed: Placement, alternatives: Iterable[list[tuple[int, int]]]) -> bool:
    """Try all moves, one after the other; returns whether one of them helped."""
    return sum(try_moves(placed, moves) for moves in alternatives) > 0


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

    :param best: A placement of all blocks, to beat.
    :param most_placed: Blocks to place before the search gives up.
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
