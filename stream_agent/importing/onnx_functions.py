"""Operators of ONNX without weights: activations, means, and sizes of maps."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from stream_agent.importing.onnx_layers import maps, without_row
from stream_agent.importing.onnx_reader import as_weight, Node, SINGLY, Value
from stream_agent.importing.onnx_shapes import positive
import torch
from torch.nn import functional


def simple(kind: str, **attributes: tuple[str, float]) -> Callable[[Node], None]:
    """Return the function that reads an operator whose options are these attributes."""
    def read(node: Node) -> None:
        options = {name: node.get(*pair) for name, pair in attributes.items()}
        node.give(node.emit(kind, node.input(0), **options))
    return read


def read_clip(node: Node) -> None:
    bounds: list[float | None] = []
    for index, name in ((1, 'min'), (2, 'max')):
        if node.has(index):
            bounds.append(float(node.needed(index, 'bounds').reshape(-1)[0]))
        else:
            bounds.append(node.get(name, None))
    node.give(clipped(node, node.input(0), *bounds))


def clipped(node: Node, value: Value, low: float | None, high: float | None) -> Value:
    """Return a value within bounds, of which infinite ones, and float32's largest, say nothing."""
    most = float(np.finfo(np.float32).max)
    bounds = {'low': None if low is None or low <= -most else float(low),
              'high': None if high is None or high >= most else float(high)}
    known: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    if known == {'low': 0.0}:
        return node.emit('relu', value)
    return node.emit('clip', value, **known) if known else value


def read_hard_sigmoid(node: Node) -> None:
    alpha, beta = node.get('alpha', 0.2), node.get('beta', 0.5)
    if beta == 0.5 and abs(alpha - 1 / 6) < 1e-7:
        node.give(node.emit('hard_sigmoid', node.input(0)))
    else:
        scaled = node.emit('scale', node.input(0), factor=float(alpha), offset=float(beta))
        node.give(node.emit('clip', scaled, low=0.0, high=1.0))


def read_extreme(node: Node) -> None:
    """Read the largest or smallest of values and numbers."""
    largest = node.proto.op_type == 'Max'
    values, numbers = [], []
    for index in range(len(node.proto.input)):
        array = node.constant(index)
        if array is not None and array.size == 1:
            numbers.append(float(array.reshape(-1)[0]))
        else:
            values.append(node.input(index))
    result = values[0]
    for value in values[1:]:
        result = node.emit('maximum' if largest else 'minimum', result, value)
    for number in numbers:
        result = clipped(node, result, *((number, None) if largest else (None, number)))
    node.give(result)


def read_sum(node: Node) -> None:
    """Read the sum, or the mean, of any number of values."""
    result = node.input(0)
    count = len(node.proto.input)
    for index in range(1, count):
        result = node.emit('add', result, node.input(index))
    if node.proto.op_type == 'Mean' and count > 1:
        result = node.emit('scale', result, factor=1 / count)
    node.give(result)


def read_power(node: Node) -> None:
    value, exponents = node.input(0), node.needed(1, 'exponent')
    if exponents.size != 1:
        raise node.fault('raises to several powers; export the network with one')
    exponent = float(exponents.reshape(-1)[0])
    node.give(node.emit('multiply', value, value) if exponent == 2 else
              node.emit('power', value, exponent=exponent))


def read_reciprocal(node: Node) -> None:
    node.give(node.emit('power', node.input(0), exponent=-1.0))


def read_negative(node: Node) -> None:
    node.give(node.emit('scale', node.input(0), factor=-1.0))


def read_softsign(node: Node) -> None:
    value = node.input(0)
    below = node.emit('scale', node.emit('absolute', value), factor=1.0, offset=1.0)
    node.give(node.emit('divide', value, below))


def read_mish(node: Node) -> None:
    value = node.input(0)
    node.give(node.emit('multiply', value,
                        node.emit('tanh', node.emit('softplus', value))))


def read_swish(node: Node) -> None:
    value, alpha = node.input(0), node.get('alpha', 1.0)
    if alpha == 1:
        node.give(node.emit('silu', value))
    else:
        inner = node.emit('scale', value, factor=float(alpha))
        node.give(node.emit('multiply', value, node.emit('sigmoid', inner)))


def read_selu(node: Node) -> None:
    value = node.emit('elu', node.input(0), alpha=node.get('alpha', 1.67326319217681884765625))
    node.give(node.emit('scale', value, factor=node.get('gamma', 1.05070102214813232421875)))


def read_celu(node: Node) -> None:
    alpha = node.get('alpha', 1.0)
    value = node.emit('scale', node.input(0), factor=1 / alpha)
    node.give(node.emit('scale', node.emit('elu', value), factor=alpha))


