"""Recurrent states of a network: which output is which input's next value, cell by cell."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from stream_agent.importing.program import (
    ImportedOperation, ImportedProgram, ImportedState, ImportFault)
from stream_agent.network.bodies import BODY_OPERATIONS
from stream_agent.network.transforms import Shape
import torch
from torch import Tensor

#: Operations that only move numbers.
MOVES = ('concatenate', 'slice', 'select', 'reshape', 'permute', 'identity')
CELLS = ('gru_cell', 'lstm_cell')


def computed(operation: ImportedOperation, operands: Sequence[Tensor]) -> Tensor:
    """Return what an operation gives."""
    module = BODY_OPERATIONS[operation.kind](*(tuple(value.shape[1:]) for value in operands),
                                             **operation.options)
    return torch.func.functional_call(module, dict(operation.weights), tuple(operands))


class CellTraces:
    """
    Which numbers of the states the cells read, and which of their results are handed on.

    Every number of a state or of a cell's result has a number of its own, which is followed
    through the operations that only move numbers.
    """

    def __init__(self, operations: Sequence[ImportedOperation],
                 states: Mapping[str, Shape]) -> None:
        self.starts: dict[str, int] = {}
        self.numbers: dict[str, Tensor] = {}
        self.cells = [each for each in operations if each.kind in CELLS]
        self._next = 0
        for name, shape in states.items():
            self._add(name, shape)
        for operation in operations:
            operands = [self.numbers.get(name) for name in operation.of]
            if operation.kind in CELLS:
                self._add(operation.name, operation.shape)
            elif operation.kind in MOVES and operands and not any(
                    value is None for value in operands):
                self.numbers[operation.name] = computed(
                    operation, [value for value in operands if value is not None])

    def _add(self, name: str, shape: Shape) -> None:
        size = int(torch.Size(shape).numel())
        self.starts[name] = self._next
        self.numbers[name] = torch.arange(self._next, self._next + size).reshape(1, *shape)
        self._next += size

    def is_state(self, name: str) -> bool:
        """Return whether a cell reads numbers of an input as its state."""
        own = self.numbers[name]
        read = [self.numbers[cell.of[1]] for cell in self.cells if cell.of[1] in self.numbers]
        return any(bool(torch.isin(numbers, own).any()) for numbers in read)

    def handed_on(self, cell: ImportedOperation, state: str, result: str) -> Tensor:
        """Return of which numbers of a cell's state the next one is what the cell gives."""
        read, given = self.numbers.get(cell.of[1]), self.numbers.get(result)
        own = self.numbers[state]
        if read is None or given is None or given.numel() != own.numel():
            return torch.zeros(self.numbers[cell.name].numel(), dtype=torch.bool)
        place = read.flatten() - self.starts[state]
        inside = (place >= 0) & (place < own.numel())
        next_of = given.flatten()[place.clamp(0, own.numel() - 1)]
        return inside & (next_of == self.numbers[cell.name].flatten())


class Pairing(NamedTuple):
    """Which inputs are no states, which output each state's next value, and which the answer."""

    inputs: tuple[str, ...]
    states: dict[str, str]
    output: str


def matched(operations: Sequence[ImportedOperation], ports: Mapping[str, Shape],
            outputs: Mapping[str, tuple[str, Shape]], images: Sequence[str]) -> Pairing:
    """
    Return which inputs and outputs are states.

    Of several outputs of a state's shape, it is what a cell that reads it gives; else that with
    its name in its own; else the first. All inputs but one are states if that fits, and else as
    many as there are outputs but one.

    :param ports: Shapes of the inputs, in order.
    :param outputs: By the names they have for users: the operation, and its shape.
    :param images: Inputs that may be none of the states.
    :raises ImportFault: If they do not fit, or several inputs might be the same state.
    """
    traces = CellTraces(operations, ports)

    @cache
    def rank(state: str, name: str) -> tuple[int, int]:
        found = sum(int(traces.handed_on(cell, state, outputs[name][0]).sum())
                    for cell in traces.cells)
        return -found, not (state.lower() in name.lower() or name.lower() in state.lower())

    def paired(names: Sequence[str], most: int) -> tuple[dict[str, str], list[str]]:
        """Return outputs by the states whose next values they are, and the outputs left."""
        states = dict[str, str]()
        pairs = [(state, name) for state in names for name in outputs
                 if outputs[name][1] == ports[state]]
        for state, name in sorted(pairs, key=lambda pair: (rank(*pair), names.index(pair[0]))):
            if state not in states and name not in states.values() and len(states) < most:
                states[state] = name
        return states, [name for name in outputs if name not in states.values()]

    for image in images:
        names = [name for name in ports if name != image]
        states, left = paired(names, len(names))
        if len(states) == len(names) and len(left) == 1:
            return Pairing((image,), {name: states[name] for name in names}, left[0])
    names = [name for name in ports if name != images[0]]
    states, left = paired(names, len(outputs) - 1)
    inputs = tuple(name for name in ports if name not in states)
    if len(left) != 1 or any(traces.is_state(name) for name in inputs):
        raise unmatched(ports, outputs)
    for state, name in states.items():
        other = next((each for each in inputs if each in names
                      and outputs[name][1] == ports[each]
                      and rank(each, name) <= rank(state, name)), '')
        if other:
            raise ImportFault(f"'{name}' may be the next value of '{state}' or of '{other}'; name "
                              f"it in an ONNX file after the one, as '{state}_next', or give the "
                              'state another shape')
    return Pairing(inputs, {name: states[name] for name in names if name in states}, left[0])


