"""
Which operations of one half of a step run side by side: on what stream, and what waits for what.

An operation waits for what it needs and for nothing else. Operations on one stream run in turn,
so a stream is given a chain of operations of which each needs the one before, and there are as
few streams as that allows (R. P. Dilworth: A decomposition theorem for partially ordered sets,
Annals of Mathematics 51, 1950; the chains come from a matching).
"""

from collections.abc import Sequence
import heapq
from typing import NamedTuple

# The name of what is kept, and which of its buffers: ('layer1', 0).
Buffer = tuple[str, int]


class Kernel(NamedTuple):
    """
    Work that is launched as a whole.

    :param name: For people.
    :param reads: Buffers whose values it needs.
    :param writes: Buffers that it fills.
    :param cost: Its share of the work, in any unit.
    """

    name: str
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    cost: float = 1.0


class Launch(NamedTuple):
    """
    One operation in its place; launches are issued in the order of the plan.

    :param operation: Its index.
    :param stream: 0 is the stream that everything begins and ends on.
    :param forks: Whether its stream begins here, without waiting for an operation.
    :param waits: Operations on other streams whose events it waits for.
    :param recorded: Whether an event is recorded behind it.
    """

    operation: int
    stream: int
    forks: bool
    waits: tuple[int, ...]
    recorded: bool


class BranchPlan(NamedTuple):
    """
    All launches, in an order in which they can be issued.

    :param streams: How many there are.
    :param joins: The last operations of all streams but 0, which that waits for in the end.
    """

    launches: tuple[Launch, ...]
    streams: int
    joins: tuple[int, ...]


def dependencies(operations: Sequence[Kernel]) -> list[set[int]]:
    """
    Return the operations that each has to follow.

    Those that write what it reads, and those that read or write what it overwrites.
    """
    writer: dict[Buffer, int] = {}
    readers: dict[Buffer, list[int]] = {}
    result = []
    for i, operation in enumerate(operations):
        earlier = {writer[buffer] for buffer in (*operation.reads, *operation.writes)
                   if buffer in writer}
        for buffer in operation.writes:
            earlier.update(readers.pop(buffer, ()))
            writer[buffer] = i
        for buffer in operation.reads:
            readers.setdefault(buffer, []).append(i)
        result.append(earlier - {i})
    return result


def levels(needed: Sequence[set[int]]) -> list[int]:
    """Return the length of the longest chain that leads to each; equal ones are independent."""
    result: list[int] = []
    for earlier in needed:
        result.append(1 + max((result[i] for i in earlier), default=-1))
    return result


def plan_branches(operations: Sequence[Kernel], most_streams: int = 32) -> BranchPlan:
    """
    Give every operation a stream and the events that it waits for.

    :param operations: In an order in which they could run one after the other.
    :param most_streams: Where there are more chains, some share a stream.
    """
    needed = dependencies(operations)
    order = longest_first([operation.cost for operation in operations], needed)
    chains = fewest_chains(order, ancestors(needed))
    stream_of = place(chains, [operation.cost for operation in operations], most_streams)
    before: list[int] = [0] * len(operations)  # operations that a launch follows, as bits
    last: dict[int, int] = {}
    drafts = []
    for i in order:
        stream = stream_of[i]
        follows = before[last[stream]] | 1 << last[stream] if stream in last else 0
        waits = []
        for j in sorted(needed[i], key=order.index, reverse=True):
            if not follows >> j & 1:
                waits.append(j)
                follows |= before[j] | 1 << j
        forks = stream > 0 and stream not in last and not waits
        before[i] = follows
        last[stream] = i
        drafts.append(Launch(i, stream, forks, tuple(waits), False))
    joins = tuple(i for stream, i in sorted(last.items()) if stream)
    awaited = {*joins, *(i for launch in drafts for i in launch.waits)}
    return BranchPlan(tuple(launch._replace(recorded=launch.operation in awaited)
                            for launch in drafts), max(1, len(last)), joins)


def ancestors(needed: Sequence[set[int]]) -> list[int]:
    """Return all that each operation follows, directly or not, as bits."""
    result: list[int] = []
    for earlier in needed:
        bits = 0
        for i in earlier:
            bits |= result[i] | 1 << i
        result.append(bits)
    return result


def longest_first(costs: Sequence[float], needed: Sequence[set[int]]) -> list[int]:
    """Return an order of issue: of all that could be next, what has the longest way to the end."""
    remaining = list(costs)
    for i in reversed(range(len(costs))):
        for j in needed[i]:
            remaining[j] = max(remaining[j], costs[j] + remaining[i])
    missing = [len(earlier) for earlier in needed]
    later: list[list[int]] = [[] for _ in costs]
    for i, earlier in enumerate(needed):
        for j in earlier:
            later[j].append(i)
    ready = [(-remaining[i], i) for i, count in enumerate(missing) if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        order.append(heapq.heappop(ready)[1])
        for i in later[order[-1]]:
            missing[i] -= 1
            if not missing[i]:
                heapq.heappush(ready, (-remaining[i], i))
    return order


def fewest_chains(order: Sequence[int], follows: Sequence[int]) -> list[list[int]]:
    """
    Divide operations into as few chains as possible, in which each follows the one before.

    :param follows: What each follows, as bits.
    """
    options = {i: [j for j in order if follows[j] >> i & 1] for i in order}
    following: dict[int, int] = {}
    preceding: dict[int, int] = {}
    for i in order:
        augment(i, options, following, preceding)
    chains = []
    for i in order:
        if i not in preceding:
            chains.append([i])
            while chains[-1][-1] in following:
                chains[-1].append(following[chains[-1][-1]])
    return chains


def augment(start: int, options: dict[int, list[int]], following: dict[int, int],
            preceding: dict[int, int]) -> None:
    """Find a successor for one more operation, changing those of others where that helps."""
    found_by: dict[int, int] = {}
    queue = [start]
    for i in queue:
        for j in options[i]:
            if j in found_by:
                continue
            found_by[j] = i
            if j in preceding:
                queue.append(preceding[j])
                continue
            free: int | None = j
            while free is not None:
                left = found_by[free]
                following[left], preceding[free], free = free, left, following.get(left)
            return


def place(chains: list[list[int]], costs: Sequence[float], most_streams: int) -> dict[int, int]:
    """Return every operation's stream; the longest chains first, each on the least busy one."""
    busy = [0.0] * min(most_streams, len(chains))
    streams = {}
    for chain in sorted(chains, key=lambda chain: -sum(costs[i] for i in chain)):
        stream = busy.index(min(busy))
        # Work without a cost takes a stream of its own as well.
        busy[stream] += max(sum(costs[i] for i in chain), 1e-9)
        streams.update(dict.fromkeys(chain, stream))
    return streams
