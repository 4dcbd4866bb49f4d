"""Files that keep what a device takes for every node of a graph."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from stream_agent.graph_files.located_yaml import plain, read_yaml
from stream_agent.share import write_file
from stream_agent.theory.checks import GraphError
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.planning.costs import check_costs, CostError, NodeCosts
import yaml


def load_costs(path: str | Path, graph: GraphSpec, elsewhere: Collection[str] = ()) -> NodeCosts:
    """
    Read a file that ``save_costs`` wrote, or that was written by hand.

    :param elsewhere: Nodes of other graphs on the same computer, whose costs are left out.
    :raises OSError: If the file cannot be read.
    :raises CostError: If it does not fit the graph.
    """
    try:
        data = plain(read_yaml(Path(path).read_text(), str(path)))
        if not isinstance(data, dict) or not isinstance(data.get('nodes'), dict):
            raise CostError("'nodes' is missing, a map from node to seconds; 'overhead' and "
                            "'source' may be given beside it")
        strange = data.keys() - {'nodes', 'overhead', 'source'}
        if strange:
            raise CostError(f"'{min(strange)}' means nothing here; the keys are nodes, overhead, "
                            'source')
        own = {node.name for node in graph.nodes}
        nodes = {name: cost for name, cost in data['nodes'].items()
                 if name in own or name not in elsewhere}
        costs = NodeCosts(nodes, data.get('overhead', 0.0), str(data.get('source', '')))
        check_costs(costs, graph)
        return replace(costs, nodes={name: float(cost) for name, cost in costs.nodes.items()})
    except UnicodeDecodeError:
        raise CostError(f'{path}: not text; costs are YAML, nodes: {{name: seconds, ...}}'
                        ) from None
    except GraphError as error:
        raise CostError(str(error)) from None
    except CostError as error:
        raise CostError(f'{path}: {error}') from None


def save_costs(path: str | Path, costs: NodeCosts) -> None:
    """Write a file that ``load_costs`` reads."""
    write_file(
        path, '# Seconds of every node; `stream_agent plan --costs` reads it.\n' + yaml.safe_dump(
            {'source': costs.source, 'overhead': float(costs.overhead),
             'nodes': {name: float(value) for name, value in costs.nodes.items()}},
            sort_keys=False))
