"""Which inputs of a traced network are states, which output gives each, and what is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stream_agent.importing.program import (ImportedOperation, ImportedProgram, ImportedState,
                                            ImportFault)
from stream_agent.importing.tracing import Tracer, Value
from stream_agent.network.transforms import Shape
import torch
from torch import Tensor


def outer_size(size: Sequence[int]) -> Shape:
    """Return a traced size without what stands for a sequence of one frame, or one layer."""
    return tuple(size[1:]) if len(size) in (3, 5) and size[0] == size[1] == 1 else tuple(size)


def given_value(tracer: Tracer, name: str, like: Tensor) -> Value:
    """Return an input or a state of a traced size; its first axis of size 1 is the batch."""
    size = outer_size(like.shape)
    axis = next((i for i, length in enumerate(size) if length == 1), None)
    value = tracer.source(name, torch.empty(size, dtype=like.dtype, device='meta'), axis)
    if size == tuple(like.shape):
        return value
    return tracer.reshaped(value, like.shape, 0)


def result_value(tracer: Tracer, value: Value, sources: Sequence[str]) -> Value:
    """Return an output or a new state as an operation gives it, without axes that say nothing."""
    size = outer_size(value.size) or (1,)
    axis = next((i for i, length in enumerate(size) if length == 1 and len(size) > 1), None)
    value = tracer.reshaped(value, size, axis)
    if value.name in sources:
        return tracer.emit('identity', [value], value.like, axis)
    return value


def ends(inputs: Mapping[str, Value], outputs: Sequence[Any]
         ) -> tuple[str, Value, dict[str, Value]]:
    """
    Return the input that is no state, the output that is none, and each state's new value.

    A state is an input of which an output has the shape, in the same order.

    :raises ImportFault: If they do not fit.
    """
    values = [output for output in outputs if isinstance(output, Value)]
    if not values:
        raise ImportFault('the output does not depend on the input; return what forward computes '
                          'from it, as tensors')
    for image in inputs:
        states = [name for name in inputs if name != image]
        for at, output in enumerate(values):
            following = values[:at] + values[at + 1:]
            if [inputs[name].size for name in states] == [each.size for each in following]:
                return image, output, dict(zip(states, following))
    if len(values) > len(inputs):
        number = next((i for i, each in enumerate(values) if i and each.size not in
                       [value.size for value in inputs.values()]), len(inputs))
        raise ImportFault(
            f'output {number + 1}, {list(values[number].size)}, looks like a state, but no input '
            'has its shape; return the command alone, or take the state as an input too')
    first = next(iter(inputs))
    lost = next((name for name, value in inputs.items() if name != first and value.size not in
                 [each.size for each in values]), list(inputs)[-1])
    raise ImportFault(
        f"'{lost}', {list(inputs[lost].size)}, is an input beside '{first}', and no output hands "
        'it on in this shape; if it is a state, return its new value behind the command, else '
        'export the network with one input')


def finished(tracer: Tracer, sources: Mapping[str, Value], image: str, output: Value,
             following: Mapping[str, Any], first: Mapping[str, Tensor]) -> ImportedProgram:
    """
    Return what the output needs of a traced network.

    :param sources: Inputs and states.
    :param following: What each state becomes.
    :param first: Values that states have at first; zeros where it says nothing.
    """
    output = result_value(tracer, output, list(sources))
    states = {}
    for name, value in following.items():
        if not isinstance(value, Value):
            continue  # Only a fault where the output reads the state, below.
        other = [each for each in sources if each != image]
        states[name] = ImportedState(tracer.shapes[name] or (),
                                     result_value(tracer, value, other).name)
    operations, states, read = needed(tracer.operations, states, sources, output.name)
    for name in read - {image}:
        if name not in states:
            raise ImportFault(f"'{name}' is a state that forward sets to a constant; hand on a "
                              'new value')
        given = tracer.by_name.get(states[name].next)
        if given is not None and given.kind == 'identity' and given.of == (name,):
            raise ImportFault(f"'{name}' is a state that comes out as it came in; hand on its new "
                              'value')
        if name in first and first[name].count_nonzero():
            raise ImportFault(f"'{name}' is a buffer that forward overwrites, and its first value "
                              'is not zero; let it start from zeros')
    if image not in read:
        raise ImportFault(f"the output does not depend on '{image}'; return what forward computes "
                          'from it')
    states, operations = layers_apart(states, operations)
    states, operations = cells_together(states, operations)
    operations, states, _ = needed(operations, states, [image, *states], output.name)
    shape = tracer.shapes[image]
    assert shape is not None
    return ImportedProgram({image: shape}, states, tuple(operations), output.name,
                           tuple(tracer.notices))


def needed(operations: Sequence[ImportedOperation], states: Mapping[str, ImportedState],
           sources: Sequence[str] | Mapping[str, Value], output: str
           ) -> tuple[list[ImportedOperation], dict[str, ImportedState], set[str]]:
    """Return the operations and states that the output depends on, and the sources it reads."""
    by_name = {operation.name: operation for operation in operations}
    found: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += by_name[name].of if name in by_name else ()
            waiting += [states[name].next] if name in states else ()
    return ([operation for operation in operations if operation.name in found],
            {name: state for name, state in states.items() if name in found},
            found.intersection(sources))


def layers_apart(states: Mapping[str, ImportedState], operations: Sequence[ImportedOperation]
                 ) -> tuple[dict[str, ImportedState], list[ImportedOperation]]:
    """Make a state of several layers, each read and given by a cell of its own, several states."""
    by_name = {operation.name: operation for operation in operations}
    made = dict(states)
    for name, state in states.items():
        readers = [operation for operation in operations if name in operation.of]
        given = by_name.get(state.next)
        if given is None or given.kind != 'concatenate' or given.options != {'axis': 1} or any(
                reader.kind != 'select' or reader.options['axis'] != 1 for reader in readers):
            continue
        parts = [by_name.get(part) for part in given.of]
        if len(parts) != state.shape[0] or any(
                part is None or part.kind != 'reshape' or part.shape != (1, *state.shape[1:])
                for part in parts):
            continue
        del made[name]
        taken = {*made, *by_name}
        for i, part in enumerate(parts):
            assert part is not None
            layer = free_name(f'{name}_{i}', taken)
            made[layer] = ImportedState(state.shape[1:], part.of[0])
            renamed = {reader.name: layer for reader in readers if reader.options['index'] == i}
            operations = [replace(operation, of=tuple(renamed.get(of, of) for of in operation.of))
                          for operation in operations if operation.name not in renamed]
    return made, list(operations)


def free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += '_'
    taken.add(name)
    return name


def cells_together(states: Mapping[str, ImportedState],
                   operations: Sequence[ImportedOperation]
                   ) -> tuple[dict[str, ImportedState], list[ImportedOperation]]:
    """Make hidden and cell of an LSTM one state of its cell, where nothing else reads them."""
    by_name = {operation.name: operation for operation in operations}
    made, kept = dict(states), list(operations)
    for cell in operations:
        pair = by_name.get(cell.of[1]) if cell.kind == 'lstm_cell' else None
        if pair is None or not all(name in states for name in pair.of) or any(
                operation.name != pair.name and set(pair.of) & set(operation.of)
                for operation in operations):
            continue
        half = cell.shape[0] // 2
        if any(by_name[states[name].next].of != (cell.name,)
               or by_name[states[name].next].options.get('start') != start
               for name, start in zip(pair.of, (0, half))):
            continue
        name = free_name('_'.join(pair.of), {*made, *by_name})
        for each in pair.of:
            del made[each]
        made[name] = ImportedState(cell.shape, cell.name)
        kept = [replace(operation, of=(cell.of[0], name)) if operation.name == cell.name
                else operation for operation in kept if operation.name != pair.name]
    return made, kept
