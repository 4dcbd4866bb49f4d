"""Whether simulated time goes on (T1)."""

import math


class SimulatedTime:
    """
    Watches by the steady clock whether the simulated one advances.

    Ages are no guard while it stands still: a stamp that is fresh stays fresh.
    """

    def __init__(self) -> None:
        self._value: int | None = None
        self._moved_at = -math.inf

    def note(self, value: int | None, now: float) -> None:
        """
        Register a reading at a steady time [s].

        :param value: Simulated time [ns], 0 before its first message; None where time is real.
        """
        # The zero before the first message is no movement.
        if value != self._value and value:
            self._moved_at = now
        self._value = value

    def stands(self, now: float, patience: float) -> bool:
        """Return whether simulated time has not advanced for longer than the patience [s]."""
        return self._value is not None and now - self._moved_at > patience
