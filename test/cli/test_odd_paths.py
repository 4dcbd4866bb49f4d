"""Every command on paths that are not what they should be: a sentence, and an exit code."""

from importlib import import_module
import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest
from stream_agent.__main__ import COMMANDS
from stream_agent.cli.command_parser import CommandParser
from support.jobs import is_running, ROOT, wait_for

# Some look what the machine is.
pytestmark = pytest.mark.child_process
# What a command reads, as the words after its name; {} is the path.
READ = {
    'rollouts': ['{}'],
    'draw': ['{} --output out'],
    'plan': ['{}', 'lane --costs {}'],
    'evaluate': ['{} --courses 1', '--costs {} --courses 1', '--robot {} --courses 1'],
    'export': ['{} --output out'],
    'import': ['{}', '{}.onnx'],
    'convert': ['{} --output out'],
    'compare': ['--bag {} --policy lane_streaming', '--bag a_folder --policy {}'],
    'train': ['--robot {}'],
    'world': ['--robot {} --output out'],
    'run': ['--checkpoint {}', '--baseline lane_sequential {}', '--robot {}', '--params-file {}',
            '--policies {}', '--policies lane_streaming --costs {}'],
}
# What a command writes to: files, and folders.
FILES = {'plan': ['lane --costs costs.yaml --write {}', 'lane --costs costs.yaml --draw {}.svg'],
         'import': ['policy:make --save-costs {}'],
         'evaluate': ['--courses 1 --plot {}.png --pass-periods 1']}
FOLDERS = {'draw': ['lane --output {}'], 'world': ['--output {}'], 'run': ['--output {}'],
           'export': ['lane_streaming --output {}'], 'import': ['policy:make --output {}']}


def cases(table, paths):
    """Return (command, its words with a path in them, that path)."""
    return [pytest.param(command, line.format(path).split(), path, id=f'{command} {line} {path}')
            for command, lines in table.items() for line in lines for path in paths]


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """Work in a folder that has a bit of everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr('stream_agent.cli.run.choose_domains', None)
    Path('a_folder').mkdir()
    Path('a_file').write_bytes(b'')
    Path('binary').write_bytes(bytes(range(256)) * 16)
    Path('text').write_text('<!doctype html>\n<title>404 Not Found</title>\n')
    Path('loop').symlink_to('loop')


def said_by(command, words, capsys):
    """Run a command in this process; returns its exit code, and the lines that it complained."""
    module, _ = COMMANDS[command]
    try:
        code = import_module(module).main(words)
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize('command, words, path', [
    *cases(READ, ['missing', 'a_folder', 'a_file', 'binary', 'text', 'loop', 'a_file/below',
                  'x' * 300])])
def test_what_cannot_be_read_is_one_sentence(command, words, path, paths, capsys):
    code, lines = said_by(command, words, capsys)
    assert code == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith((f'{command}: ', f'stream_agent {command}: '))
    assert path.split('/')[0][:100] in lines[0]


@pytest.mark.parametrize('command, words, path', [
    *cases(FILES, ['missing/below', 'a_file/below', '/proc/nowhere']),
    *cases(FOLDERS, ['a_file', 'a_file/below', '/proc/nowhere', 'loop'])])
def test_what_cannot_be_written_is_one_sentence(command, words, path, paths, capsys):
    before = sorted(Path().rglob('*'))
    code, lines = said_by(command, words, capsys)
    assert code == 1
    assert len(lines) == 1, lines
    assert path.split('/')[0] in lines[0]
    assert sorted(Path().rglob('*')) == before


def run(line):
    """Run a command line in a shell; returns its exit code and what it complained."""
    found = subprocess.run(['bash', '-o', 'pipefail', '-c', line], capture_output=True, text=True,
                           env={**os.environ, 'PYTHONPATH': str(ROOT), 'COMMAND': sys.executable})
    return found.returncode, found.stderr


@pytest.mark.parametrize('line, code, said', [
    # Whoever reads has seen enough, or is not there.
    ('{} rollouts lane --list valid --limit 100000 | head -1', 1, ''),
    ('{} rollouts lane >&-', 0, ''),
    ('{} rollouts lane >/dev/full', 1, 'rollouts: No space left on device\n'),
    ('{} --help >/dev/full', 1,
     'stream_agent: the output cannot be written: No space left on device\n'),
    ('{} trian', 2, "stream_agent: no command 'trian'; did you mean 'train'?\n"),
    ('{} draw lane --waht graph', 2, "draw: error: there is no option '--waht'; did you mean "
     "'--what'?\nwith --help instead, all options are listed\n")])
def test_an_output_that_is_closed_or_full_and_a_mistake_have_their_codes(line, code, said):
    found, complaint = run(line.format('"$COMMAND" -m stream_agent'))
    assert (complaint, found) == (said, code)


def test_a_command_that_is_stopped_ends_with_130_and_no_traceback(tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-m', 'stream_agent', 'evaluate', 'lane_streaming', '--workers', '1'],
        env={**os.environ, 'PYTHONPATH': str(ROOT)}, stderr=subprocess.PIPE, text=True,
        start_new_session=True)
    # Until the worker is there, of which nothing must be left.
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    wait_for(lambda: len(children.read_text().split()) > 1)
    pids = list(map(int, children.read_text().split()))
    # As a terminal does it.
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=20)[1] == '\nevaluate: stopped\n'
    assert process.returncode == 130
    wait_for(lambda: not any(map(is_running, pids)))


def test_help_is_not_for_readers_of_the_source():
    assert CommandParser('a', 'Command line: do ``this`` and that.').description == (
        'Do `this` and that.')
