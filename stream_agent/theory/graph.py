"""Network graphs: nodes and edges, validated once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, MISSING, replace
from functools import cached_property
from math import lcm
from typing import Any

from stream_agent.theory.checks import (
    check_ends, check_fed, check_node, check_output, check_rates, check_settings, check_unique,
    GraphError, nearest)

#: The transform of an edge whose source the target's body reads as it is.
OPERAND = 'operand'


@dataclass(frozen=True)
class NodeSpec:
    """
    One layer of the network.

    A node updates at frame t if (t - offset) mod period = 0, and holds its value otherwise;
    the first frame after a reset is frame 1. Dropout and noise act in training only.

    :param name: Identifier, unique in the graph.
    :param shape: ``(channels, height, width)``, ``(tokens, features)`` or ``(features,)``, without
        the batch axis; None where it is inferred from the incoming edges, or where only the
        rollouts matter.
    :param channels: Channels of a feature map whose height and width are inferred; 0 if the
        edges say that, too.
    :param activation: A name in ``network.transforms.ACTIVATIONS``, as all of these names.
    :param normalisation: A name in ``NORMALISATIONS``, applied before the activation.
    :param cell: A name in ``CELLS`` for a recurrent node, which has a self-edge; or empty.
    :param dropout: Probability with which a value is dropped before the activation, 0 ... 1.
    :param noise: Standard deviation of Gaussian noise added before the activation.
    :param period: Frames between two updates, at least 1.
    :param offset: Frame of the first update, modulo the period.
    :param body: What the node makes of its operand edges, as ``network.bodies`` reads it; such a
        node needs a shape.
    :param place: File and line, for messages.
    """

    name: str
    shape: tuple[int, ...] | None = None
    channels: int = 0
    activation: str = 'identity'
    normalisation: str = 'none'
    cell: str = ''
    dropout: float = 0.0
    noise: float = 0.0
    period: int = 1
    offset: int = 0
    body: tuple[Mapping[str, Any], ...] = ()
    place: str = field(default='', compare=False, repr=False)

    def updates_at(self, frame: int) -> bool:
        """Return whether the node is computed at a frame, rather than held."""
        return (frame - self.offset) % self.period == 0

    def last_update(self, frame: int) -> int:
        """Return the last frame up to the given one at which the node was computed, or 0."""
        return max(0, frame - (frame - self.offset) % self.period)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'place', self.place or f'nodes.{self.name}')
        check_node(self)


@dataclass(frozen=True)
class EdgeSpec:
    """
    A transformation of the source's feature map, added to the target's.

    :param transform: A name in ``network.transforms.TRANSFORMS``.
    :param streams: Whether R(e) = 1 in the sequential rollout too, as on one edge of every
        cycle it must; in the streaming rollout every edge streams.
    :param normalisation: A name in ``NORMALISATIONS``, applied after the transform.
    :param dropout: Probability with which a transformed value is dropped in training.
    :param noise: Standard deviation of Gaussian noise added to the transformed value in training.
    :param share: Edges with the same label share their weights.
    :param product: Edges into one node with the same label are multiplied with each other, and
        the product is added as one term (a gate). Operands of a body have one by themselves.
    :param options: What the transform takes besides, such as ``kernel`` and ``stride``.
    :param place: File and line, for messages.
    """

    source: str
    target: str
    transform: str = 'dense'
    streams: bool = False
    normalisation: str = 'none'
    dropout: float = 0.0
    noise: float = 0.0
    share: str = ''
    product: str = ''
    options: Mapping[str, Any] = field(default_factory=dict)
    place: str = field(default='', compare=False, repr=False)

    @property
    def name(self) -> str:
        """The edge as it is written in messages and on the command line."""
        return f'{self.source}->{self.target}'

    def __post_init__(self) -> None:
        object.__setattr__(self, 'place', self.place or f'edges.{self.name}')
        if self.transform == OPERAND:  # all or none are read in a part of a frame
            object.__setattr__(self, 'product', OPERAND)
        check_settings(self)


@dataclass(frozen=True)
class GraphSpec:
    """A network N = (V, E) with one output node (SR18, Definition "network")."""

    nodes: tuple[NodeSpec, ...]
    edges: tuple[EdgeSpec, ...]
    output: str
    place: str = field(default='graph', compare=False, repr=False)

    def __post_init__(self) -> None:
        check_unique('node', self.nodes)
        check_unique('edge', self.edges)
        check_ends(self.nodes, self.edges)
        if not self.edges:
            raise GraphError(f'{self.place}: there are no edges; a network has at least one')
        check_output(f'{self.place}: output', self.output, [node.name for node in self.nodes],
                     self.inputs)
        check_fed(self, reachable([(edge.source, edge.target) for edge in self.edges],
                                  self.inputs))
        check_rates(self)

    @cached_property
    def by_name(self) -> Mapping[str, NodeSpec]:
        return {node.name: node for node in self.nodes}

    def node(self, name: str) -> NodeSpec:
        return self.by_name[name]

    @cached_property
    def incoming(self) -> Mapping[str, tuple['EdgeSpec', ...]]:
        """The edges into every node, in the order of the file."""
        found: dict[str, list[EdgeSpec]] = {node.name: [] for node in self.nodes}
        for edge in self.edges:
            found[edge.target].append(edge)
        return {name: tuple(edges) for name, edges in found.items()}

    @cached_property
    def hyperperiod(self) -> int:
        """Frames after which the schedule of all nodes repeats; 1 without one."""
        return lcm(*(node.period for node in self.nodes))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The nodes without incoming edges, in the order of the file."""
        targets = {edge.target for edge in self.edges}
        return tuple(node.name for node in self.nodes if node.name not in targets)


