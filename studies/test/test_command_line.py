"""The studies' command line, and what they may import."""

import os
from pathlib import Path
import subprocess
import sys

import pytest
from studies import __main__ as command_line
from studies.__main__ import main, STUDIES
from test_layering import top_level

ROOT = Path(__file__).parents[2]


def test_studies_are_listed(capsys):
    assert main(['--help']) == 0
    said = capsys.readouterr().out
    assert all(f'\n  {name} ' in said for name in STUDIES)
    assert main([]) == 2


@pytest.mark.child_process
def test_the_repository_is_enough_to_run_them():
    apart = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    listed = subprocess.run([sys.executable, '-m', 'studies', '--help'], cwd=ROOT, env=apart,
                            capture_output=True, text=True, check=True)
    assert listed.stdout == f'{command_line.usage()}\n'


@pytest.mark.parametrize('name', STUDIES)
def test_every_study_says_what_it_takes(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, '--help'])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f'usage: studies {name} ')


def test_another_name_is_refused(capsys):
    assert main(['nope']) == 2
    assert capsys.readouterr().err.startswith("studies: no study 'nope'; studies are noisy-mnist")


@pytest.mark.parametrize('name, kept', [
    ('closed-loop', '; what was finished is kept, and the same command resumes'),
    ('regimes', '')])
def test_ctrl_c_is_answered_by_a_sentence(name, kept, monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(command_line, 'run', stopped)
    assert main([name]) == 130
    assert capsys.readouterr().err == f'\nstudies: {name} stopped immediately{kept}\n'


def test_studies_use_the_package_and_not_the_other_way_round():
    benchmarks = {'benchmark', *(path.stem for path in (ROOT / 'benchmark').glob('*.py'))}
    for path in (ROOT / 'studies').rglob('*.py'):
        assert not benchmarks & top_level(path), path
        assert 'test' in path.parts or 'sys.path' not in path.read_text(), path
    for path in (ROOT / 'stream_agent').rglob('*.py'):
        assert 'studies' not in top_level(path), path
