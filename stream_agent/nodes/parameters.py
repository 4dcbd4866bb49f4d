"""Parameters: declared with meaning, unit and range, and held against what the user gave."""

from collections.abc import Container, Sequence
from dataclasses import Field
from difflib import get_close_matches
import os
from pathlib import Path
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from stream_agent.bounded_settings import (
    allowed_values, is_allowed, meant, settings_fields, SettingsError)
from stream_agent.contract.contract import Contract, SECTIONS
from stream_agent.share import Given, OLD_PARAMETERS, ParameterFiles

Settings = TypeVar('Settings')
# What our files give to everybody, although simulation, camera and expert do without.
FOR_ALL_OF_OURS = ('camera_period', 'wheel_base', 'max_steering_angle')
# Of this process, which rclpy keeps to itself; it tells values, but not where they come from.
arguments: list[str] = []


def declare(node: Node, item: Field, value: Any, read_only: bool) -> None:
    """
    Declare the parameter of a field; rclpy refuses later values of another type or range.

    :param read_only: Whether only the launch may set it.
    """
    about = item.metadata
    unit = f" [{about['unit']}]" if about.get('unit') else ''
    descriptor = ParameterDescriptor(description=about['meaning'] + unit, read_only=read_only)
    if 'unit' in about and isinstance(value, float):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=about['low'], to_value=about['high'])]
    elif 'unit' in about:
        descriptor.integer_range = [
            IntegerRange(from_value=int(about['low']), to_value=int(about['high']))]
    node.declare_parameter(item.name, value, descriptor, ignore_override=True)


def declare_settings(node: Node, kind: type, changeable: Container[str] = ()) -> None:
    """
    Declare a parameter for every field of a settings dataclass.

    A value that was given by a parameter's name of the release before is taken, with a warning.

    :param changeable: Names that may be set at run time.
    :raises SettingsError: If the launch gave a value that is not allowed.
    """
    given = given_parameters(node)
    for item in settings_fields(kind):
        value = start_value(node, item, given)
        try:
            declare(node, item, list(value) if isinstance(value, tuple) else value,
                    read_only=item.name not in changeable)
        except ParameterException as error:
            raise SettingsError(fault_of(item, value)) from error
    if changeable:
        fields = {item.name: item for item in settings_fields(kind)}
        node.add_pre_set_parameters_callback(lambda changes: [
            as_meant(change, fields) for change in changes])


def declare_contract(node: Node) -> Contract:
    """
    Declare what the contract says, which only the launch may set, and return it.

    :raises ContractError: If it cannot hold.
    """
    given = given_parameters(node)
    contract = Contract.of_given(given)
    for name in given:
        if not is_of_contract(name) or given[name].value is None:
            continue
        section, _, rest = name.partition('.')
        settings = contract.output if section == 'output' else (
            contract.inputs[rest.partition('.')[0]])
        item = next(item for item in settings_fields(settings)
                    if item.name == name.rpartition('.')[2])
        value, about = getattr(settings, item.name), item.metadata
        unit = f" [{about['unit']}]" if about.get('unit') else ''
        node.declare_parameter(
            name, list(value) if isinstance(value, tuple) else value,
            ParameterDescriptor(description=about['meaning'] + unit, read_only=True),
            ignore_override=True)
    return contract


def is_of_contract(name: str) -> bool:
    """Return whether a parameter is one of the contract's, such as inputs.scan.topic."""
    return name.partition('.')[0] in SECTIONS and '.' in name


def as_meant(change: Parameter, fields: dict[str, Field]) -> Parameter:
    """Return a change at run time with a value of the declared type, where it is meant so."""
    item = fields.get(change.name)
    if item is None or not isinstance(item.default, (int, float)):
        return change
    return Parameter(change.name, value=meant(item, change.value, ''))


def start_value(node: Node, item: Field, given: dict[str, Given]) -> Any:
    """
    Return what a field begins with: what was given for it, by either of its names, or its default.

    :raises SettingsError: If the value that was given is not allowed.
    """
    names = [item.name, *(old for old, new in OLD_PARAMETERS.items() if new == item.name)]
    name = next((name for name in names if name in given), None)
    if name is None:
        return item.default
    if name != item.name:
        node.get_logger().warning(f"the parameter '{name}' is called '{item.name}' now; rename "
                                  'it, as the next release refuses the old name')
    value = meant(item, given[name].value, given[name].text)
    # Whoever uses a word knows which ones there are, and says so.
    is_word = isinstance(item.default, str) and isinstance(value, str)
    if given[name].value is None or not (is_word or is_allowed(item, value)):
        raise SettingsError(fault_of(item, value, given[name].place))
    return value


