"""The modules of a network, made from its graph."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from math import prod
from typing import NamedTuple

from stream_agent.network.bodies import BODY_OPERATIONS, make_operation
from stream_agent.network.shapes import (
    carries, check_memory, check_size, infer_shapes, make_transform, taken_shape, weights_of,
    where)
from stream_agent.network.transforms import (
    ACTIVATIONS, CELLS, chain, look_up, make_normalisation, NamedModules, Shape)
from stream_agent.theory.checks import body_steps, BodyStep
from stream_agent.theory.graph import EdgeSpec, GraphError, GraphSpec, NodeSpec, OPERAND
from stream_agent.theory.patterns import Pattern
import torch
from torch import nn, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

MASK = 2**64 - 1
#: Multiplications of one operation of a body: half a minute's work of one core.
MOST_WORK = 10**12
# Samples of the batch with which bodies are tried: a prime, to tell its axis from the others.
TRIED = 1009


class Disturbance:
    """
    Dropout and noise of one node or edge, in training.

    :param number: Of the node or edge; others at the same frame draw other numbers.
    :param dropout: Probability with which a value is dropped; those that stay grow accordingly.
    :param noise: Standard deviation of the Gaussian noise added after that.
    """

    def __init__(self, number: int, dropout: float, noise: float) -> None:
        self.number, self.dropout, self.noise = number, dropout, noise

    def __call__(self, values: Tensor, draws: Sequence[int]) -> Tensor:
        """
        Disturb values.

        :param values: (N, B, ...) of N frames.
        :param draws: Of the frames, as from ``draw_frames``.
        """
        generator = torch.Generator(values.device)
        # Elements are drawn in one order, whatever the layout of the values is.
        empty = partial(torch.empty_like, values, memory_format=torch.contiguous_format)
        seeds = [mixed(draw, self.number) for draw in draws]
        if self.dropout:
            kept = empty()
            for frame, seed in zip(kept, seeds):
                frame.bernoulli_(1 - self.dropout, generator=generator.manual_seed(seed))
            # With a dropout of 1 nothing is left to grow.
            values = values * kept.div_(1 - self.dropout or 1)
        if self.noise:
            noise = empty()
            for frame, seed in zip(noise, seeds):
                frame.normal_(0, self.noise, generator=generator.manual_seed(seed + 1))
            values = values + noise
        return values


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


class BodyTrial(NamedTuple):
    """
    What is known of a body without allocating anything.

    :param operands: The names of what it reads, in the graph's order.
    :param sources: Of each operation, the shapes that it reads, without batch.
    :param weights: Their bytes.
    :param space: Bytes of the values that are there at the same time, for one sample.
    """

    operands: list[str]
    steps: list[BodyStep]
    sources: list[list[Shape]]
    weights: int
    space: int


class LargestValue(TorchDispatchMode):
    """Sees the elements of the largest tensor that anything makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def try_body(node: NodeSpec, operands: Mapping[str, Shape], wanted: Shape) -> BodyTrial:
    """
    See on values without memory what a body gives, and what it needs.

    :param operands: Shapes by the names of what it reads.
    :param wanted: The shape that it has to give, without batch.
    :raises GraphError: If an operation cannot be made, or needs too much, or mixes samples.
    """
    place = where(node)
    if not operands:
        raise GraphError(f'{place}: it has a body and no operand; give an edge into it the '
                         f"transform '{OPERAND}'")
    steps = body_steps(place, node.body, list(operands), BODY_OPERATIONS)
    last = {name: i for i, step in enumerate(steps) for name in step.of}
    sources, weights, space = list[list[Shape]](), 0, 0
    with torch.device('meta'), torch.no_grad(), LargestValue() as largest:
        values = {name: torch.empty(TRIED, *shape) for name, shape in operands.items()}
        for i, step in enumerate(steps):
            read = [values[name] for name in step.of]
            sources.append([tuple(value.shape[1:]) for value in read])
            try:
                module = make_operation(step, sources[-1])
                weights += weights_of(module)
                largest.elements = 0
                values[step.name] = value = module(*read)
                check_step_result(step, read, value)
            except Exception as error:  # torch refuses sizes in many ways
                shapes = ', '.join(str(list(shape)) for shape in sources[-1]) or 'nothing'
                said = str(error) if isinstance(error, GraphError) else (
                    f'{[*str(error).splitlines(), ""][0]}; change its options, or what it reads')
                raise GraphError(f"{place}: body: '{step.name}', {step.kind} of {shapes}: {said}"
                                 ) from None
            check_size(f"{place}: body: '{step.name}'", (largest.elements // TRIED,))
            space = max(space, largest.elements + sum(each.numel() for each in values.values()))
            values = {name: each for name, each in values.items() if last.get(name, 0) > i or (
                name == step.name)}
    if value.shape != (TRIED, *wanted):
        found = list(value.shape[1:]) if value.shape[:1] == (TRIED,) else 'no batch in front'
        raise GraphError(f'{place}: its body gives {found}, but its shape is {list(wanted)}')
    return BodyTrial(list(operands), steps, sources, weights, 4 * space // TRIED)


def check_step_result(step: BodyStep, operands: list[Tensor], result: Tensor) -> None:
    """
    Refuse an operation that mixes the samples of a batch, or would compute for minutes.

    :param operands: With ``TRIED`` samples, as the result.
    """
    options, axes = step.options, [*step.options.get('axes', ()), *(
        [step.options['axis']] if 'axis' in step.options else [])]
    if step.kind == 'attention':
        axes = [-2, -1]
    if step.kind != 'permute' and any(operand.shape[axis] % TRIED == 0 for operand in operands
                                      for axis in axes):
        raise GraphError('samples of a batch would be mixed; an operation may not go along the '
                         'axis of the batch')
    if step.kind == 'reshape':
        at = [i for i, size in enumerate(options['shape']) if size < 0]
        batch = any(size % TRIED == 0 for size in operands[0].shape)
        if len(at) != 1 or batch and result.shape[at[0]] != -options['shape'][at[0]] * TRIED:
            raise GraphError(f"shape is {list(options['shape'])}; it needs one negative number, "
                             '-k for k times the batch size, and as many features as it reads')
    work = result.numel() * prod(options.get('kernel', ()))
    if step.kind in ('convolution', 'transposed'):
        work *= operands[0].shape[1] // options.get('groups', 1)
    elif step.kind == 'matmul':
        work *= operands[0].shape[-1]
    elif step.kind == 'attention':
        work = 2 * operands[0].numel() * operands[1].shape[-2]
    if work > MOST_WORK * TRIED:
        raise GraphError(f'it would take {work / TRIED:.2g} multiplications a frame, and '
                         f'{MOST_WORK:.0g} are the most; reduce its sizes')


def try_bodies(graph: GraphSpec) -> dict[str, BodyTrial]:
    """Return what is known of all bodies of a graph with shapes, by node."""
    return {node.name: try_body(node, {
        edge.source: graph.node(edge.source).shape or () for edge in graph.incoming[node.name]
        if edge.transform == OPERAND}, taken_shape(node, node.shape or ()))
            for node in graph.nodes if node.body}


def check_products(graph: GraphSpec) -> None:
    """Refuse factors without a second one, whose label is probably misspelt."""
    labels = [(edge.target, edge.product) for edge in graph.edges]
    for edge, label in zip(graph.edges, labels):
        if edge.product and labels.count(label) == 1 and edge.transform != OPERAND:
            raise GraphError(f"{where(edge)}: no other edge into '{edge.target}' has the product "
                             f"'{edge.product}'; give it to the edge to multiply with, or leave "
                             'it out')


def check_unset(place: str, spec: NodeSpec | EdgeSpec, keys: Iterable[str], why: str) -> None:
    """Refuse settings that would have no effect."""
    for key in keys:
        if getattr(spec, key) != getattr(type(spec), key):
            raise GraphError(f'{place}: {key}: {why}; leave it out')


class Modules(nn.Module):
    """
    The modules of a network, by the names of nodes and edges.

    A node: sum of its edges and its body, normalisation, dropout, noise, cell, activation. An
    edge: transform, normalisation, dropout, noise. Dropout and noise act in training only.
    """

    def __init__(self, graph: GraphSpec, pattern: Pattern) -> None:
        super().__init__()
        self.graph = infer_shapes(graph)
        bodies = try_bodies(self.graph)
        check_memory(self.graph, {name: body[-2:] for name, body in bodies.items()})
        self.pattern = dict(pattern)
        #: The nodes that are given from outside, in the graph's order; and the first of them.
        self.inputs = graph.inputs
        self.input = self.inputs[0]
        #: What edges read of nodes, and what these take from their edges, without batch.
        self.shapes = {node.name: node.shape for node in self.graph.nodes if node.shape}
        self._taken = {v.name: taken_shape(v, self.shapes[v.name]) for v in self.graph.nodes}
        #: What a state holds of the nodes: what cells carry besides follows what is read.
        self.state_shapes = dict(self.shapes)
        self.cells, self.normalisations = NamedModules(), NamedModules()
        self.activations, self.transforms = NamedModules(), NamedModules()
        self.bodies = NamedModules()
        for name, body in bodies.items():
            self.bodies[name] = Body(body)
        # Tells device and type of new tensors, also where there are no weights.
        self.register_buffer('_like', torch.empty(0), persistent=False)
        for node in self.graph.nodes:
            self._add_node(where(node), node)
        self._shared: dict[str, EdgeSpec] = {}
        for edge in self.graph.edges:
            self._add_edge(where(edge), edge)
        check_products(self.graph)
        specs: list[NodeSpec | EdgeSpec] = [*self.graph.nodes, *self.graph.edges]
        disturbed = [spec for spec in specs if spec.dropout or spec.noise]
        #: Dropout and noise by node and by edge, u->v; where there are any.
        self.disturbances = {spec.name: Disturbance(number, spec.dropout, spec.noise)
                             for number, spec in enumerate(disturbed)}

    def _add_node(self, place: str, node: NodeSpec) -> None:
        if node.name in self.inputs:
            if all(edge.source != node.name for edge in self.graph.edges):
                raise GraphError(f"{place}: nothing reads the input '{node.name}'; give it an "
                                 'edge to a node that does, or remove it')
            check_unset(place, node, ('normalisation', 'cell', 'activation'),
                        'an input is the frame as it is')
        if node.cell:
            self._add_cell(place, node)
        self.normalisations[node.name] = make_normalisation(
            place, node.normalisation, self._taken[node.name])
        self.activations[node.name] = look_up(place, 'activation', node.activation, ACTIVATIONS)()

    def _add_cell(self, place: str, node: NodeSpec) -> None:
        """Make a cell, and refuse what it cannot be combined with."""
        name = node.name
        cell = look_up(place, 'cell', node.cell, CELLS)(self.shapes[name])
        self.cells[name] = cell
        channels, *size = self.shapes[name]
        self.state_shapes[name] = ((1 + cell.carried) * channels, *size)
        if cell.carried and node.activation != 'identity':
            raise GraphError(f"{place}: activation: the cell '{node.cell}' carries more than its "
                             'output, which an activation would change; leave it out')
        if cell.carried and name == self.graph.output:
            raise GraphError(f"{place}: the cell '{node.cell}' carries more than its output, so "
                             'it cannot be the output of the network; add a node that reads it')
        if (name, name) not in self.pattern:
            raise GraphError(
                f"{place}: the cell '{node.cell}' needs the node's self-edge; add {{source: "
                f'{name}, target: {name}, transform: identity, streams: true}}')

    def _add_edge(self, place: str, edge: EdgeSpec) -> None:
        key = f'{edge.source}-{edge.target}'
        if edge.transform == OPERAND:
            check_unset(place, edge, ('normalisation', 'dropout', 'noise', 'share'),
                        "the target's body reads the source as it is")
            if self.state_shapes[edge.source] != self.shapes[edge.source]:
                raise GraphError(f"{place}: '{edge.source}' has a cell that carries more than its "
                                 f"output, which no body reads; read it by a node with 'identity'")
            if edge.target not in self.bodies:
                raise GraphError(f"{place}: the transform '{OPERAND}' is for nodes with a body, "
                                 f"which '{edge.target}' lacks; take 'identity'")
            return
        if carries(self.graph, edge):
            if edge.transform != 'identity':
                raise GraphError(
                    f"{place}: the transform '{edge.transform}' on the self-edge of a cell, "
                    'which gives the cell its last value as it is; set it to identity')
            check_unset(place, edge, ('normalisation', 'dropout', 'noise', 'share', 'product'),
                        'the self-edge of a cell gives the cell its last value as it is')
            shape = self.shapes[edge.target]
            self.transforms[key], _ = make_transform(edge, shape, shape)
            return
        if edge.share in self._shared:
            self._check_shared(place, edge)
        else:
            self._add_transform(place, edge)
        self.normalisations[key] = make_normalisation(place, edge.normalisation,
                                                      self._taken[edge.target])

    def _add_transform(self, place: str, edge: EdgeSpec) -> None:
        if edge.share:
            self._shared[edge.share] = edge
        source, wanted = self.shapes[edge.source], self._taken[edge.target]
        module, found = make_transform(edge, source, wanted)
        if found != wanted:
            raise GraphError(f'{place}: {edge.transform} of {list(source)} gives {list(found)}, '
                             f'but the target takes {list(wanted)}')
        for part in module.modules():
            # There is no public name for all of these.
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                raise GraphError(
                    f'{place}: {edge.transform} has a {type(part).__name__}, which depends on '
                    'the other samples of a batch, so that training and steps of one frame would '
                    'differ; take a GroupNorm')
        self.transforms[edge.share or f'{edge.source}-{edge.target}'] = module

    def _check_shared(self, place: str, edge: EdgeSpec) -> None:
        """Refuse edges that cannot have the weights of those with the same label."""
        other = self._shared[edge.share]
        own, others = ({'the transform': each.transform, 'options': dict(each.options),
                        'the source shape': list(self.shapes[each.source]),
                        'the target shape': list(self._taken[each.target])}
                       for each in (edge, other))
        for what in own:
            if own[what] != others[what]:
                raise GraphError(
                    f"{place}: '{edge.share}' is shared with {where(other)}, but {what} "
                    f'{own[what]} differs from {others[what]}; make them equal or use another '
                    'label')

    def edge_module(self, edge: EdgeSpec) -> nn.Module:
        """Return what an edge makes of what the state holds of its source."""
        key = f'{edge.source}-{edge.target}'
        whole = self.state_shapes[edge.source] == self.shapes[edge.source]
        return chain(nn.Identity() if whole else FirstChannels(self.shapes[edge.source][0]),
                     self.transforms[edge.share or key],
                     self.normalisations[key]) or nn.Identity()


class Body(nn.Module):
    """
    A node's operations as one function of its operands.

    Shapes: (B, *source) of every operand edge, in the graph's order, to (B, *shape).
    """

    def __init__(self, trial: BodyTrial) -> None:
        super().__init__()
        self.operations = NamedModules()
        for step, shapes in zip(trial.steps, trial.sources):
            self.operations[step.name] = make_operation(step, shapes)
        self._sources, self._steps = trial.operands, [(step.name, step.of) for step in trial.steps]
        last = {name: i for i, step in enumerate(trial.steps) for name in step.of}
        #: Of every operation, what no later one reads.
        self._dropped = [[name for name, at in last.items() if at == i]
                         for i in range(len(trial.steps))]

    def forward(self, *operands: Tensor) -> Tensor:
        values = dict(zip(self._sources, operands))
        for (name, of), dropped in zip(self._steps, self._dropped):
            values[name] = self.operations[name](*[values[source] for source in of])
            for source in dropped:
                del values[source]
        return values[name]


class FirstChannels(nn.Module):
    """What a cell gives to others, without what it carries for itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, value: Tensor) -> Tensor:
        return value[:, :self.channels]
