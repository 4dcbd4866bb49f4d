"""What benchmark/gpu.py compares with: whole steps, frame on the host to output on the host."""

from importlib.util import find_spec
import time

from gpu_report import cpu_run, FRAMES, GpuBench, LARGEST_PEER_ERROR
from harness import alternate
import numpy as np
from peers import as_onnx, SequentialPass
from stream_agent.engine.cuda.branches import Kernel, plan_branches
from stream_agent.engine.cuda.device import Device, Half
from stream_agent.engine.torch_globals import computing
from stream_agent.network.rollout_network import RolloutNetwork
import torch
from torch import Tensor


class HostEnds:
    """Pinned memory for the frame and the output of a network on the device."""

    def __init__(self, network: RolloutNetwork, device: Device) -> None:
        values = network.initial_state().values
        self.device = device
        self.frame, self.output = (
            device.host_buffer(tuple(values[name].shape), torch.float32)
            for name in (network.input, network.graph.output))

    def put(self, frame: np.ndarray) -> None:
        """Put a frame into pinned memory."""
        self.frame.numpy()[...] = frame

    def take(self) -> np.ndarray:
        """Return the output that lies in pinned memory."""
        return self.output.numpy().copy()


class Eager:
    """
    The network's own step, operation by operation; or compiled.

    :param compiled: Whether by ``torch.compile(mode='reduce-overhead')``, with CUDA graphs.
    """

    def __init__(self, network: RolloutNetwork, device: Device, compiled: bool = False) -> None:
        step = SequentialPass(network)
        self._ends, self._compiled = HostEnds(network, device), compiled
        self._remembered = step.initial()
        # Steps run on a stream that does not wait for the one that this was made on.
        device.wait()
        self._step = torch.compile(step, mode='reduce-overhead') if compiled else step

    @torch.no_grad()
    def launch(self) -> None:
        """Start a step on the frame that is there."""
        frame = self._ends.frame.to(self._ends.device.torch_device, non_blocking=True)
        if self._compiled:
            torch.compiler.cudagraph_mark_step_begin()
        output, *remembered = self._step(frame, *self._remembered)
        self._ends.output.copy_(output, non_blocking=True)
        # The next step of a recorded graph overwrites its results.
        self._remembered = [value.clone() if self._compiled else value for value in remembered]

    def step(self, frame: np.ndarray) -> np.ndarray:
        """Advance by one frame."""
        self._ends.put(frame)
        self._ends.device.launch(self.launch)
        self._ends.device.wait()
        return self._ends.take()


class Recorded:
    """
    Something as one CUDA graph on one stream, from the frame on the host to the output there.

    :param network: What is remembered is copied into place; None for no work at all.
    """

    def __init__(self, network: RolloutNetwork, device: Device, empty: bool = False) -> None:
        ends = self._ends = HostEnds(network, device)
        with torch.inference_mode(), computing(tf32=False):
            there = ends.frame.to(device.torch_device)
            step = SequentialPass(network)
            remembered = [] if empty else [value.clone() for value in step.initial()]
            nothing = ends.output.to(device.torch_device)

            def work(frame: Tensor) -> tuple[Tensor, ...]:
                return (nothing,) if empty else step(frame, *remembered)

            def run() -> None:
                there.copy_(ends.frame, non_blocking=True)
                output, *results = work(there)
                ends.output.copy_(output, non_blocking=True)
                for value, result in zip(remembered, results):
                    value.copy_(result)

            half = Half(plan_branches([Kernel('step', (), ())]), (run,))
            self.launch = device.record(half)
            for value in remembered:
                value.zero_()
            device.wait()

    def step(self, frame: np.ndarray) -> np.ndarray:
        """Advance by one frame."""
        self._ends.put(frame)
        self._ends.device.answer(self.launch)
        return self._ends.take()


