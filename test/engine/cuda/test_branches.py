"""Branches and buffers: what has to wait waits, what need not does not, nothing is overwritten."""

from itertools import combinations
from pathlib import Path
from random import Random

from hypothesis import given, strategies as st
import networkx as nx
import pytest
from stream_agent.engine.cuda.branches import dependencies, Kernel, levels, plan_branches
from stream_agent.engine.cuda.buffers import BufferPlan, grouped, places_of, stacks_of
from stream_agent.graph_files.graph_file import graph_from_data, load_graph
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.frame_schedule import frame_schedule
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
from support.graphs import EVERY_LAYER, FIGURE_2, SR
from support.strategies import examples, scheduled_networks

ROOT = Path(__file__).parents[3]
DEEP = load_graph(ROOT / 'benchmark/graphs/deep.yaml')


def random_operations(seed, count=9):
    """Return operations that each read some earlier results."""
    random = Random(seed)
    return [Kernel(f'{i}', tuple((f'{j}', 0) for j in range(i) if random.random() < 0.25),
                   ((f'{i}', 0),), random.randint(1, 9)) for i in range(count)]


def needs(operations):
    """Return the graph of what each operation needs, directly or not."""
    edges = ((int(name), i) for i, operation in enumerate(operations)
             for name, _ in operation.reads)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(operations)))
    graph.add_edges_from(edges)
    return nx.transitive_closure(graph)


def ordered(plan):
    """Return the graph of what a plan's streams and events order, directly or not."""
    graph = nx.DiGraph()
    last, recorded = {}, set()
    for launch in plan.launches:
        graph.add_node(launch.operation)
        assert recorded.issuperset(launch.waits)
        before = [*launch.waits, *([last[launch.stream]] if launch.stream in last else [])]
        assert launch.forks == (launch.stream > 0 and not before)
        graph.add_edges_from((other, launch.operation) for other in before)
        last[launch.stream] = launch.operation
        if launch.recorded:
            recorded.add(launch.operation)
    assert recorded.issuperset(plan.joins)
    assert set(plan.joins) == {i for stream, i in last.items() if stream}
    return nx.transitive_closure(graph)


@pytest.mark.parametrize('seed', range(40))
def test_exactly_what_an_operation_needs_is_ordered_before_it(seed):
    operations = random_operations(seed)
    assert set(ordered(plan_branches(operations)).edges) == set(needs(operations).edges)


@pytest.mark.parametrize('seed', range(40))
def test_there_are_as_few_streams_as_independence_allows(seed):
    operations = random_operations(seed)
    widest = max(map(len, nx.antichains(needs(operations))))
    assert plan_branches(operations).streams == widest


@pytest.mark.parametrize('most_streams', [1, 2, 3])
@pytest.mark.parametrize('seed', range(10))
def test_with_fewer_streams_what_is_needed_is_still_ordered(most_streams, seed):
    operations = random_operations(seed)
    plan = plan_branches(operations, most_streams)
    assert plan.streams <= most_streams
    assert set(needs(operations).edges) <= set(ordered(plan).edges)


def test_the_longest_way_begins_first_on_the_stream_that_everything_begins_on():
    short = Kernel('short', (), (('a', 0),), 5)
    begins_long = Kernel('begins long', (), (('b', 0),), 1)
    long = Kernel('long', (('b', 0),), (('c', 0),), 9)
    plan = plan_branches([short, begins_long, long])
    assert [(launch.operation, launch.stream) for launch in plan.launches] == [
        (1, 0), (2, 0), (0, 1)]


def test_what_overwrites_a_buffer_waits_for_its_readers_and_its_writer():
    write = Kernel('write', (), (('v', 0),))
    read = Kernel('read', (('v', 0),), (('w', 0),))
    again = Kernel('again', (), (('v', 0),))
    assert dependencies([write, read, again]) == [set(), {0}, {0, 1}]
    assert dependencies([write, again]) == [set(), {0}]
    assert levels(dependencies([write, read, again])) == [0, 1, 2]


def actions_of(plan):
    """Return the actions of every half."""
    return [plan.begin, *(half for frame in plan.frames for half in (frame.respond, frame.settle))]


def check_halves(plan):
    """Check that no half overwrites what it reads or has written."""
    for actions in actions_of(plan):
        for one, other in combinations(actions, 2):
            assert other.target != one.target
            assert other.target not in one.reads


