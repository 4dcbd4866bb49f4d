"""What torch's operators over axes, and those on shapes, become in the vocabulary."""

from collections.abc import Sequence
import math
from typing import Any

from stream_agent.importing.aten import Args, each
from stream_agent.importing.aten_values import combined, extreme, unary
from stream_agent.importing.tracing import reads, Tracer, Value
import torch
from torch import Tensor


@reads('mean', 'sum', 'amax', 'amin', 'max', 'min')
def reduced(tracer: Tracer, a: Args, like: Any, kind: str = '') -> Any:
    """Add what makes one number of several axes, of all of them if none is given."""
    if 'other' in a:
        return extreme(tracer, a, like)
    pair = not isinstance(like, Tensor)
    first = like[0] if pair else like
    dims, keep = a.get('dim'), a.get('keepdim', False)
    given = [dims] if isinstance(dims, int) else list(dims or range(a['self'].like.ndim))
    value, axes = tracer.placed(a['self'], given)
    before = sum(axis % a['self'].like.ndim < (value.axis or 0) for axis in given)
    axis = value.axis if keep or value.axis is None else value.axis - before
    smallest = not kind and 'min' in tracer.operator
    kind = kind or {'mean': 'mean', 'sum': 'sum'}.get(tracer.operator, 'largest')
    if smallest:
        value = unary(tracer, 'scale', value, value.like, factor=-1.0)
    options = {'axes': sorted(axes)} | ({'keep': True} if keep else {})
    result = tracer.emit(kind, [value], first, axis, options)
    if smallest:
        result = unary(tracer, 'scale', result, first, factor=-1.0)
    return (result, None) if pair else result


@reads('var')
def variance(tracer: Tracer, a: Args, like: Tensor) -> Value:
    """Return the mean square of what is left without the mean; times n / (n - correction)."""
    value, dims = a['self'], a.get('dim')
    given = list(range(value.like.ndim)) if not dims else list(dims)
    mean = reduced(tracer, {'self': value, 'dim': given, 'keepdim': True},
                   value.like.mean(given, True), 'mean')
    rest = combined(tracer, 'subtract', value, mean, value.like)
    count = math.prod(value.size[dim] for dim in given)
    correction = a.get('correction', 1 if a.get('unbiased', True) else 0)
    correction = 1 if correction is None else correction
    square = combined(tracer, 'multiply', rest, rest, value.like)
    result = reduced(tracer, {'self': square, 'dim': given, 'keepdim': a.get('keepdim', False)},
                     like, 'mean')
    return result if not correction else \
        unary(tracer, 'scale', result, like, factor=count / (count - correction))


@reads('linalg_vector_norm')
def norm(tracer: Tracer, a: Args, like: Tensor) -> Value:
    if a['ord'] not in (1, 2):
        tracer.unknown()
    value = a['self']
    value = unary(tracer, 'absolute', value, value.like) if a['ord'] == 1 else \
        combined(tracer, 'multiply', value, value, value.like)
    total = reduced(tracer, {**a, 'self': value}, like, 'sum')
    return total if a['ord'] == 1 else unary(tracer, 'square_root', total, like)


@reads('logsumexp')
def logsumexp(tracer: Tracer, a: Args, like: Tensor) -> Value:
    value = a['self']
    most = reduced(tracer, {**a, 'keepdim': True}, value.like.amax(a['dim'], True), 'largest')
    rest = combined(tracer, 'subtract', value, most, value.like)
    total = reduced(tracer, {**a, 'self': unary(tracer, 'exponential', rest, rest.like)}, like,
                    'sum')
    most = tracer.reshaped(most, like.shape, total.axis)
    return combined(tracer, 'add', unary(tracer, 'logarithm', total, like), most, like)


