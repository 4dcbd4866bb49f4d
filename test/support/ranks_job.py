"""What the ranks of the tests do; as a program, started by torchrun, all that must be equal."""

import json
import os
from pathlib import Path
import random
import sys

import numpy as np
from stream_agent.engine import packed
from stream_agent.engine.engine import Engine
from stream_agent.engine.ranks.engine import joined_ranks, PartitionedEngine, share_partition
from stream_agent.engine.ranks.exchange import Exchange, GroupedExchange, RankError
from stream_agent.engine.ranks.local_ranks import measure_link
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import graph_to_data, with_schedule
from stream_agent.theory.patterns import newest_image_pattern, streaming_pattern
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.partition import blocks_of, MessageCost, Partition
from stream_agent.theory.planning.partition_search import forecast, partition
from support.network_inputs import of_each, random_inputs
import torch

FRAMES = 20
# Skips, two recurrent nodes, a loop back, weights that are shared by edges into two nodes.
LOOPS = graph_from_data({
    'nodes': {'image': {'shape': [1, 8, 8]},
              **{f'n{i}': {'shape': [4, 8, 8], 'activation': 'elu'} for i in range(1, 6)},
              'memory': {'shape': [6], 'cell': 'gilr', 'normalisation': 'layer'},
              'out': {'shape': [2], 'activation': 'tanh'}},
    'edges': [
        {'source': 'image', 'target': 'n1', 'transform': 'convolution'},
        {'source': 'n1', 'target': 'n2', 'transform': 'convolution', 'share': 'twice'},
        {'source': 'n2', 'target': 'n3', 'transform': 'convolution', 'share': 'twice'},
        {'source': 'n3', 'target': 'n4', 'transform': 'convolution'},
        {'source': 'n4', 'target': 'n5', 'transform': 'convolution'},
        {'source': 'n1', 'target': 'n4', 'transform': 'pointwise'},
        {'source': 'n4', 'target': 'n2', 'transform': 'pointwise', 'streams': True},
        {'source': 'n5', 'target': 'n5', 'transform': 'pointwise', 'streams': True},
        {'source': 'image', 'target': 'n5', 'transform': 'convolution'},
        {'source': 'n5', 'target': 'memory', 'transform': 'readout', 'kernel': 4},
        {'source': 'memory', 'target': 'memory', 'transform': 'identity', 'streams': True},
        {'source': 'image', 'target': 'out', 'transform': 'readout', 'kernel': 4},
        {'source': 'n1', 'target': 'out', 'transform': 'readout', 'kernel': 4},
        {'source': 'n3', 'target': 'out', 'transform': 'readout', 'kernel': 4},
        {'source': 'memory', 'target': 'out'}],
    'output': 'out'})
RATES = with_schedule(LOOPS, {'n2': (2, 0), 'n3': (2, 1), 'n4': (4, 1), 'n5': (3, 0),
                              'out': (2, 0)})
DATA = graph_to_data(LOOPS)
# A vector, read by maps, by features and by the output of the frame after.
SEVERAL_INPUTS = graph_from_data(DATA | {
    'nodes': DATA['nodes'] | {'speed': {'shape': [3]}},
    'edges': [*DATA['edges'], {'source': 'speed', 'target': ['n3', 'memory', 'out']}]})
GRAPHS = {'every frame': LOOPS, 'schedule': RATES}
PATTERNS = {'newest image': newest_image_pattern, 'streaming': streaming_pattern,
            'hybrid': lambda graph: newest_image_pattern(graph) | {
                ('n2', 'n3'): 0, ('n5', 'memory'): 0, ('n1', 'out'): 0}}
EXCHANGES = {'tags': Exchange, 'batches': GroupedExchange}


def network_of(graph, pattern) -> RolloutNetwork:
    torch.manual_seed(3)
    return RolloutNetwork(graph, pattern)


def frames_of(network: RolloutNetwork, count: int) -> list:
    return [of_each(lambda value: value[0], frame) for frame in random_inputs(network, count)]


def images(count: int) -> list[np.ndarray]:
    return frames_of(network_of(LOOPS, newest_image_pattern(LOOPS)), count)


def spread(graph, pattern, ranks: int, seed: int) -> Partition:
    """Return a partition at random, as long as it is allowed; much crosses."""
    rank_of = dict.fromkeys(graph.by_name, 0)
    chance = random.Random(seed)
    for block in blocks_of(graph, pattern):
        rank = 0 if graph.output in block else chance.randrange(ranks)
        rank_of.update(dict.fromkeys(block, rank))
    costs = NodeCosts({name: 1.0 for name in graph.by_name if name not in graph.inputs})
    return forecast(graph, pattern, costs, rank_of, ranks)


