"""
What a frame computes, written down once: a flat list of small operations with named operands.

Everything that advances a network executes this list, or translates it by a table from the kind
of an operation to how it is done: ``OPERATIONS`` here, which is the reference and what runtimes
trace; ``window.OVER_TIME``, with time as an axis; ``packed.PACKED``; ``cuda.kernels.KERNELS``.

Values go by name: nodes, of this frame or of the one before, and temporary values, each of which
is read once. 'image->command' is what an edge gives, 'command.sum' what has been added up so far.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
import operator
from typing import Any, NamedTuple

import numpy as np
from stream_agent.network.modules import Modules
from stream_agent.network.shapes import carries
from stream_agent.network.transforms import chain
from stream_agent.theory.checks import nearest
from stream_agent.theory.frame_schedule import FrameSchedule, NodeWork
from stream_agent.theory.graph import NodeSpec, OPERAND
from torch import Tensor

Values = dict[str, Tensor]
#: What the inputs are given: a tensor where there is one, else tensors by the inputs' names.
Frames = Tensor | Mapping[str, Tensor]
#: The same outside of torch.
Arrays = np.ndarray | Mapping[str, np.ndarray]
# Executes operations on the values of a frame, which it adds to, and of the frame before.
Run = Callable[[Values, Values], None]

#: The name of the number that dropout and noise of a frame are drawn by.
DRAW = '.draw'


def by_input(inputs: Sequence[str], frames: Any) -> dict[str, Any]:
    """
    Return what every input is given, by its name, in a dictionary of its own.

    :param frames: A mapping; or what the only input is given.
    :raises ValueError: If an input is missing, or a name is none of an input.
    """
    if not isinstance(frames, Mapping):
        if len(inputs) > 1:
            raise ValueError(f'one value is given to {len(inputs)} inputs; give values by their '
                             f"names: {', '.join(inputs)}")
        return {inputs[0]: frames}
    for name in frames:
        if name not in inputs:
            raise ValueError(f"'{name}' is not an input; {nearest(str(name), inputs, 'inputs')}")
    for name in inputs:
        if name not in frames:
            raise ValueError(f"the input '{name}' is missing; give it beside "
                             f"{', '.join(frames) or 'others'}")
    return dict(frames)


@dataclass(frozen=True)
class State:
    """
    What a network remembers between two frames, or during one.

    :param values: Nodes by name, (B, *shape) each; during a frame also what it is drawn by.
    :param frame: Frames so far; 0 after a reset. Schedules count by it.
    """

    values: Values
    frame: int = 0


class Operand(NamedTuple):
    """
    A value that an operation reads.

    :param name: Of a node, or of a temporary value.
    :param before: Whether it is the node's value at the frame before.
    """

    name: str
    before: bool = False

    @property
    def is_temporary(self) -> bool:
        """Whether it is a result within a frame, which nothing else reads."""
        return '->' in self.name or '.sum' in self.name


class Operation(NamedTuple):
    """
    One small piece of work on a node's value.

    :param kind: A name in ``OPERATIONS``, or one that a back end has put in their place.
    :param result: The name of what it gives, (B, *shape).
    :param module: What is applied to the operands; None where the kind says it all.
    """

    kind: str
    node: str
    result: str
    operands: tuple[Operand, ...]
    module: Any = None


# Gives the function of its operands that an operation is.
How = Callable[[Operation], Callable[..., Tensor]]

module_of: How = operator.attrgetter('module')


def disturb(operation: Operation) -> Callable[[Tensor, int], Tensor]:
    """Return a function that disturbs the value of one frame."""
    return lambda value, draw: operation.module(value.unsqueeze(0), [draw]).squeeze(0)


#: The vocabulary, and how the reference does each.
OPERATIONS: Mapping[str, How] = {
    # What an edge makes of its source: transform and normalisation.
    'transform': module_of,
    # What a body makes of all its operands.
    'body': module_of,
    # Factors of a product.
    'multiply': lambda operation: operator.mul,
    # A sum so far and a further term.
    'add': lambda operation: operator.add,
    # What a node makes of its sum, in this order.
    'normalise': module_of,
    'cell': module_of,
    'activate': module_of,
    # Dropout and noise of a node or an edge; in training only.
    'disturb': disturb,
}
IN_TRAINING = frozenset({'disturb'})

Term = tuple[Operation, ...]


class NodeProgram(NamedTuple):
    """
    What a node's value is made of: terms, which are added up, and what their sum goes through.

    :param terms: In the graph's order; the last operation of each gives the term.
    :param ending: From the sum to the value; empty where the value is the sum.
    :param begun: Whether the terms are added to a sum that is there already.
    :param finishes: Whether the value is complete then; else the sum is to be continued.
    """

    node: str
    terms: tuple[Term, ...]
    ending: Term
    begun: bool = False
    finishes: bool = True

    def part(self, work: NodeWork) -> 'NodeProgram':
        """Return what of this a part of a frame does."""
        sources = {source for source, _ in work.edges}
        return self._replace(
            terms=tuple(term for term in self.terms if sources_of(term)[0].name in sources),
            ending=self.ending if work.finishes else (),
            begun=work.begun, finishes=work.finishes)

    def operations(self) -> list[Operation]:
        """Return the list of operations, whose last one gives the node's value or its sum."""
        total = Operand(f'{self.node}.sum')
        result: list[Operation] = []
        for term in self.terms:
            if not result and not self.begun:
                result += (*term[:-1], term[-1]._replace(result=total.name))
                continue
            value = Operand(term[-1].result)
            result += (*term, Operation('add', self.node, total.name, (total, value)))
        result += self.ending
        if self.finishes and result:
            result[-1] = result[-1]._replace(result=self.node)
        return result


