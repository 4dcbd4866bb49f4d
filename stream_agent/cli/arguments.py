"""
What the command lines have in common: graphs, rollouts, robots, and options made of settings.

Meaning, unit, range and default of a number are in a settings dataclass (bounded_settings.py);
``add_settings`` makes options of it, and ``settings_of`` makes it of what was given.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, replace
import errno
import math
import os
from pathlib import Path
import sys
import tempfile
from typing import Any

from stream_agent.bounded_settings import (
    is_within, numbers_allowed, printable, quantity, range_of, settings_fields)
from stream_agent.cli.command_parser import Collect
from stream_agent.driving.compute_model import ComputeModel
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.share import COSTS_FILE, find_robot, share_folder
from stream_agent.simulation.settings import read_settings, SimulationSettings
from stream_agent.theory.checks import GraphError, nearest
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
#: Exit code of a tool that was stopped before all was done.
STOPPED = 130


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


def add_robot(parser: argparse.ArgumentParser | argparse._ArgumentGroup, more: str = '') -> None:
    """Take the robot whose camera and vehicle are simulated; help says ``more`` of its file."""
    parser.add_argument('--robot', metavar='NAME|FILE', help='simulate the camera and the vehicle '
                        f'of one of config/robots, or of a parameter file (the usual ones){more}')


def robot_settings(name: str | None) -> SimulationSettings:
    """Return how a robot is simulated; ValueError if it is unknown, or cannot be simulated."""
    config = share_folder() / 'config'
    return read_settings(find_robot(name, config / 'robots') if name
                         else config / 'simulation.yaml')


def shipped_graphs() -> list[str]:
    """Return the names of the graphs that come with the package."""
    return sorted(path.stem for path in (share_folder() / 'config' / 'graphs').glob('*.yaml')
                  if not path.name.endswith(COSTS_FILE))


def find_graph(text: str) -> Path:
    """Return the path of a graph file, or of a shipped graph of that name."""
    shipped = share_folder() / 'config' / 'graphs' / f'{text}.yaml'
    return shipped if not os.path.exists(text) and shipped.exists() else Path(text)


def open_graph(text: str) -> GraphSpec:
    """Read a graph file, or a shipped graph of that name; GraphError if it cannot be used."""
    path = find_graph(text)
    policies = share_folder() / 'config' / 'policies'
    if path.suffix == '.safetensors' or os.path.exists(policies / f'{text}.safetensors'):
        raise GraphError(f"'{text}' is a policy, and a graph is asked for; "
                         + nearest(path.stem, shipped_graphs(), 'shipped graphs'))
    if not os.path.exists(path):
        raise GraphError(f"there is no file '{text}', and no shipped graph of that name; "
                         + nearest(text, shipped_graphs(), 'shipped graphs'))
    return load_graph(path)


def read_graph(arguments: argparse.Namespace) -> GraphSpec:
    """Read the graph that the command line names, with its schedule."""
    graph = open_graph(arguments.graph)
    return graph if arguments.schedule is None else with_schedule(
        graph, read_schedule(arguments.schedule))


def read_schedule(text: str) -> dict[str, tuple[int, int]]:
    """Read (period, offset) by node of ``node=period+offset,...``; offsets may be left out."""
    schedule = {}
    for part in filter(None, text.split(',')):
        name, _, rate = part.partition('=')
        period, _, offset = rate.partition('+')
        if not period.isdecimal() or not (offset or '0').isdecimal():
            raise ValueError(f"--schedule: '{part}' does not read node=period+offset, such as "
                             'deep=4+1')
        if name.strip() in schedule:
            raise ValueError(f"--schedule: '{name.strip()}' is given twice; leave one of them out")
        schedule[name.strip()] = (int(period), int(offset or 0))
    return schedule


def read_pattern(graph: GraphSpec, arguments: argparse.Namespace) -> dict[Edge, int]:
    """Return the pattern that the command line names; InvalidRolloutError if it is not valid."""
    if arguments.streams is None:
        return PATTERNS[arguments.pattern](graph)
    return pattern_from_streams(
        graph, filter(None, map(str.strip, arguments.streams.split(','))))


def number_reader(item: Field) -> Callable[[str], int | float]:
    """Return what reads a quantity for argparse, and names its range if it is outside."""
    def read(text: str) -> int | float:
        try:
            value = int(text) if item.metadata['whole'] else float(text)
        except ValueError:
            value = math.nan
        if not is_within(item, value):
            raise argparse.ArgumentTypeError(f"'{text}' is not {numbers_allowed(item)}")
        return value

    return read


#: For a whole number from 1 on.
positive = number_reader(quantity(1, '', 1, 10**9, ''))


def add_settings(parser: argparse._ActionsContainer, settings: Any, only: Sequence[str] = (),
                 without: Sequence[str] = (), **options: str) -> None:
    """
    Make an option of every field of a settings dataclass.

    :param settings: The dataclass, or an instance whose values are the defaults.
    :param only: Names of the fields to take; all if empty.
    :param without: Names of the fields to leave out.
    :param options: Names of options that are not called like their field.
    """
    for item in settings_fields(settings):
        if (item.name in only or not only) and item.name not in without:
            add_setting(parser, item, getattr(settings, item.name), options.get(item.name, ''))


def add_shared(parser: argparse._ActionsContainer, names: Sequence[str], ways: Mapping[str, Any]
               ) -> None:
    """
    Make options of what several ways to do something have, each with a default of its own.

    :param names: Of the fields; all if empty.
    :param ways: Settings dataclasses, or instances, by words that follow a default.
    """
    for item in settings_fields(next(iter(ways.values()))):
        if item.name in names or not names:
            defaults = [getattr(settings, item.name) for settings in ways.values()]
            if len(set(defaults)) == 1:
                add_setting(parser, item, defaults[0])
            else:
                add_setting(parser, item, None, said=', '.join(
                    f'{shown(value)} {way}' for way, value in zip(ways, defaults)))


def add_setting(parser: argparse._ActionsContainer, item: Field, default: Any, option: str = '',
                said: str = '') -> None:
    """Make an option of a field; ``said`` is what the help says of a default, if not its value."""
    about = item.metadata
    kind: dict[str, Any] = {'dest': item.name, 'default': default}
    if 'unit' in about:
        kind |= {'type': number_reader(item), 'metavar': UNITS.get(about['unit'], 'N')}
        if isinstance(item.default, tuple):
            kind['nargs'] = len(item.default)
    elif 'type' in about:
        kind |= {'type': about['type'], 'metavar': about['kind']}
        if about.get('several'):
            kind |= {'nargs': '+', 'action': Collect}
    elif not about['among']:
        kind['action'] = 'store_false' if default else 'store_true'
    if about.get('among'):
        kind |= {'choices': about['among'], 'metavar': None}
    parser.add_argument(option_of(item, option, default),
                        help=help_of(item, default, said or shown(default)), **kind)


#: What stands for a number in a usage line, by its unit.
UNITS = {'s': 'SECONDS', 'Hz': 'HZ', 'm': 'METRES', 'm/s': 'M_S', 'rad/s': 'RAD_S',
         'frames': 'FRAMES', 'camera periods': 'PERIODS'}


def help_of(item: Field, default: Any, said: str) -> str:
    """Say what a field means, what it is by default, and from where to where it goes."""
    notes = [f'default {said}' if said else '',
             range_of(item) if 'unit' in item.metadata else '']
    text = '; '.join(filter(None, notes))
    return ('do not ' * (default is True) + item.metadata['meaning']
            + (f' ({text})' if text else '')).replace('%', '%%')


def option_of(item: Field, option: str = '', default: Any = None) -> str:
    """Return the name of a field's option, which switches off what is true by default."""
    name = (option or item.metadata.get('option') or item.name).replace('_', '-')
    return f'--no-{name}' if default is True else f'--{name}'


