"""What rank 0 tells the others: a frame to step on, to forget, or to stop."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from itertools import cycle
import json
from math import prod
import os
from typing import NamedTuple

from stream_agent.engine.ranks.exchange import rank_error, RankError, receive, send, Transfer
from stream_agent.theory.planning.partition import Message, Partition
import torch
from torch import distributed, Tensor

STEP, RESET, STOP = 0.0, 1.0, 2.0
TAG = 0
Shape = tuple[int, ...]


def image_size(partition: Partition, rank: int, image: str, shape: Shape) -> int:
    """Return how many numbers of the image a rank is sent: all if it reads it, or none."""
    reads = any(source == image and receiver == rank
                for source, _, receiver, _ in partition.messages)
    return prod(shape) if reads else 0


class OrderGiver:
    """
    Rank 0's end. An order is one message: the image where the rank reads it, and the order.

    :param partition: Ranks without nodes are told to stop, and of no frame.
    :param image: Name of the input node.
    :param shape: Its own.
    :param timeout: Seconds that a rank may be late in taking an order.
    """

    def __init__(self, partition: Partition, image: str, shape: Shape, timeout: float) -> None:
        self._timeout = timeout
        self._sizes = {rank: image_size(partition, rank, image, shape)
                       for rank in range(1, distributed.get_world_size())}
        self._working = {*partition.rank_of.values()} - {0}
        self._orders = {size: torch.empty(size + 1) for size in self._sizes.values()}
        self._sent: dict[int, Transfer] = {}

    def step(self, image: Tensor) -> None:
        """
        Begin to send a frame to all ranks that have work.

        :param image: On the host; may change as soon as this returns.
        :raises RankError: If a rank has not taken the frame before, or is gone.
        """
        for transfer in self._sent.values():
            transfer.wait(self._timeout)
        for size, order in self._orders.items():
            order[:size] = image.flatten()[:size]
            order[size] = STEP
        for rank in sorted(self._working):
            self._sent[rank] = send(self._orders[self._sizes[rank]], rank, TAG, 'an order')

    def reset(self) -> None:
        """
        Tell all ranks to forget every frame.

        :raises RankError: If a rank does not take the order.
        """
        for rank in self._sizes:
            self._tell(rank, RESET)

    def stop(self) -> None:
        """Tell all ranks to stop; those that are gone have done so already."""
        for rank in self._sizes:
            with suppress(RankError):
                self._tell(rank, STOP)

    def _tell(self, rank: int, order: float) -> None:
        if rank in self._sent:
            self._sent[rank].wait(self._timeout)
        message = torch.full((self._sizes[rank] + 1,), order)
        send(message, rank, TAG, 'an order').wait(self._timeout)


class OrderTaker:
    """
    The other ranks' end.

    :param rank: This one.
    """

    def __init__(self, partition: Partition, rank: int, image: str, shape: Shape) -> None:
        self._shape = shape
        self._size = image_size(partition, rank, image, shape)
        # One for the next order; and the images of this frame and the one before are read.
        self._buffers = cycle(torch.zeros(3, self._size + 1))
        self._next: Transfer | None = None

    def listen(self) -> None:
        """
        Be ready for the next order.

        :raises RankError: If rank 0 is gone.
        """
        self._next = receive(next(self._buffers), 0, TAG, 'an order')

    def take(self) -> tuple[float, Tensor | None]:
        """
        Wait for an order, however long, and be ready for the next.

        :returns: The order, and the image, (1, *shape), if this rank reads it.
        :raises RankError: If rank 0 is gone.
        """
        message = self._next.wait(None)
        order = float(message[self._size])
        if order != STOP:
            self.listen()
        return order, message[:self._size].view(1, *self._shape) if self._size else None


class RankPlace(NamedTuple):
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
def joined_ranks(timeout: float = 60.0) -> Iterator[RankPlace]:
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
        yield RankPlace(distributed.get_rank(), distributed.get_world_size(),
                        f'cuda:{local}' if on_gpu else 'cpu')
    finally:
        distributed.destroy_process_group()


def share_partition(partition: Partition | None, planner: int = 0) -> Partition:
    """
    Return the partition of one rank on all ranks, since each would measure other costs.

    :param partition: Matters on the rank that plans only.
    :param planner: That rank.
    :raises RankError: If it is gone.
    """
    text = torch.frombuffer(bytearray(json.dumps(partition and asdict(partition)).encode()),
                            dtype=torch.uint8)
    size = torch.tensor([text.numel()])
    try:
        distributed.broadcast(size, planner)
        if distributed.get_rank() != planner:
            text = torch.empty(int(size), dtype=torch.uint8)
        distributed.broadcast(text, planner)
    except RuntimeError as error:
        raise rank_error(planner, 'did not send its partition') from error
    data = json.loads(bytes(text.tolist()))
    messages = tuple(Message(*message) for message in data['messages'])
    return Partition(**{**data, 'seconds': tuple(data['seconds']), 'messages': messages})
