"""
What score a rollout drives to, forecast from its timing alone.

Where a vehicle is to keep its lane and to do what it recognises, its score is

    score = (ceiling - stale * deep / steering_time) * (1 - outdated)
            / (1 + (newest / (half * steering_time)) ** 2)

Error grows with the square of the newest information's age, counted in the time in which the
scene makes a vehicle steer. What came through the deep layers is outdated for a share of the time
that follows from its age and from how often commands change. How well a network recognises, and
drives with fresh information, is its family's ceiling.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import math
from typing import NamedTuple

from stream_agent.theory.planning.candidates import Candidate, FROZEN_TRUNK

# Networks that lack layers, or are not trained whole, have ceilings of their own.
WHOLE, SMALLER = 'whole', 'smaller'
# Scores that differ by less are equal: what the law misses by in a left-out ratio.
EQUAL = 2.0


class Scene(NamedTuple):
    """
    How fast a scene changes.

    :param steering_time: From where a vehicle is to the point that it steers to: look-ahead by
        speed [s].
    :param command_time: From one change of what has to be recognised to the next [s]; the score
        counts the second half of it.
    """

    steering_time: float
    command_time: float = math.inf


class Timing(NamedTuple):
    """
    Mean ages of the information in the commands in force [s].

    :param newest: Of the newest.
    :param deep: Of what came through most layers.
    """

    newest: float
    deep: float


def outdated(deep: float, scene: Scene) -> float:
    """Return the share of the time that counts in which an earlier command is still obeyed."""
    if math.isinf(scene.command_time):
        return 0.0
    half = scene.command_time / 2
    return min(1.0, max(0.0, deep - half) / half)


def share_kept(timing: Timing, scene: Scene, half: float) -> float:
    """
    Return the share of its ceiling that a rollout keeps.

    :param half: Age of the newest information that costs half of the score [steering times].
    """
    return (1 - outdated(timing.deep, scene)) / (
        1 + (timing.newest / (half * scene.steering_time)) ** 2)


@dataclass(frozen=True)
class ScoreLaw:
    """
    The law of a task.

    :param half: As in ``share_kept``.
    :param ceilings: Score of a family with fresh information [%].
    :param stale: Lost per steering time that the deep information is old [%].
    :param error: Root mean square of what is missed in a ratio that was left out of the fit [%].
    :param source: Where the rows are from that it was fitted on.
    """

    half: float
    ceilings: Mapping[str, float]
    stale: float = 0.0
    error: float = math.nan
    source: str = ''

    def forecast(self, timing: Timing, scene: Scene, family: str = WHOLE) -> float | None:
        """Return the score [%]; None for a family of which there were no rows."""
        if family not in self.ceilings:
            return None
        ceiling = self.ceilings[family] - self.stale * timing.deep / scene.steering_time
        return min(100.0, max(0.0, ceiling) * share_kept(timing, scene, self.half))


class Task(NamedTuple):
    """What a network is to do, in a scene, and how its score follows from timing."""

    scene: Scene
    law: ScoreLaw

    def forecast(self, candidate: Candidate) -> float | None:
        """Return the score of a candidate [%], if the law knows its family."""
        family = (SMALLER if candidate.left_out else
                  FROZEN_TRUNK if candidate.kind == FROZEN_TRUNK else WHOLE)
        return self.law.forecast(Timing(candidate.newest_age, candidate.oldest_age), self.scene,
                                 family)


# 'signs' is what config/robots/reflex.yaml sets: 0.4 m ahead at 1.4 m/s, a command every 5 m.
# `python -m studies law` prints these figures; docs/planner.md has them, too.
TASKS = {'signs': Task(Scene(0.4 / 1.4, 5.0 / 1.4), ScoreLaw(
    half=0.704, ceilings={WHOLE: 100.9, SMALLER: 32.4}, error=1.8,
    source='the expert with aged information'))}
