"""The values of an ONNX graph as operations of the vocabulary, with the batch axis in sight."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
import re
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from stream_agent.importing.program import ImportedOperation, ImportFault, unused
from stream_agent.network.bodies import BODY_OPERATIONS
import torch
from torch import Tensor

#: By which operations are tried; of a size that no other axis is a multiple of.
BATCH = 10007
SINGLY = 'export the network so that it treats each frame of a batch by itself'


@dataclass(frozen=True)
class Value:
    """
    A value that depends on the network's inputs, or a constant that an operation gives.

    :param shape: With the batch, of which -k stands for k times its size.
    :param front: How many of those k stand before the batch in the order of memory.
    """

    name: str
    shape: tuple[int, ...]
    front: int = 1

    @property
    def axis(self) -> int | None:
        """Return the axis that the batch is part of; None for a constant."""
        return next((axis for axis, size in enumerate(self.shape) if size < 0), None)

    def sizes(self, batch: int) -> tuple[int, ...]:
        """Return the shape for a batch size."""
        return tuple(-size * batch if size < 0 else size for size in self.shape)


class Reader:
    """
    Reads a graph, node by node.

    :param batch: Size of the batch that all sizes in the graph are for.
    :param opset: Version of the standard operators.
    """

    def __init__(self, graph: onnx.GraphProto, batch: int, opset: int) -> None:
        self.batch, self.opset = batch, opset
        self.constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.values: dict[str, Value] = {}
        #: By the operations that give them.
        self.results: dict[str, Value] = {}
        #: Numbers that values are compared with, by the comparison.
        self.thresholds: dict[str, float] = {}
        #: Names of inputs, states and operations.
        self.taken: set[str] = set()
        self.operations: dict[str, ImportedOperation] = {}
        self.readers: dict[str, int] = {}
        for name in [name for node in graph.node for name in node.input] + [
                port.name for port in graph.output]:
            self.readers[name] = self.readers.get(name, 0) + 1

    def new_name(self, module: str, kind: str) -> str:
        """Return an unused name of letters, digits and '_'."""
        name = identifier(module) if module else kind
        if module and name in self.taken:
            name = f'{name}_{kind}'
        name = unused(name, self.taken)
        self.taken.add(name)
        return name

    def view(self, value: Value, sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
        """
        Return the shape of a value in other sizes, and what stands before its batch.

        :param sizes: For the graph's batch size. Where that is 1, several axes may hold it: an
            axis of 1 is the batch rather than a longer one, and rows are the batch's.
        """
        axis = value.axis
        if axis is None:
            raise ValueError('a constant is reshaped')
        ahead = prod(value.shape[:axis]) * value.front
        found = []
        for place, size in enumerate(sizes):
            before = prod(sizes[:place])
            front = ahead // before if before and ahead % before == 0 else 0
            if front and size % (front * self.batch) == 0:
                own = size // self.batch
                alike = tuple(sizes[:place]) == value.shape[:axis]
                found.append((own != 1, len(sizes) > 2 and not alike, place, own, front))
        if not found:
            raise ValueError(f'{list(value.shape)} as {list(sizes)} takes frames of a batch apart')
        *_, place, own, front = min(found)
        return (*sizes[:place], -own, *sizes[place + 1:]), front


def identifier(text: str) -> str:
    """Return a text as a name."""
    name = re.sub(r'\W', '_', text, flags=re.ASCII).strip('_')
    return name if name[:1].isalpha() else f'_{name}'


def module_path(node: onnx.NodeProto) -> str:
    """Return the path of the module that an exporter of torch says a node comes from."""
    for pair in node.metadata_props:
        if pair.key == 'pkg.torch.onnx.name_scopes':
            try:
                scopes = ast.literal_eval(pair.value)
            except (ValueError, SyntaxError):
                break
            return str(scopes[-2]) if len(scopes) > 1 else ''
    if not node.name.startswith('/'):
        return ''
    path: list[str] = []
    for part in node.name.split('/')[1:-1]:
        # Within a sequence of modules 'a', the name is 'a.0'.
        if path and part.startswith(f'{path[-1]}.'):
            path.pop()
        path.append(part)
    return '.'.join(path)


class Node:
    """One node of the graph, as the functions that read operators see it."""

    def __init__(self, reader: Reader, proto: onnx.NodeProto, module: str | None = None) -> None:
        self.reader, self.proto = reader, proto
        self.module = module_path(proto) if module is None else module
        self.attributes = {each.name: onnx.helper.get_attribute_value(each)
                           for each in proto.attribute}

    @property
    def place(self) -> str:
        """Return what error messages call this node."""
        name = self.proto.name or ', '.join(self.proto.output)
        if self.proto.op_type.islower():
            # An input or an output of the network, for which no operator has such a name.
            return f"{self.proto.op_type} '{name}'"
        return f"operator '{self.proto.op_type}' of " + (
            f"module '{self.module}'" if self.module else f"node '{name}'")

    def fault(self, what: str) -> ImportFault:
        """Return the error that says what is wrong with this node, and the remedy."""
        return ImportFault(f'{self.place} {what}')

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a text."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Return whether an input is given."""
        return index < len(self.proto.input) and bool(self.proto.input[index])

    def constant(self, index: int) -> np.ndarray | None:
        """Return an input that is constant; None for others, and if it is not given."""
        return self.reader.constants.get(self.proto.input[index]) if self.has(index) else None

    def needed(self, index: int, what: str) -> np.ndarray:
        """Return an input that needs to be constant."""
        value = self.constant(index)
        if value is None:
            raise self.fault(f'takes its {what} from values that frames decide, or has none; '
                             f'export the network with a constant {what}')
        return value

    def weight(self, index: int, what: str) -> Tensor:
        """Return an input that is a weight, in float32."""
        return as_weight(self.needed(index, what))

    def listed(self, name: str, index: int) -> list[int] | None:
        """Return whole numbers that are an attribute or, in later opsets, a constant input."""
        if name in self.attributes:
            value = self.attributes[name]
            return list(value) if isinstance(value, Sequence) else [value]
        return [int(each) for each in self.needed(index, name).reshape(-1)] if self.has(
            index) else None

    def input(self, index: int = 0) -> Value:
        """Return an input as a value; a constant is given by an operation of its own."""
        if not self.has(index):
            raise self.fault(f'has no input {index}; export the network again')
        name = self.proto.input[index]
        if name in self.reader.constants:
            return self.given(self.reader.constants[name])
        if name not in self.reader.values:
            raise self.fault(f"reads '{name}', which is no number; write the network without "
                             'decisions by values')
        return self.reader.values[name]

    def given(self, array: np.ndarray) -> Value:
        """Return a constant as a value of the same shape."""
        if array.ndim and array.shape[0] == 1:
            return self.emit('constant', weights={'value': as_weight(array[0])},
                             shape=list(array.shape[1:]))
        whole = self.emit('constant', weights={'value': as_weight(array)},
                          shape=list(array.shape))
        return self.emit('select', whole, axis=0, index=0)

    def meet(self, kind: str, value: Value, array: np.ndarray, turned: bool = False) -> Value:
        """
        Return an operation of a value and a constant.

        :param turned: Whether the constant comes first.
        """
        axis, own, batch = value.axis or 0, 1, self.reader.batch
        place = axis - len(value.shape) + array.ndim
        matrices = kind == 'matmul' and place >= array.ndim - 2
        if value.axis is not None and place >= 0 and array.shape[place] > 1 and not matrices:
            # An exporter has repeated it for every frame of a batch, which is part of this axis.
            own = -value.shape[axis]
            parts = array.reshape(*array.shape[:place], -1, own, *array.shape[place + 1:])
            one = parts.take([0], place)
            if array.shape[place] != own * batch or value.front != 1 or not (parts == one).all():
                raise self.fault('combines the frames of a batch with values that differ between '
                                 f'them; {SINGLY}')
            array = one if own > 1 else one.reshape(*array.shape[:place], 1,
                                                    *array.shape[place + 1:])
        if own > 1:
            value = self.shaped(value, [*value.shape[:axis], -1, own, *value.shape[axis + 1:]], 1)
        operands = [value, self.given(array)]
        result = self.emit(kind, *(operands[::-1] if turned else operands))
        if own == 1:
            return result
        return self.shaped(result, [*result.shape[:axis], -own, *result.shape[axis + 2:]], 1)

    def emit(self, kind: str, *values: Value, weights: Mapping[str, Tensor] | None = None,
             front: int = 0, **options: Any) -> Value:
        """
        Add an operation, and return what it gives.

        :param front: Of the value, where the operation moves the batch.
        """
        weights, shapes = weights or {}, [value.sizes(BATCH) for value in values]
        with torch.device('meta'), torch.no_grad():
            try:
                made = BODY_OPERATIONS[kind](*(shape[1:] for shape in shapes), **options)
                sizes = made(*(torch.zeros(shape) for shape in shapes)).shape
            except ImportFault:
                raise
            except Exception as error:  # torch refuses sizes in many ways
                shown = ', '.join(str(list(value.shape)) for value in values)
                raise self.fault(f'does not fit its input, {kind} of {shown} ({error}); '
                                 f'{SINGLY}') from error
        if {name: value.shape for name, value in made.state_dict().items()} != {
                name: value.shape for name, value in weights.items()}:
            shown = ', '.join(map(str, [*(list(value.shape) for value in values),
                                        *(list(value.shape) for value in weights.values())]))
            raise self.fault(f'has weights that do not fit its input (sizes {shown}); export the '
                             'network again')
        shape = tuple(-size // BATCH if size % BATCH == 0 and size else size for size in sizes)
        self._check_batch(values, shape, front)
        name = self.reader.new_name(self.module, kind)
        own = shape[1:] if shape[:1] in ((-1,), (1,)) and not any(
            size < 0 for size in shape[1:]) else ()
        self.reader.operations[name] = ImportedOperation(
            name, kind, tuple(value.name for value in values), options, weights, self.module, own)
        held = [value for value in values if value.axis is not None]
        self.reader.results[name] = Value(name, shape, front or (held[0].front if held else 1))
        return self.reader.results[name]

    def _check_batch(self, values: Sequence[Value], shape: Sequence[int], moved: int) -> None:
        """Refuse what mixes the frames of a batch."""
        parts = {value.shape[value.axis] for value in values if value.axis is not None}
        orders = {value.front for value in values if value.axis is not None}
        found = [size for size in shape if size < 0]
        if len(found) != bool(parts) or len(orders) > 1 or not moved and parts and (
                set(found) != parts):
            raise self.fault(f'computes across the frames of a batch; {SINGLY}')

    def reshape(self, value: Value, sizes: Sequence[int]) -> Value:
        """Return a value in other sizes, of the graph's batch size."""
        try:
            shape, front = self.reader.view(value, sizes)
        except ValueError as error:
            raise self.fault(f'cannot be followed: {error}; {SINGLY}') from None
        return self.shaped(value, shape, front)

    def shaped(self, value: Value, shape: Sequence[int], front: int) -> Value:
        """Return a value in another shape, in which one axis stands for the batch."""
        if tuple(shape) == value.shape and front == value.front:
            return value
        return self.emit('reshape', value, front=front, shape=list(shape))

    def give(self, *values: Value) -> None:
        """Say which values the node's outputs are."""
        for name, value in zip(self.proto.output, values):
            if name:
                self.reader.values[name] = value

    def with_bias(self, value: Value, bias: np.ndarray) -> Value | None:
        """Return a linear operation with what is added to it, where nothing else reads it."""
        operation = self.reader.operations.get(value.name)
        if not operation or operation.kind != 'linear' or 'bias' in operation.weights:
            return None
        features = operation.options['features']
        if bias.size != features or bias.shape[-1:] != (features,) or any(
                self.reader.readers[name] > 1 for name in self.proto.input
                if self.reader.values.get(name) == value):
            return None
        self.reader.operations[value.name] = replace(
            operation, options={'features': features},
            weights={**operation.weights, 'bias': as_weight(bias.reshape(-1))})
        return value


def as_weight(array: np.ndarray) -> Tensor:
    """Return an array in float32."""
    return torch.from_numpy(np.array(array, np.float32, copy=True, order='C'))
