"""The schemes that drive past signs: ours, and every peer that is known to live with delay."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
import math
from typing import Any

from stream_agent.driving.compute_model import Timeline, timeline_of, Work
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.share import share_folder
from stream_agent.theory.graph import EdgeSpec, GraphSpec, NodeSpec, with_schedule
from stream_agent.theory.patterns import sequential_pattern
from stream_agent.theory.planning.candidates import (
    Candidate, cut, Device, PARALLEL, Rollout, SERIAL)
from studies.chain import Chain, FITS, OURS, Scheme
from torch import nn

# The node of the read-out in which the fresh glance meets the memory.
JOIN = 'join'
CHAIN = Chain(load_graph(share_folder() / 'config' / 'graphs' / 'reflex.yaml'),
              frozenset({'sight', 'glance', JOIN}))
#: In the order of tables; the peers first.
PEERS = ('sequential', 'pipelined', 'staggered', 'smaller', 'narrower', 'random delays',
         'frozen trunk')
KINDS = (*PEERS, 'streaming', 'hybrid', 'multi-rate', OURS)
INPUTS = ('commands', 'age', 'forecast')
# Prefix of the nodes that correct a frozen trunk.
HEAD = 'head_'
# Half the range of a pass time relative to the usual one, in training with random delays.
SPREAD = 0.5
FACTORS = 64


@dataclass(frozen=True)
class ReflexScheme(Scheme):
    """
    One way to drive past signs.

    :param copies: Of the network, which take turns at the images, each with a memory of its own.
    :param spread: Of the pass times in training, relative to those that it drives with.
    :param trunk: The scheme whose weights are kept; its output is corrected.
    :param pass_periods: Camera periods that a pass through the whole network takes.
    """

    copies: int = 1
    spread: float = 0.0
    trunk: 'ReflexScheme | None' = None
    pass_periods: float = 0.0

    def told(self) -> list[Any]:
        return [*super().told(), self.copies, self.spread, self.trunk and self.trunk.key]


def operations(graph: GraphSpec) -> int:
    """Return the multiplications of a pass through all nodes."""
    network = RolloutNetwork(with_schedule(graph, {}), sequential_pattern(graph))
    total = 0

    def count(module: nn.Module, _: Any, result: Any) -> None:
        nonlocal total
        total += module.weight.numel() * math.prod(result.shape[2:])
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    state = network.initial_state()
    network.stepped(state.values[network.input].unsqueeze(1), state)
    return total


def scaled(graph: GraphSpec, factor: float) -> GraphSpec:
    """Return a graph whose nodes, but for inputs and output, have so many times the channels."""
    def size(count: int) -> int:
        return max(1, round(factor * count))

    def node(spec: NodeSpec) -> NodeSpec:
        if spec.name in graph.inputs or spec.name == graph.output:
            return spec
        shape = spec.shape and (size(spec.shape[0]), *spec.shape[1:])
        return replace(spec, shape=shape, channels=spec.channels and size(spec.channels))
    return replace(graph, nodes=tuple(map(node, graph.nodes)))


@cache
def narrower(share: float) -> GraphSpec:
    """Return the widest network of all layers that needs a share of the operations at most."""
    graph, most = CHAIN.graph, share * operations(CHAIN.graph)
    low, high = 1, FACTORS
    while low < high:
        middle = (low + high + 1) // 2
        if operations(scaled(graph, middle / FACTORS)) <= most:
            low = middle
        else:
            high = middle - 1
    return scaled(graph, low / FACTORS)


def corrected(graph: GraphSpec, glance: frozenset[str]) -> GraphSpec:
    """
    Return a network with a head that sees the newest image, and what the network last said.

    The head is a second read-out, with a glance of its own: it reads the memory as the first one
    does, and the output of the first.
    """
    own = {*glance, graph.output}
    nodes = [replace(node, name=HEAD + node.name) for node in graph.nodes if node.name in own]
    edges = [replace(edge, source=HEAD * (edge.source in own) + edge.source,
                     target=HEAD + edge.target) for edge in graph.edges if edge.target in own]
    told = [EdgeSpec(graph.output, HEAD + name) for name in (JOIN, graph.output)]
    return replace(graph, nodes=(*graph.nodes, *nodes), edges=(*graph.edges, *edges, *told),
                   output=HEAD + graph.output)


def frozen_trunk(multi_rate: Candidate, sequential: ReflexScheme) -> ReflexScheme:
    """
    Return the sequential network as a frozen trunk, corrected in every frame.

    The trunk's nodes take the turns that those of the multi-rate rollout take. Its own output
    costs nothing, in its favour: the head's costs what the read-out does.
    """
    rollout = multi_rate.rollout
    graph = corrected(CHAIN.graph, CHAIN.glance)
    turns = {node.name: (node.period, node.offset) for node in rollout.graph.nodes}
    # The trunk's glance sees the image that its first layer sees.
    turns |= dict.fromkeys(CHAIN.glance - {JOIN}, turns[CHAIN.deep[0]])
    turns |= dict.fromkeys((JOIN, CHAIN.graph.output), turns[CHAIN.deep[-1]])
    graph = with_schedule(graph, turns)
    head = {node.name for node in graph.nodes if node.name.startswith(HEAD)}
    costs = rollout.device.costs
    layer = costs.nodes[CHAIN.graph.output]
    device = replace(rollout.device, costs=replace(costs, nodes={
        **costs.nodes, **dict.fromkeys(head, 0.0), CHAIN.graph.output: 0.0,
        graph.output: layer}))
    candidate = Candidate('multi-rate', Rollout(graph, cut(graph, head), device))
    return ReflexScheme('frozen trunk', candidate, timeline_of(candidate), trunk=sequential)


def narrow_scheme(device: Device) -> ReflexScheme:
    """Return all layers with so few channels that a pass takes a camera period."""
    share = device.camera_period / device.costs.total()
    graph = narrower(round(share, 6))
    costs = replace(device.costs, nodes={name: share * seconds for name, seconds
                                         in device.costs.nodes.items()})
    candidate = Candidate('sequential', Rollout(graph, sequential_pattern(graph),
                                                replace(device, costs=costs)))
    return ReflexScheme('narrower', candidate, timeline_of(candidate))


def staggered(sequential: Candidate) -> ReflexScheme:
    """
    Return copies of the network on as many processors, which take turns at the images.

    Riemer et al.: Enabling realtime reinforcement learning at scale with staggered asynchronous
    inference, ICLR 2025: as many copies as a pass takes camera periods keep the camera's rate.
    """
    period = sequential.camera_period
    copies = math.ceil(sequential.frame_cost / period / FITS)
    work = Work(sequential.response_latency, max(period, sequential.frame_cost / copies))
    return ReflexScheme('staggered', sequential, Timeline((work,), period), copies=copies)


def plain_schemes(pass_periods: float, execution: str, period: float) -> Iterator[ReflexScheme]:
    """
    Yield the schemes that there are on a device, each told nothing but images.

    :param pass_periods: Cost of all nodes, in camera periods.
    :param period: Of the camera [s].
    """
    device = CHAIN.device(pass_periods, execution, period)
    found = {}
    for scheme in CHAIN.schemes(device):
        found[scheme.kind] = scheme
        # On one core, one more image a frame would be all that streaming gains.
        if scheme.kind in KINDS and (execution == PARALLEL or scheme.kind != 'streaming'):
            yield ReflexScheme(scheme.kind, scheme.candidate, scheme.timeline)
    sequential = found['sequential']
    if pass_periods <= FITS:
        return
    yield narrow_scheme(device)
    if execution == PARALLEL:
        yield staggered(sequential.candidate)
    else:
        yield ReflexScheme('random delays', sequential.candidate, sequential.timeline,
                           spread=SPREAD)
        yield frozen_trunk(found['multi-rate'].candidate,
                           ReflexScheme('sequential', sequential.candidate, sequential.timeline))


def schemes(pass_periods: float, execution: str, period: float) -> list[ReflexScheme]:
    """
    Return all schemes; on one core each also with further inputs.

    A network that is told the age of its image is told its commands, too; the pose forecast is
    made of these.
    """
    plain = [replace(scheme, pass_periods=pass_periods)
             for scheme in plain_schemes(pass_periods, execution, period)]
    told = [INPUTS[:1], INPUTS[:2], INPUTS[2:]] if execution == SERIAL else []
    return plain + [replace(scheme, inputs=inputs) for inputs in told for scheme in plain
                    if scheme.kind != 'frozen trunk']
