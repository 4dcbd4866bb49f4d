"""
The linear recurrence on a GPU: everything that is to be known of it, in one call.

Four tables. Results, against the CPU in float64, many times over, since programs wait for each
other. Share: bytes a second of the scan's least traffic (a and b read, h written; backward a, h
and dL/dh read, two gradients written) over those of a copy. Speed-up over the kernel that is
serial in time, by length and features. Layers (PLR18, section 4.2): two layers of 256 features,
forward and backward, with B T = 65,536, over themselves with the serial kernel.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import product
import os
from pathlib import Path
import sys
import time

from harness import show
from stream_agent.network.recurrence import chunked, triton_kernels
from stream_agent.network.recurrence.layers import GilrLstm, Qrnn, Sru, Stack
import torch
from torch import nn, Tensor

SHARE_SHAPES = [(1, 1 << 20, 64), (64, 16384, 256)]
LENGTHS = (256, 1024, 4096, 16384, 65536)
FEATURES = (4, 32, 128)
FRAMES = 65536
LAYERS: dict[str, Callable[[int], nn.Module]] = {
    'SRU': lambda n: Sru(n, n), 'QRNN(2)': lambda n: Qrnn(n, n, 2),
    'QRNN(10)': lambda n: Qrnn(n, n, 10), 'GILR-LSTM': lambda n: GilrLstm(n, n)}
WAYS = ('serial', 'two passes', 'look back')
# Values and warps of a tile.
TILES = list(product((2048, 4096, 8192), (4, 8)))
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10, torch.bfloat16: 5e-2}


@contextmanager
def constants(**values: int) -> Iterator[None]:
    """Let the kernels be started with other constants."""
    before = {name: getattr(triton_kernels, name) for name in values}
    vars(triton_kernels).update(values)
    try:
        yield
    finally:
        vars(triton_kernels).update(before)


def serially():
    """Let every shape be scanned by the kernel that is serial in time."""
    return constants(MANY_COLUMNS=0)


def fastest(run: Callable[[], object], device: torch.device, rounds: int, calls: int = 10
            ) -> float:
    """
    Return the seconds of a call, in the fastest round; the first one warms up.

    :param calls: In a round, without waiting between them.
    """
    gpu, seconds = device.type == 'cuda', []
    wait, calls = (torch.cuda.synchronize, calls) if gpu else (lambda: None, 1)
    for _ in range(1 + rounds):
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        wait()
        seconds.append((time.perf_counter() - start) / calls)
    return min(seconds[1:])


class Scans:
    """Inputs of a shape, and what computes with them."""

    def __init__(self, shape: tuple[int, int, int], device: torch.device,
                 kind: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        state = torch.float64 if kind == torch.float64 else torch.float32
        self.a = torch.rand(shape, device=device).to(kind)
        self.b, self.grad = (torch.randn(shape, device=device).to(kind) for _ in range(2))
        self.initial = torch.randn(shape[0], shape[2], device=device).to(state)

    def forward(self, how: str) -> Tensor:
        return triton_kernels.forward(self.a, self.b, self.initial, how)

    def backward(self, h: Tensor, how: str) -> tuple[Tensor, ...]:
        return triton_kernels.backward(self.a, h, self.initial, self.grad, how)

    def error(self, how: str) -> float:
        """Return the largest error of h and of the gradients, relative to the largest value."""
        a, b, initial, grad = (x.double().cpu() for x in (self.a, self.b, self.initial,
                                                          self.grad))
        h = self.forward(how)
        expected = chunked.forward(a, b, initial)
        # With the h that the kernel has, which is rounded to the type of the inputs.
        gradients = chunked.backward(a, h.double().cpu(), initial, grad)
        return max(float((found.double().cpu() - wanted).abs().max() / wanted.abs().max())
                   for found, wanted in zip((h, *self.backward(h, how)),
                                            (expected, *gradients)))


def ways_of(kind: torch.dtype) -> list[str]:
    """Return the ways to scan a type."""
    return [how for how in WAYS if how != 'look back' or kind != torch.float64]


def check_results(device: torch.device, small: bool) -> tuple[list[str], dict]:
    """Compare with the CPU."""
    shapes = [(2, 70, 3)] if small else [
        (1, 65536, 4), (3, 1000, 33), (2, 5000, 128), (1, 300_000, 64), (700, 64, 300)]
    lines, worst = ['largest relative error'], True
    for shape, kind in product(shapes, TOLERANCE):
        scans = Scans(shape, device, kind)
        for how in ways_of(kind):
            # Only programs that wait for each other could differ from time to time.
            error = max(scans.error(how)
                        for _ in range(5 if how == 'look back' and not small else 1))
            worst &= error <= TOLERANCE[kind]
            lines.append(f'  {str(shape):<18} {str(kind)[6:]:<9} {how:<11} {error:.1e}')
    if not small:
        scans = Scans(SHARE_SHAPES[0], device)
        expected = scans.forward('look back')
        same = all(torch.allclose(scans.forward('look back'), expected, rtol=1e-4, atol=1e-4)
                   for _ in range(200))
        worst &= same
        lines.append(f'  200 scans of {SHARE_SHAPES[0]} alike: {same}')
    return lines, {'results_equal': worst}


def measure_share(device: torch.device, small: bool) -> tuple[list[str], dict]:
    """Compare with the bandwidth of a copy."""
    lines, shares = ['share of the bandwidth of a copy'], []
    for shape in [(1, 64, 2)] if small else SHARE_SHAPES:
        scans, rounds = Scans(shape, device), 1 if small else 30
        out = torch.empty_like(scans.a)
        copy = fastest(lambda: out.copy_(scans.b), device, rounds)
        size = out.numel() * out.element_size()
        lines.append(f'  {shape}: a copy moves {2 * size / copy / 1e9:.0f} GB/s')
        chosen, h = 0.0, scans.forward('serial')
        for (tile, warps), how in product(TILES[:1] if small else TILES, WAYS[1:]):
            with constants(TILE=tile, WARPS=warps):
                forward = fastest(lambda: scans.forward(how), device, rounds)
                backward = fastest(lambda: scans.backward(h, how), device, rounds)
            share = 3 / 2 * copy / forward
            lines.append(f'  {how:<11} tile {tile}, {warps} warps: forward {share:6.1%} '
                         f'({forward * 1e6:.0f} us), backward {5 / 2 * copy / backward:6.1%}')
            if (tile, warps, how) == (triton_kernels.TILE, triton_kernels.WARPS, 'look back'):
                chosen = share
        shares.append(chosen)
    return lines, {'share_of_copy': min(shares)}


def measure_speed_up(device: torch.device, small: bool) -> tuple[list[str], dict]:
    """Compare with the kernel that is serial in time."""
    lines, longest = ['speed-up of look back over serial, by T, for C features; B = 1'], []
    lengths, features = ((64,), (4,)) if small else (LENGTHS, FEATURES)
    for length, count in product(lengths, features):
        scans, rounds = Scans((1, length, count), device), 1 if small else 10
        serial, ours = (fastest(lambda: scans.forward(how), device, rounds)
                        for how in ('serial', 'look back'))
        lines.append(f'  T {length:>6}  C {count:>4}  serial {serial * 1e6:9.1f} us  '
                     f'ours {ours * 1e6:7.1f} us  {serial / ours:7.1f} x')
        if length == lengths[-1]:
            longest.append(serial / ours)
    return lines, {'over_serial_longest': min(longest)}


def measure_layers(device: torch.device, small: bool) -> tuple[list[str], dict]:
    """Compare layers with themselves on the serial kernel, in training."""
    lines, figures = ['two layers, forward and backward: speed-up over the serial kernel'], {}
    features, frames = (4, 64) if small else (256, FRAMES)
    lengths = (64,) if small else (16, 256, 4096, FRAMES)
    for (name, make), length in product(LAYERS.items(), lengths):
        stack = Stack([make(features), make(features)]).to(device)
        x = torch.randn(frames // length, length, features, device=device)

        def train() -> None:
            stack.zero_grad()
            stack(x)[0].sum().backward()

        rounds = 1 if small else 5
        with serially():
            serial = fastest(train, device, rounds, calls=1)
        ours = fastest(train, device, rounds, calls=1)
        lines.append(f'  {name:<10} T {length:>6}  serial {serial * 1e3:8.2f} ms  '
                     f'ours {ours * 1e3:8.2f} ms  {serial / ours:6.2f} x')
        figures[f'{name}_longest'] = serial / ours
    return lines, figures


PARTS = {'results': check_results, 'share': measure_share, 'speed-up': measure_speed_up,
         'layers': measure_layers}


def main() -> None:
    """Check results, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    parser.add_argument('--only', choices=PARTS, nargs='+', default=list(PARTS),
                        help='some of the parts, for short calls (all)')
    parser.add_argument('--output', type=Path, help='file to write the tables to')
    parser.add_argument('--self-check', action='store_true', help=(
        'try the script on tiny shapes, on the CPU, interpreted by Triton; durations mean '
        'nothing then'))
    arguments = parser.parse_args()
    if not find_spec('triton'):
        parser.error('triton is not installed; pip install triton')
    if arguments.self_check:
        os.environ['TRITON_INTERPRET'] = '1'
    elif not torch.cuda.is_available():
        parser.error('there is no GPU; --self-check tries the script without one')
    device = torch.device('cpu' if arguments.self_check else 'cuda')
    lines, figures = [], {}
    for part in arguments.only:
        with constants(TILE=128 if arguments.self_check else triton_kernels.TILE):
            added, found = PARTS[part](device, arguments.self_check)
        # At once, as a call that is cut off prints nothing at its end.
        print(*added, sep='\n', file=sys.stderr, flush=True)
        lines, figures = [*lines, *added, ''], figures | found
    name = 'no GPU' if arguments.self_check else torch.cuda.get_device_name()
    lines += [', '.join(f'{key} {value}' for key, value in figures.items()),
              f'torch {torch.__version__}, {name}']
    if arguments.output:
        arguments.output.write_text('\n'.join(lines) + '\n')
    show(lines, figures | {'gpu': name}, arguments.json)


if __name__ == '__main__':
    main()
