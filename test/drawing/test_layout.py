"""Layouts of graphs: what is never drawn across what, for the shipped graphs and for any other."""

from itertools import combinations

from hypothesis import given, settings, strategies
import numpy as np
import pytest
from stream_agent.drawing.graph_picture import sizes
from stream_agent.drawing.layers import arrange, cost, feedback_edges, links_of
from stream_agent.drawing.layout import lay_out
from stream_agent.drawing.plot_style import DrawingError
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.share import share_folder
from stream_agent.theory.graph import EdgeSpec, GraphSpec, NodeSpec
from stream_agent.theory.information import delay_edges, memory_edges
from stream_agent.theory.patterns import edges_of, update_order
from support.curves import sample
from support.graphs import bare_graph, EVERY_LAYER, FF, FIGURE_2, SR


def dense_blocks(first, second):
    """Return the graph of a DSR network of SR18: in a block everything feeds what follows."""
    one = ['h1', *(f'h1{i}' for i in range(1, first + 1))]
    two = ['h2', *(f'h2{i}' for i in range(1, second + 1))]
    pairs = [('img', 'h1'), ('h1', 'h1'), ('hd', 'out')]
    for block, after in ((one, 'h2'), (two, 'hd')):
        pairs += [*combinations(block, 2), *((u, after) for u in block)]
    return bare_graph(' '.join(f'{u}->{v}' for u, v in pairs), 'out', 'h1->h1')


def thirty_nodes():
    """Return a graph with skips over several layers, and edges that lead back."""
    pairs = [(f'n{max(0, i - 1 - i % 4)}', f'n{i}') for i in range(1, 30)]
    pairs += [(f'n{i}', f'n{i + 7}') for i in range(0, 22, 2)]
    back = [('n12', 'n5'), ('n29', 'n20'), ('n29', 'n2'), ('n8', 'n8')]
    names = [f'{u}->{v}' for u, v in dict.fromkeys(pairs + back)]
    return bare_graph(' '.join(names), 'n29', ' '.join(f'{u}->{v}' for u, v in back))


LANE = load_graph(share_folder() / 'config' / 'graphs' / 'lane.yaml')
GRAPHS = {'figure 2': FIGURE_2, 'SR': SR, 'FF': FF, 'every layer': EVERY_LAYER, 'lane': LANE,
          'DSR6': dense_blocks(3, 3), 'thirty nodes': thirty_nodes()}


@strategies.composite
def any_graph(draw):
    """Return a graph with skips, self-edges and edges that lead back, marked or not."""
    count = draw(strategies.integers(2, 10))
    names = [f'v{i}' for i in range(count)]
    pairs = {(names[draw(strategies.integers(0, i - 1))], names[i]) for i in range(1, count)}
    pairs |= draw(strategies.sets(strategies.tuples(
        strategies.sampled_from(names), strategies.sampled_from(names[1:])), max_size=14))
    marked = draw(strategies.sets(strategies.sampled_from(sorted(pairs))))
    return GraphSpec(tuple(NodeSpec(name, (3,)) for name in names), tuple(
        EdgeSpec(u, v, streams=(u, v) in marked) for u, v in sorted(pairs)),
        draw(strategies.sampled_from(names[1:])))


def inside(points, box):
    """Return which points lie within a box, its border left out."""
    return ((np.abs(points[:, 0] - box.x) < box.width / 2 - 1e-6)
            & (np.abs(points[:, 1] - box.y) < box.height / 2 - 1e-6))


def check(graph):
    """Hold a layout against everything that is promised about it."""
    layout = lay_out(graph, sizes(graph))
    back = feedback_edges(graph)
    assert list(layout.curves) == edges_of(graph)
    for (u, v), points in layout.curves.items():
        drawn = sample(points)
        assert not [name for name, box in layout.boxes.items() if inside(drawn, box).any()]
        source, target = layout.boxes[u], layout.boxes[v]
        assert points[0][0] == pytest.approx(source.x + source.width / 2)
        assert points[-1][0] == pytest.approx(target.x - target.width / 2)
        assert abs(points[0][1] - source.y) < source.height / 2
        assert abs(points[-1][1] - target.y) < target.height / 2
        # Arrowheads point to the right.
        assert points[-1][0] > points[-2][0]
        assert points[-1][1] == pytest.approx(points[-2][1])
        if (u, v) not in back:
            assert points[0][0] < points[-1][0]
            assert (np.diff(drawn[:, 0]) > 0).all()
        assert (drawn >= -1e-6).all()
        assert (drawn <= np.array([layout.width, layout.height]) + 1e-6).all()
    # No two edges leave a node, or arrive at it, at the same point.
    for end in (0, -1):
        ports = [points[end] for points in layout.curves.values()]
        assert all(np.abs(one - other).max() > 0.03 for one, other in combinations(ports, 2))
    for one, other in combinations(layout.boxes.values(), 2):
        assert (abs(one.x - other.x) > (one.width + other.width) / 2 + 0.1
                or abs(one.y - other.y) > (one.height + other.height) / 2 + 0.1)


def check_apart(graph):
    """Hold edges against each other: no two of them look like one."""
    curves = [sample(points) for points in lay_out(graph, sizes(graph)).curves.values()]
    for one, other in combinations(curves, 2):
        distance = np.hypot(*(one[:, None] - other[None]).transpose(2, 0, 1)).min(axis=1)
        assert (distance < 0.02).mean() < 0.5


@pytest.mark.parametrize('name', GRAPHS)
def test_no_edge_crosses_a_node(name):
    check(GRAPHS[name])
    check_apart(GRAPHS[name])


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(any_graph())
def test_no_edge_crosses_a_node_whatever_the_graph(graph):
    check(graph)
    check_apart(graph)


@settings(max_examples=60, deadline=None)
@given(any_graph())
def test_without_the_edges_that_lead_back_there_is_no_cycle(graph):
    back = feedback_edges(graph)
    order = update_order(graph, {edge: int(edge in back) for edge in edges_of(graph)})
    assert sorted(order) == sorted(graph.by_name)


@pytest.mark.parametrize('name', GRAPHS)
def test_edges_lead_back_that_the_graph_file_marks(name):
    assert feedback_edges(GRAPHS[name]) == (
        memory_edges(GRAPHS[name]) - delay_edges(GRAPHS[name]))


@pytest.mark.parametrize('name, crossings', [
    ('figure 2', 0), ('SR', 0), ('FF', 0), ('every layer', 0), ('lane', 0), ('DSR6', 2)])
def test_few_edges_cross(name, crossings):
    """Each block of DSR6 is a complete graph of five nodes, which cannot do without a crossing."""
    layers = arrange(GRAPHS[name])
    assert cost(layers.order, links_of(layers.chains))[0] == crossings


def test_a_chain_is_a_straight_line():
    layout = lay_out(FF, sizes(FF))
    assert len({round(y, 6) for points in layout.curves.values() for y in points[:, 1]}) == 1


def test_a_layout_is_the_same_every_time():
    one, other = (lay_out(GRAPHS['thirty nodes'], sizes(GRAPHS['thirty nodes']))
                  for _ in range(2))
    assert one.boxes == other.boxes


def test_a_graph_whose_edges_pass_too_many_layers_is_refused():
    names = [f'n{i}' for i in range(40)]
    graph = bare_graph(' '.join(f'{u}->{v}' for u, v in combinations(names, 2)), 'n39')
    with pytest.raises(DrawingError) as error:
        lay_out(graph, sizes(graph))
    assert str(error.value) == ('graph: 40 nodes and 780 edges take 10700 places in a drawing, '
                                'over 4000; draw a smaller graph')
