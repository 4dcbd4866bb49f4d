"""Checks of nodes, edges and graphs, made whenever one is created."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter
import json
from math import isfinite, lcm
import re
from typing import Any, NamedTuple


class GraphError(ValueError):
    """A graph that cannot be built; the message says where, what, and what would be right."""


def show(value: Any) -> str:
    """Return a value as its user wrote it, shortened."""
    if isinstance(value, str):
        text = f"'{value}'"
    else:
        text = 'empty' if value is None else json.dumps(value, default=str)
    return text if len(text) <= 60 else f'{text[:57]}...'


def nearest(name: str, choices: Iterable[str], kind: str, cutoff: float = 0.6) -> str:
    """
    Return the remedy for a name that does not exist: the nearest one, or which ones there are.

    :param kind: What the choices are, in the plural.
    :param cutoff: Similarity that counts as near, from 0 to 1 for the same name.
    """
    choices = list(dict.fromkeys(choices))
    by_lower = {choice.lower(): choice for choice in choices[:2000]}
    near = get_close_matches(name.lower(), by_lower, 1, cutoff) or [
        lower for lower in by_lower if lower.endswith(f'_{name.lower()}')]
    if near:
        return f"did you mean '{by_lower[near[0]]}'?"
    if not choices:
        return f'there are no {kind}'
    more = ', ...' if len(choices) > 12 else ''
    return f"{kind} are {', '.join(choices[:12])}{more}"


MAX_HYPERPERIOD = 1000
# Nodes and edges times frames: what is counted frame by frame takes seconds beyond.
MOST_WORK = 3_000_000
NAME = re.compile(r'[A-Za-z_]\w*')


def is_number(value: Any) -> bool:
    """Return whether a value is a number that a float can be; true and false are not."""
    try:
        return type(value) in (int, float) and isfinite(value)
    except OverflowError:
        return False


def is_shape(value: Any) -> bool:
    """Return whether a value is the shape of a node, or None."""
    return value is None or (isinstance(value, (list, tuple)) and len(value) in (1, 2, 3)
                             and all(type(size) is int and size > 0 for size in value))


def is_label(value: Any) -> bool:
    """Return whether a value is a name, or empty."""
    return isinstance(value, str) and bool(value == '' or NAME.fullmatch(value))


def is_text(value: Any) -> bool:
    """Return whether a value is text."""
    return isinstance(value, str)


# What every setting has to be: how that is checked, and how it is said.
SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    'shape': (is_shape, '[features], [tokens, features] or [channels, height, width], all '
              'positive whole numbers'),
    'channels': (lambda value: type(value) is int and value >= 0,
                 'a whole number, or 0 if the edges say how many'),
    'activation': (is_text, 'the name of one, such as relu'),
    'transform': (is_text, 'the name of one, such as dense'),
    'streams': (lambda value: type(value) is bool, 'true or false'),
    'normalisation': (is_text, 'the name of one, such as layer'),
    'cell': (is_text, 'the name of one, such as gilr'),
    'dropout': (lambda value: is_number(value) and 0 <= value < 1,
                'a probability from 0 to below 1'),
    'noise': (lambda value: is_number(value) and value >= 0, 'a standard deviation, 0 or more'),
    'body': (lambda value: isinstance(value, (list, tuple)) and all(
                 isinstance(step, Mapping) and is_text(step.get('kind')) for step in value),
             'a list of operations, each {name, kind, of, and the options of its kind}'),
    'period': (lambda value: type(value) is int and 1 <= value <= MAX_HYPERPERIOD,
               f'a whole number of frames from 1 to {MAX_HYPERPERIOD}'),
    'offset': (lambda value: type(value) is int and value >= 0,
               'a whole number of frames, from 0 to below the period'),
    'share': (is_label, "a label of letters, digits and '_'"),
    'product': (is_label, "a label of letters, digits and '_'"),
}


# Of a size, an axis, an index; what fits into memory is seen when it is tried.
MOST_WHOLE = 2**31 - 1


def are_whole(value: Any, least: int) -> bool:
    """Return whether a value is a list of whole numbers from the least one on."""
    return isinstance(value, (list, tuple)) and all(
        type(each) is int and least <= each <= MOST_WHOLE for each in value)


# What float32 holds.
LARGEST = (2 - 2**-23) * 2.0**127


def is_float(value: Any) -> bool:
    """Return whether a value is a number that a weight could be."""
    return is_number(value) and abs(value) <= LARGEST


Setting = tuple[Callable[[Any], bool], str]
COUNT: Setting = (lambda value: are_whole([value], 1), 'a whole number of 1 or more')
COUNTS: Setting = (lambda value: are_whole(value, 1) and len(value) <= 2,
                   'a list of up to 2 whole numbers of 1 or more')
SIZES: Setting = (lambda value: are_whole(value, 1) and len(value) in (1, 2),
                  'a list of 1 or 2 whole numbers of 1 or more')
WHOLE: Setting = (lambda value: are_whole([value], -MOST_WHOLE), 'a whole number')
WHOLES: Setting = (lambda value: are_whole(value, -MOST_WHOLE), 'a list of whole numbers')
SWITCH: Setting = (lambda value: type(value) is bool, 'true or false')

#: What the options of a body's operations have to be, as ``SETTINGS``.
OPTIONS: dict[str, Setting] = {
    **dict.fromkeys(('channels', 'features', 'groups', 'length', 'step', 'divisor'), COUNT),
    **dict.fromkeys(('kernel', 'size'), SIZES),
    **dict.fromkeys(('stride', 'dilation'), COUNTS),
    **dict.fromkeys(('axis', 'start', 'index'), WHOLE),
    **dict.fromkeys(('shape', 'axes', 'padding', 'output_padding'), WHOLES),
    **dict.fromkeys(('bias', 'ceil', 'include_pad', 'keep', 'causal', 'corners'), SWITCH),
    **dict.fromkeys(('factor', 'offset', 'low', 'high', 'slope', 'alpha', 'eps', 'exponent',
                     'filling'), (is_float, 'a number that float32 holds')),
    'scale': (lambda value: all(map(is_float, value if isinstance(value, (list, tuple))
                                    else [value])), 'a number, or a list of numbers'),
    **dict.fromkeys(('mode', 'approximate'), (is_text, 'the name of one')),
}


class BodyStep(NamedTuple):
    """
    One operation of a body.

    :param of: What it reads: sources of the node, or steps above.
    """

    name: str
    kind: str
    of: tuple[str, ...]
    options: Mapping[str, Any]


def body_steps(place: str, body: Iterable[Mapping], sources: Sequence[str], kinds: Iterable[str]
               ) -> list[BodyStep]:
    """
    Read the body of a node.

    :param body: Maps {name, kind, of, and the options of the kind}.
    :param sources: Of the node's operand edges.
    :param kinds: The vocabulary.
    :raises GraphError: If it is not valid.
    """
    steps: list[BodyStep] = []
    known = dict.fromkeys(sources)
    for number, item in enumerate(body):
        at = f'{place}: body[{number}]'
        options = dict(item)
        name, kind, of = (options.pop(key, None) for key in ('name', 'kind', 'of'))
        of = [] if of is None else of
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in known:
            raise GraphError(f'{at}: {show(name)} is not a new name of letters, digits and '
                             "'_'; choose another one")
        if kind not in kinds:
            raise GraphError(f'{at}: no operation named {show(kind)}; '
                             + nearest(str(kind), kinds, 'operations'))
        if not isinstance(of, (list, tuple)):
            raise GraphError(f'{at}: of is {show(of)}; it has to be a list of names')
        for source in of:
            if not isinstance(source, str) or source not in known:
                raise GraphError(f'{at}: of: {show(source)} is neither an operand of the node '
                                 f"nor an operation above; {nearest(str(source), known, 'those')}")
        steps.append(BodyStep(name, kind, tuple(of), options))
        known[name] = None
    return steps


def check_step(step: BodyStep, operands: int | None, defaults: Mapping[str, Any]) -> None:
    """
    Refuse an operation of a body that reads too much or too little, or with other options.

    :param operands: How many values its kind reads; None for any number above 0.
    :param defaults: Of all its options; ``Parameter.empty`` for those that have to be given.
    """
    if len(step.of) != operands if operands is not None else not step.of:
        raise GraphError(f'it reads {len(step.of)} values, and takes '
                         f"{'at least 1' if operands is None else operands}; change 'of'")
    for key, default in defaults.items():
        if default is Parameter.empty and key not in step.options:
            raise GraphError(f"the option '{key}' is missing; give {OPTIONS[key][1]}")
    for key, value in step.options.items():
        if key not in defaults:
            raise GraphError(f"no option is called '{key}'; "
                             + nearest(str(key), defaults, 'options'))
        holds, right = OPTIONS[key]
        if not holds(value) and not (value is None and defaults[key] is None):
            raise GraphError(f'{key} is {show(value)}; it has to be {right}')


def check_setting(place: str, owner: str, key: str, value: Any) -> None:
    """Refuse a value that a setting of its owner, a node or an edge, cannot have."""
    holds, right = SETTINGS[key]
    if not holds(value):
        raise GraphError(f"{place}: {key} of '{owner}' is {show(value)}; it has to be {right}")


def check_settings(spec: Any) -> None:
    """Refuse the settings of a node or an edge that are not valid by themselves."""
    for key in SETTINGS:
        if hasattr(spec, key):
            check_setting(spec.place, spec.name, key, getattr(spec, key))


def check_node(node: Any) -> None:
    """Refuse the settings of a node that are not valid, alone or together."""
    if not isinstance(node.name, str) or not NAME.fullmatch(node.name):
        raise GraphError(f'{node.place}: {show(node.name)} is not a name for a node; use letters, '
                         "digits and '_', with no digit in front")
    check_settings(node)
    if node.offset >= node.period:
        raise GraphError(f"{node.place}: offset of '{node.name}' is {node.offset}; it has to be "
                         f'below the period, which is {node.period}')
    if node.body and not node.shape:
        raise GraphError(f"{node.place}: '{node.name}' has a body and no shape; write its shape")
    if node.shape and node.channels not in (0, node.shape[0]):
        raise GraphError(f"{node.place}: channels of '{node.name}' is {node.channels}, but its "
                         f'shape is {show(node.shape)}; leave one of them out')


def check_unique(kind: str, specs: Iterable[Any]) -> None:
    """Refuse a second node or edge of the same name."""
    first: dict[str, str] = {}
    for spec in specs:
        if spec.name in first:
            where = (f'already defined at {first[spec.name]}'
                     if first[spec.name] != spec.place else 'defined twice')
            raise GraphError(f"{spec.place}: the {kind} '{spec.name}' is {where}; "
                             'leave one of them out')
        first[spec.name] = spec.place


def check_ends(nodes: Iterable[Any], edges: Iterable[Any]) -> None:
    """Refuse edges from or to nodes that do not exist."""
    names = dict.fromkeys(node.name for node in nodes)
    for edge in edges:
        for name in (edge.source, edge.target):
            if name not in names:
                raise GraphError(f"{edge.place}: no node named '{name}'; "
                                 + nearest(name, names, 'nodes'))


def check_output(place: str, output: Any, names: list[str], inputs: Iterable[str]) -> None:
    """Refuse an output that is not a node, or that is an input."""
    if output not in names:
        raise GraphError(f'{place}: no node named {show(output)}; '
                         + nearest(str(output), names, 'nodes'))
    if output in inputs:
        raise GraphError(f'{place}: {show(output)} is an input; name a node that is computed')


def check_fed(graph: Any, fed: set[str]) -> None:
    """Refuse nodes that no input feeds: a network computes every node from its inputs."""
    for node in graph.nodes:
        if node.name not in fed:
            inputs = f"inputs are {', '.join(graph.inputs)}" if graph.inputs else (
                'there are no inputs, which are the nodes without incoming edges')
            raise GraphError(f"{node.place}: '{node.name}' is not reachable from an input; add an "
                             f'edge that leads to it ({inputs})')


def check_work(graph: Any, frames: int) -> None:
    """
    Refuse to follow a graph through so many frames that it would take over a few seconds.

    :raises GraphError: With what would do.
    """
    size = len(graph.nodes) + len(graph.edges)
    if frames * size > MOST_WORK:
        raise GraphError(
            f'{graph.place}: {frames} frames of {len(graph.nodes)} nodes and {len(graph.edges)} '
            f'edges are too many to count; {MOST_WORK // size} are the most. Let fewer edges '
            'stream (--pattern sequential), take shorter periods, or a smaller graph')


def check_rates(graph: Any) -> None:
    """Refuse inputs that are not new in every frame, and schedules that hardly repeat."""
    hyperperiod = 1
    for node in graph.nodes:
        if node.period != 1 and node.name in graph.inputs:
            raise GraphError(f"{node.place}: period of '{node.name}' is {node.period}, but an "
                             'input is new in every frame; leave it out')
        hyperperiod = lcm(hyperperiod, node.period)
        if hyperperiod > MAX_HYPERPERIOD:
            raise GraphError(f"{node.place}: with the period {node.period} of '{node.name}', the "
                             f'periods repeat after {hyperperiod} frames together, over '
                             f'{MAX_HYPERPERIOD}; take periods that divide each other')
