"""What an importer reads: a network as a list of operations of our vocabulary, with weights."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from stream_agent.network.transforms import Shape
from torch import Tensor


class ImportFault(ValueError):
    """A network that cannot be imported; the message says place, fault and remedy."""


@dataclass(frozen=True)
class ImportedOperation:
    """
    One operation.

    :param name: Unique, of letters, digits and '_'; made of the module's path, where there is one.
    :param kind: A name in ``network.bodies.BODY_OPERATIONS``.
    :param of: What it reads: inputs, states, or earlier operations.
    :param options: Of the kind.
    :param weights: As the kind's module names them, in float32: 'layer.weight', 'weight', 'value'.
    :param module: Dotted path of the module that it comes from; empty for the network itself.
    :param shape: Of what it gives, without batch.
    """

    name: str
    kind: str
    of: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    module: str = ''
    shape: Shape = ()


@dataclass(frozen=True)
class ImportedState:
    """
    A value that the network takes from its last frame; zeros at first.

    :param next: The operation, or the input, that gives its value for the next frame.
    """

    shape: Shape
    next: str


@dataclass(frozen=True)
class ImportedProgram:
    """
    A whole network, for one frame.

    :param inputs: Shapes by name, without batch.
    :param operations: Each after those that it reads.
    :param output: The operation that gives the output.
    :param notices: What the user should know, a sentence each.
    """

    inputs: Mapping[str, Shape]
    states: Mapping[str, ImportedState]
    operations: tuple[ImportedOperation, ...]
    output: str
    notices: tuple[str, ...] = ()


def unused(name: str, taken: Container[str]) -> str:
    """Return a name, with a number behind it if it is taken."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f'{name}_{number}'
    return found