def check_values(graph, pattern, plan):
    """Check that every action finds the values of the frames that its edges read."""
    found = {(name, 0): 0 for name in graph.by_name}

    def run(action, frame):
        if not action.work.finishes:
            found[action.target] = frame
        for (source, target), buffer in zip(action.work.edges, action.sources, strict=True):
            wanted = graph.node(source).last_update(frame - pattern[source, target])
            assert buffer[0] == source and found[buffer] == wanted
        if action.begun:
            assert found[action.begun] == frame
        if action.previous:
            wanted = graph.node(action.work.node).last_update(frame - 1)
            assert found[action.previous] == wanted
        if action.work.finishes:
            assert graph.node(action.work.node).updates_at(frame)
            found[action.target] = frame

    for action in plan.begin:
        run(action, 1)
    for frame in range(1, 3 * plan.period + 1):
        images, respond, output, settle = plan.frames[frame % plan.period]
        found.update(dict.fromkeys(images, frame))
        for action in respond:
            run(action, frame)
        assert found[output] == graph.node(graph.output).last_update(frame)
        settled = frame_schedule(graph, pattern, frame % graph.hyperperiod).settle
        for i, action in enumerate(settle):
            run(action, frame + (i >= len(settled)))
        if frame % plan.period == 0:
            assert settle[len(settled):] == plan.begin


@pytest.mark.parametrize('graph', [FIGURE_2, SR, EVERY_LAYER])
def test_all_work_finds_its_values_in_their_buffers_under_every_pattern(graph):
    for pattern in valid_patterns(graph):
        plan = BufferPlan(graph, pattern)
        check_halves(plan)
        check_values(graph, pattern, plan)


@examples(60)
@given(scheduled_networks(), st.data())
def test_all_work_finds_its_values_at_any_rates(graph, data):
    patterns = list(valid_patterns(graph))
    pattern = patterns[data.draw(st.integers(0, len(patterns) - 1))]
    plan = BufferPlan(graph, pattern, stacks_of(graph))
    check_halves(plan)
    check_values(graph, pattern, plan)


def test_without_a_schedule_two_buffers_alternate():
    plan = BufferPlan(DEEP, newest_image_pattern(DEEP))
    assert set(plan.counts.values()) == {1, 2} and plan.period == 2
    # Nothing reads the output or the image of an earlier frame.
    assert plan.counts['command'] == plan.counts['image'] == 1


def test_a_sequential_rollout_needs_one_buffer_a_node():
    plan = BufferPlan(DEEP, sequential_pattern(DEEP))
    assert set(plan.counts.values()) == {1} and plan.period == 1


def groups_of(graph, pattern, half='settle', frame=1):
    network = RolloutNetwork(graph, pattern)
    stacks = stacks_of(network.graph)
    plan = BufferPlan(network.graph, pattern, stacks)

    def kind(action):
        edges = [edge for edge in network.graph.edges if edge.target == action.work.node]
        return (edges[0].transform, str(edges[0].options)) if len(edges) == 1 else None

    found = grouped(getattr(plan.frames[frame % plan.period], half), kind,
                    places_of(stacks, plan.counts))
    return [[action.work.node for action in group] for group in found]


def test_a_chain_of_equal_layers_is_one_group_where_it_streams():
    groups = groups_of(DEEP, newest_image_pattern(DEEP))
    assert [f'layer{i}' for i in range(1, 25)] in groups
    assert sorted(map(len, groups)) == [1, 1, 24]
    groups = groups_of(DEEP, sequential_pattern(DEEP), 'respond')
    assert set(map(len, groups)) == {1}


def chain(shapes, **more):
    names = list(shapes)
    return graph_from_data({
        'nodes': {name: {'shape': shape, **more.get(name, {})} for name, shape in shapes.items()},
        'edges': [{'source': u, 'target': v} for u, v in zip(names, names[1:])],
        'output': names[-1]})


def test_nodes_apart_in_memory_or_at_other_rates_are_no_group():
    graph = chain({'x': [4], 'a': [3], 'b': [3], 'c': [3], 'd': [5], 'e': [3], 'f': [3]})
    # d -> e is another product; e -> f reads and writes what lies behind.
    pattern = newest_image_pattern(graph)
    assert sorted(groups_of(graph, pattern)) == [['a'], ['b', 'c'], ['d'], ['e'], ['f']]
    slow = with_schedule(graph, {'c': (2, 0)})
    assert sorted(groups_of(slow, pattern, frame=2)) == [['a'], ['b'], ['c'], ['d'], ['e'], ['f']]
