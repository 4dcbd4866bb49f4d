"""Operators of ONNX that have weights or windows: convolutions, pools, norms, cells."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from stream_agent.importing.onnx_reader import as_weight, Node, Value
from stream_agent.importing.onnx_shapes import positive
import torch
from torch import Tensor
from torch.nn import functional


def window(node: Node, lengths: Sequence[int], kernel: Sequence[int]
           ) -> tuple[list[int], list[int], list[int]]:
    """Return stride, dilation and padding, begins then ends, of a window over these lengths."""
    axes = len(lengths)
    stride = list(node.get('strides', [1] * axes))
    dilation = list(node.get('dilations', [1] * axes))
    mode = node.text('auto_pad', 'NOTSET')
    if mode in ('NOTSET', ''):
        return stride, dilation, list(node.get('pads', [0] * 2 * axes))
    if mode == 'VALID':
        return stride, dilation, [0] * 2 * axes
    totals = [max((-(-length // step) - 1) * step + (size - 1) * spread + 1 - length, 0)
              for length, size, step, spread in zip(lengths, kernel, stride, dilation)]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return stride, dilation, small + large if mode == 'SAME_UPPER' else large + small


def read_convolution(node: Node) -> None:
    value, weight = node.input(0), node.weight(1, 'weight')
    kernel = list(weight.shape[2:])
    check_axes(node, value, (1, 2))
    stride, dilation, padding = window(node, value.shape[2:], kernel)
    weights = {'layer.weight': weight}
    if node.has(2):
        weights['layer.bias'] = node.weight(2, 'bias')
    node.give(node.emit('convolution', value, weights=weights, channels=len(weight),
                        kernel=kernel, stride=stride, padding=padding, dilation=dilation,
                        groups=node.get('group', 1), bias=node.has(2)))


def check_axes(node: Node, value: Value, allowed: tuple[int, ...]) -> None:
    """Refuse windows over another number of axes."""
    axes = len(value.shape) - 2
    if value.axis or axes not in allowed:
        raise node.fault(f'works over {axes} axes; the vocabulary has {allowed[-1]} of them, '
                         'and the batch in front')


def maps(node: Node, value: Value) -> tuple[Value, list[int]]:
    """Return a sequence as maps of one row, and what its windows have more in front."""
    check_axes(node, value, (1, 2))
    if len(value.shape) == 4:
        return value, []
    batch, channels, length = value.shape
    return node.shaped(value, [batch, channels, 1, length], 1), [1]


def without_row(node: Node, value: Value, more: list[int]) -> Value:
    """Return maps of one row as a sequence, where ``maps`` has made maps of it."""
    if not more:
        return value
    batch, channels, _, length = value.shape
    return node.shaped(value, [batch, channels, length], 1)


def read_transposed(node: Node) -> None:
    value, more = maps(node, node.input(0))
    weight = node.weight(1, 'weight')
    if more:
        weight = weight.unsqueeze(2)
    kernel, lengths = list(weight.shape[2:]), value.shape[2:]
    stride = more + list(node.get('strides', [1] * (2 - len(more))))
    dilation = more + list(node.get('dilations', [1] * (2 - len(more))))
    extra = [0] * len(more) + list(node.get('output_padding', [0] * (2 - len(more))))
    full = [step * (length - 1) + (size - 1) * spread + 1 + add for step, length, size, spread, add
            in zip(stride, lengths, kernel, dilation, extra)]
    mode = node.text('auto_pad', 'NOTSET')
    wanted = node.get('output_shape', None)
    if wanted is None and mode in ('SAME_UPPER', 'SAME_LOWER'):
        wanted = [length * step for length, step in zip(lengths, stride)][len(more):]
    if wanted is None:
        pads = list(node.get('pads', [0] * 2 * (2 - len(more))))
        before, behind = more_zeros(more, pads)
    else:
        totals = [max(size - want, 0) for size, want in zip(full, [1] * len(more) + list(wanted))]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        before, behind = (small, large) if mode == 'SAME_UPPER' else (large, small)
    weights = {'layer.weight': weight}
    if node.has(2):
        weights['layer.bias'] = node.weight(2, 'bias')
    own = before if before == behind else [0, 0]
    groups = node.get('group', 1)
    result = node.emit('transposed', value, weights=weights, channels=weight.shape[1] * groups,
                       kernel=kernel, stride=stride, padding=own, output_padding=extra,
                       dilation=dilation, groups=groups, bias=node.has(2))
    if own != before or own != behind:
        for axis in (2, 3):
            first, last = before[axis - 2], behind[axis - 2]
            if first or last:
                result = node.emit('slice', result, axis=axis, start=first,
                                   length=result.shape[axis] - first - last)
    node.give(without_row(node, result, more))


def more_zeros(more: list[int], pads: list[int]) -> tuple[list[int], list[int]]:
    """Return the padding of maps, in front and behind, of which a row that was added has none."""
    zeros, half = [0] * len(more), len(pads) // 2
    return zeros + pads[:half], zeros + pads[half:]


def pool_window(node: Node, value: Value) -> tuple[dict[str, Any], list[int], bool]:
    """Return kernel, stride and dilation of a pool, its padding, and if it rounds up."""
    kernel = list(node.get('kernel_shape', []))
    lengths = value.shape[2:]
    stride, dilation, padding = window(node, lengths, kernel)
    half = len(kernel)
    room = [length + first + last - (size - 1) * spread - 1 for length, first, last, size, spread
            in zip(lengths, padding[:half], padding[half:], kernel, dilation)]
    ceil = bool(node.get('ceil_mode', 0)) and any(r % step for r, step in zip(room, stride))
    if ceil and padding[:half] != padding[half:]:
        raise node.fault('rounds up, with padding that is not the same on both sides; export it '
                         'without ceil_mode')
    return {'kernel': kernel, 'stride': stride, 'dilation': dilation}, padding, ceil


def read_max_pool(node: Node) -> None:
    value = node.input(0)
    check_axes(node, value, (1, 2))
    if len([name for name in node.proto.output if name]) > 1:
        raise node.fault('gives the indices of its maxima; export the network without them')
    options, padding, ceil = pool_window(node, value)
    node.give(node.emit('max_pool', value, **options, padding=padding, ceil=ceil))


def read_average_pool(node: Node) -> None:
    value = node.input(0)
    check_axes(node, value, (1, 2))
    options, padding, ceil = pool_window(node, value)
    if any(spread != 1 for spread in options.pop('dilation')):
        raise node.fault('has dilation; the average pools of the vocabulary have none')
    half = len(padding) // 2
    before, behind = padding[:half], padding[half:]
    include = bool(node.get('count_include_pad', 0))
    if before == behind:
        node.give(node.emit('average_pool', value, **options, padding=before, ceil=ceil,
                            include_pad=include))
        return
    pads = [size for pair in zip(reversed(before), reversed(behind)) for size in pair]
    result = node.emit('average_pool', node.emit('pad', value, padding=pads), **options)
    if not include:
        # Of each window, the part that is inside.
        inside = functional.pad(torch.ones(1, 1, *value.shape[2:]), pads)
        pool = {1: functional.avg_pool1d, 2: functional.avg_pool2d}[half]
        shares = pool(inside, tuple(options['kernel']), tuple(options['stride']))[0]
        result = node.emit('affine', result, shape=list(shares.shape), weights={
            'weight': 1 / shares, 'bias': torch.zeros_like(shares)})
    node.give(result)


def read_global_average(node: Node) -> None:
    value = node.input(0)
    node.give(node.emit('mean', value, axes=list(range(2, len(value.shape))), keep=True))


def read_global_maximum(node: Node) -> None:
    value = node.input(0)
    node.give(node.emit('largest', value, axes=list(range(2, len(value.shape))), keep=True))


def read_batch_norm(node: Node) -> None:
    value = node.input(0)
    scale, bias, mean, variance = (node.needed(i, 'weights').astype(np.float64)
                                   for i in range(1, 5))
    factor = scale / np.sqrt(variance + node.get('epsilon', 1e-5))
    shape = [len(factor)] + [1] * (len(value.shape) - 2)
    node.give(node.emit('affine', value, shape=shape, weights={
        'weight': as_weight(factor.reshape(shape)),
        'bias': as_weight((bias - mean * factor).reshape(shape))}))


def read_layer_norm(node: Node) -> None:
    value = node.input(0)
    shape = list(value.shape[positive(node.get('axis', -1), len(value.shape)):])
    bias = node.weight(2, 'bias') if node.has(2) else torch.zeros(())
    weights = {'weight': node.weight(1, 'weight'), 'bias': bias}
    node.give(node.emit('layer_norm', value, shape=shape, eps=node.get('epsilon', 1e-5), weights={
        name: each.expand(shape).contiguous() for name, each in weights.items()}))


def read_instance_norm(node: Node) -> None:
    weight = node.weight(1, 'weight')
    node.give(node.emit('group_norm', node.input(0), groups=len(weight),
                        eps=node.get('epsilon', 1e-5),
                        weights={'weight': weight, 'bias': node.weight(2, 'bias')}))


def read_group_norm(node: Node) -> None:
    value, groups = node.input(0), node.get('num_groups', 1)

    def weight(index: int) -> Tensor:
        found = node.weight(index, 'weights')
        # Before opset 21, there was one for each group.
        return found.repeat_interleave(value.shape[1] // len(found))
    node.give(node.emit('group_norm', value, groups=groups, eps=node.get('epsilon', 1e-5),
                        weights={'weight': weight(1), 'bias': weight(2)}))


def reordered(array: np.ndarray, hidden: int, order: Sequence[int]) -> Tensor:
    """Return weights of one direction with their gates, parts of the first axis, in an order."""
    return as_weight(np.concatenate([array[i * hidden:(i + 1) * hidden] for i in order]))


def read_cell(node: Node) -> None:
    """Read a recurrent layer of one frame: one cell and its state."""
    kind, hidden = node.proto.op_type, node.get('hidden_size', 0)
    value, turned = node.input(0), bool(node.get('layout', 0))
    place = 1 if turned else 0
    count = value.sizes(node.reader.batch)[place]
    if count != 1:
        raise node.fault(f'takes {count} frames at once; export the network for one frame, with '
                         'its state as input and output')
    check_cell(node)
    order = {'GRU': (1, 0, 2), 'LSTM': (0, 2, 3, 1)}[kind]
    gates = len(order)
    both = (node.needed(3, 'bias')[0] if node.has(3)
            else np.zeros(2 * gates * hidden, np.float32))
    weights = {'cell.weight_ih': reordered(node.needed(1, 'weight')[0], hidden, order),
               'cell.weight_hh': reordered(node.needed(2, 'weight')[0], hidden, order),
               'cell.bias_ih': reordered(both[:gates * hidden], hidden, order),
               'cell.bias_hh': reordered(both[gates * hidden:], hidden, order)}
    given = [flat(node, node.input(i)) for i in ((5, 6) if kind == 'LSTM' else (5,))]
    state = given[0] if kind == 'GRU' else node.emit('concatenate', *given, axis=1)
    cell = node.emit(f'{kind.lower()}_cell', flat(node, value), state, weights=weights)
    parts = [cell] if kind == 'GRU' else [
        node.emit('slice', cell, axis=1, start=i * hidden, length=hidden) for i in (0, 1)]
    last = [[-1, 1, hidden] if turned else [1, -1, hidden]] * 2
    whole = [-1, 1, 1, hidden] if turned else [1, 1, -1, hidden]
    node.give(*(node.shaped(part, shape, 1)
                for part, shape in zip([parts[0], *parts], [whole, *last])))


def flat(node: Node, value: Value) -> Value:
    """Return a value of one frame and one layer as (B, features)."""
    return node.shaped(value, [-1, value.shape[-1]], 1)


def check_cell(node: Node) -> None:
    """Refuse cells that are not torch's."""
    kind = node.proto.op_type
    if node.text('direction', 'forward') != 'forward':
        raise node.fault(f"runs '{node.text('direction', '')}'; frames come forward only")
    if kind == 'GRU' and not node.get('linear_before_reset', 0):
        raise node.fault('resets after multiplying (linear_before_reset=0), another cell than '
                         "torch's; export it from torch, or train it with reset_after=True")
    if node.has(4):
        raise node.fault('takes sequence lengths; export the network for one frame')
    names = [each.decode().lower() for each in node.get('activations', [])]
    usual = {'GRU': ['sigmoid', 'tanh'], 'LSTM': ['sigmoid', 'tanh', 'tanh']}[kind]
    if names and names != usual or node.get('clip', 0) or node.get('input_forget', 0) or (
            node.has(7) and np.any(node.constant(7))):
        raise node.fault("has other activations, peepholes, or bounds than torch's cell; export "
                         'it with the usual ones')
    for index in (5, 6) if kind == 'LSTM' else (5,):
        if not node.has(index) or node.constant(index) is not None:
            raise node.fault('starts from a constant in every frame, and so forgets; export the '
                             'network with its state as an input and an output: forward(image, '
                             'h) -> (command, h)')


LAYER_OPERATORS: Mapping[str, Callable[[Node], None]] = {
    'Conv': read_convolution, 'ConvTranspose': read_transposed, 'MaxPool': read_max_pool,
    'AveragePool': read_average_pool, 'GlobalAveragePool': read_global_average,
    'GlobalMaxPool': read_global_maximum, 'BatchNormalization': read_batch_norm,
    'LayerNormalization': read_layer_norm, 'InstanceNormalization': read_instance_norm,
    'GroupNormalization': read_group_norm, 'GRU': read_cell, 'LSTM': read_cell,
}
