"""
What an imported network costs beside the runtime that the original would run in.

A network in the manner of ResNet-18, of 11.7 million weights and 224 x 224 pixels in colour, is
imported and cut by measured cost. The engine steps its sequential rollout, and its streaming one,
by every back end; ONNX Runtime runs what torch exports of the original. Each has one thread, and
they take turns with the same images; a ratio is the median over the turns. --quick leaves out the
back ends that compile nothing.
"""

from collections.abc import Callable
import io
from itertools import cycle
from pathlib import Path
import sys
import time
import warnings

from harness import alternate, parse, percentiles, run_benchmark, show
import numpy as np
import onnxruntime
from stream_agent.engine.backends import usable
from stream_agent.engine.engine import Engine
from stream_agent.importing.cutting import cut
from stream_agent.importing.exported import read_module
from stream_agent.importing.graph_making import make_network
from stream_agent.importing.measuring import measured_seconds
from stream_agent.importing.simplify import simplified
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.information import information_ages
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / 'test'))

from importing.networks import ResNet  # noqa: E402, I100
from importing.zoo import drawn, Example, images_for, pictures  # noqa: E402

COMPILED = ('onnxruntime', 'openvino')
EXAMPLE = Example(ResNet, (3, 224, 224))
TOLERANCE = 1e-4


def original() -> nn.Module:
    """Return the network that is imported."""
    torch.manual_seed(0)
    return drawn(EXAMPLE.make(), EXAMPLE.batch_of(list(pictures())))


def runtime_session(module: nn.Module) -> onnxruntime.InferenceSession:
    """Return ONNX Runtime's session of a module as torch exports it, with one thread."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the older exporter is on its way out
        torch.onnx.export(module, (torch.zeros(1, *EXAMPLE.image),), file, dynamo=False,
                          opset_version=18, input_names=['image'])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file.getvalue(), options,
                                        providers=['CPUExecutionProvider'])


def imported(module: nn.Module) -> dict[str, RolloutNetwork]:
    """Return the import of a module by its pattern, cut once."""
    program = simplified(read_module(module, {'x': EXAMPLE.image}))
    groups = cut(program, measured_seconds(program), 'auto')
    return {pattern: make_network(program, groups, pattern)
            for pattern in ('sequential', 'streaming')}


class Contest:
    """
    The original in ONNX Runtime, and both rollouts of its import in every back end.

    :ivar error: The largest difference of any engine's answer, relative to the largest output.
    """

    def __init__(self, quick: bool) -> None:
        module = original()
        self.session = runtime_session(module)
        self.networks = imported(module)
        self.images = images_for(EXAMPLE, 'real', 8).numpy()
        self.engines = {(pattern, backend): Engine(network, backend=backend, threads=1)
                        for pattern, network in self.networks.items()
                        for backend in usable('cpu', 'float32')
                        if not quick or backend in COMPILED}
        self.error = max(self._error(*key) for key in self.engines)

    def _error(self, pattern: str, backend: str) -> float:
        """Compare answers; a streaming rollout's from when it knows a still image as a whole."""
        engine, network = self.engines[pattern, backend], self.networks[pattern]
        images = self.images[:3]
        if pattern == 'streaming':
            images = images[:1]
            for _ in range(information_ages(network.graph, network.pattern).oldest):
                engine.step(images[0])
        expected = np.concatenate([self.run_original(image) for image in images])
        found = np.stack([engine.step(image) for image in images])
        return float(np.abs(found - expected).max() / np.abs(expected).max())

    def run_original(self, image: np.ndarray) -> np.ndarray:
        return self.session.run(None, {'image': image[np.newaxis]})[0]

    def run(self, rounds: int) -> dict[tuple[str, str], np.ndarray]:
        """Return seconds of whole passes, (rounds,) each, by rollout and back end."""
        turns: dict = {('original', 'onnxruntime'): self.run_original}
        turns |= {key: engine.step for key, engine in self.engines.items()}
        return alternate({key: self._timed(run) for key, run in turns.items()}, rounds)

    def _timed(self, run: Callable[[np.ndarray], np.ndarray]) -> Callable[[], float]:
        """Return a function that runs one image, just written as by a camera, and times it."""
        images = cycle(self.images)

        def measure() -> float:
            image = next(images).copy()
            start = time.perf_counter()
            run(image)
            return time.perf_counter() - start
        return measure


def main() -> None:
    """Compare answers, then durations in turns."""
    arguments = parse(__doc__)
    torch.set_num_threads(1)
    contest = Contest(arguments.quick)
    seconds = contest.run(50 if arguments.quick else 200)
    whole = seconds['original', 'onnxruntime']
    ratios = {key: float(np.median(values / whole)) for key, values in seconds.items()}
    lines = [f'{pattern:<10} {backend:<12} {percentiles(values)}  '
             f'{ratios[pattern, backend]:.3f} of the original'
             for (pattern, backend), values in seconds.items()]
    best = {pattern: min((key for key in ratios if key[0] == pattern), key=ratios.__getitem__)
            for pattern in contest.networks}
    figures = {'outputs_equal': contest.error <= TOLERANCE, 'error': contest.error,
               'sequential_over_ort': ratios[best['sequential']],
               'pass_over_ort': ratios[best['streaming']],
               'nodes': len(contest.networks['streaming'].graph.nodes) - 1,
               'sequential_backend': best['sequential'][1],
               'streaming_backend': best['streaming'][1]}
    lines += [f'{key} {value:.3g}' if isinstance(value, float) else f'{key} {value}'
              for key, value in figures.items()]
    show(lines, figures, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