def read_prelu(node: Node) -> None:
    value, slope = node.input(0), node.needed(1, 'slope')
    if slope.size == 1:
        node.give(node.emit('leaky_relu', value, slope=float(slope.reshape(-1)[0])))
        return
    shape = list(slope.shape)
    while shape and shape[0] == 1:
        shape.pop(0)
    below = node.emit('relu', node.emit('scale', value, factor=-1.0))
    weights = {'weight': as_weight(-slope.reshape(shape)), 'bias': torch.zeros(shape)}
    node.give(node.emit('add', node.emit('relu', value),
                        node.emit('affine', below, shape=shape, weights=weights)))


def read_gelu(node: Node) -> None:
    node.give(node.emit('gelu', node.input(0), approximate=node.text('approximate', 'none')))


def read_softmax(node: Node) -> None:
    value, later = node.input(0), node.reader.opset >= 13
    axes = len(value.shape)
    axis = positive(node.get('axis', -1 if later else 1), axes)
    if axis == value.axis:
        raise node.fault(f'computes across the frames of a batch; {SINGLY}')
    if later or axis == axes - 1:
        node.give(share(node, value, axis))
        return
    # Over all axes from this one on.
    sizes = value.sizes(node.reader.batch)
    rows = node.reshape(value, [*sizes[:axis], prod(sizes[axis:])])
    node.give(node.reshape(share(node, rows, axis), sizes))


def share(node: Node, value: Value, axis: int) -> Value:
    """Return the softmax over an axis, or its logarithm."""
    if node.proto.op_type == 'Softmax':
        return node.emit('softmax', value, axis=axis)
    largest = node.emit('largest', value, axes=[axis], keep=True)
    below = node.emit('subtract', value, largest)
    total = node.emit('sum', node.emit('exponential', below), axes=[axis], keep=True)
    return node.emit('subtract', below, node.emit('logarithm', total))


def read_reduction(node: Node) -> None:
    value = node.input(0)
    listed = node.listed('axes', 1)
    keep = bool(node.get('keepdims', 1))
    if not listed:
        if node.get('noop_with_empty_axes', 0):
            node.give(value)
            return
        listed = list(range(len(value.shape)))
        if value.shape[0] == -1 and node.reader.batch == 1:
            listed = listed[1:]
    axes = sorted(positive(axis, len(value.shape)) for axis in listed)
    kind = node.proto.op_type
    if kind == 'ReduceMin':
        value = node.emit('scale', value, factor=-1.0)
    elif kind == 'ReduceL1':
        value = node.emit('absolute', value)
    elif kind in ('ReduceL2', 'ReduceSumSquare'):
        value = node.emit('multiply', value, value)
    name = {'ReduceMean': 'mean', 'ReduceMax': 'largest', 'ReduceMin': 'largest'}.get(kind, 'sum')
    result = node.emit(name, value, axes=axes, keep=keep)
    if kind == 'ReduceMin':
        result = node.emit('scale', result, factor=-1.0)
    node.give(node.emit('square_root', result) if kind == 'ReduceL2' else result)


def coordinates(mode: str, length: int, size: int, scale: float) -> np.ndarray:
    """Return where elements of an enlarged axis are in the original, as ONNX says it."""
    at = np.arange(size, dtype=np.float64)
    if mode == 'align_corners':
        return at * (length - 1) / max(size - 1, 1)
    if mode == 'asymmetric':
        return at / scale
    if mode == 'pytorch_half_pixel' and size == 1:
        return np.zeros(1)
    if mode == 'half_pixel_symmetric':
        whole = length * scale
        return length / 2 * (1 - size / whole) + (at + 0.5) / scale - 0.5
    return (at + 0.5) / scale - 0.5


def nearest_indices(rounding: str, at: np.ndarray, length: int) -> np.ndarray:
    """Return which elements are taken."""
    rounded = {'floor': np.floor(at), 'ceil': np.ceil(at),
               'round_prefer_floor': np.ceil(at - 0.5),
               'round_prefer_ceil': np.floor(at + 0.5)}[rounding]
    return np.clip(rounded, 0, length - 1)


def read_resize(node: Node) -> None:
    value, more = maps(node, node.input(0))
    mode = node.text('mode', 'nearest')
    lengths, scales, sizes = resize_sizes(node, value, more)
    if node.proto.op_type == 'Upsample' or node.reader.opset == 10:
        how, rounding = 'asymmetric', 'floor'
    else:
        how = node.text('coordinate_transformation_mode', 'half_pixel')
        rounding = node.text('nearest_mode', 'round_prefer_floor')
    known = mode in ('nearest', 'linear') and how != 'tf_crop_and_resize' and not (
        node.get('antialias', 0) and min(scales) < 1)
    positions = [coordinates(how, *each) for each in zip(lengths, sizes, scales)]
    options: dict[str, Any] = {'size': sizes}
    if known and mode == 'nearest':
        for at, length, size in zip(positions, lengths, sizes):
            line = torch.arange(float(length))[None, None]
            ours = functional.interpolate(line, size, mode='nearest').numpy()
            known &= np.array_equal(nearest_indices(rounding, at, length), ours[0, 0])
    elif known:
        options |= {'mode': 'bilinear', 'corners': how == 'align_corners'}
        ours_by = 'align_corners' if how == 'align_corners' else 'half_pixel'
        for at, length, size, scale in zip(positions, lengths, sizes, scales):
            ours = coordinates(ours_by, length, size, scale)
            known &= np.allclose(*np.clip([at, ours], 0, length - 1))
        if how != 'align_corners' and any(
                abs(size / length - scale) > 1e-6
                for length, size, scale in zip(lengths, sizes, scales)):
            options['scale'] = scales
    if not known:
        raise node.fault(f"resizes by '{mode}', '{how}' to {sizes}; the vocabulary has linear by "
                         "half_pixel or align_corners, and nearest as torch's; resize by those")
    node.give(without_row(node, node.emit('upsample', value, **options), more))


