"""A rollout network of an imported program: a node for every group of its operations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
import re
from typing import Any

from stream_agent.importing.cutting import in_module, modules_of, paths_of
from stream_agent.importing.grouping import free_operations
from stream_agent.importing.program import (
    ImportedOperation, ImportedProgram, ImportFault, unused)
from stream_agent.importing.running import Whole
from stream_agent.network.checkpoint import check_weights, CheckpointError
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.transforms import ACTIVATIONS, Dense, Shape
from stream_agent.theory.checks import nearest
from stream_agent.theory.graph import EdgeSpec, graph_to_data, GraphSpec, NodeSpec, OPERAND
from stream_agent.theory.patterns import (
    newest_image_pattern, sequential_pattern, streaming_pattern)
from torch import nn
import yaml

PATTERNS = {'sequential': sequential_pattern, 'streaming': streaming_pattern,
            'newest-image': newest_image_pattern}
# A read-out sees a feature map in so many windows per side, and has no more weights than that.
WINDOWS = 4
MOST_WEIGHTS = 2**20


def whole(program: ImportedProgram) -> nn.Module:
    """Return a program as one module, from its inputs and states to its output and states."""
    return Whole(program)


def make_network(program: ImportedProgram, groups: Sequence[Sequence[str]],
                 pattern: str = 'sequential', early: Sequence[str] = ()) -> RolloutNetwork:
    """
    Return a program as a network with its weights.

    :param program: Simplified.
    :param groups: Operations by node, as from ``cutting.cut``.
    :param pattern: 'sequential', 'streaming' or 'newest-image'.
    :param early: Modules or nodes that the output also reads, by weights that are zero at first.
    :raises ImportFault: If one of those is unknown, or cannot be read by the output; or if no
        policy may have such weights.
    """
    making = GraphMaking(program, groups)
    graph = making.graph()
    read_outs = [making.early_node(name) for name in early]
    for name, node in zip(early, read_outs):
        graph = with_read_out(graph, name, node)
    network = RolloutNetwork(graph, PATTERNS[pattern](graph)).eval()
    weights = dict(network.state_dict())
    for operation, key in making.keys():
        weights |= {f'{key}.{name}': value for name, value in operation.weights.items()}
    network.load_state_dict(weights)
    for node in dict.fromkeys(read_outs):
        for module in network.transforms[f'{node}-{graph.output}'].modules():
            if isinstance(module, Dense):
                nn.init.zeros_(module.linear.weight)
                nn.init.zeros_(module.linear.bias)
    try:
        check_weights(network, network.state_dict())
    except CheckpointError as error:
        raise ImportFault(f'{error}') from None
    return network


class GraphMaking:
    """The nodes and edges of a program whose operations are in groups."""

    def __init__(self, program: ImportedProgram, groups: Sequence[Sequence[str]]) -> None:
        self._program = program
        self._operations = {operation.name: operation for operation in program.operations}
        self._position = {name: i for i, name in enumerate(self._operations)}
        self._free = free_operations(program)
        #: How many operations with weights every module has.
        self._weighted = paths_of([operation.module for operation in program.operations
                                   if operation.weights and operation.name not in self._free])
        self._groups = [self._with_constants(group) for group in groups]
        #: The node of every value that may leave a group, and those of states.
        self._node_of: dict[str, str] = {}
        self._state_nodes: dict[str, str] = {}
        for name in program.inputs:
            self._node_of[name] = self._new_name(safe_name(name))
        for group in self._groups:
            self._node_of[group[-1]] = self._new_name(self._readable_name(group))
        for group in self._groups:
            for state in self._states_read(group):
                if program.states[state].next in self._values_read(group):
                    # A node reads another one once: the older value gets a node of its own.
                    self._state_nodes[state] = ''
        for state in self._state_nodes:
            self._state_nodes[state] = self._new_name(safe_name(state))
        self._steps = [self._step_names(group) for group in self._groups]

    def _with_constants(self, group: Sequence[str]) -> list[str]:
        """Return a group with what it reads that depends on no input, in the program's order."""
        found, waiting = {*group}, [*group]
        while waiting:
            for source in self._operations[waiting.pop()].of:
                if source in self._free and source not in found:
                    found.add(source)
                    waiting.append(source)
        return sorted(found, key=self._position.__getitem__)

    def _values_read(self, group: Sequence[str]) -> list[str]:
        """Return what a group reads of this frame, in the order in which it does."""
        return [source for source in self._sources(group) if source not in self._program.states]

    def _states_read(self, group: Sequence[str]) -> list[str]:
        return [source for source in self._sources(group) if source in self._program.states]

    def _sources(self, group: Sequence[str]) -> list[str]:
        own = {*group}
        return [*dict.fromkeys(source for name in group for source in self._operations[name].of
                               if source not in own)]

    def _readable_name(self, group: Sequence[str]) -> str:
        """Return what a node is called: the module that most of it comes from."""
        parts = [self._operations[name] for name in group if name not in self._free]
        named = [part.module for part in parts if part.weights and part.module] or [
            part.module for part in parts if part.module]
        if not named:
            return safe_name(parts[-1].name)
        paths, count = paths_of(named), len(named)
        # A module that all of it comes from, if most of that is here; else where most is from.
        common = [path for path in paths if paths[path] == count
                  and 2 * count > self._weighted[path]] or [
            path for path in paths if 2 * paths[path] > count]
        return safe_name(max(common, key=lambda path: path.count('.'), default=named[-1]))

    def _new_name(self, name: str) -> str:
        """Return a name that no node has yet."""
        return unused(name, {*self._node_of.values(), *self._state_nodes.values()})

    def _source_nodes(self, group: Sequence[str]) -> dict[str, tuple[str, bool]]:
        """Return the node of everything that a group reads, and whether that edge streams."""
        found = {}
        for source in self._sources(group):
            state = self._program.states.get(source)
            if state is None:
                found[source] = self._node_of[source], False
            elif source in self._state_nodes:
                found[source] = self._state_nodes[source], False
            else:
                found[source] = self._node_of[state.next], True
        return found

    def _step_names(self, group: Sequence[str]) -> dict[str, str]:
        """Return what operations are called in a body: without the beginning that all share."""
        taken = {node for node, _ in self._source_nodes(group).values()}
        names: dict[str, str] = {}
        beginning = f'{self._node_of[group[-1]]}_'
        for name in group:
            short = name.removeprefix(beginning)
            if not re.match('[A-Za-z_]', short) or short in group:
                short = safe_name(name)
            while short in taken:
                short += '_'
            names[name] = short
            taken.add(short)
        return names

    def graph(self) -> GraphSpec:
        """Return the graph, in which what a node takes from the last frame streams."""
        nodes = [NodeSpec(self._node_of[name], shape)
                 for name, shape in self._program.inputs.items()]
        edges = []
        for state, name in self._state_nodes.items():
            source = self._node_of[self._program.states[state].next]
            body = ({'name': 'before' if source != 'before' else 'kept', 'kind': 'identity',
                     'of': [source]},)
            nodes.append(NodeSpec(name, self._program.states[state].shape, body=body))
            edges.append(EdgeSpec(source, name, OPERAND, streams=True))
        for group, steps in zip(self._groups, self._steps):
            name, sources = self._node_of[group[-1]], self._source_nodes(group)
            names = {**{source: node for source, (node, _) in sources.items()}, **steps}
            nodes.append(NodeSpec(name, self._operations[group[-1]].shape, body=tuple(
                written(self._operations[each], names) for each in group)))
            edges += [EdgeSpec(node, name, OPERAND, streams=streams)
                      for node, streams in dict.fromkeys(sources.values())]
        return GraphSpec(tuple(nodes), tuple(edges), self._node_of[self._program.output])

    def keys(self) -> list[tuple[ImportedOperation, str]]:
        """Return the operations with what the names of their weights in the network begin with."""
        return [(self._operations[name], f'bodies.{self._node_of[group[-1]]}.operations.{step}')
                for group, steps in zip(self._groups, self._steps) for name, step in steps.items()]

    def early_node(self, name: str) -> str:
        """Return the node whose value is the output of a module, or is nearest behind it."""
        nodes = [*self._node_of.values()][len(self._program.inputs):]
        if name in nodes:
            return name
        own = [operation.name for operation in self._program.operations
               if in_module(operation, name) and operation.name not in self._free]
        for operation in reversed(own):
            for group in self._groups:
                if operation in group:
                    return self._node_of[group[-1]]
        raise ImportFault(f"early outputs: the network has no module or node named '{name}'; "
                          + nearest(name, [*modules_of(self._program), *nodes], 'modules'))