def kept_axis(value: Value, size: Sequence[int]) -> int | None:
    """Return the batch axis of a new size; the order of elements does not depend on it."""
    axis = value.axis
    if axis is not None and value.size[:axis + 1] == tuple(size[:axis + 1]):
        return axis
    return next((i for i, length in enumerate(size) if length == 1), None)


@reads('view', 'reshape', '_unsafe_view', 'flatten', 'unflatten', '_reshape_alias')
def reshape(tracer: Tracer, a: Args, like: Tensor) -> Value:
    return tracer.reshaped(a['self'], like.shape, kept_axis(a['self'], like.shape))


@reads('unsqueeze')
def unsqueeze(tracer: Tracer, a: Args, like: Tensor) -> Value:
    value, at = a['self'], a['dim'] % like.ndim
    axis = None if value.axis is None else value.axis + (at <= value.axis)
    return tracer.reshaped(value, like.shape, axis)


@reads('squeeze')
def squeeze(tracer: Tracer, a: Args, like: Tensor) -> Value:
    value, dims = a['self'], a.get('dim')
    count = value.like.ndim
    given = range(count) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {axis % count for axis in given if value.size[axis] == 1}
    axis = None if value.axis is None or value.axis in gone else \
        value.axis - sum(each < value.axis for each in gone)
    return tracer.reshaped(value, like.shape, axis)


@reads('permute', 'transpose', 't')
def permute(tracer: Tracer, a: Args, like: Tensor) -> Value:
    value = a['self']
    count = value.like.ndim
    places = list(range(count))
    if tracer.operator == 'permute':
        places = [axis % count for axis in a['dims']]
    elif tracer.operator == 't':
        places.reverse()
    else:
        one, other = a['dim0'] % count, a['dim1'] % count
        places[one], places[other] = other, one
    axis = None if value.axis is None else places.index(value.axis)
    long = [each for each in places if value.size[each] != 1]
    if long == sorted(long):
        return tracer.reshaped(value, like.shape, axis)
    _, axes = tracer.placed(value, [each for each in places if each != value.axis])
    return tracer.emit('permute', [value], like, axis, {'axes': [0, *axes]})


@reads('copy')
def copied(tracer: Tracer, a: Args, like: Tensor) -> Any:
    """Return what is written over a whole value, in its shape."""
    source = a['src']
    return source.expand(like.shape) if isinstance(source, Tensor) else \
        expand(tracer, {'self': source}, like)


@reads('slice_scatter', 'select_scatter')
def scattered(tracer: Tracer, a: Args, like: Tensor) -> Value:
    """Add what joins what is in front of a part, the new part, and what is behind it."""
    value, part, dim = a['self'], a['src'], a['dim'] % like.ndim
    if a.get('step', 1) != 1:
        tracer.refuse('writes into every second place', 'concatenate instead')
    if isinstance(value, Tensor) and isinstance(part, Tensor):
        tracer.unknown()
    whole = like.shape[dim]
    if 'index' in a:
        start = a['index'] % whole
        part = part.unsqueeze(dim) if isinstance(part, Tensor) else \
            unsqueeze(tracer, {'self': part, 'dim': dim}, part.like.unsqueeze(dim))
    else:
        start = a['start'] or 0
        start = min(max(start + whole if start < 0 else start, 0), whole)
    end = start + (part if isinstance(part, Tensor) else part.like).shape[dim]
    parts = []
    for first, behind in ((0, start), (end, whole)):
        size = [behind - first if i == dim else length for i, length in enumerate(like.shape)]
        if behind > first:
            parts.append(value.narrow(dim, first, behind - first) if isinstance(value, Tensor)
                         else slice_of(tracer, {'self': value, 'dim': dim, 'start': first},
                                       like.new_empty(size)))
        if not first:
            parts.append(part)
    return joined(tracer, parts, dim, like)


