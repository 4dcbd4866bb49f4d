"""What no graph file may say: the place, the fault and the remedy, as whole sentences."""

from functools import reduce

from hypothesis import given, strategies as st
import pytest
from stream_agent.graph_files import located_yaml, shorthand, templates
from stream_agent.graph_files.graph_file import graph_from_data, load_graph
from stream_agent.theory.graph import GraphError, GraphSpec
from support.strategies import examples
import yaml

SMALL = """nodes:
  image: {shape: [1, 8, 8]}
  memory:
    shape: [4]
    dropout: 0.1
  command: {shape: [2], activation: tanh}
edges:
  - {source: image, target: command, transform: dense}
  - {source: image, target: memory}
  - memory->command
output: command
"""
COLUMN = """templates:
  column:
    parameters: {from: , depth: 2}
    nodes:
      h{1..$depth}: {shape: [3]}
    edges:
      - {source: $from, target: h1}
nodes: [image, out]
blocks:
  - {template: column, as: left, with: {from: image}}
edges:
  - left_h1->left_h2->out
"""
NODE_KEYS = ('the keys are shape, channels, activation, normalisation, cell, dropout, noise, '
             'period, offset, body')
ENDS = 'an edge has source and target, or dense or chain with a list of nodes'
FILE_KEYS = 'write a map with the keys include, templates, nodes, edges, blocks, output'
CLOSE = 'check that every bracket and quote is closed, and that lines are indented alike'


@pytest.fixture
def fault_of(tmp_path, monkeypatch):
    """Return the sentence about a file, as seen from its folder."""
    monkeypatch.chdir(tmp_path)

    def load(text, **others):
        for name, other in {'small': text, **others}.items():
            (tmp_path / f'{name}.yaml').write_text(other)
        with pytest.raises(GraphError) as error:
            load_graph('small.yaml')
        return str(error.value)
    return load


