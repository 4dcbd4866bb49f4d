"""Command line: import a trained network as a graph file and a policy, to roll it out and plan."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
import errno
import math
import os
from pathlib import Path
import re
import shlex
from shutil import rmtree
import signal
import sys
from tempfile import mkdtemp
from typing import NamedTuple

from stream_agent.bounded_settings import (
    choice, file_path, free_text, quantity, settings_fields)
from stream_agent.cli.arguments import (
    add_settings, check_folder, check_writable, command, given, option_of, plural)
from stream_agent.cli.command_parser import Collect, CommandParser
from stream_agent.graph_files.graph_file import load_costs, load_graph, save_costs
from stream_agent.importing.cutting import cut
from stream_agent.importing.graph_making import graph_text, make_network
from stream_agent.importing.measuring import measured_seconds
from stream_agent.importing.program import (
    ImportedOperation, ImportedProgram, ImportFault, unused)
from stream_agent.importing.simplify import simplified
from stream_agent.importing.sources import open_source, quiet, Source
from stream_agent.learning.resume import is_same_policy, set_aside
from stream_agent.learning.settings import FrameCrop
from stream_agent.measurement.machine import core_times, disturbance
from stream_agent.network.checkpoint import (
    CheckpointError, CommandScale, LEAST_LIMIT, load_policy, MOST_LIMIT, Policy, save_policy,
    STEERINGS, TrainedNetwork, why_not_driving)
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.transforms import Shape
from stream_agent.share import write_file
from stream_agent.theory.graph import EdgeSpec, GraphSpec, NodeSpec
from stream_agent.theory.patterns import sequential_pattern
from stream_agent.theory.planning.costs import CostError, NodeCosts
from stream_agent.theory.rollout import inference_factor
import torch
from torch import Tensor

#: Largest difference from the original, relative to the largest output, or to FLOOR if that is
#: smaller: between two runtimes, outputs near zero differ by their rounding alone.
TOLERANCE, FLOOR = 1e-4, 1e-2
INPUT = re.compile(r'(?:([^=\s]+)=)?(\d+(?:x\d+)*)')
# Of an input: no network of ours is fed with more, and none needs more axes.
MOST_VALUES = 2**28
PATTERNS = ('sequential', 'streaming')
PT2_WARNING = ('import: torch may execute code that is in a .pt2 file while it reads it, here in '
               'a process of its own; import only files that you made, or whose maker you trust')


@dataclass(frozen=True)
class ImportOptions:
    """How a network is cut into nodes, and what its inputs and outputs mean."""

    name: str | None = free_text(None, 'of the files that are written; without it, that of the '
                                 'callable or the file', 'NAME')
    cut: str = free_text(
        'auto', "nodes: 'auto', by measured costs; 'all', each operation one; or the modules that "
        'become one each, as layer1,layer2', 'auto|all|NAMES')
    early_outputs: str = free_text(
        '', 'modules or nodes that get a read-out of their own into the output, zero at first, as '
        'layer1,layer2', 'NAMES')
    pattern: str = choice('sequential', 'rollout of the policy', PATTERNS)
    costs: Path | None = file_path(
        None, 'cut by the seconds of the operations in a file, measure nothing')
    save_costs: Path | None = file_path(
        None, 'keep what was measured, so that the same cut can be made again')
    replace: bool = choice(False, 'write over earlier files of that name, instead of keeping them '
                           'as NAME.1.yaml and NAME.1.safetensors')


@dataclass(frozen=True)
class DrivingOptions:
    """What the two outputs of a network that drives mean."""

    max_speed: float = quantity(
        1.0, 'm/s', LEAST_LIMIT, MOST_LIMIT, 'speed that an output of 1 stands for')
    max_yaw_rate: float = quantity(
        1.0, 'rad/s', LEAST_LIMIT, MOST_LIMIT, 'yaw rate that an output of 1 stands for')
    steering: str | None = choice(None, 'what the second output is', STEERINGS[1:])


def read_input(text: str) -> tuple[str, Shape]:
    """Read ``3x224x224`` or ``image=3x224x224``."""
    found = INPUT.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a size; write channels, rows and columns as 3x224x224, or with the "
            'name of the input as image=3x224x224')
    shape = tuple(map(int, found[2].split('x')))
    if not 0 < math.prod(shape) <= MOST_VALUES:
        raise argparse.ArgumentTypeError(
            f"'{text}' has {math.prod(shape):,} values; write a size of 1 to {MOST_VALUES:,}")
    return found[1] or 'input', shape


def finite(text: str) -> float:
    """Read a number for argparse."""
    try:
        if math.isfinite(value := float(text)):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"'{text}' is not a number")


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser('import', __doc__)
    parser.add_argument('source', help='my_package.policy:make_policy, a callable that makes a '
                        'torch module; a .pt2 file of torch.export; or an .onnx file')
    parser.add_argument('--input', type=read_input, nargs='+', action=Collect, default=[],
                        metavar='SIZE', help='of a frame without batch, as 3x224x224, or of each '
                        'input and state by name, as image=3x96x96 odometry=2 hidden=64; not '
                        'needed where a file has fixed sizes')
    parser.add_argument('--output', type=Path, default=Path('policies'), metavar='DIR',
                        help='gets NAME.yaml and NAME.safetensors (%(default)s)')
    costs = 'costs', 'save_costs'
    add_settings(parser, ImportOptions, without=costs)
    add_settings(parser.add_mutually_exclusive_group(), ImportOptions, only=costs)
    for name, meaning in (('mean', 'what is subtracted from pixels of 0 ... 1 before the network '
                           'sees them'), ('std', 'what these are divided by then')):
        parser.add_argument(f'--{name}', type=finite, nargs='+', metavar='N', help=f'{meaning}, '
                            'for each channel or for all; becomes a part of the network')
    group = parser.add_argument_group('networks that drive', 'from an image to two numbers, speed '
                                      'and yaw rate')
    add_settings(group, DrivingOptions)
    add_settings(group, FrameCrop)
    arguments = parser.parse_args(args)
    names = [name for name, _ in arguments.input]
    if len({*names}) < len(names):
        parser.error('--input: two sizes have one name; give each its own, as image=3x96x96')
    return arguments


def name_of(arguments: argparse.Namespace) -> str:
    """Return what the written files are called."""
    source = arguments.source
    name = arguments.name or (source.rpartition(':')[2] if ':' in source else Path(source).stem)
    if not name or name != Path(name).name or not name.isprintable() or len(name) > 200:
        raise ImportFault(f"--name: '{name}' is not the name of a file; give one without folders")
    return name


def check_output(folder: Path) -> Path:
    """Return the folder in which temporary files may be, the first on the way that exists."""
    at = folder.absolute()
    while not os.path.lexists(at):
        at = at.parent
    if not at.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    check_writable(at)
    return at


def normalised(program: ImportedProgram, mean: Sequence[float] | None,
               std: Sequence[float] | None) -> tuple[ImportedProgram, str, Tensor, Tensor]:
    """
    Put in front what makes the pixels that a network expects of ours, which are -0.5 ... 0.5.

    :param mean: For each channel or for all, of pixels 0 ... 1, as ``std``; None for nothing.
    :returns: The program, the name of its image, and by what that is multiplied and what is added.
    """
    images: Mapping[str, Shape] = {name: shape for name, shape in program.inputs.items()
                                   if len(shape) == 3} or program.inputs
    name, *more = images
    shape = images[name]
    if mean is None and std is None:
        return program, name, torch.ones(()), torch.zeros(())
    if len(shape) != 3:
        raise ImportFault(f"--mean, --std: the input '{name}' is {list(shape)}, and they are for "
                          'images, [channels, rows, columns]; leave them out')
    if more:
        raise ImportFault(f"--mean, --std: the network takes the images {', '.join(images)}; "
                          'normalise them in the network, and leave these out')
    for option, values in (('--mean', mean), ('--std', std)):
        if values and len(values) not in (1, shape[0]):
            raise ImportFault(f"{option}: {plural(len(values), 'number')} for "
                              f"{plural(shape[0], 'channel')}; give one for all, or one each")
    if std and min(std) <= 0:
        raise ImportFault(f'--std: {min(std):g} is not above 0; give what one divides by')
    divisor = torch.tensor(std or [1.0], dtype=torch.float64)
    shift = 0.5 - torch.tensor(mean or [0.0], dtype=torch.float64)
    weight, bias = (value.expand(shape[0]).reshape(-1, 1, 1).float()
                    for value in (1 / divisor, shift / divisor))
    taken = {operation.name for operation in program.operations} | {*program.inputs,
                                                                    *program.states}
    own = unused('normalise', taken)
    affine = ImportedOperation(own, 'affine', (name,), {'shape': [shape[0], 1, 1]},
                               {'weight': weight, 'bias': bias}, '', shape)
    others = [replace(operation, of=tuple(own if of == name else of for of in operation.of))
              for operation in program.operations]
    return replace(program, operations=(affine, *others)), name, weight, bias


def seconds_of(arguments: argparse.Namespace, program: ImportedProgram) -> Mapping[str, float]:
    """Return what every operation costs: from a file, or measured and perhaps kept."""
    if not arguments.costs:
        before = core_times()
        with quiet():
            seconds = measured_seconds(program)
        if busy := disturbance(before):
            print(f'import: {busy}', file=sys.stderr)
        if arguments.save_costs:
            save_costs(arguments.save_costs, NodeCosts(seconds, source='stream_agent import'))
        return seconds
    names = [operation.name for operation in program.operations]
    centre = max(names, key=len) + '_'  # a name that none has
    star = GraphSpec((NodeSpec(centre, shape=(1,)), *map(NodeSpec, names)),
                     tuple(EdgeSpec(centre, name) for name in names), program.output)
    try:
        return load_costs(arguments.costs, star).nodes
    except CostError as error:
        raise ImportFault(f'--costs: {error}. Keep them anew by --save-costs where the network '
                          'has changed') from None


def named(text: str) -> list[str]:
    """Read names between commas."""
    return [name for name in map(str.strip, text.split(',')) if name]


@torch.no_grad()
def error_of(network: RolloutNetwork, frames: Iterable[Tensor], outputs: Tensor) -> float:
    """
    Return the largest difference of a rollout's outputs, relative to the largest output.

    :param frames: (T, *shape) of each input, in the network's order.
    """
    found, _ = network.stepped({name: values[None] for name, values in zip(
        network.inputs, frames, strict=True)}, network.initial_state())
    if found[0].shape != outputs.shape:
        raise ImportFault(f'the import gives {list(found[0, 0].shape)}, and the original '
                          f'{list(outputs[0].shape)}; export it to ONNX, and import that file')
    if not outputs.isfinite().all():
        raise ImportFault('the original gives NaN or infinity for random frames, so nothing can '
                          'be compared; check its weights')
    # NaN is not a small difference.
    return float((found[0] - outputs).abs().max() / outputs.abs().max().clamp(FLOOR))


class Import(NamedTuple):
    """
    What was imported.

    :param error: Of the sequential rollout, against the original.
    :param shares: Of all seconds, by group of operations.
    """

    network: RolloutNetwork
    error: float
    shares: list[float]
    notices: tuple[str, ...]


def make_import(arguments: argparse.Namespace, source: Source) -> Import:
    """
    Cut a network into nodes, and compare the sequential rollout with the original.

    :raises ImportFault: If they differ, or if something in the command line does not fit.
    """
    program, image, weight, bias = normalised(source.program, arguments.mean, arguments.std)
    program = simplified(program)
    seconds = seconds_of(arguments, program)
    how = arguments.cut if arguments.cut in ('auto', 'all') else named(arguments.cut)
    groups = cut(program, dict(seconds), how)
    early = named(arguments.early_outputs)
    sequential = make_network(program, groups, early=early).eval()
    # What the network is to see, as it comes to the operation that normalises.
    seen = {**source.frames, image: (source.frames[image] - bias) / weight}
    error = error_of(sequential, seen.values(), source.outputs)
    tolerance = max(TOLERANCE, 10 * source.rounding)
    if not error <= tolerance:
        raise ImportFault(
            f"'{arguments.source}': the import gives other outputs than the original, by "
            f'{error:.1e} of the largest on random frames, more than {tolerance:g}; import it '
            'from another form (.pt2, .onnx), and report which of its modules differs')
    network = sequential if arguments.pattern == PATTERNS[0] else make_network(
        program, groups, arguments.pattern, early).eval()
    total = sum(seconds.values()) or 1.0
    return Import(network, error, [sum(seconds[name] for name in group) / total
                                   for group in groups], program.notices)


def policy_of(arguments: argparse.Namespace, made: Import) -> Policy | TrainedNetwork:
    """
    Return what is written; of where the network comes from it says the kind alone.

    :raises ImportFault: If options are given that have a meaning only where the network drives.
    """
    graph = made.network.graph
    kind = Path(arguments.source).suffix if ':' not in arguments.source else 'torch module'
    training = {'command': 'stream_agent import', 'imported': {
        'from': kind, 'error': made.error, 'mean': arguments.mean, 'std': arguments.std},
        'torch': torch.__version__}
    if why := why_not_driving(graph):
        for settings in (DrivingOptions, FrameCrop):
            for item in settings_fields(settings):
                if given(arguments, item) != item.default:
                    raise ImportFault(f'{option_of(item)}: the network does not drive, as {why}; '
                                      'leave the option out')
        return TrainedNetwork(made.network, arguments.pattern, training)
    if arguments.steering:
        training['steering'] = arguments.steering
    (name,) = graph.inputs
    seen = Preprocessing(graph.node(name).shape or (), arguments.crop_top, arguments.crop_bottom)
    return Policy(made.network, seen, CommandScale(arguments.max_speed, arguments.max_yaw_rate),
                  arguments.pattern, training)


def write(folder: Path, name: str, policy: Policy | TrainedNetwork, keep: bool) -> list[Path]:
    """
    Write graph file and policy, both or none, once they are known to be read as they are meant.

    :param keep: Whether earlier files of that name, if they differ, are kept.
    :returns: The earlier files, by the names that they have now.
    """
    unfinished = Path(mkdtemp(prefix='.unfinished-', dir=check_output(folder)))
    try:
        graph, weights = (unfinished / f'{name}{ending}' for ending in ('.yaml', '.safetensors'))
        write_file(graph, graph_text(policy.network))
        save_policy(weights, policy)
        try:
            loaded = load_policy(weights).network
        except CheckpointError as error:  # such as weights that no policy may have
            raise ImportFault(f"'{name}': {str(error).removeprefix(f'{weights}: ')}") from error
        if not load_graph(graph) == loaded.graph == policy.network.graph:
            raise ImportFault(f"'{name}': the graph is not what it was when it is read again; "
                              'please report this')
        folder.mkdir(parents=True, exist_ok=True)
        kept = [set_aside(old) for new in (graph, weights)
                if keep and (old := folder / new.name).exists() and not (
                    old.read_bytes() == new.read_bytes() or is_same_policy(old, new))]
        for new in (graph, weights):
            new.replace(folder / new.name)
        return kept
    finally:
        rmtree(unfinished, ignore_errors=True)


def table(made: Import) -> str:
    """Write what was imported for people."""
    graph, network = made.network.graph, made.network
    weights = sum(value.numel() for value in network.parameters())
    *inputs, output = (f'{name} {list(graph.node(name).shape or ())}'
                       for name in (*graph.inputs, graph.output))
    longest = inference_factor(graph, sequential_pattern(graph))
    lines = [
        ('graph', f"{plural(len(graph.nodes), 'node')}, {plural(len(graph.edges), 'edge')}; "
                  f"{', '.join(inputs)} -> {output}"),
        ('longest way', f"{plural(longest, 'node')} behind the input"),
        ('largest node', f'{max(made.shares):.0%} of the seconds of all'),
        ('weights', f'{weights:,}'),
        ('error', f'{made.error:.1e} of the largest output, against the original on '
                  'random frames'),
        *(('notice', notice) for notice in made.notices),
        *([('notice', f'it does not drive: {why_not_driving(graph)}')]
          if len(graph.inputs) > 1 else [])]
    return '\n'.join(f'{title:<17} {value}' for title, value in lines)


def next_commands(folder: Path, name: str, network: RolloutNetwork) -> str:
    """Write the commands that may follow."""
    file, policy = (shlex.quote(f'{folder / name}{end}') for end in ('.yaml', '.safetensors'))
    lines = [f'rollouts {file}', f'plan {file} --rate 30', f'draw {file} --output pictures']
    if not why_not_driving(network.graph):
        lines.append(f'train --init {policy} --pattern streaming')
    return '\n'.join(['next:', *(f'  python -m stream_agent {line}' for line in lines)])


def run(arguments: argparse.Namespace) -> None:
    """Import a network, and say what there is."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    name, folder = name_of(arguments), arguments.output.expanduser()
    check_output(folder)
    check_folder(arguments.save_costs)
    if arguments.source.endswith('.pt2'):
        print(PT2_WARNING, file=sys.stderr)
    made = make_import(arguments, open_source(arguments.source, dict(arguments.input)))
    kept = write(folder, name, policy_of(arguments, made), not arguments.replace)
    for ending in ('yaml', 'safetensors'):
        print(f"wrote {folder / f'{name}.{ending}'}")
    for path in kept:
        print(f'  an earlier one is kept as {path}')
    print(table(made))
    print(next_commands(folder, name, made.network))


main = command('import', parse, run, 'stopped; nothing was written')