class OnnxOnGpu:
    """
    A whole step in ONNX Runtime; what is remembered stays on the GPU.

    :param network: On the CPU.
    :param provider: 'CUDAExecutionProvider' or 'TensorrtExecutionProvider'.
    """

    def __init__(self, network: RolloutNetwork, provider: str) -> None:
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        settings = {'use_tf32': 0} if provider.startswith('CUDA') else {}
        self._session = onnxruntime.InferenceSession(
            as_onnx(network), options, providers=[(provider, settings)])
        if provider not in self._session.get_providers():
            raise RuntimeError(f'{provider} does not start here')
        self._inputs = [port.name for port in self._session.get_inputs()]
        self._outputs = [port.name for port in self._session.get_outputs()]
        step = SequentialPass(network)
        self._values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value.numpy(), 'cuda', 0)
                        for name, value in zip(step.remembered, step.initial())}

    def step(self, frame: np.ndarray) -> np.ndarray:
        """Advance by one frame."""
        binding = self._session.io_binding()
        for name in self._inputs:
            if name in self._values:
                binding.bind_ortvalue_input(name, self._values[name])
            else:
                binding.bind_cpu_input(name, frame)
        for i, name in enumerate(self._outputs):
            binding.bind_output(name, 'cuda' if i else 'cpu')
        self._session.run_with_iobinding(binding)
        output, *values = binding.get_outputs()
        self._values = dict(zip(self._values, values))
        return output.numpy()


def time_peers(bench: GpuBench, name: str) -> None:
    """Time whole sequential steps by the wall clock, one after the other, in other runtimes."""
    makers = {'eager': lambda: Eager(bench.network(name, 'sequential'), bench.device),
              'one CUDA graph': lambda: Recorded(bench.network(name, 'sequential'), bench.device),
              'torch.compile, reduce-overhead': lambda: Eager(
                  bench.network(name, 'sequential'), bench.device, compiled=True)}
    for provider in gpu_providers(bench):
        makers[f'ONNX Runtime {provider}'] = lambda provider=provider: OnnxOnGpu(
            bench.network(name, 'sequential', on_cpu=True), provider)
    frames = bench.frames(name, FRAMES[name])
    wanted, _ = cpu_run(bench, name, 'sequential', frames)
    engine = bench.backend(name)
    running = {}
    for what, make in makers.items():
        try:
            peer = make()
            error = np.abs(np.stack([peer.step(frame) for frame in frames]) - wanted).max()
            if error > LARGEST_PEER_ERROR:
                raise RuntimeError(f'outputs differ from the CPU by {error:.3g}')
            running[what] = peer
        except Exception as error:  # of any runtime: the others are still wanted
            bench.say(f'  {what}: not measured ({type(error).__name__}: {str(error)[:300]})')
    seconds = alternate(
        {'streaming, this engine': lambda: wall(bench, frames[0], engine=engine),
         **{what: lambda peer=peer: wall(bench, frames[0], peer=peer)
            for what, peer in running.items()}}, 30 if bench.quick else 200, warm_up=10)
    for what, values in seconds.items():
        bench.row(f'{name}_wall_{what}_us', f'{name}, frame to output and settled: {what}',
                  np.median(values) * 1e6, 'us')


def wall(bench: GpuBench, frame: np.ndarray, engine=None, peer=None) -> float:
    """Return the seconds of a step by the wall clock, until the device is idle."""
    start = time.perf_counter()
    if engine:
        engine.respond(frame)
        engine.settle()
    else:
        peer.step(frame)
    bench.device.wait()
    return time.perf_counter() - start


def gpu_providers(bench: GpuBench) -> list[str]:
    """Return the GPU providers of an installed onnxruntime, and say what is not there."""
    found = []
    if find_spec('onnxruntime'):
        import onnxruntime
        found = onnxruntime.get_available_providers()
    else:
        bench.say('  onnxruntime is not importable')
    wanted = ('CUDAExecutionProvider', 'TensorrtExecutionProvider')
    for name in wanted:
        if name not in found:
            bench.say(f'  ONNX Runtime has no {name} here')
    return [name for name in wanted if name in found]
