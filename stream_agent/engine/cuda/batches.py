"""
What runs as one kernel: equal operations on neighbours in memory, to neighbours in memory.

Nodes of equal shape lie in one tensor, in the graph's order, so that the sources and the targets
of a chain of equal layers are two slices of such tensors, and nothing has to be gathered.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from stream_agent.engine.cuda.branches import Buffer, dependencies, Kernel, levels
from stream_agent.engine.cuda.buffers import Action
from stream_agent.theory.graph import GraphSpec

Group = tuple[Action, ...]


class BufferPlace(NamedTuple):
    """Where a buffer lies: in which tensor, at which index of its first axis."""

    tensor: Hashable
    index: int


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
        for place, index in zip(found, count(first.index)))


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
    alike: dict[Hashable, list[Action]] = {}
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
        return (str(place.tensor), place.index) if place else ('', 0)

    found: list[list[Action]] = []
    for action in sorted(actions, key=target_place):
        pair = [found[-1][-1], action] if found else []
        if pair and all(neighbours(ends, places) for ends in (
                [one.target for one in pair], [one.sources[0] for one in pair])):
            found[-1].append(action)
        else:
            found.append([action])
    return [tuple(group) for group in found]
