"""The values of nodes that other ranks read: they travel while the next frame is computed."""

from collections.abc import Callable
from datetime import timedelta
from itertools import cycle
import time

from stream_agent.network.program import Values
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.planning.partition import Message, Partition, sent_at
import torch
from torch import distributed, Tensor


class RankError(RuntimeError):
    """Another rank does not answer; the message says which, what for, and the remedy."""


class Transfer:
    """
    A message on its way to or from a rank.

    :param value: What is sent, and must not change until then; or where it is received.
    :param fault: What the other rank did not do if it is not over in time, for people.
    """

    def __init__(self, work: distributed.Work, rank: int, value: Tensor, fault: str) -> None:
        self._work: distributed.Work | None = work
        self._rank, self._value, self._fault = rank, value, fault

    def wait(self, timeout: float | None) -> Tensor:
        """
        Return the value once the message is over.

        :param timeout: Seconds; None to wait as long as the other rank is there.
        :raises RankError: If it takes longer, or the other rank is gone.
        """
        start = time.monotonic()
        # Waiting for a second time would be waiting for another message.
        if self._work is not None:
            try:
                self._work.wait(timedelta(days=3650) if timeout is None
                                else timedelta(seconds=timeout))
            except RuntimeError as error:
                late = timeout is not None and time.monotonic() - start >= timeout
                raise rank_error(self._rank, self._fault, timeout if late else None) from error
            self._work = None
        return self._value


def rank_error(rank: int, fault: str, timeout: float | None = None) -> RankError:
    """
    Return the error for a rank that does not answer.

    :param timeout: Seconds that it was waited for; None if its connection is closed.
    """
    how = f'within {timeout:g} s' if timeout else 'and is gone'
    return RankError(f'rank {rank} {fault} {how}; see what its process printed, and start all '
                     'ranks again')


def send(value: Tensor, rank: int, tag: int, name: str) -> Transfer:
    """
    Begin to send a value.

    :param tag: The same at both ends; messages of one tag keep their order.
    :param name: Of what is sent, for people.
    :raises RankError: If the other rank is gone.
    """
    return started(distributed.isend, value, rank, tag, f'did not take {name}')


def receive(buffer: Tensor, rank: int, tag: int, name: str) -> Transfer:
    """Begin to receive a value into a buffer that lies in memory like it; raises as ``send``."""
    return started(distributed.irecv, buffer, rank, tag, f'did not send {name}')


def started(operation: Callable, value: Tensor, rank: int, tag: int,
            fault: str) -> Transfer:
    """Start one of torch's operations on a value; the fault is the other rank's if it fails."""
    try:
        return Transfer(operation(flat(value), rank, tag=tag), rank, value, fault)
    except RuntimeError as error:
        raise rank_error(rank, fault) from error


def flat(value: Tensor) -> Tensor:
    """Return a value without gaps as it lies in memory, whatever the order of its axes there."""
    return value.as_strided((value.numel(),), (1,))


def laid_out_like(value: Tensor, other: Tensor) -> Tensor:
    """Return a value in memory as another of its shape, which has no gaps."""
    return value if value.stride() == other.stride() else other.new_empty_strided(
        other.shape, other.stride()).copy_(value)


