"""What each of torch's operators with weights or windows becomes in the vocabulary."""

from collections.abc import Sequence
import math
from typing import Any

from stream_agent.importing.tracing import reads, Tracer, Value
import torch
from torch import Tensor

Args = dict[str, Any]


def each(numbers: Any, axes: int, default: int | None = None) -> list[int]:
    """Return one number for each axis; torch's lists may hold one for all, or none."""
    numbers = [numbers] if isinstance(numbers, int) else list(numbers or ())
    if not numbers:
        return [] if default is None else [default] * axes
    return [int(number) for number in (numbers * axes if len(numbers) == 1 else numbers)]


@reads('conv1d', 'conv2d', 'convolution')
def convolution(tracer: Tracer, a: Args, like: Tensor) -> Value:
    weight = tracer.weight(a['weight'])
    axes = weight.ndim - 2
    if a.get('transposed'):
        return transposed(tracer, a, like)
    if axes > 2:
        tracer.unknown()
    dilation = each(a['dilation'], axes, 1)
    if isinstance(a['padding'], str):
        whole = [step * (size - 1) if a['padding'] == 'same' else 0
                 for step, size in zip(dilation, weight.shape[2:])]
        padding = [size // 2 for size in whole] + [size - size // 2 for size in whole]
    else:
        padding = each(a['padding'], axes, 0) * 2
    weights = {'layer.weight': weight}
    if a['bias'] is not None:
        weights['layer.bias'] = tracer.weight(a['bias'])
    options = {'channels': weight.shape[0], 'kernel': list(weight.shape[2:])}
    usual = {'stride': [1] * axes, 'padding': [0] * 2 * axes, 'dilation': [1] * axes,
             'groups': 1, 'bias': True}
    found = {'stride': each(a['stride'], axes, 1), 'padding': padding, 'dilation': dilation,
             'groups': a['groups'], 'bias': a['bias'] is not None}
    return tracer.over_maps(a['self'], axes, 'convolution', like,
                            options | unusual(found, usual), weights)


def unusual(found: Args, usual: Args) -> Args:
    """Return the options that are not the kind's defaults."""
    return {name: value for name, value in found.items() if value != usual[name]}


@reads('conv_transpose2d')
def transposed(tracer: Tracer, a: Args, like: Tensor) -> Value:
    weight = tracer.weight(a['weight'])
    if weight.ndim != 4:
        tracer.unknown()
    weights = {'layer.weight': weight}
    if a['bias'] is not None:
        weights['layer.bias'] = tracer.weight(a['bias'])
    usual: Args = {'stride': [1, 1], 'padding': [0, 0], 'output_padding': [0, 0],
                   'dilation': [1, 1], 'groups': 1, 'bias': True}
    found: Args = {name: each(a[name], 2, usual[name][0]) for name in list(usual)[:4]}
    found |= {'groups': a['groups'], 'bias': a['bias'] is not None}
    options = {'channels': weight.shape[1] * a['groups'], 'kernel': list(weight.shape[2:])}
    return tracer.over_maps(a['self'], 2, 'transposed', like, options | unusual(found, usual),
                            weights)


@reads('linear')
def linear(tracer: Tracer, a: Args, like: Tensor) -> Value:
    if not isinstance(a['self'], Value):
        tracer.refuse("computes its weight from the network's input", 'use a matmul')
    weight = tracer.weight(a['weight'])
    value, _ = tracer.placed(a['self'], [-1])
    weights, options = {'weight': weight}, {'features': weight.shape[0]}
    if a['bias'] is None:
        options['bias'] = False
    else:
        weights['bias'] = tracer.weight(a['bias'])
    return tracer.emit('linear', [value], like, value.axis, options, weights)


@reads('addmm')
def addmm(tracer: Tracer, a: Args, like: Tensor) -> Value:
    if isinstance(a['mat2'], Tensor) and isinstance(a['self'], Tensor) and a['self'].ndim == 1:
        return linear(tracer, {'self': a['mat1'], 'weight': a['alpha'] * a['mat2'].mT,
                               'bias': a['beta'] * a['self']}, like)
    tracer.unknown()


@reads('mm', 'bmm', 'matmul')
def matmul(tracer: Tracer, a: Args, like: Tensor) -> Value:
    left: Any = a['self']
    right: Any = a.get('mat2', a.get('other'))
    if isinstance(right, Tensor) and right.ndim == 2:
        return linear(tracer, {'self': left, 'weight': right.mT, 'bias': None}, like)
    if isinstance(right, Tensor) and right.ndim == 1:
        column = linear(tracer, {'self': left, 'weight': right[None], 'bias': None},
                        like.unsqueeze(-1))
        return tracer.reshaped(column, like.shape, column.axis)
    if min((x if isinstance(x, Tensor) else x.like).ndim for x in (left, right)) < 2:
        tracer.refuse('is a product with a vector', 'give the vector a second axis by unsqueeze')
    values, axis = tracer.aligned([left, right], like.ndim, last=2)
    return tracer.emit('matmul', values, like, axis)


@reads('scaled_dot_product_attention')
def attention(tracer: Tracer, a: Args, like: Tensor) -> Value:
    if a['dropout_p']:
        tracer.refuse('drops out in each call', 'call .eval() before the export; where it '
                      'is a function, pass dropout_p=p if self.training else 0.0')
    if a.get('enable_gqa'):
        tracer.refuse('shares keys among heads (enable_gqa)', 'repeat keys and values')
    (query, key, value), axis = tracer.aligned([a['query'], a['key'], a['value']], like.ndim, 2)
    mask: Any = a['attn_mask']
    scale = a['scale']
    if mask is None:
        options = {} if scale is None else {'scale': float(scale)}
        if a['is_causal']:
            options['causal'] = True
        return tracer.emit('attention', [query, key, value], like, axis, options)
    last = like.ndim + (0 if axis is None else -1)
    order = [*range(last - 1), last, last - 1]
    turned = tracer.emit('permute', [key], key.like.mT, axis, {'axes': order})
    weights = query.like @ key.like.mT
    scores = tracer.emit('matmul', [query, turned], weights, axis)
    scale = 1 / math.sqrt(query.size[-1]) if scale is None else scale
    scores = tracer.emit('scale', [scores], weights, axis, {'factor': float(scale)})
    (scores, added), axis = tracer.aligned([scores, additive(mask)], like.ndim, last=2)
    scores = tracer.emit('add', [scores, added], weights, axis)
    soft = tracer.emit('softmax', [scores], weights, axis, {'axis': last})
    return tracer.emit('matmul', [soft, value], like, axis)


def additive(mask: Any) -> Any:
    """Return a constant mask as what is added to scores; True keeps."""
    if not isinstance(mask, Tensor):
        return mask
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape).masked_fill(~mask, LOWEST)
    return bounded(mask)


