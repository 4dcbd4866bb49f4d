"""
ONNX Runtime's own order of feature maps, kept from frame to frame.

On the CPU it computes convolutions on maps in blocks of channels (NCHWc), and reorders whatever
goes into a model or comes out. What is carried from one frame to the next need not be in any
order but its own, so the models that ONNX Runtime has optimised are rid of these reorderings.
"""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime
from stream_agent.engine.runtimes.half_steps import key_of

# The channels of a map are a multiple of every block size that is in use: 4, 8 or 16.
BLOCK = 16
OPTIMISED = 'optimised.onnx'


def optimised(model: bytes) -> onnx.ModelProto:
    """Return a model as ONNX Runtime would run it on this machine."""
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder) / OPTIMISED)
        onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
        return onnx.load(options.optimized_model_filepath)


def blocked_keys(models: Iterable[onnx.ModelProto], candidates: set[str]) -> set[str]:
    """
    Return which tensors all models take and give in blocks.

    :param candidates: Their keys, as far as they are zeros in the beginning.
    """
    keys = set(candidates)
    for model in models:
        graph = model.graph
        producers = {name: node for node in graph.node for name in node.output}
        for port in graph.input:
            uses = [node for node in graph.node if port.name in node.input]
            if not all(node.op_type == 'ReorderInput' for node in uses):
                keys.discard(key_of(port.name))
        for port in graph.output:
            node = producers.get(port.name)
            if not (node and node.op_type == 'ReorderOutput' and node.input[0] in producers
                    and has_whole_blocks(port)):
                keys.discard(key_of(port.name))
    return keys


def has_whole_blocks(port: onnx.ValueInfoProto) -> bool:
    """Return whether a map's channels need no filling."""
    sizes = [size.dim_value for size in port.type.tensor_type.shape.dim]
    return len(sizes) == 4 and sizes[1] % BLOCK == 0


def without_reordering(model: onnx.ModelProto, keys: set[str]) -> onnx.ModelProto:
    """Return a model that takes and gives these tensors in blocks."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    names: dict[str, str] = {}
    blocked = {port.name for port in graph.input if key_of(port.name) in keys}
    for node in list(graph.node):
        if node.op_type == 'ReorderInput' and node.input[0] in blocked:
            names[node.output[0]] = node.input[0]
            graph.node.remove(node)
    for port in graph.output:
        if key_of(port.name) in keys:
            (node,) = (node for node in graph.node if port.name in node.output)
            names[node.input[0]] = port.name
            # Whoever reads it in the usual order within the model goes on doing so.
            names[port.name] = f'{port.name}/usual order'
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
    used = {name for node in graph.node for name in node.input}
    used |= {port.name for port in graph.output}
    for node in list(graph.node):
        if node.op_type == 'ReorderOutput' and node.output[0] not in used:
            graph.node.remove(node)
    del graph.value_info[:]
    return result