def changed(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize('old, new, fault', [
    # Names
    ('source: image, target: c', 'source: imgae, target: c',
     "8: no node named 'imgae'; did you mean 'image'?"),
    ('target: memory', 'target: [memory, wheels]',
     "9: no node named 'wheels'; nodes are image, memory, command"),
    ('- memory->command', '- memory->comand',
     "10: no node named 'comand'; did you mean 'command'?"),
    ('output: command', 'output: steering',
     "11: no node named 'steering'; nodes are image, memory, command"),
    ('output: command', 'output: 7', '11: no node named 7; nodes are image, memory, command'),
    ('output: command', 'output:', ''),
    ('  - memory->command\noutput: command', '',
     "1: 'output' is missing; it is one of memory, command, from which no edge leads further"),
    ('output: command', '  - {source: command, target: memory, streams: true}',
     "1: 'output' is missing; every node leads to another one, so say which it is"),
    ('  command: {', '  left-hand: {shape: [2]}\n  command: {',
     "6: 'left-hand' is not a name for a node; use letters, digits and '_', with no digit in "
     'front'),
    ('  command: {', "  '': {shape: [2]}\n  command: {",
     "6: '' is not a name for a node; use letters, digits and '_', with no digit in front"),
    ('  command: {', '  command{1..}: {',
     "6: 'command{1..}' is not a range; write one as in 'h{1..3}', with whole numbers"),
    ('  command: {', '  command{3..1}: {',
     '6: the range {3..1} counts down; write {1..3}, or {1..0} for no name'),
    ('  command: {', '  command{1..99999}: {', '6: over 10,000 names; a graph has fewer'),
    ('  command: {', '  c{1..999999999}{1..999999999}: {',
     '6: over 10,000 names; a graph has fewer'),
    ('target: memory', 'target: 3', "9: 3 is not a name; a name of letters, digits and '_' is "
     "expected, a range such as 'h{1..3}', or a list of names"),
    # Keys
    ('activation', 'activaton', "6: 'activaton' means nothing in a node; "
     "did you mean 'activation'?"),
    ('dropout: 0.1', 'size: 3', f"5: 'size' means nothing in a node; {NODE_KEYS}"),
    ('source: image, target: m', 'soruce: image, target: m',
     "9: 'soruce' means nothing in an edge; did you mean 'source'?"),
    ('transform: dense', 'steams: true',
     "8: 'steams' means nothing in an edge; did you mean 'streams'?"),
    ('target: memory', 'transform: dense', f"9: 'source' is given alone; {ENDS}"),
    ('target: memory', 'dense: [image, memory]',
     f'9: source and dense do not go together; {ENDS}'),
    ('source: image, target: memory', 'transform: dense',
     f'9: source and target are missing; {ENDS}'),
    ('output', 'ouptut', "11: 'ouptut' means nothing in a graph file; did you mean 'output'?"),
    ('nodes:\n', 'size: 3\nnodes:\n', "1: 'size' means nothing in a graph file; the keys are "
     'include, templates, nodes, edges, blocks, output'),
    # Values
    ('    shape: [4]', '    shape: [4, 0]', "4: shape of 'memory' is [4, 0]; it has to be "
     '[features], [tokens, features] or [channels, height, width], all positive whole numbers'),
    ('shape: [2]', 'shape: [true]', "6: shape of 'command' is [true]; it has to be "
     '[features], [tokens, features] or [channels, height, width], all positive whole numbers'),
    ('shape: [2]', 'shape: 2', "6: shape of 'command' is 2; it has to be "
     '[features], [tokens, features] or [channels, height, width], all positive whole numbers'),
    ('dropout: 0.1', 'dropout: 1.0',
     "5: dropout of 'memory' is 1.0; it has to be a probability from 0 to below 1"),
    ('dropout: 0.1', "dropout: '0.1'",
     "5: dropout of 'memory' is '0.1'; it has to be a probability from 0 to below 1"),
    ('dropout: 0.1', 'dropout: true',
     "5: dropout of 'memory' is true; it has to be a probability from 0 to below 1"),
    ('dropout: 0.1', 'noise: 1e999',
     "5: noise of 'memory' is Infinity; it has to be a standard deviation, 0 or more"),
    ('dropout: 0.1', 'offset: 1',
     "3: offset of 'memory' is 1; it has to be below the period, which is 1"),
    ('dropout: 0.1', 'period: 1.5',
     "5: period of 'memory' is 1.5; it has to be a whole number of frames from 1 to 1000"),
    ('{shape: [1, 8, 8]}', '{period: 2}',
     "2: period of 'image' is 2, but an input is new in every frame; leave it out"),
    ('{shape: [2], activation: tanh}', '[2]',
     f'6: [2] is not a node; write a map with the {NODE_KEYS[4:].replace("keys are", "keys")}'),
    ('transform: dense', 'streams: perhaps', "8: streams of 'image->command' is 'perhaps'; it has "
     'to be true or false, or 2 and more for so many frames'),
    ('transform: dense', 'streams: 0', "8: streams of 'image->command' is 0; write false, the "
     'source of the same frame'),
    ('transform: dense', 'streams: 1', "8: streams of 'image->command' is 1; write true, the "
     'source one frame before'),
    ('transform: dense', 'streams: 1.0', "8: streams of 'image->command' is 1.0; it has "
     'to be true or false, or 2 and more for so many frames'),
    ('transform: dense', 'streams: 20000', '7: over 10,000 edges; a graph has fewer'),
    ('transform: dense', 'share: 1',
     "8: share of 'image->command' is 1; it has to be a label of letters, digits and '_'"),
    # Twice, or not at all
    ('  command: {', '  image: {', "6: 'image' is defined twice, first at small.yaml:2; leave "
     'one of them out'),
    ('  command: {', '  imag{e..e}: {',
     "6: 'imag{e..e}' is not a range; write one as in 'h{1..3}', with whole numbers"),
    ('  command: {', "  'memory{1..0}': \n  command: {", ''),
    ('  - memory->command', '  - {source: [image, memory], target: command}',
     "10: the edge 'image->command' is already defined at small.yaml:8; leave one of them out"),
    ('target: memory', 'target: [memory, memory]',
     "9: the edge 'image->memory' is defined twice; leave one of them out"),
    ('source: image, target: memory', 'dense: [image, memory, image]',
     "9: 'image' is listed twice; dense leads from every node to every later one"),
    ('source: image, target: memory', 'source: memory, target: memory',
     "3: 'memory' is not reachable from an input; add an edge that leads to it (inputs are "
     'image)'),
    ('  - {source: image, target: memory}\n  - memory->command\n', '',
     "3: no edge leads to or from 'memory'; connect it, or leave it out"),
    # Forms
    ('- memory->command', '- memory', "10: 'memory' is not an edge; write 'source->target', or a "
     'map with the keys source and target'),
    ('- memory->command', '- memory->', "10: 'memory->' is not an edge; write 'source->target', "
     'or a map with the keys source and target'),
    ('- memory->command', '- 7', "10: 7 is not an edge; write 'u->v' or a map with the keys "
     'source and target'),
    # YAML
    ('shape: [2]', 'shape: &a [2], cell: *a', '6: anchors and aliases (&a) are not supported; '
     'write the value out'),
    ('shape: [2]', 'shape: !!python/object/apply:os.getcwd []',
     '6: tags (!!python/object/apply:os.getcwd) are not supported; leave it out'),
    ('output: command', 'output: !mine command', '11: tags (!mine) are not supported; leave it '
     'out'),
    ('output: command', 'output: command\n---\n', '12: a second document begins here; a file '
     'holds one'),
    ('shape: [2]', 'shape: ' + '[' * 50 + ']' * 50, '6: nested over 40 deep; write it flat'),
    ('shape: [2]', '[shape]: 2', '6: a key is expected here, not a list or a map; inside { } a '
     "parameter is quoted, as in '${p}'"),
    ('tanh', '\x07', "6: not YAML: the character '\\x07' is not allowed; write plain text"),
])
def test_every_mistake_says_place_fault_and_remedy(fault_of, old, new, fault):
    text = changed(SMALL, old, new)
    if fault:
        assert fault_of(text) == f'small.yaml:{fault}'
    else:
        assert load_as(text) == load_as(SMALL)


def load_as(text):
    """Load a text that has no fault; the working folder is the test's own."""
    with open('right.yaml', 'w') as file:
        file.write(text)
    return load_graph('right.yaml')


@pytest.mark.parametrize('text, fault', [
    ('', f'1: the graph file is empty; {FILE_KEYS}'),
    ('- u->v', f'1: ["u->v"] is not a graph file; {FILE_KEYS}'),
    ('edges:', '1: there are no edges; a network has at least one'),
    ('nodes: [a]\nedges: []\noutput: a', '2: there are no edges; a network has at least one'),
    ('templates: [t]\nedges: [a->b]', '1: ["t"] is not a map of templates; write name: '
     '{parameters: ..., nodes: ..., edges: ...}'),
    ("edges: ['$x->b']", "1: '$x' is not a name for a node; use letters, digits and '_', with no "
     'digit in front'),
    ('edges: 7', '1: 7 is not a list of edges; a list is expected'),
    ('nodes: 7\nedges: [a->b]', '1: 7 is not a list of names; a list is expected'),
    ('nodes:\n- a: {shape: [3]}\nedges: [a->b]', '2: {"a": {"shape": [3]}} is not a name; write '
     'nodes as a map from names to settings, or as a list of names alone'),
    ('nodes: [a, b,\n a]\nedges: [a->b]',
     "2: the node 'a' is already defined at small.yaml:1; leave one of them out"),
    ("nodes: {a: , 'a{1..2}': , a2: , b: }\nedges: ['a{1..2}->a->b']",
     "1: the node 'a2' is defined twice; leave one of them out"),
    ('edges: [a->b, b->a]', "1: 'output' is missing; every node leads to another one, so say "
     'which it is'),
    ('edges: [a->b, b->a]\noutput: b', "1: 'a' is not reachable from an input; add an edge that "
     'leads to it (there are no inputs, which are the nodes without incoming edges)'),
    ("edges: [{dense: ['h{1..200}']}]", '1: over 10,000 edges; a graph has fewer'),
    ("edges: [{source: 'a{1..200}', target: 'b{1..200}'}]",
     '1: over 10,000 edges; a graph has fewer'),
    ("edges: ['a{1..200}->b{1..200}']", '1: over 10,000 edges; a graph has fewer'),
    ('nodes: [h, h{1..3}]\nedges: [h->h1]', '1: not YAML'),
    ('edges:\n\t- a->b', '2: not YAML'),
    ('nodes: [', '1: not YAML'),
    ('# ' + '-' * 2**20, '1: the file is over 1 MiB; a graph takes a few KiB'),
])
def test_files_that_are_no_graphs(fault_of, text, fault):
    found = fault_of(text)
    if 'not YAML' in fault:  # the rest is the parser's, and there are two of them
        remedies = {
            '{1..3}': '; inside [ ] and { } a range or a parameter is quoted, as in '
                      "['h{1..3}', '${p}']",
            '\t': '; indent with spaces, not with tabs'}
        remedy = next((remedies[key] for key in remedies if key in text), f'; {CLOSE}')
        assert found.startswith(f'small.yaml:{fault}: ') and found.endswith(remedy)
    else:
        assert found == f'small.yaml:{fault}'


def test_a_file_in_another_encoding(tmp_path):
    path = tmp_path / 'small.yaml'
    path.write_bytes('nodes: [a]\n# gr\xfc\xdfe'.encode('latin-1'))
    with pytest.raises(GraphError) as error:
        load_graph(path)
    assert str(error.value) == f'{path}:2: not UTF-8 text; save it as such'


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_graph(tmp_path / 'none.yaml')


HERE = ', in the block at small.yaml:10'


@pytest.mark.parametrize('old, new, fault', [
    ('template: column,', 'template: colum,', "10: no template named 'colum'; did you mean "
     "'column'?"),
    ('template: column,', 'template: [column],', '10: no template named ["column"]; did '
     "you mean 'column'?"),
    ('{template: column, as: left, with: {from: image}}', 'column',
     "10: 'column' is not a block; write a map with the keys template, as, with, share"),
    ('template: column, ', '', "10: 'template' is missing; the keys of a block are template, as, "
     'with, share'),
    ('as: left', 'As: left', "10: 'As' means nothing in a block; did you mean 'as'?"),
    ('as: left', 'as: 2nd', "10: '2nd' cannot begin a name; use letters, digits and '_'"),
    ('as: left', 'as: left, share: [x]', '10: ["x"] is not a label; use letters, digits and '
     "'_', the same in every block that shares"),
    (', with: {from: image}', '', "10: the template 'column' needs the parameter 'from'; write "
     'with: {from: ...}'),
    ('{from: image}', '[image]', '10: ["image"] is not a map; write with: {parameter: value}'),
    ('{from: image}', '{from: image, deep: 3}', "10: the template 'column' has no parameter named "
     "'deep'; did you mean 'depth'?"),
    ('{from: image}', '{from: h1}', f"7{HERE}: no node named 'h1'; did you mean 'left_h1'?"),
    ('{from: image}', '{from: image, depth: x}',
     f"5{HERE}: 'h{{1..x}}' is not a range; write one as in 'h{{1..3}}', with whole numbers"),
    ('{from: image}', '{from: image, depth: [3]}', f"5{HERE}: the parameter 'depth' is [3], which "
     'does not fit into a longer text; use it alone'),
    ('$depth}', '$dept}', f"5{HERE}: no parameter named 'dept'; did you mean 'depth'?"),
    ('$depth}', '$}', f"5{HERE}: no parameter named ''; write $$ for a dollar"),
    ('h{1..$depth}: {shape: [3]}', '$from: {}\n      image: ',
     f"6{HERE[:-2]}11: 'image' is defined twice; leave one of them out"),
    ('h{1..$depth}: {shape: [3]}', '$depth: {}',
     f"5{HERE}: '$depth' is 2 here; a name is expected before the colon"),
    ('shape: [3]', 'shape: [$from]', f"5{HERE}: shape of 'left_h1' is [\"image\"]; it has to be "
     '[features], [tokens, features] or [channels, height, width], all positive whole numbers'),
    ('shape: [3]', 'hsape: [3]', f"5{HERE}: 'hsape' means nothing in a node; did you mean "
     "'shape'?"),
    ('    edges:\n', '    egdes:\n', "6: 'egdes' means nothing in a template; did you mean "
     "'edges'?"),
    ('{from: , depth: 2}', '[from, as]', "3: a parameter is named 'as', which is the block's "
     'prefix; rename it'),
    ('{from: , depth: 2}', '{from: , a-b: 2}', "3: a parameter is named 'a-b', which is not made "
     "of letters, digits and '_'; rename it"),
    ('{from: , depth: 2}', '7', '3: 7 is not a list of parameters; a list is expected'),
    ('blocks:\n', 'blocks:\n  - {template: column, with: {from: image}}\n',
     "5, in the block at small.yaml:10: no edge leads to or from 'h2'; connect it, or leave it "
     'out'),
    ('blocks:\n', 'blocks:\n  - {template: column, as: left, with: {from: image}}\n',
     "5, in the block at small.yaml:11: the node 'left_h1' is already defined at small.yaml:5, "
     'in the block at small.yaml:10; leave one of them out'),
])
def test_mistakes_in_templates_and_blocks(fault_of, old, new, fault):
    assert fault_of(changed(COLUMN, old, new)) == f'small.yaml:{fault}'


def test_a_template_within_a_template_names_both_blocks(fault_of):
    text = """templates:
  inner: {nodes: {h: {noise: -1}}, edges: [image->h]}
  outer:
    blocks:
      - template: inner
        as: a
blocks: {template: outer, as: b}
"""
    assert fault_of(text) == (
        'small.yaml:2, in the block at small.yaml:5, in the block at small.yaml:7: '
        "noise of 'b_a_h' is -1; it has to be a standard deviation, 0 or more")


def test_templates_that_use_themselves(fault_of):
    text = """templates:
  a: {blocks: [{template: b}]}
  b: {blocks: [{template: c}]}
  c:
    blocks: [{template: a}]
blocks: [{template: a}]
"""
    assert fault_of(text) == (
        'small.yaml:5, in the block at small.yaml:3, in the block at small.yaml:2, '
        'in the block at small.yaml:6: a template cannot use itself; '
        'here it does: a -> b -> c -> a')


def doubling(body, last, depth=30):
    """Return a file whose templates use each other twice, and so would make 2^30 of the last."""
    return ('templates:\n'
            + ''.join(f'  t{i}: {body.format(i + 1)}\n' for i in range(depth))
            + f'  t{depth}: {last}\nblocks: [{{template: t0, with: {{p: lol}}}}]\nedges: [a->b]\n')


@pytest.mark.parametrize('text, fault', [
    (doubling('{{parameters: [p], blocks: [{{template: t{0}, as: [a, b], with: {{p: 1}}}}]}}',
              '{parameters: [p], nodes: [x]}', 16), 'over 1,000 nodes; a graph has fewer'),
    (doubling('{{parameters: [p], blocks: [{{template: t{0}, as: [a, b], with: {{p: 1}}}}]}}',
              '{parameters: [p]}'), 'the templates make more than any graph holds; check how '
     'often they use each other'),
    (doubling('{{parameters: [p], blocks: [{{template: t{0}, with: {{p: $p$p}}}}]}}',
              '{parameters: [p], edges: [{source: a, target: c, x: $p}]}'),
     'the templates make more than any graph holds; check how often they use each other'),
    (doubling('{{parameters: [p], blocks: [{{template: t{0}, with: {{p: [$p, $p]}}}}]}}',
              '{parameters: [p], edges: [{source: a, target: c, x: $p}]}'),
     'the templates make more than any graph holds; check how often they use each other'),
    (doubling('{{parameters: [p], blocks: [{{template: t{0}, with: {{p: 1}}}}]}}',
              '{parameters: [p]}', 50), 'blocks are nested over 40 deep; a graph takes a '
     'few levels'),
])
def test_small_files_that_would_fill_the_memory(fault_of, text, fault, monkeypatch):
    # A tenth of either limit, which is as far from what the file would make.
    monkeypatch.setattr(templates, 'MAX_WORK', 30_000)
    monkeypatch.setattr(shorthand, 'MAX_SIZE', 1_000)
    assert fault_of(text).endswith(f': {fault}')


@pytest.mark.parametrize('include, fault', [
    ('/etc/hosts.yaml', "'/etc/hosts.yaml' is too far away; give a path relative to this file, "
     'within the folder {top}'),
    ('../../other/stem.yaml', "'../../other/stem.yaml' is too far away; give a path relative to "
     'this file, within the folder {top}'),
    ('stem.txt', "'stem.txt' is not a graph file to include; its name ends in .yaml or .yml"),
    ('[[stem.yaml]]', '["stem.yaml"] is not a graph file to include; its name ends in .yaml or '
     '.yml'),
    ('7', '7 is not a list of files; a list is expected'),
    ('stme.yaml', "there is no file 'stme.yaml'; did you mean 'stem.yaml'?"),
    ('parts/stem.yaml', "there is no file 'parts/stem.yaml'; check the path"),
    ('small.yaml', 'files include each other in a circle; remove one include: small.yaml -> '
     'small.yaml'),
])
def test_files_that_may_not_be_included(fault_of, tmp_path, include, fault):
    found = fault_of(f'nodes: [a]\ninclude: {include}\n', stem='edges: [a->b]')
    assert found == f'small.yaml:2: {fault.format(top=tmp_path.parent)}'


def test_files_that_include_each_other(fault_of):
    assert fault_of('include: a.yaml', a='include: b.yaml', b='nodes: [x]\ninclude: a.yaml') == (
        'b.yaml:2: files include each other in a circle; remove one include: '
        'a.yaml -> b.yaml -> a.yaml')


def test_too_many_files(fault_of):
    others = {f'f{i}': f'include: f{i + 1}.yaml' for i in range(200)}
    assert fault_of('include: f0.yaml', **others) == (
        'f98.yaml:1: over 100 files are included; put some of them together')


@pytest.mark.parametrize('stem, text, fault', [
    ('nodes: [a]', 'nodes: [b]\nedges: [a->c]',
     "small.yaml:3: no node named 'c'; nodes are a, b"),
    ('nodes: [a]', 'edges: [a->b]\nnodes: [a, b]',
     "small.yaml:3: the node 'a' is already defined at stem.yaml:1; leave one of them out"),
    ('edges: [a->b]\nmore: 1', '', "stem.yaml:2: 'more' means nothing in a graph file; the keys "
     'are include, templates, nodes, edges, blocks, output'),
    ('templates: {t: {nodes: [a]}}', 'templates:\n  t: {nodes: [b]}',
     "small.yaml:3: the template 't' is already defined at stem.yaml:1; rename one of them"),
    ('edges: [a->b', '', 'stem.yaml:1: not YAML'),
])
def test_mistakes_in_included_files(fault_of, stem, text, fault):
    found = fault_of(f'include: stem.yaml\n{text}', stem=stem)
    assert found.startswith(fault) if 'YAML' in fault else found == fault


@pytest.mark.parametrize('data, fault', [
    ({'nodes': {'a': {'dropout': 2}}, 'edges': ['a->b']},
     "nodes.a.dropout: dropout of 'a' is 2; it has to be a probability from 0 to below 1"),
    ({'edges': ['a->b', {'source': 'a'}]}, f"edges[1]: 'source' is given alone; {ENDS}"),
    ({'edges': ['a->b', {'source': 'a', 'target': 'c', 'streams': 'x'}]},
     "edges[1].streams: streams of 'a->c' is 'x'; it has to be true or false, or 2 and more for "
     'so many frames'),
    ({'edges': ['a->b'], 'output': 'c'}, "output: no node named 'c'; nodes are a, b"),
    ({'edges': ['a->b'], 'include': 'x.yaml'}, 'include: this graph is not a file, so it cannot '
     'include others; write the nodes and edges out'),
    ([], 'graph: [] is not a graph; ' + FILE_KEYS),
    ({'edges': reduce(lambda inner, _: [inner], range(2000), [])},
     'edges' + '[0]' * 18 + '[...: nested over 40 deep; write it flat'),
])
def test_mistakes_in_data_name_the_way_to_them(data, fault):
    with pytest.raises(GraphError) as error:
        graph_from_data(data)
    assert str(error.value) == fault


WORDS = st.sampled_from([
    'a', 'b', 'h{1..2}', '$p', '${p}x', 'a->b', 't', 's', True, False, None, 0, 1, 3, -1, 0.5,
    'as', 'output', '{1..', 'a->', [], {}])
KEYS = st.sampled_from([
    'nodes', 'edges', 'blocks', 'templates', 'parameters', 'output', 'include', 'a', 'b', 'p', 't',
    's', 'source', 'target', 'dense', 'chain', 'streams', 'shape', 'period', 'dropout', 'template',
    'as', 'with', 'share', 'transform', 'h{1..2}', '$p'])
ANYTHING = st.recursive(WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    KEYS, inner, max_size=3), max_leaves=8)
EDGES = st.lists(ANYTHING | st.just('a->b') | st.fixed_dictionaries(
    {'source': WORDS, 'target': WORDS}, optional={'streams': WORDS, 'p': ANYTHING}), max_size=3)
