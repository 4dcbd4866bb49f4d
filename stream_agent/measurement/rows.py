"""Rows made of messages in any order: one per frame and policy, matched by stamp."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
import time
from typing import NamedTuple

from stream_agent.command import Command

# A command that is this late [s] is useless; until then its row stays open.
HORIZON = 1.0
MOST_OPEN = 2000
UNKNOWN = Command(float('nan'), float('nan'))


class Row(NamedTuple):
    """
    What one policy made of one frame; the columns of ``rows.csv``.

    :param update: 0 for the first command of this frame, 1, 2, ... for later ones, if the
        policy publishes after every update.
    :param arrival_ns: When the policy command arrived; None if it never did.
    :param latency: ``arrival_ns - stamp_ns`` in seconds.
    :param reference_speed: The reference's speed for this frame [m/s]; nan if unknown.
    :param gated_arrival_ns: When the gate's command made from this one arrived; None if it never
        did, or if this policy does not drive.
    :param frame_arrival_ns: When the recorder received the image; None if it never did, although
        others may have received it.
    :param lateral_error: The vehicle's lateral error at this frame [m]; nan if unknown.
    """

    stamp_ns: int
    policy: str
    update: int
    arrival_ns: int | None
    latency: float
    speed: float
    yaw_rate: float
    reference_speed: float
    reference_yaw_rate: float
    gated_arrival_ns: int | None
    gated_speed: float
    gated_yaw_rate: float
    frame_arrival_ns: int | None
    lateral_error: float = float('nan')


class _Answer(NamedTuple):
    sent_ns: int
    arrival_ns: int | None
    command: Command


NO_ANSWER = _Answer(-1, None, UNKNOWN)


class _Frame:
    """A frame whose row is still open."""

    def __init__(self, opened: float, policies: Iterable[str]) -> None:
        self.opened = opened
        self.arrival_ns: int | None = None
        self.reference: Command | None = None
        self.lateral_error = float('nan')
        self.answers: dict[str, list[_Answer]] = {name: [] for name in policies}


class FrameMatcher:
    """
    Collects for one second what belongs to a frame, and makes its rows.

    Messages of different topics arrive in any order, so nothing is matched before a frame is
    closed. The numbers of open frames and of the gate's commands kept for them are bounded.

    :param driving: The policy whose commands go through the gate; empty if none.
    :param clock: Returns the steady time [s].
    :ivar without_frame: The number of messages whose frame is unknown, or closed already.
    """

    def __init__(self, policies: Iterable[str], driving: str = '',
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._policies = list(policies)
        self._driving = driving
        self._clock = clock
        self._open: dict[int, _Frame] = {}
        self._gated: list[_Answer] = []
        self._driving_sent: list[int] = []
        self._closed_until_ns = -1
        self._last_answered_ns = dict.fromkeys(self._policies, -1)
        self.without_frame = 0

    def add_frame(self, stamp_ns: int, arrival_ns: int) -> None:
        """Register that an image arrived."""
        if frame := self._frame(stamp_ns):
            frame.arrival_ns = arrival_ns

    def add_reference(self, stamp_ns: int, command: Command) -> None:
        """Register the reference command for the frame of that stamp."""
        if frame := self._frame(stamp_ns):
            frame.reference = command

    def add_lateral_error(self, stamp_ns: int, lateral_error: float) -> None:
        """Register how far the vehicle was from the middle of its lane at a frame [m]."""
        if frame := self._frame(stamp_ns):
            frame.lateral_error = lateral_error

    def add_command(self, policy: str, stamp_ns: int, arrival_ns: int, sent_ns: int,
                    command: Command) -> None:
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
            self._last_answered_ns[policy] = max(stamp_ns, self._last_answered_ns[policy])

    def add_gated(self, arrival_ns: int, sent_ns: int, command: Command) -> None:
        """Register a command of the gate."""
        insort(self._gated, _Answer(sent_ns, arrival_ns, command))
        del self._gated[:-MOST_OPEN]

    def close(self) -> list[Row]:
        """Return the rows of frames for which no more messages are expected."""
        oldest = self._clock() - HORIZON
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
                or row.stamp_ns < self._last_answered_ns[row.policy]]
        self._open.clear()
        return rows

    def _frame(self, stamp_ns: int) -> _Frame | None:
        """Return the open frame of that stamp; None if its rows are already made."""
        if stamp_ns in self._open:
            return self._open[stamp_ns]
        if stamp_ns <= self._closed_until_ns:
            self.without_frame += 1
            return None
        frame = self._open[stamp_ns] = _Frame(self._clock(), self._policies)
        return frame

    def _rows(self, stamp_ns: int, frame: _Frame) -> list[Row]:
        self._closed_until_ns = max(self._closed_until_ns, stamp_ns)
        if frame.arrival_ns is None and frame.reference is None:
            # No such frame was published here: a stop, or the answer to another camera.
            self.without_frame += sum(map(len, frame.answers.values()))
            return []
        rows = []
        for policy, answers in frame.answers.items():
            for update, answer in enumerate(sorted(answers) or [NO_ANSWER]):
                gated = self._gated_for(answer) if policy == self._driving else NO_ANSWER
                _, arrival_ns, command = answer
                latency = float('nan') if arrival_ns is None else (arrival_ns - stamp_ns) * 1e-9
                rows.append(Row(stamp_ns, policy, update, arrival_ns, latency, *command,
                                *(frame.reference or UNKNOWN), gated.arrival_ns, *gated.command,
                                frame.arrival_ns, frame.lateral_error))
        return rows

    def _gated_for(self, answer: _Answer) -> _Answer:
        """
        Return the gate's command made from a policy command.

        The gate publishes in the callback of the policy command, so this is its first command
        sent after this policy command and before the next one, unless it held that back.
        """
        following = bisect_left(self._driving_sent, answer.sent_ns + 1)
        i = bisect_left(self._gated, (answer.sent_ns,))
        if answer is NO_ANSWER or i == len(self._gated) or (
                following < len(self._driving_sent) and
                self._gated[i].sent_ns >= self._driving_sent[following]):
            return NO_ANSWER
        return self._gated[i]
