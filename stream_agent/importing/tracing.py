"""
Follows the graph of an exported program and writes it down as operations of the vocabulary.

The program is traced with a batch of one. Every traced value has at most one axis of size 1 that
is taken for the batch; here a value has its batch in front always, and its other axes in their
order: whatever the network does to the batch axis (moves it behind the tokens for attention, drops
it, merges it with others) vanishes, and no shape holds the batch size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import operator
import re
from typing import Any, NoReturn, TypeVar

from stream_agent.importing.program import ImportedOperation, ImportFault, unused
from stream_agent.network.bodies import BODY_OPERATIONS
from stream_agent.network.transforms import Shape
import torch
from torch import fx, Tensor
from torch.utils import _pytree as trees

#: What an operator becomes: of the tracer, its arguments by name, and what it gives, on 'meta'.
Handler = Callable[['Tracer', dict[str, Any], Any], Any]

Reads = TypeVar('Reads', bound=Callable[..., Any])

#: By the operator's name without namespace and overload.
HANDLERS: dict[str, Handler] = {}

#: Operators that depend on the shape of what they read, not on its values.
SHAPE_ONLY = {'zeros_like', 'ones_like', 'full_like', 'empty_like', 'new_zeros', 'new_ones',
              'new_full', 'new_empty'}

#: Modules that change how others run, not what they compute.
WRAPPERS = {'wrap_with_set_grad_enabled': 1, 'wrap_with_autocast': 4}


#: Kinds that compute nothing, so that a module's name is left to another operation of it.
MOVES = {'reshape', 'permute', 'select', 'slice', 'concatenate', 'expand', 'constant'}


def reads(*names: str) -> Callable[[Reads], Reads]:
    """Register what reads operators of these names."""
    def register(handler: Reads) -> Reads:
        HANDLERS.update({name: handler for name in names})
        return handler
    return register


@dataclass(frozen=True)
class Value:
    """
    A value that depends on an input.

    :param name: Of the operation, the input or the state that gives it.
    :param like: Its traced form, on the device 'meta'.
    :param axis: Which of the traced axes is the batch; None if it has none.
    """

    name: str
    like: Tensor
    axis: int | None

    @property
    def size(self) -> Shape:
        return tuple(self.like.shape)

    @property
    def shape(self) -> Shape:
        """What our operation gives, without batch."""
        return without(self.size, self.axis)


def without(size: Sequence[int], axis: int | None) -> Shape:
    """Return a traced size without its batch axis."""
    return tuple(int(length) for i, length in enumerate(size) if i != axis)


def operator_name(target: Any) -> str:
    """Return an operator's name without namespace and overload: 'conv2d'."""
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.rpartition(':')[2]
    return getattr(target, '__name__', str(target))