def unmatched(ports: Mapping[str, Shape], outputs: Mapping[str, tuple[str, Shape]]
              ) -> ImportFault:
    """Return the error for inputs and outputs that are no states of one another."""
    def listed(shapes: Mapping[str, Shape]) -> str:
        return ', '.join(f"'{name}' {list(shape)}" for name, shape in shapes.items())
    given = {name: shape for name, (_, shape) in outputs.items()}
    remedy = ('export it with one output, and for every recurrent state an input and an output '
              'of the same shape: forward(image, h) -> (command, h)')
    if len(outputs) > len(ports):
        name, shape = next(((name, shape) for name, shape in reversed(given.items())
                            if shape not in ports.values()), list(given.items())[-1])
        return ImportFault(f"the network gives {listed(given)}: output '{name}' looks like a "
                           f'state, but no input has its shape {list(shape)}; {remedy}')
    return ImportFault(f'the network takes {listed(ports)} and gives {listed(given)}: a recurrent '
                       f'state is not handed on; {remedy}')


def own_states(program: ImportedProgram) -> ImportedProgram:
    """
    Give each cell a state of its own, where its state is handed on by moving numbers only.

    An exporter's one state of several layers, or two of an LSTM, become one for each cell; what
    nothing reads any more is left out.
    """
    traces = CellTraces(program.operations, {name: each.shape
                                             for name, each in program.states.items()})
    states: dict[str, ImportedState] = {}
    changed: dict[str, ImportedOperation] = {}
    taken = {*program.inputs, *program.states, *(each.name for each in program.operations)}
    owners = {cell.name: [name for name, state in program.states.items()
                          if traces.handed_on(cell, name, state.next).any()]
              for cell in traces.cells}
    for cell in traces.cells:
        parts = [traces.handed_on(cell, name, program.states[name].next)
                 for name in owners[cell.name]]
        if not parts or not torch.stack(parts).any(0).all():
            continue
        name = first = owners[cell.name][0]
        number = 0
        while name in taken or name in states:
            number += 1
            name = f'{first}_{number}'
        states[name] = ImportedState(cell.shape, cell.name)
        changed[cell.name] = replace(cell, of=(cell.of[0], name))
    found = live(replace(
        program, states={**states, **program.states},
        operations=tuple(changed.get(each.name, each) for each in program.operations)))
    # Where one state has taken another's place, it is called so.
    alone = {f'{name}_1': name for name in program.states
             if name not in found.states and f'{name}_2' not in found.states}
    return replace(
        found, states={alone.get(name, name): each for name, each in found.states.items()},
        operations=tuple(replace(each, of=tuple(alone.get(name, name) for name in each.of))
                         for each in found.operations))


def live(program: ImportedProgram) -> ImportedProgram:
    """Leave out operations and states on which no output depends."""
    kept = needed(program.output, program.states, {each.name: each for each in program.operations})
    return replace(
        program, states={name: each for name, each in program.states.items() if name in kept},
        operations=tuple(each for each in program.operations if each.name in kept))


def needed(output: str, states: Mapping[str, ImportedState],
           operations: Mapping[str, ImportedOperation]) -> set[str]:
    """Return what an output depends on, in this frame or by a state, itself included."""
    found: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += ([states[name].next] if name in states else
                        operations[name].of if name in operations else ())
    return found
