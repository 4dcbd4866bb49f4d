"""The tutorials of CONTRIBUTING.md, run as a reader would type them."""

from pathlib import Path
import re
import shutil
import sys

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r'^```(?:python|yaml)\n# ([a-z_.]+)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
FILES = dict(BLOCK.findall((ROOT / 'CONTRIBUTING.md').read_text()))
PROGRAMS = sorted(name for name in FILES if name.startswith('try_'))


def test_there_are_three_tutorials():
    assert PROGRAMS == ['try_backend.py', 'try_layer.py', 'try_robot.py']


@pytest.mark.parametrize('name', PROGRAMS)
def test_a_tutorial_works(name, tmp_path, monkeypatch):
    for file, text in FILES.items():
        (tmp_path / file).write_text(text)
    shutil.copy(ROOT / 'config' / 'graphs' / 'lane.yaml', tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    from stream_agent.engine import backends
    before = dict(backends.BACKENDS)
    try:
        exec(compile(FILES[name], name, 'exec'), {'__name__': '__main__'})
    finally:
        for added in set(backends.BACKENDS) - set(before):
            del backends.BACKENDS[added]
        for module in ('my_layers', 'double_precision'):
            sys.modules.pop(module, None)
