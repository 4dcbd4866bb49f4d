"""Processes that torchrun has started find each other, and agree on a partition."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
import json
import os
from typing import NamedTuple

from stream_agent.engine.ranks.transfers import RankError
from stream_agent.theory.planning.partition import Message, Partition
import torch
from torch import distributed


class Place(NamedTuple):
    """
    Where a process stands among those that were started together.

    :param rank: From 0 on; images come to rank 0.
    :param ranks: How many there are.
    :param device: For this rank to compute on.
    """

    rank: int
    ranks: int
    device: str


@contextmanager
def joined_ranks(timeout: float = 60.0) -> Iterator[Place]:
    """
    Join the processes that torchrun has started, and leave them at the end.

    Messages go by gloo; if there is a GPU for every rank of a machine, values go by nccl.

    :param timeout: Seconds to wait for all processes to join; and for values that go by nccl.
    :raises RankError: If torchrun has not started this process.
    """
    if 'RANK' not in os.environ:
        raise RankError('this process has no rank; start it with '
                        'torchrun --nproc-per-node RANKS SCRIPT')
    local = int(os.environ.get('LOCAL_RANK', 0))
    on_gpu = torch.cuda.device_count() >= int(os.environ.get('LOCAL_WORLD_SIZE', local + 1))
    if on_gpu:
        torch.cuda.set_device(local)
    distributed.init_process_group('cpu:gloo,cuda:nccl' if on_gpu else 'gloo',
                                   timeout=timedelta(seconds=timeout))
    try:
        yield Place(distributed.get_rank(), distributed.get_world_size(),
                    f'cuda:{local}' if on_gpu else 'cpu')
    finally:
        distributed.destroy_process_group()


def share_partition(partition: Partition | None) -> Partition:
    """
    Return the partition of rank 0 on all ranks, since each would measure other costs.

    :param partition: Matters on rank 0 only.
    """
    text = torch.frombuffer(bytearray(json.dumps(partition and asdict(partition)).encode()),
                            dtype=torch.uint8)
    size = torch.tensor([text.numel()])
    distributed.broadcast(size, 0)
    if distributed.get_rank():
        text = torch.empty(int(size), dtype=torch.uint8)
    distributed.broadcast(text, 0)
    data = json.loads(bytes(text.tolist()))
    messages = tuple(Message(*message) for message in data['messages'])
    return Partition(**{**data, 'seconds': tuple(data['seconds']), 'messages': messages})
