"""Nodes and edges as graph files write them: chains, ranges of names, and defaults."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import combinations, pairwise, product
from math import prod
import re
from typing import Any, NamedTuple

from stream_agent.graph_files.located_yaml import PlacedList, PlacedMap
from stream_agent.theory.checks import GraphError, nearest, show
from stream_agent.theory.graph import EdgeSpec, NodeSpec

# More nodes, edges or names than any graph has that somebody wants.
MAX_SIZE = 10_000
RANGE = re.compile(r'\{([0-9]{1,9})\.\.([0-9]{1,9})\}')


class Given(str):
    """
    Text that a block gave as the whole value of a parameter.

    A name in it belongs to where the block is used, so the block's prefix does not apply.
    """

    #: Through how many blocks it was given.
    level: int


def level_of(name: str) -> int:
    """Return through how many blocks a name was given; 0 for a name that is used as written."""
    return getattr(name, 'level', 0)


def given(name: str, level: int) -> str:
    """Return the name as one that was given through so many blocks."""
    if not level:
        return str(name)
    text = Given(name)
    text.level = level
    return text


def read_names(place: str, value: Any) -> list[str]:
    """Return the names of a name, a range of names such as ``h{1..3}``, or a list of those."""
    if isinstance(value, PlacedList):
        names = []
        for item_place, item in zip(value.places, value):
            names += read_names(item_place, item)
            check_size(place, len(names), 'names')
        return names
    if not isinstance(value, str):
        raise GraphError(f'{place}: {show(value)} is not a name; a name of letters, digits and '
                         "'_' is expected, a range such as 'h{1..3}', or a list of names")
    return [given(name, level_of(value)) for name in read_range(place, value)]


def read_range(place: str, text: str) -> list[str]:
    """Return the names that a range, or several in one name, stands for."""
    parts = RANGE.split(text)
    literals, spans = parts[::3], list(zip(parts[1::3], parts[2::3]))
    if any(brace in literal for literal in literals for brace in '{}'):
        raise GraphError(f"{place}: {show(text)} is not a range; write one as in 'h{{1..3}}', "
                         'with whole numbers')
    for first, last in spans:
        if int(last) + 1 < int(first):
            raise GraphError(f'{place}: the range {{{first}..{last}}} counts down; write '
                             f'{{{last}..{first}}}, or {{1..0}} for no name')
    check_size(place, prod(int(last) + 1 - int(first) for first, last in spans), 'names')
    return [''.join(part for pair in zip(literals, (*choice, '')) for part in pair)
            for choice in product(*(numbers_of(*span) for span in spans))]


def numbers_of(first: str, last: str) -> list[str]:
    """Return the numbers of a range; if one end begins with a 0, all have as many digits."""
    padded = any(end[0] == '0' and len(end) > 1 for end in (first, last))
    width = max(len(first), len(last)) if padded else 1
    return [str(i).zfill(width) for i in range(int(first), int(last) + 1)]


def check_size(place: str, size: int, what: str) -> None:
    """Refuse what would fill the memory."""
    if size > MAX_SIZE:
        raise GraphError(f'{place}: over {MAX_SIZE:,} {what}; a graph has fewer')


NODE_KEYS = tuple(item.name for item in fields(NodeSpec) if item.name not in ('name', 'place'))
EDGE_KEYS = tuple(item.name for item in fields(EdgeSpec)
                  if item.name not in ('source', 'target', 'options', 'place'))
ENDS = ('source', 'target')
GROUPS = ('dense', 'chain')


class NodePart(NamedTuple):
    """A node's name, and its settings as they are written."""

    name: str
    settings: PlacedMap
    place: str


class EdgePart(NamedTuple):
    """An edge's ends, and its settings and options as they are written."""

    source: str
    target: str
    settings: PlacedMap
    place: str


@dataclass
class Parts:
    """The nodes and edges of a graph file, of a template, or of a block."""

    nodes: list[NodePart] = field(default_factory=list)
    edges: list[EdgePart] = field(default_factory=list)

    def add(self, other: 'Parts') -> None:
        """Append the nodes and edges of another part."""
        self.nodes += other.nodes
        self.edges += other.edges


def check_keys(what: str, data: Any, place: str, required: tuple[str, ...] = (),
               optional: tuple[str, ...] = ()) -> PlacedMap:
    """Return a map of a kind, or refuse what is not one, lacks a key, or has an unknown one."""
    known = (*required, *optional)
    if not isinstance(data, PlacedMap):
        fault = f'the {what} is empty' if data is None else f'{show(data)} is not a {what}'
        raise GraphError(f"{place}: {fault}; write a map with the keys {', '.join(known)}")
    for key in data:
        if key not in known:
            raise GraphError(f"{data.at(key)}: '{key}' means nothing in a {what}; "
                             + nearest(key, known, 'the keys'))
    for key in required:
        if key not in data:
            raise GraphError(f"{place}: '{key}' is missing; "
                             f"the keys of a {what} are {', '.join(known)}")
    return data


