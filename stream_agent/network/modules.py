"""The modules of a network, made from its graph."""

from collections.abc import Sequence

from stream_agent.network.shapes import carries, infer_shapes, make_transform, taken_shape, where
from stream_agent.network.transforms import (
    ACTIVATIONS, CELLS, chain, look_up, make_normalisation, NamedModules)
from stream_agent.theory.graph import EdgeSpec, GraphError, GraphSpec, NodeSpec
from stream_agent.theory.patterns import Pattern
import torch
from torch import nn, Tensor

MASK = 2**64 - 1


class Disturbance:
    """
    Dropout and noise of one node or edge, in training.

    :param number: Of the node or edge; others at the same frame draw other numbers.
    :param dropout: Probability with which a value is dropped; those that stay grow accordingly.
    :param noise: Standard deviation of the Gaussian noise added after that.
    """

    def __init__(self, number: int, dropout: float, noise: float) -> None:
        self.number = number
        self.dropout = dropout
        self.noise = noise

    def __call__(self, values: Tensor, draws: Sequence[int]) -> Tensor:
        """
        Disturb values.

        :param values: (N, B, ...) of N frames.
        :param draws: Of the frames, as from ``draw_frames``.
        """
        generator = torch.Generator(values.device)
        seeds = [mixed(draw, self.number) for draw in draws]
        if self.dropout:
            kept = new_like(values)
            for frame, seed in zip(kept, seeds):
                frame.bernoulli_(1 - self.dropout, generator=generator.manual_seed(seed))
            # With a dropout of 1 nothing is left to grow.
            values = values * kept.div_(1 - self.dropout or 1)
        if self.noise:
            noise = new_like(values)
            for frame, seed in zip(noise, seeds):
                frame.normal_(0, self.noise, generator=generator.manual_seed(seed + 1))
            values = values + noise
        return values


def new_like(values: Tensor) -> Tensor:
    """Return an empty tensor whose elements are drawn in one order, however values lie."""
    return torch.empty_like(values, memory_format=torch.contiguous_format)


def draw_frames(count: int) -> list[int]:
    """Return what the dropout and noise of so many frames is drawn by, from torch's generator."""
    # One by one: so many at once would be other numbers than those of so many steps.
    return [int(torch.randint(2**62, ())) for _ in range(count)]


def mixed(draw: int, number: int) -> int:
    """
    Return a seed of 32 bits, as all of it counts on the CPU, that tells draws and numbers apart.

    Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014 (SplitMix).
    """
    z = (draw + (number + 1) * 0x9E3779B97F4A7C15) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return (z ^ z >> 31) & 0xFFFFFFFE


def check_batch_statistics(place: str, edge: EdgeSpec, module: nn.Module) -> None:
    """Refuse a module of one's own that normalises by the other samples of a batch."""
    for part in module.modules():
        # Public names for all of these there are none.
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise GraphError(
                f'{place}: {edge.transform} has a {type(part).__name__}, which depends on the '
                'other samples of a batch, so that training and steps of one frame would differ; '
                'take a GroupNorm')


def check_products(graph: GraphSpec) -> None:
    """Refuse factors without a second one, whose label is probably misspelt."""
    labels = [(edge.target, edge.product) for edge in graph.edges]
    for edge, label in zip(graph.edges, labels):
        if edge.product and labels.count(label) == 1:
            raise GraphError(f"{where(edge)}: no other edge into '{edge.target}' has the product "
                             f"'{edge.product}'; give it to the edge to multiply with, or leave "
                             'it out')


def check_input(place: str, node: NodeSpec) -> None:
    """Refuse settings of an input that would have no effect."""
    for key, nothing in (('normalisation', 'none'), ('cell', ''), ('activation', 'identity')):
        if getattr(node, key) != nothing:
            raise GraphError(f'{place}: {key}: an input is the frame as it is; leave it out')


def check_carrier(place: str, edge: EdgeSpec) -> None:
    """Refuse settings of a cell's self-edge that would have no effect."""
    if edge.transform != 'identity':
        raise GraphError(f"{place}: the transform '{edge.transform}' on the self-edge of a cell, "
                         'which gives the cell its last value as it is; set it to identity')
    for key, nothing in (('normalisation', 'none'), ('dropout', 0), ('noise', 0), ('share', ''),
                         ('product', '')):
        if getattr(edge, key) != nothing:
            raise GraphError(f'{place}: {key}: the self-edge of a cell gives the cell its last '
                             'value as it is; leave it out')


