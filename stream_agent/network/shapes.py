"""
The shapes of all nodes, from what the graph says and what its edges give.

Shapes are tried, not computed: what a transform gives is seen from a module that is made and
run on torch's meta device, where nothing is allocated. So is the memory that a network needs.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
import os
from typing import Any

from stream_agent.network.transforms import (
    CELLS, check_options, find_maker, look_up, Maker, OptionError, Shape, TRANSFORMS, Undecided,
    Wanted, WRITE_CHANNELS)
from stream_agent.theory.graph import EdgeSpec, GraphError, GraphSpec, NodeSpec
import torch
from torch import nn, Tensor


MEMORY = 'STREAM_AGENT_MEMORY_GIB'
GIB = 2**30
MOST_MEMORY = 2 * GIB
# A node's value is there for this frame and for the last one, and its sum is on the way.
COPIES = 3
# Convolutions on a CPU pad channels to a multiple of this.
BLOCK = 16
#: Nodes, edges and operations together that a network may have: each is a few calls a frame.
MOST_PARTS = 4000


def where(spec: EdgeSpec | NodeSpec) -> str:
    """Return where an edge or a node is written, and which it is, for messages."""
    return spec.place if spec.place.endswith(spec.name) else f'{spec.place} ({spec.name})'


def carries(graph: GraphSpec, edge: EdgeSpec) -> bool:
    """Return whether an edge gives a cell its last value, rather than a term of its sum."""
    return edge.source == edge.target and bool(graph.node(edge.target).cell)


def per_feature(node: NodeSpec) -> int:
    """Return how many channels or features a node takes from its edges for each of its own."""
    if not node.cell:
        return 1
    return look_up(where(node), 'cell', node.cell, CELLS).inputs_per_feature


def taken_shape(node: NodeSpec, shape: Shape) -> Shape:
    """Return the shape that a node of a shape takes from its edges."""
    return (per_feature(node) * shape[0], *shape[1:])


def describe(edge: EdgeSpec, source: Shape) -> str:
    """Return the transform as messages show it."""
    options = ', '.join(f'{key} {value}' for key, value in edge.options.items())
    return f'{edge.transform} of {list(source)}{options and f" with {options}"}'


def attempt(maker: Maker, source: Shape, target: Wanted, options: Mapping[str, Any]
            ) -> tuple[nn.Module, Shape]:
    """Make a module, and see on zeros which shape it gives."""
    module = maker(source, target, **options)
    if not isinstance(module, nn.Module):
        raise TypeError(f'it gives a {type(module).__name__}, which is not a torch.nn.Module')
    known = tuple(size for size in target if size is not None)
    if len(known) == len(target) and torch.get_default_device().type == 'meta':
        # A run there imports torch's compiler, which takes a second, and nobody asks for values.
        return module, known
    with torch.no_grad():
        value = module.eval()(torch.zeros(1, *source))
    if not isinstance(value, Tensor) or value.shape[:1] != (1,):
        raise TypeError('its module does not give a tensor with the batch as its first axis')
    return module.train(), tuple(value.shape[1:])


def attempt_on_meta(maker: Maker, source: Shape, target: Wanted, options: Mapping[str, Any]
                    ) -> tuple[nn.Module, Shape]:
    """Do so without allocating anything, unless code from outside needs real numbers."""
    try:
        with torch.device('meta'):
            return attempt(maker, source, target, options)
    except GraphError:
        raise
    except Exception:  # the same again tells what is wrong, if it was not the device
        if maker in TRANSFORMS.values():
            raise
        check_size('its source', source)
        with torch.random.fork_rng(devices=[]):
            return attempt(maker, source, target, options)


def make_transform(edge: EdgeSpec, source: Shape, target: Wanted) -> tuple[nn.Module, Shape]:
    """
    Make the module of one edge, and see by a trial which shape it gives.

    :param target: What the target takes; if sizes are None, the module has no weights.
    """
    place = where(edge)
    maker = find_maker(place, edge.transform)
    check_options(place, edge.transform, maker, edge.options)
    run = attempt_on_meta if None in target else attempt
    try:
        return run(maker, source, target, edge.options)
    except OptionError as error:
        raise GraphError(f'{place}: {error}') from None
    except Undecided as error:
        raise Undecided(f'{place}: {edge.transform} {error}', error.remedy) from None
    except Exception as error:  # code from outside may fail in any way
        if None in target and edge.transform not in TRANSFORMS:
            raise Undecided(f"{place}: {edge.transform} fails without its target's shape "
                            f'({type(error).__name__}: {error})') from error
        raise GraphError(f'{place}: {describe(edge, source)}: {error}') from error


class Inference:
    """One search for the shapes that a graph leaves out; its inputs have one."""

    def __init__(self, graph: GraphSpec) -> None:
        self.shapes = {node.name: node.shape for node in graph.nodes if node.shape}
        self._graph = graph
        #: The edge that decided on a shape, and what the nodes without one lack.
        self._decided_by: dict[str, EdgeSpec] = {}
        self._undecided: dict[str, Undecided] = {}

    def spread(self) -> None:
        """Follow the edges from nodes with a shape to those without, until nothing is new."""
        new = list(self.shapes)
        for source in new:
            for edge in self._graph.edges:
                name = edge.target
                if (edge.source == source and name not in self.shapes
                        and (shape := self._shape_by(edge))):
                    check_size(where(self._graph.node(name)), shape)
                    self.shapes[name], self._decided_by[name] = shape, edge
                    new.append(name)

    def _shape_by(self, edge: EdgeSpec) -> Shape | None:
        """Return the shape that one edge gives its target, if it gives one by itself."""
        node = self._graph.node(edge.target)
        factor = per_feature(node)
        wanted = (factor * node.channels or None, None, None)
        try:
            _, found = make_transform(edge, self.shapes[edge.source], wanted)
        except Undecided as error:
            if node.name not in self._undecided or error.remedy == WRITE_CHANNELS:
                self._undecided[node.name] = error
            return None
        if node.channels and (len(found) != 3 or found[0] != wanted[0]):
            raise GraphError(f'{self._gives(edge, found)}, but the target takes {wanted[0]} '
                             'channels')
        if found[0] % factor:
            raise GraphError(f"{self._gives(edge, found)}, but the cell '{node.cell}' takes "
                             f'{factor} channels or features for each of its own')
        return (found[0] // factor, *found[1:])

    def _gives(self, edge: EdgeSpec, found: Shape) -> str:
        """Return what an edge gives, as the first half of a message."""
        return f'{where(edge)}: {describe(edge, self.shapes[edge.source])} gives {list(found)}'

    def check_complete(self) -> None:
        """Refuse nodes whose shape nothing says."""
        for node in self._graph.nodes:
            error = self._undecided.get(node.name)
            if error and node.name not in self.shapes:
                raise GraphError(f'{where(node)}: its shape cannot be inferred: '
                                 f'{error}; write {error.remedy}')

    def check_agreement(self) -> None:
        """Refuse edges that give a node another shape than the edge that decided on it."""
        for edge in self._graph.edges:
            decided_by = self._decided_by.get(edge.target, edge)
            if decided_by == edge or carries(self._graph, edge):
                continue
            shape = taken_shape(self._graph.node(edge.target), self.shapes[edge.target])
            wanted = (shape[0], None, None) if len(shape) == 3 else (None,)
            try:
                _, found = make_transform(edge, self.shapes[edge.source], wanted)
            except Undecided:
                continue
            if found != shape:
                raise GraphError(
                    f'{self._gives(edge, found)}, but {where(decided_by)} gives {list(shape)}; '
                    'edges into one node have to give the same shape')


def infer_shapes(graph: GraphSpec) -> GraphSpec:
    """
    Return the graph with a shape at every node.

    :raises GraphError: If a shape can neither be read nor be inferred, or edges contradict.
    """
    steps = sum(len(node.body) for node in graph.nodes)
    if len(graph.nodes) + len(graph.edges) + steps > MOST_PARTS:
        raise GraphError(f'{graph.place}: {len(graph.nodes)} nodes and {len(graph.edges)} edges '
                         f'{f"with {steps} operations " if steps else ""}are too many for a '
                         f'network; {MOST_PARTS} together are the most. Merge layers: one of many '
                         'features is faster than many of few')
    for node in map(graph.node, graph.inputs):
        if not node.shape:
            raise GraphError(f'{where(node)}: the shape of an input cannot be inferred; '
                             "write 'shape: [channels, height, width]', or 'shape: [features]' of "
                             'a vector')
    for node in graph.nodes:
        check_size(where(node), node.shape or ())
    if all(node.shape for node in graph.nodes):
        return graph
    inference = Inference(graph)
    inference.spread()
    inference.check_complete()
    inference.check_agreement()
    return replace(graph, nodes=tuple(
        node if node.shape else replace(node, shape=inference.shapes[node.name], channels=0)
        for node in graph.nodes))


def memory_limit() -> int:
    """
    Return how many bytes a network may take.

    :returns: What the environment says, in GiB; else a quarter of the machine's memory, at most
        2 GiB: a policy comes from elsewhere, and other programs run beside it.
    :raises GraphError: If the environment says no positive number.
    """
    if text := os.environ.get(MEMORY, ''):
        try:
            limit = int(float(text) * GIB)
        except (OverflowError, ValueError):
            limit = 0
        if limit <= 0:
            raise GraphError(f"{MEMORY} is '{text}'; set it to a number of GiB above 0, or unset "
                             'it')
        return limit
    return min(MOST_MEMORY, os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 4)


def in_gib(size: int) -> str:
    """Write a number of bytes."""
    return f'{size / GIB:.3g} GiB'


def check_size(place: str, shape: Shape) -> None:
    """Refuse a value that alone takes more memory than a network may take."""
    needed, limit = 4 * prod(shape), memory_limit()
    if needed > limit:
        raise GraphError(f'{place}: a value of the shape {list(shape)} takes {in_gib(needed)}, '
                         f'and a network may take {in_gib(limit)}; reduce its size, or set '
                         f'{MEMORY} where there is more memory')


def weights_of(module: nn.Module) -> int:
    """Return the bytes of a module's weights."""
    return 4 * sum(tensor.numel() for tensor in (*module.parameters(), *module.buffers()))


