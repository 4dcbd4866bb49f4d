"""What torch's operators on single numbers, of one value or two, become in the vocabulary."""

from typing import Any

from stream_agent.importing.aten import Args, bounded
from stream_agent.importing.tracing import reads, Tracer, Value
import torch
from torch import Tensor

#: Operators of one value: the kind, and its options by the operator's arguments.
POINTWISE: dict[str, tuple[str, dict[str, str]]] = {
    'relu': ('relu', {}), 'sigmoid': ('sigmoid', {}), 'tanh': ('tanh', {}),
    'silu': ('silu', {}), 'hardswish': ('hard_swish', {}), 'hardsigmoid': ('hard_sigmoid', {}),
    'sqrt': ('square_root', {}), 'exp': ('exponential', {}), 'log': ('logarithm', {}),
    'abs': ('absolute', {}), 'gelu': ('gelu', {'approximate': 'approximate'}),
    'leaky_relu': ('leaky_relu', {'slope': 'negative_slope'}),
    'hardtanh': ('clip', {'low': 'min_val', 'high': 'max_val'}),
    'clamp': ('clip', {'low': 'min', 'high': 'max'}), 'clamp_min': ('clip', {'low': 'min'}),
    'clamp_max': ('clip', {'high': 'max'}), 'relu6': ('clip', {})}
USUAL = {'slope': 0.01, 'approximate': 'none', 'low': None, 'high': None}


@reads(*POINTWISE)
def pointwise(tracer: Tracer, a: Args, like: Tensor) -> Value:
    name = tracer.operator
    kind, names = POINTWISE[name]
    options = {ours: a[theirs] for ours, theirs in names.items() if a[theirs] != USUAL[ours]}
    if name == 'relu6':
        options = {'low': 0.0, 'high': 6.0}
    if any(isinstance(value, (Tensor, Value)) for value in options.values()):
        tracer.unknown()
    return unary(tracer, kind, a['self'], like, **options)


def unary(tracer: Tracer, kind: str, value: Value, like: Tensor, **options: Any) -> Value:
    return tracer.emit(kind, [value], like, value.axis, options)


@reads('elu', 'celu', 'selu')
def elu(tracer: Tracer, a: Args, like: Tensor) -> Value:
    alpha, scale, inner = (a.get(name, 1.0) for name in ('alpha', 'scale', 'input_scale'))
    if tracer.operator == 'celu':
        inner = 1 / alpha
    if tracer.operator == 'selu':
        alpha, scale = 1.6732632423543772, 1.0507009873554805
    value = a['self']
    if inner != 1:  # elu(x * inner), of which the positive half is not scaled
        value = unary(tracer, 'scale', value, like, factor=float(inner))
        low = unary(tracer, 'clip', value, like, high=0.0)
        low = unary(tracer, 'elu', low, like, alpha=float(alpha))
        high = unary(tracer, 'relu', a['self'], like)
        value = tracer.emit('add', [low, high], like, value.axis)
    else:
        value = unary(tracer, 'elu', value, like, **({} if alpha == 1 else {'alpha': alpha}))
    return value if scale == 1 else unary(tracer, 'scale', value, like, factor=float(scale))


@reads('softplus')
def softplus(tracer: Tracer, a: Args, like: Tensor) -> Value:
    if a['beta'] == 1:
        return unary(tracer, 'softplus', a['self'], like)
    value = unary(tracer, 'scale', a['self'], like, factor=float(a['beta']))
    value = unary(tracer, 'softplus', value, like)
    return unary(tracer, 'scale', value, like, factor=1 / a['beta'])


@reads('mish')
def mish(tracer: Tracer, a: Args, like: Tensor) -> Value:
    soft = unary(tracer, 'softplus', a['self'], like)
    gate = unary(tracer, 'tanh', soft, like)
    return tracer.emit('multiply', [a['self'], gate], like, gate.axis)


@reads('log_sigmoid', 'log_sigmoid_forward')
def log_sigmoid(tracer: Tracer, a: Args, like: Any) -> Any:
    value = a['self']
    for kind, options in (('scale', {'factor': -1.0}), ('softplus', {}),
                          ('scale', {'factor': -1.0})):
        value = unary(tracer, kind, value, value.like, **options)
    return value if isinstance(like, Tensor) else (value, None)


