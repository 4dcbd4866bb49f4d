"""Graph files: what is read, and the sentence for everything that is not."""

from pathlib import Path

from graphs import EVERY_LAYER
import pytest
from stream_agent.theory.graph import graph_from_data, graph_to_data, GraphError, load_graph
import yaml

GRAPHS = Path(__file__).parents[2] / 'config' / 'graphs'
SMALL = """
nodes:
  image: {shape: [1, 8, 8]}
  command: {shape: [2], activation: tanh}
edges:
  - {source: image, target: command, transform: dense}
output: command
"""


def load(tmp_path, text):
    path = tmp_path / 'small.yaml'
    path.write_text(text)
    return load_graph(path)


@pytest.mark.parametrize('path', sorted(GRAPHS.glob('*.yaml')), ids=lambda path: path.stem)
def test_shipped_graphs_are_read(path):
    graph = load_graph(path)
    assert graph.inputs == ('image',)
    assert graph.node(graph.output).shape == (2,)


def test_data_and_back_is_the_same_graph():
    text = yaml.safe_dump(graph_to_data(EVERY_LAYER), sort_keys=False)
    assert graph_from_data(yaml.safe_load(text)) == EVERY_LAYER


def test_an_exponent_without_a_point_is_a_number(tmp_path):
    graph = load(tmp_path, SMALL.replace('dense}', 'dense, scale: 1e-3}'))
    assert graph.edges[0].options == {'scale': 0.001}


@pytest.mark.parametrize('change, sentence', [
    (('source: image', 'source: imgae'),
     "edges[0].source: no node named 'imgae'; nodes are image, command"),
    (('target: command', 'target: wheel'),
     "edges[0].target: no node named 'wheel'; nodes are image, command"),
    (('output: command', 'output: steering'),
     "output: no node named 'steering'; nodes are image, command"),
    (('output: command', ''), "'output' is missing; the keys are nodes, edges, output"),
    (('shape: [2]', 'shape: [2, 3]'),
     'nodes.command.shape: [2, 3] is neither [features] nor [channels, height, width] with '
     'positive integers'),
    (('shape: [2]', 'shape: [true]'),
     'nodes.command.shape: [True] is neither [features] nor [channels, height, width] with '
     'positive integers'),
    (('shape: [2]', 'shape: 2'),
     "nodes.command.shape: '2' is not a list; write [features] or [channels, height, width]"),
    (('activation', 'activaton'),
     "nodes.command: 'activaton' means nothing here; the keys are shape, activation, "
     'normalisation, cell'),
    (('shape: [2], ', ''),
     "nodes.command: 'shape' is missing; the keys are shape, activation, normalisation, cell"),
    (('command: {', 'image: {'), "line 4: 'image' stands twice; leave one of them out"),
    (('  - {source: image, target: command, transform: dense}',
      '  - {source: image, target: command}\n  - {source: image, target: command}'),
     "edges[1]: 'image->command' stands twice; leave one of them out"),
    (('source: image', 'source: command'),
     'nodes.command: not reachable from an input; inputs are image'),
    (('  - {source: image, target: command, transform: dense}', '  []'),
     'edges: there are none; a network has at least one'),
    (('transform: dense', 'streams: perhaps'),
     "edges[0].streams: 'perhaps' is neither true nor false"),
    (('{source: image, target: command, transform: dense}', '7'),
     'edges[0]: a map with the keys source, target is expected here'),
    (('shape: [2]', 'shape: &a [2], cell: *a'),
     'line 4: aliases (*) are not read; write the value out'),
    (('  command: {', '  left-hand: {shape: [2]}\n  command: {'),
     "nodes.left-hand: a name is made of letters, digits and '_'"),
])
def test_every_mistake_says_place_fault_and_remedy(tmp_path, change, sentence):
    with pytest.raises(GraphError) as error:
        load(tmp_path, SMALL.replace(*change))
    assert str(error.value) == f'{tmp_path / "small.yaml"}: {sentence}'


def test_lists_in_the_wrong_place(tmp_path):
    with pytest.raises(GraphError) as error:
        load(tmp_path, 'nodes: []\nedges: []\noutput: a')
    assert str(error.value).endswith(
        'nodes is a map from names to settings, and edges is a list')


def test_a_file_that_is_no_yaml(tmp_path):
    with pytest.raises(GraphError, match='small.yaml: not YAML: '):
        load(tmp_path, 'nodes: [')


def test_a_tag_that_would_execute_code_is_refused(tmp_path):
    with pytest.raises(GraphError, match='not YAML: could not determine a constructor'):
        load(tmp_path, SMALL + 'more: !!python/object/apply:os.getcwd []')


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(GraphError, match='the file is over 1 MiB; a graph takes a few KiB'):
        load(tmp_path, SMALL + '#' * 2**20)


def test_a_cycle_without_an_input_is_no_network():
    with pytest.raises(GraphError) as error:
        graph_from_data({'nodes': {'a': {'shape': [1]}, 'b': {'shape': [1]}},
                         'edges': [{'source': 'a', 'target': 'b'},
                                   {'source': 'b', 'target': 'a'}], 'output': 'b'})
    assert str(error.value) == 'nodes.a: not reachable from an input; inputs are missing'