def items(place: str, what: str, value: Any) -> list[tuple[str, Any]]:
    """Return the items of a list with their places; a single one may be given without a list."""
    if isinstance(value, PlacedList):
        return list(zip(value.places, value))
    if value is None:
        return []
    if not isinstance(value, (str, PlacedMap)):
        raise GraphError(f'{place}: {show(value)} is not a {what}; a list is expected')
    return [(place, value)]


def read_nodes(place: str, data: Any) -> list[NodePart]:
    """Read ``nodes``: a map from names to settings, or a list of names."""
    is_map, nodes = isinstance(data, PlacedMap), []
    for at, item in ([(data.at(key), key) for key in data] if is_map else
                     items(place, 'list of names', data)):
        if isinstance(item, PlacedMap):
            raise GraphError(f'{at}: {show(item)} is not a name; write nodes as a map '
                             'from names to settings, or as a list of names alone')
        settings = data[item] if is_map else None
        settings = PlacedMap({}, at, {}) if settings is None else settings
        check_keys('node', settings, at, optional=NODE_KEYS)
        nodes += [NodePart(name, settings, at) for name in read_names(at, item)]
    return nodes


def read_edges(place: str, data: Any) -> list[EdgePart]:
    """Read ``edges``: a list of maps and of ``u->v``."""
    edges = []
    for item_place, item in items(place, 'list of edges', data):
        if isinstance(item, str):
            pairs, settings = read_arrow(item_place, item), PlacedMap({}, item_place, {})
        elif isinstance(item, PlacedMap):
            check_edge_keys(item)
            pairs, settings = read_pairs(item), item.without(*ENDS, *GROUPS)
        else:
            raise GraphError(f"{item_place}: {show(item)} is not an edge; write 'u->v' or a map "
                             'with the keys source and target')
        edges += [EdgePart(u, v, settings, item_place) for u, v in pairs]
        check_size(item_place, len(edges), 'edges')
    return edges


def read_arrow(place: str, text: str) -> Iterable[tuple[str, str]]:
    """Return the edges of ``u->v``, or of a chain of those."""
    ends = [end.strip() for end in text.split('->')]
    if len(ends) < 2 or '' in ends:
        raise GraphError(f"{place}: {show(text)} is not an edge; write 'source->target', or a map "
                         'with the keys source and target')
    groups = [read_names(place, end) for end in ends]
    check_size(place, sum(len(a) * len(b) for a, b in pairwise(groups)), 'edges')
    return (pair for a, b in pairwise(groups) for pair in product(a, b))


def check_edge_keys(edge: PlacedMap) -> None:
    """Refuse what is meant for a key of edges but misspelt; what else there is are options."""
    for key in edge:
        if hint := misspelt(key):
            raise GraphError(f"{edge.at(key)}: '{key}' means nothing in an edge; {hint}")
    given = [key for key in (*ENDS, *GROUPS) if key in edge]
    if tuple(given) != ENDS and (len(given) != 1 or given[0] in ENDS):
        fault = f"'{given[0]}' is given alone" if len(given) == 1 else (
            f"{' and '.join(given)} do not go together" if given else 'source and target are '
            'missing')
        raise GraphError(f'{edge.place}: {fault}; an edge has source and target, or dense or '
                         'chain with a list of nodes')


@lru_cache
def misspelt(key: str) -> str:
    """Return a hint if a key of an edge is nearly, but not quite, one that means something."""
    known = (*ENDS, *GROUPS, *EDGE_KEYS)
    hint = '' if key in known else nearest(key, known, 'the keys', cutoff=0.8)
    return hint if hint.startswith('did') else ''


def read_pairs(edge: PlacedMap) -> Iterable[tuple[str, str]]:
    """Return the ends of all edges that one map stands for."""
    first, *others = (read_names(edge.at(key), edge[key]) for key in (*ENDS, *GROUPS)
                      if key in edge)
    if 'chain' in edge:
        return pairwise(first)
    if 'dense' in edge:
        check_size(edge.place, len(first) * (len(first) - 1) // 2, 'edges')
        for name in first:
            if first.count(name) > 1:
                raise GraphError(f"{edge.at('dense')}: '{name}' is listed twice; dense leads from "
                                 'every node to every later one')
        return combinations(first, 2)
    check_size(edge.place, len(first) * len(others[0]), 'edges')
    return product(first, others[0])
