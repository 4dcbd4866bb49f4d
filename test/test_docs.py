"""The documentation: commands print what the pages say, and what they name is there."""

import ast
from contextlib import redirect_stdout, suppress
from dataclasses import fields
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
import re
import shlex

import pytest
from stream_agent.__main__ import COMMANDS, main
from stream_agent.network.transforms import ACTIVATIONS, CELLS, NORMALISATIONS, TRANSFORMS
from stream_agent.theory.graph import EdgeSpec, NodeSpec
from studies.__main__ import STUDIES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'benchmark' / 'README.md',
         ROOT / 'studies' / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
COLUMNS = 120
# Its language, or none, and its lines.
BLOCK = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LAUNCHED = re.compile(r"DeclareLaunchArgument\(\s*'(\w+)'")
# A block that begins with a command and goes on with what it prints.
EXAMPLE = re.compile(r'^```\n\$ python -m stream_agent (.*)\n((?:.*\n)*?)```$', re.MULTILINE)
EXAMPLES = [(path.name, command, output) for path in PAGES
            for command, output in EXAMPLE.findall(path.read_text())]


@pytest.mark.parametrize('page, command, output', EXAMPLES,
                         ids=[command for _, command, _ in EXAMPLES])
def test_a_command_prints_what_the_page_says(page, command, output, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out == output


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


def anchors(page):
    """Return what a link into a page may name: its headings, as they become anchors."""
    headings = re.findall(r'^#+ (.*)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading).lower().replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('path', PAGES, ids=NAMES)
def test_links_lead_somewhere(path):
    links = re.findall(r'\]\(([^)#:]+)(?:#([^)]+))?\)', path.read_text())
    lost = [link for link, _ in links if not (path.parent / link).exists()]
    lost += [f'{link}#{anchor}' for link, anchor in links
             if anchor and anchor not in anchors(path.parent / link)]
    assert lost == []


@pytest.mark.parametrize('path', PAGES, ids=NAMES)
def test_commands_that_a_page_names_are_there(path):
    text = path.read_text()
    named = re.findall(r'(?:python -m|ros2 run) stream_agent ([a-z_]+)', text)
    assert set(named) - {*COMMANDS, 'record', 'experiment'} == set()
    assert set(re.findall(r'python -m studies ([a-z][\w-]*)', text)) <= set(STUDIES)
    scripts = re.findall(r'python ((?:benchmark|studies)/[\w/]+\.py)', text)
    assert [script for script in scripts if not (ROOT / script).exists()] == []


def commands_of(page):
    """Return the words of every command in a page that runs something of this package."""
    found = []
    for language, block in BLOCK.findall(page.read_text()):
        for line in block.splitlines() if not language else ():
            for part in re.split(r' && | &(?:$| )', line.partition(' #')[0]):
                if re.match(r'(\$ )?(python -m|ros2 run|ros2 launch) stream_agent ', part):
                    words = shlex.split(part)
                    found.append(words[words.index('stream_agent') - 1:])
    return found


@cache
def what_it_takes(command):
    """Return the options and parameters that a command's help names."""
    with redirect_stdout(StringIO()) as said, suppress(SystemExit):
        main([command, '--help'])
    return set(re.findall(r'--\w[\w-]*|^  [a-z]\w+', said.getvalue(), re.MULTILINE))


@cache
def launch_arguments(file):
    names = {name for name in (file, 'agent.launch.py')
             for name in LAUNCHED.findall((ROOT / 'launch' / name).read_text())}
    assert len(names) > 10
    return names


@pytest.mark.parametrize('path', PAGES, ids=NAMES)
def test_what_commands_of_a_page_are_given_is_there(path):
    for how, _, name, *words in commands_of(path):
        if how == 'launch':
            unknown = {word.partition(':=')[0] for word in words} - launch_arguments(name)
        else:
            given = {word.partition('=')[0] for word in words
                     if word.startswith('--')} - {'--ros-args', '--params-file'}
            given |= {'  ' + value.partition(':=')[0].rpartition(':')[2]
                      for word, value in zip(words, words[1:]) if word == '-p'}
            unknown = given - what_it_takes(name) if given else set()
        assert unknown == set(), f'{name} {" ".join(words)}'
        for flag, robot in zip(words, words[1:]):
            if flag == '--robot' and not robot.endswith('.yaml'):
                assert (ROOT / 'config' / 'robots' / f'{robot}.yaml').exists()


def test_a_page_with_an_option_that_there_is_not_is_found(tmp_path):
    page = tmp_path / 'page.md'
    for line in ('python -m stream_agent draw lane --whatever all',
                 'ros2 run stream_agent gate --ros-args -p gate:max_sped:=1.0 &',
                 'ros2 launch stream_agent agent.launch.py robbot:=turtlebot4   # a comment'):
        page.write_text(f'```yaml\na: b\n```\n\n```\n{line}\n```\n')
        with pytest.raises(AssertionError):
            test_what_commands_of_a_page_are_given_is_there(page)


@pytest.mark.parametrize('path', PAGES, ids=NAMES)
def test_imports_of_an_example_are_there(path):
    for block in re.findall(r'^```python\n(.*?)^```$', path.read_text(), re.MULTILINE | re.DOTALL):
        for statement in ast.walk(ast.parse(block)):
            if isinstance(statement, ast.ImportFrom) and statement.module.startswith(
                    'stream_agent'):
                module = import_module(statement.module)
                assert all(hasattr(module, item.name) for item in statement.names)


@pytest.mark.parametrize('path', PAGES, ids=NAMES)
def test_lines_of_text_are_short(path):
    text = re.sub(r'^```.*?^```$', '', path.read_text(), flags=re.MULTILINE | re.DOTALL)
    # What follows is as the study of the regimes prints it.
    text = text.partition('## All figures')[0]
    # A row of a table, or a picture, is one line whatever its length.
    lines = [line for line in text.splitlines() if not line.startswith(('|', '![', '<img'))]
    assert [line for line in lines if len(line) > COLUMNS] == []


def test_the_page_on_graph_files_names_all_there_is():
    page = (ROOT / 'docs' / 'graphs.md').read_text()
    named = set(re.findall(r'`([a-z_]+)`', page))
    own = {item.name for spec in (NodeSpec, EdgeSpec) for item in fields(spec)}
    assert own - {'name', 'place', 'options'} <= named
    assert {*TRANSFORMS, *ACTIVATIONS, *NORMALISATIONS, *CELLS} <= named


def test_every_page_is_in_the_index():
    listed = re.findall(r'^   (\w+)$', (ROOT / 'docs' / 'index.rst').read_text(), re.MULTILINE)
    # The API's page is made when the documentation is.
    assert sorted(listed) == sorted(
        ['modules', *(page.stem for page in (ROOT / 'docs').glob('*.md'))])


def test_every_rule_that_the_code_cites_is_defined_and_held_by_a_test():
    page = (ROOT / 'docs' / 'safety.md').read_text()
    rows = re.findall(r'^\| ([A-Z][0-9]+) \|(.*)\|$', page, re.MULTILINE)
    defined = [name for name, _ in rows]
    sources = [path.read_text() for folder in ('stream_agent', 'launch', 'config', 'test')
               for ending in ('*.py', '*.yaml', '*.xml')
               for path in sorted((ROOT / folder).rglob(ending))]
    cited = {name for text in sources for tags in re.findall(
        r'\(((?:[A-Z][0-9]+, )*[A-Z][0-9]+)\)', text) for name in tags.split(', ')}
    assert {'G1', 'P5'} <= cited
    assert len(defined) == len(set(defined)) and cited <= set(defined)
    tests = {name for text in sources for name in re.findall(r'def (test_\w+)', text)}
    named = [set(re.findall(r'`(test_\w+)`', cell)) for _, cell in rows]
    assert all(named) and set(re.findall(r'`(test_\w+)`', page)) <= tests


def test_every_module_that_upgrading_names_is_there():
    page = (ROOT / 'docs' / 'upgrading.md').read_text()
    named = re.findall(r'^\| (?:`[a-z_.]+`(?:, )?)+ \| `([a-z_.]+)` \|$', page, re.MULTILINE)
    assert len(named) > 50
    assert [name for name in named if find_spec(f'stream_agent.{name}') is None] == []