def sources_of(operations: Iterable[Operation]) -> list[Operand]:
    """Return the nodes that operations read, in order."""
    return [operand for operation in operations for operand in operation.operands
            if not operand.is_temporary and operand.name != DRAW]


def node_programs(network: Modules, in_training: bool = False) -> dict[str, NodeProgram]:
    """
    Return how every node is computed.

    :param in_training: Whether there are dropout and noise, without which an input has none.
    """
    disturbances = network.disturbances if in_training else {}
    terms: dict[str, dict[Any, list[Operation]]] = {node.name: {} for node in network.graph.nodes}
    for edge in network.graph.edges:
        if carries(network.graph, edge):
            continue
        name, streams = edge.name, bool(network.pattern[edge.source, edge.target])
        if edge.transform == OPERAND:
            body = terms[edge.target].setdefault(OPERAND, [
                Operation('body', edge.target, f'.body->{edge.target}', (),
                          network.bodies[edge.target])])
            body[0] = body[0]._replace(operands=(*body[0].operands,
                                                 Operand(edge.source, streams)))
            continue
        operations = [Operation('transform', edge.target, name,
                                (Operand(edge.source, streams),), network.edge_module(edge))]
        if name in disturbances:
            operations.append(Operation('disturb', edge.target, name,
                                        (Operand(name), Operand(DRAW)), disturbances[name]))
        product = terms[edge.target].setdefault(edge.product or name, [])
        if product:
            first = Operand(product[-1].result)
            operations.append(Operation('multiply', edge.target, first.name,
                                        (first, Operand(name))))
        product += operations
    return {node.name: NodeProgram(node.name, tuple(map(tuple, terms[node.name].values())),
                                   ending(network, node, disturbances.get(node.name)))
            for node in network.graph.nodes}


def ending(network: Modules, node: NodeSpec, disturbance: Any) -> Term:
    """Return what a node makes of its sum, and in training an input of its frame."""
    name = node.name
    total = Operand(name if name in network.inputs else f'{name}.sum')
    steps = (('normalise', chain(network.normalisations[name]), ()),
             ('disturb', disturbance, (Operand(DRAW),)),
             ('cell', network.cells[name] if node.cell else None, (Operand(name, before=True),)),
             ('activate', chain(network.activations[name]), ()))
    return tuple(Operation(kind, name, total.name, (total, *others), module)
                 for kind, module, others in steps if module is not None)


class FrameProgram(NamedTuple):
    """What one frame computes, in the parts of its ``FrameSchedule``."""

    held: tuple[str, ...]
    ahead: tuple[Operation, ...]
    respond: tuple[Operation, ...]
    settle: tuple[Operation, ...]


def frame_program(programs: Mapping[str, NodeProgram], schedule: FrameSchedule) -> FrameProgram:
    """Return what a frame computes, given the programs of all nodes."""
    return FrameProgram(schedule.held, *(
        tuple(operation for work in part
              for operation in programs[work.node].part(work).operations())
        for part in schedule[1:]))


def bind(operations: Iterable[Operation], table: Mapping[str, How] = OPERATIONS) -> Run:
    """
    Make a list of operations callable, as a function of the values of two frames.

    :raises ValueError: If the table lacks a kind.
    """
    steps = []
    for operation in operations:
        if operation.kind not in table:
            raise ValueError(f"there is no entry for the operation '{operation.kind}'")
        steps.append(bind_operation(operation, table[operation.kind](operation)))

    def run(now: Values, before: Values) -> None:
        for step in steps:
            step(now, before)

    return run


def bind_operation(operation: Operation, function: Callable[..., Tensor]) -> Run:
    """Make one operation callable, without look-ups, which would take most of its time."""
    result, readers = operation.result, [reader(operand) for operand in operation.operands]
    first, last = readers[0], readers[-1]

    def on_one(now: Values, before: Values) -> None:
        now[result] = function(first(now, before))

    def on_two(now: Values, before: Values) -> None:
        now[result] = function(first(now, before), last(now, before))

    def on_all(now: Values, before: Values) -> None:
        now[result] = function(*[read(now, before) for read in readers])

    return {1: on_one, 2: on_two}.get(len(readers), on_all)


def reader(operand: Operand) -> Callable[[Values, Values], Tensor]:
    """Return a function that reads a value, which a temporary one does not outlive."""
    name = operand.name
    if operand.is_temporary:
        return lambda now, before: now.pop(name)
    return (lambda now, before: before[name]) if operand.before else lambda now, before: now[name]
