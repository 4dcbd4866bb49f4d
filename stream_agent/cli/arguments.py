"""What the tools of the theory have in common on the command line."""

import argparse
from collections.abc import Callable
from fractions import Fraction
import os
from pathlib import Path
import sys

from stream_agent.graph_files.graph_file import load_graph
from stream_agent.share import find_robot, share_folder
from stream_agent.simulation.settings import read_settings, SimulationSettings
from stream_agent.theory.errors import GraphError, nearest
from stream_agent.theory.graph import GraphSpec, with_schedule
from stream_agent.theory.patterns import (
    Edge, newest_image_pattern, pattern_from_streams, sequential_pattern, streaming_pattern)

PATTERNS = {
    'streaming': streaming_pattern,
    'sequential': sequential_pattern,
    'newest-image': newest_image_pattern,
}
PATTERN_HELP = ("'streaming' (every edge streams), 'sequential' (as few as the graph file marks), "
                "or 'newest-image' (streaming, but edges that leave an input are R = 0)")


def add_graph(parser: argparse.ArgumentParser) -> None:
    """Take a graph file."""
    parser.add_argument('graph', help='graph file, or the name of one that is shipped: '
                        + ', '.join(shipped_graphs()))


def add_allowed(parser: argparse.ArgumentParser) -> None:
    """Take the names of transforms from outside that may be imported."""
    parser.add_argument('--allow', nargs='+', default=[], metavar='NAME', help='transforms of '
                        'your own that the graph may import and run, by their dotted names')


def add_rollout(parser: argparse.ArgumentParser) -> None:
    """Take the rollout that is asked about."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--pattern', choices=PATTERNS, default='streaming', help=PATTERN_HELP)
    which.add_argument('--streams', metavar='EDGES', help="the edges that stream, as 'u->v,v->v'; "
                       'all others read their source in the same frame')
    parser.add_argument('--schedule', metavar='RATES', help='nodes that are not updated in every '
                        "frame, as 'node=period+offset,...'; instead of those of the graph file")


def add_robot(parser: argparse.ArgumentParser) -> None:
    """Take the robot whose camera and vehicle are simulated."""
    parser.add_argument('--robot', metavar='NAME|FILE', help='simulate the camera and the vehicle '
                        'of one of config/robots, or of a parameter file (the usual ones)')


def robot_settings(name: str | None) -> SimulationSettings:
    """
    Return how a robot is simulated.

    :raises ValueError: If there is none of that name, or it cannot be simulated.
    """
    config = share_folder() / 'config'
    return read_settings(find_robot(name, config / 'robots') if name
                         else config / 'simulation.yaml')


def shipped_graphs() -> list[str]:
    """Return the names of the graphs that come with the package."""
    return sorted(path.stem for path in (share_folder() / 'config' / 'graphs').glob('*.yaml'))


def find_graph(text: str) -> Path:
    """Return the path of a graph file, or of a shipped graph of that name."""
    shipped = share_folder() / 'config' / 'graphs' / f'{text}.yaml'
    return shipped if not Path(text).exists() and shipped.exists() else Path(text)


def open_graph(text: str) -> GraphSpec:
    """
    Read a graph file, or a shipped graph of that name.

    :raises OSError: If the file cannot be read.
    :raises GraphError: If there is none, or it cannot be used.
    """
    path = find_graph(text)
    if not path.exists():
        raise GraphError(f"there is no file '{text}', and no shipped graph of that name; "
                         + nearest(text, shipped_graphs(), 'shipped graphs'))
    return load_graph(path)


def read_graph(arguments: argparse.Namespace) -> GraphSpec:
    """
    Read the graph that the command line names, with its schedule.

    :raises OSError: If the file cannot be read.
    :raises GraphError: If graph or schedule cannot be used.
    """
    graph = open_graph(arguments.graph)
    return graph if arguments.schedule is None else with_schedule(
        graph, read_schedule(arguments.schedule))


def read_schedule(text: str) -> dict[str, tuple[int, int]]:
    """
    Return (period, offset) by node.

    :param text: As ``node=period+offset,...``; the offset may be left out. Empty for none.
    :raises ValueError: If it does not read so.
    """
    schedule = {}
    for part in filter(None, text.split(',')):
        name, _, rate = part.partition('=')
        period, _, offset = rate.partition('+')
        if not period.isdecimal() or not (offset or '0').isdecimal():
            raise ValueError(f"--schedule: '{part}' does not read node=period+offset, such as "
                             'deep=4+1')
        if name.strip() in schedule:
            raise ValueError(f"--schedule: '{name.strip()}' stands twice; leave one of them out")
        schedule[name.strip()] = (int(period), int(offset or 0))
    return schedule


def read_pattern(graph: GraphSpec, arguments: argparse.Namespace) -> dict[Edge, int]:
    """
    Return the pattern that the command line names.

    :raises InvalidRolloutError: If it has a cycle of R = 0 edges.
    """
    if arguments.streams is None:
        return PATTERNS[arguments.pattern](graph)
    return pattern_from_streams(graph, filter(None, (
        name.strip() for name in arguments.streams.split(','))))


def positive(text: str) -> int:
    """Read a whole number from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def not_negative(text: str) -> int:
    """Read a whole number from 0 on, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 0 on")
    return int(text)


def number(value: Fraction) -> int | float:
    """Return a fraction as a number of JSON."""
    return value.numerator if value.denominator == 1 else float(value)


def check_folder(path: Path | None) -> None:
    """Refuse a file to be written whose folder is not there, before work is done for it."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise ValueError(f"'{path}' cannot be written: "
                         + ('it is a folder' if path.is_dir() else
                            f"there is no folder '{path.parent}'"))


def run_tool(name: str, work: Callable[[], None]) -> int:
    """
    Do what a command line asks for, and say in a sentence why it cannot be done.

    :returns: The exit code.
    """
    try:
        work()
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        print(f'{name}: {in_words(error)}', file=sys.stderr)
        if isinstance(error, OSError) and error.filename is None:
            # It was the output itself; what is left of it goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def in_words(error: Exception) -> str:
    """Write what the system says of a file as a sentence of ours."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"'{error.filename}': {error.strerror}"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
