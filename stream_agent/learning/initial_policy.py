"""A policy with which a training begins: its network and limits, and whether new data fit them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import filter as matching
import hashlib
from pathlib import Path
import re
from typing import Any

from stream_agent.graph_files.graph_file import load_graph
from stream_agent.learning.recorded_episodes import rounded_up
from stream_agent.network.checkpoint import (
    check_weights, CheckpointError, CommandScale, load_driving_policy, Policy)
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.shapes import infer_shapes
from stream_agent.theory.checks import nearest
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import (
    InvalidRolloutError, Pattern, pattern_from_streams, streaming_edges)

# What the names of policies that were stopped or set aside have more than their training's.
ADDED = re.compile(r'(\.stopped|\.[0-9]+)+$')


class InitError(ValueError):
    """A policy with which this training cannot begin; the message says why and what to do."""


@dataclass(frozen=True)
class InitialPolicy:
    """
    A policy, the file it was read from, and the digest of that.

    :param network: To train: its graph, pattern and weights.
    """

    path: Path
    digest: str
    policy: Policy
    network: RolloutNetwork

    @property
    def label(self) -> str:
        """The pattern's name, as files may be called."""
        return re.sub(r'[^\w-]', '_', self.policy.pattern_name) or 'policy'

    def origin(self) -> dict[str, Any]:
        """Return as JSON what the new policy's file says about this one."""
        training = self.policy.training
        earlier = {key: training[key] for key in ('command', 'date', 'init') if key in training}
        return {'file': self.path.name, 'sha256': self.digest, **earlier}

    def rolled_out(self, graph: GraphSpec, pattern: Pattern) -> 'InitialPolicy':
        """
        Return it with its weights in another rollout.

        :param graph: The policy's own with any schedule, or a part of it.
        """
        network, weights = RolloutNetwork(graph, pattern), self.network.state_dict()
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
        return replace(self, network=network)

    def check_option(self, option: str, given: Any, own: Any) -> None:
        """Refuse an option that contradicts the policy."""
        if given != own:
            raise InitError(f"{option} {given}: '{self.path}' has {own}, with which --init "
                            'continues; leave the option out, or train without --init')

    def limits_for(self, needed: tuple[float, float], steering: str, max_speed: float = 0.0,
                   max_yaw_rate: float = 0.0, remedy: str = '') -> CommandScale:
        """
        Return the limits of the new policy: those that are given, or else those that it had.

        :param needed: The largest speed and yaw rate of the new data.
        :param steering: Quantity that these steer by, as in ``Commands.steering``.
        :param max_speed: 0 for that of the policy, as the maximal yaw rate.
        :param remedy: What helps against limits that are too small; an option, if empty.
        :raises InitError: If the policy's commands are of another kind, or too small.
        """
        try:
            own, before = self.policy.steering, self.policy.base_limits
        except CheckpointError as error:
            raise InitError(f"--init '{self.path}': {error}") from None
        if own and own != steering:
            raise InitError(f"--init: '{self.path}' steers by {own}, and the new data by "
                            f'{steering or "an unknown quantity"}; give data of the same kind '
                            '(--wheelbase turns steering angles into yaw rates), or train without '
                            '--init')
        limits = CommandScale(max_speed or before.max_speed, max_yaw_rate or before.max_yaw_rate)
        for option, limit, most in zip(('--max-speed', '--max-yaw-rate'),
                                       (limits.max_speed, limits.max_yaw_rate), needed):
            if most > limit * (1 + 1e-6):
                what = remedy or (f'give {option} {rounded_up(most):g}, which scales up all that '
                                  'it commands')
                raise InitError(f"--init: '{self.path}' is limited to {option[2:]} {limit:g}, and "
                                f'the new data go up to {most:.3g}; {what}, or train without '
                                '--init')
        return limits


def load_initial(path: Path, graph: Path | None) -> InitialPolicy:
    """
    Read a policy, and put its weights into a network to train.

    :param graph: File of another graph of the same names and shapes; None for the policy's own.
    :raises InitError: If the other graph does not fit.
    """
    policy = load_driving_policy(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if graph is None:
        return InitialPolicy(path, digest, policy, policy.network)
    found = infer_shapes(load_graph(graph))
    before, now = ({node.name: node.shape for node in each.nodes}
                   for each in (policy.network.graph, found))
    try:
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                raise InitError(f"the node '{name}' has {shape_of(before, name)} in the policy "
                                f'and {shape_of(now, name)} in the graph')
        network = RolloutNetwork(found, pattern_from_streams(
            found, streaming_edges(policy.network.pattern)))
        weights = policy.network.state_dict()
        check_weights(network, weights)
    except (CheckpointError, InitError, InvalidRolloutError) as error:
        raise InitError(f"--init '{path}' does not fit --graph '{graph}': {error}; leave --graph "
                        'out to continue with its own, or train without --init') from None
    network.load_state_dict(weights)
    return InitialPolicy(path, digest, policy, network)


def freeze(network: RolloutNetwork, nodes: Sequence[str]) -> None:
    """
    Keep the weights of nodes as they are in a training: their own, and those of edges into them.

    :param nodes: Names, or patterns of names such as ``layer*``.
    :raises InitError: If there is no such node, or nothing is left to train.
    """
    names = list(network.graph.by_name)
    for wanted in nodes:
        if not (found := matching(names, wanted)):
            raise InitError(f"--freeze: no node '{wanted}'; {nearest(wanted, names, 'nodes')}")
        into = [edge for name in found for edge in network.graph.incoming[name]]
        edges = {f'{edge.source}-{edge.target}' for edge in into}
        shared = {edge.share for edge in into}
        for name, weight in network.named_parameters():
            kind, owner, *_ = name.split('.')
            if owner in edges or owner in (shared if kind == 'transforms' else found):
                weight.requires_grad_(False)
    if nodes and not any(weight.requires_grad for weight in network.parameters()):
        raise InitError(f"--freeze {' '.join(nodes)}: no weight is left to train; leave out the "
                        f"node that is to learn, such as the output '{network.graph.output}'")


def shape_of(shapes: dict, name: str) -> str:
    """Write a node's shape for people."""
    return f'the shape {list(shapes[name])}' if name in shapes else 'no shape'


def name_after(path: Path, before: str = '', label: str = '') -> str:
    """
    Return what the policy is called that is trained from a file.

    :param before: Label of the file's pattern, which its name may end with.
    :param label: Of another pattern, which takes that place.
    """
    stem = ADDED.sub('', path.stem)
    return f"{stem.removesuffix(f'_{before}')}_{label}" if label else stem