BODY = st.fixed_dictionaries({'edges': EDGES}, optional={
    'nodes': ANYTHING, 'parameters': ANYTHING, 'blocks': st.lists(st.fixed_dictionaries(
        {'template': st.sampled_from('ts')}, optional={'as': WORDS, 'with': ANYTHING}),
        max_size=2)})


@examples(80)
@given(st.fixed_dictionaries({'edges': EDGES}, optional={
    'nodes': ANYTHING, 'blocks': ANYTHING | BODY.map(lambda body: body.get('blocks')),
    'templates': ANYTHING | st.fixed_dictionaries({'t': BODY, 's': BODY}), 'output': WORDS}))
def test_whatever_the_data_is_it_is_a_graph_or_a_fault_with_a_place(data):
    try:
        assert isinstance(graph_from_data(data), GraphSpec)
    except GraphError as error:
        place, _, fault = str(error).partition(': ')
        assert place and '; ' in fault


def test_both_parsers_know_the_place_of_a_fault(fault_of, monkeypatch):
    monkeypatch.setattr(located_yaml, 'PARSER', yaml.SafeLoader)
    assert fault_of(SMALL + 'more: [\n').startswith('small.yaml:12: not YAML: ')
    assert fault_of(changed(SMALL, 'tanh', '\x07')) == (
        "small.yaml:6: not YAML: the character '\\x07' is not allowed; write plain text")
    assert fault_of(changed(SMALL, 'tanh', '*a')) == (
        'small.yaml:6: anchors and aliases (*a) are not supported; write the value out')
