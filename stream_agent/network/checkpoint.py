"""
One safetensors file: weights, and in its metadata graph and pattern.

A policy, which drives, also has what makes the numbers of its inputs, and what its outputs mean.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open, SafetensorError
from safetensors.torch import save
from stream_agent.bounded_settings import printable
from stream_agent.command import Command
from stream_agent.contract.conversions import Conversion, OutputScale
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.policy_parts import (
    check_ends, check_keys, checked, CheckpointError, conversion_from_data, conversion_to_data,
    COPY_AGAIN, made, read_json, trigger_of)
from stream_agent.network.preprocessing import is_image_shape, MOST_PIXELS, Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.shapes import infer_shapes
from stream_agent.share import write_file
from stream_agent.theory.checks import is_number, show
from stream_agent.theory.graph import graph_to_data, GraphSpec
from stream_agent.theory.patterns import Pattern, pattern_from_streams, streaming_edges
import torch

FORMAT = 'stream_agent 1'
MAX_BYTES = 2**30
MAX_UPDATES = 100
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# What float16 holds; no training gives a larger one, and sums of such overflow.
LARGEST_WEIGHT = 65504.0
# Of speeds and yaw rates, in whatever unit a recording has them.
LEAST_LIMIT, MOST_LIMIT = 1e-6, 1e6
#: What the second output of a policy may be, as in ``Commands.steering``; empty if unknown.
STEERINGS = ('', 'yaw rate', 'steering angle', 'steering')
TRAIN_ONE = ('a policy is a .safetensors file, which `ros2 run stream_agent train` writes; '
             'lane_streaming is one that is shipped')
# What people give instead of a policy, by how the file begins.
OTHER_FILES = {
    b'version https://git-lfs': 'a Git LFS pointer, which stands for the file; fetch the file '
                                'itself with `git lfs pull`',
    b'<': 'a page of HTML or XML, as browsers and curl save it from a link to a page; download '
          'the file itself (on GitHub by "raw")',
    b'PK\x03\x04': f'a ZIP archive, as torch.save writes .pt and .pth files; {TRAIN_ONE}',
    b'\x80': f'a pickle, as Python and old versions of torch write it; {TRAIN_ONE}',
    b'\x08': f'an ONNX model or another protocol buffer; {TRAIN_ONE}'}


@dataclass(frozen=True)
class CommandScale:
    """
    What the network's outputs -1 ... 1 mean.

    :param max_speed: Speed of the output 1 [m/s].
    :param max_yaw_rate: Yaw rate of the output 1 [rad/s], to the left.
    """

    max_speed: float
    max_yaw_rate: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not is_number(value) or not LEAST_LIMIT <= value <= MOST_LIMIT:
                raise ValueError(f'{name} is {show(value)}; it is a number from {LEAST_LIMIT:g} '
                                 f'to {MOST_LIMIT:g}')

    def command(self, output: np.ndarray) -> Command:
        """Return the policy command of the output node's two values."""
        return Command(float(output[0]) * self.max_speed, float(output[1]) * self.max_yaw_rate)

    def output(self, command: Command) -> tuple[float, float]:
        """Return the output node's two values that would ask for a command."""
        return command.speed / self.max_speed, command.yaw_rate / self.max_yaw_rate


@dataclass(frozen=True)
class TrainedNetwork:
    """
    A network with its weights that need not drive: its input and its output may be anything.

    :param pattern_name: As of a ``Policy``, as the others.
    """

    network: RolloutNetwork
    pattern_name: str
    training: Mapping[str, Any]
    updates_per_frame: int = 1


