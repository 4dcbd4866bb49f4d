"""The documentation: commands print what the pages say, and pictures are there."""

from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
import re
import shlex

import pytest
from stream_agent.__main__ import main
from stream_agent.network.transforms import ACTIVATIONS, CELLS, NORMALISATIONS, TRANSFORMS
from stream_agent.theory.graph import EdgeSpec, NodeSpec

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
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


@pytest.mark.parametrize('path', PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    links = re.findall(r'\]\(([^)#:]+)\)', path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


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
    rows = re.findall(r'^\| ([A-Z][0-9]+) \|.*\| (.*) \|$',
                      (ROOT / 'docs' / 'safety.md').read_text(), re.MULTILINE)
    defined = [name for name, _ in rows]
    sources = [path.read_text() for folder in ('stream_agent', 'launch', 'test')
               for path in sorted((ROOT / folder).rglob('*.py'))]
    cited = {name for text in sources for tags in re.findall(
        r'\(((?:[A-Z][0-9], )*[A-Z][0-9])\)', text) for name in tags.split(', ')}
    assert len(defined) == len(set(defined))
    assert {'G1', 'P5'} <= cited <= set(defined)
    tests = {name for text in sources for name in re.findall(r'def (test_\w+)', text)}
    named = [set(re.findall(r'`(test_\w+)`', cell)) for _, cell in rows]
    assert all(named) and set.union(*named) <= tests


def test_every_module_that_upgrading_names_is_there():
    page = (ROOT / 'docs' / 'upgrading.md').read_text()
    named = re.findall(r'^\| (?:`[a-z_.]+`(?:, )?)+ \| `([a-z_.]+)` \|$', page, re.MULTILINE)
    assert len(named) > 50
    assert [name for name in named if find_spec(f'stream_agent.{name}') is None] == []
