"""Reads an ONNX model as a program of our vocabulary, after ONNX Runtime has simplified it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper, TensorProto
import onnxruntime
from stream_agent.engine.torch_globals import flushed_denormals
from stream_agent.importing.onnx_file import AGAIN, first_line, graphs
from stream_agent.importing.onnx_functions import FUNCTION_OPERATORS
from stream_agent.importing.onnx_layers import LAYER_OPERATORS
from stream_agent.importing.onnx_reader import identifier, Node, Reader, Value
from stream_agent.importing.onnx_shapes import SHAPE_OPERATORS
from stream_agent.importing.program import ImportedProgram, ImportedState, ImportFault
from stream_agent.importing.states import matched, own_states, Pairing
from stream_agent.network.bodies import BODY_OPERATIONS
from stream_agent.network.transforms import Shape
from stream_agent.theory.checks import nearest
import torch
from torch import Tensor

OPERATORS = {**SHAPE_OPERATORS, **LAYER_OPERATORS, **FUNCTION_OPERATORS}

#: A batch size that no other size is a multiple of, so that it shows where the batch is.
SHOWN_BATCH = 37

QUANTISED = ('QuantizeLinear', 'DequantizeLinear', 'DynamicQuantizeLinear', 'ConvInteger',
             'MatMulInteger', 'QLinearConv', 'QLinearMatMul')

#: What helps against operators that have no place in the vocabulary.
REMEDIES = {
    'If': 'forward decides by values; write it without the decision',
    'Loop': 'forward repeats by values; export it for one frame, without the loop',
    'Scan': 'export it for one frame, with its state as input and output',
    'GatherND': 'an adaptive pool whose sizes do not divide looks like that: import the torch '
                'module or a .pt2 of it',
    'ArgMax': 'end the network before it'}


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Return all nodes, also of functions and of graphs within."""
    for graph in (model.graph, *model.functions):
        for inner in graphs(graph):
            yield from inner.node


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


@dataclass(frozen=True)
class Port:
    """
    An input.

    :param own_name: That the program gives it.
    :param sizes: With the batch; None where the file leaves them open.
    :param axis: Of the batch.
    """

    name: str
    own_name: str
    sizes: tuple[int | None, ...]
    axis: int
    kind: int
    given: bool = False

    def shape(self) -> Shape:
        """Return the shape without batch."""
        return tuple(size or 0 for axis, size in enumerate(self.sizes) if axis != self.axis)


def find_ports(model: onnx.ModelProto, inputs: Mapping[str, Shape]) -> list[Port]:
    """Return the inputs, the one that is an image first."""
    weights = {each.name for each in model.graph.initializer}
    used = {name for node in nodes_of(model) for name in node.input}
    raw = [each for each in model.graph.input if each.name not in weights and each.name in used]
    if not raw:
        raise ImportFault(f'takes no input; {AGAIN}, with an example image')
    dims = {each.name: [dim.dim_value or None if dim.dim_value >= 0 else None
                        for dim in each.type.tensor_type.shape.dim] for each in raw}
    image = next((each.name for each in raw if each.name in inputs), None) or max(
        raw, key=lambda each: len(dims[each.name]) >= 4).name
    unknown = [name for name in inputs if name not in dims]
    if unknown and unknown != ['input']:
        raise ImportFault(f"it has no input '{unknown[0]}'; "
                          + nearest(unknown[0], dims, 'its inputs'))
    own_names = {name: identifier(name) for name in dims}
    if unknown:
        # As sizes without a name are called.
        own_names[image] = 'input'
    given = {image if name in unknown else name: shape for name, shape in inputs.items()}
    if len({*own_names.values()}) < len(own_names):
        raise ImportFault(f"its inputs {', '.join(dims)} have one name, but for signs; {AGAIN}, "
                          'with other names')
    first = next(each for each in raw if each.name == image)
    batch = [dim.dim_param for dim in first.type.tensor_type.shape.dim][:1]
    ports = [make_port(each, own_names[each.name], dims[each.name], given.get(each.name), batch,
                       dims[image][:1] or [None]) for each in raw]
    for port in ports:
        check_port(port)
    return sorted(ports, key=lambda port: port.name != image)


