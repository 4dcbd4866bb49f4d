"""What was commanded for every frame, by time; and where one episode ends and the next begins."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from stream_agent.bounded_settings import BoundedSettings, choice, quantity
from stream_agent.recordings.recording import (
    BadRecordingError, BREAK_NS, camera_period, clock_set_back, Commands, NS, PAUSE_NS,
    said_of_falls, StampedFrames, without_falls)

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
    hold_commands: bool = choice(
        False, 'let a command stay in force until the next one, however old it is, as a driver '
        'that sends commands only when they change means it')
    rate: float = quantity(
        0.0, 'Hz', 0.0, 1e4, 'rate of all cameras; 0: that of the first recording')
    resample: float = quantity(
        0.0, 'Hz', 0.0, 1e4, 'rate to which frames are picked by time; 0: refuse other rates')
    shortest: int = quantity(2, 'frames', 1, 10**6, 'frames that an episode has at least')

    def gap(self, stamps: np.ndarray) -> float:
        """Return the longest time [ns] between two frames of an episode, of two at least."""
        period, in_bursts = camera_period(stamps)
        return self.longest_gap * NS or max(3 * period, PAUSE_NS if in_bursts else 0)


class Span(NamedTuple):
    """
    An episode's place in its recording.

    :param frames: Indices of the frames, (n,).
    :param commands: Of each, (n, 2) float64: speed and steering; or (n, names) of ``Commands``.
    """

    frames: np.ndarray
    commands: np.ndarray


def commands_at(commands: Commands, times: np.ndarray, alignment: Alignment
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Find the commands in force at given times [ns].

    :returns: Values (N, n), NaN before the first; whether a time is before the first, (N,); and
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
        # A line to or from what is not finite is not finite, either.
        with np.errstate(all='ignore'):
            values += np.where(share > 0, share * (commands.values[after] - values), 0)
    values[early] = np.nan
    longest = BREAK_NS // 2 if alignment.hold_commands else alignment.oldest_command * NS
    return values, early, ~early & (since > longest)


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
    ends = np.flatnonzero(np.diff(stamps[usable]) > alignment.gap(stamps)) + 1
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


# A latency that a camera's driver may have; headers of more are on another clock [ns].
USUAL_LATENCY_NS = NS // 10
# Clocks that differ by a larger share run at another speed; so much faster than the recorder's,
# none does.
OTHER_SPEED, NO_CLOCK = 0.03, 100.0
# Share of a recording's parts that may disagree, and of headers that may be out of order.
PARTS_DISAGREE, OUT_OF_ORDER = 0.06, 0.1
# Clocks of computers show more, those of simulators begin at 0 [ns].
SIMULATED_NS = 10**17
# Of what is added to a stamp [ns].
LATEST_NS = 2**61
LET_SET = 'let the driver set them'
# Seconds a second.
STEEP = 10.0
# Parts of a recording whose clocks are compared.
PARTS = 20


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

    def stamps(self) -> tuple[np.ndarray, str]:
        """Return headers, or else the times of reception, and which they are."""
        return (self.received, 'receive') if self.headers is None else (self.headers, 'header')

    def only(self, kept: np.ndarray) -> 'TopicTimes':
        """Return the times of some of the messages."""
        return TopicTimes(self.topic, None if self.headers is None else self.headers[kept],
                          self.received[kept])


class StampChoice(NamedTuple):
    """
    The stamps of images and commands [ns], and where they are from: 'header' or 'receive'.

    :param notes: What is odd about the clocks, a sentence each.
    """

    frames: tuple[np.ndarray, str]
    commands: tuple[np.ndarray, str]
    notes: list[str]


def choose_stamps(images: TopicTimes, commands: TopicTimes, wanted: str) -> StampChoice:
    """
    Choose the stamps of images and commands.

    :param wanted: 'header', 'receive', or 'auto': headers where they are set, unless they are
        further from the other topic's than a latency, in which case both go by reception.
    :raises BadRecordingError: If headers are wanted that are not set, or the clocks cannot be
        brought together; without the file.
    """
    if wanted == 'receive':
        return StampChoice((images.received, wanted), (commands.received, wanted), [])
    notes: list[str] = []
    images, commands = (set_headers(times, wanted, notes) for times in (images, commands))
    both = images.headers is not None and commands.headers is not None
    speeds = [clock_speed(times) for times in (images, commands)]
    # Written all at once, messages have been received at no time that means anything.
    apart = 0.0 if both and max(speeds) > NO_CLOCK else clocks_apart(images, commands)
    other_speed = next((speed for speed in speeds if speed != 1), None)
    if other_speed:
        notes.append(said_of_speed((images, commands)[speeds.index(other_speed)], other_speed))
    shown = images.headers if images.headers is not None else images.received
    set_back = len(clock_set_back(shown)) > 0
    # By reception, a simulator at a third of real time would have a third of its rate, and one
    # that was started anew would go on where it was.
    own_time = other_speed or set_back and (not apart or shown.max() < SIMULATED_NS)
    if apart and wanted == 'auto' and not own_time:
        notes.append(said_apart(images, commands, apart))
        return StampChoice((images.received, 'receive'), (commands.received, 'receive'), notes)
    if set_back or not both and (apart or other_speed) or apart and wanted == 'auto':
        headers = None if both and apart else commands.headers
        return on_one_clock(images, commands._replace(headers=headers), notes)
    return StampChoice(images.stamps(), commands.stamps(), notes)


def set_headers(times: TopicTimes, wanted: str, notes: list[str]) -> TopicTimes:
    """
    Return a topic's times without its headers if they tell nothing, and say if some do not.

    :raises BadRecordingError: If headers are wanted that are not set.
    """
    headers, received, topic = times.headers, times.received, times.topic
    if headers is None:
        return times
    are_set, count = headers > 0, len(headers)
    if not are_set.all() and wanted == 'header':
        raise BadRecordingError(f"topic '{topic}': headers without a stamp; give --stamps receive")
    if 2 * are_set.sum() < count:
        if are_set.any():
            notes.append(f"only {are_set.sum()} of {count} headers of '{topic}' have a stamp: it "
                         f'goes by reception; {LET_SET}')
        return times._replace(headers=None)
    if not are_set.all():
        notes.append(f"{count - are_set.sum()} of {count} headers of '{topic}' have no stamp: "
                     f'theirs follow from reception; {LET_SET}')
        headers = headers.copy()
        headers[~are_set] = translated(received[~are_set], received[are_set], headers[are_set])
    repeated = int((np.diff(headers) == 0).sum())
    if wanted == 'auto' and 2 * repeated > count > 2 * (np.diff(received) == 0).sum():
        notes.append(f"{repeated} of {count} headers of '{topic}' repeat the stamp before: it "
                     f'goes by reception; {LET_SET} finely')
        return times._replace(headers=None)
    return times._replace(headers=headers)


def translated(times: np.ndarray, received: np.ndarray, headers: np.ndarray) -> np.ndarray:
    """
    Return times of reception on the clock of headers [ns]: lines between pairs of both.

    :param received: (N,) of the pairs, ascending; beyond them, their usual speed continues.
    """
    base, clock = received[0], headers[0]
    pairs = received - base, np.maximum.accumulate(headers) - clock
    speed = (float(np.median(np.diff(pairs[1])) / max(1.0, np.median(np.diff(pairs[0]))))
             if len(received) > 1 else 1.0)
    since = times - base
    after = np.maximum(since - pairs[0][-1], 0) + np.minimum(since, 0)
    # Within what a stamp can hold, whatever the clocks are.
    found = np.clip(np.interp(since, *pairs) + speed * after, -LATEST_NS, LATEST_NS)
    return clock + np.rint(found).astype(np.int64)


def parts_of(times: TopicTimes, most: int = PARTS) -> list[np.ndarray]:
    """Divide the messages of a topic into consecutive parts."""
    return np.array_split(np.arange(len(times.received)), min(most, len(times.received)))


def offsets_of(times: TopicTimes) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of every part and its clock's offset from the recorder's [ns]."""
    offsets = (np.zeros(len(times.received)) if times.headers is None else
               times.headers - times.received)
    middles, apart = (np.array([np.median(values[part]) for part in parts_of(times)])
                      for values in (times.received, offsets))
    return middles, apart


