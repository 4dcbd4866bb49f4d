"""
The scan as a serial loop over time, compiled at its first use.

This is about as fast as one core reads and writes memory, so that a parallel scan would gain
nothing. Rows of ``inner`` values are computed at once. The compiled code is kept on disk
where that is possible.

Large results are in memory that is used again as soon as no tensor lies in it, instead of being
returned to the system: the system clears every page that it hands out, which takes longer than
the scan that writes the page.
"""

from collections.abc import Callable
from functools import cache
import sys
from threading import Lock

import numpy as np
import torch
from torch import Tensor

# Types that are read as they are.
TYPES = (torch.float32, torch.float64)
# Below, the allocator's own memory is warm already.
LARGE = 1 << 20
# Bytes in blocks without a tensor that are kept at most.
KEPT = 1 << 29
_blocks: list[np.ndarray] = []
_lock = Lock()


@cache
def compiled(loop: Callable[..., None]) -> Callable[..., None]:
    """Return a loop that is compiled for the types of its first arguments."""
    from numba import njit
    options: dict = {'nogil': True, 'fastmath': {'contract'}}
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
    h = empty_like(a)
    compiled(scan)(a.numpy(), b.numpy(), initial.numpy(), h.numpy())
    return h


def backward(a: Tensor, h: Tensor, initial: Tensor, grad: Tensor
             ) -> tuple[Tensor, Tensor, Tensor]:
    """Scan backwards as ``chunked.backward`` does."""
    da, db, first = empty_like(a), empty_like(a), torch.empty_like(initial)
    compiled(scan_back)(*(x.numpy() for x in (a, h, initial, grad, da, db, first)))
    return da, db, first


def empty_like(tensor: Tensor) -> Tensor:
    """Return memory that is not initialised, contiguous, on the CPU."""
    size = tensor.numel() * tensor.element_size()
    if size < LARGE:
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)
    return torch.from_numpy(_take(size)[:size]).view(tensor.dtype).view(tensor.shape)


def _take(size: int) -> np.ndarray:
    """Return a block of at least this many bytes, and at most twice as many."""
    with _lock:
        fitting = [i for i in _free() if size <= _blocks[i].nbytes <= 2 * size]
        block = _blocks.pop(fitting[-1]) if fitting else np.empty(size, np.uint8)
        excess = sum(_blocks[i].nbytes for i in _free()) - KEPT
        while excess > 0:
            excess -= _blocks.pop(_free()[0]).nbytes
        _blocks.append(block)
    return block


def _free() -> list[int]:
    """Return the places of the blocks without a tensor, the longest unused first."""
    # One reference is the list's, one is the argument; a tensor would hold a third.
    return [i for i in range(len(_blocks)) if sys.getrefcount(_blocks[i]) == 2]