def fault_of(item: Field, value: Any, place: str = '') -> str:
    """Say what is wrong with a value that is not allowed, and in which file."""
    where = f'{place}: ' if place and not place.startswith('-p ') else ''
    return f"{where}{item.name} is {'[]' if value is None else repr(value)}; set it to " + (
        allowed_values(item))


def read_settings(node: Node, kind: type[Settings], changes: Sequence[Parameter] = ()
                  ) -> Settings:
    """
    Make settings of a ROS node's parameters.

    :param changes: Parameters as they would be.
    :raises SettingsError: If they contradict each other.
    """
    changed = {parameter.name: parameter.value for parameter in changes}
    return kind(**{item.name: changed.get(item.name, node.get_parameter(item.name).value)
                   for item in settings_fields(kind)})


def given_parameters(node: Node) -> dict[str, Given]:
    """Return the values from command line and parameter files, declared or not, by name."""
    known = ParameterFiles.of_arguments(arguments).given(node.get_fully_qualified_name())
    found = {}
    # rclpy offers them only by declaring them all, which would hide the misspelt ones.
    for name, parameter in node._parameter_overrides.items():
        value = list(parameter.value) if isinstance(parameter.value, (list, tuple)) or hasattr(
            parameter.value, 'tolist') else parameter.value
        text = [str(one) for one in value] if isinstance(value, list) else str(value)
        found[name] = Given(value, text, '', '', 0)
        # NaN is not equal to itself.
        if name in known and str(known[name].value) == str(value):
            found[name] = known[name]
    return found


def refuse_unknown(node: Node) -> None:
    """
    Refuse what was given to the ROS node, but would have no effect (P5).

    Unknown names are refused, with the nearest one; what came in a section for everybody, such as
    ``/**``, or from a launch file that sets it for everybody, is only warned of. So are values
    refused that ROS overrides by earlier ones, and sections that were meant for this node, but
    are not for its name or namespace.

    :raises ValueError: For the first of them.
    """
    given, files = given_parameters(node), ParameterFiles.of_arguments(arguments)
    process, space = node.get_fully_qualified_name(), node.get_namespace().rstrip('/')
    for sentence in files.ignored(process):
        raise ValueError(f'{node.get_name()}: {sentence}')
    for stray in files.strays(space, [node.get_name()]):
        if stray.meant and stray.nearest == process:
            raise ValueError(f'{node.get_name()}: {stray}')
    # Whoever does not need the contract has it, too, as it is for everybody.
    Contract.of_given(given)
    if 'use_sim_time' in given and not isinstance(given['use_sim_time'].value, bool):
        raise ValueError(f"use_sim_time is {given['use_sim_time'].text}; set it to true or false")
    # rclpy's own, which nobody means.
    known = [name for name in node._parameters if name != 'start_type_description_service']
    for name, value in given.items():
        known_otherwise = (name.startswith('qos_overrides.')
                           or OLD_PARAMETERS.get(name) in node._parameters)
        if node.has_parameter(name) or known_otherwise or is_of_contract(name):
            continue
        (nearest, *_) = get_close_matches(name, known, 1, 0.0)
        place = f' ({value.place})' if value.place[:3] not in ('', '-p ') else ''
        sentence = (f"{node.get_name()}: there is no parameter '{name}'{place}; "
                    f"the nearest is '{nearest}'")
        if not all(is_for_everybody(one) for one in files.sources(process, name) or [value]):
            raise ValueError(sentence)
        if name not in FOR_ALL_OF_OURS:
            node.get_logger().warning(sentence)


def is_for_everybody(given: Given) -> bool:
    """Return whether a value was given to others, too: in a shared section, or by a launch."""
    return given.is_shared and (not given.place.startswith('-p ') or started_by_launch())


def started_by_launch() -> bool:
    """Return whether this process was started by ``ros2 launch`` or a launch file."""
    try:
        words = Path(f'/proc/{os.getppid()}/cmdline').read_text(errors='replace').split('\0')
    except OSError:
        return False
    return 'launch' in words or any(
        word.endswith(('launch.py', 'launch.xml', 'launch.yaml')) for word in words)