def edge_memory(graph: GraphSpec, edge: EdgeSpec) -> tuple[int, int]:
    """Return the bytes of an edge's weights, and of what it needs while it is computed."""
    source, target = graph.node(edge.source), graph.node(edge.target)
    shapes = source.shape or (), taken_shape(target, target.shape or ())
    space = sum(4 * prod((-(-shape[0] // BLOCK) * BLOCK, *shape[1:])) for shape in shapes
                if len(shape) == 3)
    maker = find_maker(where(edge), edge.transform)
    check_options(where(edge), edge.transform, maker, edge.options)
    try:
        with torch.device('meta'):
            return weights_of(maker(*shapes, **edge.options)), space
    except Exception:  # what is wrong is said when it is made, and code from outside may need
        return 0, space  # real numbers


def check_memory(graph: GraphSpec, bodies: Mapping[str, tuple[int, int]] = {}) -> None:
    """
    Refuse a network that needs too much memory, before any of it is allocated.

    Everything that builds a network asks here. Counted are weights, the values of two frames and
    the sum between them, and the largest transform's own space; not what training adds.

    :param graph: With the shapes of all nodes.
    :param bodies: Bytes of their weights, and of what they need while they are computed, by node.
    :raises GraphError: With the amount, what takes most of it, and what to reduce.
    """
    shapes = {node.name: taken_shape(node, node.shape or ()) for node in graph.nodes}
    needs = {f"the node '{name}', {list(shape)}": COPIES * 4 * prod(shape)
             for name, shape in shapes.items()}
    seen, space = set(), 0
    for edge in graph.edges:
        if edge.share in seen or carries(graph, edge):
            continue
        seen |= {edge.share} - {''}
        weights, own = edge_memory(graph, edge)
        needs[f"the {edge.transform} of '{edge.name}'"] = weights
        space = max(space, own)
    for name, (weights, own) in bodies.items():
        needs[f"the body of '{name}'"] = weights
        space = max(space, own)
    total, limit = sum(needs.values()) + space, memory_limit()
    if total > limit:
        most = max(needs, key=needs.__getitem__)
        raise GraphError(
            f'{graph.place}: the network needs {in_gib(total)}, and it may take {in_gib(limit)}; '
            f'most of it, {in_gib(needs[most])}, is for {most}. Reduce its shape, its channels or '
            f'its kernel, or set {MEMORY} where there is more memory')