@dataclass(frozen=True)
class Policy:
    """
    A trained network and all that is needed to drive with it.

    :param preprocessing: What makes the numbers of the input that triggers a step: of an image a
        ``Preprocessing``, else any other conversion.
    :param limits: What the outputs mean: of a base, or of any actuators.
    :param pattern_name: 'streaming', 'sequential' or what the trainer called a hybrid.
    :param training: How the weights came about: seeds, frames, scores; for people.
    :param updates_per_frame: Update steps for which an image was held in training.
    :param others: What makes the numbers of all further inputs, by their names.
    :raises ValueError: If these are not all inputs but one.
    """

    network: RolloutNetwork
    preprocessing: Conversion
    limits: CommandScale | OutputScale
    pattern_name: str
    training: Mapping[str, Any]
    updates_per_frame: int = 1
    others: Mapping[str, Conversion] = field(default_factory=dict)

    def __post_init__(self) -> None:
        trigger_of(self.network.graph, self.others)

    @cached_property
    def trigger(self) -> str:
        """Name of the input whose messages make the network step."""
        return trigger_of(self.network.graph, self.others)

    @cached_property
    def conversions(self) -> Mapping[str, Conversion]:
        """What makes the numbers of every input, in the graph's order."""
        return {name: self.others.get(name, self.preprocessing) for name in self.network.inputs}

    @property
    def only_image(self) -> Preprocessing:
        """
        Preprocessing of the one image that is all this policy reads.

        :raises CheckpointError: If it reads something else.
        """
        if self.others or not isinstance(self.preprocessing, Preprocessing):
            raise CheckpointError(f"the policy reads {', '.join(self.network.inputs)}, and one "
                                  'image alone is needed here; take a policy of one image')
        return self.preprocessing

    @property
    def base_limits(self) -> CommandScale:
        """
        What the outputs mean to a base that takes speed and yaw rate.

        :raises CheckpointError: If they command other actuators.
        """
        if not isinstance(self.limits, CommandScale):
            raise CheckpointError(f"the policy commands {', '.join(self.limits.names)}, and a "
                                  'base, which takes speed and yaw rate, is needed here; take a '
                                  'policy of one')
        return self.limits

    @property
    def steering(self) -> str:
        """Return what the second output is, as in ``Commands.steering``; empty if unknown."""
        return str(self.training.get('steering', ''))


def save_policy(path: str | Path, policy: Policy | TrainedNetwork) -> None:
    """Write a policy; an older file of that name is replaced only once the new one is whole."""
    network = policy.network
    drives = ends_to_data(policy) if isinstance(policy, Policy) else {}
    manifest = {
        'graph': graph_to_data(network.graph),
        'pattern': {'name': policy.pattern_name,
                    'streams': streaming_edges(network.pattern),
                    'updates_per_frame': policy.updates_per_frame},
        **drives,
        'training': dict(policy.training)}
    weights = {name: value.detach().cpu().contiguous()
               for name, value in network.state_dict().items()}
    metadata = {'format': FORMAT, **{key: json.dumps(value) for key, value in manifest.items()}}
    write_file(path, save(weights, metadata))


def ends_to_data(policy: Policy) -> dict[str, Any]:
    """Return what a file says of inputs and output; of one image and a base as it always did."""
    ends = {'preprocessing': conversion_to_data(policy.preprocessing),
            'limits': asdict(policy.limits)}
    if isinstance(policy.preprocessing, Preprocessing):
        del ends['preprocessing']['kind']
    if policy.others:
        ends['inputs'] = {name: conversion_to_data(each) for name, each in policy.others.items()}
    return ends


def load_driving_policy(path: str | Path) -> Policy:
    """
    Read a policy that turns what is measured into commands, as ``load_policy`` does.

    :raises CheckpointError: Also if it does something else.
    """
    policy = load_policy(path)
    if not isinstance(policy, Policy):
        raise CheckpointError(f'{path}: ' + (
            why_not_driving(policy.network.graph)
            or 'it says nothing of preprocessing and limits; import it again, or save it with '
               'those by network.checkpoint.save_policy'))
    return policy


