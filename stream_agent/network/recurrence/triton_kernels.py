"""
The scan on a GPU: starts the kernels of ``triton_loops``, which needs triton.

How much memory is read and written decides. Of a, b and h, each frame is 3 values at least; a
reduction of chunks, a scan of their carries and a second scan of the chunks read a and b twice,
5 values, which is 60 % of the least at best. So chunks are scanned in one pass: each publishes
the step that it makes as a whole, looks back at those of the chunks before it for its carry
(decoupled look-back, Merrill and Garland 2016), and finishes what it still has in registers. A
pair of float32 is one word of 64 bits, so that no reader ever sees half of it; pairs of float64
are two, and take the two passes.

With very many columns, or few frames, every column is scanned serially: that is one pass, too.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

# Values of a tile; about 16 a thread.
TILE = 4096
WARPS = 8
# Chunks that are looked at together.
WINDOW = 16
# Columns that keep a GPU busy, one a thread and several rows under way.
MANY_COLUMNS = 1 << 17
FEW_FRAMES = 32
# Those of ``launch``, in its order.
Tensors = tuple[Any, ...]
# Types that are read as they are; the state is float32 for the small ones.
TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def way(outer: int, length: int, inner: int) -> str:
    """Return how a shape is scanned over time: 'serial' or 'chunked'."""
    return 'serial' if outer * inner >= MANY_COLUMNS or length <= FEW_FRAMES else 'chunked'


def forward(a: Tensor, b: Tensor, initial: Tensor, how: str | None = None) -> Tensor:
    """
    Scan as ``chunked.forward`` does.

    :param how: 'serial', 'look back' or 'two passes'; None for the best by shape and type.
    """
    h = torch.empty_like(a)
    launch(a, b, initial, None, None, h, None, how)
    return h


def backward(a: Tensor, h: Tensor, initial: Tensor, grad: Tensor, how: str | None = None
             ) -> tuple[Tensor, Tensor, Tensor]:
    """Scan backwards as ``chunked.backward`` does."""
    da, db = torch.empty_like(a), torch.empty_like(a)
    launch(a, grad, torch.zeros_like(initial), h, initial, db, da, how)
    return da, db, a[:, 0].to(initial.dtype) * db[:, 0].to(initial.dtype)


def launch(a: Tensor, b: Tensor, start: Tensor, h: Tensor | None, initial: Tensor | None,
           out: Tensor, da: Tensor | None, how: str | None = None, published: int = 1) -> None:
    """
    Start the kernels of a scan, reversed if there is an h.

    :param start: The state before the first step, (outer, inner).
    :param published: See ``triton_loops.chunked``.
    """
    exact = a.dtype == torch.float64
    how = how or way(*a.shape)
    if how == 'chunked':
        how = 'two passes' if exact else 'look back'
    tensors = a, b, start, h, initial, out, da
    # Kernels start where the tensors are; on the CPU they are interpreted.
    with torch.cuda.device(a.device) if a.is_cuda else nullcontext():
        if how == 'serial':
            launch_serial(*tensors)
        elif how == 'look back' and not exact:
            tiles = Tiles(*a.shape)
            words = torch.full((1 + tiles.words,), -1, dtype=torch.int64, device=a.device)
            tiles.run('look back', tensors, words, published=published)
        elif how == 'two passes':
            launch_two_passes(tensors)
        else:
            raise ValueError(f"how: '{how}' for {a.dtype}; choices are serial, two passes, and, "
                             'but for float64, look back')


def state_type(a: Tensor) -> Any:
    """Return Triton's type of the state."""
    from triton import language
    return language.float64 if a.dtype == torch.float64 else language.float32


def launch_serial(a: Tensor, b: Tensor, start: Tensor, h: Tensor | None, initial: Tensor | None,
                  out: Tensor, da: Tensor | None) -> None:
    """Scan every column by itself."""
    from stream_agent.network.recurrence import triton_loops
    outer, length, inner = a.shape
    columns = min(128, power_of_two(inner))
    groups = -(-inner // columns)
    triton_loops.serial[(outer * groups,)](
        a, b, start, *or_any(a, h, initial), out, *or_any(a, da), length, inner, groups,
        STATE=state_type(a), REVERSED=h is not None, COLUMNS=columns, num_warps=1)


class Tiles:
    """How a shape is divided into tiles of chunks and columns."""

    def __init__(self, outer: int, length: int, inner: int) -> None:
        # 32 columns of float32 are a line of the cache.
        self.columns = min(32, power_of_two(inner))
        self.steps = TILE // self.columns
        self.groups, self.chunks = -(-inner // self.columns), -(-length // self.steps)
        self.words = outer * self.chunks * inner
        self.grid = (outer * self.chunks * self.groups,)

    def run(self, mode: str, tensors: Tensors, *others: Tensor | None, published: int = 1) -> None:
        """Start a program for every tile; the others are words, products and rests."""
        from stream_agent.network.recurrence import triton_loops
        a, b, start, h, initial, out, da = tensors
        others += (None,) * (3 - len(others))
        _, length, inner = a.shape
        triton_loops.chunked[self.grid](
            a, b, start, *or_any(a, h, initial), out, *or_any(a, da, *others),
            length, inner, self.groups, self.chunks, published, MODE=mode, STATE=state_type(a),
            REVERSED=h is not None, STEPS=self.steps, COLUMNS=self.columns, WINDOW=WINDOW,
            num_warps=WARPS)


def launch_two_passes(tensors: Tensors) -> None:
    """Reduce chunks, scan what they make as a whole, and scan them again (PLR18, Algorithm 1)."""
    a, _, start, *_ = tensors
    outer, _, inner = a.shape
    tiles = Tiles(*a.shape)
    products, rests, carries = (torch.empty(outer, tiles.chunks, inner, dtype=start.dtype,
                                            device=a.device) for _ in range(3))
    tiles.run('reduce', tensors, None, products, rests)
    launch_serial(products, rests, start, None, None, carries, None)
    tiles.run('given', tensors, None, products, carries)


def or_any(tensor: Tensor, *others: Tensor | None) -> list[Tensor]:
    """Return tensors, with one that is there in place of those that are not read."""
    return [tensor if other is None else other for other in others]


def power_of_two(number: int) -> int:
    """Return the least power of two that is not below."""
    return 1 << (number - 1).bit_length()
