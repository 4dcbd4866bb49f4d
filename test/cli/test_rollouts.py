"""The command line of rollouts: JSON against the worked examples, tables, sentences."""

import json
from pathlib import Path
import time

import pytest
from stream_agent.cli.rollouts import main, spans

GRAPHS = Path(__file__).parents[2] / 'config' / 'graphs'
FIGURE_2 = """
nodes: {u: , v: , w: }
edges:
  - {source: u, target: v}
  - {source: v, target: w}
  - {source: v, target: v, streams: true}
  - {source: u, target: w}
  - {source: w, target: v, streams: true}
output: w
"""
SR = """
edges: [img->h1, h1->h2, h2->out, h1->h1, h1->out]
output: out
"""


@pytest.fixture
def tell(tmp_path, capsys):
    """Return a function that runs the command on a text and returns what it prints."""
    def run(text, *arguments, code=0):
        path = tmp_path / 'graph.yaml'
        path.write_text(text)
        assert main([str(path), *arguments]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out
    return run


def rows(data):
    return {name: ''.join(map(str, row)) for name, row in data['inference_tableau'].items()}


@pytest.mark.parametrize('arguments, factor, tableau', [
    (['--pattern', 'streaming'], 1, {'u': '0000', 'v': '0123', 'w': '0123'}),
    (['--streams', 'v->v,w->v'], 2, {'u': '0000', 'v': '0135', 'w': '0246'}),
    (['--pattern', 'sequential'], 2, {'u': '0000', 'v': '0135', 'w': '0246'}),
    (['--streams', 'v->v, v->w'], 2, {'u': '0000', 'v': '0246', 'w': '0135'})])
def test_figure_2(tell, arguments, factor, tableau):
    data = json.loads(tell(FIGURE_2, *arguments, '--window', '3', '--json'))
    assert data['valid_patterns'] == 12
    assert data['inference_factor'] == factor
    assert rows(data) == tableau


@pytest.mark.parametrize('arguments, factor, tableau, response, images, cone, pipelined', [
    ([], 1, {'h1': '01234', 'h2': '01234', 'out': '01234'}, (2, 2),
     [[], [], [0], [0, 1], [0, 1, 2]], ['out'], 1),
    (['--pattern', 'sequential'], 3, {'h1': '01234', 'h2': '02345', 'out': '03456'}, (1, 3),
     [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4]], ['h1', 'h2', 'out'], 1),
    (['--streams', 'h1->h2,h1->h1,h1->out'], 2, {'h1': '01234', 'h2': '01234', 'out': '02345'},
     (2, 3), [[], [], [1], [1, 2], [1, 2, 3]], ['h2', 'out'], 1),
    (['--pattern', 'newest-image'], 1, {'h1': '01234', 'h2': '01234', 'out': '01234'}, (2, 2),
     [[], [], [1], [1, 2], [1, 2, 3]], ['out'], 1)])
def test_sr(tell, arguments, factor, tableau, response, images, cone, pipelined):
    data = json.loads(tell(SR, *arguments, '--window', '4', '--json'))
    assert data['valid_patterns'] == 16
    assert data['inference_factor'] == factor
    assert rows(data) == {'img': '00000', **tableau}
    assert data['first_response'] == dict(zip(('frame', 'update_step'), response))
    assert data['images'] == {str(i): found for i, found in enumerate(images)}
    assert data['response_cone'] == cone
    assert data['steps_per_frame_pipelined'] == pipelined


@pytest.mark.parametrize('k, edges, factor', [
    (0, 5, 4), (1, 7, 5), (2, 9, 6), (3, 12, 7), (4, 15, 8), (5, 19, 9), (6, 23, 10)])
