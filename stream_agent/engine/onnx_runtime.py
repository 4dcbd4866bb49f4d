"""The halves of a step in ONNX Runtime."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from stream_agent.engine.half_steps import HalfStep, Values
from stream_agent.engine.onnx_export import to_onnx
from stream_agent.engine.onnx_layout import (
    blocked_keys, key_of, optimised, without_reordering)
from stream_agent.engine.runtime_executor import RuntimeExecutor
from stream_agent.network.rollout_network import RolloutNetwork

ERRORS_ONLY = 3


class OnnxHalf:
    """
    One half of a step; it takes the values of a frame by name, and adds its results.

    :param model: As ONNX Runtime has optimised it.
    :param outputs: Names of the results, in order.
    """

    def __init__(self, model: onnx.ModelProto, outputs: list[str]) -> None:
        self.model = model
        self._outputs = outputs
        # What nothing depends on is no input of the model any more.
        self._inputs = [port.name for port in model.graph.input]

    def open(self, model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> None:
        """Get ready to run a model that takes and gives the same tensors."""
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=['CPUExecutionProvider'])
        self._binding = self._session.io_binding()

    def __call__(self, values: dict[str, Any]) -> None:
        binding = self._binding
        for name in self._inputs:
            value = values[name]
            if isinstance(value, np.ndarray):
                # Unlike a value of ONNX Runtime's own, this is not copied.
                address, _ = value.__array_interface__['data']
                binding.bind_input(name, 'cpu', 0, np.float32, value.shape, address)
            else:
                binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        values.update(zip(self._outputs, binding.get_outputs()))


class OnnxRuntimeExecutor(RuntimeExecutor):
    """
    Steps a network in ONNX Runtime, on the CPU, in float32.

    :param threads: That a half may use.
    """

    def __init__(self, network: RolloutNetwork, batch_size: int = 1, threads: int = 1) -> None:
        self._halves: list[OnnxHalf] = []
        super().__init__(network, batch_size)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Between two frames, the cores are for others.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        options.log_severity_level = ERRORS_ONLY
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        zeros = {key_of(name) for name, value in self._initial.items() if not value.any()}
        others = {key_of(name) for name, value in self._initial.items() if value.any()}
        keys = blocked_keys((half.model for half in self._halves),
                            zeros - others - {self._input, self._output})
        for half in self._halves:
            half.open(without_reordering(half.model, keys), options)

    def compile_half(self, half: HalfStep, examples: Values) -> OnnxHalf:
        """Optimise one half; all are opened together."""
        model = optimised(to_onnx(half, list(examples.values())))
        self._halves.append(OnnxHalf(model, half.outputs))
        return self._halves[-1]

    def to_runtime(self, name: str, value: np.ndarray) -> np.ndarray:
        """Return an array that the runtime can read."""
        return np.ascontiguousarray(value)

    def to_host(self, name: str, value: np.ndarray | onnxruntime.OrtValue) -> np.ndarray:
        """Return a copy of a value."""
        return value if isinstance(value, np.ndarray) else value.numpy()