class Tracer:
    """
    Interprets a graph; collects operations.

    :param graph_module: Holds the graph, and graphs inside.
    """

    def __init__(self, graph_module: fx.GraphModule) -> None:
        self._root = graph_module
        self.operations: list[ImportedOperation] = []
        self.notices: list[str] = []
        self.by_name: dict[str, ImportedOperation] = {}
        #: What each operation, input and state gives, without batch; None where it is merged.
        self.shapes: dict[str, Shape | None] = {}
        self._constants: dict[Any, Value] = {}
        self._plain: dict[Any, tuple[Tensor, Tensor]] = {}
        self._node: fx.Node | None = None
        stacks = [path for node in graph_module.graph.nodes for path, _ in modules_of(node)]
        self._parents = {path.rpartition('.')[0] for path in stacks}

    # What the network is made of.

    def source(self, name: str, like: Tensor, axis: int | None) -> Value:
        """Return an input or a state as a value."""
        value = Value(name, like.to('meta'), axis)
        self.shapes[name] = value.shape
        return value

    def run(self, graph_module: fx.GraphModule, values: Sequence[Any]) -> Any:
        """
        Follow a graph.

        :param values: Of its placeholders: a Value, or a tensor for what is constant.
        :returns: What it gives.
        """
        found: dict[fx.Node, Any] = {}
        given = iter(values)
        for node in graph_module.graph.nodes:
            args, kwargs = fx.map_arg((node.args, node.kwargs), found.__getitem__)
            outer, self._node = self._node, node
            if node.op == 'placeholder':
                found[node] = next(given)
            elif node.op == 'get_attr':
                found[node] = operator.attrgetter(node.target)(graph_module)
            elif node.op == 'output':
                return args[0]
            else:
                found[node] = self._call(node.target, args, kwargs)
            self._node = outer
        raise AssertionError('a graph ends with its output')

    def _call(self, target: Any, args: tuple, kwargs: dict) -> Any:
        name = operator_name(target)
        if name.startswith(('_assert', 'sym_constrain')):
            return None
        if name in WRAPPERS:
            inner, *values = args[WRAPPERS[name]:]
            return self.run(inner, values)
        if target is operator.getitem:
            return args[0][args[1]]
        handler = HANDLERS.get(name)
        seeded = torch.Tag.nondeterministic_seeded in getattr(target, 'tags', ())
        if seeded and handler is None:
            self.refuse('draws random numbers in each call', 'call .eval() before the export; '
                        'where a function drops out, pass training=self.training')
        if not any(isinstance(leaf, Value) for leaf in trees.tree_leaves((args, kwargs))):
            return target(*args, **kwargs)
        if name in ('item', '_local_scalar_dense'):
            self.refuse('takes a number out of a tensor', 'keep it a tensor')
        try:
            return self._read(name, target, args, kwargs)
        except ImportFault:
            raise
        except Exception as error:  # An operator in a form that nobody has met.
            said = next(iter(str(error).splitlines()), type(error).__name__)
            self.refuse(f'cannot be read ({said})', 'replace it by simpler operations')

    def _read(self, name: str, target: Any, args: tuple, kwargs: dict) -> Any:
        """Return what becomes of an operator that reads values."""
        handler = HANDLERS.get(name)
        try:
            like = concrete(target, args, kwargs)
        except Exception:  # Such as what has another size for other values.
            if handler is None:
                self.unknown()
            raise
        if not any(isinstance(leaf, Tensor) for leaf in trees.tree_leaves(like)):
            return like
        if name in SHAPE_ONLY:
            return target(*trees.tree_map(in_memory, args), **trees.tree_map(in_memory, kwargs))
        if handler is None:
            self.unknown()
        return handler(self, arguments(target, args, kwargs), like)

    # What handlers use.

    @property
    def operator(self) -> str:
        """The name of the operator that is being read."""
        assert self._node is not None
        return operator_name(self._node.target)

    @property
    def place(self) -> str:
        """Say which operator of which module is being read."""
        assert self._node is not None
        path, kind = (modules_of(self._node) or [('', 'network')])[-1]
        where = f"module '{path}' ({kind})" if path else f'forward of {kind}'
        # What the network calls, where torch has taken it apart.
        called = self._node.meta.get('original_aten') or self._node.target
        return f"operator '{operator_name(called)}' of {where}"

    def refuse(self, fault: str, remedy: str) -> NoReturn:
        raise ImportFault(f'{self.place} {fault}; {remedy}')

    def unknown(self) -> NoReturn:
        self.refuse('is not in the vocabulary', 'replace it by operations of these kinds: '
                    + ', '.join(sorted(BODY_OPERATIONS)))

    def weight(self, tensor: Any, what: str = 'weight') -> Tensor:
        """Return a constant in float32; two names of one memory stay one tensor."""
        if not isinstance(tensor, Tensor):
            self.refuse(f"computes its {what} from the network's input", 'make it a parameter')
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if key not in self._plain:
            # The tensor is kept beside its copy, so that its address is not used again.
            self._plain[key] = tensor, tensor.detach().to(torch.float32).contiguous()
        return self._plain[key][1]

    def emit(self, kind: str, of: Sequence[Value | str], like: Tensor, axis: int | None,
             options: Mapping[str, Any] = {}, weights: Mapping[str, Tensor] = {},
             merged: bool = False) -> Value:
        """
        Add an operation.

        :param like: What it gives as traced.
        :param axis: Of the batch in that.
        :param merged: Whether what it gives has the batch merged with another axis.
        """
        path = ([('', ''), *(modules_of(self._node) if self._node else ())])[-1][0]
        name = re.sub(r'\W', '_', path)
        if not path or path in self._parents or name in self.shapes or kind in MOVES:
            name = unused(f'{name}_{kind}'.lstrip('_'), self.shapes)
        value = Value(name, like, axis)
        names = tuple(each if isinstance(each, str) else each.name for each in of)
        operation = ImportedOperation(name, kind, names, dict(options), dict(weights),
                                      path, () if merged else value.shape)
        self.operations.append(operation)
        self.by_name[name] = operation
        self.shapes[name] = None if merged else value.shape
        return value

    def constant(self, tensor: Tensor, size: Sequence[int], axis: int | None) -> Value:
        """Return a tensor that depends on nothing as a value of a traced size."""
        value = self.weight(tensor)
        key = (value.data_ptr(), tuple(size), axis)
        if key not in self._constants:
            shape = without(size, axis)
            like = torch.empty(*size, device='meta')
            self._constants[key] = self.emit('constant', (), like, axis, {'shape': list(shape)},
                                             {'value': value.reshape(shape)})
        return self._constants[key]

    def reshaped(self, value: Value, size: Sequence[int], axis: int | None) -> Value:
        """Return the same elements in another traced size, with another axis as the batch."""
        like, shape = value.like.new_empty(tuple(size)), without(size, axis)
        name = value.name
        while name in self.by_name and self.by_name[name].kind == 'reshape':
            name = self.by_name[name].of[0]
        for source in (value.name, name):
            if self.shapes[source] == shape:
                return Value(source, like, axis)
        return self.emit('reshape', [name], like, axis, {'shape': [-1, *shape]})

    def with_axis(self, value: Value, axis: int | None) -> Value:
        """Return a value with another axis of size 1, or none, as its batch."""
        return value if axis == value.axis else self.reshaped(value, value.size, axis)

    def placed(self, value: Value, axes: Sequence[int]) -> tuple[Value, list[int]]:
        """Return a value of which none of some traced axes is the batch, and where they are."""
        axes = [axis % max(value.like.ndim, 1) for axis in axes]
        if value.axis in axes:
            value = self.with_axis(value, None)
        batch = value.axis
        return value, [axis if batch is not None and axis > batch else axis + 1 for axis in axes]

    def aligned(self, values: Sequence[Value | Tensor], count: int, last: int = 0
                ) -> tuple[list[Value], int | None]:
        """
        Return values with equally many axes and the same one as batch, as broadcasting needs.

        :param count: Of traced axes.
        :param last: How many of the last ones cannot be the batch.
        """
        sizes = [(1,) * (count - each.ndim) + tuple(each.shape) if isinstance(each, Tensor)
                 else (1,) * (count - each.like.ndim) + each.size for each in values]
        wanted = [each.axis + count - each.like.ndim for each in values
                  if isinstance(each, Value) and each.axis is not None]
        axis = next((axis for axis in (*wanted, *range(count)) if axis < count - last
                     and all(size[axis] == 1 for size in sizes)), None)
        return [self.constant(each, size, axis) if isinstance(each, Tensor)
                else self.reshaped(each, size, axis)
                for each, size in zip(values, sizes)], axis

    def over_maps(self, value: Value, axes: int, kind: str, like: Tensor,
                  options: Mapping[str, Any], weights: Mapping[str, Tensor] = {}) -> Value:
        """
        Add an operation that takes (B, channels, ...) only.

        :param axes: Behind the channels.
        """
        if value.like.ndim == axes + 1:
            return self.emit(kind, [self.with_axis(value, None)], like, None, options, weights)
        if value.size[0] == 1:
            return self.emit(kind, [self.with_axis(value, 0)], like, 0, options, weights)
        count, *rest = value.size
        merged = self.emit('reshape', [self.with_axis(value, None)], value.like, None,
                           {'shape': [-count, *rest]}, merged=True)
        merged = self.emit(kind, [merged], like, None, options, weights, merged=True)
        return self.emit('reshape', [merged], like, None, {'shape': [-1, *like.shape]})


