"""
Bodies: what a node makes of its operands where a sum of transformed edges does not say it.

A body is a list of operations of the vocabulary ``BODY_OPERATIONS``, each of which names what it
reads: sources of the node's operand edges, or operations above it. The last one gives the node's
value. Shapes have no batch axis; axes are counted as torch does, with the batch as axis 0.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
import inspect
import operator
from typing import Any

from stream_agent.network.transforms import GroupNorm, Shape
from stream_agent.theory.checks import BodyStep, check_step, OPTIONS
import torch
from torch import nn, Tensor
from torch.nn import functional


class Convolution(nn.Module):
    """
    A convolution over one or two axes.

    :param padding: Zeros before each axis, then behind each: top, left, bottom, right.
    """

    def __init__(self, source: Shape, channels: int, kernel: Sequence[int],
                 stride: Sequence[int] = (), padding: Sequence[int] = (),
                 dilation: Sequence[int] = (), groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        axes = len(kernel)
        self._pads, own = split_padding(padding, axes)
        kind: Any = {1: nn.Conv1d, 2: nn.Conv2d}[axes]
        self.layer = kind(source[0], channels, tuple(kernel), tuple(stride) or 1, own,
                          tuple(dilation) or 1, groups, bias)

    def forward(self, value: Tensor) -> Tensor:
        return self.layer(functional.pad(value, self._pads) if self._pads else value)


class Transposed(nn.Module):
    """A transposed convolution over two axes; its padding is cut off on both sides alike."""

    def __init__(self, source: Shape, channels: int, kernel: Sequence[int],
                 stride: Sequence[int] = (1, 1), padding: Sequence[int] = (0, 0),
                 output_padding: Sequence[int] = (0, 0), dilation: Sequence[int] = (1, 1),
                 groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        kind: Any = nn.ConvTranspose2d
        self.layer = kind(source[0], channels, tuple(kernel), tuple(stride), tuple(padding),
                          tuple(output_padding), groups, bias, tuple(dilation))

    def forward(self, value: Tensor) -> Tensor:
        return self.layer(value)


def split_padding(padding: Sequence[int], axes: int) -> tuple[list[int], tuple[int, ...]]:
    """Return what is padded apart, in ``functional.pad``'s order, and what the layer pads."""
    padding = tuple(padding) or (0,) * 2 * axes
    if len(padding) != 2 * axes:
        raise ValueError(f'padding is {list(padding)}; {2 * axes} numbers are needed')
    before, behind = padding[:axes], padding[axes:]
    if before == behind:
        return [], before
    return [size for pair in zip(reversed(before), reversed(behind)) for size in pair], (0,) * axes


class Affine(nn.Module):
    """
    Scales and shifts: ``value * weight + bias``.

    :param shape: Of weight and bias, such as [C, 1, 1], or [] for numbers.
    """

    def __init__(self, source: Shape, shape: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(tuple(shape)))
        self.bias = nn.Parameter(torch.zeros(tuple(shape)))

    def forward(self, value: Tensor) -> Tensor:
        return value * self.weight + self.bias


class Constant(nn.Module):
    """A tensor that depends on nothing, (1, *shape), such as positions of tokens."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(tuple(shape)))

    def forward(self) -> Tensor:
        return self.value.unsqueeze(0)


class AdaptivePool(nn.Module):
    """
    Means or maxima over so many windows an axis, which overlap where the sizes do not divide.

    Exporters lack windows that overlap, so every pixel of a window is taken by its index.
    """

    def __init__(self, source: Shape, size: Sequence[int], mean: bool) -> None:
        super().__init__()
        self.size, before = tuple(size), source[-len(size):]
        pools: dict[int, Callable[..., Tensor]] = {
            1: functional.adaptive_avg_pool1d if mean else functional.adaptive_max_pool1d,
            2: functional.adaptive_avg_pool2d if mean else functional.adaptive_max_pool2d}
        self._pool = None if any(map(operator.mod, before, self.size)) else pools[len(size)]
        self._mean = mean
        for axis, (count, length) in enumerate(() if self._pool else zip(self.size, before)):
            first = torch.arange(count)[:, None] * length // count
            last = (torch.arange(1, count + 1)[:, None] * length - 1) // count
            place = first + torch.arange(-(-length // count) + 1)
            self.register_buffer(f'places_{axis}', place.clamp(max=last), persistent=False)
            inside = place <= last
            self.register_buffer(f'parts_{axis}', inside / inside.sum(1, keepdim=True),
                                 persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        if self._pool:
            return self._pool(value, self.size)
        for axis, count in enumerate(self.size):
            at = axis - len(self.size)
            places = self.get_buffer(f'places_{axis}').flatten()
            windows = value.index_select(at, places).unflatten(at, (count, -1))
            parts = self.get_buffer(f'parts_{axis}')[(...,) + (None,) * (-1 - at)]
            value = (windows * parts).sum(at) if self._mean else windows.amax(at)
        return value


class GRUCell(nn.Module):
    """Torch's GRU cell, of a value and the state, (B, features) each; gives the new state."""

    def __init__(self, source: Shape, state: Shape, bias: bool = True) -> None:
        super().__init__()
        self.cell = nn.GRUCell(source[0], state[0], bias)

    def forward(self, value: Tensor, state: Tensor) -> Tensor:
        return self.cell(value, state)


