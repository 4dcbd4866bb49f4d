"""
How fast the linear recurrence is, next to a plain serial loop and to torch's own scan.

The loop is numba's, over arrays that are there already; ours allocates its results, as every
call in a training does. Competitors take turns on one thread, and it is the processor's time that
counts, so that other processes, which take turns with this one, are not measured. A ratio to the
loop is the median over rounds; one to torch is of the fastest calls. Figures are of the worst
shape.
"""

from collections.abc import Callable
from math import prod
import time
from typing import NamedTuple

from harness import alternate, parse, run_benchmark, show
from numba import njit
import numpy as np
from stream_agent.network.recurrence import chunked, kernel_for, linear_recurrence
import torch
from torch import Tensor
from torch._higher_order_ops import associative_scan

SHAPES = [(1, 100_000, 64), (8, 10_000, 256), (1, 1_000_000, 16)]
LARGEST = max(map(prod, SHAPES))
# Written before every call, so that none finds its arrays in the cache of the one before.
ELSEWHERE = np.zeros(1 << 26, np.uint8)
TOLERANCE = 1e-3  # relative to the largest value: the sums run in another order


@njit(nogil=True)
def serial_forward(a, b, initial, h):
    """Compute h, as one would write it down."""
    for i in range(a.shape[0]):
        for c in range(a.shape[2]):
            h[i, 0, c] = a[i, 0, c] * initial[i, c] + b[i, 0, c]
        for t in range(1, a.shape[1]):
            for c in range(a.shape[2]):
                h[i, t, c] = a[i, t, c] * h[i, t - 1, c] + b[i, t, c]


@njit(nogil=True)
def serial_backward(a, initial, h, grad, da, db, first):
    """Compute the gradients, as one would write them down."""
    last = a.shape[1] - 1
    for i in range(a.shape[0]):
        for c in range(a.shape[2]):
            db[i, last, c] = grad[i, last, c]
        for t in range(last - 1, -1, -1):
            for c in range(a.shape[2]):
                db[i, t, c] = a[i, t + 1, c] * db[i, t + 1, c] + grad[i, t, c]
        for t in range(last, 0, -1):
            for c in range(a.shape[2]):
                da[i, t, c] = h[i, t - 1, c] * db[i, t, c]
        for c in range(a.shape[2]):
            da[i, 0, c] = initial[i, c] * db[i, 0, c]
            first[i, c] = a[i, 0, c] * db[i, 0, c]


def combine(earlier: tuple[Tensor, Tensor], later: tuple[Tensor, Tensor]
            ) -> tuple[Tensor, Tensor]:
    """Apply a step of the recurrence after another one (PLR18, section 2.2)."""
    return later[0] * earlier[0], later[0] * earlier[1] + later[1]


class Inputs(NamedTuple):
    """What every competitor computes with: (B, T, C), and (B, C) for the initial value."""

    a: Tensor
    b: Tensor
    initial: Tensor
    grad: Tensor


def draw(shape: tuple[int, int, int]) -> Inputs:
    """Return random factors between 0 and 1, and random values."""
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(shape, generator=generator)
    b, grad = (torch.randn(shape, generator=generator) for _ in range(2))
    initial = torch.randn(shape[0], shape[2], generator=generator)
    return Inputs(*(x.requires_grad_() for x in (a, b, initial)), grad)