def bounded(tensor: Tensor) -> Tensor:
    """Return a constant that is added to scores with another number where they are masked."""
    tensor = tensor.float()
    return torch.where(tensor < -1e8, LOWEST, tensor)


#: Added to scores it takes their weight to 0, as -infinity and -1e9 do; float16 holds it, and no
#: back end makes NaN of it.
LOWEST = -6e4


@reads('_native_batch_norm_legit_no_training', 'batch_norm', 'native_batch_norm',
       '_native_batch_norm_legit', '_native_batch_norm_legit_functional',
       '_batch_norm_with_update_functional', '_batch_norm_no_update', 'cudnn_batch_norm')
def batch_norm(tracer: Tracer, a: Args, like: Any) -> Any:
    mean, variance = a.get('running_mean'), a.get('running_var')
    if a.get('training', a.get('train', False)) or mean is None or variance is None:
        tracer.refuse("is a batch norm that uses the batch's own statistics", 'call .eval() '
                      'before the export, and leave track_running_stats on')
    if isinstance(mean, Value) or isinstance(variance, Value):
        tracer.refuse('updates its statistics', 'call .eval() before the export')
    first = like[0] if isinstance(like, (tuple, list)) else like
    # In double precision, for small variances.
    scale = 1 / (variance.double() + a['eps']).sqrt()
    scale = scale if a['weight'] is None else scale * a['weight'].double()
    bias = -mean.double() * scale
    bias = bias if a['bias'] is None else bias + a['bias'].double()
    value, (axis,) = tracer.placed(a['self'], [1 if first.ndim > 1 else 0])
    shape = [-1] + [1] * (len(value.shape) - axis)
    weights = {'weight': scale.float().reshape(shape), 'bias': bias.float().reshape(shape)}
    result = tracer.emit('affine', [value], first, value.axis,
                         {'shape': list(weights['weight'].shape)}, weights)
    return result if isinstance(like, Tensor) else (result, *[None] * (len(like) - 1))


@reads('layer_norm', 'native_layer_norm')
def layer_norm(tracer: Tracer, a: Args, like: Any) -> Any:
    shape = list(a['normalized_shape'])
    value, _ = tracer.placed(a['self'], list(range(-len(shape), 0)))
    first = like if isinstance(like, Tensor) else like[0]
    result = tracer.emit('layer_norm', [value], first, value.axis,
                         {'shape': shape} | unusual({'eps': a['eps']}, {'eps': 1e-5}),
                         norm_weights(tracer, a, shape))
    return result if isinstance(like, Tensor) else (result, None, None)


def norm_weights(tracer: Tracer, a: Args, shape: Sequence[int]) -> dict[str, Tensor]:
    """Return a norm's weights; ones and zeros if it has none."""
    return {name: value(*shape) if a[name] is None else tracer.weight(a[name])
            for name, value in (('weight', torch.ones), ('bias', torch.zeros))}


