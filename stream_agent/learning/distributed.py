"""The processes that torchrun started: which one this is, and what they exchange."""

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
import os
from pathlib import Path
import re

import torch
from torch import distributed

TIMEOUT = timedelta(minutes=10)


class DistributedError(ValueError):
    """Processes that cannot train together; the message says why and what to do."""


def rank() -> int:
    """Return the number of this process, from 0 on; 0 if it is alone."""
    return int(os.environ.get('RANK', 0)) if world_size() > 1 else 0


def world_size() -> int:
    """Return how many processes train together."""
    return int(os.environ.get('WORLD_SIZE', 1))


def local_slice(count: int) -> slice:
    """
    Return which items of a joint batch are this process's.

    :raises DistributedError: If processes would have different numbers of them: the mean over the
        joint batch would not be the mean of theirs.
    """
    each, rest = divmod(count, world_size())
    if rest or not each:
        raise DistributedError(f'a batch of {count} cannot be shared equally by {world_size()} '
                               f'processes; use a multiple of {world_size()}, or start '
                               'fewer processes')
    return slice(each * rank(), each * (rank() + 1))


def join(device: str) -> torch.device:
    """
    Join the other processes, if there are any; a second call changes nothing.

    :param device: A torch device; of several processes on 'cuda', each takes a GPU of its own.
    :returns: The device of this process.
    :raises DistributedError: If there is no such device.
    """
    found = find_device(device)
    if world_size() > 1 and not distributed.is_initialized():
        if found.type == 'cuda':
            torch.cuda.set_device(found)
        with told_in_words():
            # Gradients on GPUs are exchanged by nccl, everything in main memory by gloo.
            distributed.init_process_group(
                'cpu:gloo,cuda:nccl' if found.type == 'cuda' else 'gloo', timeout=TIMEOUT)
        atexit.register(distributed.destroy_process_group)
    return found


def find_device(name: str) -> torch.device:
    """Return the device that a name means in this process."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DistributedError(f"device '{name}': torch has no such device; use cpu, cuda, or "
                               'one GPU of several, such as cuda:1') from None
    if device.type != 'cuda':
        return device
    if not torch.cuda.is_available():
        raise DistributedError(f"device '{name}': torch finds no GPU here; use cpu")
    if world_size() > 1:
        if device.index is not None:
            raise DistributedError(f"device '{name}': every process needs a GPU of its own; "
                                   'use cuda')
        device = torch.device('cuda', int(os.environ.get('LOCAL_RANK', rank())))
    if (device.index or 0) >= torch.cuda.device_count():
        raise DistributedError(
            f"device '{name}': there are {torch.cuda.device_count()} GPUs here, and this asks for "
            f'number {device.index} (from 0); use another, or start fewer processes')
    return device


@contextmanager
def told_in_words() -> Iterator[None]:
    """Say in a sentence that another process is gone: gloo and nccl have no class for that."""
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not re.search('gloo|nccl|connection|socket', str(error), re.I):
            raise
        raise DistributedError(
            f'process {rank()} of {world_size()} has lost another one; see what that one printed, '
            'and start all of them again: they resume from their last file') from error


def summed(values: list[float]) -> list[float]:
    """Return the sums over all processes."""
    if world_size() == 1:
        return values
    together = torch.tensor(values, dtype=torch.float64)
    with told_in_words():
        distributed.all_reduce(together)
    return together.tolist()


def gathered(data: bytes) -> list[bytes]:
    """Return the data of every process on process 0, and nothing on the others."""
    if world_size() == 1:
        return [data]
    found = [b''] * world_size() if rank() == 0 else None
    with told_in_words():
        distributed.gather_object(data, found)
    return found or []


def broadcast_bytes(data: bytes | None) -> bytes | None:
    """Return on all processes the data, or None, of process 0."""
    if world_size() == 1:
        return data
    sent = [data]
    with told_in_words():
        distributed.broadcast_object_list(sent, device=torch.device('cpu'))
    return sent[0]


def broadcast_file(path: Path) -> bytes | None:
    """Return on all processes what process 0 reads from a file; None if there is no such file."""
    there = rank() == 0 and path.exists()
    return broadcast_bytes(path.read_bytes() if there else None)
