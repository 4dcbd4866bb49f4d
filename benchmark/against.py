"""The same measurement at another commit and here, in turns: what has become slower."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from stream_agent.measurement.machine import show

ROOT = Path(__file__).parents[1]
ROUNDS, QUICK_ROUNDS = 5, 2
# Lines that keep a benchmark of an earlier commit from running there, and what they should be:
# until the house was rebuilt, input_path.py took CHANNELS from a module that did not have it.
REPAIRS = {'benchmark/input_path.py': (
    'from stream_agent.nodes.conversions import CHANNELS, compressed_to_array, image_to_array',
    'from stream_agent.messages import CHANNELS, compressed_to_array, image_to_array')}
Figure = float | str | bool
# Of the figures of all rounds there and here, by their keys.
Conclude = Callable[[list[dict[str, Figure]], list[dict[str, Figure]]], dict]


@contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """
    Check a commit out into a worktree of its own, which is removed at the end.

    :raises SystemExit: If git does not know the commit.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / 'tree'
        added = subprocess.run(['git', 'worktree', 'add', '--quiet', '--detach', tree, commit],
                               cwd=ROOT, capture_output=True, text=True)
        if added.returncode:
            raise SystemExit(f"--against '{commit}': {added.stderr.strip()}")
        for name, (line, repaired) in REPAIRS.items():
            if (file := tree / name).exists():
                file.write_text(file.read_text().replace(line, repaired))
        try:
            yield tree
        finally:
            subprocess.run(['git', 'worktree', 'remove', '--force', tree], cwd=ROOT, check=True)


def measure(script: Path, tree: Path, words: list[str], constants: list[str]
            ) -> dict[str, Figure]:
    """
    Run a benchmark as it is in a tree, or the one from here on the tree if it has none.

    :param words: Of the command line, besides --json.
    :param constants: As for ``compare``.
    :returns: Its figures by their keys, 'a.b' for b in a.
    :raises SystemExit: If it fails; what it printed is above.
    """
    there = tree / script.relative_to(ROOT)
    if not there.exists():
        # From here, it would find the modules that are here.
        shutil.copy(script, there)
    code = '\n'.join(['import sys', f'sys.path.insert(0, {str(there.parent)!r})',
                      f'import {script.stem} as script',
                      *(f'script.{constant}' for constant in constants), 'script.main()'])
    run = subprocess.run(
        [sys.executable, '-c', code, *words, '--json'], cwd=tree,
        env={**os.environ, 'PYTHONPATH': str(tree)}, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        raise SystemExit(f'{script.name} ended with exit code {run.returncode} in {tree}')
    return dict(flat(json.loads(run.stdout.splitlines()[-1])))


def flat(figures: dict, prefix: str = '') -> Iterator[tuple[str, Figure]]:
    """Yield the figures of nested tables, without the machine's name."""
    for key, value in figures.items():
        if isinstance(value, dict):
            yield from flat(value, f'{prefix}{key}.')
        elif key != 'machine':
            yield prefix + key, value


def is_number(values: list[Figure]) -> bool:
    """Tell whether values are numbers of which a ratio says something."""
    return all(isinstance(value, (int, float)) and not isinstance(value, bool)
               for value in values)


def comparison(there: list[dict[str, Figure]], here: list[dict[str, Figure]]
               ) -> tuple[list[str], dict]:
    """
    Hold the figures of all rounds against each other.

    :returns: A line for each key, and for programs the medians with their ratio here / there.
    """
    lines, found = [f'{"":<44} {"there":>11} {"here":>11}  here / there'], {}
    for key in sorted(there[0].keys() & here[0].keys()):
        old, new = ([figures[key] for figures in side] for side in (there, here))
        if not is_number(old + new):
            lines.append(f'{key:<44} {old[-1]!s:>11} {new[-1]!s:>11}')
            continue
        medians = float(np.median(old)), float(np.median(new))
        ratios = np.divide(new, old, out=np.full(len(new), np.nan), where=np.array(old) != 0)
        found[key] = {'there': medians[0], 'here': medians[1], 'ratio': float(np.median(ratios)),
                      'ratios': ratios.tolist()}
        lines.append(f'{key:<44} {medians[0]:>11.4g} {medians[1]:>11.4g}  '
                     f'{np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f})')
    alone = {'only_there': sorted(there[0].keys() - here[0].keys()),
             'only_here': sorted(here[0].keys() - there[0].keys())}
    lines += [f'{side.replace("_", " ")}: {", ".join(keys)}' for side, keys in alone.items()
              if keys]
    return lines, {**found, **alone}


def compare(script: Path, commit: str, words: list[str], constants: list[str],
            as_json: bool, conclude: Conclude | None = None) -> None:
    """
    Measure at a commit and here in turns, and print the ratios.

    :param words: Of the benchmark's command line.
    :param constants: 'NAME=VALUE', in Python, for constants of the benchmark's module.
    :param conclude: Returns further figures, shown below.
    """
    rounds = QUICK_ROUNDS if '--quick' in words else ROUNDS
    with tree_of(commit) as tree:
        sides: dict[Path, list] = {tree: [], ROOT: []}
        for i in range(rounds):
            for side in list(sides) if i % 2 else reversed(sides):
                sides[side].append(measure(script, side, words, constants))
    lines, figures = comparison(*sides.values())
    if conclude:
        concluded = conclude(*sides.values())
        lines += [f'{key}: {value}' for key, value in concluded.items()]
        figures |= concluded
    show([f'{script.name}, {commit} (there) and this tree (here): medians of {rounds} rounds in '
          'turns, and the ratio of a round (least to most)', *lines], figures, as_json)
