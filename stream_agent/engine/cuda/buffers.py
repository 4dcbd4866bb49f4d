"""
Where the values of nodes lie: buffers that are used in turn, so that nothing is ever copied.

A frame's value goes into the next buffer of its node while later readers still find the earlier
one in its own. What a frame reads and writes repeats after some frames, and is then the same
addresses, which is what a recorded half of a step needs.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache
from itertools import count
from math import gcd, lcm
from typing import NamedTuple

from stream_agent.engine.cuda.branches import Buffer, dependencies, Kernel, levels
from stream_agent.theory.frame_schedule import frame_schedule, FrameSchedule, NodeWork
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Pattern

# Powers of two, so that the phases of all nodes repeat together soon.
COUNTS = (1, 2, 4)


class Action(NamedTuple):
    """
    Work on a node with its buffers.

    :param sources: What each of its edges reads.
    :param previous: The node's last value, if it has a cell.
    :param begun: The sum that it continues, if there is one.
    :param target: What it fills: the node's value, or a sum.
    """

    work: NodeWork
    sources: tuple[Buffer, ...]
    previous: Buffer | None
    begun: Buffer | None
    target: Buffer

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """All that it reads."""
        return (*self.sources, *(buffer for buffer in (self.previous, self.begun) if buffer))


class FrameActions(NamedTuple):
    """
    What is done for a frame.

    :param images: Where the inputs go, in the graph's order.
    :param respond: From the image to the output.
    :param output: Where the output is found after ``respond``.
    :param settle: The rest, and what the next frame needs ahead of its image.
    """

    images: tuple[Buffer, ...]
    respond: tuple[Action, ...]
    output: Buffer
    settle: tuple[Action, ...]


class BufferPlan:
    """
    The buffers of all frames.

    :param pattern: A valid pattern of the graph.
    :param stacks: Nodes of equal periods and offsets that take their turns together.
    """

    def __init__(self, graph: GraphSpec, pattern: Pattern,
                 stacks: Iterable[Sequence[str]] = ()) -> None:
        self._graph, self._pattern = graph, pattern
        self._schedule = cache(lambda phase: frame_schedule(graph, pattern, phase))
        #: Buffers of every node.
        self.counts = {name: self._count(*lives)
                       for name, lives in self._lives.items()}
        for stack in stacks:
            self.counts.update(dict.fromkeys(stack, max(self.counts[name] for name in stack)))
        #: What is done for frame f, at f modulo the length.
        self.frames = [self._frame(f or self.period) for f in range(self.period)]
        #: What the first frame needs ahead of its image.
        self.begin = tuple(self._action(work, 1) for work in self._schedule_of(1).ahead)

    def _schedule_of(self, frame: int) -> FrameSchedule:
        return self._schedule(frame % self._graph.hyperperiod)

    @property
    def period(self) -> int:
        """Frames after which buffers and schedule repeat together."""
        whole = self._graph.hyperperiod
        turns = (count // gcd(count, whole // self._graph.node(name).period)
                 for name, count in self.counts.items())
        return whole * lcm(*turns)

    @property
    def sums(self) -> list[str]:
        """Nodes whose sums are begun ahead; such a sum is used up in the next half."""
        return list(dict.fromkeys(
            work.node for frame in range(self._graph.hyperperiod)
            for work in self._schedule_of(frame).ahead if not work.finishes))

    @property
    def _lives(self) -> dict[str, tuple[dict[int, int], dict[int, int]]]:
        """Return when the values of every node are written and last read, in halves of steps."""
        lives = {node.name: (dict[int, int](), dict[int, int]()) for node in self._graph.nodes}

        def read(name: str, frame: int, half: int) -> None:
            last = lives[name][1]
            update = self._updates(name, frame)
            last[update] = max(half, last.get(update, half))

        for frame in range(1, 4 * self._graph.hyperperiod + 5):
            _, ahead, respond, settle = self._schedule_of(frame)
            for name in self._graph.inputs:
                lives[name][0][frame] = 2 * frame
            read(self._graph.output, frame, 2 * frame)
            for works, half in ((ahead, 2 * frame - 1), (respond, 2 * frame),
                                (settle, 2 * frame + 1)):
                for work in works:
                    for source, target in work.edges:
                        read(source, frame - self._pattern[source, target], half)
                    if work.finishes:
                        lives[work.node][0][self._updates(work.node, frame)] = half
                        if self._graph.node(work.node).cell:
                            read(work.node, frame - 1, half)
        return lives

    def _count(self, written: dict[int, int], last_read: dict[int, int]) -> int:
        """Return how many buffers let no half overwrite what it, or a later one, needs."""
        return next(count for count in COUNTS if all(
            max(last_read.get(update - count, -1), written.get(update - count, -1)) < half
            for update, half in written.items()))

    def _updates(self, name: str, frame: int) -> int:
        """Return how often a node has been computed in the frames up to this one."""
        node = self._graph.node(name)
        return (frame - node.offset) // node.period - -node.offset // node.period

    def buffer(self, name: str, frame: int) -> Buffer:
        """Return where a node's value at a frame is found, from frame 0 on."""
        return name, self._updates(name, frame) % self.counts[name]

    def _action(self, work: NodeWork, frame: int) -> Action:
        """Return work of a frame with its buffers."""
        carries = work.finishes and self._graph.node(work.node).cell
        running_sum = f'{work.node}.sum', 0
        return Action(
            work,
            tuple(self.buffer(source, frame - self._pattern[source, target])
                  for source, target in work.edges),
            self.buffer(work.node, frame - 1) if carries else None,
            running_sum if work.begun else None,
            self.buffer(work.node, frame) if work.finishes else running_sum)

    def _frame(self, frame: int) -> FrameActions:
        """Return what is done for a frame."""
        now, after = self._schedule_of(frame), self._schedule_of(frame + 1)
        return FrameActions(
            tuple(self.buffer(name, frame) for name in self._graph.inputs),
            tuple(self._action(work, frame) for work in now.respond),
            self.buffer(self._graph.output, frame),
            (*(self._action(work, frame) for work in now.settle),
             *(self._action(work, frame + 1) for work in after.ahead)))


