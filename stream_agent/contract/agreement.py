"""Whether a policy and a robot's contract mean the same: before the robot moves."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

from stream_agent.contract.contract import Contract, ContractError
from stream_agent.contract.conversions import OutputScale
from stream_agent.contract.settings import (
    BASE_TYPES, COMPRESSED, IMAGE, InputSettings, of_each, OWN_AGE, OWN_COMMANDS, SCAN,
    VECTOR_TYPES)

#: The message types that a kind of conversion reads; a vector reads all others.
TYPES = {'image': (IMAGE, COMPRESSED), 'depth': (IMAGE,), 'scan': (SCAN,),
         'commands': (OWN_COMMANDS,), 'age': (OWN_AGE,)}
#: What a conversion calls otherwise than the contract.
CONTRACT_WORDS = {'range_max': 'high', 'most': 'high'}


def disagreements(contract: Contract, trigger: str, conversions: Mapping[str, Any], limits: Any
                  ) -> Iterator[str]:
    """
    Yield what keeps a policy from this robot: place, fault and remedy in a sentence each.

    :param trigger: The policy's input that makes the network step.
    :param conversions: Of its inputs, by the names of the input nodes.
    :param limits: Its ``OutputScale``, or the scale of a base's commands.
    """
    named = sources(contract, trigger, conversions)
    for name, conversion in conversions.items():
        yield from input_faults(contract, name, named[name], conversion)
    yield from trigger_faults(contract, trigger, named)
    yield from output_faults(contract, limits)


def sources(contract: Contract, trigger: str, conversions: Mapping[str, Any]) -> dict[str, str]:
    """
    Return which of the contract's inputs feeds each of a policy's, by the policy's names.

    Names are equal, but a policy of one image takes the only camera there is, as networks of
    others and policies of before call their input as they like.
    """
    cameras = [name for name, settings in contract.inputs.items() if settings.is_camera]
    if len(conversions) == 1 and kind_of(conversions[trigger]) == 'image' and (
            trigger not in contract.inputs and len(cameras) == 1):
        return {trigger: cameras[0]}
    return {name: name for name in conversions}


def kind_of(conversion: Any) -> str:
    """Return the kind of a conversion; images have none of their own."""
    return getattr(conversion, 'kind', 'image')


def input_faults(contract: Contract, name: str, source: str, conversion: Any) -> Iterator[str]:
    """Yield what keeps an input of a policy from its topic, that of the input ``source``."""
    settings = contract.inputs.get(source)
    if settings is None:
        near = ''.join(f"rename '{one}' there if that is it, or "
                       for one in get_close_matches(name, contract.inputs, 1))
        yield (f"input '{name}': the policy reads it, and the robot's contract has "
               f"{', '.join(contract.inputs) or 'no inputs'}; "
               f'{near}add to inputs, in the section /** of its file: '
               f'{line_for(name, conversion)}')
        return
    kind, own = kind_of(conversion), sum(TYPES.values(), ())
    allowed = TYPES.get(kind)
    if settings.type not in allowed if allowed else settings.type in own:
        yield (f"{contract.place(f'inputs.{source}.type')}input '{name}': the policy reads "
               f"{in_words(kind)}, and the robot's contract has {settings.type}; set "
               f'inputs.{source}.type to '
               f"{' or '.join(allowed or ('a message with numbers',))}")
    elif kind == 'image' and settings.is_depth:
        yield (f"{contract.place(f'inputs.{source}.high')}input '{name}': the policy reads an "
               "image of a camera, and the robot's contract has depth; leave out units, low and "
               f'high of inputs.{source}, or name another topic')
    elif kind != 'image':
        yield from conversion_faults(contract, name, conversion)


def conversion_faults(contract: Contract, name: str, conversion: Any) -> Iterator[str]:
    """Yield in what the contract's numbers differ from those that the policy was trained with."""
    shape = getattr(conversion, 'shape', (conversion.size,))
    try:
        made: Any = contract.conversion(name, shape)
    except ContractError as fault:
        yield str(fault)
        return
    ours = asdict(made)
    for field, trained in asdict(conversion).items():
        if ours.get(field) != trained:
            word = CONTRACT_WORDS.get(field, field)
            yield (f"{contract.place(f'inputs.{name}.{word}')}input '{name}': {word} is "
                   f"{shown(ours.get(field))} in the robot's contract, and the policy was trained "
                   f'with {shown(trained)}; set inputs.{name}.{word} to {shown(trained)}, or '
                   'train with this contract')


