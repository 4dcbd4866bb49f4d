"""Operators of ONNX that move, cut and join values, or combine two."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
from stream_agent.importing.onnx_patterns import gelu_or, is_softplus
from stream_agent.importing.onnx_reader import as_weight, Node, SINGLY, Value


#: What stands for infinity: it does the same in a softmax, and around a maximum.
INFINITE = 1e30


def positive(axis: int, axes: int) -> int:
    """Return an axis counted from the front."""
    return axis + axes if axis < 0 else axis


def arithmetic(kind: str, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the factor and the offset that say the same as 'value kind array'."""
    array = np.asarray(array, np.float64)
    zeros, ones = np.zeros_like(array), np.ones_like(array)
    return {'add': (ones, array), 'subtract': (ones, -array), 'multiply': (array, zeros),
            'divide': (1 / np.where(array == 0, np.nan, array), zeros)}[kind]


def binary(kind: str) -> Callable[[Node], None]:
    """Return the function that reads an operator of two operands."""
    def read(node: Node) -> None:
        left, right = node.constant(0), node.constant(1)
        if left is not None and right is None and kind in ('add', 'multiply'):
            result = combined(node, kind, node.input(1), left)
        elif right is not None and left is None:
            result = combined(node, kind, node.input(0), right)
        else:
            result = operands(node, kind)
        node.give(gelu_or(node, result) if kind == 'multiply' else result)
    return read


def operands(node: Node, kind: str) -> Value:
    """Return an operation of two inputs, either of which may be constant."""
    left, right = node.constant(0), node.constant(1)
    if left is not None and right is None:
        return node.meet(kind, node.input(1), left, turned=True)
    if right is not None and left is None:
        return node.meet(kind, node.input(0), right)
    return node.emit(kind, node.input(0), node.input(1))


def combined(node: Node, kind: str, value: Value, array: np.ndarray) -> Value:
    """Return a value combined with a constant: by an affine map, if it stays of its shape."""
    factor, offset = arithmetic(kind, array)
    offset = np.where(np.isinf(offset), np.copysign(INFINITE, offset), offset)
    if array.size == 1 and array.ndim <= len(value.shape):
        return node.emit('scale', value, factor=float(factor.reshape(())),
                         offset=float(offset.reshape(())))
    if kind in ('add', 'subtract') and (biased := node.with_bias(value, offset)):
        return biased
    lengths = value.sizes(node.reader.batch)
    fits = array.ndim <= len(lengths) and all(
        size in (1, length) for size, length in zip(array.shape[::-1], lengths[::-1]))
    batched = value.axis is not None and array.ndim >= len(lengths) - value.axis and (
        array.shape[value.axis - len(lengths)] != 1)
    if not fits or batched:
        return node.meet(kind, value, array)
    shape = list(array.shape)
    while shape and shape[0] == 1:
        shape.pop(0)
    return node.emit('affine', value, shape=shape, weights={
        'weight': as_weight(factor.reshape(shape)), 'bias': as_weight(offset.reshape(shape))})


def read_where(node: Node) -> None:
    """Read a constant choice between a value and numbers, as masks are, or torch's softplus."""
    if node.reader.thresholds.get(node.proto.input[0], 0.0) >= 15 and is_softplus(
            node, node.input(2), node.input(1)):
        # It is the same there, but for rounding.
        node.give(node.input(2))
        return
    chosen = node.needed(0, 'condition').astype(bool)
    places = [i for i in (1, 2) if node.constant(i) is None]
    if len(places) != 1:
        raise node.fault('chooses between two values; the vocabulary chooses between a value and '
                         'constants only')
    (place,) = places
    keep = chosen if place == 1 else ~chosen
    filling = node.needed(3 - place, 'numbers').astype(np.float64)
    kept = combined(node, 'multiply', node.input(place), keep.astype(np.float64))
    node.give(combined(node, 'add', kept, np.where(keep, 0.0, filling)))


def read_greater(node: Node) -> None:
    """Keep what a value is compared with, for the choice that reads it."""
    bound = node.constant(1)
    node.reader.thresholds[node.proto.output[0]] = float(bound) if (
        bound is not None and bound.size == 1) else 0.0


