"""
Graph files: YAML in, validated nodes and edges out; and files of what the nodes cost.

A graph's file gives its nodes, its edges and its output; templates hold what repeats, and included
files what several graphs have in common. A file of costs keeps what a device takes for every node.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
import os
from pathlib import Path
from typing import Any

from stream_agent.graph_files.located_yaml import place_data, PlacedMap, plain, read_yaml
from stream_agent.graph_files.shorthand import (
    check_keys, check_size, EDGE_KEYS, EdgePart, items, NodePart, Parts)
from stream_agent.graph_files.templates import BODY_KEYS, Expansion, read_templates
from stream_agent.share import costs_file, write_file
from stream_agent.theory.checks import (
    check_ends, check_output, check_setting, GraphError, nearest, show)
from stream_agent.theory.graph import EdgeSpec, GraphSpec, NodeSpec
from stream_agent.theory.patterns import Edge
from stream_agent.theory.planning.costs import check_costs, check_seconds, CostError, NodeCosts
import yaml


def with_copies(graph: GraphSpec, delays: Mapping[Edge, int]) -> GraphSpec:
    """
    Return a graph in which edges u -> v have R = d > 1, by d - 1 copy nodes in between.

    u -> u_v_1 -> ... -> v stream, so node v of frame i reads u of frame i - d (SR18: "R(e) > 1
    reduces to {0, 1}"). A copy holds what its source had a frame ago; the last edge is the
    former one, with its transform and its options.

    :param delays: d by (source, target), at least 1, where the edge is only marked to stream.
    :raises GraphError: If there is no such edge, or a delay is not a whole number of frames.
    """
    names = [edge.name for edge in graph.edges]
    for (u, v), delay in delays.items():
        if f'{u}->{v}' not in names:
            raise GraphError(f"delays: no edge '{u}->{v}'; {nearest(f'{u}->{v}', names, 'edges')}")
        if type(delay) is not int or delay < 1:
            raise GraphError(f'delays.{u}->{v}: {delay!r} is not a whole number of frames, 1 or '
                             'more; an edge with R = 0 needs no entry')
        if u == v and delay > 1 and graph.node(u).cell:
            raise GraphError(f"delays.{u}->{v}: the cell of '{u}' reads its own last value; "
                             'write streams: true')
    nodes, edges = dict(graph.by_name), []
    for edge in graph.edges:
        delay = delays.get((edge.source, edge.target), 0)
        source, end = graph.node(edge.source), edge.source
        for i in range(1, delay):
            name = f'{edge.source}_{edge.target}_{i}'
            while name in nodes:
                name += '_'
            nodes[name] = NodeSpec(name, source.shape, source.channels, place=edge.place)
            edges.append(EdgeSpec(end, name, 'identity', streams=True, place=edge.place))
            end = name
        edges.append(replace(edge, source=end, streams=edge.streams or delay > 0))
    return replace(graph, nodes=tuple(nodes.values()), edges=tuple(edges))


FILE_KEYS = ('include', 'templates', *BODY_KEYS, 'output')
ENDINGS = ('.yaml', '.yml')
MAX_FILE_BYTES = 2**20
MAX_FILES = 100


def load_graph(path: str | Path) -> GraphSpec:
    """
    Read a graph file and the files that it includes.

    :raises OSError: If the file cannot be read.
    :raises GraphError: With file and line, the fault and the remedy.
    """
    read: dict[str, PlacedMap] = {}
    follow(str(path), [], read)
    return build([*read.values()], check_touched)


def graph_from_data(data: Any) -> GraphSpec:
    """
    Build a graph from what a graph file holds.

    :param data: ``{'nodes': {name: {...}}, 'edges': [{...}], 'output': name}``, and whatever
        else a file may hold but ``include``, which needs a file.
    :raises GraphError: With the way to the fault in the data, the fault and the remedy.
    """
    graph = check_keys('graph', place_data(data), 'graph', optional=FILE_KEYS)
    if 'include' in graph:
        raise GraphError('include: this graph is not a file, so it cannot include others; '
                         'write the nodes and edges out')
    return build([graph], check_ends)


def build(files: list[PlacedMap], check: Callable) -> GraphSpec:
    """Return the graph of files, each after those that it includes; ``check`` sees the whole."""
    expansion = Expansion(read_templates(files))
    parts = Parts()
    for file in files:
        parts.add(expansion.read(file))
    edges = [edge_spec(edge) for edge in parts.edges]
    delays = {(edge.source, edge.target): edge.settings['streams'] for edge in parts.edges
              if edge.settings.get('streams', False) not in (True, False)}
    check_size(files[-1].at('edges'), len(edges) + sum(delays.values()), 'edges')
    places: dict[str, str] = {}
    for edge in edges:
        places.setdefault(edge.source, edge.place)
        places.setdefault(edge.target, edge.place)
    nodes = [node_spec(node) for node in parts.nodes] or [
        NodeSpec(name, place=place) for name, place in places.items()]
    check(nodes, edges)
    graph = GraphSpec(tuple(nodes), tuple(edges), output_of(files, nodes, edges),
                      files[-1].at('edges'))
    return with_copies(graph, delays) if delays else graph


def check_touched(nodes: list[NodeSpec], edges: list[EdgeSpec]) -> None:
    """Refuse unknown nodes, and those without an edge, which a user has forgotten."""
    check_ends(nodes, edges)
    ends = {name for edge in edges for name in (edge.source, edge.target)}
    for node in nodes if edges else ():
        if node.name not in ends:
            raise GraphError(f"{node.place}: no edge leads to or from '{node.name}'; connect it, "
                             'or leave it out')


def node_spec(node: NodePart) -> NodeSpec:
    """Make one node."""
    for key, value in node.settings.items():
        check_setting(node.settings.at(key), node.name, key, value)
    settings = plain(node.settings)
    for key in {'shape', 'body'} & settings.keys():
        settings[key] = settings[key] and tuple(settings[key])
    return NodeSpec(str(node.name), **settings, place=node.place)


def edge_spec(edge: EdgePart) -> EdgeSpec:
    """Make one edge; keys that are not its own are options of the transform."""
    name = f'{edge.source}->{edge.target}'
    for key, value in edge.settings.items():
        if key == 'streams':
            check_streams(edge.settings.at(key), name, value)
        elif key in EDGE_KEYS:
            check_setting(edge.settings.at(key), name, key, value)
    settings = plain(edge.settings)
    own = {key: settings.pop(key) for key in EDGE_KEYS if key in settings}
    own['streams'] = bool(own.get('streams', False))
    return EdgeSpec(str(edge.source), str(edge.target), **own, options=settings, place=edge.place)


def check_streams(place: str, name: str, value: Any) -> None:
    """Refuse what says neither whether an edge streams nor by how many frames."""
    if type(value) is not bool and (type(value) is not int or value < 2):
        meant = {'0': 'write false, the source of the same frame',
                 '1': 'write true, the source one frame before'}
        raise GraphError(f"{place}: streams of '{name}' is {show(value)}; " + meant.get(
            show(value), 'it has to be true or false, or 2 and more for so many frames'))


def output_of(files: list[PlacedMap], nodes: list[NodeSpec], edges: list[EdgeSpec]) -> str:
    """Return the output: what the last file says that says it, or the one node at the end."""
    names = [node.name for node in nodes]
    fed = {edge.target for edge in edges}
    for file in reversed(files):
        if file.get('output') is not None:
            check_output(file.at('output'), file['output'], names,
                         [name for name in names if edges and name not in fed])
            return str(file['output'])
    sources = {edge.source for edge in edges if edge.target != edge.source}
    ends = [name for name in names if name not in sources]
    if len(ends) != 1 and edges:
        raise GraphError(f"{files[-1].place}: 'output' is missing; " + (
            f"it is one of {', '.join(ends)}, from which no edge leads further" if ends else
            'every node leads to another one, so say which it is'))
    return ''.join(ends[:1])


def follow(path: str, chain: list[str], read: dict[str, PlacedMap]) -> None:
    """Read a file after those that it includes, each once; the files of a chain lead to it."""
    graph = read_file(path)
    chain = [*chain, os.path.normpath(path)]
    for place, name in items(graph.at('include'), 'list of files', graph.get('include')):
        included = included_path(place, name, chain)
        if included in chain:
            raise GraphError(f'{place}: files include each other in a circle; remove one include: '
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
        raise GraphError(f'{place}: {show(name)} is not a graph file to include; '
                         f"its name ends in {' or '.join(ENDINGS)}")
    path = os.path.normpath(os.path.join(os.path.dirname(chain[-1]), name))
    top = os.path.abspath(os.path.join(os.path.dirname(chain[0]), os.pardir))
    if os.path.isabs(name) or os.path.commonpath([top, os.path.abspath(path)]) != top:
        raise GraphError(f"{place}: '{name}' is too far away; give a path relative to this file, "
                         f'within the folder {top}')
    if not os.path.isfile(path):
        there = sorted(os.path.basename(file) for file in Path(path).parent.glob('*.y*ml'))
        near = get_close_matches(os.path.basename(path), there, 1)
        raise GraphError(f"{place}: there is no file '{path}'; " + (
            f"did you mean '{near[0]}'?" if near else 'check the path'))
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


def load_costs(path: str | Path, graph: GraphSpec, part: bool = False) -> NodeCosts:
    """
    Read a file that ``save_costs`` wrote, or that was written by hand.

    :param path: The file, or a name in ``config/graphs``.
    :param part: The graph may be a part of the one that the file is about.
    :raises OSError: If the file cannot be read.
    :raises InstallationError: If there is none.
    :raises CostError: If it does not fit the graph.
    """
    file = costs_file(path)
    try:
        data = plain(read_yaml(file.read_text(), str(path)))
        if not isinstance(data, dict) or not isinstance(data.get('nodes'), dict):
            raise CostError("'nodes' is missing, a map from node to seconds; 'overhead' and "
                            "'source' may be given beside it")
        strange = data.keys() - {'nodes', 'overhead', 'source'}
        if strange:
            raise CostError(f"'{min(strange)}' means nothing here; the keys are nodes, overhead, "
                            'source')
        costs = NodeCosts(data['nodes'], data.get('overhead', 0.0), str(data.get('source', '')))
        if part:
            costs = part_of_costs(costs, graph)
        check_costs(costs, graph)
        return replace(costs, nodes={name: float(cost) for name, cost in costs.nodes.items()})
    except UnicodeDecodeError:
        raise CostError(f'{path}: not text; costs are YAML, nodes: {{name: seconds, ...}}'
                        ) from None
    except GraphError as error:
        raise CostError(str(error)) from None
    except CostError as error:
        raise CostError(f'{path}: {error}') from None


def part_of_costs(costs: NodeCosts, graph: GraphSpec) -> NodeCosts:
    """Return the costs of a graph's own nodes, and the sum of the others."""
    own = {name: cost for name, cost in costs.nodes.items() if name in graph.by_name}
    others = {name: cost for name, cost in costs.nodes.items() if name not in own}
    for name, seconds in others.items():
        check_seconds(f"the cost of '{name}'", seconds)
    return replace(costs, nodes=own, elsewhere=float(sum(others.values())))


def save_costs(path: str | Path, costs: NodeCosts) -> None:
    """Write a file that ``load_costs`` reads."""
    write_file(
        path, '# Seconds of every node; `stream_agent plan --costs` reads it.\n' + yaml.safe_dump(
            {'source': costs.source, 'overhead': float(costs.overhead),
             'nodes': {name: float(value) for name, value in costs.nodes.items()}},
            sort_keys=False))
