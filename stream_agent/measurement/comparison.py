"""Policies compared on the same frames: how early, regular and correct their answers are."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
import re

import numpy as np
from stream_agent.measurement.bootstrap import Interval, paired_interval
from stream_agent.measurement.durations import PERCENTILES, Rate
from stream_agent.measurement.rows import BASE, Element
from stream_agent.measurement.traces import RunTraces, Trace


def in_effect(arrivals: np.ndarray, commands: np.ndarray, times: np.ndarray) -> np.ndarray:
    """
    Return the command in effect at every time, (T, C): the one that arrived last, or nan.

    :param arrivals: (N,), arrival times in ascending order [s].
    :param commands: (N, C), the commands that arrived.
    :param times: (T,) [s].
    """
    last = np.searchsorted(arrivals, times, side='right') - 1
    return np.where((last >= 0)[:, None], commands[np.maximum(last, 0)], np.nan)


def arrived(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Return arrivals (N,) and commands (N, E) of all commands, in the order of arrival."""
    came = ~np.isnan(trace.arrivals)
    arrivals = np.concatenate([trace.arrivals[came], trace.later[:, 0]])
    commands = np.concatenate([trace.commands[came], trace.later[:, 1:]])
    order = np.argsort(arrivals, kind='stable')
    return arrivals[order], commands[order]


def error_in_effect(run: RunTraces, trace: Trace) -> np.ndarray:
    """
    Return the mean absolute error in effect during every frame interval.

    A command holds from its arrival to the next arrival, the reference from its frame's stamp to
    the next stamp, and the difference is integrated exactly. A correct command that is late
    therefore costs the error until it arrives.

    :returns: (T, E): the error of each element, such as |speed| [m/s] and |yaw rate| [rad/s],
        between each frame's stamp and the next; nan before the first command, without a
        reference, and for the last frame.
    """
    errors = np.full(run.reference.shape, np.nan)
    arrivals, commands = arrived(trace)
    if len(arrivals) == 0 or len(run.stamps) < 2:
        return errors
    inside = arrivals[(arrivals > run.stamps[0]) & (arrivals < run.stamps[-1])]
    edges = np.unique(np.concatenate([run.stamps, inside]))
    held = in_effect(arrivals, commands, edges[:-1])
    wanted = in_effect(run.stamps, run.reference, edges[:-1])
    integrals = np.abs(held - wanted) * np.diff(edges)[:, None]
    starts = np.searchsorted(edges, run.stamps[:-1])
    errors[:-1] = np.add.reduceat(integrals, starts) / np.diff(run.stamps)[:, None]
    return errors


# Commands are watched this long [s] before a change, for their scatter, and after it.
WATCHED = 1.0
FEWEST_BEFORE = 6
DEPARTURE = 1.5
# A scatter of exactly zero would not make a threshold, in the units of the elements.
LEAST_SCATTER = 1e-4


@dataclass(frozen=True)
class MeasuredResponse:
    """
    How soon a policy responded to changes of the scene.

    :param frames: (N,), from each change to its response; 0 for the changed frame itself.
    :param seconds: (N,), from the changed frame's stamp to the arrival of the response.
    :param changes: The number of changes that could be judged, with a response or without.
    :param predicted: The frames that the policy's graph and pattern imply; None if unknown.
    """

    frames: np.ndarray
    seconds: np.ndarray
    changes: int
    predicted: int | None = None

    @property
    def counts(self) -> dict[int, int]:
        """Number of changes responded to, by the frames until then, in ascending order."""
        return dict(sorted(Counter(self.frames.tolist()).items()))


def departure(commands: np.ndarray, changed: int) -> int | None:
    """
    Return the first command that departs from those before the change.

    A command departs if its step from the previous one exceeds 1.5 times the largest step before
    the change, in any of its elements. A steady drift is therefore not a departure.

    :param commands: (N, E), in the order of the frames.
    :param changed: The index of the changed frame.
    :returns: An index from ``changed`` on; None if no command departs.
    """
    steps = np.abs(np.diff(commands, axis=0))
    scatter = np.maximum(steps[:changed - 1].max(axis=0), LEAST_SCATTER)
    departed = (steps[changed - 1:] > DEPARTURE * scatter).any(axis=1)
    return changed + int(departed.argmax()) if departed.any() else None


def first_response(run: RunTraces, trace: Trace, predicted: int | None = None) -> MeasuredResponse:
    """Find the response to every change that has enough answered frames before it."""
    watched = max(FEWEST_BEFORE, round(WATCHED / run.period)) if run.period else FEWEST_BEFORE
    answered = np.flatnonzero(~np.isnan(trace.arrivals))
    frames, seconds, judged = [], [], 0
    changed = np.searchsorted(run.stamps, run.changes - 1e-9)
    for change, previous, first, following in zip(
            run.changes, [None, *changed], changed, [*changed[1:], len(run.stamps)]):
        # Responses to the previous change are not scatter.
        quiet = first - watched if previous is None else (first + previous) // 2
        seen = answered[(answered >= max(quiet, first - watched))
                        & (answered < min(following, first + watched))]
        before = int(np.searchsorted(seen, first))
        if before < FEWEST_BEFORE or before == len(seen):
            continue
        judged += 1
        if (at := departure(trace.commands[seen], before)) is not None:
            frames.append(int(seen[at]) - first)
            seconds.append(trace.arrivals[seen[at]] - change)
    return MeasuredResponse(np.array(frames, int), np.array(seconds), judged, predicted)


