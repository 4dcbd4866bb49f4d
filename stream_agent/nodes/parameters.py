"""Declaring parameters with their meaning, unit and range."""

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node


def declare(node: Node, name: str, default: Any, description: str, *, low: float | None = None,
            high: float | None = None, read_only: bool = True) -> None:
    """
    Declare one parameter; rclpy refuses values of another type or outside the range.

    :param low: Least value, for numbers; with ``high``.
    :param read_only: Whether only the launch may set it.
    """
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if low is not None and isinstance(default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif low is not None:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    node.declare_parameter(name, default, descriptor)
