"""Durations of the stages of a frame, and rates; cheap enough to be measured on every frame."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from itertools import accumulate
import math
import time

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
SHORTEST = 1e-7
# Bins are 1 % wide and reach from 100 ns to 100 s.
BINS_PER_E = 100
FIRST_BIN = math.floor(math.log(SHORTEST) * BINS_PER_E)
LAST_BIN = math.ceil(math.log(100.0) * BINS_PER_E) - FIRST_BIN


class Durations:
    """
    The durations of one stage since the start, in constant memory.

    They are kept as a histogram with bins 1 % wide rather than as the last N values: the tail of
    a whole run is preserved, and percentiles cost microseconds, so a control loop can report them.

    :ivar total: The sum of all durations [s].
    :ivar longest: The longest duration [s]; 0 without any.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.longest = 0.0
        self._shortest = math.inf
        self._bins = [0] * (LAST_BIN + 1)

    def add(self, seconds: float) -> None:
        """Count one duration [s]; shorter ones than 100 ns count as that."""
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        self._shortest = min(self._shortest, seconds)
        bin_ = int(math.log(max(seconds, SHORTEST)) * BINS_PER_E - FIRST_BIN)
        self._bins[min(bin_, LAST_BIN)] += 1

    def percentile(self, percent: float) -> float:
        """
        Return the duration [s] that ``percent`` (0 ... 100) of all durations do not exceed.

        The result is within 1 % of the true one; nan without any duration.
        """
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(percent / 100 * self.count))
        bin_ = bisect_left(list(accumulate(self._bins)), rank)
        middle = math.exp((bin_ + FIRST_BIN + 0.5) / BINS_PER_E)
        return min(max(middle, self._shortest), self.longest)

    def percentiles(self) -> dict[str, float]:
        """Return ``{'p50': seconds, 'p90': ..., 'p99': ..., 'p99.9': ...}``."""
        return {f'p{percent:g}': self.percentile(percent) for percent in PERCENTILES}


class Rate:
    """How often something happens, by a clock [s]: the steady one, except for recorded events."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[float] = deque()
        self._first: float | None = None
        self._second = 0
        self._in_second = 0
        self._worst = math.inf
        self.count = 0

    def add(self) -> None:
        """Count one event that happens now."""
        now = self._clock()
        if self._first is None:
            self._first = now
        self._advance(now)
        self._recent.append(now)
        self._in_second += 1
        self.count += 1

    def now(self) -> float:
        """Return the events in the last second [Hz]."""
        self._advance(self._clock())
        return float(len(self._recent))

    def mean(self) -> float:
        """Return the events per second since the first event [Hz]; nan in the first second."""
        if self._first is None or (elapsed := self._clock() - self._first) < 1.0:
            return math.nan
        return self.count / elapsed

    def worst_second(self) -> float:
        """Return the fewest events in a full second since the first event; nan without one."""
        self._advance(self._clock())
        return self._worst if self._worst < math.inf else math.nan

    def _advance(self, now: float) -> None:
        """Close the seconds that are over, and forget events older than one."""
        while self._recent and self._recent[0] <= now - 1.0:
            self._recent.popleft()
        if self._first is None:
            return
        second = int(now - self._first)
        if second > self._second:
            # A second that was skipped had no event.
            skipped = second > self._second + 1
            self._worst = 0.0 if skipped else min(self._worst, float(self._in_second))
            self._second, self._in_second = second, 0


def profile_table(stages: dict[str, Durations]) -> str:
    """
    Return a table of where the time went, a stage a line, the most expensive first.

    :param stages: By name; they do not overlap, so that the shares of their sum add up.
    """
    total = sum(durations.total for durations in stages.values())
    width = max(map(len, ['stage', *stages]))
    heads = [*(f'p{percent:g}' for percent in PERCENTILES), 'longest']
    lines = [f'{"stage":<{width}}  {"count":>8}'
             + ''.join(f' {head:>9}' for head in heads) + '  share']
    for name, durations in sorted(stages.items(), key=lambda item: -item[1].total):
        seconds = [*durations.percentiles().values(), durations.longest]
        share = durations.total / total if total else 0.0
        lines.append(f'{name:<{width}}  {durations.count:>8}'
                     + ''.join(f' {value * 1e3:9.3f}' if durations.count else f' {"-":>9}'
                               for value in seconds) + f'  {share:5.1%}')
    return '\n'.join([*lines, 'durations in ms'])
