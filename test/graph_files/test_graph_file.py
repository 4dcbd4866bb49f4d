"""Graph files: what they may say, held against graphs that say the same at length."""

from itertools import product
import shutil
import subprocess

from hypothesis import given, strategies as st
import pytest
from stream_agent.graph_files import located_yaml
from stream_agent.graph_files.graph_file import graph_from_data, load_graph
from stream_agent.graph_files.shorthand import read_names
from stream_agent.theory.graph import EdgeSpec, GraphError, GraphSpec, NodeSpec
from stream_agent.theory.patterns import edges_of
from support.strategies import examples
import yaml


@pytest.fixture(params=['CSafeLoader', 'SafeLoader'])
def load(request, tmp_path, monkeypatch):
    """Write files and load the first one, with either of YAML's parsers."""
    monkeypatch.setattr(located_yaml, 'PARSER', getattr(yaml, request.param))

    def write_and_load(text, **others):
        for name, other in others.items():
            path = tmp_path / f'{name.replace("__", "/")}.yaml'
            path.parent.mkdir(exist_ok=True)
            path.write_text(other)
        (tmp_path / 'small.yaml').write_text(text)
        return load_graph(tmp_path / 'small.yaml')
    return write_and_load


def arrows(graph):
    return [edge.name for edge in graph.edges]


FIG2 = GraphSpec(tuple(NodeSpec(name) for name in 'uvw'),
                 tuple(EdgeSpec(*pair) for pair in ('uv', 'vw', 'vv', 'uw', 'wv')), 'w')


@pytest.mark.parametrize('text', [
    'edges: [u->v, v->w, v->v, u->w, w->v]\noutput: w',
    'nodes: [u, v, w]\nedges: [u->v, v -> w, v->v, u->w, w->v]\noutput: w',
    "nodes: {u: , v: , w: {}}\nedges:\n- 'u->v'\n- v->w\n- v->v\n- u->w\n- w->v\noutput: w",
    'edges: [u->v->w, v->v, u->w, {chain: [w, v]}]\noutput: w',
    'output: w\nedges:\n- {source: u, target: v}\n- {source: v, target: [w, v]}\n- u->w\n- w->v',
])
def test_a_small_graph_in_many_ways(load, text):
    assert load(text) == FIG2


def test_everything_that_a_node_and_an_edge_may_say(load):
    graph = load("""
nodes:
  u: {shape: [1, 2, 3]}
  v: {shape: [4], channels: 4, activation: relu, normalisation: layer, cell: gilr, dropout: 0.5,
      noise: 1e-3, period: 4, offset: 3}
edges:
  - {source: u, target: v, transform: readout, streams: true, normalisation: layer, dropout: .25,
     noise: 2, share: one, product: two, kernel: 3, kind: [1, {a: on}], text: '1'}
  - {source: v, target: v, transform: identity, scale: -1.5e+2}
""")
    assert graph == GraphSpec(
        (NodeSpec('u', (1, 2, 3)),
         NodeSpec('v', (4,), 4, 'relu', 'layer', 'gilr', 0.5, 0.001, 4, 3)),
        (EdgeSpec('u', 'v', 'readout', True, 'layer', 0.25, 2, 'one', 'two',
                  {'kernel': 3, 'kind': [1, {'a': 'on'}], 'text': '1'}),
         EdgeSpec('v', 'v', 'identity', options={'scale': -150.0})), 'v')


def test_words_that_yaml_1_1_takes_for_something_else(load):
    graph = load('edges: [on->off, off->no, {source: no, target: yes, kind: 1:30}]')
    assert [node.name for node in graph.nodes] == ['on', 'off', 'no', 'yes']
    assert graph.edges[2].options == {'kind': '1:30'}


def test_groups(load):
    graph = load("""
nodes: [a, 'b{1..3}', c]
edges:
  - {dense: [a, 'b{1..2}'], transform: identity}
  - {chain: ['b{2..3}', c], streams: true}
  - {source: ['b{1..2}', a], target: [c], kernel: 3}
""")
    assert arrows(graph) == 'a->b1 a->b2 b1->b2 b2->b3 b3->c b1->c b2->c a->c'.split()
    assert [edge.transform for edge in graph.edges] == ['identity'] * 3 + ['dense'] * 5
    assert [edge.streams for edge in graph.edges] == [False] * 3 + [True] * 2 + [False] * 3
    assert [dict(edge.options) for edge in graph.edges] == [{}] * 5 + [{'kernel': 3}] * 3