def why_not_driving(graph: GraphSpec) -> str:
    """
    Return why a network by itself does not turn an image into a base's command, and what to do.

    What other inputs and outputs mean has to be said by whoever makes a ``Policy``.

    :returns: '' if it does.
    """
    name, *others = graph.inputs
    taken, output = graph.node(name).shape, graph.node(graph.output).shape
    remedy = ', or step this one by an Engine, as docs/engine.md shows'
    if others:
        return (f"it takes {', '.join(graph.inputs)}, and nothing says what these are made of; to "
                f"drive, train it with a robot's contract, as docs/contract.md shows{remedy}")
    if output != (2,):
        return (f"its output '{graph.output}' is {list(output or ())}, and a command is [2]: "
                f'speed, yaw rate; to drive, take a network that ends in such a node{remedy}')
    if not is_image_shape(taken):
        return (f"its input '{name}' is {list(taken or ())}, and an image is [1, height, width] "
                f'or [3, height, width], of at most {MOST_PIXELS} pixels a side; to drive, take a '
                f'network of such an input{remedy}')
    return ''


def load_policy(path: str | Path) -> Policy | TrainedNetwork:
    """
    Read a policy, or a network of other ends than image and command; nothing in it is executed.

    :raises CheckpointError: With file, place, fault and remedy, if it cannot be read, is not a
        policy, is too large, or if anything in it does not fit the rest.
    """
    path = Path(path)
    try:
        check_file(path)
        with safe_open(str(path), framework='pt') as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
        return make_policy(metadata, weights)
    except SafetensorError as error:
        raise CheckpointError(f'{path}: not a whole safetensors file ({printable(error)}); '
                              f'{COPY_AGAIN}') from None
    except OSError as error:
        raise CheckpointError(f'{path}: {error.strerror or error}; give the file of a policy '
                              'that can be read') from None
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {printable(error, 2000)}') from None


def check_file(path: Path) -> None:
    """Refuse what is not a safetensors file by what it is instead."""
    if path.is_dir():
        inside = sorted(file.name for file in path.glob('*.safetensors'))
        raise CheckpointError('a folder; ' + (f'give a file in it: {", ".join(inside[:5])}'
                                              if inside else TRAIN_ONE))
    size = path.stat().st_size
    if not path.is_file():
        raise CheckpointError(f'not a file; {TRAIN_ONE}')
    if size > MAX_BYTES:
        raise CheckpointError('over 1 GiB, more than a policy may take; '
                              'train one of a smaller graph')
    with path.open('rb') as file:
        start = file.read(32)
    if not start:
        raise CheckpointError(f'an empty file; {COPY_AGAIN}')
    # A header's length would begin like a page or a pickle only by chance: the JSON tells.
    if start[8:9] != b'{':
        for beginning, what in OTHER_FILES.items():
            if start.lstrip().startswith(beginning):
                raise CheckpointError(what)
        raise CheckpointError(f'not a safetensors file; {TRAIN_ONE}')


def make_policy(metadata: Mapping[str, str], weights: Mapping[str, torch.Tensor]
                ) -> Policy | TrainedNetwork:
    """Build a policy from a file's parts, once all of them are known to fit together."""
    parts = read_metadata(metadata)
    try:
        graph = infer_shapes(graph_from_data(parts['graph']))
    except (RecursionError, ValueError) as error:
        raise CheckpointError(f'its graph cannot be built: {error}') from None
    pattern = read_pattern(graph, parts['pattern'])
    rest = (printable(parts['pattern']['name']), parts['training'],
            parts['pattern'].get('updates_per_frame', 1))
    if 'limits' not in parts:
        return TrainedNetwork(make_network(graph, pattern, weights), *rest)
    preprocessing = conversion_from_data('preprocessing', parts['preprocessing'])
    others = {printable(name): conversion_from_data(f'inputs.{printable(name)}', each)
              for name, each in parts.get('inputs', {}).items()}
    limits = (checked('limits', OutputScale, parts['limits']) if 'names' in parts['limits'] else
              made('limits', CommandScale, parts['limits']))
    check_ends(graph, preprocessing, others, limits)
    return Policy(make_network(graph, pattern, weights), preprocessing, limits, *rest, others)


