"""Which frames the agent steps: fresh ones, each once, in order."""

from collections import Counter
from dataclasses import dataclass

from stream_agent.bounded_settings import check, quantity

NS = 10**9


@dataclass(frozen=True)
class FrameFilterSettings:
    """The agent's patience."""

    camera_period: float = quantity(1 / 30, 's', 1e-3, 10.0, 'time between two frames')
    max_age: float = quantity(
        0.0, 's', 0.0, 60.0,
        'oldest frame that is stepped; 0: five camera periods, at least 0.2 s')
    max_lead: float = quantity(
        0.1, 's', 0.0, 10.0, 'how far the stamp of a frame may lie in the future')
    max_gap: int = quantity(
        3, '', 0, 100_000, 'missing frames that the memory outlives; a longer gap resets it')

    def __post_init__(self) -> None:
        check(self)

    @property
    def oldest(self) -> float:
        """Return the age [s] up to which a frame is stepped."""
        return self.max_age or max(5 * self.camera_period, 0.2)


class FrameFilter:
    """
    Judges frames by their stamps and counts what it refused, by reason.

    A stamp that falls back by over half a second is no late frame but a clock that was set
    back (a simulation begun again, a looped recording): the frame is accepted, after a reset.
    """

    TIME_JUMP = 0.5

    def __init__(self, settings: FrameFilterSettings) -> None:
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
                  else 'future' if age < -self.settings.max_lead
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
