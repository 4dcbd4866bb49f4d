"""Parameters: declared with meaning, unit and range, and held against what the user gave."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import Field
from difflib import get_close_matches
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from stream_agent.bounded_settings import (
    allowed_values, is_allowed, settings_fields, SettingsError)
from stream_agent.share import OLD_PARAMETERS

Settings = TypeVar('Settings')


def declare(node: Node, item: Field, default: Any, read_only: bool) -> None:
    """
    Declare the parameter of a field; rclpy refuses values of another type or outside the range.

    :param read_only: Whether only the launch may set it.
    """
    about = item.metadata
    unit = f" [{about['unit']}]" if about.get('unit') else ''
    descriptor = ParameterDescriptor(description=about['meaning'] + unit, read_only=read_only)
    if 'unit' in about and isinstance(default, float):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=about['low'], to_value=about['high'])]
    elif 'unit' in about:
        descriptor.integer_range = [
            IntegerRange(from_value=int(about['low']), to_value=int(about['high']))]
    node.declare_parameter(item.name, default, descriptor)


def declare_settings(node: Node, kind: type, changeable: Container[str] = ()) -> None:
    """
    Declare a parameter for every field of a settings dataclass.

    A value that was given by a parameter's name of the release before is taken, with a warning.

    :param changeable: Names that may be set at run time.
    :raises SettingsError: If the launch gave a value that is not allowed.
    """
    given = given_parameters(node)
    for item in settings_fields(kind):
        default = default_of(node, item, given)
        try:
            declare(node, item, default, read_only=item.name not in changeable)
        except ParameterException as error:
            raise SettingsError(fault_of(item, given[item.name])) from error


def default_of(node: Node, item: Field, given: Mapping[str, Any]) -> Any:
    """Return a field's default, or what was given by its name of the release before."""
    for old, new in OLD_PARAMETERS.items():
        if new == item.name and old in given:
            node.get_logger().warning(f"the parameter '{old}' is called '{new}' now; rename it, "
                                      'as the next release refuses the old name')
            if not is_allowed(item, given[old]):
                raise SettingsError(fault_of(item, given[old]))
            return given[old]
    return list(item.default) if isinstance(item.default, tuple) else item.default


def fault_of(item: Field, value: Any) -> str:
    """Say what is wrong with a value that rclpy has refused."""
    if is_allowed(item, value):
        # What remains is a whole number where rclpy wants a decimal point.
        return f'{item.name} is {value!r}; write it as {float(value)!r}'
    return f'{item.name} is {value!r}; set it to {allowed_values(item)}'


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


def given_parameters(node: Node) -> dict[str, Any]:
    """Return the values from command line and parameter files, declared or not, by name."""
    # rclpy offers them only by declaring them all, which would hide the misspelt ones.
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def refuse_unknown(node: Node) -> None:
    """
    Refuse a parameter that was given, but that the ROS node did not declare (P5).

    :raises ValueError: For the first of them, with the nearest name there is.
    """
    known = list(node._parameters)
    for name in given_parameters(node):
        known_otherwise = (name.startswith('qos_overrides.')
                           or OLD_PARAMETERS.get(name) in node._parameters)
        if not node.has_parameter(name) and not known_otherwise:
            (nearest, *_) = get_close_matches(name, known, 1, 0.0)
            raise ValueError(f"{node.get_name()}: there is no parameter '{name}'; "
                             f"the nearest is '{nearest}'")
