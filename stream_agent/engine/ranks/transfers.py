"""Single messages between ranks, and what is said of a rank that does not answer."""

from datetime import timedelta
import time

from torch import distributed, Tensor


class RankError(RuntimeError):
    """Another rank that does not answer; the message says which, what for, and the remedy."""


class Transfer:
    """
    A message on its way.

    :param work: torch's handle, which tells when it is over.
    :param rank: The other end.
    :param value: What is sent and must not change until then; or where it is received.
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
        # To wait for a second time would be to wait for another message.
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
    fault = f'did not take {name}'
    try:
        return Transfer(distributed.isend(flat(value), rank, tag=tag), rank, value, fault)
    except RuntimeError as error:
        raise rank_error(rank, fault) from error


def receive(buffer: Tensor, rank: int, tag: int, name: str) -> Transfer:
    """
    Begin to receive a value into a buffer, which lies in memory like the value.

    :raises RankError: If the other rank is gone.
    """
    fault = f'did not send {name}'
    try:
        return Transfer(distributed.irecv(flat(buffer), rank, tag=tag), rank, buffer, fault)
    except RuntimeError as error:
        raise rank_error(rank, fault) from error


def flat(value: Tensor) -> Tensor:
    """Return a value without gaps as it lies in memory, whatever the order of its axes there."""
    return value.as_strided((value.numel(),), (1,))


def laid_out_like(value: Tensor, other: Tensor) -> Tensor:
    """Return a value in memory as another of its shape, which has no gaps."""
    return value if value.stride() == other.stride() else other.new_empty_strided(
        other.shape, other.stride()).copy_(value)
