"""
How many frames a second several processes compute together, against what one computes alone.

The nodes of a graph are spread over ranks by their measured costs and those of messages; every
rank is a process with one thread, and values travel by gloo. Competitors run in turns, as fast
as they can: the engine of one process with one thread and with two, and two, three and four
ranks. The script starts the ranks itself; ``torchrun --nproc-per-node 2 benchmark/ranks.py`` asks
for another number.
"""

import argparse
import os
from pathlib import Path
import subprocess
import sys
import time

from harness import alternate, parse, run_benchmark, show
import numpy as np
from stream_agent.engine.autotune import random_frames
from stream_agent.engine.engine import Engine
from stream_agent.engine.ranks.engine import (
    joined_ranks, PartitionedEngine, RankPlace, share_partition)
from stream_agent.engine.ranks.local_ranks import measure_link, measure_nodes
from stream_agent.engine.ranks.step import BACKENDS
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.patterns import newest_image_pattern
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.partition import Partition
from stream_agent.theory.planning.partition_search import partition
import torch

GRAPHS = ('deep', 'policy')
RANKS = 4
# Frames that find out if outputs are equal: more than the deep graph has layers.
EQUAL_FRAMES = 28
# Frames of a turn; the first ones fill the pipeline and are not counted.
BURST, FILL = 10, 3
WARM_UP = 1
TWO_THREADS = '1, 2 threads'
LARGEST_DIFFERENCE = {'eager': 0.0, 'packed': 1e-5}


def network_of(name: str) -> RolloutNetwork:
    """Return a network of a reference graph, the same in all processes."""
    graph = load_graph(Path(__file__).parent / 'graphs' / f'{name}.yaml')
    torch.manual_seed(0)
    return RolloutNetwork(graph, newest_image_pattern(graph))


def least_costs(name: str, backend: str, times: int = 3) -> NodeCosts:
    """Return the least of several measurements, since others may use the machine meanwhile."""
    measured = [measure_nodes(network_of(name), backend=backend, frames=10)
                for _ in range(times)]
    return NodeCosts({node: min(costs.nodes[node] for costs in measured)
                      for node in measured[0].nodes})


def cores() -> int:
    """Return how many cores there are for the ranks."""
    return len(os.sched_getaffinity(0))


def make_partitions(name: str, backend: str, place: RankPlace) -> dict[int, Partition]:
    """Let rank 0 plan for two ranks and more."""
    network = network_of(name)
    link = measure_link()
    # On all cores at once, as when they compute together.
    costs = least_costs(name, backend) if place.rank < cores() else None
    return {ranks: share_partition(None if place.rank else partition(
        network.graph, network.pattern, costs, ranks, link))
        for ranks in range(2, place.ranks + 1)}


class Burst:
    """Steps an engine as fast as it can."""

    def __init__(self, engine: Engine | PartitionedEngine, frames: list[np.ndarray]) -> None:
        self._engine, self._frames = engine, frames
        #: Seconds of every response that counts.
        self.responses: list[float] = []

    def __call__(self) -> float:
        """Return the seconds of a frame."""
        starts, responses = [], []
        for frame in self._frames:
            starts.append(time.perf_counter())
            self._engine.respond(frame)
            responses.append(time.perf_counter() - starts[-1])
            self._engine.settle()
        seconds = (time.perf_counter() - starts[FILL]) / (len(starts) - FILL)
        self.responses += responses[FILL:]
        close(self._engine)
        return seconds


def close(engine: Engine | PartitionedEngine) -> None:
    """Let the other ranks go on to the next engine."""
    if isinstance(engine, PartitionedEngine):
        engine.close()


def outputs_of(engine: Engine | PartitionedEngine, frames: list[np.ndarray]) -> np.ndarray:
    """Return what an engine answers."""
    engine.reset()
    outputs = np.array([engine.step(frame) for frame in frames])
    close(engine)
    return outputs


