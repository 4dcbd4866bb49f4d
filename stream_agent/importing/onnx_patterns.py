"""Functions that exporters write out as several operators, found again where the last is read."""

from math import isclose, sqrt

from stream_agent.importing.onnx_reader import Node, Value
from stream_agent.importing.program import ImportedOperation


def maker(node: Node, name: str, kind: str) -> ImportedOperation | None:
    """Return the operation that gives a value, if it is of this kind."""
    operation = node.reader.operations.get(name)
    return operation if operation and operation.kind == kind else None


def factors(node: Node, name: str) -> tuple[float, list[str]]:
    """Return the number and the values whose product a value is."""
    if (scale := maker(node, name, 'scale')) and not scale.options.get('offset', 0.0):
        number, names = factors(node, scale.of[0])
        return number * scale.options['factor'], names
    if product := maker(node, name, 'multiply'):
        parts = [factors(node, each) for each in product.of]
        return parts[0][0] * parts[1][0], parts[0][1] + parts[1][1]
    return 1.0, [name]


def gelu_or(node: Node, product: Value) -> Value:
    """Return the GELU that a product is, x / 2 (1 + erf(x / sqrt(2))), or the product."""
    number, names = factors(node, product.name)
    for above, source in (names, names[::-1]) if len(names) == 2 else ():
        shifted = maker(node, above, 'scale')
        if not shifted or (shifted.options['factor'], shifted.options.get('offset')) != (1, 1):
            continue
        if error := maker(node, shifted.of[0], 'erf'):
            inner, inside = factors(node, error.of[0])
            if inside == [source] and isclose(number, 0.5, rel_tol=1e-5) and isclose(
                    inner, sqrt(0.5), rel_tol=1e-5):
                return node.emit('gelu', node.reader.results[source])
    return product


def attention_or_none(node: Node, weights: Value, values: Value) -> Value | None:
    """Return the attention that a product is, softmax(scale query key') value, or None."""
    results, axes = node.reader.results, len(values.shape)
    softmax = maker(node, weights.name, 'softmax')
    if not softmax or softmax.options['axis'] != axes - 1:
        return None
    scale, names = factors(node, softmax.of[0])
    product = maker(node, names[0], 'matmul') if len(names) == 1 else None
    sides = [factors(node, name) for name in product.of] if product else []
    if any(len(names) > 1 for _, names in sides) or not sides:
        return None
    query, turned = (results[names[0]] for _, names in sides)
    alike = {(value.shape[:-2], value.front) for value in (query, turned, values)}
    if len(alike) > 1 or values.axis is None or values.axis >= axes - 2:
        return None
    permute = maker(node, turned.name, 'permute')
    source = results[permute.of[0]] if permute else turned
    order = [*permute.options['axes']] if permute else [*range(axes)]
    order[-2:] = order[:-3:-1]
    key = source if order == sorted(order) else node.emit(
        'permute', source, axes=order, front=source.front)
    return node.emit('attention', query, key, values, scale=scale * sides[0][0] * sides[1][0])


def is_softplus(node: Node, value: Value, other: Value) -> bool:
    """Return whether a value is the softplus of another one, by any factor."""
    _, names = factors(node, value.name)
    softplus = maker(node, names[0], 'softplus') if len(names) == 1 else None
    return softplus is not None and factors(node, softplus.of[0])[1] == factors(
        node, other.name)[1]
