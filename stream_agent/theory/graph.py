"""Network graphs: a YAML file in, validated nodes and edges out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
import re
from typing import Any

import yaml

MAX_FILE_BYTES = 2**20


class GraphError(ValueError):
    """A graph that cannot be built; the message says where, what, and what would be right."""


@dataclass(frozen=True)
class NodeSpec:
    """
    One layer of the network.

    :param name: Identifier, unique in the graph.
    :param shape: ``(channels, height, width)`` or ``(features,)``, without the batch axis.
    :param activation: A name in ``layers.ACTIVATIONS``.
    :param normalisation: A name in ``layers.NORMALISATIONS``, applied before the activation.
    :param cell: A name in ``layers.CELLS`` for a recurrent node, which has a self-edge; or empty.
    """

    name: str
    shape: tuple[int, ...]
    activation: str = 'identity'
    normalisation: str = 'none'
    cell: str = ''

    def __post_init__(self) -> None:
        if not re.fullmatch(r'[A-Za-z_]\w*', self.name):
            raise GraphError(f"nodes.{self.name}: a name is made of letters, digits and '_'")
        if (len(self.shape) not in (1, 3)
                or not all(type(size) is int and size > 0 for size in self.shape)):
            raise GraphError(
                f'nodes.{self.name}.shape: {list(self.shape)} is neither [features] nor '
                '[channels, height, width] with positive integers')


@dataclass(frozen=True)
class EdgeSpec:
    """
    A transformation of the source's feature map, added to the target's.

    :param transform: A name in ``layers.TRANSFORMS``.
    :param streams: Whether R(e) = 1 in the sequential rollout too, as on one edge of every
        cycle it must; in the streaming rollout every edge streams.
    :param options: What the transform takes besides, such as ``kernel`` and ``stride``.
    """

    source: str
    target: str
    transform: str = 'dense'
    streams: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The edge as it is written in messages and on the command line."""
        return f'{self.source}->{self.target}'


@dataclass(frozen=True)
class GraphSpec:
    """A network N = (V, E) with one output node (SR18, Definition "network")."""

    nodes: tuple[NodeSpec, ...]
    edges: tuple[EdgeSpec, ...]
    output: str

    def __post_init__(self) -> None:
        names = [node.name for node in self.nodes]
        check_unique('nodes', names)
        check_unique('edges', [edge.name for edge in self.edges])
        for i, edge in enumerate(self.edges):
            for end in ('source', 'target'):
                if getattr(edge, end) not in names:
                    raise GraphError(f"edges[{i}].{end}: no node named '{getattr(edge, end)}'; "
                                     f"nodes are {', '.join(names)}")
        if self.output not in names:
            raise GraphError(f"output: no node named '{self.output}'; "
                             f"nodes are {', '.join(names)}")
        check_reachable(self)

    def node(self, name: str) -> NodeSpec:
        """Return the node of that name."""
        return next(node for node in self.nodes if node.name == name)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The nodes without incoming edges, in the order of the file."""
        targets = {edge.target for edge in self.edges}
        return tuple(node.name for node in self.nodes if node.name not in targets)


def check_unique(place: str, names: list[str]) -> None:
    """Refuse a second node or edge of the same name."""
    for i, name in enumerate(names):
        if name in names[:i]:
            raise GraphError(f"{place}[{i}]: '{name}' stands twice; leave one of them out")


def check_reachable(graph: GraphSpec) -> None:
    """Refuse nodes that no input feeds: a cycle without an input is no network."""
    if not graph.edges:
        raise GraphError('edges: there are none; a network has at least one')
    reached = list(graph.inputs)
    for name in reached:
        reached += [edge.target for edge in graph.edges
                    if edge.source == name and edge.target not in reached]
    lost = [node.name for node in graph.nodes if node.name not in reached]
    if lost:
        raise GraphError(f'nodes.{lost[0]}: not reachable from an input; '
                         f"inputs are {', '.join(graph.inputs) or 'missing'}")


class StrictLoader(yaml.SafeLoader):
    """YAML's safe loader without aliases, without duplicate keys, and with 1e-3 a number."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.events.AliasEvent):
            raise GraphError(f'line {self.peek_event().start_mark.line + 1}: aliases (*) are not '
                             'read; write the value out')
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise GraphError(f"line {node.value[i][0].start_mark.line + 1}: '{key}' stands "
                                 'twice; leave one of them out')
        return super().construct_mapping(node, deep)


