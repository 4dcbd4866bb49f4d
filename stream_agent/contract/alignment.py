"""
Which message of an input goes with the one that triggers a step.

Stamps and arrivals are of one clock, that of the process that takes the messages; a message's
time is its stamp, or its arrival where the contract says ``stamp: arrival``.
"""

from bisect import bisect_right
from collections import deque
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from stream_agent.contract.messages import MissingValue
from stream_agent.contract.settings import InputSettings

# How many messages are kept of vectors, and of all else, which takes more memory; and for how
# long beyond ``oldest`` [ns], as the trigger may be on its way for so long.
MOST_VECTORS, MOST_OTHERS, KEPT = 4096, 64, 2 * 10**9
# Of how many messages the time on the way is known.
LAGS = 31


class Absence(NamedTuple):
    """
    Why no message goes with the trigger.

    :param reason: 'missing' if none came since the start or a jump of the clock, 'old' if its
        newest is too old, 'future' if it has only such as are later than the trigger.
    :param age: Of the nearest one against the trigger [s]; None if there is none.
    :param oldest: What was allowed [s].
    """

    reason: str
    age: float | None
    oldest: float

    def __str__(self) -> str:
        if self.age is None:
            return 'no message has come'
        if self.reason == 'old':
            return f'its newest message is {self.age:.2f} s old, and {self.oldest:g} s is allowed'
        return (f'its messages are {-self.age:.2f} s later than the trigger; let both stamps be '
                'of one clock')


class InputBuffer:
    """
    The last messages of an input.

    ``newest`` takes the message with the latest time, ``hold`` the latest that is not later than
    the trigger, ``interpolate`` a line between that one and the next one, or that one where the
    next has not come yet. None may be more than ``oldest`` away from the trigger, nor have arrived
    so long before it, as a clock ahead of ours would make old messages look new.

    Lines are drawn for each number by itself: an angle that wraps from pi to -pi, or a quaternion,
    is no such number; take rates, sine and cosine, or hold. A message that is older than the
    newest by more than ``oldest`` means that a clock was set back, and empties the buffer.
    """

    def __init__(self, settings: InputSettings) -> None:
        self._settings = settings
        self._oldest = round(settings.oldest * 1e9)
        self._most = MOST_VECTORS if settings.kind == 'vector' else MOST_OTHERS
        if settings.align == 'newest':
            self._most = 1
        self._lags: deque[int] = deque(maxlen=LAGS)
        self.clear()

    def clear(self) -> None:
        """Forget all messages."""
        # In the order of their times, with when they arrived.
        self._times: list[int] = []
        self._messages: list[tuple[int, Any]] = []

    @property
    def lag(self) -> float | None:
        """The median of arrival minus stamp [s] of the last messages; None before the first."""
        return median(self._lags) / 1e9 if self._lags else None

    def add(self, stamp_ns: int, arrival_ns: int, values: Any) -> None:
        """
        Keep a message.

        :raises MissingValue: If its stamp is 0, where stamps count.
        """
        time = arrival_ns
        if self._settings.stamp == 'header':
            if stamp_ns == 0:
                raise MissingValue('its stamp is 0, as nobody set it; let its driver stamp it, or '
                                   'write stamp: arrival')
            self._lags.append(arrival_ns - stamp_ns)
            time = stamp_ns
        if self._times and time < self._times[-1] - self._oldest:
            self.clear()
        at = bisect_right(self._times, time)
        self._times.insert(at, time)
        self._messages.insert(at, (arrival_ns, values))
        # By arrival, as one stamp far ahead must neither drop what is right, nor stay.
        first, last, least = 0, len(self._times), arrival_ns - self._oldest - KEPT
        while self._messages[first][0] < least:
            first += 1
        while self._messages[last - 1][0] < least:
            last -= 1
        first = max(first, last - self._most)
        self._times, self._messages = self._times[first:last], self._messages[first:last]

    def at(self, stamp_ns: int, now_ns: int) -> Any:
        """
        Return the values that go with a trigger, or an ``Absence``.

        :param stamp_ns: Of the trigger.
        """
        if not self._times:
            return Absence('missing', None, self._settings.oldest)
        at = len(self._times) - 1
        if self._settings.align != 'newest':
            at = bisect_right(self._times, stamp_ns) - 1
            if at < 0:
                return Absence('future', (stamp_ns - self._times[0]) / 1e9, self._settings.oldest)
        time, (arrival, values) = self._times[at], self._messages[at]
        age = stamp_ns - time
        if abs(age) > self._oldest:
            return Absence('old' if age > 0 else 'future', age / 1e9, self._settings.oldest)
        if (waited := min(stamp_ns, now_ns) - arrival) > self._oldest:
            return Absence('old', waited / 1e9, self._settings.oldest)
        if self._settings.align == 'interpolate' and at + 1 < len(self._times) and age:
            share = age / (self._times[at + 1] - time)
            return values + (np.asarray(self._messages[at + 1][1]) - values) * share
        return values