def modules_of(node: fx.Node) -> list[tuple[str, str]]:
    """Return path and class of the modules that an operator is in, outermost first."""
    found = []
    for path, kind in node.meta.get('nn_module_stack', {}).values():
        name = kind if isinstance(kind, str) else kind.__qualname__
        path = re.sub(r'@\d+', '', path)
        path = re.sub(r"^L\['self'\]\.?|^L__self___?", '', path)
        found.append((path, name.rpartition('.')[2]))
    return found


def on_meta(leaf: Any) -> Any:
    return leaf.like if isinstance(leaf, Value) else \
        leaf.to('meta') if isinstance(leaf, Tensor) else leaf


def in_memory(leaf: Any) -> Any:
    return torch.zeros(leaf.size, dtype=leaf.like.dtype) if isinstance(leaf, Value) else leaf


@torch.no_grad()
def concrete(target: Any, args: tuple, kwargs: dict) -> Any:
    """Return what an operator gives, without computing it."""
    if operator_name(target) == 'view':  # strides are not followed
        target = torch.ops.aten.reshape.default
    kwargs = {name: torch.device('meta') if name == 'device' else on_meta_all(value)
              for name, value in kwargs.items()}
    return target(*on_meta_all(args), **kwargs)


def on_meta_all(tree: Any) -> Any:
    return trees.tree_map(on_meta, tree)


def arguments(target: Any, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return an operator's arguments by the names of its schema, with their defaults."""
    schema = target._schema.arguments
    found = {each.name: each.default_value for each in schema if each.has_default_value()}
    found |= {each.name: value for each, value in zip(schema, args)} | dict(kwargs)
    if 'input' in found:
        found.setdefault('self', found['input'])
    return found
