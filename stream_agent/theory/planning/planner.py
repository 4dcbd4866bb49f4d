"""
Which rollout to run: all that nothing else beats on a device, and the one to take.

A rollout is weighed by its response latency, by what a frame costs, by its first response, and
by the age of the oldest information in its answers. Small graphs are searched exactly, large
ones with bounds that no pattern can pass (``planning.search``). Where a task is given whose score
follows a law (``planning.law``), that decides, also between rollouts and what else there is.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
import math

from stream_agent.theory.graph import GraphSpec, with_schedule
from stream_agent.theory.patterns import newest_image_pattern, sequential_pattern
from stream_agent.theory.planning.candidates import (
    Candidate, Device, FROZEN_TRUNK, held_images, kind_of, overlapping, PARALLEL, Rollout, SERIAL,
    truncated, waves)
from stream_agent.theory.planning.costs import check_costs, NodeCosts
from stream_agent.theory.planning.law import EQUAL, Task
from stream_agent.theory.planning.search import best_patterns, ms, SearchBound
from stream_agent.theory.rollout import response_cone

LONGEST_WAVE = 8
MOST_UPDATES = 8
# Information younger than this many camera periods makes a command no better ...
FRESH_ENOUGH = 2.0
# ... and neither do deep layers whose information is younger than this [s].
DEEP_ENOUGH = 0.1
# Newest information is told apart in steps of this many camera periods beyond the limit.
STALE_STEP = 0.5
# Share of the camera period that a recommended rollout leaves for what forecasts do not know.
MARGIN = 0.1
# Doing without deep layers is taken for as bad as this many camera periods of age.
LEFT_OUT = 1.5


@dataclass(frozen=True)
class Plan:
    """
    What a planner found.

    :param best: Candidates that nothing else beats in all figures together.
    :param named: 'streaming' and 'sequential', and 'scheduled sequential' if the graph has
        periods of its own; beaten or not, to compare with.
    :param recommended: One of the best.
    :param bound: How the patterns were searched, and what no other pattern can reach.
    :param task: Whose score decides; None for the rules of ``preference``.
    """

    device: Device
    best: tuple[Candidate, ...]
    named: Mapping[str, Candidate]
    recommended: Candidate
    bound: SearchBound
    task: Task | None = None

    @property
    def ordered(self) -> list[Candidate]:
        """The best candidates, the recommended one first."""
        return sorted(self.best, key=lambda candidate: (
            candidate is not self.recommended, -(self.forecast(candidate) or 0.0),
            preference(candidate)))

    def forecast(self, candidate: Candidate) -> float | None:
        """Return a candidate's score in the task [%], if there is one and its law knows it."""
        return self.task.forecast(candidate) if self.task else None

    @property
    def beaten(self) -> list[Candidate]:
        """Those with a name that something else beats."""
        return [candidate for candidate in self.named.values() if candidate not in self.best]


def make_plan(graph: GraphSpec, costs: NodeCosts, camera_period: float, execution: str = SERIAL,
              updates_per_frame: int | None = None, task: Task | None = None) -> Plan:
    """
    Weigh the rollouts of a graph on a device.

    :param camera_period: Seconds between two frames.
    :param execution: 'serial' or 'parallel', see ``Device``.
    :param updates_per_frame: The most update steps to hold an image for; as many as fit into a
        camera period, up to eight, if None.
    :param task: Whose forecast score decides.
    :raises CostError: If the costs do not fit the graph.
    :raises InvalidRolloutError: If a cycle of the graph has no marked edge.
    """
    check_costs(costs, graph)
    # The planner proposes schedules; the graph's own is one candidate among others.
    own, graph = graph, with_schedule(graph, {})
    device = Device(costs, execution, camera_period)
    patterns, bound = best_patterns(graph, device)
    plain = [Candidate(kind_of(graph, pattern), Rollout(graph, pattern, device))
             for pattern in patterns]
    sequential = sequential_pattern(graph)
    named = {
        'streaming': Candidate('streaming', Rollout(graph, newest_image_pattern(graph), device)),
        'sequential': Candidate('sequential', Rollout(graph, sequential, device))}
    if own != graph:
        named['scheduled sequential'] = Candidate('multi-rate', Rollout(own, sequential, device))
    cones = {frozenset(response_cone(graph, pattern, 1)) for pattern in patterns}
    # The first of equals stays: those with a name and the simpler ones come first.
    best = unbeaten(chain(
        (*reversed(named.values()), *plain),
        *(waves(graph, set(cone), device, LONGEST_WAVE) for cone in sorted(
            cones, key=lambda cone: (-len(cone), sorted(cone)))),
        *(held_images(candidate, most_updates(candidate, updates_per_frame))
          for candidate in [*plain, named['streaming']] if execution == PARALLEL),
        filter(None, [truncated(graph, device)]),
        overlapping(named['sequential']) if task else ()))
    if task:
        best += frozen_trunks(best, task)
    return Plan(device, tuple(best), named, recommended(best, task), bound, task)


def frozen_trunks(best: Iterable[Candidate], task: Task) -> Iterator[Candidate]:
    """
    Yield the candidates with a cone of their own as heads that correct a trunk.

    The trunk is trained sequentially and frozen; the timing is the same. Only a law that was
    fitted on such networks tells them apart.
    """
    for candidate in best:
        frozen = replace(candidate, kind=FROZEN_TRUNK)
        if candidate.kind in ('hybrid', 'multi-rate') and task.forecast(frozen) is not None:
            yield frozen