def read_metadata(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """
    Return the parts of the metadata, each an object with the keys that it needs to have.

    Those of a network that does not drive lack preprocessing and limits, both.
    """
    if metadata.get('format') != FORMAT:
        said = metadata.get('format')
        raise CheckpointError(
            'the metadata does not say what the weights are for, as that of a policy does; '
            f'{TRAIN_ONE}' if said is None else
            f"the metadata's format is {show(said)}, '{FORMAT}' is read; train a policy with "
            'this version')
    drives = {'preprocessing', 'limits', 'inputs'} & metadata.keys()
    names = ['graph', 'pattern', *(('preprocessing', 'limits') if drives else ()), 'training']
    check_keys('metadata', metadata, ('format', *names), ('inputs',) if drives else ())
    parts = {name: read_json(name, metadata[name]) for name in (*names, *drives)}
    check_keys('pattern', parts['pattern'], ('name', 'streams'), ('updates_per_frame',))
    steering = parts['training'].get('steering', '')
    if steering not in STEERINGS:
        raise CheckpointError(f'training.steering is {show(steering)}; it is '
                              f"{', '.join(STEERINGS[1:])}, or left out; {COPY_AGAIN}")
    return parts


def read_pattern(graph: GraphSpec, part: Mapping[str, Any]) -> Pattern:
    """Return the rollout pattern of a policy; its update steps and name are checked besides."""
    name, streams, updates = (part['name'], part['streams'],
                              # Files from before there was a choice have one update step.
                              part.get('updates_per_frame', 1))
    if not isinstance(name, str) or not name:
        raise CheckpointError(f'pattern.name is {show(name)}; it is a text such as streaming; '
                              f'{COPY_AGAIN}')
    if type(updates) is not int or not 1 <= updates <= MAX_UPDATES:
        raise CheckpointError(f'pattern.updates_per_frame is {show(updates)}; it is a whole '
                              f'number from 1 to {MAX_UPDATES}; {COPY_AGAIN}')
    if not isinstance(streams, list) or not all(isinstance(edge, str) for edge in streams) or (
            len({*streams}) < len(streams)):
        raise CheckpointError(f'pattern.streams is {show(streams)}; it is a list of edges, each '
                              f"once, as 'source->target'; {COPY_AGAIN}")
    try:
        return pattern_from_streams(graph, streams)
    except ValueError as error:
        raise CheckpointError(f'pattern.streams: {error}; {COPY_AGAIN}') from None


def make_network(graph: GraphSpec, pattern: Pattern, weights: Mapping[str, torch.Tensor]
                 ) -> RolloutNetwork:
    """Make the network, of whose weights none is allocated before they are known to fit (M2)."""
    try:
        try:
            with torch.device('meta'):
                check_weights(RolloutNetwork(graph, pattern), weights)
        except CheckpointError:
            raise
        except Exception:
            # Code from outside may need real numbers; another fault is said when these are used.
            pass
        network = RolloutNetwork(graph, pattern)
        check_weights(network, weights)
        network.load_state_dict(weights)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f'its graph cannot be built: {error}') from None
    return network.eval()


def check_weights(network: RolloutNetwork, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse missing, unknown, misshapen, non-finite or overflowing tensors."""
    expected = network.state_dict()
    for name in sorted(expected.keys() ^ weights.keys()):
        found = 'is missing' if name in expected else 'is not part of the graph'
        raise CheckpointError(f"the tensor '{name}' {found}; graph and weights differ, so "
                              f'{COPY_AGAIN}')
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(f"the tensor '{name}' has the shape {list(value.shape)}; the "
                                  f'graph needs {list(expected[name].shape)}, so {COPY_AGAIN}')
        if value.dtype not in FLOATS:
            raise CheckpointError(f"the tensor '{name}' holds {value.dtype}, which is not a type "
                                  'of weights; train again')
        if not torch.isfinite(value).all():
            raise CheckpointError(f"the tensor '{name}' holds NaN or infinity; train again")
        if value.numel() and (largest := float(value.abs().max())) > LARGEST_WEIGHT:
            raise CheckpointError(f"the tensor '{name}' holds {largest:.3g}, and weights over "
                                  f'{LARGEST_WEIGHT:g} overflow when they are used; train again, '
                                  'with a lower learning rate')