@reads('expand', 'expand_as', 'broadcast_to')
def expand(tracer: Tracer, a: Args, like: Tensor) -> Value:
    value = a['self']
    size = (1,) * (like.ndim - value.like.ndim) + value.size
    axis = None if value.axis is None else value.axis + like.ndim - value.like.ndim
    if axis is not None and like.shape[axis] != 1:
        axis = None
    value = tracer.reshaped(value, size, axis)
    if size == tuple(like.shape):
        return value
    result = Value('', like, axis)
    return unary(tracer, 'expand', value, like, shape=list(result.shape))


@reads('slice', 'narrow')
def slice_of(tracer: Tracer, a: Args, like: Tensor) -> Value:
    value = a['self']
    dim = a['dim'] % like.ndim
    whole, length, step = value.size[dim], int(like.shape[dim]), a.get('step', 1)
    start = a['start'] or 0
    start = min(max(start + whole if start < 0 else start, 0), whole)
    if like.shape == value.like.shape:
        return value
    if not like.numel():
        tracer.refuse('keeps nothing', 'check its bounds')
    value, (axis,) = tracer.placed(value, [dim])
    options = {'axis': axis, 'start': start, 'length': length}
    return tracer.emit('slice', [value], like, value.axis,
                       options if step == 1 else options | {'step': step})


@reads('split', 'split_with_sizes', 'chunk', 'tensor_split', 'unsafe_split', 'unsafe_chunk')
def split(tracer: Tracer, a: Args, like: Sequence[Tensor]) -> list[Value]:
    start, parts = 0, []
    for part in like:
        dim = a['dim'] % part.ndim
        parts.append(slice_of(tracer, {'self': a['self'], 'dim': dim, 'start': start}, part))
        start += part.shape[dim]
    return parts


@reads('select')
def select(tracer: Tracer, a: Args, like: Tensor) -> Value:
    value, count = a['self'], a['self'].like.ndim
    dim = a['dim'] % count
    if value.size[dim] == 1:
        return squeeze(tracer, {'self': value, 'dim': dim}, like)
    value, (place,) = tracer.placed(value, [dim])
    axis = None if value.axis is None else value.axis - (dim < value.axis)
    return tracer.emit('select', [value], like, axis,
                       {'axis': place, 'index': a['index'] % value.size[dim]})


@reads('unbind')
def unbind(tracer: Tracer, a: Args, like: Sequence[Tensor]) -> list[Value]:
    return [select(tracer, a | {'index': i}, part) for i, part in enumerate(like)]


@reads('cat', 'concatenate')
def concatenate(tracer: Tracer, a: Args, like: Tensor) -> Value:
    dim = a['dim'] % like.ndim
    parts = [part for part in a['tensors'] if part.ndim == like.ndim] if \
        all(isinstance(part, Tensor) for part in a['tensors']) else \
        [part for part in a['tensors'] if not isinstance(part, Tensor) or part.numel()]
    return joined(tracer, parts, dim, like)


def joined(tracer: Tracer, parts: Sequence[Any], dim: int, like: Tensor) -> Value:
    """Add a concatenation along a traced axis."""
    wanted = next(part.axis for part in parts if isinstance(part, Value))
    axis = wanted if wanted != dim else None
    values = []
    for part in parts:
        values.append(tracer.constant(part, part.shape, axis) if isinstance(part, Tensor)
                      else tracer.with_axis(part, axis))
    if len(values) == 1:
        return values[0]
    _, (place,) = tracer.placed(Value(values[0].name, like, axis), [dim])
    return tracer.emit('concatenate', values, like, axis, {'axis': place})


@reads('stack')
def stack(tracer: Tracer, a: Args, like: Tensor) -> Value:
    dim = a['dim'] % like.ndim
    parts = [part.unsqueeze(dim) if isinstance(part, Tensor) else
             unsqueeze(tracer, {'self': part, 'dim': dim}, part.like.unsqueeze(dim))
             for part in a['tensors']]
    return joined(tracer, parts, dim, like)