def safe_name(text: str) -> str:
    """Return a path of a module as the name of a node: of letters, digits and '_'."""
    name = re.sub(r'\W', '_', text, flags=re.ASCII).strip('_') or 'node'
    return f'layer_{name}' if name[0].isdigit() else name


def written(operation: ImportedOperation, names: Mapping[str, str]) -> dict[str, Any]:
    """Return an operation as a body has it."""
    of = {'of': [names[source] for source in operation.of]} if operation.of else {}
    return {'name': names[operation.name], 'kind': operation.kind, **of,
            **{key: plain(value) for key, value in operation.options.items()}}


def plain(value: Any) -> Any:
    """Return the value of an option as a graph file holds it."""
    return [*map(plain, value)] if isinstance(value, (list, tuple)) else value


def with_read_out(graph: GraphSpec, asked: str, name: str) -> GraphSpec:
    """
    Return a graph whose output also reads an early node, before a last activation.

    :param asked: What the user calls the node.
    """
    output, node = graph.node(graph.output), graph.node(name)
    if len(output.shape or ()) != 1:
        raise ImportFault(f"early outputs: the output '{output.name}' is "
                          f'{list(output.shape or ())}, and only [features] can be answered '
                          'early; leave early outputs out')
    if name in {output.name, *(edge.source for edge in graph.incoming[output.name])}:
        raise ImportFault(f"early outputs: '{asked}' is in the node '{name}', which the output "
                          f"'{output.name}' " + ('is' if name == output.name else 'reads anyway')
                          + '; name an earlier module, or cut between them')
    *before, last = output.body
    if before and output.activation == 'identity' and last['kind'] in ACTIVATIONS and (
            last.keys() == {'name', 'kind', 'of'} and last['of'] == [before[-1]['name']]):
        output = replace(output, body=tuple(before), activation=last['kind'])
    transform, options = read_out_of(node.shape or (), (output.shape or (1,))[0])
    return replace(graph, nodes=tuple(output if each.name == output.name else each
                                      for each in graph.nodes),
                   edges=(*graph.edges, EdgeSpec(name, output.name, transform, options=options)))


def read_out_of(shape: Shape, features: int) -> tuple[str, dict[str, int]]:
    """Return the transform of a read-out: dense, of feature maps on means over windows."""
    if len(shape) != 3:
        return 'dense', {}
    side = min(shape[1:])
    kernel = max(1, side // WINDOWS)
    while kernel < side and features * shape[0] * prod(n // kernel for n in shape[1:]) > (
            MOST_WEIGHTS):
        kernel += 1
    return 'readout', {'kernel': kernel}


def graph_text(network: RolloutNetwork) -> str:
    """Return a network's graph as a graph file, every operation and every edge on a line."""
    data = graph_to_data(network.graph)
    lines = ['nodes:']
    for name, settings in data['nodes'].items():
        body = settings.pop('body', ())
        lines.append(f'  {name}:' + ('' if body else f' {flow(settings)}'))
        if body:
            lines += [f'    {key}: {flow(value)}' for key, value in settings.items()]
            lines += ['    body:', *(f'    - {flow(step)}' for step in body)]
    lines += ['edges:', *(f'- {flow(edge)}' for edge in data['edges'])]
    return '\n'.join([*lines, f"output: {flow(data['output'])}", ''])


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**9)
    return text.removesuffix('\n').removesuffix('...').strip()
