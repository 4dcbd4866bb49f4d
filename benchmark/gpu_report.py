"""What the sections of benchmark/gpu.py share: results beside targets, networks, backends."""

from collections.abc import Callable
from pathlib import Path
import subprocess
import sys
import time
import traceback

from harness import machine
import numpy as np
from stream_agent.engine.cuda.device import device_of
from stream_agent.engine.cuda.graphs import CudaGraphBackend
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
import torch

ROOT = Path(__file__).parents[1]
GRAPHS = {'policy': ROOT / 'benchmark/graphs/policy.yaml',
          'dsr6': ROOT / 'config/graphs/dsr6.yaml',
          'deep': ROOT / 'benchmark/graphs/deep.yaml'}
# Enough for an image to reach the output by the longest way.
FRAMES = {'policy': 12, 'dsr6': 14, 'deep': 30}
PATTERNS = {'streaming': newest_image_pattern, 'sequential': sequential_pattern}
# Peers may take other algorithms, with other roundings.
LARGEST_PEER_ERROR = 1e-3
# The whole benchmark is to end within ten minutes: no section begins after these seconds.
LAST_START = 480.0


class GpuBench:
    """What all sections share: the results, and networks and backends, each made once."""

    def __init__(self, device: str, quick: bool, as_json: bool) -> None:
        self.torch_device, self.quick = torch.device(device), quick
        self.device = device_of(torch.zeros(1, device=self.torch_device))
        self.rows: list[tuple[str, str, str, str]] = []
        self.figures: dict[str, float | str] = {}
        self._out = sys.stderr if as_json else sys.stdout
        self._executors: dict[tuple, CudaGraphBackend] = {}
        self._start = time.monotonic()

    def say(self, text: str = '') -> None:
        """Print a line at once."""
        print(text, file=self._out, flush=True)

    def row(self, key: str, what: str, value: float, unit: str = '', target: float | None = None
            ) -> None:
        """Print a figure, beside its target if it has one: at most that."""
        good = '' if target is None else 'reached' if value <= target else 'MISSED'
        wanted = '' if target is None else f'at most {target:g}{unit and " " + unit}'
        shown = f'{value:.3g}{unit and " " + unit}'
        self.figures[key] = float(value)
        self.rows.append((what, shown, wanted, good))
        self.say(f'  {what:<66} {shown:>12}  {wanted:<16} {good}')

    def section(self, title: str, run: Callable[['GpuBench'], None]) -> None:
        """Run one section."""
        elapsed = time.monotonic() - self._start
        self.say(f'\n{title} (after {elapsed:.0f} s)')
        if elapsed > LAST_START:
            self.say('  skipped: the time is over')
            self.figures[f'skipped {title}'] = 'the time is over'
            return
        try:
            run(self)
        except Exception as error:  # of any library: the others' figures are still wanted
            self.figures[f'failed {title}'] = f'{type(error).__name__}: {error}'
            self.say(f'  FAILED: {traceback.format_exc()}')

    def network(self, name: str, rollout: str = 'streaming', on_cpu: bool = False
                ) -> RolloutNetwork:
        """Return a network of a reference graph, with the same weights every time."""
        torch.manual_seed(0)
        graph = load_graph(GRAPHS[name])
        network = RolloutNetwork(graph, PATTERNS[rollout](graph)).eval()
        return network if on_cpu else network.to(self.torch_device)

    def backend(self, name: str, rollout: str = 'streaming', batch_size: int = 1,
                precision: str = 'float32', **options) -> CudaGraphBackend:
        """Return a backend, made for the first who asks."""
        key = (name, rollout, batch_size, precision, str(sorted(options.items())))
        if key not in self._executors:
            self._executors[key] = CudaGraphBackend(
                self.network(name, rollout), batch_size, precision, **options)
        return self._executors[key]

    def frames(self, name: str, count: int, batch_size: int = 1) -> np.ndarray:
        """Return frames like those of a camera, scaled."""
        shape = load_graph(GRAPHS[name]).node('image').shape
        generator = np.random.default_rng(0)
        return generator.random((count, batch_size, *shape), np.float32) - np.float32(0.5)


def cpu_run(bench: GpuBench, name: str, rollout: str, frames: np.ndarray):
    """Return outputs and last values of the network's own step on the CPU."""
    network = bench.network(name, rollout, on_cpu=True)
    state, outputs = network.initial_state(frames.shape[1]), []
    with torch.inference_mode():
        for frame in frames:
            output, state = network.step(torch.from_numpy(frame), state)
            outputs.append(output.numpy())
    return np.stack(outputs), state.values


def engine_run(backend: CudaGraphBackend, frames: np.ndarray) -> np.ndarray:
    """Return the outputs of a backend."""
    backend.reset()
    outputs = []
    for frame in frames:
        outputs.append(backend.respond(frame))
        backend.settle()
    return np.stack(outputs)


def commit() -> str:
    """Return the commit that is measured."""
    try:
        return subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, check=True,
                              capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


def chip(device: torch.device) -> str:
    """Return the device and the versions of what drives it."""
    if device.type != 'cuda':
        return f'{machine()} (no GPU)'
    return (f'{torch.cuda.get_device_name(device)}, torch {torch.__version__}, CUDA '
            f'{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}; {machine()}')


def table(bench: GpuBench, title: str) -> str:
    """Return the results for benchmark/README.md."""
    return '\n'.join([title, '', '| figure | value | target | |', '|---|---|---|---|',
                      *(f'| {" | ".join(row)} |' for row in bench.rows)])
