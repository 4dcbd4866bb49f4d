"""Limits that keep the package one that a newcomer can read; what grows over one is divided."""

import ast
from pathlib import Path

import pytest
from test_layering import imports, PACKAGE

ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob('*.py'))


def path_of(name: str) -> Path | None:
    """Return the file of a module of the package, by its full name."""
    path = ROOT.joinpath(*name.split('.'))
    for file in (path.with_suffix('.py'), path / '__init__.py'):
        if file.exists():
            return file
    return None


def closure(start: str) -> set[Path]:
    """Return the modules of the package that one needs, imports within functions included."""
    found: set[Path] = set()
    waiting = [path_of(start)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        waiting += [found_at for name in imports(path) if name.startswith('stream_agent.')
                    if (found_at := path_of(name))]
    return {path for path in found if path.name != '__init__.py'}


def test_the_package_is_small():
    assert len(MODULES) <= 255
    assert sum(len(path.read_text().splitlines()) for path in MODULES) <= 51_000


def test_five_files_are_in_no_folder():
    assert sorted(path.name for path in PACKAGE.glob('*.py') if path.name != '__init__.py') == [
        '__main__.py', 'bounded_settings.py', 'command.py', 'images.py', 'share.py']


@pytest.mark.parametrize('start, most', [
    ('stream_agent.nodes.agent_node', 70), ('stream_agent.cli.train', 95)])
def test_what_a_process_imports(start, most):
    found = closure(start)
    assert len(found) <= most, sorted(str(path.relative_to(PACKAGE)) for path in found)
    assert path_of(start) in found


def test_modules_and_functions_are_short():
    long = []
    for path in MODULES:
        text = path.read_text()
        if len(text.splitlines()) > 400:
            long.append(str(path))
        long += [f'{path}:{node.lineno} {node.name}' for node in ast.walk(ast.parse(text))
                 if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60]
    assert not long


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_text().split()) <= 900


def test_imports_are_followed():
    found = {path.name for path in closure('stream_agent.nodes.agent_node')}
    assert {'engine.py', 'frame_filter.py', 'checkpoint.py'} <= found
    assert imports(PACKAGE / 'nodes' / 'agent_node.py')
