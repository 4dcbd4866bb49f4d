"""
What a user would pick instead of the engine: whole sequential passes in other runtimes.

Each peer is a function from a frame, float32 (1, C, H, W), to the output; it keeps the values of
the nodes that are remembered from frame to frame. ONNX models get the engine's faster read-out
of the image, too, so that nothing is compared but the rollouts.
"""

from collections.abc import Callable
import copy
from importlib.util import find_spec
import io
import warnings

import numpy as np
from stream_agent.engine.compiled import remembered_nodes
from stream_agent.engine.read_outs import read_by_rows
from stream_agent.network.program import State
from stream_agent.network.rollout_network import RolloutNetwork
import torch
from torch import nn, Tensor

Pass = Callable[[np.ndarray], np.ndarray]


class SequentialPass(nn.Module):
    """A whole step as a function of the frame and of the remembered values."""

    def __init__(self, network: RolloutNetwork) -> None:
        super().__init__()
        self.network = network
        self.remembered = remembered_nodes(network)
        self.eval()

    def initial(self) -> list[Tensor]:
        """Return the remembered values before the first frame."""
        values = self.network.initial_state().values
        return [values[name] for name in self.remembered]

    def forward(self, frame: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        state = State(dict(zip(self.remembered, values)))
        output, state = self.network.step(frame, state)
        return (output, *(state.values[name] for name in self.remembered))


def eager(network: RolloutNetwork, threads: int) -> Pass:
    """Return the pass in torch as it is."""
    return in_torch(SequentialPass(network), SequentialPass(network))


def compiled(network: RolloutNetwork, threads: int) -> Pass:
    """Return the pass by torch.compile, with frozen weights; needs a C++ compiler."""
    import torch._inductor.config as inductor
    inductor.freezing = True
    module = SequentialPass(network)
    return in_torch(module, torch.compile(module))


def in_torch(module: SequentialPass, call: Callable[..., tuple[Tensor, ...]]) -> Pass:
    """Return a pass that calls torch."""
    values = module.initial()

    @torch.no_grad()
    def run(frame: np.ndarray) -> np.ndarray:
        output, *values[:] = call(torch.from_numpy(frame), *values)
        return output.numpy()

    return run


def as_onnx(network: RolloutNetwork) -> bytes:
    """Return the pass as an ONNX model."""
    network = copy.copy(network)
    network.programs = {name: read_by_rows(program, network.shapes)
                        for name, program in network.programs.items()}
    module = SequentialPass(network)
    frame = network.initial_state().values[network.input]
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            module, (frame, *module.initial()), file, dynamo=False, opset_version=18,
            input_names=['frame', *module.remembered],
            output_names=['output', *(f'{name}.now' for name in module.remembered)])
    return file.getvalue()


def onnx_runtime(network: RolloutNetwork, threads: int) -> Pass:
    """Return the pass in ONNX Runtime."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(as_onnx(network), options,
                                           providers=['CPUExecutionProvider'])
    remembered = remembered_nodes(network)
    values = [value.numpy() for value in SequentialPass(network).initial()]

    def run(frame: np.ndarray) -> np.ndarray:
        output, *values[:] = session.run(None, {'frame': frame, **dict(zip(remembered, values))})
        return output

    return run


def openvino(network: RolloutNetwork, threads: int, precision: str = 'f32') -> Pass:
    """Return the pass in OpenVINO."""
    import openvino
    core = openvino.Core()
    request = core.compile_model(core.read_model(as_onnx(network)), 'CPU', {
        'INFERENCE_NUM_THREADS': threads, 'INFERENCE_PRECISION_HINT': precision,
        'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': 1,
        'ENABLE_CPU_PINNING': False}).create_infer_request()
    values = [value.numpy() for value in SequentialPass(network).initial()]

    def run(frame: np.ndarray) -> np.ndarray:
        results = request.infer([frame, *values], share_inputs=True, share_outputs=False)
        output, *values[:] = results.values()
        return output

    return run


#: Peers by name, with the package that each needs and its precision.
PEERS: dict[str, tuple[Callable[[RolloutNetwork, int], Pass], str, str]] = {
    'torch eager': (eager, 'torch', 'float32'),
    'torch.compile, frozen': (compiled, 'torch', 'float32'),
    'ONNX Runtime': (onnx_runtime, 'onnxruntime', 'float32'),
    'OpenVINO': (openvino, 'openvino', 'float32'),
    'OpenVINO bf16': (lambda network, threads: openvino(network, threads, 'bf16'), 'openvino',
                      'bfloat16'),
}


def make_peers(make_network: Callable[[], RolloutNetwork], threads: int, without: set[str]
               ) -> tuple[dict[str, Pass], dict[str, str]]:
    """
    Make all peers that can be had.

    :param make_network: Makes the sequential network, with the same weights every time.
    :returns: Peers by name, and why others are missing.
    """
    peers, missing = {}, {}
    for name, (make, package, _) in PEERS.items():
        if name in without:
            continue
        if not find_spec(package):
            missing[name] = f'{package} is not installed'
            continue
        try:
            peers[name] = make(make_network(), threads)
            peers[name](np.zeros((1, *make_network().shapes[make_network().input]), np.float32))
        except Exception as error:  # whatever a peer lacks, the others can be compared
            missing[name] = str(error).splitlines()[0]
            peers.pop(name, None)
    return peers, missing
