"""What can be done before a frame's image is there, for the answer, and after it."""

import random

import pytest
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.frame_schedule import frame_schedule, NodeWork
from stream_agent.theory.graph import with_schedule
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
from stream_agent.theory.rollout import response_cone
from support.graphs import bare_graph, EVERY_LAYER, FIGURE_2, SR

GRAPHS = {'figure 2': FIGURE_2, 'SR': SR, 'every layer': EVERY_LAYER}


def schedules(graph, count=3):
    """Yield the graph, and the graph under random schedules."""
    yield graph
    generator = random.Random(graph.output)
    for _ in range(count):
        periods = {node.name: generator.choice([1, 1, 2, 3]) for node in graph.nodes
                   if node.name not in graph.inputs}
        yield with_schedule(graph, {name: (period, generator.randrange(period))
                                    for name, period in periods.items()})


def cases(name):
    for graph in schedules(GRAPHS[name]):
        for pattern in valid_patterns(graph):
            for frame in range(1, graph.hyperperiod + 1):
                yield graph, pattern, frame


def summed(graph, name):
    """Return the sources whose terms a node sums; those of a cell's self-edge are none."""
    return sorted(edge.source for edge in graph.edges if edge.target == name
                  and not (graph.node(name).cell and edge.source == name))


@pytest.mark.parametrize('name', GRAPHS)
def test_every_term_of_every_computed_node_is_summed_once(name):
    for graph, pattern, frame in cases(name):
        held, *parts = frame_schedule(graph, pattern, frame)
        found = {}
        for work in (work for part in parts for work in part):
            found.setdefault(work.node, []).extend(source for source, _ in work.edges)
        computed = [node.name for node in graph.nodes
                    if node.name not in graph.inputs and node.updates_at(frame)]
        assert {node: sorted(sources) for node, sources in found.items()} == {
            node: summed(graph, node) for node in computed}
        assert sorted([*held, *computed, *graph.inputs]) == sorted(graph.by_name)


@pytest.mark.parametrize('name', GRAPHS)
def test_whatever_a_task_reads_is_there(name):
    for graph, pattern, frame in cases(name):
        held, ahead, respond, settle = frame_schedule(graph, pattern, frame)
        there, begun = set(held), set()
        for part, inputs in ((ahead, set()), (respond, set(graph.inputs)), (settle, set())):
            there |= inputs
            for work in part:
                assert all(pattern[edge] or edge[0] in there for edge in work.edges)
                assert work.begun == (work.node in begun)
                (there if work.finishes else begun).add(work.node)
            if part is respond:
                assert graph.output in there


@pytest.mark.parametrize('name', GRAPHS)
def test_the_answer_waits_for_nothing_but_the_image(name):
    """Every term left for the answer depends on this frame's image, alone or in a product."""
    for graph, pattern, frame in cases(name):
        schedule = frame_schedule(graph, pattern, frame)
        fresh = set(graph.inputs)
        for node in response_cone(graph, pattern, frame):
            if any(not pattern[u, node] and u in fresh for u in summed(graph, node)):
                fresh.add(node)
        products = {edge.name: edge.product for edge in graph.edges}
        for work in schedule.respond:
            waiting = {edge for edge in work.edges if not pattern[edge] and edge[0] in fresh}
            labels = {products['->'.join(edge)] for edge in waiting} - {''}
            assert work.node in fresh and waiting
            assert all(products['->'.join(edge)] in labels for edge in set(work.edges) - waiting)


def test_skips_are_summed_before_the_image_is_there():
    graph = bare_graph('img->h1 h1->h2 h2->out h1->out img->out', 'out')
    held, ahead, respond, settle = frame_schedule(graph, newest_image_pattern(graph), 1)
    assert ahead == (NodeWork('out', (('h2', 'out'), ('h1', 'out')), finishes=False),)
    assert respond == (NodeWork('out', (('img', 'out'),), begun=True),)
    assert [work.node for work in settle] == ['h1', 'h2']


def test_a_sequential_rollout_can_only_begin_with_its_memory():
    held, ahead, respond, settle = frame_schedule(SR, sequential_pattern(SR), 1)
    assert ahead == (NodeWork('h1', (('h1', 'h1'),), finishes=False),)
    assert [work.node for work in respond] == ['h1', 'h2', 'out']
    assert not held and not settle
