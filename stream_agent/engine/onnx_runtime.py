"""The halves of a step in ONNX Runtime."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from stream_agent.engine.compiled import (
    CompiledBackend, CompiledHalf, COPIES, FrameModule, key_of, to_onnx, Values)
from stream_agent.engine.torch_globals import flushed_denormals
from stream_agent.network.program import Arrays
from stream_agent.network.rollout_network import RolloutNetwork
from torch import Tensor

# The channels of a map are a multiple of every block size that is in use: 4, 8 or 16.
BLOCK = 16


def optimised(model: bytes, level: Any = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
              without: Sequence[str] = ()) -> onnx.ModelProto:
    """
    Return a model as ONNX Runtime would run it on this machine.

    :param level: Of its optimisations; basic ones leave standard operators.
    :param without: Optimisers that are left out.
    """
    # Of a process only the first session is asked about denormals; it would leave this thread so.
    with TemporaryDirectory() as folder, flushed_denormals():
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry('session.set_denormal_as_zero', '1')
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(Path(folder) / 'optimised.onnx')
        onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'],
                                     disabled_optimizers=[*without])
        return onnx.load(options.optimized_model_filepath)


def optimised_together(models: Iterable[onnx.ModelProto], candidates: set[str]
                       ) -> list[onnx.ModelProto]:
    """
    Return models optimised so that they hand maps to each other in ONNX Runtime's blocks.

    In blocks, a map need not be brought into the usual order and back, and what a model computes
    of another's map is fused as if both were one model.

    :param candidates: Keys of tensors that are zeros at first, as zeros are in any order.
    """
    models = list(models)
    keys = candidates - {key_of(port.name) for model in models
                         for port in (*model.graph.input, *model.graph.output)
                         if not fills_blocks(shape_of(port))}
    done: list[onnx.ModelProto | None] = [None] * len(models)
    while None in done:
        done = [result or optimised(anchored(model, keys).SerializeToString())
                for model, result in zip(models, done)]
        usual = [usual_keys(result, keys) for result in done if result]
        lost = set().union(*usual)
        keys -= lost
        done = [None if result and lost & keys_of(result) else result for result in done]
    results = [result for result in done if result]
    for result in results:
        remove_anchors(result, keys)
    return results


def shape_of(port: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the shape of an input or output of a model."""
    return tuple(size.dim_value for size in port.type.tensor_type.shape.dim)


def fills_blocks(shape: tuple[int, ...]) -> bool:
    """Return whether a value is a map whose channels need no filling."""
    return len(shape) == 4 and shape[1] % BLOCK == 0


def keys_of(model: onnx.ModelProto) -> set[str]:
    """Return the keys of all that a model takes and gives."""
    return {key_of(port.name) for port in (*model.graph.input, *model.graph.output)}


def anchored(model: onnx.ModelProto, keys: set[str]) -> onnx.ModelProto:
    """Return a model that pools these tensors over one pixel, which is done in blocks only."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    taken = [port.name for port in graph.input if key_of(port.name) in keys]
    given = [port.name for port in graph.output if key_of(port.name) in keys]
    rename(graph.node, {name: f'{name}/inside' for name in (*taken, *given)})
    pools = [onnx.helper.make_node('MaxPool', list(ends), [other], kernel_shape=[1, 1])
             for *ends, other in [(name, f'{name}/inside') for name in taken]
             + [(f'{name}/inside', name) for name in given]]
    nodes = [*pools[:len(taken)], *graph.node, *pools[len(taken):]]
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def rename(nodes: Iterable[onnx.NodeProto], names: dict[str, str]) -> None:
    """Give tensors other names."""
    for node in nodes:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]


class Anchors:
    """
    Where the anchored tensors of an optimised model are, in blocks.

    :ivar names: Of the tensors in blocks, as the model calls them, by what they are.
    :ivar nodes: What has no use but to keep them in blocks.
    :ivar usual: Keys of those that are in the usual order, or had better be.
    """

    def __init__(self, model: onnx.ModelProto, keys: set[str]) -> None:
        graph = model.graph
        self._makers = {name: node for node in graph.node for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self.names: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.usual = {key_of(port.name) for ports, find in (
            (graph.input, self._find_taken), (graph.output, self._find_given))
            for port in ports if key_of(port.name) in keys and not find(port.name)}

    def _find_taken(self, name: str) -> bool:
        """Find what is read in blocks: the pool's result, behind a reordering."""
        reorder = self._users[name][0]
        if reorder.op_type != 'ReorderInput':
            return False
        (pool,) = self._users[reorder.output[0]]
        users = self._users.get(pool.output[0], [])
        self.names[pool.output[0]] = name
        self.nodes += (reorder, pool)
        return not users or any(user.op_type != 'ReorderOutput' for user in users)

    def _find_given(self, name: str) -> bool:
        """Find what is given in blocks: what the pool in front of a reordering reads."""
        reorder = self._makers[name]
        pool = self._makers.get(reorder.input[0])
        if reorder.op_type != 'ReorderOutput' or pool is None:
            return False
        source = pool.input[0]
        maker = self._makers.get(source)
        if maker is None or maker.op_type == 'ReorderInput' or source in self.names:
            return False
        self.names[source] = name
        self.nodes += (reorder, pool)
        return True


def usual_keys(model: onnx.ModelProto, keys: set[str]) -> set[str]:
    """Return which anchored tensors a model takes or gives in the usual order all the same."""
    return Anchors(model, keys).usual


def remove_anchors(model: onnx.ModelProto, keys: set[str]) -> None:
    """Let a model take and give these tensors in blocks."""
    anchors = Anchors(model, keys)
    for node in anchors.nodes:
        model.graph.node.remove(node)
    rename(model.graph.node, anchors.names)
    del model.graph.value_info[:]


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
    """One half of a step, of a model as it was exported."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model

    def prepare(self, model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> None:
        """Get ready to run the model as it was optimised."""
        self.model = model
        # What nothing depends on has been removed from the inputs.
        self._inputs = [port.name for port in model.graph.input]
        self._shapes = {port.name: shape_of(port) for port in model.graph.output}
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=['CPUExecutionProvider'])
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
        options.add_session_config_entry('session.set_denormal_as_zero', '1')
        options.log_severity_level = ERRORS_ONLY
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        others = {key_of(name) for name, value in self._initial.items() if value.any()}
        models = optimised_together(
            (half.model for half in self._halves),
            set(map(key_of, self._initial)) - others - {*self._inputs, self._output})
        for half, model in zip(self._halves, models):
            half.prepare(model, options)

    def compile_half(self, half: FrameModule, examples: Values) -> CompiledHalf:
        """Translate one half; all are optimised together."""
        compiled = OnnxHalf(onnx.load_from_string(to_onnx(half, list(examples.values()))))
        self._halves.append(compiled)
        return lambda values: compiled(values, self._turn, self._buffers)

    def reset(self) -> None:
        """Forget every frame, and prepare for the first one."""
        super().reset()
        self._turn = 0
        # Images stay arrays of their own.
        self._values |= self._buffers.reset({
            name: value for name, value in self._initial.items()
            if key_of(name) not in self._inputs})

    def rehearse(self, frame: Arrays) -> None:
        """Compute the answer to a frame, and forget it; the answer itself uses the same memory."""
        turns = self._buffers.turns
        super().rehearse(frame)
        self._buffers.turns = turns

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
