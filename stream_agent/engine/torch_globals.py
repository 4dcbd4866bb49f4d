"""Settings that torch has one of per process, changed for as long as they are needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
import os
import socket

import torch
from torch import distributed


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


LOOPBACK = '127.0.0.1'


def listening_store(port: int, timeout: timedelta) -> distributed.TCPStore:
    """
    Make a store in which processes of this machine meet; torch's own listens to the network, too.

    :param port: 0 for any that is free.
    """
    listener = socket.create_server((LOOPBACK, port))
    return distributed.TCPStore(
        LOOPBACK, listener.getsockname()[1], is_master=True, wait_for_workers=False,
        timeout=timeout, master_listen_fd=listener.detach())


def keep_to_loopback() -> None:
    """Let messages of gloo and nccl go by the loopback interface, unless another was chosen."""
    name = next((name for _, name in socket.if_nameindex() if name.startswith('lo')), 'lo')
    for library in ('GLOO', 'NCCL'):
        os.environ.setdefault(f'{library}_SOCKET_IFNAME', name)


def join_processes(backend: str, timeout: timedelta) -> None:
    """
    Join the processes that the environment names, as torchrun sets it.

    Where all of them are on this machine, none listens to the network.
    """
    of_environment = os.environ.get
    ranks, address = of_environment('WORLD_SIZE'), of_environment('MASTER_ADDR')
    if of_environment('LOCAL_WORLD_SIZE') == ranks or address in (LOOPBACK, 'localhost'):
        keep_to_loopback()
        # The store of torchrun is in its own process.
        if of_environment('TORCHELASTIC_USE_AGENT_STORE') != 'True':
            rank, port = int(os.environ['RANK']), int(os.environ['MASTER_PORT'])
            store = (distributed.TCPStore(LOOPBACK, port, is_master=False, timeout=timeout)
                     if rank else listening_store(port, timeout))
            distributed.init_process_group(backend, store=store, rank=rank, timeout=timeout,
                                           world_size=int(os.environ['WORLD_SIZE']))
            return
    distributed.init_process_group(backend, timeout=timeout)
