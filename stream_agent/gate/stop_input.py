"""The stop input: a signal that is repeated as long as the robot may drive (G8, G12)."""

import math

from stream_agent.gate.settings import GateSettings
from stream_agent.gate.sources import Sources


class StopInput:
    """
    Holds the robot unless everybody who publishes the stop input keeps saying that it may drive.

    It fails closed: silence means stop, from the start. A publisher that was heard beside others
    is expected from then on; if it leaves, the robot stands until it is back or until ``forget``.
    """

    def __init__(self) -> None:
        self._stop = True
        self._stop_at = -math.inf
        self._sources = Sources()
        self._publishers = 0
        self._joined_at = -math.inf
        self.forget()

    def forget(self) -> None:
        """Expect no publisher but those that are there."""
        self._expected = 1

    def hear(self, stop: bool, now: float, settings: GateSettings, number: int | None = None
             ) -> None:
        """
        Register a message that arrived at a steady time [s].

        :param number: See ``Sources.hear``.
        """
        self._stop = stop
        if stop:
            self._stop_at = now
        self._sources.hear(number, now, settings.stop_input_timeout)

    def note_publishers(self, count: int, now: float, settings: GateSettings) -> None:
        """Register how many publishers the topic has, whether they say something or not."""
        if count > self._publishers:
            self._joined_at = now
        self._publishers = count
        # Those that say something, without one that was restarted and counts twice for a moment.
        heard = min(count, self._sources.count(now, settings.stop_input_timeout))
        self._expected = max(self._expected, heard)

    def reason(self, now: float, settings: GateSettings) -> str:
        """Return in words why the robot may not drive; '' if it may, or if the input is unused."""
        if not settings.stop_input:
            return ''
        timeout = settings.stop_input_timeout
        heard = self._sources.count(now, timeout)
        if not heard:
            return f'nothing arrived on the stop input for {timeout:g} s'
        # Which of several says false again is not known, so the word of each counts for its time.
        several = max(heard, self._publishers) > 1
        if self._stop or several and now - self._stop_at <= timeout:
            return 'the stop input says stop'
        expected = self._expected
        # Somebody who has just joined may not have said anything yet.
        if now - self._joined_at > timeout:
            expected = max(expected, self._publishers)
        if heard < expected:
            return f'{expected - heard} of {expected} publishers of the stop input are silent'
        return ''
