"""
How a streaming step compares with the whole sequential passes that a user would pick instead.

Every competitor gets frames that have just been written, as from a camera, twenty in a turn.
``respond`` and ``step`` are the engine's streaming rollout (edges from the image read this
frame, all others the one before; in ``policy hybrid``, layers 1 and 2 answer with the image,
too); the peers are sequential passes of the same graph.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
import time
from typing import NamedTuple

from harness import add_against, percentiles, run_benchmark, show
import numpy as np
from peers import make_peers, PEERS
from response_first import cone_share
from stream_agent.cli.arguments import open_graph
from stream_agent.engine.autotune import best, Measured, random_frames, reference
from stream_agent.engine.backends import BackendConfig, BACKENDS, usable
from stream_agent.engine.engine import Engine
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Edge, newest_image_pattern, sequential_pattern
import torch

HERE = Path(__file__).parent / 'graphs'
POLICY = str(HERE / 'policy.yaml')
GRAPHS = {'policy': POLICY, 'policy hybrid': POLICY, 'dsr2': 'dsr2', 'dsr6': 'dsr6',
          'deep': str(HERE / 'deep.yaml')}
QUICK = ('policy', 'policy hybrid')
# Edges that do not stream, besides those from the image.
AT_ONCE = {'policy hybrid': [('layer1', 'layer2'), ('layer1', 'command'), ('layer2', 'command')]}
TURN = 20
TOLERANCE = {'float32': 1e-5, 'bfloat16': 3e-2}
REFERENCE, REFERENCE_BF16 = 'ONNX Runtime', 'OpenVINO bf16'


class StepTimes(NamedTuple):
    """Seconds until the answer and until the frame is done, (frames,) each."""

    respond: np.ndarray
    step: np.ndarray


def make_network(graph: GraphSpec, pattern) -> RolloutNetwork:
    """Return a network of a graph, with the same weights every time."""
    torch.manual_seed(0)
    return RolloutNetwork(graph, pattern).eval()


def outputs_of(network: RolloutNetwork, frames: list[np.ndarray]) -> np.ndarray:
    """Return the outputs of the network itself."""
    return reference(BackendConfig(network), frames)


class StepContest:
    """All competitors on one graph."""

    def __init__(self, graph: GraphSpec, threads: int, without: set[str],
                 at_once: Iterable[Edge] = ()) -> None:
        self.streaming = make_network(
            graph, newest_image_pattern(graph) | dict.fromkeys(at_once, 0))
        self.frames = [frame[np.newaxis] for frame in random_frames(self.streaming, 8)]
        self.peers, self.missing = make_peers(
            lambda: make_network(graph, sequential_pattern(graph)), threads, without)
        self.engines = {
            (name, precision): Engine(self.streaming, backend=name, precision=precision,
                                      threads=threads, batch_size=1)
            for precision in ('float32', 'bfloat16') for name in usable('cpu', precision)}
        sequential = make_network(graph, sequential_pattern(graph))
        self.errors = {
            **{name: self._error(run, sequential) for name, run in self.peers.items()},
            **{key: self._error(engine.step, self.streaming)
               for key, engine in self.engines.items()}}

    def _error(self, run, network: RolloutNetwork) -> float:
        """Return the largest difference of a competitor's first outputs from the network's."""
        if hasattr(run, '__self__'):
            run.__self__.reset()
        elif run in self.peers.values():
            # Its memory has seen one black frame, for warmth.
            black = np.zeros_like(self.frames[0])
            expected = outputs_of(network, [black, *self.frames])[1:]
            return self._difference(run, expected)
        return self._difference(run, outputs_of(network, self.frames))

    def _difference(self, run, expected: np.ndarray) -> float:
        outputs = np.array([np.array(run(frame)) for frame in self.frames])
        return float(np.abs(outputs - expected).max())

    @property
    def equal(self) -> bool:
        """Whether all outputs are those of the network, up to rounding."""
        def precision(key):
            return PEERS[key][2] if isinstance(key, str) else key[1]
        return all(error <= TOLERANCE[precision(key)] for key, error in self.errors.items())

    def run(self, turns: int, pause: float = 0.0) -> dict:
        """
        Measure all competitors, in turns; the first turn warms up.

        :param pause: Seconds before every frame, in which the machine does something else.
        :returns: Times by the peer's name, or by the engine's backend and precision.
        """
        taken: dict = {key: [] for key in (*self.peers, *self.engines)}
        for turn in range(1 + turns):
            for key in taken:
                for i in range(TURN):
                    time.sleep(pause)
                    # Just written, as by a camera.
                    frame = self.frames[i % len(self.frames)].copy()
                    taken[key].append(self._timed(key, frame))
                if not turn:
                    taken[key].clear()
        return {key: StepTimes(*np.array(pairs).T) for key, pairs in taken.items()}

    def _timed(self, key, frame: np.ndarray) -> tuple[float, float]:
        start = time.perf_counter()
        if key in self.peers:
            self.peers[key](frame)
            whole = time.perf_counter() - start
            return whole, whole
        engine = self.engines[key]
        engine.respond(frame)
        respond = time.perf_counter() - start
        engine.settle()
        return respond, time.perf_counter() - start


def chosen(times: dict, precision: str, threads: int) -> tuple[str, str] | None:
    """Return the backend that 'auto' would take of these."""
    measured = [Measured(name, threads, None, float(np.median(taken.respond)),
                         float(np.median(taken.step)), 0.0)
                for (name, kind), taken in ((key, taken) for key, taken in times.items()
                                            if not isinstance(key, str)) if kind == precision]
    return (best(measured, precision).name, precision) if measured else None


def figures_of(contest: StepContest, times: dict, threads: int) -> dict:
    """Return the ratios that are asked for."""
    share = cone_share(contest.streaming)
    figures = {'cone_share': share, 'outputs_equal': contest.equal}
    for peer, precision, suffix in ((REFERENCE, 'float32', 'ort'),
                                    (REFERENCE_BF16, 'bfloat16', 'openvino_bf16')):
        key = chosen(times, precision, threads)
        if peer in times and key:
            whole = float(np.median(times[peer].step))
            figures |= {f'executor_{precision}': key[0],
                        f'respond_over_{suffix}': float(np.median(times[key].respond)) / whole,
                        f'pass_over_{suffix}': float(np.median(times[key].step)) / whole}
            if precision == 'float32':
                figures |= {'respond_bound': share * 1.2 + 50e-6 / whole, 'ort_pass': whole}
    return figures


def table(contest: StepContest, times: dict) -> list[str]:
    """Return a line for every competitor."""
    whole = float(np.median(times[REFERENCE].step)) if REFERENCE in times else None
    lines = []
    for key, taken in times.items():
        engine = not isinstance(key, str)
        label = f'engine, {key[0]} {key[1]}' if engine else f'{key} (sequential)'
        for part, seconds in (('respond', taken.respond), ('step', taken.step)):
            if engine or part == 'step':
                ratio = f'{np.median(seconds) / whole:6.3f} of {REFERENCE}' if whole else ''
                lines.append(f'{label:<32} {part:<8} {percentiles(seconds)}  {ratio}')
    lines += [f'{name}: left out, {reason}' for name, reason in contest.missing.items()]
    return lines


def main() -> None:
    """Compare outputs, then durations in alternation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--quick', action='store_true',
                        help='the policy graph alone, without torch.compile; about 50 s')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    parser.add_argument('--threads', type=int, default=1, help='of every competitor (1)')
    parser.add_argument('--pause', type=float, default=0.02, metavar='SECONDS',
                        help='for a second table: idle time before every frame (0.02)')
    add_against(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    without = {'torch.compile, frozen'} if arguments.quick else set()
    lines, figures = [], {}
    for name in QUICK if arguments.quick else GRAPHS:
        contest = StepContest(open_graph(GRAPHS[name]), arguments.threads, without,
                              AT_ONCE.get(name, ()))
        deep = name in ('dsr6', 'deep')
        for pause in (0.0, arguments.pause):
            times = contest.run(3 if deep else 2 if pause else 12, pause)
            found = figures_of(contest, times, arguments.threads)
            when = f'after {pause:g} s of idleness' if pause else 'frame after frame'
            lines += [f'{name}, {when}', *table(contest, times), ', '.join(
                f'{key} {value:.4g}' if isinstance(value, float) else f'{key} {value}'
                for key, value in found.items()), '']
            if name in QUICK:
                suffix = '_hybrid' * (name != 'policy') + '_idle' * bool(pause)
                figures |= {key + suffix: value for key, value in found.items()}
    lines.append(f'torch {torch.__version__}, {arguments.threads} threads each, backends: '
                 f'{", ".join(BACKENDS)}')
    show(lines, figures, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
