"""The rollouts that a planner weighs: patterns, schedules, and what each of them costs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
import math

import numpy as np
from stream_agent.theory.graph import GraphSpec, OPERAND, reachable, with_schedule
from stream_agent.theory.information import Ages, delay_edges, information_ages, memory_edges
from stream_agent.theory.patterns import (
    Edge, edges_of, Pattern, sequential_pattern, streaming_edges, streaming_pattern, update_order)
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.rollout import response_cone, sources_of

SERIAL, PARALLEL = EXECUTIONS = ('serial', 'parallel')
# Ways to live with a pass that is longer than a camera period, in which no edge need stream.
PIPELINED, STAGGERED, FROZEN_TRUNK = PEERS = ('pipelined', 'staggered copies', 'frozen trunk')


@dataclass(frozen=True)
class Device:
    """
    What runs the network, and what feeds it.

    :param costs: Seconds of every node on it.
    :param execution: 'serial', one node after the other; or 'parallel', all nodes whose sources
        are there together.
    :param camera_period: Seconds between two frames.
    """

    costs: NodeCosts
    execution: str
    camera_period: float

    def seconds(self, graph: GraphSpec, pattern: Pattern, names: Iterable[str]) -> float:
        """Return what nodes take that are computed together in one frame."""
        # Not a set, so that the sum is rounded in the same way in every process.
        names = dict.fromkeys(names)
        if self.execution == SERIAL:
            return sum(self.costs.nodes[name] for name in names)
        sources = sources_of(graph, pattern)
        finish: dict[str, float] = {}
        for v in update_order(graph, pattern):
            if v in names:
                waits = [finish[u] for u, r in sources[v] if not r and u in finish]
                finish[v] = self.costs.nodes[v] + max(waits, default=0.0)
        return max(finish.values(), default=0.0)


@dataclass(frozen=True)
class Rollout:
    """A graph with its schedule, a pattern, and what they cost on a device."""

    graph: GraphSpec
    pattern: Pattern
    device: Device

    @property
    def frames(self) -> range:
        """Frames of one round of the schedule."""
        return range(1, self.graph.hyperperiod + 1)

    @cached_property
    def response_cost(self) -> float:
        """Seconds of the response cone, in the most expensive frame of the schedule."""
        return max(self.device.seconds(self.graph, self.pattern,
                                       response_cone(self.graph, self.pattern, frame))
                   for frame in self.frames)

    @cached_property
    def step_cost(self) -> float:
        """Seconds of a whole step, in the most expensive frame of the schedule."""
        return max(self.device.seconds(self.graph, self.pattern, [
            node.name for node in self.graph.nodes
            if node.name not in self.graph.inputs and node.updates_at(frame)])
            for frame in self.frames)

    @cached_property
    def ages(self) -> Ages:
        """Of the information in an answer, in frames."""
        return information_ages(self.graph, self.pattern)


@dataclass(frozen=True)
class Candidate:
    """
    One way to run a graph, and its forecast.

    All ages and durations are the worst over the frames of the schedule, in seconds.

    :param kind: 'streaming', 'sequential', 'hybrid', 'multi-rate', 'truncated' or 'k updates';
        or one of ``PEERS``.
    :param rollout: Its graph lacks the nodes that are left out.
    :param left_out: Nodes that the candidate does without.
    :param updates_per_frame: Update steps for which an image is held; the last one answers.
    :param busy: Seconds until the device takes another frame, where frames overlap; None where
        one follows the other.
    """

    kind: str
    rollout: Rollout
    left_out: tuple[str, ...] = ()
    updates_per_frame: int = 1
    busy: float | None = None

    @property
    def response_latency(self) -> float:
        """From the frame to its answer, if the device is free."""
        return (self.rollout.device.costs.overhead + self.rollout.response_cost
                + (self.updates_per_frame - 1) * self.rollout.step_cost)

    @property
    def frame_cost(self) -> float:
        """For which a frame keeps the device from taking the next."""
        if self.busy is not None:
            return self.busy
        return (self.rollout.device.costs.overhead
                + self.updates_per_frame * self.rollout.step_cost)

    @property
    def camera_period(self) -> float:
        return self.rollout.device.camera_period

    @property
    def keeps_up(self) -> bool:
        """Whether every frame of the camera is answered and settled before the next."""
        return self.frame_cost <= self.camera_period

    @property
    def interval(self) -> float:
        """From one answer to the next; the newest frame is taken as soon as the device is free."""
        return max(self.camera_period, self.frame_cost)

    @property
    def ages(self) -> Ages:
        """Of the information in an answer, in frames that were taken."""
        # The last of k updates of an image reads what is less than k updates old from it, too.
        return Ages(*(age // self.updates_per_frame for age in self.rollout.ages))

    @property
    def first_response(self) -> float:
        """From a change in front of the camera, as its frame comes, to the first answer."""
        # A change that comes while the device is busy waits, half of its work on average.
        waits = 0.0 if self.keeps_up else self.interval / 2
        return waits + self.ages.newest * self.interval + self.response_latency

    @property
    def newest_age(self) -> float:
        """Mean age of the newest information in effect, half the time a command is held in it."""
        return self.age_at_answer(self.ages.newest) + self.interval / 2

    @property
    def oldest_age(self) -> float:
        """Mean age of the oldest information in effect, by the path through most layers."""
        return self.age_at_answer(self.ages.oldest) + self.interval / 2

    def age_at_answer(self, frames: int) -> float:
        """Return how old information of so many frames is when its answer is out."""
        # The newest frame once the device is free has come half a camera period ago on average.
        waits = 0.0 if self.keeps_up else self.camera_period / 2
        return waits + frames * self.interval + self.response_latency

    @cached_property
    def figures(self) -> tuple[float, ...]:
        """What candidates are compared in; less is better."""
        return (self.response_latency, self.frame_cost, self.first_response, self.oldest_age,
                len(self.left_out))

    @property
    def streams(self) -> list[str]:
        return streaming_edges(self.rollout.pattern)

    @property
    def schedule(self) -> dict[str, tuple[int, int]]:
        """(period, offset) of the nodes that are not updated in every frame."""
        return {node.name: (node.period, node.offset) for node in self.rollout.graph.nodes
                if node.period > 1}


def kind_of(graph: GraphSpec, pattern: Pattern) -> str:
    """Return what a pattern is called; edges from inputs may do as they like in 'streaming'."""
    if pattern == sequential_pattern(graph):
        return 'sequential'
    inner = [r for (u, _), r in pattern.items() if u not in graph.inputs]
    return 'streaming' if all(inner) else 'hybrid'


def waves(graph: GraphSpec, cone: set[str], device: Device, longest: int) -> list[Candidate]:
    """
    Return schedules in which one wave runs through the deep nodes in order of depth.

    The cone is computed in every frame. All other nodes are divided over the frames of a period,
    in update order and as evenly as possible; a wave reads what it computed itself (R = 0), and
    the cone reads the last wave (R = 1).

    :param cone: Nodes that lead to the output and include it.
    :param longest: The largest period to try.
    """
    # Branches that compare two frames would look at others, as each reads when its turn comes.
    if delay_edges(graph):
        return []
    wave = cut(graph, cone)
    order = [v for v in update_order(graph, wave) if v not in cone and v not in graph.inputs]
    found = []
    for period in range(2, min(longest, len(order)) + 1):
        parts = even_parts([device.costs.nodes[v] for v in order], period)
        # The first frame after a reset, frame 1, begins a wave.
        scheduled = with_schedule(graph, {v: (period, (part + 1) % period)
                                          for v, part in zip(order, parts)})
        found.append(Candidate('multi-rate', Rollout(scheduled, wave, device)))
    return found


def cut(graph: GraphSpec, cone: set[str]) -> dict[Edge, int]:
    """Return the sequential pattern, but that edges into a set of nodes stream."""
    return {(u, v): int(r or (v in cone and u not in cone and u not in graph.inputs))
            for (u, v), r in sequential_pattern(graph).items()}


def even_parts(costs: Sequence[float], count: int) -> list[int]:
    """
    Divide a sequence into consecutive parts whose most expensive is as cheap as possible.

    :returns: The part of every item, 0 ... count - 1; exact, by dynamic programming.
    """
    sums = np.concatenate([[0.0], np.cumsum(costs)])
    best = sums.copy()
    cuts = []
    for _ in range(1, count):
        # worst[i, j]: items up to j in one part more, the last of which begins at i.
        worst = np.maximum(best[:, None], sums - sums[:, None])
        worst[np.tril_indices(len(sums), -1)] = math.inf
        cuts.append(worst.argmin(axis=0))
        best = worst.min(axis=0)
    ends = [len(costs)]
    for begins in reversed(cuts):
        ends.append(int(begins[ends[-1]]))
    starts = sorted(ends[1:])
    return [sum(start <= i for start in starts) for i in range(len(costs))]


def truncated(graph: GraphSpec, device: Device) -> Candidate | None:
    """
    Return the largest sequential network of the shallow nodes that fits the camera period.

    The deepest nodes are left out first, and none that costs nothing; None if the whole fits or
    no part does.
    """
    order = sorted((v for v in update_order(graph, sequential_pattern(graph))
                    if v not in graph.inputs and v != graph.output),
                   key=lambda v: device.costs.nodes[v] > 0)
    for kept in range(len(order), -1, -1):
        smaller = part_of(graph, {*order[:kept], *graph.inputs, graph.output})
        if smaller is None:
            continue
        left_out = tuple(v for v in graph.by_name if v not in smaller.by_name)
        costs = replace(device.costs, nodes={
            v: seconds for v, seconds in device.costs.nodes.items() if v in smaller.by_name})
        candidate = Candidate('truncated', Rollout(smaller, sequential_pattern(smaller),
                                                   replace(device, costs=costs)), left_out)
        if candidate.keeps_up:
            return candidate if left_out else None
    return None


def overlapping(sequential: Candidate) -> Iterator[Candidate]:
    """
    Yield what takes a frame before the one before it is answered, on a parallel device.

    A pipeline needs a pattern that streams self-edges alone. Copies of the network, each with
    processors of its own, take turns at the frames, as many as keep the camera's rate.
    """
    rollout = sequential.rollout
    device = rollout.device
    if device.execution != PARALLEL or sequential.keeps_up:
        return
    if all(u == v for (u, v), r in rollout.pattern.items() if r):
        yield replace(sequential, kind=PIPELINED,
                      busy=device.costs.overhead + max(device.costs.nodes.values()))
    copies = math.ceil(sequential.frame_cost / device.camera_period)
    yield replace(sequential, kind=STAGGERED, busy=sequential.frame_cost / copies)


def part_of(graph: GraphSpec, names: set[str]) -> GraphSpec | None:
    """Return the nodes that lie between inputs and output in a part; None if none do."""
    while True:
        inner = [(u, v) for u, v in edges_of(graph) if {u, v} <= names]
        useful = reachable(inner, graph.inputs) & reachable(
            [(v, u) for u, v in inner], [graph.output])
        if graph.output not in useful:
            return None
        # A body needs all of its operands.
        lacking = {edge.target for edge in graph.edges if edge.transform == OPERAND
                   and edge.target in useful and edge.source not in useful}
        if not lacking:
            break
        names = useful - lacking
    return GraphSpec(tuple(node for node in graph.nodes if node.name in useful),
                     tuple(edge for edge in graph.edges if {edge.source, edge.target} <= useful),
                     graph.output)


def held_images(candidate: Candidate, most: int) -> list[Candidate]:
    """Return the candidate with 2 ... ``most`` update steps for every image."""
    return [replace(candidate, kind='k updates', updates_per_frame=k)
            for k in range(2, most + 1)]


class Pipelines:
    """The best that a parallel device can do, with the marked edges streaming; seconds by node."""

    def __init__(self, graph: GraphSpec, seconds: Mapping[str, float]) -> None:
        self._graph = graph
        self._seconds = seconds
        memory = memory_edges(graph)
        self._sources = {v: [u for u, r in sources if (u, v) not in memory]
                         for v, sources in sources_of(graph, streaming_pattern(graph)).items()}
        self._order = [v for v in update_order(graph, sequential_pattern(graph))
                       if v not in graph.inputs]

    def cheapest_frames(self) -> Iterator[tuple[float, dict[Edge, int]]]:
        """
        Yield the cheapest frame if the oldest information is 0, 1, 2, ... frames old.

        Its seconds and a pattern; the last is the cheapest of all, that of the most expensive
        node.
        """
        least = max(self._seconds.values())
        for age in count():
            low, high = least, sum(self._seconds.values())
            if self.pattern(least)[0] <= age:
                high = least
            while high - low > 1e-6 * high:
                middle = (low + high) / 2
                low, high = ((low, middle) if self.pattern(middle)[0] <= age
                             else (middle, high))
            yield high, self.pattern(high)[1]
            if high == least:
                return

    def pattern(self, limit: float) -> tuple[int, dict[Edge, int]]:
        """
        Return the least oldest age, and its pattern, if R = 0 edges form no path beyond a limit.

        Every node takes the least (age, finish) that its sources allow: an edge from a source
        younger than that may stream for nothing, an edge from one of the same age has to be in
        time. A node that is older or later helps no node after it, so this is the least age of
        all patterns.

        :param limit: Seconds, no less than the most expensive node takes.
        """
        pattern = streaming_pattern(self._graph)
        age, finish = dict.fromkeys(self._graph.inputs, 0), dict.fromkeys(self._graph.inputs, 0.0)
        for v in self._order:
            age[v] = max((age[u] for u in self._sources[v]), default=0)
            waits = max((finish[u] for u in self._sources[v] if age[u] == age[v]), default=0.0)
            if waits + self._seconds[v] > limit * (1 + 1e-9):
                age[v] += 1
                waits = 0.0
            for u in self._sources[v]:
                pattern[u, v] = int(age[u] < age[v] and u not in self._graph.inputs)
            finish[v] = waits + self._seconds[v]
        return age[self._graph.output], pattern
