"""Rows made of messages in any order: one per frame and policy, matched by stamp."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
import time
from typing import NamedTuple

from stream_agent.command import Command

# A command that is this late [s] is useless; until then its row stays open.
HORIZON = 1.0
MOST_OPEN = 2000
# Stamps of closed frames are known for so long [s]: a message that repeats one makes no new row.
KNOWN_FOR = 2.0
# The time between two calls of ``close`` counts as this much [s] at most. Longer ones mean that
# nobody looked, and what has arrived in the meantime still waits in a queue.
LONGEST_STEP = 0.5
# How times of arrival are measured.
AT_ARRIVAL, WHEN_TAKEN = 'at arrival, by the middleware', 'when taken by the recorder'


def arrivals_measured(received_ns: int | None, sent_ns: int, taken_ns: int) -> str:
    """
    Return which of the two a middleware does, by a message that was left waiting for a while.

    Some middleware notes when a message came; other, such as Cyclone DDS, when it was taken.

    :param received_ns: What the middleware says; None or 0 if it says nothing.
    :param sent_ns: When the message was sent, by the same clock, as all of these.
    :param taken_ns: When it was taken.
    """
    waited = (taken_ns - (received_ns or taken_ns)) > (taken_ns - sent_ns) / 2
    return AT_ARRIVAL if waited and taken_ns > sent_ns else WHEN_TAKEN


class Element(NamedTuple):
    """
    One number of a command.

    :param name: Of a column of ``rows.csv``: that of a joint, or of whatever obeys.
    :param label: As people are told it; empty: as the name.
    """

    name: str
    unit: str = ''
    label: str = ''

    @property
    def title(self) -> str:
        """How people are told of it."""
        return self.label or self.name


#: Commands of a base, as ``command.Command`` has them.
BASE = (Element('speed', 'm/s'), Element('yaw_rate', 'rad/s', 'yaw rate'))
Values = tuple[float, ...]
# Of a base.
UNKNOWN = Command(float('nan'), float('nan'))


class Row(NamedTuple):
    """
    What one policy made of one frame; a line of ``rows.csv``, with a column for each element.

    :param update: 0 for the first command of this frame, 1, 2, ... for later ones, if the
        policy publishes after every update.
    :param arrival_ns: When the policy command arrived; None if it never did.
    :param latency: ``arrival_ns - stamp_ns`` in seconds.
    :param command: The policy command, (speed, yaw rate) or the elements of the contract's
        output, in their units.
    :param reference: The reference's command for this frame; nan if unknown.
    :param gated_arrival_ns: When the gate's command made from this one arrived; None if it never
        did, or if this policy does not drive.
    :param frame_arrival_ns: When the recorder received the frame; None if it never did, although
        others may have received it.
    :param lateral_error: The vehicle's lateral error at this frame [m]; nan if unknown.
    """

    stamp_ns: int
    policy: str
    update: int
    arrival_ns: int | None
    latency: float
    command: Values
    reference: Values
    gated_arrival_ns: int | None
    gated: Values
    frame_arrival_ns: int | None
    lateral_error: float = float('nan')


def columns(names: Iterable[str]) -> list[str]:
    """Return the names of the columns of rows whose commands have elements of these names."""
    names = list(names)
    each: dict[str, list[str]] = {
        'command': names, 'reference': [f'reference_{name}' for name in names],
        'gated': [f'gated_{name}' for name in names]}
    return [column for field in Row._fields for column in each.get(field, [field])]


class _Answer(NamedTuple):
    sent_ns: int
    arrival_ns: int | None
    command: Values


class _Frame:
    """
    A frame whose row is still open.

    :param number: Counts the frames in the order in which they were opened.
    """

    def __init__(self, number: int, opened: float, policies: Iterable[str]) -> None:
        self.number = number
        self.opened = opened
        self.arrival_ns: int | None = None
        self.reference: Values | None = None
        self.lateral_error = float('nan')
        self.answers: dict[str, list[_Answer]] = {name: [] for name in policies}


class FrameMatcher:
    """
    Collects for one second what belongs to a frame, and makes its rows.

    Messages of different topics arrive in any order, so nothing is matched before a frame is
    closed. The numbers of open frames and of the gate's commands kept for them are bounded.
    Stamps are names of frames and no times here: one that is far off, or a clock that is set
    back, closes no other frame.

    :param driving: The policy whose commands go through the gate; empty if none.
    :param clock: Returns the steady time [s].
    :param size: How many elements a command has.
    :ivar without_frame: The number of messages whose frame is unknown, or closed already.
    """

    def __init__(self, policies: Iterable[str], driving: str = '',
                 clock: Callable[[], float] = time.monotonic, size: int = len(BASE)) -> None:
        self._unknown = (float('nan'),) * size
        self._no_answer = _Answer(-1, None, self._unknown)
        self._policies = list(policies)
        self._driving = driving
        self._clock = clock
        self._open: dict[int, _Frame] = {}
        self._gated: list[_Answer] = []
        self._driving_sent: list[int] = []
        # When closed, by the stamp; the first ones were closed first.
        self._closed: dict[int, float] = {}
        self._opened = 0
        self._attended, self._last_look = 0.0, clock()
        self._last_answered = dict.fromkeys(self._policies, -1)
        self.without_frame = 0

    def add_frame(self, stamp_ns: int, arrival_ns: int) -> None:
        """Register that a frame arrived."""
        if frame := self._frame(stamp_ns):
            frame.arrival_ns = arrival_ns

    def add_reference(self, stamp_ns: int, command: Values) -> None:
        """Register the reference command for the frame of that stamp."""
        if frame := self._frame(stamp_ns):
            frame.reference = command

    def add_lateral_error(self, stamp_ns: int, lateral_error: float) -> None:
        """Register how far the vehicle was from the middle of its lane at a frame [m]."""
        if frame := self._frame(stamp_ns):
            frame.lateral_error = lateral_error

    def add_command(self, policy: str, stamp_ns: int, arrival_ns: int, sent_ns: int,
                    command: Values) -> None:
        """
        Register a policy command.

        :param stamp_ns: The stamp of its frame.
        :param sent_ns: When it was published, by the same clock as the gate's ``sent_ns``.
        """
        if policy == self._driving:
            insort(self._driving_sent, sent_ns)
            del self._driving_sent[:-MOST_OPEN]
        if frame := self._frame(stamp_ns):
            frame.answers[policy].append(_Answer(sent_ns, arrival_ns, command))
            self._last_answered[policy] = max(frame.number, self._last_answered[policy])

    def add_gated(self, arrival_ns: int, sent_ns: int, command: Values) -> None:
        """Register a command of the gate."""
        insort(self._gated, _Answer(sent_ns, arrival_ns, command))
        del self._gated[:-MOST_OPEN]

    def close(self) -> list[Row]:
        """Return the rows of frames for which no more messages are expected."""
        self._attended, self._last_look = self._now(), self._clock()
        oldest = self._attended - HORIZON
        rows = []
        while self._open:
            stamp_ns, frame = next(iter(self._open.items()))
            if frame.opened > oldest and len(self._open) <= MOST_OPEN:
                break
            del self._open[stamp_ns]
            rows += self._rows(stamp_ns, frame)
        return rows

    def finish(self) -> list[Row]:
        """
        Return the rows of all open frames.

        A frame without a command is lost only if its policy answered a later one; otherwise the
        answer was on its way when the recording ended, and there is no row for it.
        """
        rows = [row for stamp_ns, frame in self._open.items()
                for row in self._rows(stamp_ns, frame) if row.arrival_ns is not None
                or frame.number < self._last_answered[row.policy]]
        self._open.clear()
        return rows

    def _frame(self, stamp_ns: int) -> _Frame | None:
        """Return the open frame of that stamp; None if its rows are already made."""
        if stamp_ns in self._open:
            return self._open[stamp_ns]
        if stamp_ns in self._closed:
            self.without_frame += 1
            return None
        self._opened += 1
        frame = self._open[stamp_ns] = _Frame(self._opened, self._now(), self._policies)
        return frame

    def _now(self) -> float:
        """Return the time [s] during which messages were looked after."""
        return self._attended + min(self._clock() - self._last_look, LONGEST_STEP)

    def _rows(self, stamp_ns: int, frame: _Frame) -> list[Row]:
        while self._closed and (next(iter(self._closed.values())) < self._attended - KNOWN_FOR
                                or len(self._closed) > MOST_OPEN):
            del self._closed[next(iter(self._closed))]
        self._closed[stamp_ns] = self._attended
        if frame.arrival_ns is None and frame.reference is None:
            # No such frame was published here: a stop, or the answer to another camera.
            self.without_frame += sum(map(len, frame.answers.values()))
            return []
        rows = []
        for policy, answers in frame.answers.items():
            for update, answer in enumerate(sorted(answers) or [self._no_answer]):
                gated = (self._gated_for(answer) if policy == self._driving
                         else self._no_answer)
                _, arrival_ns, command = answer
                latency = float('nan') if arrival_ns is None else (arrival_ns - stamp_ns) * 1e-9
                rows.append(Row(stamp_ns, policy, update, arrival_ns, latency, command,
                                frame.reference or self._unknown, gated.arrival_ns,
                                gated.command, frame.arrival_ns, frame.lateral_error))
        return rows

    def _gated_for(self, answer: _Answer) -> _Answer:
        """
        Return the gate's command made from a policy command.

        The gate publishes in the callback of the policy command, so this is its first command
        sent after this policy command and before the next one, unless it held that back.
        """
        following = bisect_left(self._driving_sent, answer.sent_ns + 1)
        i = bisect_left(self._gated, (answer.sent_ns,))
        if answer is self._no_answer or i == len(self._gated) or (
                following < len(self._driving_sent) and
                self._gated[i].sent_ns >= self._driving_sent[following]):
            return self._no_answer
        return self._gated[i]
