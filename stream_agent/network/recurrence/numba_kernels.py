"""
The scan as a serial loop over time, compiled at its first use.

This is about as fast as one core reads and writes memory, so that a parallel scan would gain
nothing. Rows of ``inner`` values are computed at once. The compiled code is kept on disk
where that is possible.
"""

from collections.abc import Callable
from functools import cache

from stream_agent.network.recurrence import memory
import torch
from torch import Tensor

# Types that are read as they are.
TYPES = (torch.float32, torch.float64)


@cache
def compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """Return a loop that is compiled for the types of its first arguments."""
    from numba import njit
    options = {'nogil': True, 'fastmath': {'contract'}}
    try:
        return njit(cache=True, **options)(loop)
    except RuntimeError:  # no folder to keep the code in
        return njit(**options)(loop)


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
    compiled(scan)(a.numpy(), b.numpy(), initial.numpy(), h.numpy())
    return h


def backward(a: Tensor, h: Tensor, initial: Tensor, grad: Tensor
             ) -> tuple[Tensor, Tensor, Tensor]:
    """Scan backwards as ``chunked.backward`` does."""
    da, db, first = memory.empty_like(a), memory.empty_like(a), torch.empty_like(initial)
    compiled(scan_back)(*(x.numpy() for x in (a, h, initial, grad, da, db, first)))
    return da, db, first
