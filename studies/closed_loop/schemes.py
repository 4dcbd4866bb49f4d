"""The schemes that drive in the closed loop, on each device at each cost of a pass."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
import hashlib
from itertools import islice
import json
from pathlib import Path

from stream_agent.driving.compute_model import Timeline, timeline_of
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.theory.graph import EdgeSpec, graph_to_data, GraphSpec, with_schedule
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
from stream_agent.theory.planning.candidates import (
    Candidate, cut, Device, PARALLEL, part_of, Rollout, waves)
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.planner import make_plan

GRAPH = load_graph(Path(__file__).with_name('chain.yaml'))
# The layers that are a part of the read-out and cost nothing more, and all of it.
GLANCE = {'sight', 'glance'}
READ_OUT = GLANCE | {'command'}
DEEP = [node.name for node in GRAPH.nodes if node.name not in READ_OUT | {'image'}]
MOST_UPDATES = len(DEEP) + 1
KINDS = ('sequential', 'pipelined', 'smaller', 'streaming', 'k updates', 'hybrid', 'multi-rate',
         'planned')
# What `stream_agent plan` recommends, whatever that is, is held against the marks.
OURS = 'planned'
# Where a cost fits a camera period exactly, rounding must not decide.
FITS = 1 + 1e-6


@dataclass(frozen=True)
class Scheme:
    """
    One way to drive: a rollout with its timing.

    :param kind: Its name in tables and pictures.
    :param commands: Whether its last commands are a part of its image.
    """

    kind: str
    candidate: Candidate
    timeline: Timeline
    commands: bool = False

    @property
    def name(self) -> str:
        """Return what it is called among those of one device at one cost."""
        return self.kind + ('+commands' if self.commands else '')

    @property
    def key(self) -> str:
        """Return what tells trainings apart: network, rollout, times of images and answers."""
        taken = [(one.image, round(one.answer / self.timeline.camera_period, 6))
                 for one in islice(self.timeline, 60)]
        rollout = self.candidate.rollout
        told = [graph_to_data(rollout.graph), sorted((*edge, r) for edge, r
                                                     in rollout.pattern.items()),
                self.candidate.updates_per_frame, taken, self.commands]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def costs_of(graph: GraphSpec, layer: float) -> NodeCosts:
    """Return equal costs [s]; the glance is a part of the read-out."""
    return NodeCosts({node.name: 0.0 if node.name in GLANCE else layer for node in graph.nodes
                      if node.name not in graph.inputs}, source='emulated')


def smaller(layers: int) -> GraphSpec:
    """
    Return the graph with so few nodes that cost something: shallow ones, memory, read-out.

    The memory stays as long as there are two, and reads the last layer that is left.
    """
    if layers == 1:
        return part_of(GRAPH, {'image', *READ_OUT})
    kept = DEEP[:layers - 2]
    graph = replace(GRAPH, edges=(*GRAPH.edges, EdgeSpec(
        kept[-1] if kept else 'image', 'memory', transform='dense')))
    return part_of(graph, {'image', *kept, 'memory', *READ_OUT})


def streaming_once_read() -> dict[tuple[str, str], int]:
    """Return the pattern in which all streams but the image, and what is of the read-out."""
    streaming = newest_image_pattern(GRAPH)
    return {(u, v): int(r and u not in GLANCE) for (u, v), r in streaming.items()}


def held_image(streaming: Candidate, updates: int) -> Candidate:
    """
    Return streaming with several updates for every image, each node once a frame.

    The image stays, so a layer changes once, one update after the layer before it: only then is
    it computed, and the memory takes one step a frame.
    """
    if updates <= 1:
        return streaming
    turns = {v: (updates, (i % updates + 1) % updates) for i, v in enumerate(DEEP)}
    graph = with_schedule(GRAPH, turns | {v: (updates, 0) for v in READ_OUT})
    return Candidate('k updates', replace(streaming.rollout, graph=graph),
                     updates_per_frame=updates)


@cache
def recommended(layer: float, execution: str, period: float) -> Candidate:
    """Return what the planner recommends; it forecasts, and has not seen a drive."""
    return make_plan(GRAPH, costs_of(GRAPH, layer), period, execution).recommended


def plain_schemes(pass_periods: float, execution: str, period: float) -> Iterator[Scheme]:
    """
    Yield the schemes that there are on a device.

    :param pass_periods: Cost of all nodes, in camera periods.
    :param period: Of the camera [s].
    """
    layer = pass_periods * period / (len(DEEP) + 1)
    device = Device(costs_of(GRAPH, layer), execution, period)
    sequential = Candidate('sequential', Rollout(GRAPH, sequential_pattern(GRAPH), device))
    streaming = Candidate('streaming', Rollout(GRAPH, streaming_once_read(), device))
    hybrid = Candidate('hybrid', Rollout(GRAPH, cut(GRAPH, READ_OUT), device))
    yield Scheme('sequential', sequential, timeline_of(sequential))
    yield Scheme('streaming', streaming, timeline_of(streaming))
    yield Scheme('hybrid', hybrid, timeline_of(hybrid))
    if execution == PARALLEL:
        yield Scheme('pipelined', sequential, timeline_of(sequential, pipelined=True))
        held = held_image(streaming, min(MOST_UPDATES, int(period * FITS / layer)))
        yield Scheme('k updates', held, timeline_of(held))
    else:
        turns = [hybrid, *waves(GRAPH, READ_OUT, device, len(DEEP))]
        fitting = [one for one in turns if one.frame_cost <= period * FITS]
        best = fitting[0] if fitting else turns[-1]
        yield Scheme('multi-rate', best, timeline_of(best))
    planned = recommended(layer, execution, period)
    yield Scheme(OURS, planned, timeline_of(planned))
    nodes = min(len(DEEP) + 1, int(period * FITS / layer))
    if nodes <= len(DEEP):
        graph = smaller(max(1, nodes))
        small = Candidate('truncated', Rollout(graph, sequential_pattern(graph), replace(
            device, costs=costs_of(graph, layer))))
        yield Scheme('smaller', small, timeline_of(small))


def schemes(pass_periods: float, execution: str, period: float) -> list[Scheme]:
    """Return all schemes, each with and without its last commands as an input."""
    plain = list(plain_schemes(pass_periods, execution, period))
    return plain + [replace(scheme, commands=True) for scheme in plain]
