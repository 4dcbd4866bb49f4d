"""The engine of a network whose nodes are spread over several processes."""

from contextlib import suppress

import numpy as np
from stream_agent.engine.engine import check_frame
from stream_agent.engine.ranks.exchange import Exchange, GroupedExchange, RankError
from stream_agent.engine.ranks.orders import OrderGiver, OrderTaker, RESET, STOP
from stream_agent.engine.ranks.step import make_nodes, RankStep
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.planning.partition import check_partition, Partition, PartitionError
import torch
from torch import distributed


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
        the device, and is of no use to others any more.
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
        check_ranks(partition)
        self.rank = distributed.get_rank()
        self._shape = shape = network.shapes[network.input]
        self._giver = OrderGiver(partition, network.input, shape, timeout)
        self._taker = OrderTaker(partition, self.rank, network.input, shape)
        names = [v for v in partition.nodes_on(self.rank) if v != network.input]
        where = torch.device(device)
        nodes = make_nodes(network.eval(), names, where, backend, precision)
        exchange = exchange or (GroupedExchange if where.type == 'cuda' else Exchange)
        self._exchange = exchange(network.graph, network.pattern, partition, self.rank,
                                  nodes.initial_values(), timeout)
        self._step = RankStep(network, partition, names, nodes, self._exchange, where)
        # Nobody shall be late because another was ready sooner.
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
    def respond(self, frame: np.ndarray) -> np.ndarray:
        """
        Send a frame to the ranks that read it, and compute the response cone.

        :param frame: float32 of the input node's shape, without a batch axis.
        :returns: The output node, float32, on the host.
        :raises RuntimeError: If this is not rank 0, or if the frame before is not settled.
        :raises ValueError: If the frame has another type or shape.
        :raises RankError: If another rank does not answer; the engine is of no use any more.
        """
        self._check_first('respond')
        if self._step.under_way:
            raise RuntimeError('respond: the frame before is not settled; call settle() first')
        check_frame(frame, self._shape)
        # Nobody may write to it while ranks are sent it.
        image = torch.from_numpy(frame.copy()).unsqueeze(0)
        self._giver.step(image)
        self._step.begin(image)
        return self._step.respond().squeeze(0).float().cpu().numpy().copy()

    @torch.inference_mode()
    def settle(self) -> None:
        """
        Compute the nodes of rank 0 that only later frames need.

        :raises RuntimeError: If this is not rank 0, or if there is no response to settle.
        :raises RankError: If another rank does not answer.
        """
        self._check_first('settle')
        if not self._step.under_way:
            raise RuntimeError('settle: there is nothing to settle; call respond(frame) first')
        self._step.settle()

    def step(self, frame: np.ndarray) -> np.ndarray:
        """Respond, settle, and return the output."""
        output = self.respond(frame)
        self.settle()
        return output

    def reset(self) -> None:
        """
        Forget every frame seen so far, on all ranks.

        :raises RuntimeError: If this is not rank 0.
        :raises RankError: If another rank does not answer.
        """
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
            self.step(np.zeros(self._shape, np.float32))
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
        self._taker.listen()
        order, image = self._taker.take()
        while order != STOP:
            if order == RESET:
                self._step.reset()
            else:
                self._step.begin(image)
                self._step.settle()
            order, image = self._taker.take()
        self._exchange.drain()

    def _check_first(self, verb: str) -> None:
        if self.rank:
            raise RuntimeError(f'{verb}: this is rank {self.rank}, and frames go to rank 0; call '
                               'serve()')


def check_ranks(partition: Partition) -> None:
    """Refuse a partition over more ranks than there are processes."""
    processes = distributed.get_world_size()
    if max(partition.rank_of.values()) >= processes:
        raise PartitionError(
            f'partition: it is over {partition.ranks} ranks, but there are {processes} processes; '
            f'start them with torchrun --nproc-per-node {partition.ranks}')
