"""
What an output knows: which images it depends on, from when on, and how old they are.

The frames are those of a rollout window: frame 0 holds initial states, and image 0.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
import math
from typing import Any, NamedTuple

from stream_agent.theory.checks import check_work
from stream_agent.theory.graph import GraphSpec, reachable
from stream_agent.theory.patterns import (
    Edge, edges_of, Pattern, sequential_pattern, update_order)
from stream_agent.theory.rollout import FrameNode, inference_tableau, sources_of


class FirstResponse(NamedTuple):
    """The first frame, and the first update step, at which the output depends on an image."""

    frame: int
    update_step: int


class Ages(NamedTuple):
    """Ages in frames, each the worst over the frames of the hyperperiod; 0 is this frame's."""

    newest: int
    oldest: int


def images_seen(graph: GraphSpec, pattern: Pattern, size: int) -> dict[FrameNode, set[int]]:
    """
    Return the indices of the images that every node of a window depends on.

    Nodes of frame 0, except for inputs, hold initial states and depend on none. With several
    inputs, an index stands for the images of that frame together.
    """
    sources = sources_of(graph, pattern)
    order = update_order(graph, pattern)
    seen: dict[FrameNode, set[int]] = {}
    for i in range(size + 1):
        for v in order:
            if v in graph.inputs:
                seen[i, v] = {i}
            elif i and graph.node(v).updates_at(i):
                seen[i, v] = set().union(*(seen[i - r, u] for u, r in sources[v]))
            else:
                seen[i, v] = seen.get((i - 1, v), set())
    return seen


def first_response(graph: GraphSpec, pattern: Pattern) -> FirstResponse:
    """Return when the output of a window first depends on an image, in frames and in steps."""
    frame = 1 + next(i for i, newest in enumerate(newest_images(graph, pattern)) if newest >= 0)
    return FirstResponse(frame, inference_tableau(graph, pattern, frame)[frame, graph.output])


def frames_until_response(graph: GraphSpec, pattern: Pattern) -> int:
    """
    Return after how many further frames the output depends on a new image; 0 is the same frame.

    With a schedule it is the worst of all images.
    """
    if graph.hyperperiod == 1:
        return least_delay(graph, pattern)[0]
    return max(ages[graph.output] for ages in settled_ages(graph, pattern, min))


def frames_unanswered(graph: GraphSpec, pattern: Pattern) -> int:
    """Return how many frames after a reset have an output that depends on none of them."""
    return next(i for i, newest in enumerate(newest_images(graph, pattern)) if newest >= 1)


def newest_images(graph: GraphSpec, pattern: Pattern) -> Iterator[int]:
    """Yield the index of the newest image that the output of frame 1, 2, ... depends on, or -1."""
    if graph.hyperperiod == 1:
        delay, knows_image_0 = least_delay(graph, pattern)
        yield from (i - delay if i > delay or i == delay and knows_image_0 else -1
                    for i in count(1))
    for i, ages in enumerate(ages_of_nodes(graph, pattern, min), 1):
        yield -1 if ages[graph.output] > i else i - ages[graph.output]


def least_delay(graph: GraphSpec, pattern: Pattern) -> tuple[int, bool]:
    """
    Return the frames from an image to the output by the path with the least delay.

    :param graph: Without a schedule.
    :returns: The delay, and whether such a path may begin at image 0: only if its first edge
        streams, as all other nodes of frame 0 hold initial states.
    """
    sources = sources_of(graph, pattern)
    delays = {graph.output: 0}
    begun: dict[int, bool] = {}
    # The next node has the least delay of those that wait: R is 0 or 1.
    waiting = deque([(graph.output, 0)])
    while waiting:
        v, delay = waiting.popleft()
        if delay > delays[v]:
            continue
        for u, r in sources[v]:
            if u in graph.inputs:
                begun[delay + r] = begun.get(delay + r, False) or bool(r)
            elif delay + r < delays.get(u, math.inf):
                delays[u] = delay + r
                (waiting.append if r else waiting.appendleft)((u, delay + r))
    least = min(begun)
    return least, begun[least]


def information_ages(graph: GraphSpec, pattern: Pattern) -> Ages:
    """
    Return the ages of the newest and of the oldest information in the output, in frames.

    The newest comes by the path with the least delay; the oldest by the path with the most,
    among those that lead from layer to layer: marked edges carry memory, which has no age.

    :raises InvalidRolloutError: If a cycle has no marked edge.
    """
    memory = memory_edges(graph)
    forward = {edge: r for edge, r in pattern.items() if edge not in memory}
    newest = frames_until_response(graph, pattern)
    oldest = max(ages[graph.output] for ages in settled_ages(graph, forward, max))
    # Where all ways to the output carry memory, the newest information is all there is.
    return Ages(newest, max(newest, oldest))


def settled_ages(graph: GraphSpec, pattern: Pattern, choose: Callable) -> list[dict[str, int]]:
    """Return the ``ages_of_nodes`` in the frames of a hyperperiod, once they repeat."""
    if graph.hyperperiod == 1 and choose is max:
        return [longest_delays(graph, pattern)]
    past: list[dict[str, int]] = []
    following = ages_of_nodes(graph, pattern, choose)
    # A frame depends on the one before and on its place in the schedule alone.
    while len(past) <= graph.hyperperiod or past[-1] != past[-1 - graph.hyperperiod]:
        check_work(graph, len(past))
        past.append(next(following))
    return past[-graph.hyperperiod:]


def longest_delays(graph: GraphSpec, pattern: Pattern) -> dict[str, int]:
    """Return the largest sum of R on a path to every node, of a pattern without any cycle."""
    sources = sources_of(graph, pattern)
    ages: dict[str, int] = {}
    for v in update_order(graph, dict.fromkeys(pattern, 0)):
        ages[v] = max((ages[u] + r for u, r in sources[v]), default=0)
    return ages


def ages_of_nodes(graph: GraphSpec, pattern: Pattern, choose: Callable
                  ) -> Iterator[dict[str, int]]:
    """
    Yield the ages of all nodes' information in the frames 1, 2, ..., in frames.

    :param choose: ``min`` for the newest information of each node, ``max`` for the oldest; for
        the latter the pattern's edges form no cycle.
    :returns: Infinite before the first information.
    """
    sources = sources_of(graph, pattern)
    order = update_order(graph, pattern)
    last: dict[str, Any] = {v: 0 if v in graph.inputs else math.inf for v in order}
    for i in count(1):
        now: dict[str, int] = {}
        for v in order:
            if not sources[v]:
                now[v] = 0
            elif graph.node(v).updates_at(i):
                now[v] = choose(last[u] + 1 if r else now[u] for u, r in sources[v])
            else:
                now[v] = last[v] + 1
        yield now
        last = now


def memory_edges(graph: GraphSpec) -> set[Edge]:
    """Return the edges that the sequential rollout streams: recurrence, and designed delays."""
    return {edge for edge, r in sequential_pattern(graph).items() if r}


def delay_edges(graph: GraphSpec) -> set[Edge]:
    """Return the marked edges that are in no cycle: nothing but the design wants their delay."""
    return {(u, v) for u, v in memory_edges(graph) if u not in reachable(edges_of(graph), [v])}