def trigger_faults(contract: Contract, trigger: str, named: Mapping[str, str]) -> Iterator[str]:
    """Yield whether the contract lets another input of the policy make the network step."""
    for name, source in named.items():
        if name != trigger and contract.inputs.get(source, InputSettings()).trigger:
            yield (f"{contract.place(f'inputs.{source}.trigger')}input '{name}' is the trigger of "
                   f"the robot's contract, and the policy was trained to step with '{trigger}'; "
                   f'set inputs.{trigger}.trigger to true and inputs.{source}.trigger to false')


def output_faults(contract: Contract, limits: Any) -> Iterator[str]:
    """Yield why what obeys is not what the policy commands."""
    output, place = contract.output, contract.place('output.type')
    if not isinstance(limits, OutputScale):
        if output.type in VECTOR_TYPES:
            yield (f'{place}output: the policy commands speed and yaw rate of a base, and the '
                   f"robot takes {output.type} for {', '.join(output.names)}; set output.type to "
                   f"{' or '.join(BASE_TYPES)}, or take a policy for these")
        return
    if output.type in BASE_TYPES:
        yield (f"{place}output: the policy commands {', '.join(limits.names)}, and the robot "
               f"takes {output.type}; set output.type to {' or '.join(VECTOR_TYPES)} with these "
               'names')
        return
    if sorted(output.names) != sorted(limits.names):
        yield (f"{contract.place('output.names')}output: the policy commands "
               f"{', '.join(limits.names)}, and the robot's contract "
               f"names {', '.join(output.names)}; set output.names to those of the policy")
        return
    ours = dict(zip(output.names, of_each(output.units, output.names)))
    for name, unit in zip(limits.names, limits.units):
        if ours[name] != unit:
            yield (f"{contract.place('output.units')}output: '{name}' is commanded in {unit} by "
                   f"the policy, and in {ours[name]} by the robot's contract; set output.units to "
                   'what the controller takes, and train with it')


def in_words(kind: str) -> str:
    """Return what a kind of conversion reads."""
    return {'image': 'an image', 'depth': 'a depth image', 'scan': 'a laser scan',
            'commands': 'its own last commands', 'age': 'the age of what triggers it'}.get(
                kind, 'numbers of messages')


def line_for(name: str, conversion: Any) -> str:
    """Return the line of a robot's file that gives a policy its input."""
    kind = kind_of(conversion)
    values: dict[str, Any] = {'type': TYPES.get(kind, ('TYPE',))[0]}
    if kind not in ('commands', 'age'):
        values['topic'] = 'TOPIC'
    if kind != 'image':
        values |= {CONTRACT_WORDS.get(field, field): value
                   for field, value in asdict(conversion).items()
                   if field not in ('shape', 'outputs')}
    if 'high' in values:
        values['high'] = several(values['high'])
    if 'low' in values:
        values['low'] = several(values['low'])
    return f"{name}: {{{', '.join(f'{key}: {shown(value)}' for key, value in values.items())}}}"


def several(value: Any) -> tuple:
    """Return a value as the list that a parameter is."""
    return value if isinstance(value, tuple) else (value,)


def shown(value: Any) -> str:
    """Return a value as it is written in a parameter file."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(shown, value))}]"
    return 'nothing' if value is None else f'{value:.9g}' if isinstance(value, float) and (
        value % 1) else str(value)
