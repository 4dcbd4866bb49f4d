"""One safetensors file: weights, and in its metadata graph, pattern, preprocessing, limits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
import json
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open, SafetensorError
from safetensors.torch import save
from stream_agent.bounded_settings import printable
from stream_agent.command import Command
from stream_agent.graph_files.graph_file import graph_from_data
from stream_agent.network.preprocessing import Preprocessing
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.shapes import infer_shapes
from stream_agent.theory.graph import graph_to_data, GraphError, GraphSpec
from stream_agent.theory.patterns import Pattern, pattern_from_streams, streaming_edges
import torch

FORMAT = 'stream_agent 1'
MAX_BYTES = 2**30
MAX_UPDATES = 100
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class CheckpointError(ValueError):
    """A file that is not a usable policy; the message says why and what to do."""


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
            if not isinstance(value, (int, float)) or value is True or not 0 < value < inf:
                raise ValueError(f'{name} is {value!r}; it is a number above 0')

    def command(self, output: np.ndarray) -> Command:
        """Return the policy command of the output node's two values."""
        return Command(float(output[0]) * self.max_speed, float(output[1]) * self.max_yaw_rate)

    def output(self, command: Command) -> tuple[float, float]:
        """Return the output node's two values that would ask for a command."""
        return command.speed / self.max_speed, command.yaw_rate / self.max_yaw_rate


@dataclass(frozen=True)
class Policy:
    """
    A trained network and all that is needed to drive with it.

    :param pattern_name: 'streaming', 'sequential' or what the trainer called a hybrid.
    :param training: How the weights came about: seeds, frames, scores; for people.
    :param updates_per_frame: Update steps for which an image was held in training.
    """

    network: RolloutNetwork
    preprocessing: Preprocessing
    limits: CommandScale
    pattern_name: str
    training: Mapping[str, Any]
    updates_per_frame: int = 1

    @property
    def steering(self) -> str:
        """Return what the second output is, as in ``Commands.steering``; empty if unknown."""
        return str(self.training.get('steering', ''))


def save_policy(path: str | Path, policy: Policy) -> None:
    """Write a policy; an older file of that name is replaced only once the new one is whole."""
    network = policy.network
    manifest = {
        'graph': graph_to_data(network.graph),
        'pattern': {'name': policy.pattern_name,
                    'streams': streaming_edges(network.pattern),
                    'updates_per_frame': policy.updates_per_frame},
        'preprocessing': asdict(policy.preprocessing),
        'limits': asdict(policy.limits),
        'training': dict(policy.training)}
    weights = {name: value.detach().cpu().contiguous()
               for name, value in network.state_dict().items()}
    metadata = {'format': FORMAT, **{key: json.dumps(value) for key, value in manifest.items()}}
    unfinished = Path(path).with_suffix('.part')
    unfinished.write_bytes(save(weights, metadata))
    unfinished.replace(path)


def load_policy(path: str | Path) -> Policy:
    """
    Read a policy; nothing in the file is executed.

    :raises OSError: If the file cannot be read.
    :raises CheckpointError: If it is not a checkpoint, is too large, or holds wrong tensors.
    """
    path = Path(path)
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f'{path}: over 1 GiB, more than a policy may take')
    try:
        with safe_open(str(path), framework='pt') as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise CheckpointError(f'{path}: not a safetensors file ({printable(error)}); '
                              'train one with `ros2 run stream_agent train`') from None
    try:
        return make_policy(metadata, weights)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {printable(error, 2000)}') from None


def make_policy(metadata: Mapping[str, str], weights: Mapping[str, torch.Tensor]) -> Policy:
    """Build a policy from a file's parts, and check that they fit together."""
    if metadata.get('format') != FORMAT:
        raise CheckpointError(f"the metadata's format is '{metadata.get('format')}', "
                              f"'{FORMAT}' is read; train a policy with this version")
    try:
        parts = {key: json.loads(metadata[key]) for key in
                 ('graph', 'pattern', 'preprocessing', 'limits', 'training')}
        graph = infer_shapes(graph_from_data(parts['graph']))
        pattern = pattern_from_streams(graph, parts['pattern']['streams'])
        check_memory(graph, pattern, weights)
        network = RolloutNetwork(graph, pattern)
        # Files from before there was a choice have one update step an image.
        updates = parts['pattern'].get('updates_per_frame', 1)
        if type(updates) is not int or not 1 <= updates <= MAX_UPDATES:
            raise ValueError(f'updates_per_frame is {updates!r}; it is 1 to {MAX_UPDATES}')
        shape = tuple(parts['preprocessing'].pop('shape'))
        policy = Policy(network, Preprocessing(shape, **parts['preprocessing']),
                        CommandScale(**parts['limits']), printable(parts['pattern']['name']),
                        dict(parts['training']), updates)
    except CheckpointError:
        raise
    except GraphError as error:
        raise CheckpointError(f'its graph cannot be built: {error}') from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f'the metadata is damaged: {error!s}') from None
    check_weights(network, weights)
    check_ends(policy)
    network.load_state_dict(weights)
    network.eval()
    return policy


def check_memory(graph: GraphSpec, pattern: Pattern, weights: Mapping[str, torch.Tensor]) -> None:
    """
    Refuse a graph that needs more memory than the file has weights for, before it is taken (M2).

    :param graph: With the shapes of all nodes.
    """
    needed = 4 * sum(prod(node.shape) for node in graph.nodes if node.shape)
    if needed > MAX_BYTES:
        raise CheckpointError(f'its nodes need {needed / 2**30:.3g} GiB, and 1 GiB is what a '
                              'policy may take')
    try:
        with torch.device('meta'):
            network = RolloutNetwork(graph, pattern)
    except Exception:
        # Code from outside may need real numbers; another fault is said when these are used.
        return
    check_weights(network, weights)


def check_weights(network: RolloutNetwork, weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse missing, unknown, misshapen or non-finite tensors (safetensors accepts NaN)."""
    expected = network.state_dict()
    for name in sorted(expected.keys() ^ weights.keys()):
        found = 'is missing' if name in expected else 'is not part of the graph'
        raise CheckpointError(f"the tensor '{name}' {found}; graph and weights differ")
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(f"the tensor '{name}' has the shape {list(value.shape)}; "
                                  f'the graph needs {list(expected[name].shape)}')
        if value.dtype not in FLOATS:
            raise CheckpointError(f"the tensor '{name}' holds {value.dtype}, which is not a type "
                                  'of weights; train again')
        if not torch.isfinite(value).all():
            raise CheckpointError(f"the tensor '{name}' holds NaN or infinity; train again")


def check_ends(policy: Policy) -> None:
    """Refuse a network whose input the preprocessing does not give, or without a command."""
    network, given = policy.network, policy.preprocessing.shape
    taken, output = network.shapes[network.input], network.shapes[network.graph.output]
    if taken != given:
        raise CheckpointError(f'the preprocessing gives {list(given)}, the node '
                              f"'{network.input}' takes {list(taken)}")
    if output != (2,):
        raise CheckpointError(f"the output '{network.graph.output}' has the shape {list(output)}; "
                              'a command is [2]: speed, yaw rate')
