"""The names that a graph file may use for transforms, activations, normalisations and cells."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from stream_agent.network.recurrence import Gilr
from stream_agent.theory.graph import GraphError
import torch
from torch import nn, Tensor

Shape = tuple[int, ...]


class Dense(nn.Module):
    """
    Every target feature from every source feature.

    Shapes: (B, *source) to (B, *target).
    """

    def __init__(self, source: Shape, target: Shape) -> None:
        super().__init__()
        self.linear = nn.Linear(prod(source), prod(target))
        self.target = target

    def forward(self, value: Tensor) -> Tensor:
        features = self.linear(value.flatten(1))
        return features if len(self.target) == 1 else features.unflatten(1, self.target)


def maps(shape: Shape) -> int:
    """Return the channels of a feature map."""
    if len(shape) != 3:
        raise GraphError(f'{list(shape)} is not [channels, height, width], which it takes')
    return shape[0]


def convolution(source: Shape, target: Shape, kernel: int = 3, stride: int = 1) -> nn.Module:
    """Return a convolution, padded so that stride 1 keeps the size."""
    return nn.Conv2d(maps(source), maps(target), kernel, stride, padding=(kernel - 1) // 2)


def pooling(source: Shape, target: Shape, kernel: int = 2, kind: str = 'average') -> nn.Module:
    """Return average or maximum pooling over windows side by side."""
    kinds = {'average': nn.AvgPool2d, 'maximum': nn.MaxPool2d}
    maps(source)
    if kind not in kinds:
        raise GraphError(f"no pooling of the kind '{kind}'; kinds are {', '.join(kinds)}")
    return kinds[kind](kernel)


def readout(source: Shape, target: Shape, kernel: int = 1) -> nn.Module:
    """Return a dense layer on averages over windows side by side, for large feature maps."""
    pooled = (maps(source), source[1] // kernel, source[2] // kernel)
    return nn.Sequential(nn.AvgPool2d(kernel), Dense(pooled, target))


def identity(source: Shape, target: Shape) -> nn.Module:
    """Return the source as it is."""
    return nn.Identity()


TRANSFORMS: dict[str, Callable[..., nn.Module]] = {
    'dense': Dense,
    'convolution': convolution,
    'pooling': pooling,
    'readout': readout,
    'identity': identity,
}

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    'identity': nn.Identity,
    'relu': nn.ReLU,
    'leaky_relu': nn.LeakyReLU,
    'elu': nn.ELU,
    'tanh': nn.Tanh,
    'sigmoid': nn.Sigmoid,
}

# Over the features of one sample: the same in training, in batches, and in steps of one frame.
NORMALISATIONS: dict[str, Callable[[Shape], nn.Module]] = {
    'none': lambda shape: nn.Identity(),
    'layer': lambda shape: nn.GroupNorm(1, shape[0]),
}

CELLS: dict[str, Callable[[], nn.Module]] = {
    'gilr': Gilr,
}


def look_up(place: str, kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """Return a table's entry, or say which entries there are."""
    if name not in table:
        raise GraphError(f"{place}: no {kind} named '{name}'; choices are {', '.join(table)}")
    return table[name]


def make_transform(place: str, name: str, source: Shape, target: Shape,
                   options: Mapping[str, Any]) -> nn.Module:
    """
    Make the module of one edge and check by a trial that it yields the target's shape.

    :param place: The edge in the graph file, for messages.
    :param source: Shape of the source, without batch.
    :param target: Shape that the target takes from its edges, without batch.
    """
    maker = look_up(f'{place}.transform', 'transform', name, TRANSFORMS)
    try:
        module = maker(source, target, **options)
        with torch.no_grad():
            found = tuple(module(torch.zeros(1, *source)).shape[1:])
    except (TypeError, RuntimeError, ValueError) as error:
        raise GraphError(f'{place}: {name} of {list(source)} with {dict(options)}: '
                         f'{error}') from None
    if found != target:
        raise GraphError(f'{place}: {name} of {list(source)} gives {list(found)}, but '
                         f'the target takes {list(target)}')
    return module