@reads('threshold')
def threshold(tracer: Tracer, a: Args, like: Tensor) -> Value:
    if a['threshold'] or a['value']:
        tracer.unknown()
    return unary(tracer, 'relu', a['self'], like)


@reads('prelu', '_prelu_kernel')
def prelu(tracer: Tracer, a: Args, like: Tensor) -> Value:
    """Leaky with a slope by channel: relu(x) - slope relu(-x)."""
    value, slope = a['self'], tracer.weight(a['weight'])
    if slope.ndim == 1:
        slope = slope.reshape(-1, *[1] * max(like.ndim - 2, 0))
    high = unary(tracer, 'relu', value, like)
    low = unary(tracer, 'relu', unary(tracer, 'scale', value, like, factor=-1.0), like)
    return combined(tracer, 'subtract', high, affine(tracer, low, like, weight=slope), like)


@reads('pow')
def power(tracer: Tracer, a: Args, like: Tensor) -> Value:
    exponent = a['exponent']
    if not isinstance(exponent, (int, float)) or not isinstance(a['self'], Value):
        tracer.unknown()
    if exponent == 2:
        return tracer.emit('multiply', [a['self']] * 2, like, a['self'].axis)
    if exponent == 0.5:
        return unary(tracer, 'square_root', a['self'], like)
    return unary(tracer, 'power', a['self'], like, exponent=float(exponent))


@reads('square', 'rsqrt', 'reciprocal')
def named_power(tracer: Tracer, a: Args, like: Tensor) -> Value:
    exponents = {'square': 2, 'rsqrt': -0.5, 'reciprocal': -1}
    return power(tracer, {**a, 'exponent': exponents[tracer.operator]}, like)


@reads('neg')
def negative(tracer: Tracer, a: Args, like: Tensor) -> Value:
    return unary(tracer, 'scale', a['self'], like, factor=-1.0)


@reads('softmax', '_softmax', 'log_softmax', '_log_softmax')
def softmax(tracer: Tracer, a: Args, like: Tensor) -> Value:
    value, (axis,) = tracer.placed(a['self'], [a['dim']])
    result = tracer.emit('softmax', [value], like, value.axis, {'axis': axis})
    return unary(tracer, 'logarithm', result, like) if 'log' in tracer.operator else result


@reads('dropout', 'feature_dropout', 'alpha_dropout', 'feature_alpha_dropout', 'native_dropout',
       'bernoulli')
def dropout(tracer: Tracer, a: Args, like: Any) -> Any:
    if tracer.operator == 'bernoulli' or a.get('train', True) and a['p']:
        tracer.refuse('drops out in each call', 'call .eval() before the export; where it is a '
                      'function, pass training=self.training')
    return a['self'] if isinstance(like, Tensor) else (a['self'], None)


@reads('clone', 'contiguous', 'detach', 'alias', 'lift_fresh_copy', 'to', '_to_copy', 'type_as',
       'view_as', 'lift_fresh')
def same(tracer: Tracer, a: Args, like: Tensor) -> Value:
    if not like.is_floating_point():
        tracer.refuse(f'rounds to {str(like.dtype).partition(".")[2]}', 'leave the values as '
                      'floating-point numbers')
    return Value(a['self'].name, like, a['self'].axis)


# Of two values.

def combined(tracer: Tracer, kind: str, left: Any, right: Any, like: Tensor) -> Value:
    """Add an operation of two values with broadcasting; one may be constant."""
    values, axis = tracer.aligned([left, right], like.ndim)
    return tracer.emit(kind, values, like, axis)