@pytest.mark.parametrize('streams, pairs', [
    ('h{1..2}->g{1..2}', product(['h1', 'h2'], ['g1', 'g2'])),
    ('h->h{1..0}->g', []),
    ('h{1..0}', None)])
def test_ranges_in_arrows(streams, pairs):
    data = {'nodes': ['h', 'h1', 'h2', 'g1', 'g2', 'g'], 'edges': ['h->g', streams],
            'output': 'g'}
    if pairs is None:
        with pytest.raises(GraphError):
            graph_from_data(data)
    else:
        data['edges'][:0] = ['h->h{1..2}']
        assert edges_of(graph_from_data(data))[3:] == list(pairs)


@pytest.mark.child_process
@examples(40)
@given(st.lists(st.tuples(st.sampled_from('ab_'), st.integers(0, 12), st.integers(0, 3),
                          st.sampled_from(['', '0', '00']), st.sampled_from(['', '0'])),
                min_size=1, max_size=3))
def test_ranges_are_those_of_a_shell(parts):
    text = ''.join(f'{letter}{{{zeros}{first}..{more_zeros}{first + more}}}'
                   for letter, first, more, zeros, more_zeros in parts)
    shell = subprocess.run([shutil.which('bash'), '-c', f'echo {text}'], capture_output=True,
                           text=True, check=True)
    assert read_names('here', text) == shell.stdout.split()


def test_the_output_is_the_node_at_the_end(load):
    assert load('edges: [u->v, v->v, v->w, w->w]').output == 'w'


TEMPLATE = """
templates:
  column:
    parameters: {from: null, depth: 2, activation: relu, last: end}
    nodes:
      h{1..$depth}: {activation: $activation, period: '$depth'}
      end: {shape: [3, '$depth', '${depth}']}
    edges:
      - {source: $from, target: h1, name: '${as}/$activation/$$'}
      - {chain: ['h{1..$depth}', $last]}
"""


def test_a_block_without_a_prefix(load):
    graph = load(TEMPLATE + 'nodes: [image]\nblocks: [{template: column, with: {from: image}}]')
    assert graph == GraphSpec(
        (NodeSpec('image'), NodeSpec('h1', activation='relu', period=2),
         NodeSpec('h2', activation='relu', period=2), NodeSpec('end', (3, 2, 2))),
        (EdgeSpec('image', 'h1', options={'name': '/relu/$'}), EdgeSpec('h1', 'h2'),
         EdgeSpec('h2', 'end')), 'end')


def test_blocks_with_prefixes(load):
    graph = load(TEMPLATE + """
nodes: [image, h1, out]
edges: [image->h1, left_end->out, right_end->out]
blocks:
  - {template: column, as: left, with: {from: [image, h1], depth: 1}}
  - {template: column, as: right, with: {from: h1, activation: elu}}
""")
    assert arrows(graph) == [
        'image->h1', 'left_end->out', 'right_end->out',
        'image->left_h1', 'h1->left_h1', 'left_h1->left_end',
        'h1->right_h1', 'right_h1->right_h2', 'right_h2->right_end']
    assert graph.node('right_h2').activation == 'elu'
    assert graph.edges[6].options == {'name': 'right/elu/$'}
    assert [node.name for node in graph.nodes] == [
        'image', 'h1', 'out', 'left_h1', 'left_end', 'right_h1', 'right_h2', 'right_end']


def test_a_block_under_several_names(load):
    graph = load(TEMPLATE + """
nodes: [image, out]
blocks: [{template: column, as: 'c{1..2}', with: {from: image, depth: 1}}]
edges: ['c{1..2}_end->out']
""")
    assert arrows(graph) == ['image->c1_h1', 'c1_h1->c1_end', 'image->c2_h1', 'c2_h1->c2_end',
                             'c1_end->out', 'c2_end->out']


NESTED = """
templates:
  inner:
    parameters: [from, to]
    nodes: [h]
    edges: [{source: $from, target: h}, {source: h, target: $to}]
  outer:
    parameters: [from]
    nodes: {h: , g: }
    edges: [{source: $from, target: h}]
    blocks:
      - {template: inner, as: a, with: {from: h, to: g}}
      - {template: inner, as: b, with: {from: $from, to: a_h}}
nodes: [h, out]
edges: [h->out, x_g->out]
blocks: [{template: outer, as: x, with: {from: h}}]
"""


