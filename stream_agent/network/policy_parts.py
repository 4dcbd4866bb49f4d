"""What a policy's file says besides its weights, part by part: checked JSON, and its meaning."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, MISSING
import json
from math import prod
from typing import Any, get_args, get_origin

from stream_agent.bounded_settings import printable
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, Conversion, CONVERSIONS, DepthInput, OutputScale)
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.theory.checks import is_number, nearest, show
from stream_agent.theory.graph import GraphSpec

COPY_AGAIN = 'copy it again from where it comes from, or train again'
#: What makes the numbers of an input, by the ``kind`` that a file gives it.
KINDS: Mapping[str, type] = {'image': Preprocessing, **CONVERSIONS}
# Of a list, as of fields or names; and of a text in it.
MOST_VALUES, LONGEST_TEXT = 100_000, 200


class CheckpointError(ValueError):
    """A file that is not a usable policy; the message says why and what to do."""


def read_json(name: str, text: str) -> dict[str, Any]:
    """Return the JSON object that a part of the metadata is."""
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError('a key is defined twice')
        return found

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f'{name} is not valid JSON ({error}); {COPY_AGAIN}') from None
    return check_object(name, value)


def check_object(name: str, value: Any) -> dict[str, Any]:
    """Return a part of the metadata, or of one, that has keys."""
    if not isinstance(value, dict):
        raise CheckpointError(f'{name} is {show(value)}, not an object {{...}}; {COPY_AGAIN}')
    return value


def check_keys(name: str, found: Iterable[str], needed: Iterable[str],
               optional: Iterable[str] = ()) -> None:
    """Refuse a part of the metadata that lacks a key, or has one that nobody reads."""
    known = (*needed, *optional)
    for key in needed:
        if key not in found:
            raise CheckpointError(f'{name}.{key} is missing; {COPY_AGAIN}')
    for key in found:
        if key not in known:
            raise CheckpointError(f"{name}.{key} is not known ({nearest(key, known, 'keys')}); "
                                  'train with this version, or remove the key')


def made(name: str, kind: type, values: Mapping[str, Any]) -> Any:
    """Make what a part of the metadata stands for, whose keys are those of a dataclass."""
    check_keys(name, values, [field.name for field in fields(kind) if field.default is MISSING],
               [field.name for field in fields(kind) if field.default is not MISSING])
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value
                       for key, value in values.items()})
    except ValueError as error:
        raise CheckpointError(f"{name}: {str(error).removeprefix(f'{name}: ')}; {COPY_AGAIN}"
                              ) from None


# What a field of a conversion may be, by its type: how that is checked, and how it is said.
TYPES: Mapping[Any, tuple[Any, str]] = {
    float: (is_number, 'a number'),
    int: (lambda value: type(value) is int, 'a whole number'),
    str: (lambda value: isinstance(value, str) and printable(value, LONGEST_TEXT) == value,
          f'a text that can be printed, of at most {LONGEST_TEXT} characters'),
}


def check_types(name: str, kind: type, values: Mapping[str, Any]) -> None:
    """Refuse values that are not of the types that a dataclass's fields have."""
    for field in fields(kind):
        if field.name not in values:
            continue
        value, of = values[field.name], field.type
        several = get_origin(of) is tuple
        is_right, said = TYPES[get_args(of)[0] if several else of]
        right = (isinstance(value, list) and len(value) <= MOST_VALUES
                 and all(map(is_right, value)) if several else is_right(value))
        if not right:
            said = f'a list, each {said}' if several else said
            raise CheckpointError(f'{name}.{field.name} is {show(value)}; it is {said}; '
                                  f'{COPY_AGAIN}')


def checked(name: str, kind: type, values: Mapping[str, Any]) -> Any:
    """Make what a part of the metadata stands for, once its values have the right types."""
    check_types(name, kind, values)
    return made(name, kind, values)


def conversion_to_data(conversion: Any) -> dict[str, Any]:
    """Return what a file says of a conversion; the reverse of ``conversion_from_data``."""
    kind = next(kind for kind, each in KINDS.items() if type(conversion) is each)
    return {'kind': kind, **asdict(conversion)}


