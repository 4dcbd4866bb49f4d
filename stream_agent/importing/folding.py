"""Scales and shifts as part of the layer in front or behind; equal up to rounding."""

from dataclasses import replace
from typing import NamedTuple

from stream_agent.importing.program import ImportedOperation
import torch
from torch import Tensor

# Layers that a scale and a shift behind them can be a part of: what the names of their weights
# begin with, and whether the channels are the last axis of their results or the first.
LAYERS = {'convolution': ('layer.', False), 'transposed': ('layer.', False),
          'linear': ('', True), 'group_norm': ('', False)}


class Scaling(NamedTuple):
    """``source * weight + bias``, in float64."""

    source: str
    weight: Tensor
    bias: Tensor


def along(value: Tensor, rank: int, axis: int, size: int) -> Tensor | None:
    """
    Return a value by the entries of one axis of what it scales; None if it differs along others.

    :param rank: Axes of what it scales, without batch.
    """
    sizes = [1] * (rank - value.dim()) + [*value.shape]
    if len(sizes) > rank or any(n != 1 for i, n in enumerate(sizes) if i != axis):
        return None
    return value.reshape(-1).expand(size) if sizes[axis] in (1, size) else None


def scaled(layer: ImportedOperation, scaling: Scaling, rank: int) -> ImportedOperation | None:
    """
    Return a layer whose result is scaled and shifted, if it can do that.

    :param rank: Axes of its result, without batch.
    """
    if layer.kind in ('affine', 'scale'):
        return chained(layer, scaling)
    if layer.kind not in LAYERS or (layer.kind == 'transposed'
                                    and layer.options.get('groups', 1) > 1):
        return None
    prefix, last = LAYERS[layer.kind]
    weight = layer.weights[f'{prefix}weight'].double()
    axis = 1 if layer.kind == 'transposed' else 0
    size = weight.shape[axis]
    by, plus = (along(value, rank, rank - 1 if last else 0, size)
                for value in (scaling.weight, scaling.bias))
    if by is None or plus is None:
        return None
    sizes = [size if i == axis else 1 for i in range(weight.dim())]
    bias = layer.weights.get(f'{prefix}bias', torch.zeros(size)).double()
    return with_weights(layer, prefix, weight * by.reshape(sizes), bias * by + plus)


def chained(first: ImportedOperation, scaling: Scaling) -> ImportedOperation:
    """Return a scale and a shift with others behind them."""
    if first.kind == 'scale':
        factor, offset = first.options.get('factor', 1.0), first.options.get('offset', 0.0)
        if scaling.weight.numel() == scaling.bias.numel() == 1:
            by, plus = float(scaling.weight), float(scaling.bias)
            return replace(first, options={'factor': factor * by, 'offset': offset * by + plus})
        weight, bias = factor * scaling.weight, offset * scaling.weight + scaling.bias
    else:
        weight = first.weights['weight'].double() * scaling.weight
        bias = first.weights['bias'].double() * scaling.weight + scaling.bias
    weight, bias = torch.broadcast_tensors(weight, bias)
    return replace(first, kind='affine', options={'shape': list(weight.shape)}, weights={
        'weight': weight.float().contiguous(), 'bias': bias.float().contiguous()})


def scaled_before(layer: ImportedOperation, scaling: Scaling, rank: int
                  ) -> ImportedOperation | None:
    """
    Return a layer that scales and shifts what it reads, if it can do that.

    :param rank: Axes of what it reads, without batch.
    """
    # A border of zeros stays what it is if it is scaled, but not if it is shifted.
    if layer.kind not in ('convolution', 'linear') or (
            any(layer.options.get('padding', ())) and scaling.bias.any()):
        return None
    prefix, last = LAYERS[layer.kind]
    groups = layer.options.get('groups', 1)
    weight = layer.weights[f'{prefix}weight'].double()
    size = groups * weight.shape[1]
    by, plus = (along(value, rank, rank - 1 if last else 0, size)
                for value in (scaling.weight, scaling.bias))
    if by is None or plus is None:
        return None
    by, plus = (value.reshape(groups, 1, -1, *[1] * (weight.dim() - 2)) for value in (by, plus))
    grouped = weight.unflatten(0, (groups, -1))
    bias = layer.weights.get(f'{prefix}bias', torch.zeros(len(weight))).double()
    bias = bias + (grouped * plus).flatten(2).sum(2).flatten()
    return with_weights(layer, prefix, (grouped * by).flatten(0, 1), bias)


def with_weights(layer: ImportedOperation, prefix: str, weight: Tensor, bias: Tensor
                 ) -> ImportedOperation:
    """Return a layer with other weights; it has a bias from then on."""
    options = {key: value for key, value in layer.options.items() if key != 'bias'}
    return replace(layer, options=options, weights={
        f'{prefix}weight': weight.float(), f'{prefix}bias': bias.float()})