class Modules(nn.Module):
    """
    The modules of a network, by the names of nodes and edges.

    A node: sum of its edges, normalisation, dropout, noise, cell, activation. An edge:
    transform, normalisation, dropout, noise. Dropout and noise act in training only.

    :param graph: The nodes and edges; one input node. Shapes may be left out.
    :param pattern: A valid rollout pattern of the graph.
    :raises GraphError: If names, shapes or options of the graph do not fit together.
    """

    def __init__(self, graph: GraphSpec, pattern: Pattern) -> None:
        super().__init__()
        if len(graph.inputs) != 1:
            raise GraphError(f'inputs are {", ".join(graph.inputs)}; a network takes one image')
        self.graph = infer_shapes(graph)
        self.pattern = dict(pattern)
        (self.input,) = graph.inputs
        #: What edges read of the nodes, without batch.
        self.shapes = {node.name: node.shape for node in self.graph.nodes}
        #: What a state holds of the nodes: what cells carry besides follows what is read.
        self.state_shapes = dict(self.shapes)
        self.cells = NamedModules()
        self.normalisations = NamedModules()
        #: Dropout and noise by node and by edge, (source, target); where there are any.
        self.disturbances: dict[str | tuple[str, str], Disturbance] = {}
        self.activations = NamedModules()
        self.transforms = NamedModules()
        # Tells device and type of new tensors, also where there are no weights.
        self.register_buffer('_like', torch.empty(0), persistent=False)
        for node in self.graph.nodes:
            self._add_node(where(node), node)
        self._shared: dict[str, EdgeSpec] = {}
        for edge in self.graph.edges:
            self._add_edge(where(edge), edge)
        check_products(self.graph)

    def _add_node(self, place: str, node: NodeSpec) -> None:
        if node.name == self.input:
            check_input(place, node)
        if node.cell:
            self._add_cell(place, node)
            if (node.name, node.name) not in self.pattern:
                raise GraphError(
                    f"{place}: the cell '{node.cell}' needs the node's self-edge; add {{source: "
                    f'{node.name}, target: {node.name}, transform: identity, streams: true}}')
        self.normalisations[node.name] = make_normalisation(
            place, node.normalisation, taken_shape(node, node.shape))
        self._add_disturbance(node.name, node)
        self.activations[node.name] = look_up(
            place, 'activation', node.activation, ACTIVATIONS)()

    def _add_cell(self, place: str, node: NodeSpec) -> None:
        """Make a cell, and refuse what it cannot be combined with."""
        cell = look_up(place, 'cell', node.cell, CELLS)(node.shape)
        self.cells[node.name] = cell
        channels, *size = node.shape
        self.state_shapes[node.name] = ((1 + cell.carried) * channels, *size)
        if cell.carried and node.activation != 'identity':
            raise GraphError(f"{place}: activation: the cell '{node.cell}' carries more than its "
                             'output, which an activation would change; leave it out')
        if cell.carried and node.name == self.graph.output:
            raise GraphError(f"{place}: the cell '{node.cell}' carries more than its output, so "
                             'it cannot be the output of the network; add a node that reads it')

    def _add_edge(self, place: str, edge: EdgeSpec) -> None:
        key = f'{edge.source}-{edge.target}'
        if carries(self.graph, edge):
            check_carrier(place, edge)
            shape = self.shapes[edge.target]
            self.transforms[key], _ = make_transform(edge, shape, shape)
            return
        self._add_transform(place, edge)
        self.normalisations[key] = make_normalisation(place, edge.normalisation,
                                                      self._taken_shape(edge))
        self._add_disturbance((edge.source, edge.target), edge)

    def _add_disturbance(self, key: str | tuple[str, str], spec: NodeSpec | EdgeSpec) -> None:
        if spec.dropout or spec.noise:
            self.disturbances[key] = Disturbance(len(self.disturbances), spec.dropout, spec.noise)

    def _taken_shape(self, edge: EdgeSpec) -> tuple[int, ...]:
        """Return the shape that an edge has to give."""
        return taken_shape(self.graph.node(edge.target), self.shapes[edge.target])

    def _add_transform(self, place: str, edge: EdgeSpec) -> None:
        """Make the transform of an edge, or find the one that it shares."""
        if edge.share in self._shared:
            self._check_shared(place, edge)
            return
        if edge.share:
            self._shared[edge.share] = edge
        source, wanted = self.shapes[edge.source], self._taken_shape(edge)
        module, found = make_transform(edge, source, wanted)
        if found != wanted:
            raise GraphError(f'{place}: {edge.transform} of {list(source)} gives {list(found)}, '
                             f'but the target takes {list(wanted)}')
        check_batch_statistics(place, edge, module)
        self.transforms[edge_key(edge)] = module

    def _check_shared(self, place: str, edge: EdgeSpec) -> None:
        """Refuse edges that cannot have the weights of those with the same label."""
        other = self._shared[edge.share]
        for what, own, others in (
                ('the transform', edge.transform, other.transform),
                ('options', dict(edge.options), dict(other.options)),
                ('the source shape', list(self.shapes[edge.source]),
                 list(self.shapes[other.source])),
                ('the target shape', list(self._taken_shape(edge)),
                 list(self._taken_shape(other)))):
            if own != others:
                raise GraphError(
                    f"{place}: '{edge.share}' is shared with {where(other)}, but {what} {own} "
                    f'differs from {others}; make them equal or use another label')

    def edge_module(self, edge: EdgeSpec) -> nn.Module:
        """Return what an edge makes of what the state holds of its source."""
        whole = self.state_shapes[edge.source] == self.shapes[edge.source]
        return chain(nn.Identity() if whole else FirstChannels(self.shapes[edge.source][0]),
                     self.transforms[edge_key(edge)],
                     self.normalisations[f'{edge.source}-{edge.target}']) or nn.Identity()


class FirstChannels(nn.Module):
    """What a cell gives to others, without what it carries for itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, value: Tensor) -> Tensor:
        return value[:, :self.channels]


def edge_key(edge: EdgeSpec) -> str:
    """Return the name of an edge's transform among the weights."""
    return edge.share or f'{edge.source}-{edge.target}'
