"""Files that graph files include: which may be, and in which order they are read."""

from difflib import get_close_matches
import os
from pathlib import Path

from stream_agent.graph_files.located_yaml import PlacedMap, read_yaml
from stream_agent.graph_files.shorthand import check_keys, items
from stream_agent.graph_files.templates import BODY_KEYS
from stream_agent.theory.checks import GraphError, show

FILE_KEYS = ('include', 'templates', *BODY_KEYS, 'output')
ENDINGS = ('.yaml', '.yml')
MAX_FILE_BYTES = 2**20
MAX_FILES = 100


def read_files(path: str) -> list[PlacedMap]:
    """
    Read a graph file and those that it includes, each once and after those that it includes.

    :raises OSError: If the first file cannot be read.
    :raises GraphError: If a file is no graph file, or may not be included.
    """
    read: dict[str, PlacedMap] = {}
    follow(path, [], read)
    return list(read.values())


def follow(path: str, chain: list[str], read: dict[str, PlacedMap]) -> None:
    """
    Read a file after those that it includes.

    :param chain: The files that lead to this one.
    :param read: By path; the file is added.
    """
    graph = read_file(path)
    chain = [*chain, os.path.normpath(path)]
    for place, name in items(graph.at('include'), 'list of files', graph.get('include')):
        included = included_path(place, name, chain)
        if included in chain:
            raise GraphError(f'{place}: files include each other in a circle; let one of them go: '
                             + ' -> '.join((*chain[chain.index(included):], included)))
        if included not in read:
            if len(chain) + len(read) >= MAX_FILES:
                raise GraphError(f'{place}: over {MAX_FILES} files are included; '
                                 'put some of them together')
            follow(included, chain, read)
    read[chain[-1]] = graph


def included_path(place: str, name: object, chain: list[str]) -> str:
    """
    Return the path of an included file.

    It is relative to the including file, ends in .yaml or .yml, and lies beside the graph file
    that is loaded, in a folder next to it, or further down: a graph file from elsewhere cannot
    read what else there is on the machine.
    """
    if not isinstance(name, str) or not name.endswith(ENDINGS):
        raise GraphError(f'{place}: {show(name)} is no graph file to include; '
                         f"its name ends in {' or '.join(ENDINGS)}")
    path = os.path.normpath(os.path.join(os.path.dirname(chain[-1]), name))
    top = os.path.abspath(os.path.join(os.path.dirname(chain[0]), os.pardir))
    if os.path.isabs(name) or os.path.commonpath([top, os.path.abspath(path)]) != top:
        raise GraphError(f"{place}: '{name}' leads too far away; give it relative to this file, "
                         f'within the folder {top}')
    if not os.path.isfile(path):
        there = sorted(os.path.basename(file) for file in Path(path).parent.glob('*.y*ml'))
        near = get_close_matches(os.path.basename(path), there, 1)
        raise GraphError(f"{place}: there is no file '{path}'; " + (
            f"did you mean '{near[0]}'?" if near else 'see where it lies'))
    return path


def read_file(path: str) -> PlacedMap:
    """Return what one file holds."""
    with open(path, 'rb') as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise GraphError(f'{path}:1: the file is over 1 MiB; a graph takes a few KiB')
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        raise GraphError(f'{path}:{line}: not UTF-8 text; save it as such') from None
    return check_keys('graph file', read_yaml(text, path), f'{path}:1', optional=FILE_KEYS)