class RankContest:
    """
    One graph, by one backend, in one process and in several; made and run on all ranks.

    :param name: Of the graph.
    :param backend: That of ``PartitionedEngine``.
    """

    def __init__(self, name: str, backend: str, place: RankPlace) -> None:
        self.partitions = make_partitions(name, backend, place)
        self.engines = {ranks: PartitionedEngine(network_of(name), plan, backend=backend,
                                                 timeout=30.0)
                        for ranks, plan in self.partitions.items()}
        self.name, self.backend = name, backend

    def serve(self, rounds: int) -> None:
        """Do what the ranks other than 0 do."""
        for _ in range(1 + WARM_UP + rounds):
            for engine in self.engines.values():
                engine.serve()

    def measure(self, rounds: int) -> dict:
        """Check outputs, then time; returns figures."""
        network = network_of(self.name)
        frames = list(random_frames(network, EQUAL_FRAMES))
        expected = outputs_of(Engine(network), frames)
        differences = [float(np.abs(outputs_of(engine, frames) - expected).max())
                       for engine in self.engines.values()]
        alone = {'1': Engine(network, backend=self.backend, threads=1),
                 TWO_THREADS: Engine(network_of(self.name), backend=self.backend, threads=2)}
        bursts = {str(ranks): Burst(engine, frames[:BURST])
                  for ranks, engine in {**alone, **self.engines}.items()}
        seconds = {ranks: float(np.median(values))
                   for ranks, values in alternate(bursts, rounds, WARM_UP).items()}
        plans = {str(ranks): plan for ranks, plan in self.partitions.items()}
        return {
            'frames_per_second': {ranks: 1 / value for ranks, value in seconds.items()},
            'forecast': {'1': 1 / plans['2'].one_rank,
                         **{ranks: 1 / plan.period for ranks, plan in plans.items()}},
            'respond_p50': {ranks: float(np.median(burst.responses))
                            for ranks, burst in bursts.items()},
            'ranks_with_work': {ranks: len({*plan.rank_of.values()})
                                for ranks, plan in plans.items()},
            'messages': {ranks: len(plan.messages) for ranks, plan in plans.items()},
            'speedup_2': seconds['1'] / seconds['2'],
            'speedup_2_threads': seconds['1'] / seconds[TWO_THREADS],
            'largest_difference': max(differences),
            'outputs_equal': max(differences) <= LARGEST_DIFFERENCE[self.backend]}


def lines_of(name: str, backend: str, figures: dict) -> list[str]:
    """Return a table for people."""
    lines = [f'{name}, {backend}: outputs equal {figures["outputs_equal"]} '
             f'(largest difference from the undivided step {figures["largest_difference"]:.1e})',
             '  ranks         with work  messages  frames/s  speed-up  forecast   respond p50']
    single = figures['frames_per_second']['1']
    for ranks, rate in figures['frames_per_second'].items():
        forecast = figures['forecast'].get(ranks)
        working = figures['ranks_with_work'].get(ranks, 1)
        lines.append(
            f'  {ranks:<12}{working:>11}{figures["messages"].get(ranks, 0):>10}'
            f'{rate:>10.1f}{rate / single:>10.2f}{f"{forecast:.1f}" if forecast else "-":>10}'
            f'{figures["respond_p50"][ranks] * 1e3:>11.3f} ms'
            + (f'  ({cores()} cores shared; forecast: one each)' if working > cores() else ''))
    return lines


def work(arguments: argparse.Namespace) -> None:
    """Be one of the ranks."""
    torch.set_num_threads(1)
    rounds = 3 if arguments.quick else 40
    lines, found = [], {}
    with joined_ranks() as place:
        for name in GRAPHS:
            for backend in BACKENDS:
                contest = RankContest(name, backend, place)
                if place.rank:
                    contest.serve(rounds)
                else:
                    found[f'{name}_{backend}'] = figures = contest.measure(rounds)
                    lines += lines_of(name, backend, figures)
    if not place.rank:
        show([*lines, f'float32, torch {torch.__version__}, gloo, 1 thread a rank'],
             {**found.pop('deep_eager'), **found}, arguments.json)


def main() -> None:
    """Start the ranks, or be one of them."""
    arguments = parse(__doc__)
    if 'RANK' in os.environ:
        work(arguments)
        return
    sys.exit(subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node',
         str(RANKS), __file__, *sys.argv[1:]],
        env={**os.environ, 'OMP_NUM_THREADS': '1'}).returncode)


if __name__ == '__main__':
    run_benchmark(main)
