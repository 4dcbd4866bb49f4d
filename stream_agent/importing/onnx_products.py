"""Products of matrices, as ONNX writes them: linear layers, and products of two values."""

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
from stream_agent.importing.onnx_patterns import attention_or_none
from stream_agent.importing.onnx_reader import as_weight, Node, Value
from stream_agent.importing.onnx_shapes import operands, permuted


def read_matmul(node: Node) -> None:
    left, right = node.constant(0), node.constant(1)
    if right is None and left is None:
        found = attention_or_none(node, node.input(0), node.input(1))
        node.give(found or node.emit('matmul', node.input(0), node.input(1)))
        return
    if right is None or left is not None:
        node.give(operands(node, 'matmul'))
        return
    value = node.input(0)
    while right.ndim > 2 and right.shape[0] == 1 and right.ndim <= len(value.shape):
        right = right[0]
    if right.ndim == 2:
        node.give(linear(node, value, right.T))
    else:
        node.give(node.meet('matmul', value, right))


def linear(node: Node, value: Value, weight: np.ndarray, bias: np.ndarray | None = None) -> Value:
    """Return a linear function of the last axis; its weight is (features, inputs)."""
    weights = {'weight': as_weight(weight)}
    options = {'features': len(weight)}
    if bias is None:
        return node.emit('linear', value, weights=weights, **options, bias=False)
    return node.emit('linear', value, weights=weights | {'bias': as_weight(bias)}, **options)


def read_gemm(node: Node) -> None:
    value, right, added = node.input(0), node.constant(1), node.constant(2)
    alpha, beta = node.get('alpha', 1.0), node.get('beta', 1.0)
    if node.get('transA', 0):
        value = node.emit('permute', value, axes=[1, 0], front=value.front)
    turned = bool(node.get('transB', 0))
    features = 0
    if right is not None:
        right = alpha * (right if turned else right.T).astype(np.float64)
        features = len(right)
    row = added is not None and added.size in (1, features) and added.shape[-1:] in (
        (), (1,), (features,))
    if right is not None and row and added is not None:
        bias = np.broadcast_to(beta * added.astype(np.float64).reshape(-1), features)
        node.give(linear(node, value, right, bias))
        return
    if right is not None:
        result = linear(node, value, right)
    else:
        other = node.input(1)
        if turned:
            other = node.emit('permute', other, axes=[1, 0], front=other.front)
        result = node.emit('matmul', value, other)
        if alpha != 1:
            result = node.emit('scale', result, factor=float(alpha))
    if node.has(2):
        more = node.input(2)
        if beta != 1:
            more = node.emit('scale', more, factor=float(beta))
        result = node.emit('add', result, more)
    node.give(result)


def read_einsum(node: Node) -> None:
    """Read a sum of products of two operands as a product of matrices."""
    terms, _, result = node.text('equation', '').replace(' ', '').partition('->')
    sides = terms.split(',')
    if len(sides) != 2 or '.' in terms or any(len({*side}) < len(side) for side in sides):
        raise node.fault(f"computes '{terms}->{result}'; write it as a product of two values, "
                         'each letter once in each')
    left, right = sides
    alone = [[letter for letter in side if letter not in other and letter in result]
             for side, other in ((left, right), (right, left))]
    shared = [letter for letter in left if letter in right and letter in result]
    summed = [letter for letter in left if letter in right and letter not in result]
    if {*left, *right} != {*shared, *summed, *alone[0], *alone[1]} or {*result} - {*left, *right}:
        raise node.fault(f"computes '{terms}->{result}'; sum over axes of one value before it")
    sizes: dict[str, tuple[int, int]] = {}
    for index, side in enumerate(sides):
        array = node.constant(index)
        shape, front = ((array.shape, 1) if array is not None else
                        (node.input(index).shape, node.input(index).front))
        sizes |= {letter: (size, front) for letter, size in zip(side, shape)
                  if size < 0 or letter not in sizes}
    one = arranged(node, 0, left, [shared, alone[0], summed], sizes)
    two = arranged(node, 1, right, [shared, summed, alone[1]], sizes)
    if isinstance(one, Value):
        product = multiplied(node, one, two)
    elif isinstance(two, Value):
        product = node.meet('matmul', two, one, turned=True)
    else:
        raise node.fault('multiplies constants; export the network again')
    letters = [*shared, *alone[0], *alone[1]]
    product = node.shaped(product, [sizes[letter][0] for letter in letters], max(
        [sizes[letter][1] for letter in letters if sizes[letter][0] < 0], default=1))
    node.give(permuted(node, product, [letters.index(letter) for letter in result]))


def multiplied(node: Node, value: Value, other: Value | np.ndarray) -> Value:
    """Return a product of matrices, of which the second may be a weight."""
    if isinstance(other, Value):
        return node.emit('matmul', value, other)
    return linear(node, value, other.T) if other.ndim == 2 else node.meet('matmul', value, other)


def arranged(node: Node, index: int, letters: str, groups: Sequence[Sequence[str]],
             sizes: Mapping[str, tuple[int, int]]) -> Value | np.ndarray:
    """Return an operand with its axes in this order, the last two groups as one axis each."""
    order = [letters.index(letter) for group in groups for letter in group]
    array = node.constant(index)
    shape = [sizes[letter][0] for letter in groups[0]]
    front = max([sizes[letter][1] for letter in groups[0] if sizes[letter][0] < 0], default=1)
    for group in groups[1:]:
        lengths = [sizes[letter][0] for letter in group]
        for place, letter in enumerate(group):
            if lengths[place] < 0:
                front = prod(lengths[:place]) * sizes[letter][1]
        shape.append(prod(lengths))
    if array is not None:
        return array.transpose(order).reshape([abs(size) for size in shape])
    return node.shaped(permuted(node, node.input(index), order), shape, front)


PRODUCT_OPERATORS: Mapping[str, Callable[[Node], None]] = {
    'MatMul': read_matmul, 'Gemm': read_gemm, 'Einsum': read_einsum}
