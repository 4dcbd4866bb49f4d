"""
The contract: one section of a robot's file, which agent, gate, recorder and tools all read.

In a parameter file it stands under ``/**`` as ``inputs`` and ``output``, so that every process
has it as parameters, such as ``inputs.odometry.topic``; names of inputs are those of the graph's
input nodes. Robots' files without it mean one image and a base, by the parameters of before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, Field, field, replace
from difflib import get_close_matches
import math
import re
from typing import Any

from stream_agent.bounded_settings import (
    allowed_values, is_allowed, meant, printable, settings_fields, SettingsError)
from stream_agent.contract.conversions import (
    AgeInput, CommandsInput, Conversion, ConversionError, DepthInput, OutputScale, ScanInput,
    VectorInput)
from stream_agent.contract.settings import (
    BASE_TYPES, COMPRESSED, did_you_mean, IMAGE, InputSettings, of_each, OutputSettings,
    OWN_AGE, OWN_COMMANDS, VECTOR_TYPES)

SECTIONS = ('inputs', 'output')
#: What images and bases were declared by before there was a contract.
BEFORE = {'image_transport': {'raw': IMAGE, 'compressed': COMPRESSED},
          'command_type': {name: name for name in BASE_TYPES}}
# Fields of an input that mean something for every message, and for each kind of input.
OF_MESSAGES = ('type', 'topic', 'trigger', 'align', 'oldest', 'stamp', 'rate')
MEANT_FOR = {
    'vector': (*OF_MESSAGES, 'fields', 'units', 'low', 'high'),
    'scan': (*OF_MESSAGES, 'units', 'rays', 'angle_min', 'angle_max', 'high', 'invalid'),
    'image': (*OF_MESSAGES, 'units', 'low', 'high', 'invalid'),
    'commands': ('type', 'count'),
    'age': ('type', 'units', 'high')}
OF_BASES = ('type', 'topic')


class ContractError(ValueError):
    """A contract that cannot hold; the message says place, fault and remedy."""


@dataclass(frozen=True)
class Contract:
    """
    What a robot gives and takes.

    :param given: Whether a file says it; else it is the contract of before.
    :param places: FILE:LINE of the parameters that said it, for errors.
    :raises ContractError: If none or several of the inputs make the network step, or two want
        different messages of one topic.
    """

    inputs: Mapping[str, InputSettings]
    output: OutputSettings
    given: bool = True
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        chosen = [name for name, one in self.inputs.items() if one.trigger]
        if len(chosen) > 1:
            raise ContractError(
                f'{self.place(f"inputs.{chosen[1]}.trigger")}inputs.{chosen[0]} and '
                f'inputs.{chosen[1]} are both the trigger; leave `trigger: true` to one')
        types: dict[str, tuple[str, str]] = {}
        for name, one in self.inputs.items():
            other, kind = types.setdefault(one.topic, (name, one.type))
            if one.topic and kind != one.type:
                raise ContractError(
                    f'{self.place(f"inputs.{name}.type")}inputs.{name} takes {one.type} from the '
                    f'topic {one.topic}, and inputs.{other} takes {kind}; a topic has one type')
        self.trigger  # which is refused where it is not known

    @classmethod
    def of_values(cls, values: Mapping[str, Any], places: Mapping[str, str] = {},
                  texts: Mapping[str, Any] = {}) -> 'Contract':
        """
        Make a contract of parameters by their names, such as 'inputs.odometry.topic'.

        Where none begins with 'inputs.' or 'output.', it is made of the parameters of before:
        image_transport, command_type, and image_topic and cmd_vel_topic, by which a launch file
        remaps the topics. Other parameters are left alone.

        :param places: FILE:LINE of each, for errors.
        :param texts: Of each as it is written, which a text is: a joint may be called 7.
        :raises ContractError: If a name is unknown, a value not allowed, or two contradict.
        """
        read = _Reading(values, places, texts)
        inputs, output = read.inputs(), read.output()
        given = bool(inputs or output)
        if inputs and not output:
            raise ContractError(f'{read.at(next(iter(inputs.values())))}the contract has inputs, '
                                'but no output; write `output: {type: twist_stamped, topic: '
                                'cmd_vel}` beside them, or what else obeys')
        # Whoever uses these two says so where one of them is an unknown word.
        transport, command_type = (known.get(str(values.get(name)))
                                   for name, known in BEFORE.items())
        found = {name: read.settings(InputSettings, f'inputs.{name}.', fields)
                 for name, fields in (inputs or {'image': {
                     'topic': 'image_topic'} if 'image_topic' in read.values else {}}).items()}
        if not inputs:
            found['image'] = replace(
                found['image'], type=transport or IMAGE, trigger=True,
                topic=found['image'].topic + '/compressed' * (transport == COMPRESSED))
        for name, old in (('type', 'command_type' * bool(command_type)),
                          ('topic', 'cmd_vel_topic')):
            if name not in output and old in read.values:
                output[name] = old
        obeys = read.settings(OutputSettings, 'output.', output)
        made = cls(found, obeys, given, dict(places))
        read.refuse_others(made, inputs, output)
        return made

    @classmethod
    def of_given(cls, given: Mapping[str, Any]) -> 'Contract':
        """Make a contract as ``of_values`` does, of parameters as ``ParameterFiles`` has them."""
        return cls.of_values(*({name: getattr(one, part) for name, one in given.items()}
                               for part in ('value', 'place', 'text')))

    @property
    def camera(self) -> InputSettings | None:
        """Return the camera, which is the trigger if there are several; None without one."""
        cameras = [one for one in self.inputs.values() if one.is_camera]
        return next((one for one in cameras if one.trigger), None) or next(iter(cameras), None)

    @property
    def image_topic(self) -> str:
        """Return the camera's topic as launch files take it: without /compressed; '' if none."""
        camera = self.camera
        return '' if camera is None else camera.topic if camera.type == IMAGE else (
            camera.topic.removesuffix('/compressed'))

    @property
    def trigger(self) -> str:
        """
        Return the name of the input that usually makes the network step.

        That is the one which says so, else the only camera, else the only one with a topic.
        """
        candidates = [name for name, one in self.inputs.items() if one.trigger] or [
            name for name, one in self.inputs.items() if one.is_camera] or [
            name for name, one in self.inputs.items() if not one.is_own]
        if len(candidates) == 1:
            return candidates[0]
        place = self.place(f"inputs.{next(iter(self.inputs), '')}.type")
        if candidates:
            raise ContractError(f'{place}the contract has the inputs {", ".join(candidates)}, and '
                                'none says that its messages make the network step; write '
                                '`trigger: true` in one of them')
        raise ContractError(f'{place}the contract has no input with a topic, so nothing would '
                            'make the network step; add one, such as a camera')

    def place(self, name: str) -> str:
        """Return ``FILE:LINE: `` of a parameter, such as 'inputs.scan.type', or ''."""
        return place_in(self.places, name)

    def conversion(self, name: str, shape: Sequence[int]) -> Conversion:
        """
        Return what makes the numbers of an input node (not for images of cameras).

        :param shape: Of the node.
        :raises ContractError: If the contract has no such input, or gives it another size.
        """
        if name not in self.inputs:
            raise ContractError(f"the contract has no input '{name}'"
                                f'{did_you_mean(name, self.inputs)}')
        found, size = self.inputs[name], math.prod(shape)
        if found.is_camera:
            raise ContractError(f"{self.place(f'inputs.{name}.type')}the input '{name}' is a "
                                "camera's image, which network.preprocessing converts; for "
                                'depth write units: [m] and high')
        try:
            made = conversion_of(found, tuple(shape), self.output.size)
        except ConversionError as error:
            raise ContractError(f"{self.place(f'inputs.{name}.type')}the input '{name}': {error}"
                                ) from error
        if made.size != size:
            by = {'vector': 'fields', 'scan': 'rays', 'commands': 'count'}.get(found.kind, 'type')
            raise ContractError(
                f"{self.place(f'inputs.{name}.{by}')}the input '{name}' has {made.size} values by "
                f'its {by}, but the input node of the network has {size} {list(shape)}; give both '
                'the same')
        return made

    def output_scale(self) -> OutputScale:
        """Return what a network's outputs mean, for vector types: from lowest to highest."""
        if not self.output.is_vector:
            raise ContractError(f"{self.place('output.type')}output.type is {self.output.type}, "
                                'whose scale is the greatest speed and yaw rate; a vector has '
                                f'one of {", ".join(VECTOR_TYPES)}')
        names = self.output.names
        return OutputScale(names, of_each(self.output.units, names),
                           of_each(self.output.lowest, names), of_each(self.output.highest, names))


