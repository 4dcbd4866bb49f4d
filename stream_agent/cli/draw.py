"""Command line: draw a graph, its rollout window, what depends on an image, and update steps."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stream_agent.bounded_settings import file_path, quantity, several
from stream_agent.cli.arguments import (
    add_graph, add_rollout, add_settings, read_graph, read_pattern, run_tool)
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
    try:
        found.setdefault('sequential', sequential_pattern(graph))
    except InvalidRolloutError:
        pass
    if len(found) == 1:
        found = {'streaming': streaming_pattern(graph), **found}
    return found


def window_size(graph: GraphSpec, patterns: dict[str, Pattern]) -> int:
    """Return a window in which all patterns respond, and one frame more, within limits."""
    latest = max(frames_until_response(graph, pattern) for pattern in patterns.values())
    return min(max(IMAGE + latest + 1, LEAST_WINDOW), MOST_WINDOW)


def draw(arguments: argparse.Namespace) -> Iterator[Path]:
    """
    Write the pictures that the command line asks for, and yield each file once it is there.

    Files are named after the graph, the picture, and the pattern unless it is the streaming one.

    :raises OSError: If the graph cannot be read, or a file cannot be written.
    :raises ValueError: If graph, pattern or window cannot be used.
    """
    graph, name = read_graph(arguments), Path(arguments.graph).stem
    pattern = read_pattern(graph, arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    kind = name_of(graph, pattern)
    ending = '' if kind == 'streaming' else '_' + kind.split(', ')[-1].replace(' ', '_')
    patterns = compared(graph, pattern)
    size = arguments.window or window_size(graph, patterns)
    figures = {'graph': lambda: draw_graph(graph, pattern, name),
               'window': lambda: draw_window(graph, pattern, size, name),
               'influence': lambda: draw_influence(graph, patterns, IMAGE, size, name)}
    for what in PICTURES if 'all' in arguments.what else dict.fromkeys(arguments.what):
        path = arguments.output / f'{name}_{what}{ending}'
        if what == 'steps':
            animation = path.with_name(path.name + '.gif')
            animate_update_steps(graph, patterns, size, animation, name)
            yield animation
            continue
        figure = figures[what]()
        for suffix in dict.fromkeys(arguments.format):
            picture = path.with_name(f'{path.name}.{suffix}')
            save(figure, picture)
            yield picture


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


def parse(args: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog='draw', description=__doc__)
    add_graph(parser)
    add_rollout(parser)
    add_settings(parser, DrawOptions)
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> int:
    """Draw, and print which files were written."""
    arguments = parse(args)

    def work() -> None:
        for path in draw(arguments):
            print(path, flush=True)

    return run_tool('draw', work)
