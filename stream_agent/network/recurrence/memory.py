"""
Memory for large results, used again instead of being returned to the system.

The system clears every page that it hands out, which takes longer than the scan that writes the
page. A block is used again as soon as no tensor lies in it.
"""

import sys
from threading import Lock

import numpy as np
import torch
from torch import Tensor

# Below, the allocator's own memory is warm already.
LARGE = 1 << 20
# Bytes in blocks without a tensor that are kept at most.
KEPT = 1 << 29

_blocks: list[np.ndarray] = []
_lock = Lock()


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
