"""Command line: everything about a rollout of a graph, before anything is trained."""

import argparse
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
import json
import math
import sys
from typing import Any

from stream_agent.bounded_settings import choice, quantity
from stream_agent.cli.arguments import (
    add_graph, add_rollout, add_settings, command, plural, read_graph, read_pattern)
from stream_agent.cli.command_parser import CommandParser
from stream_agent.theory.checks import GraphError
from stream_agent.theory.counting import count_bounds, count_valid_patterns, CountError
from stream_agent.theory.cycles import steps_per_frame_pipelined
from stream_agent.theory.enumeration import (
    EnumerationError, minimal_patterns, sequential_patterns, valid_patterns)
from stream_agent.theory.frame_schedule import window_components
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import first_response, images_seen, information_ages
from stream_agent.theory.patterns import (
    InvalidRolloutError, Pattern, streaming_edges, update_order)
from stream_agent.theory.rollout import inference_factor, inference_tableau, response_cone

# Nodes times edges of a graph whose patterns are listed, and seconds to look for each.
MOST_LISTED, PATIENCE = 10_000_000, 3.0
# Images that the nodes of a window depend on, all together.
MOST_IMAGES = 2_000_000
LISTS: dict = {'valid': valid_patterns,
               'minimal': partial(minimal_patterns, patience=PATIENCE),
               'sequential': partial(sequential_patterns, patience=PATIENCE)}


