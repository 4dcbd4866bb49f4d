"""Reads an ONNX model as a program of our vocabulary, after ONNX Runtime has simplified it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper, TensorProto
import onnxruntime
from stream_agent.engine.onnx_runtime import optimised
from stream_agent.engine.torch_globals import flushed_denormals
from stream_agent.importing.onnx_file import AGAIN, first_line, nodes_of, tensors
from stream_agent.importing.onnx_functions import FUNCTION_OPERATORS
from stream_agent.importing.onnx_layers import LAYER_OPERATORS
from stream_agent.importing.onnx_ports import find_ports, Port
from stream_agent.importing.onnx_products import PRODUCT_OPERATORS
from stream_agent.importing.onnx_reader import module_path, Node, Reader, SINGLY, Value
from stream_agent.importing.onnx_shapes import SHAPE_OPERATORS
from stream_agent.importing.program import ImportedProgram, ImportedState, ImportFault
from stream_agent.importing.states import matched, own_states, Pairing
from stream_agent.network.bodies import BODY_OPERATIONS
from stream_agent.network.program import by_input, Frames
from stream_agent.network.transforms import Shape
import torch
from torch import Tensor

OPERATORS = {**SHAPE_OPERATORS, **PRODUCT_OPERATORS, **LAYER_OPERATORS, **FUNCTION_OPERATORS}

#: A batch size that no other size is a multiple of, so that it shows where the batch is.
SHOWN_BATCH = 37

QUANTISED = ('QuantizeLinear', 'DequantizeLinear', 'DynamicQuantizeLinear', 'ConvInteger',
             'MatMulInteger', 'QLinearConv', 'QLinearMatMul')

#: What becomes float32.
PRECISIONS = {TensorProto.FLOAT16: 'float16', TensorProto.BFLOAT16: 'bfloat16',
              TensorProto.DOUBLE: 'float64'}

#: What helps against operators that have no place in the vocabulary.
REMEDIES = {
    'If': 'forward decides by values; write it without the decision',
    'Loop': 'forward repeats by values; export it for one frame, without the loop',
    'Scan': 'export it for one frame, with its state as input and output',
    'ArgMax': 'end the network before it'}


def check_nodes(model: onnx.ModelProto) -> None:
    """Refuse what ONNX Runtime would hide: training, and quantisation."""
    numbers = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer
               if each.data_type == TensorProto.BOOL}
    reader = Reader(onnx.GraphProto(), 1, 0)
    for proto in nodes_of(model):
        node = Node(reader, proto)
        if proto.op_type == 'Constant' and 'value' in node.attributes:
            numbers[proto.output[0]] = numpy_helper.to_array(node.attributes['value'])
        if proto.op_type in QUANTISED or proto.op_type.startswith('QLinear'):
            raise ImportFault(f'the file is quantised ({node.place}); export it before '
                              'quantisation')
        if proto.op_type == 'Dropout' and node.has(2) and np.any(
                numbers.get(proto.input[2], True)):
            raise node.fault('drops out also in evaluation; call .eval() before exporting, or '
                             'pass training=self.training')
        if proto.op_type == 'BatchNormalization' and (node.get('training_mode', 0) or sum(
                map(bool, proto.output)) > 1):
            raise node.fault("uses the batch's own statistics; call .eval() before exporting, "
                             'and set track_running_stats')


class Reading(NamedTuple):
    """
    A model that was read.

    :param pairing: Of the names that the program gives the inputs, and the file the outputs.
    """

    program: ImportedProgram
    ports: Sequence[Port]
    pairing: Pairing


def read_model(model: onnx.ModelProto, inputs: Mapping[str, Shape]) -> Reading:
    """
    Read a model, which becomes one of float32 alone.

    :param inputs: Sizes of inputs by name, without batch.
    :raises ImportFault: If it holds what the vocabulary does not.
    """
    check_nodes(model)
    said = tuple(notices(model))
    in_float32(model)
    ports = find_ports(model, inputs)
    batch = ports[0].sizes[ports[0].axis]
    batches = (SHOWN_BATCH, 1) if batch is None else (batch,)
    for batch in batches:
        try:
            found = read_for_batch(model, ports, batch)
            return found._replace(program=replace(found.program, notices=said))
        except ImportFault as error:
            fault = error
    raise fault


def read_for_batch(model: onnx.ModelProto, ports: Sequence[Port], batch: int) -> Reading:
    """Read a model with its batch fixed at a size."""
    normal = normalised(fixed(model, ports, batch))
    known = {each.name for each in normal.graph.initializer}
    if any(node.input and known.issuperset(node.input) for node in normal.graph.node):
        # It does not compute the constants of what it has taken apart last.
        normal = normalised(normal.SerializeToString())
    opset = next(each.version for each in normal.opset_import if each.domain in ('', 'ai.onnx'))
    reader = Reader(normal.graph, batch, opset)
    for port in ports:
        reader.values[port.name] = entered(reader, port)
    modules = modules_of(model, normal)
    for proto in normal.graph.node:
        node = Node(reader, proto, modules[proto.output[0]])
        read = OPERATORS.get(proto.op_type) if proto.domain in ('', 'ai.onnx') else None
        if not read:
            raise outside(node)
        try:
            read(node)
        except ImportFault:
            raise
        except Exception as error:  # a file may say anything
            raise node.fault(f'cannot be read ({type(error).__name__}: {first_line(error)}); '
                             f'{AGAIN}') from error
    outputs = {port.name: left(reader, port.name) for port in normal.graph.output}
    shapes = {port.own_name: port.shape() for port in ports}
    images = [port.own_name for port in ports if port.only] or list(shapes)
    pairing = matched(tuple(reader.operations.values()), shapes, {
        name: (value.name, value.shape[1:]) for name, value in outputs.items()}, images)
    states = {name: ImportedState(shapes[name], outputs[next_name].name)
              for name, next_name in pairing.states.items()}
    program = ImportedProgram(
        {name: shapes[name] for name in pairing.inputs}, states,
        tuple(reader.operations.values()),
        outputs[pairing.output].name)
    return Reading(own_states(program), ports, pairing)


def modules_of(model: onnx.ModelProto, normal: onnx.ModelProto) -> dict[str, str]:
    """Return the paths of the modules that values of the simplified model come from."""
    found = {name: module_path(node) for node in nodes_of(model) for name in node.output}
    for node in reversed(normal.graph.node):
        # What it has made of several operators belongs to the operator that reads it.
        module = module_path(node) or next(
            (found[name] for name in node.output if name in found), '')
        found |= dict.fromkeys(node.output, module)
        for name in node.input:
            found.setdefault(name, module)
    return found


def in_float32(model: onnx.ModelProto) -> None:
    """Let a model of other precisions compute in float32, also where its runtime cannot."""
    for tensor in tensors(model.graph):
        if tensor.data_type in PRECISIONS:
            array = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for node in nodes_of(model):
        for attribute in node.attribute:
            if node.op_type == 'Cast' and attribute.name == 'to' and attribute.i in PRECISIONS:
                attribute.i = TensorProto.FLOAT
    for port in (*model.graph.input, *model.graph.output):
        if port.type.tensor_type.elem_type in PRECISIONS:
            port.type.tensor_type.elem_type = TensorProto.FLOAT


def fixed(model: onnx.ModelProto, ports: Sequence[Port], batch: int) -> bytes:
    """Return a model with these sizes, in which weights are no inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    by_name = {port.name: port for port in ports}
    inputs = [each for each in copy.graph.input if each.name in by_name]
    for each in inputs:
        port, shape = by_name[each.name], each.type.tensor_type.shape
        del shape.dim[:]
        for axis, size in enumerate(port.sizes):
            shape.dim.add().dim_value = batch if axis == port.axis else size or 1
    del copy.graph.input[:]
    copy.graph.input.extend(inputs)
    # They may say other sizes.
    del copy.graph.value_info[:]
    for each in copy.graph.output:
        each.type.tensor_type.ClearField('shape')
    try:
        return copy.SerializeToString()
    except Exception as error:  # of protobuf
        raise ImportFault(f'is too large ({first_line(error)}); at most 2 GB can be '
                          'imported') from error


