"""What a timeline means for the commands in force: how late and how old, and how many."""

from itertools import islice
from typing import NamedTuple

import numpy as np
from stream_agent.learning.emulation.timeline import Taken, Timeline
from stream_agent.theory.information import ages_of_nodes, memory_edges
from stream_agent.theory.planning.candidates import Candidate

# Rounds of a schedule over which means are taken, and before that, until ages have settled.
ROUNDS, FEWEST_FRAMES = 20, 400


class Figures(NamedTuple):
    """
    Means over time, in seconds if not said otherwise.

    :param latency: From an image to its answer, waiting included.
    :param newest: Age of the newest information in the command in force.
    :param deep: The same of the information that came through most layers.
    :param rate: Answers a second.
    :param dropped: Share of images that were not taken.
    """

    latency: float
    newest: float
    deep: float
    rate: float
    dropped: float


def figures_of(candidate: Candidate, timeline: Timeline) -> Figures:
    """Follow a timeline until its figures have settled."""
    graph, pattern = candidate.rollout.graph, candidate.rollout.pattern
    forward = {edge: r for edge, r in pattern.items() if edge not in memory_edges(graph)}
    count = max(FEWEST_FRAMES, 2 * ROUNDS * len(timeline.work))
    taken = list(islice(timeline, count))
    ages = {}
    for name, edges, choose in (('newest', pattern, min), ('deep', forward, max)):
        updates = islice(ages_of_nodes(graph, edges, choose),
                         candidate.updates_per_frame * count)
        ages[name] = [known[graph.output] // candidate.updates_per_frame for known in updates
                      ][candidate.updates_per_frame - 1::candidate.updates_per_frame]
    # The deep information is never younger than the newest, also where memory alone is deep.
    ages['deep'] = np.maximum(ages['deep'], ages['newest']).tolist()
    half = slice(count // 2, count)
    span = taken[-1].answer - taken[half][0].answer
    return Figures(
        float(np.mean([one.answer - one.image * timeline.camera_period for one in taken[half]])),
        mean_age(taken, ages['newest'], timeline.camera_period),
        mean_age(taken, ages['deep'], timeline.camera_period),
        (len(taken[half]) - 1) / span,
        1 - (len(taken) - 1) / (taken[-1].image or 1))


def mean_age(taken: list[Taken], ages: list[float], period: float) -> float:
    """
    Return the mean over time of how old information in the command in force is.

    :param ages: In frames that were taken, of every answer.
    """
    total = spent = 0.0
    for i in range(len(taken) // 2, len(taken) - 1):
        out, next_out = taken[i].answer, taken[i + 1].answer
        captured = taken[i - int(ages[i])].image * period
        total += (next_out - out) * ((out + next_out) / 2 - captured)
        spent += next_out - out
    return total / spent
