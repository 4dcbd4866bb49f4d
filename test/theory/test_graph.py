"""Nodes, edges and graphs: what they may be, and that data and back is the same graph."""

import json
from pathlib import Path

from hypothesis import given, strategies as st
import pytest
from stream_agent.cli.arguments import shipped_graphs
from stream_agent.graph_files.graph_file import graph_from_data, load_graph, with_copies
from stream_agent.theory.counting import count_valid_patterns
from stream_agent.theory.enumeration import valid_patterns
from stream_agent.theory.graph import (
    EdgeSpec, graph_to_data, GraphError, GraphSpec, NodeSpec, with_schedule)
from stream_agent.theory.information import first_response
from stream_agent.theory.patterns import (
    edges_of, sequential_pattern, streaming_edges, streaming_pattern)
from stream_agent.theory.rollout import inference_factor
from support.graphs import EVERY_LAYER
from support.strategies import examples
import yaml

GRAPHS = Path(__file__).parents[2] / 'config' / 'graphs'
SHIPPED = [GRAPHS / f'{name}.yaml' for name in shipped_graphs()]
# What graphs read that do not read an image alone.
SEVERAL = {'scan': ('scan',), 'scan_image': ('image', 'scan'), 'odometry': ('image', 'odometry'),
           'aware': ('image', 'last', 'age')}
# Further nodes in the two blocks of DSR0 ... DSR6.
BLOCKS = [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3)]


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_shipped_graphs_are_read(path):
    graph = load_graph(path)
    assert graph.inputs == SEVERAL.get(path.stem, ('image',))
    assert path.read_text().startswith('# '), 'what it is stands in the first line'
    sequential_pattern(graph)


@pytest.mark.parametrize('name', ['lane', 'gated_policy', *SEVERAL])
def test_policies_give_a_command(name):
    graph = load_graph(GRAPHS / f'{name}.yaml')
    assert graph.output == 'command'
    assert graph.node('command').shape == (2,)


def dsr_edges(a, b):
    """Return the edges of DSR as SR18 tells them."""
    block_1 = ['h1', *(f'h1{i + 1}' for i in range(a))]
    block_2 = ['h2', *(f'h2{i + 1}' for i in range(b))]
    dense = {(u, v) for block in (block_1, block_2) for i, u in enumerate(block)
             for v in block[i + 1:]}
    return (dense | {('image', 'h1'), ('hd', 'out'), ('h1', 'h1')}
            | {(u, 'h2') for u in block_1} | {(u, 'hd') for u in block_2})


@pytest.mark.parametrize('k', range(7))
def test_dsr(k):
    graph = load_graph(GRAPHS / f'dsr{k}.yaml')
    assert set(edges_of(graph)) == dsr_edges(*BLOCKS[k])
    assert len(graph.edges) == (5, 7, 9, 12, 15, 19, 23)[k]
    assert count_valid_patterns(graph) == 2 ** (len(graph.edges) - 1)
    assert streaming_edges(sequential_pattern(graph)) == ['h1->h1']
    sequential, streaming = sequential_pattern(graph), streaming_pattern(graph)
    assert inference_factor(graph, streaming) == 1
    assert inference_factor(graph, sequential) == 4 + k
    assert first_response(graph, streaming) == (4, 4)
    assert first_response(graph, sequential) == (1, 4 + k)


def test_gtsrb_is_dsr4_without_recurrence():
    graph = load_graph(GRAPHS / 'gtsrb_dsr4.yaml')
    assert set(edges_of(graph)) == dsr_edges(*BLOCKS[4]) - {('h1', 'h1')}
    assert graph.node('out').shape == (43,)


@pytest.mark.parametrize('name, edges, valid, factors', [
    ('mnist_ff', 'image->h1 h1->h2 h2->out', 8, {1: 2, 2: 4, 3: 2}),
    ('mnist_s', 'image->h1 h1->h2 h2->out h1->out', 16, {1: 2, 2: 10, 3: 4}),
    ('mnist_sr', 'image->h1 h1->h2 h2->out h1->out h1->h1', 16, {1: 2, 2: 10, 3: 4})])
def test_mnist(name, edges, valid, factors):
    graph = load_graph(GRAPHS / f'{name}.yaml')
    assert [edge.name for edge in graph.edges] == edges.split()
    found = [inference_factor(graph, pattern) for pattern in valid_patterns(graph)]
    assert len(found) == count_valid_patterns(graph) == valid
    assert {factor: found.count(factor) for factor in sorted(found)} == factors


NAMES = ['image', 'a', 'b_1', 'Mixed', 'on', 'null', 'e1']
LABELS = st.sampled_from(['', 'left', 'w_2'])
CHANCES = st.floats(0, 1, exclude_max=True)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('$a{1..3}:-># ', max_size=8) | st.sampled_from(['true', '1e3', '1', 'h{1..2}']),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from('pqr'), inner, max_size=2), max_leaves=4)


