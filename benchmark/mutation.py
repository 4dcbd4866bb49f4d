"""
Are bugs in the gate caught? Plants hundreds, one at a time, and runs the gate's tests on each.

    pip install mutmut
    python benchmark/mutation.py

mutmut changes an operator, a number, an argument or a word in the functions of stream_agent/gate;
a change that makes no test of test/gate fail has survived. It works on copies in a temporary
folder. Fails (exit code 1) if fewer than 95 % are caught, or if docs/safety.md does not say of a
survivor why no test can see it. Takes some minutes.
"""

import argparse
from importlib.util import find_spec
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import NamedTuple

from harness import machine

ROOT = Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'safety.md'
# What the gate's pure part and its tests consist of.
FILES = ['stream_agent/__init__.py', 'stream_agent/command.py', 'stream_agent/bounded_settings.py',
         'stream_agent/contract', 'stream_agent/gate', 'test/gate']
SETTINGS = """
[mutmut]
source_paths=stream_agent/gate/
pytest_add_cli_args_test_selection=test/gate
also_copy=
    stream_agent
    test
[tool:pytest]
pythonpath = .
"""
# An endless loop is caught by its duration.
CAUGHT = {'killed', 'timeout'}
LEAST_SHARE = 0.95


class Survivor(NamedTuple):
    """A planted bug that no test has seen: the function, its line, and what that became."""

    function: str
    before: str
    after: str


def copy_gate(folder: Path) -> None:
    """Copy what is changed and what tests it, and say so to mutmut."""
    for name in FILES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, folder / name)
    # It plants bugs by itself, and reads the page.
    (folder / 'test' / 'gate' / 'test_planted_bugs.py').unlink()
    (folder / 'setup.cfg').write_text(SETTINGS)


def mutmut(folder: Path, *arguments: str) -> str:
    """Run mutmut in a folder and return what it prints, but for the progress."""
    # With the folder alone, so that no installed package is tested instead.
    environment = {**os.environ, 'PYTHONPATH': str(folder), 'PYTHONDONTWRITEBYTECODE': '1'}
    ran = subprocess.run([sys.executable, '-m', 'mutmut', *arguments], cwd=folder,
                         env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
    if ran.returncode:
        raise SystemExit(f'mutmut {arguments[0]} failed:\n{ran.stdout[-2000:]}')
    return ran.stdout


def outcomes(folder: Path) -> dict[str, str]:
    """Return what became of each planted bug, by mutmut's name for it."""
    lines = mutmut(folder, 'results', '--all', 'true').splitlines()
    return dict(line.strip().rsplit(': ', 1) for line in lines if '__mutmut_' in line)


def survivor(folder: Path, name: str) -> Survivor:
    """Return what was changed."""
    lines = [line for line in mutmut(folder, 'show', name).splitlines()
             if line[:1] in '-+' and line[:3] not in ('---', '+++')]
    before, after = (' '.join(line[1:].strip() for line in lines if line[:1] == sign)
                     for sign in '-+')
    module, _, function = name.rpartition('__mutmut_')[0].rpartition('.')
    function = function.replace('xǁ', '').replace('x_', '', 1).replace('ǁ', '.')
    return Survivor(f"{module.rpartition('.')[2]}.{function}", before, after)


def main() -> int:
    """Plant, test, print, and return the exit code."""
    parser = argparse.ArgumentParser(description='Are bugs in the gate caught?')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='tests at a time')
    arguments = parser.parse_args()
    if find_spec('mutmut') is None:
        raise SystemExit('mutmut is not installed; install it with `pip install mutmut`')
    with TemporaryDirectory() as name:
        folder = Path(name)
        copy_gate(folder)
        mutmut(folder, 'run', '--max-children', str(arguments.jobs))
        found = outcomes(folder)
        alive = [survivor(folder, name) for name, outcome in found.items()
                 if outcome not in CAUGHT]
    explained = re.findall(r'^\| `([\w.]+)` \| `.*?` \| `(.*?)` \|', PAGE.read_text(),
                           re.MULTILINE)
    unexplained = [one for one in alive if (one.function, one.after) not in explained]
    share = 1 - len(alive) / len(found)
    if arguments.json:
        print(json.dumps({'planted': len(found), 'caught': len(found) - len(alive),
                          'share': share, 'unexplained': len(unexplained),
                          'survivors': [one._asdict() for one in alive]}))
    else:
        print(f'{len(found) - len(alive)} of {len(found)} planted bugs are caught ({share:.1%})')
        for one in alive:
            mark = 'NOT IN docs/safety.md' if one in unexplained else 'explained'
            print(f'{mark}: {one.function}: {one.before} -> {one.after}')
        print(machine())
    return int(share < LEAST_SHARE or bool(unexplained))


if __name__ == '__main__':
    sys.exit(main())