def reachable(edges: Iterable[tuple[str, str]], names: Iterable[str]) -> set[str]:
    """Return the nodes that edges (source, target) lead to from the given ones, those included."""
    targets: dict[str, list[str]] = {}
    for u, v in edges:
        targets.setdefault(u, []).append(v)
    reached = set(names)
    new = list(reached)
    while new:
        new = [v for u in new for v in targets.get(u, ()) if v not in reached]
        reached.update(new)
    return reached


def with_schedule(graph: GraphSpec, schedule: Mapping[str, tuple[int, int]]) -> GraphSpec:
    """
    Return the graph with other periods and offsets.

    :param schedule: (period, offset) by node; all other nodes update in every frame.
    :raises GraphError: If a node is unknown, or a period or an offset impossible.
    """
    for name in schedule:
        if name not in graph.by_name:
            raise GraphError(f"schedule: no node named '{name}'; "
                             + nearest(name, graph.by_name, 'nodes'))
        NodeSpec(name, period=schedule[name][0], offset=schedule[name][1], place='schedule')
    rates = (schedule.get(node.name, (1, 0)) for node in graph.nodes)
    return replace(graph, nodes=tuple(
        replace(node, period=period, offset=offset)
        for node, (period, offset) in zip(graph.nodes, rates)))


def graph_to_data(graph: GraphSpec) -> dict:
    """Return what a graph file holds, defaults left out; the reverse of graph_from_data."""
    def settings(spec, *hidden):
        return {item.name: getattr(spec, item.name) for item in fields(spec)
                if item.name not in hidden and item.default is not MISSING
                and getattr(spec, item.name) != item.default}

    return {
        'nodes': {node.name: settings(node, 'place') | (
            {'shape': list(node.shape)} if node.shape else {}) | (
            {'body': [dict(step) for step in node.body]} if node.body else {})
            for node in graph.nodes},
        'edges': [{'source': edge.source, 'target': edge.target, 'transform': edge.transform,
                   **settings(edge, 'transform', 'place',
                              *['product'] * (edge.transform == OPERAND)), **edge.options}
                  for edge in graph.edges],
        'output': graph.output}
