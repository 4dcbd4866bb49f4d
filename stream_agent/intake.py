"""Which frames the agent steps: fresh ones, each once, in order."""

from collections import Counter
from dataclasses import dataclass

NS = 10**9


@dataclass(frozen=True)
class IntakeSettings:
    """
    The agent's patience.

    :param camera_period: Seconds between two frames.
    :param max_age: Oldest frame that is stepped [s]; 0 stands for max(5 periods, 0.2 s).
    :param max_ahead: How far a stamp may lie in the future [s].
    :param max_gap: Missing frames that the memory outlives; a longer gap resets it.
    """

    camera_period: float = 1 / 30
    max_age: float = 0.0
    max_ahead: float = 0.1
    max_gap: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.camera_period < float('inf'):
            raise ValueError(f'camera_period is {self.camera_period}; it is a positive time [s]')
        if not self.max_age >= 0:
            raise ValueError(f'max_age is {self.max_age}; it is a time [s], or 0 for its default')

    @property
    def oldest(self) -> float:
        """The age [s] up to which a frame is stepped."""
        return self.max_age or max(5 * self.camera_period, 0.2)


class Intake:
    """
    Judges frames by their stamps and counts what it refused, by reason.

    A stamp that falls back by over half a second is no late frame but a clock that was set
    back (a simulation begun again, a looped recording): the frame is accepted, after a reset.
    """

    TIME_JUMP = 0.5

    def __init__(self, settings: IntakeSettings) -> None:
        self.settings = settings
        #: Frames refused, by reason; 'missed' never came, as the stamps' gaps tell.
        self.dropped: Counter[str] = Counter()
        self.forget()

    def forget(self) -> None:
        """Start anew: the next frame is the first."""
        self._last_ns: int | None = None

    def refuse(self, stamp_ns: int, now_ns: int) -> str:
        """
        Return why a frame is not to be stepped, and count it; '' if it is.

        :param stamp_ns: When the frame was captured [ns].
        :param now_ns: The time by the same clock [ns].
        """
        age = (now_ns - stamp_ns) / NS
        back = 0.0 if self._last_ns is None else (self._last_ns - stamp_ns) / NS
        reason = ('stale' if age > self.settings.oldest
                  else 'future' if age < -self.settings.max_ahead
                  else '' if self._last_ns is None or back > self.TIME_JUMP
                  else 'duplicate' if back == 0
                  else 'out of order' if back > 0 else '')
        if reason:
            self.dropped[reason] += 1
        return reason

    def accept(self, stamp_ns: int) -> bool:
        """
        Take a frame that was not refused.

        :returns: Whether the memory of earlier frames is too old to go on with.
        """
        if self._last_ns is None:
            self._last_ns = stamp_ns
            return False
        elapsed = (stamp_ns - self._last_ns) / NS
        self._last_ns = stamp_ns
        missed = max(0, round(elapsed / self.settings.camera_period) - 1)
        self.dropped['missed'] += missed
        return elapsed <= 0 or missed > self.settings.max_gap