def cases(ranks: int):
    """Yield a name, a graph, a pattern, a partition, an exchange and a backend."""
    for (rates, graph), (rule, pattern_of), (way, exchange), seed in (
            (one, two, three, seed) for one in GRAPHS.items() for two in PATTERNS.items()
            for three in EXCHANGES.items() for seed in range(2 if ranks == 2 else 1)):
        pattern = pattern_of(graph)
        yield (f'{rates}, {rule}, {way}, {seed}', graph, pattern,
               spread(graph, pattern, ranks, seed), exchange, 'eager')
    costs = NodeCosts({name: 1.0 for name in LOOPS.by_name if name != 'image'})
    for count in (1, ranks):
        pattern = newest_image_pattern(LOOPS)
        yield (f'planned for {count}', LOOPS, pattern, partition(LOOPS, pattern, costs, count),
               Exchange, 'eager')
    for seed in range(2):
        pattern = newest_image_pattern(SEVERAL_INPUTS) | {('speed', 'memory'): seed}
        yield (f'several inputs, {seed}', SEVERAL_INPUTS, pattern,
               spread(SEVERAL_INPUTS, pattern, ranks, seed), Exchange, 'eager')
    for rates, graph in GRAPHS.items() if packed.is_available() else ():
        pattern = newest_image_pattern(graph)
        yield (f'{rates}, packed', graph, pattern, spread(graph, pattern, ranks, 0), Exchange,
               'packed')


def run(engine, frames) -> list[np.ndarray]:
    """Return outputs, of the first frames twice: the state is dropped in the middle."""
    outputs = [engine.step(frame) for frame in frames[:7]]
    engine.respond(frames[7])
    engine.reset()
    return outputs + [engine.step(frame) for frame in frames]


def expected(graph, pattern, frames) -> list[np.ndarray]:
    """Return what the undivided network makes of these frames."""
    network = network_of(graph, pattern).eval()
    outputs = []
    with torch.inference_mode():
        for window in (frames[:7], frames):
            state = network.initial_state()
            for frame in window:
                output, state = network.step(
                    of_each(lambda value: torch.from_numpy(value).unsqueeze(0), frame), state)
                outputs.append(output[0].numpy())
    return outputs


def compare(graph, pattern, plan, exchange, backend) -> dict | None:
    """Run a case; returns on rank 0 what is found."""
    frames = frames_of(network_of(graph, pattern), FRAMES)
    with PartitionedEngine(network_of(graph, pattern), plan, exchange=exchange,
                           backend=backend) as engine:
        if engine.rank:
            return engine.serve()
        outputs = run(engine, frames)
    alone = Engine(network_of(graph, pattern), backend=backend)
    in_one_process = [alone.step(frame) for frame in frames]
    return {'messages': len(plan.messages),
            'equal': np.array_equal(outputs, expected(graph, pattern, frames)),
            'distance': float(np.abs(np.subtract(outputs[7:], in_one_process)).max()),
            'change': float(np.ptp(outputs, axis=0).min())}


def main(path: str) -> None:
    """Write what is found in every case."""
    torch.set_num_threads(1)
    found = {}
    with joined_ranks() as place:
        link = measure_link(8)
        assert 0 <= link.per_message < 1 and 0 <= link.per_byte < 1e-3
        assert (link == MessageCost()) == (place.rank > 1)
        for name, graph, pattern, plan, *how in cases(place.ranks):
            shared = share_partition(None if place.rank else plan)
            assert shared == plan
            found[name] = compare(graph, pattern, shared, *how)
    if not place.rank:
        Path(path).write_text(json.dumps(found))


def set_place(rank: int, ranks: int, port: int) -> None:
    """Do what torchrun does for a process."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR='127.0.0.1',
                      MASTER_PORT=str(port))


def compare_all(rank: int, ranks: int, port: int, folder: Path) -> None:
    """Be one of several ranks, and write what is found in every case."""
    set_place(rank, ranks, port)
    main(folder / 'found.json')


def drive(rank: int, ranks: int, port: int, folder: Path, frames: float) -> None:
    """Be one of two ranks until something fails, and write what."""
    set_place(rank, ranks, port)
    torch.set_num_threads(1)
    pattern = newest_image_pattern(LOOPS)
    ended = 'left in peace'
    try:
        with joined_ranks(), PartitionedEngine(
                network_of(LOOPS, pattern), spread(LOOPS, pattern, 2, 1), timeout=1.0) as engine:
            if rank:
                engine.serve()
            else:
                step_on(engine, folder, frames)
    except (RankError, ZeroDivisionError) as error:
        ended = str(error)
    (folder / f'rank{rank}.txt').write_text(ended)


def step_on(engine: PartitionedEngine, folder: Path, frames: float) -> None:
    """Step until something fails; after so many frames, something of rank 0's own."""
    (image,) = images(1)
    count = 0
    while True:
        engine.step(image)
        count += 1
        if count == 5:
            (folder / 'running').touch()
        if count == frames:
            raise ZeroDivisionError('a fault of the program')


if __name__ == '__main__':
    main(sys.argv[1])