def recommended(best: Iterable[Candidate], task: Task | None) -> Candidate:
    """Return the candidate with the highest score; the rules decide among equals."""
    if task:
        scores = [(candidate, task.forecast(candidate) or 0.0) for candidate in best]
        highest = max(score for _, score in scores)
        best = [candidate for candidate, score in scores if score >= highest - EQUAL]
    return min(best, key=preference)


def most_updates(candidate: Candidate, wanted: int | None) -> int:
    """Return the most update steps for which an image of the candidate may be held."""
    if wanted is not None:
        return wanted
    step = candidate.rollout.step_cost
    spare = candidate.camera_period - candidate.rollout.device.costs.overhead
    return min(MOST_UPDATES, int(spare / step)) if step else 1


def unbeaten(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates than which no other is at least as good in every figure."""
    best: list[Candidate] = []
    for candidate in candidates:
        if not any(beats(other, candidate) for other in best):
            best = [*(other for other in best if not beats(candidate, other)), candidate]
    return best


def beats(one: Candidate, other: Candidate) -> bool:
    """Return whether a candidate is at least as good in every figure; a nanosecond is equal."""
    return all(a <= b + 1e-9 for a, b in zip(one.figures, other.figures))


def preference(candidate: Candidate) -> tuple:
    """
    Return what the recommendation minimises, the most important first.

    The error of a driven path grows with the square of the newest information's age, and with
    the root of the deep information's; both matter little below a limit, so there their sum
    decides. The rate of answers and the latency of the first of them say little by themselves.
    """
    newest = candidate.newest_age / candidate.camera_period
    # Where an age is exactly a limit, rounding must not decide.
    stale = round(max(0.0, newest + LEFT_OUT * bool(candidate.left_out) - FRESH_ENOUGH), 9)
    return (math.floor(stale / STALE_STEP) + (stale > 0),
            len(candidate.left_out),
            candidate.frame_cost > (1 - MARGIN) * candidate.camera_period,
            max(0.0, candidate.oldest_age - DEEP_ENOUGH),
            candidate.newest_age + candidate.oldest_age,
            candidate.frame_cost)


def reason(plan: Plan) -> str:
    """Say in a few sentences why the recommended candidate was taken."""
    chosen = plan.recommended
    parts = [f'It answers {ms(chosen.response_latency)} after a frame, with newest information '
             f'{ages(chosen, plan)}.']
    for name, other in plan.named.items():
        if other.figures != chosen.figures:
            parts.append(f'The {name} rollout: newest information {ages(other, plan)}.')
    if plan.task:
        parts.append(verdict(plan))
    if not chosen.keeps_up:
        parts.append(overload(plan))
    elif plan.task:
        pass
    elif chosen.newest_age > FRESH_ENOUGH * plan.device.camera_period:
        parts.append('No other has newest information that is younger by half a camera period.')
    elif chosen.oldest_age > DEEP_ENOUGH:
        parts.append('Of those that keep up with some margin, and whose newest information is at '
                     f'most {FRESH_ENOUGH:g} camera periods old, it has the youngest deep '
                     'information.')
    else:
        parts.append(f'Of those with newest information up to {FRESH_ENOUGH:g} camera periods '
                     f'and deep information up to {ms(DEEP_ENOUGH)} old, whose errors hardly '
                     'differ, it has the least sum of both ages.')
    return ' '.join(parts)


def verdict(plan: Plan) -> str:
    """Say which scores are forecast, the best of every kind."""
    assert plan.task
    scores: dict[str, float] = {}
    for candidate in (*plan.ordered, *plan.beaten):
        score = plan.forecast(candidate)
        if score is not None:
            scores.setdefault(candidate.kind, score)
    first, *others = (f'{kind} {score:.0f} %' for kind, score in scores.items())
    return (f"Forecast score: {', '.join([first, *others])}; of those within {EQUAL:g} % of the "
            'highest, the rules for ages decide. The law was fitted on '
            f'{plan.task.law.source} and misses by {plan.task.law.error:.1f} % where a ratio was '
            'left out.')


def overload(plan: Plan) -> str:
    """Say what it means that the recommended candidate is slower than the camera."""
    chosen = plan.recommended
    fitting = sorted((other for other in plan.best if other.keeps_up), key=preference)
    return ('This network is too slow for this camera: a command comes every '
            f'{ms(chosen.interval)}, and the frames in between are dropped. '
            + (f'The best that keeps up is {fitting[0].kind} (newest information '
               f'{ages(fitting[0], plan)}).' if fitting else 'Nothing keeps up.')
            + ' A smaller network, a lower rate or a faster device would help.')


def ages(candidate: Candidate, plan: Plan) -> str:
    """Write both ages, and whether the camera is faster."""
    periods = candidate.newest_age / plan.device.camera_period
    return (f'{ms(candidate.newest_age)} old ({periods:.1f} camera periods) and deep information '
            f'{ms(candidate.oldest_age)} old'
            + ('' if candidate.keeps_up else ', not keeping up with the camera'))