def clocks_apart(images: TopicTimes, commands: TopicTimes) -> float:
    """
    Return by how much the clocks of two topics differ, at most [s]; 0 if it may be a latency.

    A topic without headers is on the recorder's clock. What differs in one part of the recording
    alone is a delay in transport.
    """
    if images.headers is None and commands.headers is None:
        return 0.0
    topics = [offsets_of(times) for times in (images, commands)]
    first, last = max(at[0] for at, _ in topics), min(at[-1] for at, _ in topics)
    probes = np.concatenate([at[(first <= at) & (at <= last)] for at, _ in topics])
    if not len(probes):
        probes = np.array([first])
    base = probes[0]
    one, other = (np.interp(probes - base, at - base, offsets) for at, offsets in topics)
    # Next to where both clocks were set back, the latency of one shows either time.
    steady = np.logical_and(*(~is_steep(at, offsets, probes) for at, offsets in topics))
    apart = np.where(steady, one - other, 0)
    far = (np.abs(apart) > tolerance_of(images)).sum() / max(1, steady.sum())
    return float(apart[np.abs(apart).argmax()]) / NS if far > PARTS_DISAGREE else 0.0


def is_steep(at: np.ndarray, offsets: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """Tell at which times offsets change faster than a clock that runs at another speed."""
    steep = np.concatenate([[False], np.abs(np.diff(offsets)) > STEEP * np.diff(at), [False]])
    return np.logical_or(*(steep[np.searchsorted(at, probes, side)] for side in ('left', 'right')))


def tolerance_of(times: TopicTimes) -> float:
    """Return the latency that a topic may have: that of a driver, or two periods [ns]."""
    if len(times.received) < 2:
        return USUAL_LATENCY_NS
    return max(USUAL_LATENCY_NS, 2 * float(np.median(np.diff(times.received))))


def clock_speed(times: TopicTimes) -> float:
    """Return how fast the clock of headers runs by the recorder's; 1 if that is about the same."""
    span = np.ptp(times.received)
    if times.headers is None or len(times.received) < 4 or not span:
        return 1.0
    parts = parts_of(times, min(PARTS, len(times.received) // 4))
    speed = float(np.median([(times.headers[part[-1]] - times.headers[part[0]])
                             / max(1, times.received[part[-1]] - times.received[part[0]])
                             for part in parts]))
    unequal = abs(speed - 1) > OTHER_SPEED and abs(speed - 1) * span > tolerance_of(times)
    return speed if unequal else 1.0


def on_one_clock(images: TopicTimes, commands: TopicTimes, notes: list[str]) -> StampChoice:
    """
    Take the headers of one topic, and translate the reception of the other to their clock.

    :raises BadRecordingError: If the headers are not in the order of reception.
    """
    leader, other = (commands, images) if images.headers is None else (images, commands)
    assert leader.headers is not None
    starts = clock_set_back(leader.headers)
    stamps = without_falls(leader.headers, starts)
    if len(starts):
        notes.append(f'{said_of_falls(leader.headers, starts)}: an episode ends there; set clocks '
                     'before a recording')
    if (np.diff(stamps) < 0).sum() > OUT_OF_ORDER * len(stamps):
        raise BadRecordingError(
            f"topic '{leader.topic}': headers are neither on the recorder's clock nor in the "
            'order of reception, so frames and commands cannot be brought together; give '
            '--stamps receive, or leave the recording out')
    # Both have headers: what one is received later by is its own latency.
    sooner = 0 if other.headers is None else round(float(
        np.median(offsets_of(other)[1]) - np.median(offsets_of(leader)[1])))
    follows = translated(other.received + sooner, leader.received, stamps)
    found = (stamps, 'header'), (follows, "receive, on the headers' clock")
    return StampChoice(*(found if leader is images else found[::-1]), notes)


def said_of_speed(times: TopicTimes, speed: float) -> str:
    """Say that headers are of a simulator that is slower or faster than real time."""
    assert times.headers is not None
    by_header, by_reception = ((len(column) - 1) * NS / max(1, np.ptp(column))
                               for column in (times.headers, times.received))
    return (f"the clock of the headers of '{times.topic}' runs {speed:.2f} times as fast as that "
            f'of the recorder ({by_header:.1f} Hz by header, {by_reception:.1f} Hz by reception): '
            "frames and commands go by the headers' clock; give --stamps receive if the "
            "recorder's is right")


def said_apart(images: TopicTimes, commands: TopicTimes, apart: float) -> str:
    """Say by how much the clocks of two topics differ [s]."""
    of_both = images.headers is not None and commands.headers is not None
    headers = images if images.headers is not None else commands
    seconds = apart if headers is images else -apart
    other = (f"those of '{commands.topic}'" if of_both else
             "the recorder's clock, which is all that the other topic has")
    return (f"the headers of '{headers.topic}' are up to {abs(seconds):.2f} s "
            f"{'ahead of' if seconds > 0 else 'behind'} {other}: both go by reception; "
            'synchronise the clocks (chrony), or give --stamps header if the headers are right')
