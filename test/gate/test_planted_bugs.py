"""Bugs that are planted in the gate are caught, and those that are not are explained (G9)."""

from importlib import import_module
import inspect
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]
FILES = ['stream_agent/__init__.py', 'stream_agent/command.py', 'stream_agent/bounded_settings.py',
         'stream_agent/contract', 'stream_agent/gate', 'test/gate']
# A few of those that benchmark/mutation.py plants: the file, its line, the bug, who must see it.
BUGS = [
    ('limits', '2 * settings.camera_period)', '20 * settings.camera_period)', 'limits'),
    ('gate', 'settings.max_age:\n', 'settings.max_age + 1.0:\n', 'gate'),
    ('faults', 'LATCH_AFTER = 3', 'LATCH_AFTER = 4', 'faults'),
    ('watchdog', '>= settings.command_timeout', '> settings.command_timeout', 'watchdog'),
    ('gate', 'self._braking = True', 'self._braking = False', 'stop_asked'),
    ('stop_input', 'if heard < expected', 'if heard > expected', 'stop_input'),
    ('vectors', '2 * abs(way)', '3 * abs(way)', 'vectors'),
    ('vectors', 'name not in command]', 'name in command]', 'vectors'),
    ('vectors', 'self._sent = place', 'self._sent = {}', 'vectors')]


def copy_gate(folder: Path) -> None:
    """Copy the gate and its tests to where bugs can be planted."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / 'setup.cfg').write_text('[tool:pytest]\npythonpath = .\n')


@pytest.mark.child_process
def test_planted_bugs_are_caught(tmp_path):
    running = {}
    for i, (module, before, after, tests) in enumerate([('limits', '', '', 'limits'), *BUGS]):
        folder = tmp_path / str(i)
        copy_gate(folder)
        path = folder / 'stream_agent' / 'gate' / f'{module}.py'
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after, 1))
        running[module, after] = subprocess.Popen(
            [sys.executable, '-m', 'pytest', '-qx', '-p', 'no:cacheprovider',
             f'test/gate/test_{tests}.py'], cwd=folder, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env={**os.environ, 'PYTHONPATH': str(folder)})
    ended = {bug: (process.communicate()[0], process.returncode)
             for bug, process in running.items()}
    # Without a bug the tests pass, so that it is the bug that fails them.
    assert ended.pop(('limits', ''))[1] == 0
    assert {bug: out for bug, (out, code) in ended.items() if code != 1} == {}


def test_what_the_page_says_of_survivors_is_about_lines_that_are_there():
    rows = re.findall(r'^\| `(\w+)\.([\w.]+)` \| `(.*?)` \| `(.*?)` \| (.+) \|$',
                      (ROOT / 'docs' / 'safety.md').read_text(), re.MULTILINE)
    assert len(rows) >= 5
    for module, name, before, after, _ in rows:
        found = import_module(f'stream_agent.gate.{module}')
        for part in name.split('.'):
            found = getattr(found, part)
        assert before in re.sub(r'\s+', ' ', inspect.getsource(found)), (module, name, before)
        assert before != after
