"""The halves of a step in ONNX Runtime."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from stream_agent.engine.compiled import (
    CompiledBackend, CompiledHalf, COPIES, FrameModule, key_of, to_onnx, Values)
from stream_agent.network.rollout_network import RolloutNetwork
from torch import Tensor

# The channels of a map are a multiple of every block size that is in use: 4, 8 or 16.
BLOCK = 16


def optimised(model: bytes) -> onnx.ModelProto:
    """Return a model as ONNX Runtime would run it on this machine."""
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder) / 'optimised.onnx')
        onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
        return onnx.load(options.optimized_model_filepath)


def blocked_keys(models: Iterable[onnx.ModelProto], candidates: set[str]) -> set[str]:
    """
    Return which tensors all models take and give in blocks.

    :param candidates: Keys of those that are zeros at first, as zeros are in any order.
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
            shape = shape_of(port)
            # The channels of blocks must need no filling.
            if not (node and node.op_type == 'ReorderOutput' and node.input[0] in producers
                    and len(shape) == 4 and shape[1] % BLOCK == 0):
                keys.discard(key_of(port.name))
    return keys


def shape_of(port: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the shape of an input or output of a model."""
    return tuple(size.dim_value for size in port.type.tensor_type.shape.dim)


def remove_reordering(model: onnx.ModelProto, keys: set[str]) -> None:
    """Let a model take and give these tensors in blocks."""
    graph = model.graph
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
            # What reads it in the usual order within the model still does.
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


ERRORS_ONLY = 3


class Buffers:
    """
    Memory for every tensor that is carried, by ``key_of`` its name, so that nothing is copied.

    After a reset, the turns are the same every time, and they repeat with the schedule.
    """

    def __init__(self) -> None:
        self._copies: dict[str, list[onnxruntime.OrtValue]] = {}
        #: Which copy is next, by key.
        self.turns: dict[str, int] = {}

    def reset(self, initial: dict[str, Tensor]) -> dict[str, onnxruntime.OrtValue]:
        """Write what the first frame finds to where the last frames of a schedule write it."""
        self.turns = {}
        values = {}
        for name, value in initial.items():
            newer = initial.get(key_of(name), value)
            # A node that is held has one value in both frames.
            place = -1 if newer.data_ptr() == value.data_ptr() else -2
            values[name] = self._of(key_of(name), value.shape)[place]
            values[name].update_inplace(value.numpy())
        return values

    def unread(self, name: str, shape: tuple[int, ...]) -> onnxruntime.OrtValue:
        """Return memory that neither this frame nor the one before reads."""
        key = key_of(name)
        turn = self.turns.get(key, 0)
        self.turns = {**self.turns, key: (turn + 1) % COPIES}
        return self._of(key, shape)[turn]

    def _of(self, key: str, shape: tuple[int, ...]) -> list[onnxruntime.OrtValue]:
        if key not in self._copies:
            self._copies[key] = [
                onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32)
                for _ in range(COPIES)]
        return self._copies[key]


# A half with its memory in one turn: the names of arguments that are arrays of the caller's, and
# new every time; the results by name; and the turns of the buffers after it.
BoundHalf = tuple[onnxruntime.IOBinding, list[str], dict[str, onnxruntime.OrtValue],
                  dict[str, int]]


class OnnxHalf:
    """One half of a step, of a model as ONNX Runtime has optimised it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        # What nothing depends on has been removed from the inputs.
        self._inputs = [port.name for port in model.graph.input]
        self._shapes = {port.name: shape_of(port) for port in model.graph.output}

    def prepare(self, options: onnxruntime.SessionOptions) -> None:
        """Get ready to run the model as it is now."""
        self._session = onnxruntime.InferenceSession(
            self.model.SerializeToString(), options, providers=['CPUExecutionProvider'])
        self._bound: dict[int, BoundHalf] = {}

    def __call__(self, values: dict[str, Any], turn: int, buffers: Buffers) -> None:
        """Run with the values of a frame, by name, and add the results."""
        if turn not in self._bound:
            self._bound[turn] = self._bind(values, buffers)
        binding, arrays, results, buffers.turns = self._bound[turn]
        for name in arrays:
            value = values[name]
            address, _ = value.__array_interface__['data']
            # Unlike a value of ONNX Runtime's own, this is not copied.
            binding.bind_input(name, 'cpu', 0, np.float32, value.shape, address)
        self._session.run_with_iobinding(binding)
        values.update(results)

    def _bind(self, values: dict[str, Any], buffers: Buffers) -> BoundHalf:
        """Choose the memory for a turn."""
        arrays = [name for name in self._inputs if isinstance(values[name], np.ndarray)]
        results = {name: buffers.unread(name, shape) for name, shape in self._shapes.items()}
        binding = self._session.io_binding()
        for name in self._inputs:
            if name not in arrays:
                binding.bind_ortvalue_input(name, values[name])
        for name, value in results.items():
            binding.bind_ortvalue_output(name, value)
        return binding, arrays, results, buffers.turns


class OnnxRuntimeBackend(CompiledBackend):
    """Steps a network in ONNX Runtime, on the CPU, in float32."""

    def __init__(self, network: RolloutNetwork, batch_size: int = 1, threads: int = 1) -> None:
        self._halves: list[OnnxHalf] = []
        self._buffers = Buffers()
        super().__init__(network, batch_size)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Between two frames, the cores are left to others.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        options.log_severity_level = ERRORS_ONLY
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        others = {key_of(name) for name, value in self._initial.items() if value.any()}
        keys = blocked_keys(
            (half.model for half in self._halves),
            set(map(key_of, self._initial)) - others - {self._input, self._output})
        for half in self._halves:
            remove_reordering(half.model, keys)
            half.prepare(options)

    def compile_half(self, half: FrameModule, examples: Values) -> CompiledHalf:
        """Optimise one half; all are opened together."""
        compiled = OnnxHalf(optimised(to_onnx(half, list(examples.values()))))
        self._halves.append(compiled)
        return lambda values: compiled(values, self._turn, self._buffers)

    def reset(self) -> None:
        """Forget every frame, and prepare for the first one."""
        super().reset()
        self._turn = 0
        # Images stay arrays of their own.
        self._values |= self._buffers.reset({
            name: value for name, value in self._initial.items() if key_of(name) != self._input})

    def settle(self) -> None:
        """Compute what only later frames need, and begin the next one."""
        super().settle()
        self._turn = (self._turn + 1) % (COPIES * len(self._frames))

    def to_runtime(self, name: str, value: np.ndarray) -> np.ndarray:
        """Return an array that the runtime can read."""
        value = np.ascontiguousarray(value)
        if name != self._output:
            return value
        # The halves read an output that was computed elsewhere from where theirs are.
        copy = self._buffers.unread(name, value.shape)
        copy.update_inplace(value)
        return copy

    def to_host(self, name: str, value: np.ndarray | onnxruntime.OrtValue) -> np.ndarray:
        """Return a copy of a value."""
        return value if isinstance(value, np.ndarray) else value.numpy().copy()
