"""
Several publishers on one topic of commands, told apart by what they send and when.

A recording does not say who sent a message. Two publishers are recognised by their clocks: each
sends at its own period, whatever the other does in between. One publisher that changes its mind
leaves a hole in one sequence wherever it adds to the other.
"""

from typing import NamedTuple

import numpy as np
from stream_agent.recordings.alignment import TopicTimes
from stream_agent.recordings.recording import BadRecordingError, NS

# Fewer messages tell nothing about a period, fewer returns nothing about a second publisher.
FEWEST, FEWEST_RETURNS = 12, 5
# Share of the returns, and of the distances of one publisher, that agree with its period.
MOSTLY = 0.6
# Between two messages of a publisher that the other's do not disturb, by its period.
UNDISTURBED = 1.5
# By the largest command: two that differ by more are of two publishers.
JUMP = 0.2
# No driver changes its mind and back so soon, time after time [ns].
QUICK_NS = NS // 4
# A driver that is silent for so long rests [ns].
REST_NS = 3 * NS // 10


class Mixture(NamedTuple):
    """
    Two publishers on one topic.

    :param second: Which messages are of the second one, (M,).
    :param value: What the second one repeats; None if it drives, too.
    """

    second: np.ndarray
    value: tuple[float, ...] | None


def drivers_commands(times: TopicTimes, values: np.ndarray, wanted: str
                     ) -> tuple[np.ndarray, list[str]]:
    """
    Find the driver's commands where a second publisher sends others in between.

    :param values: (M, n).
    :param wanted: As ``Reading.publishers``.
    :returns: Which of the commands are the driver's, (M,), and what is odd about them.
    :raises BadRecordingError: If it is not certain which are the driver's; without the file.
    """
    everything = np.ones(len(values), bool)
    if wanted == 'all':
        return everything, []
    # Reception may come in bursts, and headers may be on two clocks.
    for clock in (times.received, times.headers):
        if clock is not None and (found := mixture(clock, values)):
            kept, note = without_second(times.topic, clock, found, wanted)
            return kept, [note]
    return everything, []


def without_second(topic: str, clock: np.ndarray, found: Mixture, wanted: str
                   ) -> tuple[np.ndarray, str]:
    """Return which commands are the driver's, as ``drivers_commands`` does, and what to say."""
    second, value = found
    both = (f"two publishers sent commands on '{topic}': {(~second).sum()} "
            f'({rate_of(clock[~second]):.1f} Hz) and {second.sum()} '
            f'({rate_of(clock[second]):.1f} Hz)')
    if value is None:
        raise BadRecordingError(
            f'{both} that differ; give another topic by --command-topic, record what a '
            'multiplexer (twist_mux) passes on, or give --publishers all to take all of them')
    said = ', '.join(f'{one:g}' for one in value)
    if any(value) and wanted != 'changing':
        raise BadRecordingError(
            f'{both} that are always {said}; give --publishers changing to '
            'leave these out, or --publishers all to take all of them')
    if not any(value):
        second &= ~own_zeros(clock, second)
    return ~second, (f'{both} that are always {said}: {second.sum()} are left '
                     'out; stop the second one, or give --publishers all to take them')


def rate_of(received: np.ndarray) -> float:
    """Return messages per second, by the median distance."""
    return NS / max(1.0, median_distance(received))


def median_distance(received: np.ndarray) -> float:
    """Return the median distance of messages in time [ns]; 0 if there are none."""
    return float(np.median(np.diff(np.sort(received)))) if len(received) > 1 else 0.0


def mixture(received: np.ndarray, values: np.ndarray) -> Mixture | None:
    """Find two publishers; None if the messages may well be of one."""
    if len(values) < FEWEST or not np.isfinite(values).any():
        return None
    order = np.argsort(received, kind='stable')
    back = np.argsort(order, kind='stable')
    received, values = received[order], values[order]
    repeated, counts = np.unique(values, axis=0, return_counts=True)
    for value in (np.zeros(values.shape[1]), repeated[counts.argmax()]):
        second = (values == value).all(axis=1)
        if is_interleaved(received, second):
            return Mixture(second[back], tuple(map(float, value)))
    second = nearest_of_two(values)
    return Mixture(second[back], None) if is_interleaved(received, second, both=True) else None


def is_interleaved(received: np.ndarray, second: np.ndarray, both: bool = False) -> bool:
    """
    Tell whether two kinds of messages are those of two publishers.

    :param both: Whether both need a period; else one of them may speak when it likes.
    """
    if min(second.sum(), (~second).sum()) < FEWEST_RETURNS:
        return False
    verdicts = []
    for kind in (second, ~second):
        numbers = np.flatnonzero(kind)
        distances = np.diff(received[numbers])
        period = np.median(distances)
        # Where a message of this kind is followed by one of the other kind, and then by its own.
        returns = np.diff(numbers) > 1
        undisturbed = distances[returns] <= min(UNDISTURBED * period, QUICK_NS)
        regular = (np.abs(distances - period) < 0.4 * period).mean()
        verdicts.append(undisturbed.sum() >= FEWEST_RETURNS and undisturbed.mean() > MOSTLY
                        and regular > MOSTLY)
    return all(verdicts) if both else any(verdicts)


def nearest_of_two(values: np.ndarray) -> np.ndarray:
    """Follow two sequences of commands; returns which messages are of the second, (M,)."""
    finite = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    scaled = finite / np.maximum(np.abs(finite).max(axis=0), 1e-9)
    last: list = [scaled[0], None]
    second = np.zeros(len(values), bool)
    for number, value in enumerate(scaled):
        far = [np.inf if one is None else np.abs(value - one).max() for one in last]
        if last[1] is None:
            second[number] = far[0] > JUMP
        else:
            second[number] = far[1] < far[0]
        last[int(second[number])] = value
    return second


def own_zeros(received: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """
    Return which zeros are from where the driver stood still, and sent zeros, too, (M,).

    There are more of them then than the other publisher sends; which of two zeros is whose is all
    the same.

    :param zero: Which of the messages are zeros.
    """
    driving = np.sort(received[~zero])
    period = median_distance(driving)
    ends = np.concatenate([[received.min() - 1], driving, [received.max() + 1]])
    rests = np.flatnonzero(np.diff(ends) > max(3 * period, REST_NS))
    order = np.argsort(received[zero], kind='stable')
    zeros = received[zero][order]
    # Of the second publisher alone: while the driver drives.
    part = np.searchsorted(driving, zeros)
    alone = ~np.isin(part, rests)
    both = alone[1:] & alone[:-1]
    others = float(np.median(np.diff(zeros)[both])) if both.any() else np.inf
    kept = np.zeros(len(zeros), bool)
    for rest in rests:
        inside = (zeros > ends[rest]) & (zeros < ends[rest + 1])
        duration = ends[rest + 1] - ends[rest]
        if inside.sum() - duration / others > 0.5 * duration / max(1.0, period):
            # The driver's first zero comes a period after what it sent last.
            kept |= inside & (zeros >= ends[rest] + period)
    found = np.zeros(len(zero), bool)
    found[np.flatnonzero(zero)[order]] = kept
    return found
