"""
What a gradient step costs with all frames of a window at once, against stepping through them.

Both compute the outputs of a window and the gradients of all weights, from the same weights, in
alternation; which is compared first, in float64. Memory is what is kept for the gradients.
"""

import argparse
from collections.abc import Callable
import time

from harness import add_against, alternate, run_benchmark, show
import numpy as np
from stream_agent.cli.arguments import open_graph, PATTERNS, positive
from stream_agent.engine.torch_globals import computing, wait_for
from stream_agent.learning.trainer import keep_freed_memory
from stream_agent.network.rollout_network import RolloutNetwork
import torch
from torch import Tensor

POLICY = 'benchmark/graphs/policy.yaml'
SEGMENT = 16
# A window short enough for float64, in which differences are told from rounding.
CHECKED_FRAMES = 16

Compute = Callable[[Tensor], Tensor]


class WindowContest:
    """
    Ways to compute a window of one network.

    :param frames: T.
    :param batch: B.
    """

    def __init__(self, network: RolloutNetwork, frames: int, batch: int, device: torch.device
                 ) -> None:
        self.network = network.to(device).train()
        self._device = device
        self._shape = (batch, frames, *network.shapes[network.input])
        self.ways: dict[str, Compute] = {
            'stepping': lambda images: network.stepped(images, self._state())[0],
            'all frames': lambda images: network(images, self._state())[0],
            f'segments of {SEGMENT}': lambda images: network(
                images, self._state(), segment=SEGMENT)[0]}

    def _state(self):
        return self.network.initial_state(self._shape[0])

    def images(self, frames: int, dtype: torch.dtype) -> Tensor:
        """Return random images, (B, frames, *shape)."""
        batch, _, *shape = self._shape
        return torch.rand(batch, frames, *shape, dtype=dtype, device=self._device) - 0.5

    def gradients(self, compute: Compute, images: Tensor) -> list[Tensor]:
        """Return the outputs, and the gradients of all weights."""
        self.network.zero_grad(set_to_none=True)
        outputs = compute(images)
        outputs.square().sum().backward()
        return [outputs, *(weight.grad for weight in self.network.parameters())]

    def difference(self, dtype: torch.dtype, frames: int) -> float:
        """Return the largest difference between stepping and all frames at once."""
        self.network.to(dtype)
        torch.manual_seed(1)
        images = self.images(frames, dtype)
        one, other = (self.gradients(self.ways[way], images)
                      for way in ('stepping', 'all frames'))
        largest = max((a - b).abs().max().item() for a, b in zip(one, other))
        self.network.float()
        return largest

    def seconds(self, compute: Compute) -> Callable[[], float]:
        """Return what times one gradient step."""
        images = self.images(self._shape[1], torch.float32)

        def measure() -> float:
            start = time.perf_counter()
            self.gradients(compute, images)
            wait_for(self._device)
            return time.perf_counter() - start
        return measure

    def kept(self, compute: Compute) -> int:
        """Return the bytes that are kept for the gradients; on a GPU, the peak of all memory."""
        images = self.images(self._shape[1], torch.float32)
        if self._device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self._device)
            self.gradients(compute, images)
            return torch.cuda.max_memory_allocated(self._device)
        storages = {}

        def note(value: Tensor) -> Tensor:
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return value
        for weight in self.network.parameters():
            note(weight)
        weights = sum(storages.values())
        with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            # Held, so that no memory comes twice.
            outputs = compute(images)
        del outputs
        return sum(storages.values()) - weights


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--graph', default=POLICY, help='graph file, or a shipped graph')
    parser.add_argument('--pattern', choices=PATTERNS, default='newest-image')
    parser.add_argument('--frames', type=positive, default=64, help='T, frames of the window')
    parser.add_argument('--batch', type=positive, default=1, help='windows computed together')
    parser.add_argument('--threads', type=int, default=0, help='0: all cores')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--quick', action='store_true', help='fewer rounds')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    add_against(parser)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    graph = open_graph(arguments.graph)
    torch.manual_seed(0)
    network = RolloutNetwork(graph, PATTERNS[arguments.pattern](graph))
    contest = WindowContest(network, arguments.frames, arguments.batch,
                            torch.device(arguments.device))
    with computing(tf32=False):
        figures = {
            'max_abs_difference': contest.difference(torch.float64, CHECKED_FRAMES),
            'max_abs_difference_float32': contest.difference(torch.float32, arguments.frames)}
        kept = {way: contest.kept(compute) for way, compute in contest.ways.items()}
        seconds = alternate({
            way: contest.seconds(compute) for way, compute in contest.ways.items()},
            rounds=8 if arguments.quick else 30)
    lines = [f'{arguments.graph}, {arguments.pattern}: {arguments.frames} frames, batch '
             f'{arguments.batch}, {torch.get_num_threads()} threads, {arguments.device}',
             f'{"":<16} {"seconds":>8} {"90 %":>8} {"speedup":>8} {"kept":>9}']
    for way, values in seconds.items():
        speedup = np.median(seconds['stepping'] / values)
        lines.append(f'{way:<16} {np.median(values):>8.4f} {np.percentile(values, 90):>8.4f} '
                     f'{speedup:>8.2f} {kept[way] / 1e6:>6.0f} MB')
    lines += [f'largest difference of outputs and gradients: {figures["max_abs_difference"]:.1e} '
              f'in float64, {figures["max_abs_difference_float32"]:.1e} in float32',
              *(f'  {component}' for component in network.components)]
    figures['speedup'] = float(np.median(seconds['stepping'] / seconds['all frames']))
    figures['kept_bytes'] = kept
    figures['threads'] = torch.get_num_threads()
    show(lines, figures, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