StrictLoader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$'),
    list('-+0123456789'))


def load_graph(path: str | Path) -> GraphSpec:
    """
    Read a graph file.

    :raises OSError: If the file cannot be read.
    :raises GraphError: With the file's name, the place in it, the fault and the remedy.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise GraphError('the file is over 1 MiB; a graph takes a few KiB')
        return graph_from_data(yaml.load(path.read_text(), Loader=StrictLoader))
    except yaml.YAMLError as error:
        raise GraphError(f'{path}: not YAML: {error}') from None
    except GraphError as error:
        raise GraphError(f'{path}: {error}') from None


def graph_from_data(data: Any) -> GraphSpec:
    """
    Build a graph from what a graph file holds.

    :param data: ``{'nodes': {name: {...}}, 'edges': [{...}], 'output': name}``.
    """
    check_keys('', data, required=('nodes', 'edges', 'output'))
    if not isinstance(data['nodes'], dict) or not isinstance(data['edges'], list):
        raise GraphError('nodes is a map from names to settings, and edges is a list')
    return GraphSpec(tuple(node_from_data(name, node) for name, node in data['nodes'].items()),
                     tuple(edge_from_data(i, edge) for i, edge in enumerate(data['edges'])),
                     data['output'])


def graph_to_data(graph: GraphSpec) -> dict:
    """Return what a graph file holds, defaults left out; the reverse of graph_from_data."""
    def settings(spec, keys):
        return {key: getattr(spec, key) for key in keys
                if getattr(spec, key) not in ('', 'none', 'identity', False)}
    return {
        'nodes': {node.name: {'shape': list(node.shape),
                              **settings(node, ('activation', 'normalisation', 'cell'))}
                  for node in graph.nodes},
        'edges': [{'source': edge.source, 'target': edge.target, 'transform': edge.transform,
                   **settings(edge, ('streams',)), **edge.options} for edge in graph.edges],
        'output': graph.output}


def node_from_data(name: str, data: Any) -> NodeSpec:
    """Build one node; the message of an error names it."""
    optional = tuple(f.name for f in fields(NodeSpec) if f.name not in ('name', 'shape'))
    check_keys(f'nodes.{name}', data, required=('shape',), optional=optional)
    if not isinstance(data['shape'], list):
        raise GraphError(f"nodes.{name}.shape: '{data['shape']}' is not a list; "
                         'write [features] or [channels, height, width]')
    return NodeSpec(str(name), **{**data, 'shape': tuple(data['shape'])})


def edge_from_data(i: int, data: Any) -> EdgeSpec:
    """Build one edge; keys that are not its own are options of the transform."""
    check_keys(f'edges[{i}]', data, required=('source', 'target'), others=True)
    own = {key: data[key] for key in ('source', 'target', 'transform', 'streams') if key in data}
    if not isinstance(own.get('streams', False), bool):
        raise GraphError(f"edges[{i}].streams: '{own['streams']}' is neither true nor false")
    return EdgeSpec(**own, options={key: data[key] for key in data if key not in own})


def check_keys(place: str, data: Any, required: tuple[str, ...],
               optional: tuple[str, ...] = (), others: bool = False) -> None:
    """Refuse a map that lacks a key or has one that means nothing."""
    prefix = f'{place}: ' if place else ''
    known = ', '.join((*required, *optional))
    if not isinstance(data, dict):
        raise GraphError(f'{prefix}a map with the keys {known} is expected here')
    for key in required:
        if key not in data:
            raise GraphError(f"{prefix}'{key}' is missing; the keys are {known}")
    for key in data:
        if not others and key not in (*required, *optional):
            raise GraphError(f"{prefix}'{key}' means nothing here; the keys are {known}")
