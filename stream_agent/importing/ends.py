"""Which inputs of a traced network are states, which output gives each, and what is needed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stream_agent.importing.program import ImportedProgram, ImportedState, ImportFault
from stream_agent.importing.states import live, matched, Pairing
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


def result_value(tracer: Tracer, value: Value, sources: Collection[str]) -> Value:
    """Return an output or a new state as an operation gives it, without axes that say nothing."""
    size = outer_size(value.size) or (1,)
    axis = next((i for i, length in enumerate(size) if length == 1 and len(size) > 1), None)
    value = tracer.reshaped(value, size, axis)
    if value.name in sources:
        return tracer.emit('identity', [value], value.like, axis)
    return value


def paired(tracer: Tracer, inputs: Mapping[str, Value], outputs: Sequence[Value | None]
           ) -> Pairing:
    """
    Return which inputs are no states, and which output, counted from 1, each state's next value.

    :param outputs: None for what depends on no input.
    :raises ImportFault: If they do not fit.
    """
    found = {str(number): value for number, value in enumerate(outputs, 1) if value is not None}
    if not found:
        raise ImportFault('the output does not depend on the input; return what forward computes '
                          'from it, as tensors')
    # Outputs have no names; in the order of the states, as where forward returns (command, h).
    names = [*found] if len(found) != len(inputs) else \
        [next(iter(found)), *[*inputs][1:]]
    numbers = dict(zip(names, found))
    pairing = matched(
        tracer.operations, {name: tracer.shapes[name] or () for name in inputs},
        {name: (value.name, value.shape) for name, value in zip(names, found.values())},
        list(inputs))
    return Pairing(pairing.inputs, {name: numbers[output]
                                    for name, output in pairing.states.items()},
                   numbers[pairing.output])


def finished(tracer: Tracer, inputs: Sequence[str], output: Value,
             following: Mapping[str, Any], first: Mapping[str, Tensor]) -> ImportedProgram:
    """
    Return what the output needs of a traced network.

    :param inputs: Those that are no states.
    :param following: What each state becomes.
    :param first: Values that states have at first; zeros where it says nothing.
    """
    states = {name: ImportedState(tracer.shapes[name] or (), value.name)
              for name, value in following.items() if isinstance(value, Value)}
    shapes = {name: tracer.shapes[name] or () for name in inputs}
    program = live(ImportedProgram(shapes, states, tuple(tracer.operations), output.name,
                                   tuple(tracer.notices)))
    read = {name for operation in program.operations for name in operation.of}
    for name in following.keys() & read:
        given = tracer.by_name.get(states[name].next) if name in states else None
        if name not in states or given is not None and given.kind == 'identity' and \
                given.of == (name,):
            raise ImportFault(f"the state '{name}' is not handed on: forward gives it as it came, "
                              'or a constant; return its new value')
        if name in first and first[name].count_nonzero():
            raise ImportFault(f"'{name}' is a buffer that forward overwrites, and its first value "
                              'is not zero; let it start from zeros')
    read |= {state.next for state in program.states.values()}
    for name in inputs:
        if name not in read:
            raise ImportFault(f"the output does not depend on '{name}'; return what forward "
                              'computes from it' + (', or leave the input out'
                                                    if len(inputs) > 1 else ''))
    return program