def test_names_belong_to_where_they_stand(load):
    """Three nodes are called h; a parameter's is that of where the block stands."""
    graph = load(NESTED)
    assert arrows(graph) == [
        'h->out', 'x_g->out', 'h->x_h', 'x_h->x_a_h', 'x_a_h->x_g', 'h->x_b_h', 'x_b_h->x_a_h']


def test_a_name_that_a_parameter_gives_to_a_node_stays(load):
    graph = load("""
templates:
  layer:
    parameters: [name, from]
    nodes: {$name: {activation: relu}}
    edges: [{source: $from, target: $name}, h1->h2]
nodes: [image, out]
blocks: [{template: layer, as: x, with: {name: 'h{1..2}', from: image}}]
edges: [h2->out, h1->out]
""")
    assert arrows(graph) == ['image->h1', 'image->h2', 'h1->h2', 'h2->out', 'h1->out']
    assert graph.node('h2').activation == 'relu'


def test_blocks_that_share(load):
    graph = load("""
templates:
  eye:
    parameters: [image]
    nodes: [a, b]
    edges: [{source: $image, target: a}, a->b, {source: b, target: b, share: own}]
nodes: [left, right, out]
blocks:
  - {template: eye, as: l, with: {image: left}, share: eye}
  - {template: eye, as: r, with: {image: right}, share: eye}
edges: [l_b->out, r_b->out]
""")
    assert [edge.share for edge in graph.edges] == [
        'eye_0', 'eye_1', 'own', 'eye_0', 'eye_1', 'own', '', '']


def test_included_files_come_first_and_once(load, tmp_path):
    graph = load('include: [parts/b.yaml, parts/a.yaml]\nedges: [y->z]\noutput: z',
                 parts__a='nodes: [x]\noutput: x',
                 parts__b='include: a.yaml\nnodes: [y, z]\nedges: [x->y]\noutput: y')
    assert [node.name for node in graph.nodes] == ['x', 'y', 'z']
    assert arrows(graph) == ['x->y', 'y->z']
    assert graph.output == 'z'
    assert [node.place for node in graph.nodes] == [
        f'{tmp_path}/parts/a.yaml:1', *[f'{tmp_path}/parts/b.yaml:2'] * 2]


def test_a_file_is_read_once_however_often_it_is_included(load):
    others = {f'f{i}': f'include: [f{i + 1}.yaml, f{i + 1}.yaml]' for i in range(30)}
    assert arrows(load('include: f0.yaml', **others, f30='edges: [u->v]')) == ['u->v']


def test_a_file_beside_the_folder_may_be_included(load, tmp_path):
    (tmp_path / 'common').mkdir()
    (tmp_path / 'common' / 'stem.yaml').write_text('edges: [u->v]')
    (tmp_path / 'graphs').mkdir()
    (tmp_path / 'graphs' / 'small.yaml').write_text('include: ../common/stem.yaml')
    assert arrows(load_graph(tmp_path / 'graphs' / 'small.yaml')) == ['u->v']


def test_places_are_those_of_the_path_as_it_is_given(load, tmp_path, monkeypatch):
    load(TEMPLATE + 'nodes:\n  image:\nblocks:\n  - {template: column, as: x,\n'
         '     with: {from: image}}\n')
    monkeypatch.chdir(tmp_path)
    graph = load_graph('small.yaml')
    assert [node.place for node in graph.nodes] == [
        'small.yaml:12', *['small.yaml:6, in the block at small.yaml:14'] * 2,
        'small.yaml:7, in the block at small.yaml:14']
    assert graph.edges[0].place == 'small.yaml:9, in the block at small.yaml:14'


def test_in_data_there_may_be_templates_too():
    data = {**yaml.safe_load(TEMPLATE), 'nodes': ['image'],
            'blocks': [{'template': 'column', 'with': {'from': 'image'}}]}
    graph = graph_from_data(data)
    assert arrows(graph) == ['image->h1', 'h1->h2', 'h2->end']
    assert graph.edges[0].place == 'templates.column.edges[0], in the block at blocks[0]'
