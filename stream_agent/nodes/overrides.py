"""What the user gave as parameters, held against what the ROS node knows (P5)."""

from difflib import get_close_matches

from rclpy.node import Node


def given_parameters(node: Node) -> dict:
    """Return the values from command line and parameter files, declared or not, by name."""
    # rclpy offers them only by declaring them all, which would hide the misspelt ones.
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def refuse_unknown(node: Node) -> None:
    """
    Refuse a parameter that was given, but that the ROS node did not declare.

    :raises ValueError: For the first of them, with the nearest name there is.
    """
    known = list(node._parameters)
    for name in given_parameters(node):
        if not node.has_parameter(name) and not name.startswith('qos_overrides.'):
            (nearest, *_) = get_close_matches(name, known, 1, 0.0)
            raise ValueError(f"{node.get_name()}: there is no parameter '{name}'; "
                             f"the nearest is '{nearest}'")