def conversion_of(found: InputSettings, shape: tuple[int, ...], outputs: int) -> Conversion:
    """
    Return the conversion that an input's settings mean.

    :param outputs: Of the network, for its own commands.
    """
    if found.kind == 'commands':
        return CommandsInput(found.count, outputs)
    if found.kind == 'age':
        return AgeInput(found.high[0])
    invalid = found.invalid
    if found.kind == 'vector':
        return VectorInput(found.fields, *(of_each(values, found.fields) for values in (
            found.units, found.low, found.high)))
    if invalid < 0:
        invalid = found.high[0]
    if found.kind == 'scan':
        return ScanInput(found.rays or math.prod(shape), found.angle_min, found.angle_max,
                         found.high[0], invalid)
    return DepthInput(shape, found.low[0] if found.low else 0.0, found.high[0], invalid)


class _Reading:
    """The parameters of a contract while it is read: by which names they are, and where."""

    def __init__(self, values: Mapping[str, Any], places: Mapping[str, str],
                 texts: Mapping[str, Any]) -> None:
        # An empty list unsets a parameter.
        self.values = {name: value for name, value in values.items() if value is not None}
        self.places, self.texts = places, texts

    def at(self, name: str | Mapping[str, str]) -> str:
        """Return the place of a parameter, or of the first of several."""
        return place_in(self.places, name if isinstance(name, str) else next(iter(name.values())))

    def text(self, name: str, usual: str) -> str:
        """Return a parameter as it is written."""
        return str(self.texts.get(name, self.values.get(name, usual)))

    def inputs(self) -> dict[str, dict[str, str]]:
        """Return names of parameters by input and field."""
        found: dict[str, dict[str, str]] = {}
        for name in self.values:
            if name == 'inputs' or re.fullmatch(r'inputs\.[^.]*', name):
                raise ContractError(f'{self.at(name)}{name} is a value, where fields are expected'
                                    f"; write {'NAME' if name == 'inputs' else name[7:]}: "
                                    '{type: TYPE, topic: TOPIC}')
            head, dot, _ = name.partition('.')
            if dot and head not in SECTIONS and get_close_matches(head, SECTIONS, 1, 0.8):
                raise ContractError(f"{self.at(name)}there is no section '{head}'"
                                    f'{did_you_mean(head, SECTIONS)}')
            if head == 'inputs':
                _, own, item = name.split('.', 2)
                found.setdefault(own, {})[item] = name
        return found

    def output(self) -> dict[str, str]:
        """Return names of parameters by field of the output."""
        return {name[7:]: name for name in self.values if name.startswith('output.')}

    def settings(self, kind: type, prefix: str, given: Mapping[str, str]) -> Any:
        """Make settings of what is given for their fields; of others their default holds."""
        fields = {item.name: item for item in settings_fields(kind)}
        chosen = {}
        for name, parameter in given.items():
            if name not in fields:
                raise ContractError(f"{self.at(parameter)}{prefix[:-1]} has no field '{name}'"
                                    f'{did_you_mean(name, fields)}')
            chosen[name] = self.value(fields[name], parameter)
        if kind is InputSettings and 'topic' not in chosen and chosen.get('type') not in (
                OWN_COMMANDS, OWN_AGE):
            chosen['topic'] = prefix.split('.')[1]
        try:
            made = kind(**chosen)
        except SettingsError as error:
            item = str(error).partition(' ')[0]
            parameter = given.get(item, next(iter(given.values()), ''))
            raise ContractError(f'{self.at(parameter)}{prefix}{error}') from error
        self.refuse_unread(made, prefix, given)
        return made

    def value(self, item: Field, parameter: str) -> Any:
        """Return the value of a field as the kind of value that it has."""
        value = self.values[parameter]
        text = self.texts.get(parameter, list(map(str, value)) if isinstance(value, (list, tuple))
                              else str(value))
        value = meant(item, value, text)
        if not is_allowed(item, value):
            raise ContractError(f'{self.at(parameter)}{parameter} is {printable(repr(value))}; '
                                f'set it to {allowed_values(item)}')
        return value

    def refuse_others(self, made: Contract, inputs: Mapping, output: Mapping) -> None:
        """Refuse parameters of before that say otherwise than the contract does."""
        camera = made.camera
        for name, said, is_given in (
                ('image_transport', camera and camera.type, inputs),
                ('image_topic', made.image_topic, inputs),
                ('command_type', made.output.type, 'type' in output),
                ('cmd_vel_topic', made.output.topic, 'topic' in output)):
            value = self.text(name, '')
            if said and is_given and value and BEFORE.get(name, {}).get(value, value) != said:
                raise ContractError(f'{self.at(name)}{name} is {value}, but the contract says '
                                    f'{said}; leave {name} out')

    def refuse_unread(self, made: Any, prefix: str, given: Mapping[str, str]) -> None:
        """Refuse fields that mean nothing for the type, as whoever wrote them means something."""
        if isinstance(made, InputSettings):
            known: Sequence[str] = MEANT_FOR[made.kind]
        elif made.is_vector:
            return
        else:
            known = OF_BASES
        for name, parameter in given.items():
            if name not in known:
                remedy = ('; the limits of a base are those of the gate, such as max_speed'
                          if prefix == 'output.' else '')
                raise ContractError(f'{self.at(parameter)}{prefix}{name} means nothing for '
                                    f'{made.type}; leave it out{remedy}')


def place_in(places: Mapping[str, str], name: str) -> str:
    """Return ``FILE:LINE: `` of a parameter, or ''."""
    return f'{places[name]}: ' if places.get(name) else ''
