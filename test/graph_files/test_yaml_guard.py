"""Every reader of YAML refuses, in milliseconds, what would expand to more than it is."""

import time

import pytest
from stream_agent.gazebo.world_folder import read_world, SCENE_FILE
from stream_agent.graph_files.graph_file import load_costs, load_graph
from stream_agent.recordings.bags import opened
from stream_agent.share import ParameterFiles, share_folder
from stream_agent.simulation.settings import read_settings

TEXTS = {
    'lists': 'a: ' + '[' * 45 + ']' * 45,
    'maps': '\n'.join(' ' * depth + 'a:' for depth in range(45)) + ' 1',
    'aliases': 'a: &a [1]\n' + '\n'.join(f'b{i}: &b{i} [*a, *a]' for i in range(20)),
}
FILE = 'file.yaml'
LANE = load_graph(share_folder() / 'config' / 'graphs' / 'lane.yaml')


def open_bag(path):
    """Open the bag in a file's folder."""
    with opened(path.parent):
        pass


READERS = {
    'graph file': (FILE, load_graph),
    'cost file': (FILE, lambda path: load_costs(path, LANE)),
    'parameter file': (FILE, lambda path: ParameterFiles([path])),
    'robot': (FILE, read_settings),
    'world': (SCENE_FILE, lambda path: read_world(path.parent)),
    'recording': ('metadata.yaml', open_bag),
}


@pytest.mark.parametrize('text', TEXTS)
@pytest.mark.parametrize('reader', READERS)
def test_what_would_expand_is_refused(tmp_path, reader, text):
    name, read = READERS[reader]
    path = tmp_path / name
    path.write_text(TEXTS[text])
    begun = time.process_time()
    with pytest.raises(ValueError) as refused:
        read(path)
    assert time.process_time() - begun < 0.2
    said = f'{refused.value} {refused.value.__cause__}'
    assert ('alias' if text == 'aliases' else 'nested over 40 deep; write it flat') in said
    assert name in said