def affine(tracer: Tracer, value: Value, like: Tensor, weight: Tensor | None = None,
           bias: Tensor | None = None) -> Value:
    """
    Scale or shift by a constant.

    :returns: Of the traced size ``like``, which may be larger than that of the value.
    """
    given = tracer.weight(bias if weight is None else weight)
    if given.numel() == 1:
        number = float(given)
        options = {'offset': number} if weight is None else {'factor': number}
        value = tracer.reshaped(value, like.shape, value.axis) if value.size != like.shape \
            else value
        return unary(tracer, 'scale', value, like, **options)
    if value.size != tuple(like.shape):
        return combined(tracer, 'add' if weight is None else 'multiply', value, given, like)
    if value.axis is not None and ((1,) * (like.ndim - given.ndim) + given.shape)[value.axis] != 1:
        raise AssertionError('a constant that enlarges the batch changes the size')
    size = [1] * (like.ndim - given.ndim) + list(given.shape)
    shape = [length for i, length in enumerate(size) if i != value.axis]
    given = given.reshape(shape)
    weights = {'weight': torch.ones(shape) if weight is None else given,
               'bias': torch.zeros(shape) if bias is None else given}
    return tracer.emit('affine', [value], like, value.axis, {'shape': shape}, weights)


def as_tensor(number: Any) -> Any:
    return number if isinstance(number, (Tensor, Value)) else torch.tensor(float(number))


@reads('add', 'sub', 'rsub', 'subtract')
def add(tracer: Tracer, a: Args, like: Tensor) -> Value:
    left, right, alpha = as_tensor(a['self']), as_tensor(a['other']), a.get('alpha', 1)
    sign = 1 if tracer.operator == 'add' else -1
    if tracer.operator == 'rsub':  # other - alpha * self
        left, right = right, left
    if alpha != 1:
        right = right * alpha if isinstance(right, Tensor) else \
            unary(tracer, 'scale', right, right.like, factor=float(alpha))
    if isinstance(right, Tensor):
        return affine(tracer, left, like, bias=bounded(sign * right))
    if isinstance(left, Tensor):
        if sign < 0:
            right = unary(tracer, 'scale', right, right.like, factor=-1.0)
        return affine(tracer, right, like, bias=bounded(left))
    return combined(tracer, 'add' if sign > 0 else 'subtract', left, right, like)


@reads('mul', 'multiply')
def multiply(tracer: Tracer, a: Args, like: Tensor) -> Value:
    left, right = as_tensor(a['self']), as_tensor(a['other'])
    if isinstance(left, Tensor):
        left, right = right, left
    if isinstance(right, Tensor):
        return affine(tracer, left, like, weight=right)
    return combined(tracer, 'multiply', left, right, like)


@reads('div', 'divide', 'true_divide')
def divide(tracer: Tracer, a: Args, like: Tensor) -> Value:
    left, right = as_tensor(a['self']), as_tensor(a['other'])
    if a.get('rounding_mode'):
        tracer.refuse('rounds', 'divide without rounding_mode')
    if isinstance(right, Tensor):
        return affine(tracer, left, like, weight=(1 / right.double()).float())
    return combined(tracer, 'divide', left, right, like)


@reads('maximum', 'minimum')
def extreme(tracer: Tracer, a: Args, like: Tensor) -> Value:
    kind = 'maximum' if tracer.operator.startswith('max') else 'minimum'
    return combined(tracer, kind, a['self'], a['other'], like)


@reads('masked_fill', 'where')
def masked(tracer: Tracer, a: Args, like: Tensor) -> Value:
    """Choose by a constant mask: kept values times one, others times zero plus the filling."""
    mask: Any = a.get('mask', a.get('condition'))
    if tracer.operator == 'where':
        kept, other = as_tensor(a['self']), as_tensor(a['other'])
    else:
        mask, kept, other = ~mask if isinstance(mask, Tensor) else mask, a['self'], a['value']
        other = as_tensor(other)
    if isinstance(mask, Value):
        tracer.refuse('chooses by the values of tensors', 'blend both by multiplication')
    parts: list[Any] = []
    for part, where in ((kept, mask), (other, ~mask)):
        if isinstance(part, Tensor):
            shape = torch.broadcast_shapes(part.shape, where.shape)
            filling = bounded(part)
            parts.append(torch.where(where, filling, torch.zeros(())).expand(shape))
        else:
            parts.append(affine(tracer, part, part.like + where.to('meta').float(),
                                weight=where.float()))
    if isinstance(parts[0], Tensor):
        parts.reverse()
    if isinstance(parts[1], Tensor):
        return affine(tracer, parts[0], like, bias=parts[1])
    return combined(tracer, 'add', parts[0], parts[1], like)