def conversion_from_data(name: str, data: Any) -> Conversion:
    """
    Return a conversion of a file.

    :param name: Of the part of the metadata.
    :raises CheckpointError: If its kind is unknown, or a value cannot be.
    """
    values = dict(check_object(name, data))
    kind = values.pop('kind', 'image')
    if not isinstance(kind, str) or kind not in KINDS:
        raise CheckpointError(f'{name}.kind is {show(kind)}, which is not known '
                              f"({nearest(str(kind), KINDS, 'kinds')}); train with this version, "
                              'or update stream_agent')
    # An image says by itself what is wrong.
    return (made if kind == 'image' else checked)(name, KINDS[kind], values)


def trigger_of(graph: GraphSpec, others: Mapping[str, Any]) -> str:
    """Return the one input that is not among the others; ValueError if it is not one."""
    left = [name for name in graph.inputs if name not in others]
    unknown = [name for name in others if name not in graph.inputs]
    if unknown:
        raise ValueError(f'inputs.{unknown[0]}: the graph has no such input; '
                         + nearest(unknown[0], graph.inputs, 'inputs'))
    if len(left) != 1:
        raise ValueError(
            f"inputs: {', '.join(left)} are without a conversion of their own; all inputs but the "
            'one that triggers a step need one' if left else
            f"inputs: all of {', '.join(graph.inputs)} are there; the one that triggers a step "
            'belongs in preprocessing')
    return left[0]


def commands_inputs(conversions: Mapping[str, Any]) -> dict[str, CommandsInput]:
    """Return those of a policy's inputs, by name, that are its own last commands."""
    return {name: one for name, one in conversions.items() if isinstance(one, CommandsInput)}


def most_commands(conversions: Mapping[str, Any]) -> int:
    """Return how many of its own last commands a policy reads."""
    return max((one.count for one in commands_inputs(conversions).values()), default=0)


def check_ends(graph: GraphSpec, preprocessing: Conversion,
               others: Mapping[str, Conversion], limits: object) -> None:
    """Refuse a graph whose inputs the conversions do not give, or whose output is no command."""
    try:
        trigger = trigger_of(graph, others)
    except ValueError as error:
        raise CheckpointError(f'{error}; {COPY_AGAIN}') from None
    if isinstance(preprocessing, (AgeInput, CommandsInput)):
        raise CheckpointError(f"preprocessing.kind is '{preprocessing.kind}', which no message "
                              'brings, so that nothing would trigger a step; train a graph whose '
                              'first input is measured')
    check_input('preprocessing', graph, trigger, preprocessing)
    for name, conversion in others.items():
        check_input(f'inputs.{name}', graph, name, conversion)
    output = graph.node(graph.output).shape or ()
    if isinstance(limits, OutputScale):
        if output != (len(limits.names),):
            raise CheckpointError(
                f"limits.names are {len(limits.names)}, and the output '{graph.output}' is "
                f'{list(output)}; {COPY_AGAIN}')
    elif output != (2,):
        raise CheckpointError(
            f"graph.output: '{graph.output}' has the shape {list(output)}; a command is "
            '[2]: speed, yaw rate. Train a graph that ends in such a node')


def check_input(place: str, graph: GraphSpec, name: str, conversion: Conversion) -> None:
    """Refuse a conversion that gives other numbers than an input node takes."""
    taken, output = graph.node(name).shape or (), graph.node(graph.output).shape or ()
    if isinstance(conversion, (Preprocessing, DepthInput)):
        if taken != conversion.shape:
            raise CheckpointError(f'{place}.shape is {list(conversion.shape)}, and the node '
                                  f"'{name}' takes {list(taken)}; {COPY_AGAIN}")
    elif prod(taken) != conversion.size:
        raise CheckpointError(f"{place} gives {conversion.size} numbers, and the node '{name}' "
                              f'takes {list(taken)}; {COPY_AGAIN}')
    if isinstance(conversion, CommandsInput) and conversion.outputs != prod(output):
        raise CheckpointError(f'{place}.outputs is {conversion.outputs}, and the output '
                              f"'{graph.output}' is {list(output)}; {COPY_AGAIN}")
