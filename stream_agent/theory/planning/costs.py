"""What a device takes for every node of a graph, and the file that keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stream_agent.graph_files.located_yaml import plain, read_yaml
from stream_agent.theory.errors import GraphError
from stream_agent.theory.graph import GraphSpec
import yaml


MOST_SECONDS = 3600.0


class CostError(ValueError):
    """Costs that do not fit the graph; the message says which file, what, and the remedy."""


@dataclass(frozen=True)
class NodeCosts:
    """
    Seconds that one device takes.

    :param nodes: By node, inputs left out.
    :param overhead: Of every frame besides its nodes, before the answer: from array to device,
        from device to array.
    :param source: Where the numbers are from, such as the machine and the device; for people.
    """

    nodes: Mapping[str, float]
    overhead: float = 0.0
    source: str = ''

    def total(self) -> float:
        """Return the seconds of all nodes one after the other."""
        return sum(self.nodes.values())


def check_costs(costs: NodeCosts, graph: GraphSpec) -> None:
    """
    Refuse costs that lack a node, know another, or are no positive numbers.

    :raises CostError: For the first of these.
    """
    wanted = [node.name for node in graph.nodes if node.name not in graph.inputs]
    for name in wanted:
        if name not in costs.nodes:
            raise CostError(f"no cost for the node '{name}'; it takes {', '.join(wanted)}")
    for name, seconds in costs.nodes.items():
        if name not in wanted:
            raise CostError(f"a cost for '{name}', which is no computed node of the graph; "
                            f"these are {', '.join(wanted)}")
        check_seconds(f"the cost of '{name}'", seconds)
    check_seconds('overhead', costs.overhead)


def check_seconds(place: str, seconds: float) -> None:
    """Refuse what is no duration."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not (
            0 <= seconds <= MOST_SECONDS):
        raise CostError(f'{place} is {seconds!r}; write seconds, from 0 to {MOST_SECONDS:g}')


def load_costs(path: str | Path, graph: GraphSpec) -> NodeCosts:
    """
    Read what ``save_costs`` wrote, or somebody by hand.

    :raises OSError: If the file cannot be read.
    :raises CostError: If it does not fit the graph.
    """
    try:
        data = plain(read_yaml(Path(path).read_text(), str(path)))
        if not isinstance(data, dict) or not isinstance(data.get('nodes'), dict):
            raise CostError("'nodes' is missing, a map from node to seconds; 'overhead' and "
                            "'source' may stand beside it")
        strange = data.keys() - {'nodes', 'overhead', 'source'}
        if strange:
            raise CostError(f"'{min(strange)}' means nothing here; the keys are nodes, overhead, "
                            'source')
        costs = NodeCosts(data['nodes'], data.get('overhead', 0.0), str(data.get('source', '')))
        check_costs(costs, graph)
        costs = replace(costs, nodes={name: float(cost) for name, cost in costs.nodes.items()})
    except UnicodeDecodeError:
        raise CostError(f'{path}: not text; costs are YAML, nodes: {{name: seconds, ...}}'
                        ) from None
    except GraphError as error:
        raise CostError(str(error)) from None
    except CostError as error:
        raise CostError(f'{path}: {error}') from None
    return costs


def save_costs(path: str | Path, costs: NodeCosts) -> None:
    """Write a file that ``load_costs`` reads."""
    Path(path).write_text(
        '# Seconds of every node; `stream_agent plan --costs` reads it.\n' + yaml.safe_dump(
            {'source': costs.source, 'overhead': float(costs.overhead),
             'nodes': {name: float(value) for name, value in costs.nodes.items()}},
            sort_keys=False))