def normalised(content: bytes) -> onnx.ModelProto:
    """Return a model as ONNX Runtime's basic simplifications leave it."""
    try:
        return optimised(content, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
                         # It would take the tokens of a linear layer for its batch.
                         without=['MatMulAddFusion'])
    except Exception as error:  # the runtime's have no class in common
        raise not_opened(content, error) from error


def not_opened(content: bytes, error: Exception) -> ImportFault:
    """Return the error for a model that ONNX Runtime does not open."""
    model = onnx.load_model_from_string(content)
    reader, functions = Reader(onnx.GraphProto(), 1, 0), {each.name for each in model.functions}
    for proto in nodes_of(model):
        if proto.domain not in ('', 'ai.onnx') and proto.op_type not in functions:
            return outside(Node(reader, proto))
    return ImportFault(f'ONNX Runtime does not open it ({first_line(error)}); {AGAIN}, with '
                       'sizes that fit')


def outside(node: Node) -> ImportFault:
    """Return the error for an operator that is not in the vocabulary."""
    remedy = REMEDIES.get(node.proto.op_type, 'replace it by one of: '
                          + ', '.join(sorted(BODY_OPERATIONS)))
    return node.fault(f'is not in the vocabulary; {remedy}')


def entered(reader: Reader, port: Port) -> Value:
    """Return an input as the graph reads it; the batch is in front of the program's own."""
    reader.taken.add(port.own_name)
    value = reader.results[port.own_name] = Value(port.own_name, (-1, *port.shape()))
    if port.axis == 0:
        return value
    axes = [*range(1, port.axis + 1), 0, *range(port.axis + 1, len(port.sizes))]
    return Node(reader, onnx.NodeProto(op_type='input', name=port.name)).emit(
        'permute', value, axes=axes, front=1)


