"""The studies' command line, and what they may import."""

from pathlib import Path

import pytest
from studies.__main__ import main, STUDIES
from test_layering import imports

ROOT = Path(__file__).parents[2]


def test_studies_are_listed(capsys):
    assert main(['--help']) == 0
    said = capsys.readouterr().out
    assert all(f'\n  {name} ' in said for name in STUDIES)
    assert main([]) == 2


@pytest.mark.parametrize('name', STUDIES)
def test_every_study_says_what_it_takes(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, '--help'])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f'usage: studies {name} ')


def test_another_name_is_refused(capsys):
    assert main(['nope']) == 2
    assert capsys.readouterr().err.startswith("studies: no study 'nope'; studies are noisy-mnist")


def test_studies_use_the_package_and_not_the_other_way_round():
    benchmarks = {path.stem for path in (ROOT / 'benchmark').glob('*.py')}
    for path in (ROOT / 'studies').rglob('*.py'):
        assert not benchmarks & imports(path), path
    for path in (ROOT / 'stream_agent').rglob('*.py'):
        assert not any(name.split('.')[0] == 'studies' for name in imports(path)), path
