"""
How long the theory's tools take, for networks of 10 to 200 nodes.

``random_network`` makes the networks: layers of one to seven nodes after one input; each node
reads one to three of the layer before and, every second one, one of up to three layers before;
one in five has a self-edge, and one in ten is read by a node of its own or of up to three
earlier layers. That is about 2.5 edges a node, with some cycles that meet each other.
"""

from functools import partial
from random import Random
import statistics
import time

from harness import parse, run_benchmark, show
from stream_agent.theory.counting import count_bounds, count_valid_patterns, CountError
from stream_agent.theory.cycles import steps_per_frame_pipelined
from stream_agent.theory.graph import EdgeSpec, GraphSpec, NodeSpec
from stream_agent.theory.patterns import sequential_pattern, streaming_pattern
from stream_agent.theory.planning.candidates import EXECUTIONS
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.planner import make_plan, Plan
from stream_agent.theory.rollout import inference_tableau

CAMERA_PERIOD = 1 / 30
SIZES = (10, 20, 50, 100, 200)
FRAMES = 10


def plan_of(graph: GraphSpec, execution: str) -> Plan:
    """Plan a network whose nodes, of unequal cost, take 1.5 camera periods together."""
    random = Random(0)
    costs = {name: random.uniform(0.2, 1.0) for name in graph.by_name
             if name not in graph.inputs}
    scale = 1.5 * CAMERA_PERIOD / sum(costs.values())
    return make_plan(graph, NodeCosts({name: scale * cost for name, cost in costs.items()}),
                     CAMERA_PERIOD, execution)


TOOLS = {
    'exact count': count_valid_patterns,
    'bounds of the count': count_bounds,
    'streaming tableau': lambda graph: inference_tableau(
        graph, streaming_pattern(graph), FRAMES),
    'sequential tableau': lambda graph: inference_tableau(
        graph, sequential_pattern(graph), FRAMES),
    'pipelined steps': lambda graph: steps_per_frame_pipelined(
        graph, sequential_pattern(graph)),
}
# Seconds, not milliseconds, so fewer networks will do.
PLANNERS = {f'plan, {execution}': partial(plan_of, execution=execution)
            for execution in EXECUTIONS}


def random_network(size: int, seed: int) -> GraphSpec:
    """
    Make a network as it says above; edges that lead to no later layer are marked to stream.

    :param size: Nodes, the input included.
    """
    random = Random(seed)
    layers, made = [[0]], 1
    while made < size:
        width = min(random.randint(1, 7), size - made)
        layers.append(list(range(made, made + width)))
        made += width
    edges: dict[tuple[int, int], bool] = {}
    for i, layer in enumerate(layers[1:], 1):
        before = layers[i - 1]
        for v in layer:
            edges.update({(u, v): False for u in random.sample(
                before, min(len(before), random.randint(1, 3)))})
            if i > 1 and random.random() < .5:
                edges[random.choice(layers[max(0, i - random.randint(2, 3))]), v] = False
            if random.random() < .2:
                edges[v, v] = True
            if random.random() < .1:
                edges[v, random.choice(layers[max(1, i - random.randint(0, 3))])] = True
    return GraphSpec(tuple(NodeSpec(f'n{v}') for v in range(size)),
                     tuple(EdgeSpec(f'n{u}', f'n{v}', streams=marked)
                           for (u, v), marked in edges.items()), f'n{size - 1}')


def measure(tool, graphs: list[GraphSpec]) -> tuple[list[float], int]:
    """Return the seconds of a tool for every graph, and how many graphs it refused."""
    seconds, refused = [], 0
    for graph in graphs:
        start = time.perf_counter()
        try:
            tool(graph)
        except CountError:
            refused += 1
        seconds.append(time.perf_counter() - start)
    return seconds, refused


def main() -> None:
    """Print the durations of every tool for every size."""
    arguments = parse(__doc__)
    number = 10 if arguments.quick else 40
    lines, figures = [], {}
    for size in SIZES:
        graphs = [random_network(size, seed) for seed in range(number)]
        edges = statistics.mean(len(graph.edges) for graph in graphs)
        lines.append(f'{size} nodes, {edges:.0f} edges on average, {number} networks')
        for name, tool in {**TOOLS, **PLANNERS}.items():
            some = graphs if name in TOOLS else graphs[:2 if arguments.quick else 5]
            measure(tool, graphs[:1] if name in TOOLS else [])
            seconds, refused = measure(tool, some)
            lines.append(f'  {name:20} median {statistics.median(seconds) * 1e3:9.3f}  '
                         f'longest {max(seconds) * 1e3:9.3f} ms'
                         + f'  {refused} refused' * bool(refused))
            figures[f'{name}, {size} nodes'] = {
                'median': statistics.median(seconds), 'longest': max(seconds),
                'refused': refused}
    lines.append(f'tableaus of {FRAMES} frames; one thread')
    show(lines, figures, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
