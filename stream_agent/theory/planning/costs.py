"""How long a device takes for every node of a graph."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stream_agent.theory.graph import GraphSpec

MOST_SECONDS = 3600.0


class CostError(ValueError):
    """Costs that do not fit the graph; the message says which file, what, and the remedy."""


@dataclass(frozen=True)
class NodeCosts:
    """
    Seconds that one device takes for a frame.

    :param nodes: Seconds by node, without inputs.
    :param overhead: Seconds of every frame besides its nodes, before the output: from array to
        device, from device to array.
    :param elsewhere: Seconds of nodes that the graph lacks, where it is a part of another one.
    :param source: Where the numbers are from, such as the machine and the device; for people.
    """

    nodes: Mapping[str, float]
    overhead: float = 0.0
    source: str = ''
    elsewhere: float = 0.0

    def total(self) -> float:
        """Return the seconds of all nodes, one after the other."""
        return sum(self.nodes.values())

    def scaled(self, factor: float) -> 'NodeCosts':
        """Return the costs on a device that takes so many times as long."""
        return replace(self, overhead=factor * self.overhead, nodes={
            name: factor * seconds for name, seconds in self.nodes.items()})


def check_costs(costs: NodeCosts, graph: GraphSpec) -> None:
    """Refuse costs that lack a node, name an unknown one, or are not durations, by a CostError."""
    wanted = [node.name for node in graph.nodes if node.name not in graph.inputs]
    for name in wanted:
        if name not in costs.nodes:
            raise CostError(f"the node '{name}' has no cost; give one for each of "
                            + ', '.join(wanted))
    for name, seconds in costs.nodes.items():
        if name not in wanted:
            raise CostError(f"'{name}' has a cost, but is not a computed node of the graph; "
                            f"these are {', '.join(wanted)}")
        check_seconds(f"the cost of '{name}'", seconds)
    check_seconds('overhead', costs.overhead)


def check_seconds(place: str, seconds: float) -> None:
    """Refuse a value that is not a duration."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not (
            0 <= seconds <= MOST_SECONDS):
        raise CostError(f'{place} is {seconds!r}; write seconds, from 0 to {MOST_SECONDS:g}')