Group = tuple[Action, ...]


class BufferPlace(NamedTuple):
    """Where a buffer lies: in which tensor, at which index of its first axis."""

    tensor: tuple[int, int]
    at: int


def stacks_of(graph: GraphSpec) -> list[tuple[str, ...]]:
    """Return the nodes that share a tensor: of equal shape, kind and schedule; one at least."""
    stacks: dict[Hashable, list[str]] = {}
    for node in graph.nodes:
        if node.name not in graph.inputs:
            key = (node.shape, node.cell, node.name == graph.output, node.period,
                   node.offset)
            stacks.setdefault(key, []).append(node.name)
    return [tuple(stack) for stack in stacks.values()]


def places_of(stacks: Sequence[Sequence[str]], counts: Mapping[str, int]
              ) -> dict[Buffer, BufferPlace]:
    """Return where the buffers of all stacked nodes lie."""
    return {(name, turn): BufferPlace((number, turn), index)
            for number, stack in enumerate(stacks) for index, name in enumerate(stack)
            for turn in range(counts[name])}


def neighbours(buffers: Sequence[Buffer], places: Mapping[Buffer, BufferPlace]) -> bool:
    """Return whether buffers lie in one tensor, one behind the other, in this order."""
    found = [places.get(buffer) for buffer in buffers]
    first = found[0]
    return first is not None and all(
        place == BufferPlace(first.tensor, index)
        for place, index in zip(found, count(first.at)))


def grouped(actions: Sequence[Action], kind: Callable[[Action], Hashable],
            places: Mapping[Buffer, BufferPlace]) -> list[Group]:
    """
    Join actions that can run as one kernel; all others stay alone.

    :param kind: Equal for actions that differ in their weights only; None for what stays alone.
        Such an action has one source.
    :returns: Groups, in an order in which they could run one after the other.
    """
    level = levels(dependencies([
        Kernel('', action.reads, (action.target,)) for action in actions]))
    alike: dict[tuple, list[Action]] = {}
    for action, depth in zip(actions, level):
        key = kind(action)
        alike.setdefault((depth, 'alone', action) if key is None else (depth, key), []).append(
            action)
    groups = [(key[0], group) for key, members in alike.items()
              for group in runs(members, places)]
    return [group for _, group in sorted(groups, key=lambda pair: pair[0])]


def runs(actions: list[Action], places: Mapping[Buffer, BufferPlace]) -> list[Group]:
    """Divide actions into the longest groups whose sources and whose targets are neighbours."""
    def target_place(action: Action) -> tuple:
        place = places.get(action.target)
        return (str(place.tensor), place.at) if place else ('', 0)

    found: list[list[Action]] = []
    for action in sorted(actions, key=target_place):
        pair = [found[-1][-1], action] if found else []
        if pair and all(neighbours(ends, places) for ends in (
                [one.target for one in pair], [one.sources[0] for one in pair])):
            found[-1].append(action)
        else:
            found.append([action])
    return [tuple(group) for group in found]
