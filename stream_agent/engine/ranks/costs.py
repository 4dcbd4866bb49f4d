"""What a partition is planned by: seconds of nodes and messages, measured on the ranks."""

import statistics
import time

from stream_agent.engine.ranks.exchange import receive, send, Transfer
from stream_agent.engine.ranks.step import make_nodes
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import update_order
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.partition import MessageCost
import torch
from torch import distributed

WARM_UP_FRAMES = 5
LARGE = 2**19
TAG = 0
TIMEOUT = 30.0


@torch.inference_mode()
def measure_nodes(network: RolloutNetwork, device: str = 'cpu', backend: str = 'eager',
                  precision: str = 'float32', frames: int = 30) -> NodeCosts:
    """
    Measure every node in steps of the whole network, one after the other.

    :param network: Put in evaluation mode and moved to the device.
    :param backend: As for ``PartitionedEngine``.
    :returns: Medians over frames that are random, since some nodes are faster on zeros.
    """
    where = torch.device(device)
    order = [v for v in update_order(network.graph, network.pattern) if v != network.input]
    nodes = make_nodes(network.eval(), order, where, backend, precision)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    before = nodes.initial_values()
    for _ in range(WARM_UP_FRAMES + frames):
        now = {network.input: torch.rand(1, *network.shapes[network.input], device=where) - 0.5}
        for name in order:
            start = time.perf_counter()
            nodes.compute(name, now, before)
            if where.type == 'cuda':
                torch.cuda.synchronize(where)
            seconds[name].append(time.perf_counter() - start)
        before = now
    return NodeCosts({name: statistics.median(values[WARM_UP_FRAMES:])
                      for name, values in seconds.items()})


def measure_link(rounds: int = 400) -> MessageCost:
    """
    Measure messages on the host between ranks 0 and 1; every rank has to call it.

    Both compute, exchange a value, and compute again, as the engine does. What a round takes
    longer than without messages is what they cost, waiting and disturbance included.

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
