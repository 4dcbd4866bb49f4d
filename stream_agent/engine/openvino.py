"""The halves of a step in OpenVINO."""

from collections.abc import Iterator
from contextlib import contextmanager
import ctypes

import numpy as np
import openvino
from openvino.preprocess import PrePostProcessor
from stream_agent.engine.compiled import (
    CompiledBackend, CompiledHalf, COPIES, FrameModule, key_of, to_onnx, Values)
from stream_agent.engine.torch_globals import flushed_denormals
from stream_agent.network.rollout_network import RolloutNetwork
import torch


class SignalStack(ctypes.Structure):
    """``stack_t`` of <signal.h>."""

    _fields_ = [('address', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]


def signal_stack() -> SignalStack | None:
    """Return the alternative stack of this thread; None where the system has no such thing."""
    exchange = getattr(ctypes.CDLL(None), 'sigaltstack', None)
    stack = SignalStack()
    return stack if exchange and exchange(None, ctypes.byref(stack)) == 0 else None


@contextmanager
def same_signal_stack() -> Iterator[None]:
    """
    Undo what is done to this thread's alternative stack.

    OpenVINO's CPU plugin sets one that is too small for Python's handlers, and that is gone with
    the plugin: the next Ctrl-C would end the process by a segmentation fault.
    """
    stack = signal_stack()
    try:
        yield
    finally:
        if stack:
            ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)


PRECISIONS = {'float32': ('f32', openvino.Type.f32), 'bfloat16': ('bf16', openvino.Type.bf16)}


class OpenVinoBackend(CompiledBackend):
    """
    Steps a network in OpenVINO, on the CPU.

    Feature maps are carried from frame to frame with the channels last, as most kernels want
    them, so that little is reordered at the borders of the halves.

    :param precision: 'float32' or 'bfloat16', of the operations and the feature maps; the image,
        features, cells and sums are carried in float32.
    """

    def __init__(self, network: RolloutNetwork, batch_size: int = 1, threads: int = 1,
                 precision: str = 'float32') -> None:
        hint, self._map_type = PRECISIONS[precision]
        self._core = openvino.Core()
        self._settings = {'INFERENCE_NUM_THREADS': threads, 'INFERENCE_PRECISION_HINT': hint,
                          'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': 1,
                          'CPU_DENORMALS_OPTIMIZATION': True,
                          # Several engines of a robot may not meet on one core.
                          'ENABLE_CPU_PINNING': False}
        nodes = network.graph.nodes
        self._exact = {*network.inputs, network.graph.output,
                       *(node.name for node in nodes if node.cell)}
        self._in_order = {node.name for node in nodes if len(network.shapes[node.name]) == 3} - {
            *network.inputs, network.graph.output}
        self._copies: dict[str, list[openvino.Tensor]] = {}
        super().__init__(network, batch_size)

    def compile_half(self, half: FrameModule, examples: Values) -> CompiledHalf:
        """Compile one half."""
        model = self._core.read_model(to_onnx(half, list(examples.values())))
        # What nothing depends on has been removed from the inputs.
        read = [(port.get_names() & {*half.inputs}).pop() for port in model.inputs]
        # Compiling would leave this thread without denormals.
        with same_signal_stack(), flushed_denormals():
            request = self._core.compile_model(
                self._with_ports(model, read, half.outputs), 'CPU',
                self._settings).create_infer_request()
        inputs = list(enumerate(read))
        outputs = [(i, name, port.element_type, port.shape)
                   for i, (name, port) in enumerate(zip(half.outputs, request.model_outputs))]

        def run(values: dict[str, openvino.Tensor]) -> None:
            for i, name in inputs:
                request.set_input_tensor(i, values[name])
            for i, name, kind, shape in outputs:
                values[name] = self._free_copy(name, kind, shape)
                request.set_output_tensor(i, values[name])
            request.infer()

        return run

    def _with_ports(self, model: openvino.Model, inputs: list[str], outputs: list[str]
                    ) -> openvino.Model:
        """Let feature maps go in and out as they are carried."""
        ports = PrePostProcessor(model)
        for names, port in ((inputs, ports.input), (outputs, ports.output)):
            for i, name in enumerate(names):
                if name.partition('.')[0] in self._in_order:
                    port(i).model().set_layout(openvino.Layout('NCHW'))
                    port(i).tensor().set_layout(openvino.Layout('NHWC'))
                    port(i).tensor().set_element_type(self._type(name))
        return ports.build()

    def _type(self, name: str) -> openvino.Type:
        """Return the type in which values of a name are carried."""
        node, _, suffix = name.partition('.')
        exact = node in self._exact or node not in self._in_order or 'sum' in suffix
        return openvino.Type.f32 if exact else self._map_type

    def _free_copy(self, name: str, kind: openvino.Type, shape: openvino.Shape
                   ) -> openvino.Tensor:
        """Return memory of a node that neither this frame nor the one before reads."""
        key = key_of(name)
        if key not in self._copies:
            self._copies[key] = [openvino.Tensor(kind, shape) for _ in range(COPIES)]
        copies = self._copies[key]
        copies.append(copies.pop(0))
        return copies[-1]

    def to_runtime(self, name: str, value: np.ndarray) -> openvino.Tensor:
        """Return a value as the runtime keeps it; the array's own memory where it is in order."""
        if name.partition('.')[0] in self._in_order:
            value = value.transpose(0, 2, 3, 1)
        value = np.ascontiguousarray(value)
        if self._type(name) == openvino.Type.f32:
            return openvino.Tensor(value, shared_memory=True)
        bits = torch.from_numpy(value).to(torch.bfloat16).view(torch.int16).numpy()
        return openvino.Tensor(bits, openvino.Shape(value.shape), self._type(name))

    def to_host(self, name: str, value: openvino.Tensor) -> np.ndarray:
        """Return a copy of a value."""
        return value.data.copy()
