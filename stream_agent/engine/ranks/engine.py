"""The engine of a network whose nodes are spread over several processes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from itertools import cycle
import json
from math import prod
import os
from typing import NamedTuple

import numpy as np
from stream_agent.engine.backends import to_tensors
from stream_agent.engine.engine import FrameCheck
from stream_agent.engine.ranks.exchange import (
    Exchange, GroupedExchange, rank_error, RankError, receive, send, Transfer)
from stream_agent.engine.ranks.step import make_nodes, RankStep
from stream_agent.engine.torch_globals import join_processes
from stream_agent.network.program import Arrays, by_input
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.planning.partition import (
    check_partition, Message, Partition, PartitionError)
import torch
from torch import distributed, Tensor

STEP, RESET, STOP = 0.0, 1.0, 2.0
TAG = 0


def inputs_read(network: RolloutNetwork, partition: Partition, rank: int) -> dict[str, int]:
    """Return how many numbers a rank is sent of each input that it reads, by name."""
    return {name: prod(network.shapes[name]) for name in network.inputs
            if any(source == name and receiver == rank
                   for source, _, receiver, _ in partition.messages)}


class OrderGiver:
    """
    Rank 0's end of orders: messages of the inputs that the rank reads, and a number.

    :param partition: Ranks without nodes are told to reset and to stop, but not of frames.
    :param timeout: Seconds that a rank may be late in taking an order.
    """

    def __init__(self, network: RolloutNetwork, partition: Partition, timeout: float) -> None:
        self._timeout = timeout
        reads = {rank: inputs_read(network, partition, rank)
                 for rank in range(1, distributed.get_world_size())}
        self._reads = {rank: tuple(sizes) for rank, sizes in reads.items()}
        self._working = {*partition.rank_of.values()} - {0}
        #: By what is read.
        self._orders = {tuple(sizes): torch.empty(sum(sizes.values()) + 1)
                        for sizes in reads.values()}
        self._sent: dict[int, Transfer] = {}

    def step(self, frame: Mapping[str, Tensor]) -> None:
        """
        Begin to send a frame, on the host and copied, to all ranks that have work.

        :raises RankError: If a rank has not taken the frame before, or is gone.
        """
        for transfer in self._sent.values():
            transfer.wait(self._timeout)
        for names, order in self._orders.items():
            torch.cat([*(frame[name].flatten() for name in names), torch.tensor([STEP])],
                      out=order)
        for rank in sorted(self._working):
            self._sent[rank] = send(self._orders[self._reads[rank]], rank, TAG, 'an order')

    def reset(self) -> None:
        """Tell all ranks to forget every frame; raises RankError if one does not listen."""
        for rank in self._reads:
            self._tell(rank, RESET)

    def stop(self) -> None:
        """Tell all ranks to stop; those that are gone have done so already."""
        for rank in self._reads:
            with suppress(RankError):
                self._tell(rank, STOP)

    def _tell(self, rank: int, order: float) -> None:
        if rank in self._sent:
            self._sent[rank].wait(self._timeout)
        message = torch.full_like(self._orders[self._reads[rank]], order)
        send(message, rank, TAG, 'an order').wait(self._timeout)


def orders(network: RolloutNetwork, partition: Partition
           ) -> Iterator[tuple[float, dict[str, Tensor]]]:
    """
    Yield the orders to a rank other than 0 up to the one to stop, however long each takes to come.

    :returns: The order, and the inputs that this rank reads, (1, *shape) each.
    :raises RankError: If rank 0 is gone.
    """
    sizes = inputs_read(network, partition, distributed.get_rank())
    # One for the next order; and the inputs of this frame and the one before are read.
    buffers = cycle(torch.zeros(3, sum(sizes.values()) + 1))
    coming = receive(next(buffers), 0, TAG, 'an order')
    while True:
        message = coming.wait(None)
        order = float(message[-1])
        if order == STOP:
            return
        coming = receive(next(buffers), 0, TAG, 'an order')
        parts = message[:-1].split([*sizes.values()])
        yield order, {name: part.view(1, *network.shapes[name])
                      for name, part in zip(sizes, parts)}


class RankPlace(NamedTuple):
    """
    A process among those that were started together.

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
    join_processes('cpu:gloo,cuda:nccl' if on_gpu else 'gloo', timedelta(seconds=timeout))
    try:
        yield RankPlace(distributed.get_rank(), distributed.get_world_size(),
                        f'cuda:{local}' if on_gpu else 'cpu')
    finally:
        distributed.destroy_process_group()


def share_partition(partition: Partition | None, planner: int = 0) -> Partition:
    """
    Return the partition of one rank on all ranks, since each would measure other costs.

    :param partition: Matters only on the rank that plans, ``planner``.
    :raises RankError: If it is gone.
    """
    # JSON rather than a pickle, which could run code of whoever else reaches this group.
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