def left(reader: Reader, name: str) -> Value:
    """Return an output with its batch in front."""
    node = Node(reader, onnx.NodeProto(op_type='output', name=name))
    value = reader.values.get(name)
    axis = value.axis if value else None
    if value is None or axis is None:
        raise node.fault('does not depend on the input; export the network without it')
    own = -value.shape[axis]
    rest = [*value.shape[:axis], *([own] if own > 1 else []), *value.shape[axis + 1:]]
    if prod(value.shape[:axis]) * value.front == 1:
        value = node.shaped(value, [-1, *rest], 1)
    elif own == 1:
        axes = [axis, *(i for i in range(len(value.shape)) if i != axis)]
        value = node.emit('permute', value, axes=axes, front=1)
    else:
        raise node.fault(f'mixes the frames of a batch; {SINGLY}')
    return value if value.name in reader.operations else node.emit('identity', value)


def notices(model: onnx.ModelProto) -> Iterator[str]:
    """Say what is changed."""
    kinds = {each.data_type for each in tensors(model.graph)}
    for kind, name in PRECISIONS.items():
        if kind in kinds:
            yield f'its {name} weights became float32'
    for port in model.graph.input:
        if port.type.tensor_type.elem_type == TensorProto.UINT8:
            yield (f"input '{port.name}' was uint8 and is float32 now: give it the same numbers, "
                   '0 to 255')


class Original:
    """
    A file's network in ONNX Runtime: gives (1, *output) for frames, (1, *shape) of each input.

    States are zeros at first.
    """

    def __init__(self, model: onnx.ModelProto, reading: Reading) -> None:
        self._ports = {port.own_name: port for port in reading.ports}
        self._pairing = reading.pairing
        first = reading.ports[0]
        self._batch = first.sizes[first.axis] or 1
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry('session.set_denormal_as_zero', '1')
        with flushed_denormals():
            self._session = onnxruntime.InferenceSession(
                fixed(model, reading.ports, self._batch), options,
                providers=['CPUExecutionProvider'])
        self._kinds = {port.name: onnx.helper.tensor_dtype_to_np_dtype(port.kind)
                       for port in reading.ports}
        #: Inputs of whole numbers.
        self.whole = {name for name in reading.pairing.inputs
                      if self._ports[name].kind == TensorProto.UINT8}
        self._states: dict[str, Any] = {
            name: np.zeros([self._batch if size is None else size
                            for size in self._ports[name].sizes],
                           self._kinds[self._ports[name].name])
            for name in reading.pairing.states}

    def __call__(self, frame: Frames) -> Tensor:
        feeds = {self._ports[name].name: value for name, value in self._states.items()}
        for name, value in by_input(self._pairing.inputs, frame).items():
            port = self._ports[name]
            values = np.repeat(value.numpy(), self._batch, port.axis)
            if name in self.whole:
                values = values.round().clip(0, 255)
            feeds[port.name] = values.astype(self._kinds[port.name])
        names = [port.name for port in self._session.get_outputs()]
        results = dict(zip(names, self._session.run(names, feeds)))
        for name, next_name in self._pairing.states.items():
            self._states[name] = results[next_name].reshape(self._states[name].shape)
        output = torch.from_numpy(results[self._pairing.output].astype(np.float32))
        return output if self._batch > 1 else output.reshape(1, -1)
