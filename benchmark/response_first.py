"""
How early response first answers, when the whole step takes over half the camera period.

One streaming network on one thread of one core. ``respond`` computes the response cone and
returns the answer; the undivided step computes every node before it returns the same answer.
"""

import time

from harness import alternate, parse, percentiles, run_benchmark, show
import numpy as np
from stream_agent.engine.engine import Engine
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.program import State
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import newest_image_pattern, update_order
import torch
from torch.utils.flop_counter import FlopCounterMode

CAMERA_PERIOD = 1 / 30
DEPTH = 24
READ_EVERY = 8


def deep_graph(depth: int) -> GraphSpec:
    """Return a chain of equal convolutions, some of which the read-out sees through a pool."""
    nodes = {'image': {'shape': [3, 60, 80]}, 'command': {'shape': [2], 'activation': 'tanh'}}
    edges = [{'source': 'image', 'target': 'command'}]
    source = 'image'
    for i in range(1, depth + 1):
        nodes[f'layer{i}'] = {'shape': [32, 60, 80], 'activation': 'relu'}
        edges.append({'source': source, 'target': f'layer{i}', 'transform': 'convolution',
                      'kernel': 3})
        source = f'layer{i}'
        if i % READ_EVERY == 0:
            nodes[f'view{i}'] = {'shape': [32, 7, 10]}
            edges += [{'source': source, 'target': f'view{i}', 'transform': 'pooling',
                       'kernel': 8},
                      {'source': f'view{i}', 'target': 'command'}]
    return graph_from_data({'nodes': nodes, 'edges': edges, 'output': 'command'})


def cone_share(network: RolloutNetwork) -> float:
    """Return the floating-point operations of the response cone over those of all nodes."""
    state = network.initial_state()
    frame = state.values[network.input]
    counts = []
    for run in (network.respond, network.step):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            run(frame, state)
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]


class Undivided:
    """The peer: computes every node of a frame, in topological order, before it answers."""

    def __init__(self, network: RolloutNetwork) -> None:
        self._network = network
        self._order = [name for name in update_order(network.graph, network.pattern)
                       if name != network.input]
        self._state = network.initial_state()

    @torch.inference_mode()
    def step(self, frame: np.ndarray) -> np.ndarray:
        """Advance by one frame and return the output."""
        now = State({self._network.input: torch.from_numpy(frame).unsqueeze(0)})
        self._network.update(self._order, now, self._state)
        self._state = now
        return now.values[self._network.graph.output].squeeze(0).numpy()


def main() -> None:
    """Compare outputs, then durations in alternation."""
    arguments = parse(__doc__)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    graph = deep_graph(DEPTH)
    network = RolloutNetwork(graph, newest_image_pattern(graph))
    engine, peer = Engine(network), Undivided(network)
    generator = np.random.default_rng(0)
    frames = [generator.random((3, 60, 80), np.float32) for _ in range(2 * DEPTH)]
    equal = all(np.array_equal(engine.step(frame), peer.step(frame)) for frame in frames)

    def respond() -> float:
        start = time.perf_counter()
        engine.respond(frames[0])
        duration = time.perf_counter() - start
        engine.settle()
        return duration

    def undivided() -> float:
        start = time.perf_counter()
        peer.step(frames[0])
        return time.perf_counter() - start

    seconds = alternate({'respond': respond, 'undivided step': undivided},
                        rounds=100 if arguments.quick else 1000)
    answer, whole = (float(np.median(values)) for values in seconds.values())
    share = cone_share(network)
    figures = {'ratio': answer / whole, 'bound': share * 1.2 + 0.3e-3 / whole,
               'outputs_equal': equal, 'cone_share': share, 'undivided_p50': whole,
               'camera_period': CAMERA_PERIOD}
    if whole < CAMERA_PERIOD / 2:
        raise SystemExit(f'the step takes {whole * 1e3:.1f} ms, less than half the camera '
                         f'period; raise DEPTH on this machine')
    show([*(f'{name:<15} {percentiles(values)}' for name, values in seconds.items()),
          f'respond / undivided step  {figures["ratio"]:.4f}, bound {figures["bound"]:.4f} '
          f'(cone: {share:.3%} of the operations)',
          f'outputs equal  {equal}', 'float32, torch eager, 1 thread'], figures, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
