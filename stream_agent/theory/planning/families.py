"""Candidates that are more than a pattern: waves, smaller networks, and held images."""

from collections.abc import Sequence
from dataclasses import replace
import math

import numpy as np
from stream_agent.theory.graph import GraphSpec, reachable, with_schedule
from stream_agent.theory.information import delay_edges
from stream_agent.theory.patterns import Edge, sequential_pattern, update_order
from stream_agent.theory.planning.candidates import Candidate, Device, Rollout


def waves(graph: GraphSpec, cone: set[str], device: Device, longest: int) -> list[Candidate]:
    """
    Return schedules in which one wave runs through the deep nodes in order of depth.

    The cone is computed in every frame. All other nodes are divided over the frames of
    a period, in update order and as evenly as can be; a wave reads what it computed itself
    (R = 0), and the cone reads the last wave (R = 1).

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
        offsets = {v: (part + 1) % period for v, part in zip(order, parts)}
        scheduled = with_schedule(graph, {v: (period, offsets[v]) for v in order})
        found.append(Candidate('multi-rate', Rollout(scheduled, wave, device)))
    return found


def cut(graph: GraphSpec, cone: set[str]) -> dict[Edge, int]:
    """Return the sequential pattern, but that edges into a set of nodes stream."""
    return {(u, v): int(r or (v in cone and u not in cone and u not in graph.inputs))
            for (u, v), r in sequential_pattern(graph).items()}


def even_parts(costs: Sequence[float], count: int) -> list[int]:
    """
    Divide a sequence into consecutive parts whose dearest is as cheap as possible.

    :returns: The part of every item, 0 ... count - 1; exact, by dynamic programming.
    """
    sums = np.concatenate([[0.0], np.cumsum(costs)])
    best = sums.copy()
    cuts = []
    for _ in range(1, count):
        # worst[i, j]: items up to j in one part more, the last of which begins at i.
        worst = np.maximum(best[:, None], sums[None, :] - sums[:, None])
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

    Nodes go in order of depth, the deepest first; None if the whole fits or no part does.
    """
    sequential = sequential_pattern(graph)
    order = [v for v in update_order(graph, sequential)
             if v not in graph.inputs and v != graph.output]
    for kept in range(len(order), -1, -1):
        smaller = part_of(graph, {*order[:kept], *graph.inputs, graph.output})
        if smaller is None:
            continue
        left_out = tuple(node.name for node in graph.nodes if node.name not in smaller.by_name)
        costs = replace(device.costs, nodes={v: seconds for v, seconds
                                             in device.costs.nodes.items()
                                             if v in smaller.by_name})
        candidate = Candidate('truncated', Rollout(smaller, sequential_pattern(smaller),
                                                   replace(device, costs=costs)), left_out)
        if candidate.keeps_up:
            return candidate if left_out else None
    return None


def part_of(graph: GraphSpec, names: set[str]) -> GraphSpec | None:
    """Return the nodes that lie between inputs and output in a part; None if none do."""
    inner = [edge for edge in graph.edges if edge.source in names and edge.target in names]
    fed = reachable(inner, graph.inputs)
    read = reachable([replace(edge, source=edge.target, target=edge.source) for edge in inner],
                     [graph.output])
    useful = fed & read
    if graph.output not in useful:
        return None
    return GraphSpec(tuple(node for node in graph.nodes if node.name in useful),
                     tuple(edge for edge in inner if {edge.source, edge.target} <= useful),
                     graph.output)


def held_images(candidate: Candidate, most: int) -> list[Candidate]:
    """Return the candidate with 2 ... ``most`` update steps for every image."""
    return [replace(candidate, kind='k updates', updates_per_frame=k)
            for k in range(2, most + 1)]