class LSTMCell(nn.Module):
    """Torch's LSTM cell, of a value and the state [hidden, cell]; gives the new state."""

    def __init__(self, source: Shape, state: Shape, bias: bool = True) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(source[0], state[0] // 2, bias)

    def forward(self, value: Tensor, state: Tensor) -> Tensor:
        hidden, cell = state.chunk(2, dim=1)
        return torch.cat(self.cell(value, (hidden, cell)), dim=1)


class Function(nn.Module):
    """What has no weights of its own."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *values: Tensor) -> Tensor:
        return self.function(*values)


Made = Callable[..., nn.Module]


class Simple:
    """
    Makes an operation that takes its options as keyword arguments.

    :param operands: How many values it reads.
    """

    def __init__(self, function: Callable[..., Tensor], operands: int) -> None:
        self.function, self.operands = function, operands

    def __call__(self, *sources: Shape, **options: Any) -> nn.Module:
        return Function(lambda *values: self.function(*values, **options))


def simple(function: Callable[..., Tensor], operands: int = 1) -> Made:
    """Return the maker of an operation without weights."""
    return Simple(function, operands)


def max_pool(source: Shape, kernel: Sequence[int], stride: Sequence[int] = (),
             padding: Sequence[int] = (), dilation: Sequence[int] = (), ceil: bool = False
             ) -> nn.Module:
    """Return the maximum over windows; padding as that of a convolution."""
    pads, own = split_padding(padding, len(kernel))
    pool = {1: functional.max_pool1d, 2: functional.max_pool2d}[len(kernel)]

    def run(value: Tensor) -> Tensor:
        if pads:
            value = functional.pad(value, pads, value=-torch.inf)
        return pool(value, tuple(kernel), tuple(stride) or None, own, tuple(dilation) or 1, ceil)
    return Function(run)


def average_pool(source: Shape, kernel: Sequence[int], stride: Sequence[int] = (),
                 padding: Sequence[int] = (), ceil: bool = False, include_pad: bool = True,
                 divisor: int | None = None) -> nn.Module:
    """Return the mean over windows; padding is the same on both sides, [height, width]."""
    if len(kernel) == 1 and divisor is not None:
        raise ValueError('divisor is for windows of two axes')
    kind: Any = {1: nn.AvgPool1d, 2: nn.AvgPool2d}[len(kernel)]
    return kind(tuple(kernel), tuple(stride) or None, tuple(padding) or 0, ceil, include_pad,
                *[divisor] * (len(kernel) == 2))


def reshaped(value: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a value in another shape, in which -k stands for k times the batch size."""
    return value.reshape([-1 if size < 0 else size for size in shape])


def concatenated(*values: Tensor, axis: int) -> Tensor:
    """Return values one after another; a constant is repeated for every sample."""
    batch = max(len(value) for value in values) if axis else 1
    return torch.cat([value.expand(batch, *value.shape[1:]) if axis and len(value) < batch
                      else value for value in values], dim=axis)


def attention(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None,
              causal: bool = False) -> Tensor:
    """
    Return softmax(scale query key') value over the last two axes, (..., tokens, features).

    A constant is repeated for every sample.
    """
    batch = max(len(query), len(key), len(value))
    query, key, value = (each if len(each) == batch else each.expand(batch, *each.shape[1:])
                         for each in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value, scale=scale,
                                                   is_causal=causal)


def sliced(value: Tensor, axis: int, start: int, length: int, step: int = 1) -> Tensor:
    """Return as many numbers of an axis as its length says, every step-th one from the start."""
    value = value.narrow(axis, start, (length - 1) * step + 1)
    return value if step == 1 else value[(slice(None),) * axis + (slice(None, None, step),)]


def upsampled(value: Tensor, size: Sequence[int], mode: str = 'nearest', corners: bool = False,
              scale: Sequence[float] = ()) -> Tensor:
    """
    Return feature maps enlarged to a size.

    :param scale: By which the places of pixels are computed where it is not that of the sizes.
    """
    options = {} if mode == 'nearest' else {'align_corners': corners}
    if scale:
        return functional.interpolate(value, scale_factor=tuple(scale), mode=mode,
                                      recompute_scale_factor=False, **options)
    return functional.interpolate(value, tuple(size), mode=mode, **options)


#: How each kind of operation is made, of its operands' shapes and its options.
BODY_OPERATIONS: Mapping[str, Made] = {
    'convolution': Convolution,
    'transposed': Transposed,
    'linear': lambda source, features, bias=True: nn.Linear(source[-1], features, bias),
    'affine': Affine,
    # With numbers that are no weights.
    'scale': simple(lambda value, factor=1.0, offset=0.0: value * factor + offset),
    # Over the last axes, as many as its shape has; and over groups of channels.
    'layer_norm': lambda source, shape, eps=1e-5: nn.LayerNorm(list(shape), eps),
    'group_norm': lambda source, groups, eps=1e-5: GroupNorm(groups, source[0], eps),
    'constant': Constant,
    'gru_cell': GRUCell,
    'lstm_cell': LSTMCell,
    'relu': simple(torch.relu),
    'clip': simple(lambda value, low=None, high=None: value.clamp(low, high)),
    'leaky_relu': simple(lambda value, slope=0.01: functional.leaky_relu(value, slope)),
    'elu': simple(lambda value, alpha=1.0: functional.elu(value, alpha)),
    'gelu': simple(lambda value, approximate='none': functional.gelu(
        value, approximate=approximate)),
    'sigmoid': simple(torch.sigmoid),
    'tanh': simple(torch.tanh),
    'silu': simple(functional.silu),
    'hard_swish': simple(functional.hardswish),
    'hard_sigmoid': simple(functional.hardsigmoid),
    'softplus': simple(functional.softplus),
    'erf': simple(torch.erf),
    'square_root': simple(torch.sqrt),
    'power': simple(lambda value, exponent: value ** exponent),
    'exponential': simple(torch.exp),
    'logarithm': simple(torch.log),
    'absolute': simple(torch.abs),
    'softmax': simple(lambda value, axis: value.softmax(axis)),
    'max_pool': max_pool,
    'average_pool': average_pool,
    'adaptive_average': lambda source, size: AdaptivePool(source, size, mean=True),
    'adaptive_maximum': lambda source, size: AdaptivePool(source, size, mean=False),
    'mean': simple(lambda value, axes, keep=False: value.mean(tuple(axes), keep)),
    'sum': simple(lambda value, axes, keep=False: value.sum(tuple(axes), keep)),
    'largest': simple(lambda value, axes, keep=False: value.amax(tuple(axes), keep)),
    'add': simple(torch.add, 2),
    'subtract': simple(torch.sub, 2),
    'multiply': simple(torch.mul, 2),
    'divide': simple(torch.div, 2),
    'maximum': simple(torch.maximum, 2),
    'minimum': simple(torch.minimum, 2),
    'matmul': simple(torch.matmul, 2),
    'attention': simple(attention, 3),
    'concatenate': lambda *sources, axis: Function(
        lambda *values: concatenated(*values, axis=axis)),
    'slice': simple(sliced),
    'select': simple(lambda value, axis, index: value.select(axis, index)),
    'reshape': simple(reshaped),
    'permute': simple(lambda value, axes: value.permute(tuple(axes))),
    'expand': simple(lambda value, shape: value.expand(-1, *shape)),
    'pad': simple(lambda value, padding, filling=0.0: functional.pad(
        value, tuple(padding), value=filling)),
    'upsample': simple(upsampled),
    'identity': simple(lambda value: value),
}


@cache
def parameters_of(kind: str) -> tuple[int | None, dict[str, Any]]:
    """Return how many values a kind of operation reads, None for any, and its options."""
    made = BODY_OPERATIONS[kind]
    try:
        parameters = inspect.signature(getattr(made, 'function', made)).parameters
    except ValueError:  # of a function in C, which has no options of ours
        parameters = inspect.Signature().parameters
    options = {name: each.default for name, each in parameters.items() if name in OPTIONS}
    if any(each.kind is each.VAR_POSITIONAL for each in parameters.values()):
        return None, options
    return getattr(made, 'operands', len(parameters) - len(options)), options


def make_operation(step: BodyStep, sources: Sequence[Shape]) -> nn.Module:
    """
    Make one operation of a body.

    :param sources: Shapes of what it reads, without batch.
    :raises ValueError: If it does not take so many values or these options.
    """
    check_step(step, *parameters_of(step.kind))
    return BODY_OPERATIONS[step.kind](*sources, **step.options)
