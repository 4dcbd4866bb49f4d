"""Rank 0 with all other ranks as processes of its own, on this machine: what the agent starts."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
import json
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple

import numpy as np
from stream_agent.engine.autotune import Measured, medians, timed_nodes
from stream_agent.engine.backends import why_unusable
from stream_agent.engine.ranks.engine import PartitionedEngine, share_partition
from stream_agent.engine.ranks.exchange import RankError, receive, send, Transfer
from stream_agent.engine.ranks.step import check_backend, make_nodes
from stream_agent.engine.torch_globals import keep_to_loopback, listening_store
from stream_agent.network.program import Arrays
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import update_order
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.partition import MessageCost, Partition
import torch
from torch import distributed

WARM_UP_FRAMES = 5
LARGE = 2**19
TAG = 0
TIMEOUT = 30.0


def measure_nodes(network: RolloutNetwork, device: str = 'cpu', backend: str = 'eager',
                  precision: str = 'float32', frames: int = 30) -> NodeCosts:
    """
    Measure every node in steps of the whole network, one after the other.

    :param network: Put in evaluation mode and moved to the device.
    :param backend: As for ``PartitionedEngine``.
    :returns: Medians over frames that are random, since some nodes are faster on zeros.
    """
    where = torch.device(device)
    order = [v for v in update_order(network.graph, network.pattern) if v not in network.inputs]
    nodes = make_nodes(network.eval(), order, where, backend, precision)
    durations, values = [], nodes.initial_values()
    for _ in range(WARM_UP_FRAMES + frames):
        before = values
        values = {name: torch.rand(1, *network.shapes[name], device=where) - 0.5
                  for name in network.inputs}
        durations.append(timed_nodes(nodes.compute, values, before))
    return NodeCosts(medians(durations[WARM_UP_FRAMES:]))


def measure_link(rounds: int = 400) -> MessageCost:
    """
    Measure messages on the host between ranks 0 and 1; every rank has to call it.

    Both compute, exchange a value, and compute again, as the engine does. Messages cost what a
    round takes longer than without them, waiting and disturbance included.

    :returns: The link on ranks 0 and 1; the default one on others, and where there is one rank.
    :raises RankError: If the other rank does not answer.
    """
    if distributed.get_rank() > 1 or distributed.get_world_size() == 1:
        return MessageCost()
    sizes = (None, 4, LARGE)
    seconds: dict[int | None, list[float]] = {size: [] for size in sizes}
    # In alternation, so that a busy moment of the machine meets all.
    for _ in range(4):
        for size in sizes:
            seconds[size] += round_seconds(size, rounds // 4)
    none, small, large = (typical(seconds[size]) for size in sizes)
    return MessageCost(max(0.0, (small - none) / 2), max(0.0, (large - small) / 2 / LARGE))


def typical(seconds: list[float]) -> float:
    """Return the mean without the longest tenth, in which something else kept the machine busy."""
    return statistics.mean(sorted(seconds)[:len(seconds) - len(seconds) // 10])


@torch.inference_mode()
def round_seconds(size: int | None, rounds: int) -> list[float]:
    """
    Compute and exchange values with the other rank; returns the seconds of every round.

    :param size: Of a value in bytes; None to exchange nothing.
    """
    other = 1 - distributed.get_rank()
    image, weight = torch.ones(1, 32, 40, 40), torch.ones(32, 32, 3, 3)
    value, buffers = torch.zeros((size or 4) // 4), torch.zeros(2, (size or 4) // 4)
    expected: list[Transfer] = []
    sent: list[Transfer] = []
    seconds = []
    for i in range(rounds):
        start = time.perf_counter()
        arriving, expected = expected, [] if size is None else [
            receive(buffers[i % 2], other, TAG, 'a value')]
        torch.conv2d(image, weight, padding=1)
        for transfer in (*arriving, *sent):
            transfer.wait(TIMEOUT)
        torch.conv2d(image, weight, padding=1)
        sent = [] if size is None else [send(value, other, TAG, 'a value')]
        seconds.append(time.perf_counter() - start)
    for transfer in (*expected, *sent):
        transfer.wait(TIMEOUT)
    return seconds


WORKER = 'stream_agent.engine.ranks.worker'
PARTITIONS = ('measured', 'equal')
# By then its process has imported torch and read the policy; no other rank needs the planner.
PLANNER = 1
START_TIMEOUT = 60.0
LEAVE_TIMEOUT = 5.0
POLL_PERIOD = 0.05
# The key by which a rank says in the store that it has read the policy.
READY = 'rank {} is ready'


class RankJob(NamedTuple):
    """
    What all ranks of one machine compute, and how.

    :param ranks: Processes, rank 0 among them; at least 2.
    :param checkpoint: File of the policy, which every rank reads.
    :param allow: Dotted names of transforms that the policy may import.
    :param threads: CPU cores that each rank may use.
    :param partition: 'measured', by the costs of nodes and messages on this machine; or 'equal',
        by the number of nodes, without measuring.
    :param port: Of the store where ranks meet; set by rank 0.
    """

    ranks: int
    checkpoint: str
    allow: tuple[str, ...] = ()
    backend: str = 'eager'
    precision: str = 'float32'
    threads: int = 1
    partition: str = 'measured'
    port: int = 0


def make_job(ranks: int, checkpoint: str, *, device: str = 'auto', backend: str = 'auto',
             threads: int = 0, **options) -> RankJob:
    """
    Make a job of what a user asked for.

    :param backend: 'auto' is 'packed' where that works, 'eager' elsewhere.
    :param threads: 0 for one.
    :param options: As in ``RankJob``.
    :raises ValueError: If ranks cannot work like that.
    """
    if device not in ('auto', 'cpu'):
        raise ValueError(f"ranks is {ranks}, which compute on the CPU, but device is '{device}'; "
                         "let device be 'auto' or 'cpu', or ranks be 1")
    job = RankJob(ranks, checkpoint, threads=threads or 1, **options)
    if job.partition not in PARTITIONS:
        raise ValueError(f"partition is '{job.partition}'; choices are "
                         f"{', '.join(map(repr, PARTITIONS))}")
    if backend == 'auto':
        backend = 'eager' if why_unusable('packed', 'cpu', job.precision) else 'packed'
    check_backend(backend, 'cpu', job.precision)
    return job._replace(backend=backend)


def join(store: distributed.Store, rank: int, ranks: int) -> None:
    """Meet the other ranks of this machine; messages go by gloo on the loopback interface."""
    keep_to_loopback()
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=ranks,
                                   timeout=timedelta(seconds=START_TIMEOUT))


class RankProcesses:
    """Ranks 1 to N - 1 as child processes, which end when rank 0 closes its engine or is gone."""

    def __init__(self, job: RankJob) -> None:
        self._ranks = job.ranks
        self._store = listening_store(0, timedelta(seconds=START_TIMEOUT))
        given = json.dumps(job._replace(port=self._store.port))
        # In sessions of their own: Ctrl-C is for rank 0, which lets them go.
        self._processes = {rank: subprocess.Popen(
            [sys.executable, '-m', WORKER, str(rank), given],
            stdin=subprocess.DEVNULL, start_new_session=True) for rank in range(1, job.ranks)}

    def join(self) -> None:
        """Wait until all are ready, and be rank 0; RankError if one ends or is late."""
        end = time.monotonic() + START_TIMEOUT
        for rank in self._processes:
            while not self._store.check([READY.format(rank)]):
                for other, process in self._processes.items():
                    if process.poll() is not None:
                        raise RankError(f'rank {other} ended with exit code {process.returncode}; '
                                        'see what its process printed')
                if time.monotonic() > end:
                    raise RankError(f'rank {rank} was not ready within {START_TIMEOUT:g} s; see '
                                    'what its process printed')
                time.sleep(POLL_PERIOD)
        join(self._store, 0, self._ranks)

    def kill(self) -> None:
        """End all processes, whatever they are doing."""
        for process in self._processes.values():
            process.kill()

    def leave(self) -> None:
        """Leave the group, wait for processes that are about to end, and kill the others."""
        if distributed.is_initialized():
            distributed.destroy_process_group()
        end = time.monotonic() + LEAVE_TIMEOUT
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
        self.kill()
        for process in self._processes.values():
            process.wait()


class LocalRanksEngine(PartitionedEngine):
    """The engine of rank 0, which ends the other ranks, joined and with the same partition."""

    def __init__(self, network: RolloutNetwork, partition: Partition, job: RankJob,
                 processes: RankProcesses) -> None:
        super().__init__(network, partition, backend=job.backend, precision=job.precision)
        self._processes = processes
        self.device, self.backend_name = torch.device('cpu'), job.backend
        self.threads, self.ranks = job.threads, len({*partition.rank_of.values()})
        #: No backends are compared.
        self.measured: list[Measured] = []

    def respond(self, frame: Arrays) -> np.ndarray:
        """Answer a frame as ``PartitionedEngine`` does; an error ends all ranks."""
        return self._together(super().respond, frame)

    def rehearse(self, frame: Arrays) -> None:
        """Do nothing: the other ranks would have to know that it is no step."""

    def settle(self) -> None:
        """Settle a frame as ``PartitionedEngine`` does; an error ends all ranks."""
        self._together(super().settle)

    def reset(self) -> None:
        """Forget every frame as ``PartitionedEngine`` does; an error ends all ranks."""
        self._together(super().reset)

    def _together(self, work: Callable, *arguments: Arrays) -> Any:
        """Do what needs all ranks, and end the others if one is gone."""
        try:
            return work(*arguments)
        except RankError:
            self._processes.kill()
            raise

    def close(self) -> None:
        """Let the other ranks go, and wait until they have ended."""
        super().close()
        self._processes.leave()


def start_ranks(job: RankJob, network: RolloutNetwork) -> LocalRanksEngine | str:
    """
    Start the other ranks, let rank 1 plan which rank computes what, and be rank 0.

    :param network: That of the policy in the job.
    :returns: The engine; or, if more than one rank would not be faster, the reason. Then no
        process is left, and the network is as it was.
    :raises RankError: If a rank cannot start, or ends; no process is left.
    """
    processes = RankProcesses(job)
    try:
        processes.join()
        if job.partition == 'measured':
            measure_link()
        plan = share_partition(None, PLANNER)
        if any(plan.rank_of.values()):
            return LocalRanksEngine(network, plan, job, processes)
    except BaseException:
        processes.kill()
        processes.leave()
        raise
    processes.leave()
    return plan.reason
