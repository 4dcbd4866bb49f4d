"""ONNX files made by hand, and what is read of them beside what ONNX Runtime gives."""

import numpy as np
import onnx
from onnx import helper, numpy_helper
import onnxruntime
from stream_agent.importing.onnx_file import original_of, read_onnx
from stream_agent.importing.running import Whole
import torch


def file_of(folder, nodes, shape, opset=21, batch='dynamic', initial=None, gives=1, outputs=1):
    """
    Write a file.

    :param nodes: As onnx.helper makes them, from 'x' to 'y'; or (kind, operands, attributes), of
        which each reads the one before. Operands are constants, '' for none, 'x', or the numbers
        of nodes; constants alone come after the value.
    """
    constants, made = dict(initial or {}), []
    for number, node in enumerate(nodes):
        if not isinstance(node, onnx.NodeProto):
            kind, operands, attributes = node
            names = [operand_name(operand, number, place, constants)
                     for place, operand in enumerate(operands)]
            if not any(isinstance(operand, int) or operand is X for operand in operands):
                names.insert(0, f'v{number - 1}' if number else 'x')
            given = [f'v{number}'] + [f'w{number}_{i}' for i in range(1, outputs)]
            if number == len(nodes) - 1:
                given[0] = 'y'
            node = helper.make_node(kind, names, given, f'n{number}', **attributes)
        made.append(node)
    ends = [helper.make_tensor_value_info('y', gives, None)]
    first = 'batch' if batch == 'dynamic' else batch
    graph = helper.make_graph(
        made, 'g', [helper.make_tensor_value_info('x', 1, [first, *shape])], ends,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
    return saved(folder, graph, opset)


X = 'x'


def operand_name(operand, number, place, constants):
    """Return the name of an operand, and keep what is constant."""
    if isinstance(operand, str):
        return operand
    if isinstance(operand, int):
        return f'v{operand}'
    name = f'c{number}_{place}'
    constants[name] = operand
    return name


def saved(folder, graph, opset):
    """Write a graph as a file that ONNX Runtime of any age reads."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=8)
    onnx.save(model, folder / 'network.onnx')
    return folder / 'network.onnx'


def read(file, inputs=None):
    return read_onnx(file, inputs)


@torch.no_grad()
def run(program, frames):
    """Return what a program gives for frames (T, B, *shape), one after another."""
    whole = Whole(program)
    for operation in program.operations:
        assert whole.shapes[operation.name] == operation.shape, operation
    states, outputs = [], []
    for frame in frames:
        output = whole(frame, *states)
        output, *states = output if program.states else [output]
        outputs.append(output)
    return torch.stack(outputs)


def both(file, shape, batch='dynamic'):
    """Return what is read and what the file gives, for one frame and, if it can, for three."""
    program, original = read(file), original_of(file)
    frames = 0.7 * torch.randn(3, *shape, generator=torch.Generator().manual_seed(4))
    found = run(program, frames[:, None])
    expected = torch.stack([original(frame[None]) for frame in frames])
    yield found.flatten(), expected.flatten()
    together = run(program, frames[None])[0]
    yield together.flatten(), found.flatten()
    if batch == 'dynamic':
        session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
        (answers,) = session.run(None, {'x': frames.numpy()})
        yield together.flatten(), answers.ravel()