def read_reshape(node: Node) -> None:
    value = node.input(0)
    sizes = node.listed('shape', 1)
    if sizes is None:
        raise node.fault('has no shape; export the network again')
    now = value.sizes(node.reader.batch)
    if not node.get('allowzero', 0):
        sizes = [now[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    if -1 in sizes:
        rest = prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = prod(now) // max(rest, 1)
    node.give(node.reshape(value, sizes))


def read_flatten(node: Node) -> None:
    value = node.input(0)
    sizes = value.sizes(node.reader.batch)
    axis = positive(node.get('axis', 1), len(sizes))
    node.give(node.reshape(value, [prod(sizes[:axis]), prod(sizes[axis:])]))


def read_squeeze(node: Node) -> None:
    value = node.input(0)
    sizes = value.sizes(node.reader.batch)
    listed = node.listed('axes', 1)
    axes = [axis for axis, size in enumerate(sizes) if size == 1] if listed is None else [
        positive(axis, len(sizes)) for axis in listed]
    if value.axis in axes:
        node.give(node.reshape(value, [s for i, s in enumerate(sizes) if i not in axes]))
    else:
        node.give(node.shaped(value, [s for i, s in enumerate(value.shape) if i not in axes],
                              value.front))


def read_unsqueeze(node: Node) -> None:
    value = node.input(0)
    axes = node.listed('axes', 1) or []
    places = {positive(axis, len(value.shape) + len(axes)) for axis in axes}

    def widened(shape: tuple[int, ...]) -> list[int]:
        left = iter(shape)
        return [1 if i in places else next(left) for i in range(len(shape) + len(places))]
    if -1 in value.shape:
        node.give(node.shaped(value, widened(value.shape), value.front))
    else:
        node.give(node.reshape(value, widened(value.sizes(node.reader.batch))))


def read_transpose(node: Node) -> None:
    value = node.input(0)
    axes = list(node.get('perm', range(len(value.shape))[::-1]))
    node.give(permuted(node, value, axes))


def permuted(node: Node, value: Value, axes: list[int]) -> Value:
    """Return a value with its axes in another order."""
    if axes == sorted(axes):
        return value
    return node.emit('permute', value, front=value.front, axes=axes)


def cut(node: Node, value: Value, axis: int, start: int, length: int, step: int = 1) -> Value:
    """Return part of an axis, every step-th of its numbers."""
    if axis == value.axis:
        if length == value.sizes(node.reader.batch)[axis]:
            return value
        raise node.fault(f'takes frames of a batch apart; {SINGLY}')
    if length == value.shape[axis]:
        return value
    if length < 1:
        raise node.fault('takes an empty part; export the network without it')
    every: dict[str, Any] = {'step': step} if step > 1 else {}
    return node.emit('slice', value, axis=axis, start=start, length=length, **every)


def read_slice(node: Node) -> None:
    value = node.input(0)
    starts, ends = node.listed('starts', 1), node.listed('ends', 2)
    if starts is None or ends is None:
        raise node.fault('has no bounds; export the network again')
    axes = node.listed('axes', 3) or range(len(starts))
    steps = node.listed('steps', 4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps):
        axis = positive(axis, len(value.shape))
        size = value.sizes(node.reader.batch)[axis]
        chosen = range(*slice(start, end, step).indices(size))
        value = (cut(node, value, axis, chosen.start, len(chosen), step) if step > 0 else
                 picked(node, value, axis, [*chosen]))
    node.give(value)


def read_split(node: Node) -> None:
    value = node.input(0)
    axis = positive(node.get('axis', 0), len(value.shape))
    size, parts = value.sizes(node.reader.batch)[axis], len(node.proto.output)
    longest = -(-size // node.get('num_outputs', parts))
    lengths = node.listed('split', 1) or [
        min(longest, size - start) for start in range(0, size, longest)]
    starts = np.cumsum([0, *lengths])
    node.give(*(cut(node, value, axis, int(start), length)
                for start, length in zip(starts, lengths)))


def read_gather(node: Node) -> None:
    value, indices = node.input(0), node.needed(1, 'indices')
    axis = positive(node.get('axis', 0), len(value.shape))
    size = value.sizes(node.reader.batch)[axis]
    chosen = [positive(int(index), size) for index in indices.reshape(-1)]
    if indices.ndim > 1:
        raise node.fault(f'takes {list(indices.shape)} elements by their indices; export the '
                         'network with slices')
    if axis == value.axis and size == 1 and not indices.ndim:
        # Of a batch of one.
        node.give(node.reshape(value, [s for i, s in enumerate(value.sizes(1)) if i != axis]))
    elif not indices.ndim:
        if axis == value.axis:
            cut(node, value, axis, chosen[0], 0)
        node.give(node.emit('select', value, axis=axis, index=chosen[0]))
    else:
        node.give(picked(node, value, axis, chosen))


def picked(node: Node, value: Value, axis: int, chosen: list[int]) -> Value:
    """Return parts of an axis in any order."""
    if chosen == list(range(chosen[0], chosen[0] + len(chosen))):
        return cut(node, value, axis, chosen[0], len(chosen))
    if len(chosen) > 64:
        raise node.fault(f'takes {len(chosen)} elements by their indices; export the network '
                         'with slices')
    return node.emit('concatenate', *(cut(node, value, axis, index, 1) for index in chosen),
                     axis=axis)


def read_gather_nd(node: Node) -> None:
    """Read what the default exporter makes of an index over one axis."""
    value, indices = node.input(0), node.needed(1, 'indices')
    if indices.ndim != 2 or indices.shape[1] != 1 or node.get('batch_dims', 0):
        raise node.fault('is not in the vocabulary; an adaptive pool whose sizes do not divide '
                         'looks like that: import the torch module or a .pt2 of it')
    size = value.sizes(node.reader.batch)[0]
    node.give(picked(node, value, 0, [positive(int(index), size) for index in indices[:, 0]]))


def read_concat(node: Node) -> None:
    values = []
    for index in range(len(node.proto.input)):
        array = node.constant(index)
        # It may be repeated for every frame of a batch.
        same = array is not None and len(array) == node.reader.batch and (array == array[:1]).all()
        values.append(node.given(array[:1]) if same and array is not None else node.input(index))
    axis = positive(node.get('axis', 0), len(values[0].shape))
    node.give(values[0] if len(values) == 1 else node.emit('concatenate', *values, axis=axis))


def read_expand(node: Node) -> None:
    value = node.input(0)
    sizes = np.broadcast_shapes(value.sizes(node.reader.batch),
                                tuple(node.listed('shape', 1) or ()))
    if sizes == value.sizes(node.reader.batch):
        node.give(value)
        return
    if value.axis == 0 and len(sizes) == len(value.shape):
        node.give(node.emit('expand', value, shape=list(sizes[1:])))
        return
    wanted = list(sizes)
    if value.axis is not None:
        wanted[value.axis + len(sizes) - len(value.shape)] = 1
    node.give(node.meet('add', value, np.zeros(wanted, np.float32)))


def read_tile(node: Node) -> None:
    value = node.input(0)
    for axis, times in enumerate(node.listed('repeats', 1) or []):
        if times > 1 and axis == value.axis:
            raise node.fault(f'repeats the frames of a batch; {SINGLY}')
        if times > 1:
            value = node.emit('concatenate', *[value] * times, axis=axis)
    node.give(value)


def read_pad(node: Node) -> None:
    value, mode = node.input(0), node.text('mode', 'constant')
    pads = node.listed('pads', 1) or []
    if not any(pads):
        node.give(value)
        return
    if mode != 'constant':
        raise node.fault(f"pads by '{mode}'; only zeros are in the vocabulary (pad with zeros, "
                         'and train again)')
    axes = node.listed('axes', 3) or range(len(value.shape))
    before, behind = {}, {}
    for place, axis in enumerate(axes):
        axis = positive(axis, len(value.shape))
        before[axis], behind[axis] = pads[place], pads[place + len(pads) // 2]
    filled = node.constant(2)
    number = float(node.get('value', 0.0) if filled is None else filled.reshape(-1)[0])
    padding = [pads for axis in reversed(range(len(value.shape)))
               for pads in (before.get(axis, 0), behind.get(axis, 0))]
    while padding[-2:] == [0, 0]:
        padding = padding[:-2]
    if np.isinf(number):
        number = float(np.copysign(INFINITE, number))
    filling: dict[str, Any] = {'filling': number} if number else {}
    node.give(node.emit('pad', value, padding=padding, **filling))


def read_depth_to_space(node: Node) -> None:
    """Read both orders, and the inverse."""
    value, block = node.input(0), node.get('blocksize', 1)
    batch, channels, height, width = value.shape
    if node.proto.op_type == 'SpaceToDepth':
        shape = [batch, channels, height // block, block, width // block, block]
        axes = [0, 3, 5, 1, 2, 4]
        last = [batch, channels * block ** 2, height // block, width // block]
    else:
        parts = channels // block ** 2
        columns = node.text('mode', 'DCR') == 'CRD'
        shape = [batch, *([parts, block, block] if columns else [block, block, parts]),
                 height, width]
        axes = [0, 1, 4, 2, 5, 3] if columns else [0, 3, 4, 1, 5, 2]
        last = [batch, parts, height * block, width * block]
    value = permuted(node, node.shaped(value, shape, 1), axes)
    node.give(node.shaped(value, last, 1))


def read_identity(node: Node) -> None:
    if (array := node.constant(0)) is None:
        node.give(node.input(0))
    else:
        node.reader.constants[node.proto.output[0]] = array


def read_cast(node: Node) -> None:
    target = node.get('to', 0)
    if target not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16,
                      onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16):
        raise node.fault('turns values into '
                         f'{onnx.TensorProto.DataType.Name(target).lower()}, and everything '
                         'here is float32; export the network without it')
    read_identity(node)


SHAPE_OPERATORS: Mapping[str, Callable[[Node], None]] = {
    'Add': binary('add'), 'Sub': binary('subtract'), 'Mul': binary('multiply'),
    'Div': binary('divide'), 'Reshape': read_reshape, 'Flatten': read_flatten,
    'Squeeze': read_squeeze, 'Unsqueeze': read_unsqueeze, 'Transpose': read_transpose,
    'Slice': read_slice, 'Split': read_split, 'Gather': read_gather, 'GatherND': read_gather_nd,
    'Concat': read_concat, 'Expand': read_expand, 'Tile': read_tile, 'Pad': read_pad,
    'DepthToSpace': read_depth_to_space, 'SpaceToDepth': read_depth_to_space,
    'Identity': read_identity, 'Dropout': read_identity, 'Cast': read_cast,
    'CastLike': read_identity, 'Where': read_where, 'Greater': read_greater,
}