@st.composite
def graphs(draw):
    """Draw a graph with any settings and options, one input first."""
    names = draw(st.permutations(NAMES))[:draw(st.integers(2, len(NAMES)))]
    nodes = [NodeSpec(names[0], draw(st.sampled_from([None, (3,), (1, 8, 8)])))]
    for name in names[1:]:
        period = draw(st.sampled_from([1, 2, 4]))
        nodes.append(NodeSpec(
            name, draw(st.sampled_from([None, (4,), (4, 2, 2)])), draw(st.sampled_from([0, 4])),
            draw(st.sampled_from(['relu', 'identity'])), draw(st.sampled_from(['none', 'layer'])),
            draw(LABELS), draw(CHANCES), draw(st.floats(0, 9)), period,
            draw(st.integers(0, period - 1))))
    pairs = [(names[draw(st.integers(0, i))], v) for i, v in enumerate(names[1:])]
    more = st.tuples(st.sampled_from(names), st.sampled_from(names[1:]))
    pairs += [pair for pair in draw(st.sets(more, max_size=4)) if pair not in pairs]
    edges = [EdgeSpec(
        u, v, draw(st.sampled_from(['dense', 'identity', 'mine:Own'])), draw(st.booleans()),
        draw(st.sampled_from(['none', 'layer'])), draw(CHANCES), draw(st.floats(0, 9)),
        draw(LABELS), draw(LABELS),
        draw(st.dictionaries(st.sampled_from(['kernel', 'stride', 'place', 'x']), PLAIN)))
        for u, v in pairs]
    fed = sorted({edge.target for edge in edges})
    return GraphSpec(tuple(nodes), tuple(edges), draw(st.sampled_from(fed)))


@examples(25)
@given(graphs())
def test_data_and_back_is_the_same_graph(graph):
    data = graph_to_data(graph)
    assert graph_from_data(data) == graph
    assert graph_from_data(json.loads(json.dumps(data))) == graph


@examples(25)
@given(graph=graphs())
def test_a_file_and_back_is_the_same_graph(tmp_path_factory, graph):
    if {node.name for node in graph.nodes} <= {name for edge in edges_of(graph) for name in edge}:
        path = tmp_path_factory.getbasetemp() / 'back.yaml'
        path.write_text(json.dumps(graph_to_data(graph)))
        assert load_graph(path) == graph


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_shipped_graphs_and_back(path):
    graph = load_graph(path)
    assert graph_from_data(json.loads(json.dumps(graph_to_data(graph)))) == graph


def test_every_layer_and_back():
    text = yaml.safe_dump(graph_to_data(EVERY_LAYER), sort_keys=False)
    assert graph_from_data(yaml.safe_load(text)) == EVERY_LAYER


def test_several_frames_of_delay_are_copy_nodes():
    def graph(streams):
        return graph_from_data({'edges': [
            'u->v', {'source': 'v', 'target': 'w', 'streams': streams, 'kernel': 3}]})
    assert graph(3) == with_copies(graph(True), {('v', 'w'): 3})
    assert len(graph(3).nodes) == 5
    assert first_response(graph(3), sequential_pattern(graph(3))).frame == 1 + 3
    assert graph_from_data(graph_to_data(graph(3))) == graph(3)


def test_places():
    graph = graph_from_data({'nodes': {'u': None, 'v': {}}, 'edges': ['u->v', 'v->v'],
                             'output': 'v'})
    assert [node.place for node in graph.nodes] == ['nodes.u', 'nodes.v']
    assert [edge.place for edge in graph.edges] == ['edges[0]', 'edges[1]']
    assert NodeSpec('u').place == 'nodes.u'
    assert EdgeSpec('u', 'v').place == 'edges.u->v'


