"""The stop input: somebody says again and again that the robot may drive (G8)."""

import math

from stream_agent.gate.settings import GateSettings


class StopInput:
    """
    Holds the robot unless it was said a moment ago that nobody wants it to stop.

    It fails closed: silence means stop, from the beginning on.
    """

    def __init__(self) -> None:
        self._stop = True
        self._heard_at = -math.inf

    def hear(self, stop: bool, now: float) -> None:
        """Take what is said, at a steady time [s]."""
        self._stop = stop
        self._heard_at = now

    def reason(self, now: float, settings: GateSettings) -> str:
        """Return why the robot may not drive, in words; '' if it may, or if nobody is asked."""
        if not settings.stop_input:
            return ''
        if now - self._heard_at > settings.stop_input_timeout:
            return f'nothing was heard on the stop input for {settings.stop_input_timeout:g} s'
        return 'the stop input says stop' if self._stop else ''
