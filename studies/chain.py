"""A graph with a quick path beside a deep one, and the rollouts of it that studies drive."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
import hashlib
from itertools import islice
import json
from typing import Any

from stream_agent.driving.compute_model import Timeline, timeline_of
from stream_agent.theory.graph import EdgeSpec, graph_to_data, GraphSpec, with_schedule
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
from stream_agent.theory.planning.candidates import (
    Candidate, cut, Device, PARALLEL, part_of, Rollout, waves)
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.planner import make_plan

# What `stream_agent plan` recommends, whatever that is, is held against the marks.
OURS = 'planned'
# Where a cost fits a camera period exactly, rounding must not decide.
FITS = 1 + 1e-6


@dataclass(frozen=True)
class Scheme:
    """
    One way to drive: a rollout with its timing.

    :param kind: Its name in tables and pictures.
    :param inputs: What it is told besides the image, such as 'commands'.
    """

    kind: str
    candidate: Candidate
    timeline: Timeline
    inputs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return what it is called among those of one device at one cost."""
        return '+'.join((self.kind, *self.inputs))

    @property
    def key(self) -> str:
        """Return what tells trainings apart: network, rollout, times of images and answers."""
        return hashlib.sha256(json.dumps(self.told(), sort_keys=True).encode()).hexdigest()[:16]

    def told(self) -> list[Any]:
        """Return as JSON all that a training of it depends on, but for its budget."""
        taken = [(one.image, round(one.answer / self.timeline.camera_period, 6))
                 for one in islice(self.timeline, 60)]
        rollout = self.candidate.rollout
        return [graph_to_data(rollout.graph), sorted((*edge, r) for edge, r
                                                     in rollout.pattern.items()),
                self.candidate.updates_per_frame, taken, self.inputs]


@dataclass(frozen=True, eq=False)
class Chain:
    """
    Deep nodes of equal emulated cost, the last of them a memory, and a read-out that reads all.

    :param glance: Nodes that take from the image what the output needs immediately; they are a
        part of the read-out and cost nothing more.
    """

    graph: GraphSpec
    glance: frozenset[str] = frozenset({'sight', 'glance'})
    _recommended: dict[tuple[float, str, float], Candidate] = field(default_factory=dict)

    @property
    def read_out(self) -> set[str]:
        """Return the glance and the output."""
        return {*self.glance, self.graph.output}

    @cached_property
    def deep(self) -> list[str]:
        """Return the other nodes, the shallow ones first."""
        return [node.name for node in self.graph.nodes
                if node.name not in self.read_out and node.name not in self.graph.inputs]

    def costs(self, graph: GraphSpec, layer: float) -> NodeCosts:
        """Return equal costs [s] for the nodes of a part."""
        return NodeCosts({node.name: 0.0 if node.name in self.glance else layer
                          for node in graph.nodes if node.name not in graph.inputs},
                         source='emulated')

    def device(self, pass_periods: float, execution: str, period: float) -> Device:
        """
        Return a device on which a pass takes so many camera periods.

        :param period: Of the camera [s].
        """
        layer = pass_periods * period / (len(self.deep) + 1)
        return Device(self.costs(self.graph, layer), execution, period)

    def smaller(self, layers: int) -> GraphSpec:
        """
        Return the graph with so few nodes that cost something: shallow ones, memory, read-out.

        The memory stays as long as there are two, and reads the last layer that is left.
        """
        image, memory = self.graph.inputs[0], self.deep[-1]
        if layers == 1:
            return part_of(self.graph, {image, *self.read_out}) or self.graph
        kept = self.deep[:layers - 2]
        graph = replace(self.graph, edges=(*self.graph.edges, EdgeSpec(
            kept[-1] if kept else image, memory, transform='dense')))
        return part_of(graph, {image, *kept, memory, *self.read_out}) or self.graph

    def streaming_once_read(self) -> dict[tuple[str, str], int]:
        """Return the pattern in which all streams but the image, and what is of the read-out."""
        streaming = newest_image_pattern(self.graph)
        return {(u, v): int(r and u not in self.glance) for (u, v), r in streaming.items()}

    def held_image(self, streaming: Candidate, updates: int) -> Candidate:
        """
        Return streaming with several updates for every image, each node once a frame.

        The image stays, so a layer changes once, one update after the layer before it: only then
        is it computed, and the memory takes one step a frame.
        """
        if updates <= 1:
            return streaming
        turns = {v: (updates, (i % updates + 1) % updates) for i, v in enumerate(self.deep)}
        graph = with_schedule(self.graph, turns | {v: (updates, 0) for v in self.read_out})
        return Candidate('k updates', replace(streaming.rollout, graph=graph),
                         updates_per_frame=updates)

    def multi_rate(self, hybrid: Candidate) -> Candidate:
        """Return the fastest waves of deep nodes that keep up, or else the longest."""
        device = hybrid.rollout.device
        turns = [hybrid, *waves(self.graph, self.read_out, device, len(self.deep))]
        fitting = [one for one in turns if one.frame_cost <= device.camera_period * FITS]
        return fitting[0] if fitting else turns[-1]

    def recommended(self, device: Device) -> Candidate:
        """Return what the planner recommends; it forecasts, and has not seen a drive."""
        key = device.costs.total(), device.execution, device.camera_period
        if key not in self._recommended:
            self._recommended[key] = make_plan(self.graph, device.costs, device.camera_period,
                                               device.execution).recommended
        return self._recommended[key]

    def fitting_nodes(self, device: Device) -> int:
        """Return how many nodes that cost something fit into a camera period."""
        layer = device.costs.total() / (len(self.deep) + 1)
        return min(len(self.deep) + 1, int(device.camera_period * FITS / layer))

    def schemes(self, device: Device) -> Iterator[Scheme]:
        """Yield the schemes that there are on a device, each without further inputs."""
        graph = self.graph
        sequential = Candidate('sequential', Rollout(graph, sequential_pattern(graph), device))
        streaming = Candidate('streaming', Rollout(graph, self.streaming_once_read(), device))
        hybrid = Candidate('hybrid', Rollout(graph, cut(graph, self.read_out), device))
        nodes = self.fitting_nodes(device)
        found = {'sequential': sequential, 'streaming': streaming, 'hybrid': hybrid}
        if device.execution == PARALLEL:
            yield Scheme('pipelined', sequential, timeline_of(sequential, pipelined=True))
            found['k updates'] = self.held_image(streaming, nodes)
        else:
            found['multi-rate'] = self.multi_rate(hybrid)
        found[OURS] = self.recommended(device)
        if nodes <= len(self.deep):
            small = self.smaller(max(1, nodes))
            layer = device.costs.total() / (len(self.deep) + 1)
            found['smaller'] = Candidate('truncated', Rollout(
                small, sequential_pattern(small),
                replace(device, costs=self.costs(small, layer))))
        for kind, candidate in found.items():
            yield Scheme(kind, candidate, timeline_of(candidate))