@pytest.mark.parametrize('settings, sentence', [
    ({'dropout': 1}, "dropout of 'v' is 1; it has to be a probability from 0 to below 1"),
    ({'dropout': -0.1}, "dropout of 'v' is -0.1; it has to be a probability from 0 to below 1"),
    ({'dropout': True}, "dropout of 'v' is true; it has to be a probability from 0 to below 1"),
    ({'dropout': float('nan')},
     "dropout of 'v' is NaN; it has to be a probability from 0 to below 1"),
    ({'noise': -1}, "noise of 'v' is -1; it has to be a standard deviation, 0 or more"),
    ({'noise': float('inf')},
     "noise of 'v' is Infinity; it has to be a standard deviation, 0 or more"),
    ({'channels': -1},
     "channels of 'v' is -1; it has to be a whole number, or 0 if the edges say how many"),
    ({'channels': True},
     "channels of 'v' is true; it has to be a whole number, or 0 if the edges say how many"),
    ({'channels': 3, 'shape': (2, 4, 4)},
     "channels of 'v' is 3, but its shape is [2, 4, 4]; leave one of them out"),
    ({'period': 0}, "period of 'v' is 0; it has to be a whole number of frames from 1 to 1000"),
    ({'period': 2.0},
     "period of 'v' is 2.0; it has to be a whole number of frames from 1 to 1000"),
    ({'period': 2, 'offset': 2},
     "offset of 'v' is 2; it has to be below the period, which is 2"),
    ({'offset': -1},
     "offset of 'v' is -1; it has to be a whole number of frames, from 0 to below the period"),
    ({'shape': (2, 3, 1, 1)}, "shape of 'v' is [2, 3, 1, 1]; it has to be [features], [tokens, "
     'features] or [channels, height, width], all positive whole numbers'),
    ({'body': 'relu'}, "body of 'v' is 'relu'; it has to be a list of operations, each {name, "
     'kind, of, and the options of its kind}'),
    ({'activation': None},
     "activation of 'v' is empty; it has to be the name of one, such as relu"),
    ({'cell': 3}, "cell of 'v' is 3; it has to be the name of one, such as gilr"),
    ({'name': '2nd'}, "'2nd' is not a name for a node; use letters, digits and '_', with no "
     'digit in front'),
])
def test_nodes_that_cannot_be(settings, sentence):
    with pytest.raises(GraphError) as error:
        NodeSpec(**{'name': 'v', 'place': 'here', **settings})
    assert str(error.value) == f'here: {sentence}'


@pytest.mark.parametrize('settings, sentence', [
    ({'dropout': 1.5}, "dropout of 'u->v' is 1.5; it has to be a probability from 0 to below 1"),
    ({'noise': 'much'},
     "noise of 'u->v' is 'much'; it has to be a standard deviation, 0 or more"),
    ({'streams': 2}, "streams of 'u->v' is 2; it has to be true or false"),
    ({'share': 'a b'},
     "share of 'u->v' is 'a b'; it has to be a label of letters, digits and '_'"),
    ({'product': 1}, "product of 'u->v' is 1; it has to be a label of letters, digits and '_'"),
    ({'transform': None},
     "transform of 'u->v' is empty; it has to be the name of one, such as dense"),
])
def test_edges_that_cannot_be(settings, sentence):
    with pytest.raises(GraphError) as error:
        EdgeSpec('u', 'v', place='here', **settings)
    assert str(error.value) == f'here: {sentence}'


def spec(edges, output='b', names='', **settings):
    pairs = [edge.split('->') for edge in edges.split()]
    names = names.split() or dict.fromkeys(name for pair in pairs for name in pair)
    return GraphSpec(tuple(NodeSpec(name, **settings.get(name, {})) for name in names),
                     tuple(EdgeSpec(*pair) for pair in pairs), output)


@pytest.mark.parametrize('arguments, sentence', [
    (('a->b a->b',), "edges.a->b: the edge 'a->b' is defined twice; leave one of them out"),
    (('a->b', 'b', 'a b a'), "nodes.a: the node 'a' is defined twice; leave one of them out"),
    (('image->b', 'b', 'imgae b'),
     "edges.image->b: no node named 'image'; did you mean 'imgae'?"),
    (('a->b', 'x'), "graph: output: no node named 'x'; nodes are a, b"),
    (('a->b', 'a'), "graph: output: 'a' is an input; name a node that is computed"),
    (('', 'a', 'a'), 'graph: there are no edges; a network has at least one'),
    (('a->b b->a',), "nodes.a: 'a' is not reachable from an input; add an edge that leads to it "
     '(there are no inputs, which are the nodes without incoming edges)'),
    (('i->b a->a',), "nodes.a: 'a' is not reachable from an input; add an edge that leads to it "
     '(inputs are i)'),
])
def test_graphs_that_cannot_be(arguments, sentence):
    with pytest.raises(GraphError) as error:
        spec(*arguments)
    assert str(error.value) == sentence


def test_schedules_that_cannot_be():
    with pytest.raises(GraphError) as error:
        spec('a->b', a={'period': 2})
    assert str(error.value) == ("nodes.a: period of 'a' is 2, but an input is new in every frame; "
                                'leave it out')
    with pytest.raises(GraphError) as error:
        spec('a->b b->c', 'c', b={'period': 999}, c={'period': 1000})
    assert str(error.value) == (
        "nodes.c: with the period 1000 of 'c', the periods repeat after 999000 frames together, "
        'over 1000; take periods that divide each other')
    with pytest.raises(GraphError) as error:
        with_schedule(spec('a->deep', 'deep'), {'depe': (2, 0)})
    assert str(error.value) == "schedule: no node named 'depe'; did you mean 'deep'?"