class Exchange:
    """
    What one rank sends and receives, on the host.

    A value of a frame is needed in the next one. So a rank is ready to receive from the start
    of a frame, sends a value as soon as it is computed, and waits only where a value is read.

    :param initial: Values of all nodes; others lie in memory like these.
    :param timeout: Seconds that another rank may be late.
    """

    def __init__(self, network: RolloutNetwork, partition: Partition, initial: Values,
                 timeout: float) -> None:
        graph, rank = network.graph, distributed.get_rank()
        self._timeout = timeout
        # Tag 0 is left to orders.
        self._tags = {name: 1 + i for i, name in enumerate(graph.by_name)}
        mine = [message for message in partition.messages if message.source not in graph.inputs
                and rank in (message.sender, message.receiver)]
        #: Messages in the graph's order, for every frame of the schedule.
        self._messages = [[message for message in mine
                           if sent_at(graph, network.pattern, message.source, frame)]
                          for frame in range(graph.hyperperiod)]
        self._layouts = {message.source: initial[message.source] for message in mine}
        self._incoming = [message for message in mine if message.receiver == rank]
        #: The nodes of other ranks whose values come here.
        self.sources = [message.source for message in self._incoming]
        # One is read while the other is written.
        self._buffers = {source: cycle([torch.zeros_like(initial[source]) for _ in range(2)])
                         for source in self.sources}
        self._outgoing = {source: [message for message in mine if message.source == source
                                   and message.sender == rank] for source in self._layouts}
        #: What crosses in this frame, what is still expected of it, what is arriving of those
        #: before, and what was sent.
        self._now: list[Message] = []
        self._expected: dict[str, Transfer] = {}
        self._arriving: dict[str, Transfer] = {}
        self._sent: dict[Message, Transfer] = {}

    def begin(self, frame: int) -> None:
        """Be ready for the values of a frame; take those of the frame before as arriving."""
        for source, transfer in self._expected.items():
            self.take(source)
            self._arriving[source] = transfer
        self._now = self._messages[frame % len(self._messages)]
        self._expected = self._receive([item for item in self._incoming if item in self._now])

    def _receive(self, messages: list[Message]) -> dict[str, Transfer]:
        return {source: receive(next(self._buffers[source]), sender, self._tags[source],
                                f"'{source}'") for source, sender, _, _ in messages}

    def take(self, source: str) -> Tensor | None:
        """Return a value of the frames before, None if it was taken; RankError if it is late."""
        transfer = self._arriving.pop(source, None)
        return None if transfer is None else transfer.wait(self._timeout)

    def send(self, source: str, value: Tensor) -> None:
        """Begin to send a node's value to its readers; RankError if one has not taken the last."""
        for message in self._outgoing.get(source, ()):
            if message in self._now:
                if message in self._sent:
                    self._sent[message].wait(self._timeout)
                self._sent[message] = send(
                    laid_out_like(value, self._layouts[source]), message.receiver,
                    self._tags[source], f"'{source}'")

    def end(self) -> None:
        """Know that all nodes of the frame are computed."""

    def drain(self) -> None:
        """Wait until nothing is on its way; RankError if something is neither sent nor taken."""
        for transfer in (*self._arriving.values(), *self._expected.values(),
                         *self._sent.values()):
            transfer.wait(self._timeout)

    def forget(self) -> None:
        """Drop what has come and was not taken."""
        self._arriving, self._expected = {}, {}


class GroupedExchange(Exchange):
    """
    The same between GPUs, by nccl.

    Its messages have no tags, and two ranks have to begin theirs in the same order. So all
    messages of a frame are started together, once its nodes are computed.
    """

    def __init__(self, network: RolloutNetwork, partition: Partition, initial: Values,
                 timeout: float) -> None:
        super().__init__(network, partition, initial, timeout)
        self._values: dict[str, Tensor] = {}
        # The first use of nccl needs all ranks at the same time.
        distributed.all_reduce(torch.zeros(1, device=initial[network.graph.output].device))

    def _receive(self, messages: list[Message]) -> dict[str, Transfer]:
        return {}

    def send(self, source: str, value: Tensor) -> None:
        """Keep a value until the end of the frame."""
        if self._outgoing.get(source):
            self._values[source] = laid_out_like(value, self._layouts[source])

    def end(self) -> None:
        """Begin all messages of the frame; RankError if those of the frame before are late."""
        for transfer in self._sent.values():
            transfer.wait(self._timeout)
        operations, values = [], []
        begin: Callable
        for message in self._now:
            if message in self._incoming:
                begin, peer = distributed.irecv, message.sender
                value = next(self._buffers[message.source])
            else:
                begin, peer = distributed.isend, message.receiver
                value = self._values[message.source]
            operations.append(distributed.P2POp(
                begin, flat(value), peer, tag=self._tags[message.source]))
            values.append(value)
        works = distributed.batch_isend_irecv(operations) if operations else []
        # Of nccl there is one handle for all.
        works = works if len(works) == len(operations) else works * len(operations)
        self._sent = {}
        for message, work, operation, value in zip(self._now, works, operations, values):
            transfer = Transfer(work, operation.peer, value,
                                f"did not exchange '{message.source}'")
            if message in self._incoming:
                self._expected[message.source] = transfer
            else:
                self._sent[message] = transfer