def resize_sizes(node: Node, value: Value, more: list[int]
                 ) -> tuple[list[int], list[float], list[int]]:
    """Return the sizes of maps, the factors, and the sizes after it."""
    old = node.proto.op_type == 'Upsample' or node.reader.opset == 10
    rank = 4 - len(more)
    now = [size for size in value.sizes(node.reader.batch)]
    if more:
        now.pop(2)
    axes = [positive(axis, rank) for axis in node.get('axes', range(rank))]
    place = 1 if old else 2
    if 'scales' in node.attributes:
        given = np.array(node.attributes['scales'], np.float64)
    elif node.has(place) and node.needed(place, 'scales').size:
        given = node.needed(place, 'scales').astype(np.float64).reshape(-1)
    else:
        given = np.zeros(0)
    factors, after = [1.0] * rank, list(now)
    if given.size:
        for axis, factor in zip(axes, given):
            factors[axis], after[axis] = float(factor), int(np.floor(now[axis] * factor))
    else:
        if node.text('keep_aspect_ratio_policy', 'stretch') != 'stretch':
            raise node.fault('keeps the aspect ratio; export it with the sizes that come out')
        for axis, size in zip(axes, node.listed('sizes', 3) or []):
            factors[axis], after[axis] = size / now[axis], size
    if after[:2] != now[:2]:
        raise node.fault('resizes the axis of channels, or the batch; only maps can be resized')
    row = [1] * len(more)
    return row + now[2:], [1.0] * len(more) + factors[2:], row + after[2:]


def read_attention(node: Node) -> None:
    """Read attention of one step, over (B, heads, tokens, features) or (B, tokens, features)."""
    if any(node.has(i) for i in (3, 4, 5)) or node.get('softcap', 0):
        raise node.fault('has a mask, a past or a bound; export it without, or written out')
    values = [node.input(i) for i in range(3)]
    heads = node.get('q_num_heads', 0), node.get('kv_num_heads', 0), node.get('kv_num_heads', 0)
    split = len(values[0].shape) == 3
    if split:
        values = [node.emit('permute', node.shaped(
            value, [-1, value.shape[1], count, value.shape[2] // count], 1), axes=[0, 2, 1, 3],
            front=1) for value, count in zip(values, heads)]
    if len({value.shape[1] for value in values}) > 1:
        raise node.fault('has fewer heads for keys than for queries; repeat them before export')
    scale = node.get('scale', None)
    result = node.emit('attention', *values, scale=scale, causal=bool(node.get('is_causal', 0)))
    if split:
        result = node.emit('permute', result, axes=[0, 2, 1, 3], front=1)
        result = node.shaped(result, [-1, result.shape[1], prod(result.shape[2:])], 1)
    node.give(result)


FUNCTION_OPERATORS: Mapping[str, Callable[[Node], None]] = {
    'Relu': simple('relu'), 'Sigmoid': simple('sigmoid'), 'Tanh': simple('tanh'),
    'Softplus': simple('softplus'), 'HardSwish': simple('hard_swish'),
    'Sqrt': simple('square_root'), 'Erf': simple('erf'), 'Abs': simple('absolute'),
    'Exp': simple('exponential'), 'Log': simple('logarithm'),
    'LeakyRelu': simple('leaky_relu', slope=('alpha', 0.01)),
    'Elu': simple('elu', alpha=('alpha', 1.0)), 'Clip': read_clip,
    'HardSigmoid': read_hard_sigmoid, 'Gelu': read_gelu, 'Softmax': read_softmax,
    'Max': read_extreme, 'Min': read_extreme, 'Sum': read_sum, 'Mean': read_sum,
    'Pow': read_power, 'Reciprocal': read_reciprocal, 'Neg': read_negative,
    'Softsign': read_softsign, 'Mish': read_mish, 'Swish': read_swish, 'Selu': read_selu,
    'Celu': read_celu, 'PRelu': read_prelu,
    **dict.fromkeys(('ReduceMean', 'ReduceSum', 'ReduceMax', 'ReduceMin', 'ReduceL1', 'ReduceL2',
                     'ReduceSumSquare'), read_reduction),
    'LogSoftmax': read_softmax, 'Resize': read_resize, 'Upsample': read_resize,
    'Attention': read_attention,
}