class ScanContest:
    """All competitors on one shape."""

    def __init__(self, shape: tuple[int, int, int], quick: bool) -> None:
        self.inputs = draw(shape)
        arrays = [x.detach().numpy() for x in self.inputs]
        self._serial_inputs = arrays
        self._h, self._da, self._db = (np.zeros_like(arrays[0]) for _ in range(3))
        self._first = np.zeros_like(arrays[2])
        self.runs: dict[str, Callable] = {
            'loop': self.loop, 'ours': self.ours, 'torch': self.eager,
            'loop, both': self.loop_both, 'ours, both': self.ours_both}
        if not quick:
            self.runs |= {'ours without numba': self.without_numba, 'torch, both': self.eager_both}

    def loop(self) -> np.ndarray:
        a, b, initial, _ = self._serial_inputs
        serial_forward(a, b, initial, self._h)
        return self._h

    def loop_both(self) -> tuple[np.ndarray, ...]:
        a, _, initial, grad = self._serial_inputs
        self.loop()
        serial_backward(a, initial, self._h, grad, self._da, self._db, self._first)
        return self._da, self._db, self._first

    @torch.no_grad()
    def ours(self) -> Tensor:
        return linear_recurrence(*self.inputs[:3])

    def ours_both(self) -> tuple[Tensor, ...]:
        h = linear_recurrence(*self.inputs[:3])
        return torch.autograd.grad(h, self.inputs[:3], self.inputs.grad)

    @torch.no_grad()
    def without_numba(self) -> Tensor:
        return chunked.forward(*self.inputs[:3])

    @torch.no_grad()
    def eager(self) -> Tensor:
        return self._associative()

    def eager_both(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self._associative(), self.inputs[:3], self.inputs.grad)

    def _associative(self) -> Tensor:
        a, b, initial, _ = self.inputs
        # It has no initial value, so that goes into the first frame.
        begun = torch.cat([torch.addcmul(b[:, :1], a[:, :1], initial[:, None]), b[:, 1:]], dim=1)
        return associative_scan(combine, (a, begun), dim=1, combine_mode='generic')[1]

    def equal(self) -> bool:
        """Return whether all results are those of the loop, up to rounding."""
        expected = {'both': self.loop_both(), 'forward': (self.loop(),)}
        return all(
            close(found, wanted)
            for name, run in self.runs.items()
            for found, wanted in zip(as_tuple(run()),
                                     expected['both' if 'both' in name else 'forward']))

    def seconds(self, rounds: int) -> dict[str, np.ndarray]:
        """
        Measure all in turns; torch's, which are long, three times.

        :param rounds: At the largest shape; smaller ones take more, as they take less time.
        """
        def measure(rounds: int, slow: bool) -> dict[str, np.ndarray]:
            return alternate({name: lambda run=run: timed(run) for name, run in self.runs.items()
                              if ('torch' in name) == slow}, rounds, warm_up=2)
        return measure(int(rounds * LARGEST / self.inputs.a.numel()), False) | measure(3, True)


def as_tuple(value) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def close(found, wanted: np.ndarray) -> bool:
    """Return whether two results agree up to rounding."""
    return float(np.abs(np.asarray(found) - wanted).max()) <= TOLERANCE * np.abs(wanted).max()


def timed(run: Callable) -> float:
    """Return the seconds of a call; what it returned is freed after them."""
    ELSEWHERE.fill(0)
    start = time.process_time()
    result = run()
    seconds = time.process_time() - start
    del result
    return seconds


def main() -> None:
    """Compare results, then durations in alternation."""
    arguments = parse(__doc__)
    torch.set_num_threads(1)
    figures: dict = {'results_equal': True}
    lines, ratios = [], []
    for shape in SHAPES:
        contest = ScanContest(shape, arguments.quick)
        figures['results_equal'] &= contest.equal()
        taken = contest.seconds(12 if arguments.quick else 40)
        ratios.append((float(np.median(taken['ours'] / taken['loop'])),
                       float(np.median(taken['ours, both'] / taken['loop, both'])),
                       float(taken['torch'].min() / taken['ours'].min())))
        lines += [f'(B, T, C) = {shape}',
                  *(f'  {name:<20} {seconds.min() * 1e3:9.2f} ms, median '
                    f'{np.median(seconds) * 1e3:9.2f} ms' for name, seconds in taken.items()),
                  '  ours / loop {:.2f}, both {:.2f}; torch / ours {:.1f}'.format(*ratios[-1])]
    forward, both, torch_over_ours = zip(*ratios)
    figures |= {'forward_over_numba': max(forward), 'both_over_numba': max(both),
                'over_torch_eager': min(torch_over_ours), 'kernel': kernel_for('cpu')}
    lines += [', '.join(f'{key} {value:.3g}' if isinstance(value, float) else f'{key} {value}'
                        for key, value in figures.items()),
              f'torch {torch.__version__}, one thread']
    show(lines, figures, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