def describe(graph: GraphSpec, pattern: Pattern, size: int | None) -> dict[str, Any]:
    """Return what ``--json`` prints, in a window up to the first response if no size is given."""
    response = first_response(graph, pattern)
    largest = math.isqrt(MOST_IMAGES // len(graph.nodes))
    size = min(largest, max(4, response.frame)) if size is None else size
    if size > largest:
        raise ValueError(f'--window: {size} frames of {len(graph.nodes)} nodes are too many; '
                         f'{largest} are the most')
    tableau = inference_tableau(graph, pattern, size)
    seen = images_seen(graph, pattern, size)
    cones = [response_cone(graph, pattern, frame) for frame in range(graph.hyperperiod)]
    return {
        'nodes': len(graph.nodes),
        'edges': len(graph.edges),
        'inputs': list(graph.inputs),
        'output': graph.output,
        'valid_patterns': exact_count(graph),
        'valid_patterns_bounds': list(count_bounds(graph)),
        'streams': streaming_edges(pattern),
        'inference_factor': inference_factor(graph, pattern),
        'steps_per_frame_pipelined': steps_pipelined(graph, pattern),
        'first_response': response._asdict(),
        'information_age': ages(graph, pattern),
        'response_cone': [name for name in update_order(graph, pattern)
                          if any(name in cone for cone in cones)],
        'training_windows': [{'nodes': list(component.nodes), 'way': component.way}
                             for component in window_components(graph, pattern)],
        'schedule': {node.name: {'period': node.period, 'offset': node.offset}
                     for node in graph.nodes if node.period > 1},
        'inference_tableau': {node.name: [tableau[i, node.name] for i in range(size + 1)]
                              for node in graph.nodes},
        'images': {str(i): sorted(seen[i, graph.output]) for i in range(size + 1)}}


def exact_count(graph: GraphSpec) -> int | None:
    """Return the number of valid patterns; None where counting would take too long."""
    try:
        return count_valid_patterns(graph)
    except CountError as error:
        print(f'rollouts: {error}', file=sys.stderr)
        return None


def steps_pipelined(graph: GraphSpec, pattern: Pattern) -> float | None:
    """Return the update steps of a pipelined frame; None where finding them takes too long."""
    try:
        steps = steps_per_frame_pipelined(graph, pattern)
    except GraphError:
        return None
    return int(steps) if steps.denominator == 1 else float(steps)


def ages(graph: GraphSpec, pattern: Pattern) -> dict[str, int] | None:
    """Return the ages of an answer's information; None if no edge of a cycle is marked."""
    try:
        return information_ages(graph, pattern)._asdict()
    except InvalidRolloutError:
        return None


def table(data: dict[str, Any]) -> str:
    """Write a description for people."""
    low, high = data['valid_patterns_bounds']
    response, count = data['first_response'], data['valid_patterns']
    steps = data['steps_per_frame_pipelined']
    pipelined = 'unknown' if steps is None else f'{steps:g}'
    lines = [
        ('graph', f"{plural(data['nodes'], 'node')}, {plural(data['edges'], 'edge')}; "
                  f"{' and '.join(data['inputs'])} -> {data['output']}"),
        ('valid patterns', f"{'unknown' if count is None else large(count)} "
                           f'(Lemma 1: {large(low)} to {large(high)})'),
        ('streaming edges', ', '.join(data['streams']) or 'none'),
        ('inference factor', f"{plural(data['inference_factor'], 'update step')} a frame; if "
                             f'frames are pipelined {pipelined}'),
        ('first response', f"frame {response['frame']}, update step {response['update_step']}"
         + ('' if str(response['frame']) in data['images'] else ', beyond the window below')),
        ('response cone', ', '.join(data['response_cone'])),
        ('training', training(data['training_windows']))]
    if data['information_age']:
        lines.append(('information', 'newest {newest}, oldest {oldest} frames old'.format(
            **data['information_age'])))
    if data['schedule']:
        lines.append(('schedule', ', '.join(
            f"{name} every {rate['period']} frames from {rate['offset']}"
            for name, rate in data['schedule'].items())))
    rows = [('frame', list(data['images'])), *data['inference_tableau'].items()]
    name_width = max(len(name) for name, _ in rows)
    width = max(len(str(steps)) for _, row in rows for steps in row)
    return '\n'.join([
        *(f'{title:<17} {value}' for title, value in lines), '',
        'inference tableau: update steps until a node is there',
        *(f'  {name:<{name_width}}  ' + ' '.join(f'{steps:>{width}}' for steps in row)
          for name, row in rows), '', f"images that {data['output']} depends on",
        *(f'  frame {i}: {spans(images)}' for i, images in data['images'].items())])


def training(components: list[dict[str, Any]]) -> str:
    """Write which nodes of a window are computed in which way."""
    ways: dict[str, list[str]] = {}
    for component in components:
        ways.setdefault(component['way'], []).extend(component['nodes'])
    return '; '.join(f"{', '.join(nodes)} {way}" for way, nodes in ways.items())


def large(number: int) -> str:
    """Write a number that may have hundreds of digits."""
    return f'{number:,}' if number < 10**15 else f'about 2^{math.log2(number):.1f}'


def spans(images: list[int]) -> str:
    """Write ascending indices with runs of them abbreviated."""
    # In a run all indices are ahead of their places by the same.
    runs = [[i for _, i in run] for _, run in
            groupby(enumerate(images), lambda pair: pair[1] - pair[0])]
    return ', '.join(str(run[0]) if len(run) == 1 else f'{run[0]} to {run[-1]}'
                     for run in runs) or 'none'


def print_list(graph: GraphSpec, which: str, limit: int, as_json: bool) -> None:
    """Print patterns of a kind by their streaming edges, and those found before an error too."""
    if len(graph.nodes) * len(graph.edges) > MOST_LISTED:
        raise EnumerationError(f'--list: {len(graph.nodes)} nodes and {len(graph.edges)} edges '
                               'are too many to list patterns of; without --list they are counted')
    streams, fault = [], None
    try:
        for pattern in islice(LISTS[which](graph), limit + 1):
            streams.append(streaming_edges(pattern))
    except EnumerationError as error:
        fault = error
    more, streams = len(streams) > limit, streams[:limit]
    if as_json:
        print(json.dumps({'kind': which, 'streams': streams,
                          'complete': not (more or fault)}, indent=2))
    else:
        print(*(','.join(edges) or '(none)' for edges in streams), sep='\n')
        if more:
            print(f'and more; --limit {2 * limit} shows twice as many')
    if fault:
        raise fault


@dataclass(frozen=True)
class RolloutOptions:
    """What is told about a rollout, or which rollouts are listed instead."""

    window: int | None = quantity(
        None, '', 1, 10**6, 'last frame of the tableau; without it, as far as the first response, '
        'at least 4', whole=True)
    list: str | None = choice(
        None, "instead, list patterns by their streaming edges: all 'valid' ones; 'minimal' ones, "
        "in which no other edge can be R = 0; 'sequential' ones, with the fewest streaming edges",
        tuple(LISTS))
    limit: int = quantity(20, '', 1, 10**9, 'how many to list')
    json: bool = choice(False, 'print figures for programs')


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser('rollouts', __doc__)
    add_graph(parser)
    add_rollout(parser)
    add_settings(parser, RolloutOptions)
    return parser.parse_args(args)


def run(arguments: argparse.Namespace) -> None:
    """Print what is asked for."""
    graph = read_graph(arguments)
    if arguments.list:
        print_list(graph, arguments.list, arguments.limit, arguments.json)
        return
    data = describe(graph, read_pattern(graph, arguments), arguments.window)
    print(json.dumps(data, indent=2) if arguments.json else table(data))


main = command('rollouts', parse, run)