def test_shipped_graphs_by_name(capsys, k, edges, factor):
    assert main([f'dsr{k}', '--pattern', 'sequential', '--json']) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data['edges'], data['valid_patterns']) == (edges, 2 ** (edges - 1))
    assert data['inference_factor'] == data['first_response']['update_step'] == factor
    assert main([f'dsr{k}', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['first_response']['update_step'] == 4


def test_a_schedule_from_the_command_line(tell):
    data = json.loads(tell(SR, '--streams', 'h1->h1,h2->out', '--schedule', 'h2=2+1', '--json'))
    assert data['schedule'] == {'h2': {'period': 2, 'offset': 1}}
    assert data['information_age'] == {'newest': 0, 'oldest': 2}
    assert data['inference_tableau']['h2'] == [0, 2, 2, 4, 4]


def test_the_table_for_people(tell):
    assert tell(SR, '--pattern', 'sequential') == """\
graph             4 nodes, 5 edges; img -> out
valid patterns    16 (Lemma 1: 16 to 16)
streaming edges   h1->h1
inference factor  3 update steps a frame; if frames are pipelined 1
first response    frame 1, update step 3
response cone     h1, h2, out
training          h1 frame by frame; h2, out all frames at once
information       newest 0, oldest 0 frames old

inference tableau: update steps until a node is there
  frame  0 1 2 3 4
  img    0 0 0 0 0
  h1     0 1 2 3 4
  h2     0 2 3 4 5
  out    0 3 4 5 6

images that out depends on
  frame 0: none
  frame 1: 1
  frame 2: 1 to 2
  frame 3: 1 to 3
  frame 4: 1 to 4
"""


def test_lists_of_patterns(tell):
    assert sorted(tell(FIGURE_2, '--list', 'sequential').split()) == ['v->v,w->v', 'v->w,v->v']
    listed = tell(FIGURE_2, '--list', 'valid', '--limit', '5').splitlines()
    assert len(listed) == 6 and listed[-1] == 'and more; --limit 10 shows twice as many'
    data = json.loads(tell(FIGURE_2, '--list', 'valid', '--json'))
    assert len(data['streams']) == 12 and data['complete']


@pytest.mark.parametrize('arguments, sentence', [
    (['--streams', 'v->v'], 'rollouts: edges with R = 0 form the cycle v -> w -> v; one of them '
     'has to stream (streams: true in the graph file, or among the streaming edges of the '
     'pattern)'),
    (['--streams', 'v->v,w->x'], "rollouts: no edge 'w->x'; the nearest is 'w->v'; edges are "
     'u->v, v->w, v->v, u->w, w->v'),
    (['--schedule', 'v:2'], "rollouts: --schedule: 'v:2' does not read node=period+offset, such "
     'as deep=4+1'),
    (['--schedule', 'v=2,v=3'], "rollouts: --schedule: 'v' is given twice; leave one of them out"),
    (['--schedule', 'v=0'], "rollouts: schedule: period of 'v' is 0; it has to be a whole "
     'number of frames from 1 to 1000'),
    (['--window', '5000'], 'rollouts: --window: 5000 frames of 3 nodes are too many; 816 are the '
     'most'),
    (['--schedule', 'x=2'], "rollouts: schedule: no node named 'x'; nodes are u, v, w")])
def test_mistakes(tell, arguments, sentence):
    assert tell(FIGURE_2, *arguments, code=1).strip().endswith(sentence)


def test_a_file_that_is_not_there(capsys):
    assert main(['nowhere.yaml']) == 1
    assert 'nowhere.yaml' in capsys.readouterr().err


@pytest.mark.parametrize('given', ['lane_streaming', 'policies/lane_streaming.safetensors'])
def test_a_policy_is_not_a_graph(capsys, given):
    assert main([given]) == 1
    assert capsys.readouterr().err.startswith(
        f"rollouts: '{given}' is a policy, and a graph is asked for; shipped graphs are ")


def test_spans():
    assert [spans(images) for images in ([], [3], [0, 1, 2, 5, 7, 8])] == [
        'none', '3', '0 to 2, 5, 7 to 8']


def chain(*rest, nodes=10_000):
    """Return a graph file of a chain, and whatever edges are added to it."""
    names = [f'n{i}' for i in range(nodes)]
    return f"edges: [{', '.join([f'{u}->{v}' for u, v in zip(names, names[1:])] + [*rest])}]\n"


WIDE = 'edges: [' + ', '.join(f'i->n{k}, n{k}->o' for k in range(4999)) + ']'


@pytest.mark.slow
@pytest.mark.parametrize('text, arguments, said', [
    (chain(), [], 'rollouts: {}:1: 9999 frames of 10000 nodes and 9999 edges are too many to '
     'count; 150 are the most. Let fewer edges stream (--pattern sequential), take shorter '
     'periods, or a smaller graph'),
    (chain(), ['--pattern', 'sequential'], 'inference factor  9999 update steps a frame; if '
     'frames are pipelined 0'),
    (chain(), ['--pattern', 'sequential', '--window', '14'], 'first response    frame 1, update '
     'step 9999'),
    (chain(), ['--list', 'valid'], 'rollouts: --list: 10000 nodes and 9999 edges are too many to '
     'list patterns of; without --list they are counted'),
    (chain('{source: n8998, target: n1, streams: true}', nodes=9000) + 'output: n8999\n',
     ['--pattern', 'sequential'], 'inference factor  8999 update steps a frame; if frames are '
     'pipelined unknown'),
    (WIDE, [], 'first response    frame 2, update step 2'),
    (chain(nodes=1000), [], 'first response    frame 999, update step 999, beyond the window '
     'below')])
def test_large_graphs_are_answered_or_refused_within_five_seconds(tmp_path, capsys, text,
                                                                  arguments, said):
    path = tmp_path / 'graph.yaml'
    path.write_text(text)
    start = time.process_time()
    code = main([str(path), *arguments])
    assert time.process_time() - start < 5
    printed = capsys.readouterr()
    assert said.format(path) in (printed.err if code else printed.out)
    assert code == said.startswith('rollouts:')
