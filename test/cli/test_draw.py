"""The command line that draws: which files it writes, and what it says where it cannot."""

import pytest
from stream_agent.cli.draw import main


@pytest.mark.slow
def test_all_pictures_are_written_and_named(tmp_path, capsys):
    other = tmp_path / 'lane_notes.svg'
    other.write_text('mine')
    assert main(['lane', '--what', 'all', '--window', '2', '--output', str(tmp_path), '--format',
                 'svg', 'png']) == 0
    names = ['lane_graph.svg', 'lane_graph.png', 'lane_window.svg', 'lane_window.png',
             'lane_influence.svg', 'lane_influence.png', 'lane_steps.gif']
    assert capsys.readouterr().out == ''.join(f'{tmp_path / name}\n' for name in names)
    assert {path.name for path in tmp_path.iterdir()} == {*names, 'lane_notes.svg'}
    assert other.read_text() == 'mine'
    for name in names:
        start = (tmp_path / name).read_bytes()[:6]
        assert start == {'svg': b'<?xml ', 'png': b'\x89PNG\r\n', 'gif': b'GIF89a'}[name[-3:]]


@pytest.mark.slow
@pytest.mark.parametrize('options, name', [
    ([], 'lane_graph.svg'), (['--pattern', 'sequential'], 'lane_graph_sequential.svg'),
    (['--pattern', 'newest-image'], 'lane_graph_newest_image.svg'),
    (['--streams', 'memory->memory,image->borders'], 'lane_graph_hybrid.svg')])
def test_files_of_other_patterns_have_other_names(options, name, tmp_path, capsys):
    assert main(['lane', *options, '--output', str(tmp_path / 'new' / 'folder')]) == 0
    assert [path.name for path in (tmp_path / 'new' / 'folder').iterdir()] == [name]


def test_a_schedule_is_drawn(tmp_path, capsys):
    assert main(['lane', '--schedule', 'course=2+1', '--output', str(tmp_path)]) == 0
    assert 'every 2 frames, +1' in (tmp_path / 'lane_graph.svg').read_text()


@pytest.mark.parametrize('options, sentence', [
    (['lane', '--streams', 'memory->memry'],
     "no edge 'memory->memry'; the nearest is 'memory->memory'; edges are "),
    (['lane', '--what', 'window', '--window', '9999'],
     'window: 90000 nodes and 150000 edges in frames 0 to 9999 are too many to draw; a window '
     'up to 443 has room')])
def test_errors_are_sentences(options, sentence, tmp_path, capsys):
    assert main([*options, '--output', str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.startswith(f'draw: {sentence}')
    assert captured.err.count('\n') == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(tmp_path, capsys):
    file = tmp_path / 'file'
    file.write_text('mine')
    assert main(['lane', '--output', str(file)]) == 1
    assert capsys.readouterr().err == (
        f"draw: '{file}': File exists; a file is there already; give a folder, or another path\n")
    assert file.read_text() == 'mine'
