"""
The scan as a serial loop over time, compiled at its first use.

One core reads and writes memory about as fast as this goes, so there is nothing to be won by a
parallel scan. Rows of ``inner`` values are computed at once. The compiled code is kept on disk
where that is possible.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from stream_agent.network.recurrence import memory
import torch
from torch import Tensor

# Types that are read as they are.
TYPES = (torch.float32, torch.float64)


class CompiledLoops(NamedTuple):
    """The compiled loops; they write into their last arguments."""

    forward: Callable
    backward: Callable


@cache
def kernels() -> CompiledLoops:
    """Return the loops, to be compiled for the types of their first arguments."""
    from numba import njit
    options = {'nogil': True, 'fastmath': {'contract'}}
    try:
        compiled = njit(cache=True, **options)
        return CompiledLoops(compiled(scan), compiled(scan_back))
    except RuntimeError:  # no folder to keep the code in
        compiled = njit(**options)
        return CompiledLoops(compiled(scan), compiled(scan_back))


def scan(a, b, initial, h):
    """Compute h from a and b, (outer, T, inner) each, and from h_0, (outer, inner)."""
    outer, length, inner = a.shape
    for o in range(outer):
        for i in range(inner):
            h[o, 0, i] = a[o, 0, i] * initial[o, i] + b[o, 0, i]
        for t in range(1, length):
            for i in range(inner):
                h[o, t, i] = a[o, t, i] * h[o, t - 1, i] + b[o, t, i]


def scan_back(a, h, initial, grad, da, db, first):
    """Compute the gradients of a, b and h_0 in one reversed pass."""
    outer, length, inner = a.shape
    last = length - 1
    for o in range(outer):
        for i in range(inner):
            db[o, last, i] = grad[o, last, i]
        for t in range(last - 1, -1, -1):
            for i in range(inner):
                g = db[o, t + 1, i]
                da[o, t + 1, i] = h[o, t, i] * g
                db[o, t, i] = a[o, t + 1, i] * g + grad[o, t, i]
        for i in range(inner):
            da[o, 0, i] = initial[o, i] * db[o, 0, i]
            first[o, i] = a[o, 0, i] * db[o, 0, i]


def forward(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    """Scan as ``chunked.forward`` does."""
    h = memory.empty_like(a)
    kernels().forward(a.numpy(), b.numpy(), initial.numpy(), h.numpy())
    return h


def backward(a: Tensor, h: Tensor, initial: Tensor, grad: Tensor
             ) -> tuple[Tensor, Tensor, Tensor]:
    """Scan backwards as ``chunked.backward`` does."""
    da, db, first = memory.empty_like(a), memory.empty_like(a), torch.empty_like(initial)
    kernels().backward(*(x.numpy() for x in (a, h, initial, grad, da, db, first)))
    return da, db, first
