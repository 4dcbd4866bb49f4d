"""Settings that torch has one of per process, changed for as long as they are needed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads on the CPU for a while; None for as many as before."""
    before = torch.get_num_threads()
    if count in (None, before):
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# The least number there is, if this thread does not round it to zero.
SMALLEST = 5e-324


class flushed_denormals:  # noqa: N801, as it is used like the functions here
    """
    Lets this thread, and those that it starts meanwhile, round numbers below 1e-38 to zero.

    Memories decay into such numbers while a camera sees nothing, and processors compute with them
    up to 200 times as slowly. Networks do not depend on them, but callers may: the thread is left
    as it was found. A generator would cost every frame 2 us more.
    """

    def __enter__(self) -> None:
        self._flushed_before = SMALLEST * 1 == 0.0
        if not self._flushed_before:
            torch.set_flush_denormal(True)

    def __exit__(self, *_) -> None:
        if not self._flushed_before:
            torch.set_flush_denormal(False)


@contextmanager
def computing(tf32: bool) -> Iterator[None]:
    """
    Set how a GPU computes what is warmed up and recorded within, and restore it.

    :param tf32: Whether the factors of float32 products may be rounded to 10 bits of mantissa.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, tf32, tf32
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


def wait_for(device: torch.device) -> None:
    """Return once the device has finished what it was given."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