@reads('repeat')
def repeat(tracer: Tracer, a: Args, like: Tensor) -> Value:
    value = a['self']
    size = [1] * (like.ndim - value.like.ndim) + list(value.size)
    value = tracer.reshaped(value, size, kept_axis(value, size))
    for dim, times in enumerate(a['repeats']):
        if times > 1:
            size[dim] *= times
            value = joined(tracer, [value] * times, dim, like.new_empty(size))
    return value


#: Pieces that a choice by index, such as another order of channels, is made of at most.
MOST_PIECES = 64


def gathered(tracer: Tracer, value: Value, dim: int, indices: Sequence[int], like: Tensor
             ) -> Value:
    """Add what puts slices of a traced axis in another order."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([index, index + 1])
    if len(runs) > MOST_PIECES:
        tracer.refuse(f'takes {len(runs)} pieces by index', 'replace it by slices, reshape and '
                      'permute')
    parts = []
    for start, end in runs:
        size = [end - start if i == dim else length for i, length in enumerate(value.size)]
        parts.append(slice_of(tracer, {'self': value, 'dim': dim, 'start': start},
                              value.like.new_empty(size)))
    return joined(tracer, parts, dim, like)


@reads('index_select', 'index', 'flip', 'roll')
def chosen(tracer: Tracer, a: Args, like: Tensor) -> Value:
    """Choose by constant indices along one axis, or along several, one after another."""
    value = a['self']
    orders: dict[int, list[int]] = {}
    count = value.like.ndim
    if tracer.operator == 'index_select':
        orders[a['dim'] % count] = a['index']
    elif tracer.operator == 'flip':
        orders = {dim % count: list(range(value.size[dim]))[::-1] for dim in a['dims']}
    elif tracer.operator == 'roll':
        for dim, by in zip(each(a['dims'], 1), each(a['shifts'], 1)):
            whole = value.size[dim]
            orders[dim % count] = [(i - by) % whole for i in range(whole)]
    else:
        orders = {dim: index for dim, index in enumerate(a['indices']) if index is not None}
        if len(orders) != 1 or isinstance([*orders.values()][0], Value):
            tracer.unknown()
    for dim, order in orders.items():
        if isinstance(order, Tensor):
            if order.ndim != 1 or order.dtype == torch.bool:
                tracer.unknown()
            order = (order % value.size[dim]).tolist()
        size = [len(order) if i == dim else length for i, length in enumerate(value.size)]
        value = gathered(tracer, value, dim, list(order), like.new_empty(size))
    return value


@reads('constant_pad_nd', 'pad')
def pad(tracer: Tracer, a: Args, like: Tensor) -> Value:
    value, sizes = a['self'], [int(size) for size in a['pad']]
    if a.get('mode', 'constant') != 'constant':
        refuse_padding(tracer, a, like)
    if not any(sizes):
        return value
    dims = [like.ndim - 1 - i for i in range(len(sizes) // 2)]
    padded = [dim for i, dim in enumerate(dims) if any(sizes[2 * i:2 * i + 2])]
    value, _ = tracer.placed(value, padded)
    padding = [size for i, dim in enumerate(dims) if dim != value.axis
               for size in sizes[2 * i:2 * i + 2]]
    filling = float(a.get('value') or 0)
    return unary(tracer, 'pad', value, like, padding=padding,
                 **({'filling': filling} if filling else {}))


@reads('reflection_pad1d', 'reflection_pad2d', 'replication_pad1d', 'replication_pad2d',
       '_pad_circular')
def refuse_padding(tracer: Tracer, a: Args, like: Tensor) -> Value:
    mode = a.get('mode', tracer.operator)
    kind = next((kind for kind in ('reflect', 'replic', 'circular') if kind in mode), mode)
    name = {'reflect': 'reflection', 'replic': 'replication'}.get(kind, kind)
    tracer.refuse(f'pads by {name}; only zeros are known',
                  "use padding_mode='zeros', or F.pad with a constant")
