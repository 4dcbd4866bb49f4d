"""A graph and a pattern as a network that advances by one frame per call."""

from stream_agent.network.layers import (
    ACTIVATIONS, CELLS, look_up, make_transform, NORMALISATIONS)
from stream_agent.theory.graph import EdgeSpec, GraphError, GraphSpec, NodeSpec
from stream_agent.theory.rollout import Pattern, response_cone, update_order
import torch
from torch import nn, Tensor

State = dict[str, Tensor]


class RolloutNetwork(nn.Module):
    """
    A network that advances by one frame per call, in one piece or in two.

    The module holds weights and no state: what it remembers goes in and comes out, so one
    network can serve many streams. Streaming and sequential rollouts of one graph are this
    class with another ``pattern``; weights fit either, but work only under the pattern they
    were trained with.

    Shapes: B is the batch size, T the number of frames; ``shape`` is the node's in the graph.

    :param graph: The nodes and edges; one input node.
    :param pattern: A valid rollout pattern of the graph.
    :raises GraphError: If names, shapes or options of the graph do not fit together.
    :raises InvalidRolloutError: If the pattern is not valid.
    """

    def __init__(self, graph: GraphSpec, pattern: Pattern) -> None:
        super().__init__()
        if len(graph.inputs) != 1:
            raise GraphError(f'inputs are {", ".join(graph.inputs)}; a network takes one image')
        self.graph = graph
        self.pattern = dict(pattern)
        (self.input,) = graph.inputs
        self.shapes = {node.name: node.shape for node in graph.nodes}
        order = [v for v in update_order(graph, pattern) if v != self.input]
        #: The two halves of a step: what the output needs in this frame, and the rest.
        self.cone = response_cone(graph, pattern)
        self.rest = [v for v in order if v not in self.cone]
        self.cells = nn.ModuleDict()
        self.normalisations = nn.ModuleDict()
        self.activations = nn.ModuleDict()
        for node in graph.nodes:
            self._add_node(node)
        self.transforms = nn.ModuleDict()
        # What a step walks through, node by node, without look-ups and without identities: a
        # response cone is a handful of small operations, and overhead would be most of it.
        self._ends = {name: self._end_of(name) for name in self.shapes}
        self._terms: dict[str, list[tuple[nn.Module, str, bool]]] = {
            name: [] for name in self.shapes}
        for i, edge in enumerate(graph.edges):
            self._add_edge(f'edges[{i}] ({edge.name})', edge)

    def _add_node(self, node: NodeSpec) -> None:
        place = f'nodes.{node.name}'
        self.normalisations[node.name] = look_up(
            f'{place}.normalisation', 'normalisation', node.normalisation,
            NORMALISATIONS)(self._taken_shape(node))
        self.activations[node.name] = look_up(
            f'{place}.activation', 'activation', node.activation, ACTIVATIONS)()
        if node.cell:
            self.cells[node.name] = look_up(f'{place}.cell', 'cell', node.cell, CELLS)()
            if (node.name, node.name) not in self.pattern:
                raise GraphError(
                    f"{place}.cell: '{node.cell}' needs the node's self-edge; add {{source: "
                    f'{node.name}, target: {node.name}, transform: identity, streams: true}}')

    def _end_of(self, name: str) -> tuple[nn.Module | None, ...]:
        """Return normalisation, cell and activation of a node; None for what does nothing."""
        cell = self.cells[name] if name in self.cells else None
        return tuple(None if isinstance(module, nn.Identity) else module for module in (
            self.normalisations[name], cell, self.activations[name]))

    def _taken_shape(self, node: NodeSpec) -> tuple[int, ...]:
        """Return the shape that a node takes from its edges; cells take more than they give."""
        if not node.cell:
            return node.shape
        cell = look_up(f'nodes.{node.name}.cell', 'cell', node.cell, CELLS)
        return (cell.inputs_per_feature * node.shape[0], *node.shape[1:])

    def _add_edge(self, place: str, edge: EdgeSpec) -> None:
        target = self.graph.node(edge.target)
        carries = target.cell and edge.source == edge.target
        if carries and edge.transform != 'identity':
            raise GraphError(f"{place}.transform: '{edge.transform}' on the self-edge of a cell, "
                             'which gives the cell its last value as it is; set it to identity')
        transform = make_transform(
            place, edge.transform, self.shapes[edge.source],
            target.shape if carries else self._taken_shape(target), edge.options)
        self.transforms[f'{edge.source}-{edge.target}'] = transform
        if not carries:
            streams = bool(self.pattern[edge.source, edge.target])
            self._terms[edge.target].append((transform, edge.source, streams))

    def initial_state(self, batch_size: int = 1) -> State:
        """Return zeros for every node: ``{name: (B, *shape)}``, on the weights' device."""
        weight = next(self.parameters())
        return {name: weight.new_zeros(batch_size, *shape)
                for name, shape in self.shapes.items()}

    def respond(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """
        Compute the response cone, which is all that the output needs in this frame.

        :param frame: The input node's new value, (B, *shape).
        :param state: Every node at the previous frame; not modified.
        :returns: The output node, (B, *shape), and the nodes computed so far, for ``settle``.
        """
        now = {self.input: frame}
        self.update(self.cone, now, state)
        return now[self.graph.output], now

    def settle(self, now: State, state: State) -> State:
        """
        Compute the nodes that only later frames need.

        :param now: What ``respond`` returned; completed in place.
        :param state: What ``respond`` was given.
        :returns: Every node at this frame.
        """
        self.update(self.rest, now, state)
        return now

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """
        Advance by one frame.

        :param frame: The input node's new value, (B, *shape).
        :param state: Every node at the previous frame; not modified.
        :returns: The output node, (B, *shape), and every node at this frame.
        """
        output, now = self.respond(frame, state)
        return output, self.settle(now, state)

    def forward(self, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """
        Run over a window of frames; ``step`` in a loop, and nothing else.

        :param frames: (B, T, *shape).
        :returns: Outputs (B, T, *shape) and the state after the last frame.
        """
        outputs = []
        for frame in frames.unbind(dim=1):
            output, state = self.step(frame, state)
            outputs.append(output)
        return torch.stack(outputs, dim=1), state

    def update(self, names: list[str], now: State, state: State) -> None:
        """
        Compute nodes in the given order, which R = 0 edges must follow.

        :param now: Values of this frame; the nodes' are added.
        :param state: Values of the previous frame, for edges that stream.
        """
        for name in names:
            total = None
            for transform, source, streams in self._terms[name]:
                term = transform(state[source] if streams else now[source])
                total = term if total is None else total + term
            normalisation, cell, activation = self._ends[name]
            if normalisation:
                total = normalisation(total)
            if cell:
                total = cell(total, state[name])
            now[name] = activation(total) if activation else total
