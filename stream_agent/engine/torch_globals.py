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
