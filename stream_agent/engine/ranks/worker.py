"""A process that is one rank beside an agent's: ``local_ranks`` starts it and ends it."""

from copy import deepcopy
from datetime import timedelta
import json
import sys

from stream_agent.engine.ranks.engine import PartitionedEngine, share_partition
from stream_agent.engine.ranks.exchange import RankError
from stream_agent.engine.ranks.local_ranks import (
    HOST, join, measure_link, measure_nodes, PLANNER, RankJob, READY, START_TIMEOUT)
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.transforms import allow_transforms
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.partition import MessageCost, Partition
from stream_agent.theory.planning.partition_search import partition
import torch
from torch import distributed


def plan_ranks(network: RolloutNetwork, job: RankJob, link: MessageCost) -> Partition:
    """Plan which rank computes what, given what messages cost."""
    graph = network.graph
    if job.partition == 'equal':
        costs = NodeCosts({name: 1.0 for name in graph.by_name if name not in graph.inputs})
    else:
        costs = measure_nodes(deepcopy(network), 'cpu', job.backend, job.precision)
    return partition(graph, network.pattern, costs, job.ranks, link)


def work(rank: int, job: RankJob) -> None:
    """
    Compute the nodes of a rank until rank 0 closes its engine.

    :raises RankError: If another rank is gone.
    :raises ValueError: If the policy cannot be read.
    """
    torch.set_num_threads(job.threads)
    allow_transforms(job.allow)
    store = distributed.TCPStore(HOST, job.port, is_master=False,
                                 timeout=timedelta(seconds=START_TIMEOUT))
    network = load_policy(job.checkpoint).network
    store.set(READY.format(rank), '')
    join(store, rank, job.ranks)
    try:
        link = measure_link() if job.partition == 'measured' else MessageCost(0.0, 0.0, 0.0)
        plan = share_partition(
            plan_ranks(network, job, link) if rank == PLANNER else None, PLANNER)
        if any(plan.rank_of.values()):
            PartitionedEngine(network, plan, backend=job.backend,
                              precision=job.precision).serve()
    finally:
        distributed.destroy_process_group()


def main() -> int:
    """Be the rank that the command line says; returns 1 after an error, which is printed."""
    rank, job = int(sys.argv[1]), RankJob(*json.loads(sys.argv[2]))
    try:
        work(rank, job)
    except (OSError, RuntimeError, ValueError) as error:
        said = error if isinstance(error, (RankError, ValueError)) else f'{type(error)}: {error}'
        print(f'rank {rank}: {said}', file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