class PartitionedEngine:
    """
    One network, several ranks, one stream of frames.

    Every process makes one, with the same network and partition. Rank 0 then works as with
    ``Engine``: it gets the frames, computes the response cone, and answers before the frame is
    settled. All others call ``serve``. A rank computes its nodes from its own values of the
    frame before, and from those that others have sent; so outputs equal those of the undivided
    network, bit by bit with the backend 'eager'.

    As a context manager it lets the other ranks go when rank 0 leaves, by an exception too.

    :param network: Put in evaluation mode. It keeps the weights of this rank's nodes only, on
        the device, and must not be used for anything else afterwards.
    :param partition: Of ``network.graph``, over no more ranks than there are processes.
    :param device: A torch device string, such as that of ``joined_ranks``.
    :param backend: What computes a rank's nodes, 'eager' or 'packed', as in ``Engine``.
    :param precision: As in ``Engine``.
    :param timeout: Seconds that another rank may be late before it is given up.
    :param exchange: How values travel; chosen by the device if None.
    :raises PartitionError: If the partition does not fit the network or the processes.
    :raises BackendError: If the backend is not available.
    :raises RankError: If another rank is gone.
    """

    def __init__(self, network: RolloutNetwork, partition: Partition, device: str = 'cpu', *,
                 backend: str = 'eager', precision: str = 'float32', timeout: float = 5.0,
                 exchange: type[Exchange] | None = None) -> None:
        check_partition(network.graph, network.pattern, partition.rank_of)
        processes = distributed.get_world_size()
        if max(partition.rank_of.values()) >= processes:
            raise PartitionError(
                f'partition: it is over {partition.ranks} ranks, but there are {processes} '
                f'processes; start them with torchrun --nproc-per-node {partition.ranks}')
        self.rank = distributed.get_rank()
        # The caller may write to its own while ranks are sent this one.
        self._check, self._inputs = FrameCheck(network, kept=network.inputs), network.inputs
        self._giver = OrderGiver(network, partition, timeout)
        self._orders = partial(orders, network, partition)
        names = [v for v in partition.nodes_on(self.rank) if v not in network.inputs]
        where = torch.device(device)
        nodes = make_nodes(network.eval(), names, where, backend, precision)
        exchange = exchange or (GroupedExchange if where.type == 'cuda' else Exchange)
        self._exchange = exchange(network, partition, nodes.initial_values(), timeout)
        self._step = RankStep(network, partition, nodes, self._exchange, where)
        # No rank may be late because another was ready sooner.
        try:
            distributed.barrier()
        except RuntimeError as error:
            raise RankError('a rank ended before the first frame; see what its process printed, '
                            'and start all ranks again') from error

    def __enter__(self) -> 'PartitionedEngine':
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    @torch.inference_mode()
    def respond(self, frame: Arrays) -> np.ndarray:
        """
        Send a frame to the ranks that read it, and compute the response cone.

        :param frame: float32 of the input node's shape, without a batch axis; a mapping from the
            names of the inputs to such arrays where the network has several.
        :returns: The output node, float32, on the host.
        :raises RuntimeError: If this is not rank 0, or if respond and settle do not alternate.
        :raises ValueError: If the frame has another type or shape, or lacks an input.
        :raises RankError: If another rank does not answer; the engine is of no further use.
        """
        self._check_first('respond')
        if self._step.under_way:
            raise RuntimeError('respond: the frame before is not settled; call settle() first')
        values = by_input(self._inputs, to_tensors(self._check.take(frame), torch.device('cpu')))
        self._giver.step(values)
        self._step.begin(values)
        return self._step.respond().squeeze(0).float().cpu().numpy().copy()

    @torch.inference_mode()
    def settle(self) -> None:
        """Compute the nodes of rank 0 that only later frames need; raises as ``respond`` does."""
        self._check_first('settle')
        if not self._step.under_way:
            raise RuntimeError('settle: there is nothing to settle; call respond(frame) first')
        self._step.settle()

    def step(self, frame: Arrays) -> np.ndarray:
        """Respond, settle, and return the output."""
        output = self.respond(frame)
        self.settle()
        return output

    def reset(self) -> None:
        """Forget every frame seen so far, on all ranks; raises as ``respond`` does."""
        self._check_first('reset')
        # The others have the frame, and wait for what rank 0 makes of it.
        if self._step.under_way:
            self.settle()
        self._giver.reset()
        self._step.reset()

    def warm_up(self, frames: int = 20) -> None:
        """Take the slow first steps now, on black frames, and forget them."""
        self.reset()
        for _ in range(frames):
            self.step(self._check.black())
        self.reset()

    def close(self) -> None:
        """Let the other ranks return from ``serve``; does nothing on those."""
        if self.rank:
            return
        with suppress(RankError):
            if self._step.under_way:
                self.settle()
        self._giver.stop()
        with suppress(RankError):
            self._exchange.drain()

    @torch.inference_mode()
    def serve(self) -> None:
        """
        Compute this rank's nodes in every frame, until rank 0 closes its engine.

        :raises RuntimeError: If this is rank 0.
        :raises RankError: If another rank is gone, or late with a value.
        """
        if not self.rank:
            raise RuntimeError('serve: this is rank 0, which gets the frames; call respond(frame)')
        for order, values in self._orders():
            if order == RESET:
                self._step.reset()
            else:
                self._step.begin(values)
                self._step.settle()
        self._exchange.drain()

    def _check_first(self, verb: str) -> None:
        if self.rank:
            raise RuntimeError(f'{verb}: this is rank {self.rank}, and frames go to rank 0; call '
                               'serve()')