CLASSES = ('on time', 'late', 'too late', 'lost')
# Two processes of the same policy may differ by as much as this [s], and by this share of the
# mean of both errors; a policy is better if the whole interval is beyond it.
LATENCY_RESOLUTION = 0.5e-3
ERROR_RESOLUTION = 0.02
# For this long [s] after a sudden change of the scene, errors measure the first response.
UNSETTLED = 2.0


@dataclass(frozen=True)
class PolicyFigures:
    """
    The figures of one policy over the frames that are compared.

    :param classes: Frames by class, see ``classify``; they add up to ``frames``.
    :param latency: p50, p90, p99, p99.9 and worst [s] from frame stamp to policy command.
    :param gated: The same percentiles to the gate's command; nan if this policy does not drive.
    :param interval: The same percentiles of the time between two successive answers [s].
    :param rate: Answers per second, mean and in the worst full second [Hz].
    :param lateral: RMS of the vehicle's lateral error [m]; nan if this policy does not drive.
    :param error: Mean error of the answered frames, of each element in its unit: of a base
        |speed| [m/s] and |yaw rate| [rad/s].
    :param effect: Mean error in effect, likewise.
    :param missing: Frames without a command because an input was missing or too old, by input;
        as the agent counted them.
    """

    name: str
    pattern: str
    frames: int
    classes: dict[str, int]
    latency: dict[str, float]
    gated: dict[str, float]
    interval: dict[str, float]
    rate: tuple[float, float]
    lateral: float
    error: np.ndarray
    effect: np.ndarray
    response: MeasuredResponse
    missing: dict[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name, with the pattern if it is known."""
        return f'{self.name} ({self.pattern})' if self.pattern else self.name


@dataclass(frozen=True)
class Difference:
    """The figure of one policy minus that of another; less is better, up to a resolution."""

    quantity: str
    unit: str
    first: str
    second: str
    interval: Interval
    resolution: float

    @property
    def better(self) -> str | None:
        """The name of the better policy; empty for no difference, None if unknown."""
        if np.isnan(self.interval.low):
            return None
        if self.interval.high < -self.resolution:
            return self.first
        return self.second if self.interval.low > self.resolution else ''


@dataclass(frozen=True)
class Comparison:
    """
    All policies, and the first one compared with each other one.

    :param start_up: Frames left out at the start, before every policy had answered one.
    :param silent: Names of the policies that never answered.
    """

    run: RunTraces
    start_up: int
    figures: dict[str, PolicyFigures]
    differences: list[Difference]
    silent: list[str]


def compare(run: RunTraces) -> Comparison:
    """Compare the policies of a recording on the frames after all of them had answered once."""
    answered = {name: np.flatnonzero(~np.isnan(trace.arrivals))
                for name, trace in run.traces.items()}
    spoke = [name for name, frames in answered.items() if len(frames)]
    start_up = max((int(answered[name][0]) for name in spoke), default=0)
    # Of every settled frame: |command - reference| of its own command, and the error in effect.
    settled = settled_frames(run)
    errors = {name: (np.where(settled, np.abs(run.traces[name].commands - run.reference), np.nan
                              )[start_up:],
                     settled_effect(run, run.traces[name])[start_up:]) for name in spoke}
    figures = {name: policy_figures(run, name, start_up, *errors[name]) for name in spoke}
    differences = [difference for other in spoke[1:]
                   for difference in pair_differences(run, spoke[0], other, start_up, errors)]
    return Comparison(run, start_up, figures, differences,
                      [name for name in run.traces if name not in spoke])


def settled_frames(run: RunTraces) -> np.ndarray:
    """Return, (T, 1), which frames are more than 2 s after the last change of the scene."""
    last = np.searchsorted(run.changes, run.stamps + 1e-9) - 1
    changes = np.append(run.changes, -np.inf)
    return (run.stamps - changes[last] > UNSETTLED)[:, None]


def settled_effect(run: RunTraces, trace: Trace) -> np.ndarray:
    """Return the error in effect of every settled frame, (T, E), as ``error_in_effect``."""
    return np.where(settled_frames(run), error_in_effect(run, trace), np.nan)


def classify(latencies: np.ndarray, period: float) -> dict[str, int]:
    """
    Count the frames by how late their command was, as iRobot's ros2-performance does.

    Late is over min(T/5, 5 ms), too late over min(T, 50 ms); lost commands never arrived.

    :param latencies: Latencies [s]; nan for lost commands.
    :param period: The camera period T [s].
    """
    classes = np.searchsorted(late_limits(period), latencies)
    classes[np.isnan(latencies)] = CLASSES.index('lost')
    return dict(zip(CLASSES, np.bincount(classes, minlength=len(CLASSES)).tolist()))


def late_limits(period: float) -> tuple[float, float]:
    """Return the latencies [s] above which a command is late, and too late."""
    return min(period / 5, 5e-3), min(period, 50e-3)


def percentiles(values: np.ndarray) -> dict[str, float]:
    """Return p50, p90, p99, p99.9 and worst of all values that are not nan; nan without any."""
    values = values[~np.isnan(values)]
    levels = np.percentile(values, PERCENTILES) if len(values) else np.full(4, np.nan)
    return {**{f'p{level:g}': float(value) for level, value in zip(PERCENTILES, levels)},
            'worst': float(values.max()) if len(values) else np.nan}


def policy_figures(run: RunTraces, name: str, start_up: int, errors: np.ndarray,
                   effects: np.ndarray) -> PolicyFigures:
    """Calculate the figures of one policy over the frames from ``start_up`` on."""
    trace = run.traces[name]
    arrivals, stamps = trace.arrivals[start_up:], run.stamps[start_up:]
    lateral = run.lateral_errors[start_up:][settled_frames(run)[start_up:, 0]]
    said = diagnostics_of(run, name)
    return PolicyFigures(
        name, str(said.get('pattern', '')), len(stamps), classify(arrivals - stamps, run.period),
        percentiles(arrivals - stamps), percentiles(trace.gated_arrivals[start_up:] - stamps),
        percentiles(np.diff(np.sort(arrivals))), rates(arrivals),
        float(np.sqrt(mean(lateral ** 2))) if run.description.get('driving') == name else np.nan,
        mean(errors), mean(effects),
        first_response(run, trace, predicted_response(said)), missing_inputs(said))


def diagnostics_of(run: RunTraces, name: str) -> dict[str, str]:
    """Return the last diagnostics of the agent of that name; empty if they are none."""
    said = run.description.get('diagnostics', {}).get(f'{name}: frames')
    return said if isinstance(said, dict) else {}


def predicted_response(said: dict[str, str]) -> int | None:
    """Return after how many frames an agent says it responds; None if it says nothing usable."""
    predicted = str(said.get('first response frame', ''))
    return int(predicted) if re.fullmatch('[0-9]{1,3}', predicted) else None


def missing_inputs(said: dict[str, str]) -> dict[str, int]:
    """Return how many frames an agent gave no command to for want of an input, by input."""
    found: Counter[str] = Counter()
    for key, count in said.items():
        match = re.fullmatch('dropped (?:missing|old|future) (.+)', key)
        if match and re.fullmatch('[0-9]{1,18}', str(count)):
            found[match[1]] += int(count)
    return dict(found)


def told(run: RunTraces) -> list[tuple[int, Element]]:
    """Return columns and elements of commands as they are told: of a base the yaw rate first."""
    elements = list(enumerate(run.elements))
    return elements[::-1] if run.elements == BASE else elements


def shown(run: RunTraces) -> tuple[int, Element]:
    """Return column and element of what plots show of commands: of a vector what moves most."""
    if run.elements == BASE:
        return told(run)[0]
    commands = np.concatenate([run.reference, *(trace.commands for trace in run.traces.values())])
    spread = mean((commands - mean(commands)) ** 2)
    column = int(np.argmax(np.nan_to_num(spread, nan=-1.0)))
    return column, run.elements[column]


def mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of each column without nan; nan for a column of nan only."""
    known = ~np.isnan(values)
    with np.errstate(invalid='ignore'):
        return np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)


def rates(arrivals: np.ndarray) -> tuple[float, float]:
    """Return answers per second [Hz]: mean, and in the worst full second."""
    times = np.sort(arrivals[~np.isnan(arrivals)])
    moments = iter([*times, times[-1], times[-1]])
    rate = Rate(clock=lambda: next(moments))
    for _ in times:
        rate.add()
    return rate.mean(), rate.worst_second()


def pair_differences(run: RunTraces, first: str, second: str, start_up: int,
                     errors: dict[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[Difference]:
    """Compare the figures of two policies, which are of the same frames."""
    latencies = np.stack([run.traces[name].arrivals - run.stamps for name in (first, second)],
                         axis=1)[start_up:]
    yield Difference('latency', 's', first, second,
                     paired_interval(latencies, run.period, 'median'), LATENCY_RESOLUTION)
    for title, *both in zip(('error', 'error in effect'), errors[first], errors[second]):
        for column, element in told(run):
            pair = np.stack([error[:, column] for error in both], axis=1)
            yield Difference(f'{element.title} {title}', element.unit, first, second,
                             paired_interval(pair, run.period),
                             ERROR_RESOLUTION * mean(pair).mean())