def shown(value: Any) -> str:
    """Write a default for people; empty if it is nothing to speak of."""
    if isinstance(value, tuple):
        return ' '.join(map(shown, value))
    if value is None or isinstance(value, bool):
        return ''
    return f'{value:g}' if isinstance(value, float) else str(value)


def given(arguments: argparse.Namespace, item: Field) -> Any:
    """Return what the command line gives for a field; None for nothing."""
    value = getattr(arguments, item.name, None)
    return tuple(value) if isinstance(value, list) else value


def settings_of(arguments: argparse.Namespace, settings: Any, **others: Any) -> Any:
    """
    Make settings of a command line.

    :param settings: As for ``add_settings``; has the values of what the command line leaves open.
    :param others: Fields that are no options.
    :raises SettingsError: If the values contradict each other.
    """
    values = {item.name: value for item in settings_fields(settings)
              if (value := given(arguments, item)) is not None} | others
    return settings(**values) if isinstance(settings, type) else replace(settings, **values)


def renamed(command: str, args: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Return a command line with new names instead of those of the release before, and warn."""
    found = []
    for word in args:
        name, equals, value = word.partition('=')
        if name in names:
            print(f'{command}: {name} is called {names[name]} now; rename it, as the next release '
                  'refuses the old name', file=sys.stderr)
        found.append(names.get(name, name) + equals + value)
    return found


def refuse_given(parser: argparse.ArgumentParser, arguments: argparse.Namespace, settings: Any,
                 why: str, without: Sequence[str] = ()) -> None:
    """Refuse options of settings, if they are given; ``why`` says when they have an effect."""
    for item in settings_fields(settings):
        default = getattr(settings, item.name)
        if item.name not in without and given(arguments, item) not in (None, default):
            parser.error(f'{option_of(item, default=default)}: {why}')


def add_computer(parser: argparse.ArgumentParser, description: str, *also: type,
                 several: bool = False) -> None:
    """Take the computer to emulate, or several, and ``also`` settings that need such a one."""
    group = parser.add_argument_group('emulated computer', description)
    for kind in (ComputeModel, *also):
        add_settings(group, kind)
    if several:
        next(one for one in group._group_actions if one.dest == 'pass_periods').nargs = '+'


def check_computer(parser: argparse.ArgumentParser, arguments: argparse.Namespace,
                   *also: type) -> None:
    """Refuse options of ``add_computer`` if no computer is emulated."""
    if not computer_of(arguments):
        for kind in (ComputeModel, *also):
            refuse_given(parser, arguments, kind, 'this is of an emulated computer; add '
                         '--pass-periods or --costs')


def computer_of(arguments: argparse.Namespace) -> ComputeModel | None:
    """Return the computer to emulate; None for none."""
    return next(iter(computers_of(arguments)), None)


def computers_of(arguments: argparse.Namespace) -> list[ComputeModel]:
    """Return the computer to emulate for each value of ``--pass-periods``; none for none."""
    passes = arguments.pass_periods
    if arguments.costs is None and passes is None:
        return []
    return [settings_of(arguments, ComputeModel, pass_periods=each)
            for each in dict.fromkeys(passes if isinstance(passes, list) else [passes])]


def check_folder(path: Path | None) -> None:
    """Refuse a file to be written whose folder is not there, before work is done for it."""
    if path is None:
        return
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"'{path}' cannot be written: " + (
            'it is a folder; give the name of a file in it' if path.is_dir() else
            f"there is no folder '{path.parent}'; make it, or give another path"))
    if not path.exists():
        check_writable(path.parent)
    elif not os.access(path, os.W_OK):
        raise ValueError(f"'{path}' cannot be written: there is no permission to; give a path "
                         'that is yours')


def check_writable(folder: Path) -> None:
    """Raise an OSError that names a folder if no file can be written into it."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        # It names a file that nobody has asked for.
        raise OSError(error.errno, error.strerror, str(folder)) from error


def make_output(folder: Path) -> Path:
    """Make the folder for results before work is done for them; OSError if that fails."""
    folder = folder.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    check_writable(folder)
    return folder


def check_picture(parser: argparse.ArgumentParser, option: str, path: Path | None) -> None:
    """Refuse a picture of a kind that is not drawn."""
    if path is not None and path.suffix not in ('.svg', '.png'):
        parser.error(f"{option}: '{path}' is neither .svg nor .png")


def command(name: str, parse: Callable[[list[str]], argparse.Namespace],
            work: Callable[[argparse.Namespace], None], stopped: str = 'stopped'
            ) -> Callable[[list[str]], int]:
    """Return a command's ``main``, which says ``stopped`` after Ctrl-C and returns a code."""
    def main(args: list[str]) -> int:
        arguments = parse(args)
        try:
            return run_tool(name, lambda: work(arguments))
        except KeyboardInterrupt:
            print(f'\n{name}: {stopped}', file=sys.stderr)
            return STOPPED

    return main


def run_tool(name: str, work: Callable[[], None]) -> int:
    """Do what a command line asks for, or say why not; returns the exit code."""
    try:
        work()
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        # Line by line: what a file or message calls something may hold control characters.
        said = f'{name}: {in_words(error)}'.split('\n')
        print(*(printable(line, 4000) for line in said), sep='\n', file=sys.stderr)
        if isinstance(error, OSError) and error.filename is None:
            # It was the output itself; what is left of it goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def plural(count: int, noun: str) -> str:
    """Write a number of things."""
    return f'{count} {noun}' if count == 1 else f'{count} {noun}s'


#: What helps where a file or folder cannot be read or written.
REMEDIES = {
    errno.ENOENT: 'check the path', errno.EISDIR: 'it is a folder; give a file',
    errno.ENOTDIR: 'a part of the path is a file; give a folder there',
    errno.EEXIST: 'a file is there already; give a folder, or another path',
    errno.EACCES: 'give a path that is yours, or change its permissions',
    errno.EPERM: 'give a path that is yours, or change its permissions',
    errno.EROFS: 'give a path on another disk',
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), 'make room, or give another path')}


def in_words(error: Exception) -> str:
    """Write what the system says of a file as a sentence of ours, with what helps."""
    if isinstance(error, OSError) and error.filename is not None:
        remedy = REMEDIES.get(error.errno or 0)
        return f"'{error.filename}': {error.strerror}" + (f'; {remedy}' if remedy else '')
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
