"""What was commanded for every frame, by time; and where one episode ends and the next begins."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from stream_agent.bounded_settings import BoundedSettings, choice, quantity
from stream_agent.recordings.recording import BadRecordingError, Commands, NS, StampedFrames

# Rates that differ by more are those of another camera.
RATE_TOLERANCE = 0.1


@dataclass(frozen=True)
class Alignment(BoundedSettings):
    """How frames are put together with commands, and cut into episodes."""

    delay: float = quantity(
        0.0, 's', 0.0, 1.0, "actuation delay: a frame's command is that of so much later")
    interpolation: str = choice(
        'hold', 'the command in force, or a line between two', ('hold', 'linear'))
    longest_gap: float = quantity(
        0.0, 's', 0.0, 1e6, 'longest time between two frames of an episode; 0: three camera '
        'periods')
    oldest_command: float = quantity(
        0.5, 's', 0.0, 1e6, 'age up to which a command is in force')
    rate: float = quantity(
        0.0, 'Hz', 0.0, 1e4, 'rate of all cameras; 0: that of the first recording')
    resample: float = quantity(
        0.0, 'Hz', 0.0, 1e4, 'rate to which frames are picked by time; 0: refuse other rates')
    shortest: int = quantity(2, 'frames', 1, 10**6, 'frames that an episode has at least')


class Span(NamedTuple):
    """
    An episode's place in its recording.

    :param frames: Indices of the frames, (n,).
    :param commands: Speed and steering of each, (n, 2) float64.
    """

    frames: np.ndarray
    commands: np.ndarray


def commands_at(commands: Commands, times: np.ndarray, alignment: Alignment
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Find the commands in force at given times [ns].

    :returns: Values (N, 2), NaN before the first; whether a time is before the first, (N,); and
        whether the command is too old.
    """
    last = np.searchsorted(commands.stamps, times, side='right') - 1
    early = last < 0
    last = np.maximum(last, 0)
    since = times - commands.stamps[last]
    values = commands.values[last].copy()
    if alignment.interpolation == 'linear':
        after = np.minimum(last + 1, len(commands.stamps) - 1)
        distance = np.maximum(commands.stamps[after] - commands.stamps[last], 1)
        share = np.clip(since / distance, 0, 1)[:, np.newaxis]
        values += np.where(share > 0, share * (commands.values[after] - values), 0)
    values[early] = np.nan
    return values, early, ~early & (since > alignment.oldest_command * NS)


def cut(stamps: np.ndarray, commands: Commands, alignment: Alignment, skipped: Counter[str]
        ) -> list[Span]:
    """
    Cut a recording into episodes of frames that have a command.

    :param stamps: Of the frames, ascending [ns].
    :param skipped: Gets what is left out, by kind.
    """
    if len(stamps) < 2:
        return []
    values, early, old = commands_at(commands, stamps + round(alignment.delay * NS), alignment)
    finite = np.isfinite(values).all(axis=1)
    skipped['frames before the first command'] += int(early.sum())
    skipped[f'frames whose command is older than {alignment.oldest_command:g} s'] += int(old.sum())
    skipped['frames whose command is NaN or infinite'] += int((~early & ~old & ~finite).sum())
    usable = np.flatnonzero(finite & ~old)
    longest = alignment.longest_gap * NS or 3 * float(np.median(np.diff(stamps)))
    ends = np.flatnonzero(np.diff(stamps[usable]) > longest) + 1
    spans = []
    for frames in np.split(usable, ends):
        picked = pick(stamps[frames], alignment.resample) if alignment.resample else np.s_[:]
        frames = frames[picked]
        if len(frames) >= alignment.shortest:
            spans.append(Span(frames, values[frames]))
        elif len(frames):
            skipped[f'episodes of under {alignment.shortest} frames'] += 1
    return spans


def pick(stamps: np.ndarray, rate: float) -> np.ndarray:
    """Return the indices of the frames nearest to the ticks of a clock, each at most once."""
    if len(stamps) < 2:
        return np.arange(len(stamps))
    ticks = np.arange(stamps[0], stamps[-1] + 1, NS / rate)
    after = np.clip(np.searchsorted(stamps, ticks), 1, len(stamps) - 1)
    nearest = after - (ticks - stamps[after - 1] < stamps[after] - ticks)
    return np.unique(nearest)


def check_rates(recordings: Sequence[StampedFrames], alignment: Alignment) -> None:
    """
    Refuse recordings of other rates, unless frames are picked by time.

    :raises BadRecordingError: If one deviates by more than a tenth, or has too few frames.
    """
    wanted = alignment.resample or alignment.rate or recordings[0].rate
    for recording in recordings:
        place = f"'{recording.path}': topic '{recording.topic}'"
        if alignment.resample:
            if recording.rate < wanted * (1 - RATE_TOLERANCE):
                raise BadRecordingError(f'{place}: {recording.rate:.1f} Hz, less than '
                                        f'--resample {wanted:g}; frames are picked, not made up')
        elif recording.rate and abs(recording.rate / wanted - 1) > RATE_TOLERANCE:
            raise BadRecordingError(
                f'{place}: {recording.rate:.1f} Hz, where {wanted:.1f} Hz is expected; memory '
                'counts in frames, so give --resample RATE to pick frames by time, or leave the '
                'recording out')


# Where headers and the recorder's clock differ by more, they are different clocks.
OTHER_CLOCK_NS = 5 * NS


class TopicTimes(NamedTuple):
    """
    The times of a topic's messages, in the order of the recording.

    :param topic: For messages.
    :param headers: (N,) int64 [ns]; None for a type without header.
    :param received: (N,) int64 [ns].
    """

    topic: str
    headers: np.ndarray | None
    received: np.ndarray


def choose_stamps(topics: Sequence[TopicTimes], wanted: str) -> list[tuple[np.ndarray, str]]:
    """
    Choose the stamps of both topics, of images and commands.

    :param wanted: 'header', 'receive', or 'auto': headers where they are set, but both of the
        recorder's clock if only one topic has headers, and these are on another clock.
    :returns: Of each, the stamps [ns], and where they are from: 'header' or 'receive'.
    :raises BadRecordingError: If headers are wanted that are not set; without the file.
    """
    by_header = [wanted != 'receive' and times.headers is not None and (times.headers > 0).all()
                 for times in topics]
    for times, header in zip(topics, by_header):
        if wanted == 'header' and times.headers is not None and not header:
            raise BadRecordingError(f"topic '{times.topic}': headers without a stamp; give "
                                    '--stamps receive')
    if wanted == 'auto' and sum(by_header) == 1:
        times = next(times for times, header in zip(topics, by_header) if header)
        if abs(np.median(times.headers - times.received)) > OTHER_CLOCK_NS:
            by_header = [False, False]
    return [(times.received, 'receive') if times.headers is None or not header else
            (times.headers, 'header') for times, header in zip(topics, by_header)]