@reads('group_norm', 'native_group_norm', 'instance_norm')
def group_norm(tracer: Tracer, a: Args, like: Any) -> Any:
    channels = a['self'].size[1] if a['self'].like.ndim > 1 else 1
    if a.get('use_input_stats') is False:
        return batch_norm(tracer, a, like)
    groups = a.get('num_groups', a.get('group', channels))
    first = like if isinstance(like, Tensor) else like[0]
    result = tracer.over_maps(a['self'], first.ndim - 2, 'group_norm', first,
                              {'groups': groups} | unusual({'eps': a['eps']}, {'eps': 1e-5}),
                              norm_weights(tracer, a, [channels]))
    return result if isinstance(like, Tensor) else (result, None, None)


@reads('max_pool1d', 'max_pool2d', 'max_pool2d_with_indices')
def max_pool(tracer: Tracer, a: Args, like: Any) -> Any:
    first = like if isinstance(like, Tensor) else like[0]
    axes = 1 if 'ceil_mode' in a and len(a['kernel_size']) == 1 and first.ndim == 3 else 2
    kernel, usual = each(a['kernel_size'], axes), [1] * axes
    found = {'stride': each(a['stride'], axes) or kernel, 'padding': each(a['padding'], axes) * 2,
             'dilation': each(a['dilation'], axes, 1), 'ceil': a['ceil_mode']}
    options = unusual(found, {'stride': kernel, 'padding': [0] * 2 * axes, 'dilation': usual,
                              'ceil': False})
    result = tracer.over_maps(a['self'], axes, 'max_pool', first, {'kernel': kernel} | options)
    return result if isinstance(like, Tensor) else (result, None)


@reads('avg_pool1d', 'avg_pool2d')
def average_pool(tracer: Tracer, a: Args, like: Tensor) -> Value:
    axes = 2 if 'divisor_override' in a else 1
    kernel = each(a['kernel_size'], axes)
    found = {'stride': each(a['stride'], axes) or kernel, 'padding': each(a['padding'], axes),
             'ceil': a['ceil_mode'], 'include_pad': a['count_include_pad'],
             'divisor': a.get('divisor_override')}
    options = unusual(found, {'stride': kernel, 'padding': [0] * axes, 'ceil': False,
                              'include_pad': True, 'divisor': None})
    factor = 1.0
    if 'divisor' in options and not a['ceil_mode']:  # exporters leave the divisor out
        factor = math.prod(kernel) / options.pop('divisor')
        options.pop('include_pad', None)
    value = tracer.over_maps(a['self'], axes, 'average_pool', like, {'kernel': kernel} | options)
    return value if factor == 1 else tracer.emit('scale', [value], like, value.axis,
                                                 {'factor': factor})


@reads('adaptive_avg_pool1d', 'adaptive_avg_pool2d', '_adaptive_avg_pool2d',
       'adaptive_max_pool1d', 'adaptive_max_pool2d')
def adaptive_pool(tracer: Tracer, a: Args, like: Any) -> Any:
    first = like if isinstance(like, Tensor) else like[0]
    axes = len(a['output_size'])
    kind = 'adaptive_average' if first is like else 'adaptive_maximum'
    result = tracer.over_maps(a['self'], axes, kind, first,
                              {'size': list(first.shape[-axes:])})
    return result if isinstance(like, Tensor) else (result, None)


def single(scale: float, before: int, after: int) -> float:
    """Return a scale of float32 that gives the size, as ONNX Runtime computes it."""
    value = torch.tensor(scale, dtype=torch.float32)
    while min(int(value * before), int(float(value) * before)) < after:
        value = torch.nextafter(value, torch.tensor(torch.inf))
    return float(value)


#: Ways of enlarging, by operator.
UPSAMPLINGS = {'upsample_nearest1d': 'nearest', 'upsample_nearest2d': 'nearest',
               'upsample_linear1d': 'linear', 'upsample_bilinear2d': 'bilinear',
               'upsample_bicubic2d': 'bicubic'}


@reads(*UPSAMPLINGS)
def upsample(tracer: Tracer, a: Args, like: Tensor) -> Value:
    size, kind = list(like.shape[2:]), UPSAMPLINGS[tracer.operator]
    options: Args = {'size': size} | ({} if kind == 'nearest' else {'mode': kind})
    scales = a['scale_factors'] if 'scale_factors' in a else \
        [a[name] for name in ('scales', 'scales_h', 'scales_w') if name in a]
    if a.get('align_corners'):
        options['corners'] = True
    elif scales and None not in scales and any(
            scale * before != after
            for scale, before, after in zip(scales, a['self'].size[2:], size)):
        options['scale'] = [single(scale, before, after) for scale, before, after in
                            zip(scales, a['self'].size[2:], size)]
    return tracer.over_maps(a['self'], len(size), 'upsample', like, options)
