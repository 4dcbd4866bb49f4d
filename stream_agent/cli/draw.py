"""Command line: draw a graph, its rollout window, what depends on an image, and update steps."""

import argparse
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stream_agent.bounded_settings import file_path, quantity, several
from stream_agent.cli.arguments import (
    add_graph, add_rollout, add_settings, command, read_graph, read_pattern)
from stream_agent.cli.command_parser import CommandParser
from stream_agent.drawing.graph_picture import draw_graph, name_of
from stream_agent.drawing.plot_style import save
from stream_agent.drawing.steps_animation import animate_update_steps
from stream_agent.drawing.window_picture import draw_influence, draw_window
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import frames_until_response
from stream_agent.theory.patterns import (
    InvalidRolloutError, Pattern, sequential_pattern, streaming_pattern)

PICTURES = ('graph', 'window', 'influence', 'steps')
# The image whose influence is drawn: the first after a reset.
IMAGE = 1
LEAST_WINDOW, MOST_WINDOW = 4, 12


def compared(graph: GraphSpec, pattern: Pattern) -> dict[str, Pattern]:
    """Return the pattern that is asked about, and the one it is compared with."""
    found = {name_of(graph, pattern): pattern}
    with suppress(InvalidRolloutError):
        found.setdefault('sequential', sequential_pattern(graph))
    if len(found) == 1:
        found = {'streaming': streaming_pattern(graph), **found}
    return found


def run(arguments: argparse.Namespace) -> None:
    """
    Write the pictures that the command line asks for, and print each file once it is there.

    Files are named after the graph, the picture, and the pattern unless it is the streaming one.
    """
    graph, name = read_graph(arguments), Path(arguments.graph).stem
    pattern = read_pattern(graph, arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    kind = name_of(graph, pattern)
    ending = '' if kind == 'streaming' else '_' + kind.split(', ')[-1].replace(' ', '_')
    patterns = compared(graph, pattern)
    # All patterns respond in it, and there is one frame more, within limits.
    size = arguments.window or min(MOST_WINDOW, max(LEAST_WINDOW, IMAGE + 1 + max(
        frames_until_response(graph, one) for one in patterns.values())))
    figures = {'graph': lambda: draw_graph(graph, pattern, name),
               'window': lambda: draw_window(graph, pattern, size, name),
               'influence': lambda: draw_influence(graph, patterns, IMAGE, size, name)}
    for what in PICTURES if 'all' in arguments.what else dict.fromkeys(arguments.what):
        path = arguments.output / f'{name}_{what}{ending}'
        if what == 'steps':
            animation = Path(f'{path}.gif')
            animate_update_steps(graph, patterns, size, animation, name)
            print(animation, flush=True)
            continue
        figure = figures[what]()
        for suffix in dict.fromkeys(arguments.format):
            picture = Path(f'{path}.{suffix}')
            save(figure, picture)
            print(picture, flush=True)


@dataclass(frozen=True)
class DrawOptions:
    """What is drawn, and where to."""

    window: int | None = quantity(
        None, '', 1, 10**6, 'the last frame that is drawn; without it, as many as it takes to see '
        'the first response', whole=True)
    what: tuple[str, ...] = several(
        ('graph',), "pictures to draw; 'influence' and 'steps' compare the pattern with the "
        "sequential one, and 'steps' is an animation (GIF)", among=(*PICTURES, 'all'))
    output: Path = file_path(Path(), 'folder for the pictures', 'DIR')
    format: tuple[str, ...] = several(('svg',), 'of the pictures', among=('svg', 'png'))


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser('draw', __doc__)
    add_graph(parser)
    add_rollout(parser)
    add_settings(parser, DrawOptions)
    return parser.parse_args(args)


main = command('draw', parse, run)
