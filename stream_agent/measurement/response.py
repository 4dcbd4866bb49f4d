"""The first response: frames and seconds from a change in the scene to a changed command."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from stream_agent.measurement.traces import RunTraces, Trace

# Commands are watched for as long before a change, to learn how much they scatter, as after.
WATCHED = 1.0
FEWEST_BEFORE = 6
DEPARTURE = 1.5
# A scatter of exactly zero makes no threshold [m/s, rad/s].
LEAST_SCATTER = 1e-4


@dataclass(frozen=True)
class MeasuredResponse:
    """
    How soon a policy answered the changes of the scene.

    :param frames: For every change that was answered: 0 for the changed frame itself, ...
    :param seconds: For the same changes: from the changed frame's stamp to the arrival of the
        command that departed.
    :param changes: How many changes could be judged.
    :param predicted: Frames, as the policy's graph and pattern say; None if unknown.
    """

    frames: np.ndarray
    seconds: np.ndarray
    changes: int
    predicted: int | None = None

    @property
    def counts(self) -> dict[int, int]:
        """How many changes were answered by frame 0, 1, ..."""
        return dict(sorted(Counter(self.frames.tolist()).items()))


def departure(commands: np.ndarray, changed: int) -> int | None:
    """
    Return which command departs first from those before the change.

    A command departs where its step from the one before it exceeds 1.5 times the largest step
    before the change, in speed or yaw rate; so a steady drift is no departure.

    :param commands: (N, 2), in the order of the frames.
    :param changed: Index of the changed frame.
    :returns: An index from ``changed`` on; None if none departs.
    """
    steps = np.abs(np.diff(commands, axis=0))
    scatter = np.maximum(steps[:changed - 1].max(axis=0), LEAST_SCATTER)
    departed = (steps[changed - 1:] > DEPARTURE * scatter).any(axis=1)
    return changed + int(departed.argmax()) if departed.any() else None


def first_response(run: RunTraces, trace: Trace, predicted: int | None = None) -> MeasuredResponse:
    """Judge every change that has enough answered frames before it."""
    watched = max(FEWEST_BEFORE, round(WATCHED / run.period)) if run.period else FEWEST_BEFORE
    answered = np.flatnonzero(~np.isnan(trace.arrivals))
    frames, seconds, judged = [], [], 0
    changed = np.searchsorted(run.stamps, run.changes - 1e-9)
    for change, previous, first, following in zip(
            run.changes, [None, *changed], changed, [*changed[1:], len(run.stamps)]):
        # What still answers the change before is no scatter.
        quiet = first - watched if previous is None else (first + previous) // 2
        seen = answered[(answered >= max(quiet, first - watched))
                        & (answered < min(following, first + watched))]
        before = int(np.searchsorted(seen, first))
        if before < FEWEST_BEFORE or before == len(seen):
            continue
        judged += 1
        at = departure(trace.commands[seen], before)
        if at is not None:
            frames.append(int(seen[at]) - first)
            seconds.append(trace.arrivals[seen[at]] - change)
    return MeasuredResponse(np.array(frames, int), np.array(seconds), judged, predicted)
