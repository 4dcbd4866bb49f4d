"""The stop input: a signal that is repeated as long as the robot may drive (G8)."""

import math

from stream_agent.gate.settings import GateSettings


class StopInput:
    """
    Holds the robot unless a recent message says that it need not stop.

    It fails closed: silence means stop, from the start.
    """

    def __init__(self) -> None:
        self._stop = True
        self._heard_at = -math.inf

    def hear(self, stop: bool, now: float) -> None:
        """Register a message that arrived at a steady time [s]."""
        self._stop = stop
        self._heard_at = now

    def reason(self, now: float, settings: GateSettings) -> str:
        """Return in words why the robot may not drive; '' if it may, or if the input is unused."""
        if not settings.stop_input:
            return ''
        if now - self._heard_at > settings.stop_input_timeout:
            return f'nothing arrived on the stop input for {settings.stop_input_timeout:g} s'
        return 'the stop input says stop' if self._stop else ''