def make_port(raw: onnx.ValueInfoProto, own_name: str, sizes: list[int | None],
              given: Shape | None, names: Sequence[str], batch: Sequence[int | None]) -> Port:
    """
    Return an input with what is known of its sizes.

    :param names: The name that the file gives the size of the image's batch, if any.
    :param batch: The size of the image's batch, if it is fixed.
    """
    own = [dim.dim_param for dim in raw.type.tensor_type.shape.dim]
    if not sizes and given is not None:
        sizes = [None, *given]
    axis = 0
    if names and names[0] in own and names[0]:
        axis = own.index(names[0])
    elif len(sizes) == 3 and sizes[1] == batch[0]:
        # As (layers, batch, features) of a recurrent layer.
        axis = 1
    if given is not None:
        fixed = [size for place, size in enumerate(sizes) if place != axis]
        if len(fixed) != len(given) or any(
                size not in (None, wanted) for size, wanted in zip(fixed, given)):
            raise ImportFault(
                f"input '{raw.name}' is {shown(fixed)} in the file, not {shown(given)}; leave the "
                'sizes out, or export the network for others')
        sizes = [*given[:axis], sizes[axis], *given[axis:]]
    return Port(raw.name, own_name, tuple(sizes), axis, raw.type.tensor_type.elem_type,
                given is not None)


def shown(sizes: Sequence[int | None]) -> str:
    """Return sizes as users write them."""
    return 'x'.join('?' if size is None else str(size) for size in sizes)


