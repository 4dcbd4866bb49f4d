"""The rollouts of one graph that are compared, and the images behind each of their commands."""

from dataclasses import replace
from itertools import islice

import numpy as np
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import ages_of_nodes, memory_edges
from stream_agent.theory.patterns import (
    newest_image_pattern, Pattern, sequential_pattern, update_order)
from stream_agent.theory.planning.candidates import (
    Candidate, cut, Device, held_images, PARALLEL, Rollout, SERIAL, truncated, waves)
from stream_agent.theory.planning.costs import NodeCosts
from stream_agent.theory.planning.planner import LONGEST_WAVE, MARGIN, most_updates, preference

CAMERA_PERIOD = 1 / 30
KINDS = ('sequential', 'streaming', 'hybrid', 'multi-rate', 'k updates', 'truncated')


def rollouts(graph: GraphSpec, costs: NodeCosts, ratio: float, execution: str = SERIAL
             ) -> dict[str, Candidate]:
    """
    Return the rollouts to compare, by kind; the planner chooses among those of a kind.

    A held image gets as many updates as leave a tenth of the camera's period, and as still
    bring something new. Waves and truncated networks are for one node after the other.

    :param graph: Without a schedule.
    :param costs: Of which only the shares count.
    :param ratio: Of the cost of a sequential pass to the camera period.
    :returns: For a camera at 30 Hz.
    """
    device = Device(scaled(costs, ratio * CAMERA_PERIOD), execution, CAMERA_PERIOD)
    streaming = Candidate('streaming', Rollout(graph, newest_image_pattern(graph), device))
    sequential = Candidate('sequential', Rollout(graph, sequential_pattern(graph), device))
    found = {'sequential': sequential, 'streaming': streaming,
             'hybrid': min(cuts(graph, device), key=preference),
             'k updates': held(streaming)}
    if execution != PARALLEL:
        found['multi-rate'] = min(waves(graph, {graph.output}, device, LONGEST_WAVE),
                                  key=preference)
        found['truncated'] = truncated(graph, device)
    return {kind: found[kind] for kind in KINDS if found.get(kind)}


def scaled(costs: NodeCosts, seconds: float) -> NodeCosts:
    """Return costs of the same shares that add up to so many seconds."""
    factor = seconds / (costs.total() + costs.overhead)
    return NodeCosts({name: factor * cost for name, cost in costs.nodes.items()},
                     factor * costs.overhead, costs.source)


def cuts(graph: GraphSpec, device: Device) -> list[Candidate]:
    """Return the hybrids that answer with the first layers, and compute the deeper ones after."""
    order = [v for v in update_order(graph, sequential_pattern(graph))
             if v not in (*graph.inputs, graph.output)]
    return [Candidate('hybrid', Rollout(graph, cut(graph, {*order[:kept], graph.output}), device))
            for kept in range(len(order))]


def held(streaming: Candidate) -> Candidate | None:
    """Return the streaming rollout with as many updates for an image as fit; None if one does."""
    rollout = streaming.rollout
    spare = replace(rollout.device, camera_period=(1 - MARGIN) * streaming.camera_period)
    most = min(most_updates(replace(streaming, rollout=replace(rollout, device=spare)), None),
               rollout.ages.oldest + 1)
    return next(reversed(held_images(streaming, most)), None)


def newest_and_deep(candidate: Candidate, count: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Return which images the newest and the deep information in each command come from.

    "Deep" is what came through most layers, memory left out, as the planner has it.

    :returns: (count,) each: indices of the images that were taken; negative where there is none.
    """
    rollout = candidate.rollout
    output = rollout.graph.output
    newest = [now[output] for now in ages(candidate, rollout.pattern, min, count)]
    deep = [now[output] for now in ages(candidate, forward(candidate), max, count)]
    return images_taken(candidate, newest), images_taken(candidate, deep)


def read_by_output(candidate: Candidate, count: int) -> dict[str, np.ndarray]:
    """
    Return which images the output's sources have seen as it reads them, by source.

    For graphs in which one way leads from layer to layer; memory is left out.

    :returns: (count,) each, as of ``newest_and_deep``.
    """
    rollout = candidate.rollout
    found = ages(candidate, forward(candidate), min, count)
    behind = {}
    for (u, v), r in rollout.pattern.items():
        if v == rollout.graph.output:
            ages_of_u = [now[u] for now in found]
            behind[u] = images_taken(
                candidate, [np.inf, *(age + 1 for age in ages_of_u[:-1])] if r else ages_of_u)
    return behind


def forward(candidate: Candidate) -> Pattern:
    """Return the pattern without the edges that carry memory."""
    memory = memory_edges(candidate.rollout.graph)
    return {edge: r for edge, r in candidate.rollout.pattern.items() if edge not in memory}


def ages(candidate: Candidate, pattern: Pattern, choose, count: int) -> list[dict[str, float]]:
    """Return the ages of all nodes' information after every update step of ``count`` images."""
    return list(islice(ages_of_nodes(candidate.rollout.graph, pattern, choose),
                       count * candidate.updates_per_frame))


def images_taken(candidate: Candidate, ages_at_updates: list[float]) -> np.ndarray:
    """Turn ages in update steps into indices of images, at the last update of every image."""
    k = candidate.updates_per_frame
    updates = np.arange(len(ages_at_updates))
    return np.floor((updates - np.array(ages_at_updates, float)) / k)[k - 1::k]