def check_port(port: Port) -> None:
    """Refuse an input whose sizes are open, or that is not made of numbers."""
    sizes = [size for axis, size in enumerate(port.sizes) if axis != port.axis]
    if len(port.sizes) < 2:
        raise ImportFault(f"input '{port.name}' has {len(port.sizes)} axes; {AGAIN}, with a "
                          'batch in front of its values')
    if None in sizes:
        raise ImportFault(f"input '{port.name}' has open sizes, {shown(sizes)}; give them, such "
                          'as --input 3x224x224')
    if port.kind not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE,
                         TensorProto.BFLOAT16, TensorProto.UINT8):
        kind = TensorProto.DataType.Name(port.kind).lower()
        raise ImportFault(f"input '{port.name}' is {kind}; it needs to be an image or a state, "
                          f'float or uint8; {AGAIN}')


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
    Read a model.

    :param inputs: Sizes of inputs by name, without batch.
    :raises ImportFault: If it holds what the vocabulary does not.
    """
    check_nodes(model)
    ports = find_ports(model, inputs)
    batch = ports[0].sizes[ports[0].axis]
    batches = (SHOWN_BATCH, 1) if batch is None else (batch,)
    for batch in batches:
        try:
            return read_for_batch(model, ports, batch)
        except ImportFault as error:
            fault = error
    raise fault


def read_for_batch(model: onnx.ModelProto, ports: Sequence[Port], batch: int) -> Reading:
    """Read a model with its batch fixed at a size."""
    normal = normalised(fixed(model, ports, batch))
    opset = next(each.version for each in normal.opset_import if each.domain in ('', 'ai.onnx'))
    reader = Reader(normal.graph, batch, opset)
    for port in ports:
        reader.values[port.name] = entered(reader, port)
    for proto in normal.graph.node:
        node = Node(reader, proto)
        read = OPERATORS.get(proto.op_type) if proto.domain in ('', 'ai.onnx') else None
        if not read:
            raise outside(node)
        read(node)
    outputs = {port.name: left(reader, port.name) for port in normal.graph.output}
    shapes = {port.own_name: port.shape() for port in ports}
    images = [port.own_name for port in ports if port.given][:1] or list(shapes)
    pairing = matched(tuple(reader.operations.values()), shapes, {
        name: (value.name, value.shape[1:]) for name, value in outputs.items()}, images)
    states = {name: ImportedState(shapes[name], outputs[next_name].name)
              for name, next_name in pairing.states.items()}
    program = ImportedProgram(
        {pairing.image: shapes[pairing.image]}, states, tuple(reader.operations.values()),
        outputs[pairing.output].name, tuple(notices(model, ports)))
    return Reading(own_states(program), ports, pairing)


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
    with TemporaryDirectory() as folder, flushed_denormals():
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry('session.set_denormal_as_zero', '1')
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / 'normal.onnx')
        try:
            onnxruntime.InferenceSession(
                content, options, providers=['CPUExecutionProvider'],
                # It would take the tokens of a linear layer for its batch.
                disabled_optimizers=['MatMulAddFusion'])
        except Exception as error:  # the runtime's have no class in common
            raise not_opened(content, error) from error
        return onnx.load(options.optimized_model_filepath)


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
    value = Value(port.own_name, (-1, *port.shape()))
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
    if value.shape[:axis] == (1,) * axis and value.front == 1:
        value = node.shaped(value, [-1, *value.sizes(1)[(0 if value.shape[axis] != -1 else 1):]]
                            if axis == 0 else
                            [-1, *(s for i, s in enumerate(value.sizes(1)) if i != axis)], 1)
    elif value.shape[axis] == -1:
        axes = [axis, *(i for i in range(len(value.shape)) if i != axis)]
        value = node.emit('permute', value, axes=axes, front=1)
    else:
        raise node.fault('mixes the frames of a batch; export it with the batch in front')
    return value if value.name in reader.operations else node.emit('identity', value)


def notices(model: onnx.ModelProto, ports: Sequence[Port]) -> Iterator[str]:
    """Say what was changed."""
    kinds = {each.data_type for each in model.graph.initializer}
    for kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE):
        if kind in kinds:
            name = TensorProto.DataType.Name(kind).lower()
            yield f'its {name} weights became float32'
    for port in ports:
        if port.kind == TensorProto.UINT8:
            yield (f"input '{port.name}' was uint8 and is float32 now: give it the same numbers, "
                   '0 to 255')


class Original:
    """
    A file's network in ONNX Runtime: gives (1, *output) for frames (1, *shape), in their order.

    States are zeros at first.
    """

    def __init__(self, model: onnx.ModelProto, reading: Reading) -> None:
        self._ports = {port.own_name: port for port in reading.ports}
        self._pairing = reading.pairing
        image = self._ports[reading.pairing.image]
        self._batch = image.sizes[image.axis] or 1
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry('session.set_denormal_as_zero', '1')
        with flushed_denormals():
            self._session = onnxruntime.InferenceSession(
                fixed(model, reading.ports, self._batch), options,
                providers=['CPUExecutionProvider'])
        self._kinds = {port.name: onnx.helper.tensor_dtype_to_np_dtype(port.kind)
                       for port in reading.ports}
        #: Whether frames hold whole numbers.
        self.whole = image.kind == TensorProto.UINT8
        self._states: dict[str, Any] = {
            name: np.zeros([self._batch if size is None else size
                            for size in self._ports[name].sizes],
                           self._kinds[self._ports[name].name])
            for name in reading.pairing.states}

    def __call__(self, frame: Tensor) -> Tensor:
        image = self._ports[self._pairing.image]
        frames = np.repeat(frame.numpy(), self._batch, 0)
        if self.whole:
            frames = frames.round().clip(0, 255)
        feeds = {image.name: frames.astype(self._kinds[image.name])} | {
            self._ports[name].name: value for name, value in self._states.items()}
        names = [port.name for port in self._session.get_outputs()]
        results = dict(zip(names, self._session.run(names, feeds)))
        for name, next_name in self._pairing.states.items():
            self._states[name] = results[next_name].reshape(self._states[name].shape)
        output = torch.from_numpy(results[self._pairing.output].astype(np.float32))
        return output if self._batch > 1 else output.reshape(1, -1)
