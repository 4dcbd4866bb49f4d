"""When a zero is due: no command arrives, or a stop needs to be repeated (G1)."""

from stream_agent.gate.settings import GateSettings


class Watchdog:
    """
    Watches the steady time since the last command that was passed on.

    It starts stopped, with a zero due immediately: at first there is no fresh policy command
    either, and after a crash and respawn of the gate the robot may still follow the last
    command of the previous process, as many bases have no timeout of their own.

    :param now: Steady time [s].
    """

    def __init__(self, now: float) -> None:
        self._fed_at = now
        self._stopped_at = now
        self._zero_at = now
        self.stopped = True

    def feed(self, now: float) -> None:
        """Register a fresh command that goes to the robot; it ends a stop."""
        self._fed_at = now
        self.stopped = False

    def stop(self, now: float, settings: GateSettings) -> None:
        """Register a zero that is sent now and begins a stop."""
        self._stopped_at = now
        self._zero_at = now + settings.stop_period
        self.stopped = True

    def starved(self, now: float, settings: GateSettings) -> bool:
        """Return whether the robot follows a command that is no longer fresh."""
        return not self.stopped and now - self._fed_at >= settings.command_timeout

    def repeat(self, now: float, settings: GateSettings) -> bool:
        """Return whether the zero of a stop is due again; if so, register it as sent."""
        if not self.stopped or now < self._zero_at or self.released(now, settings):
            return False
        # On a grid, so that a coarse timer does not lower the rate; no burst after a stall.
        self._zero_at += settings.stop_period
        if self._zero_at <= now:
            self._zero_at = now + settings.stop_period
        return True

    def released(self, now: float, settings: GateSettings) -> bool:
        """Return whether the stop lasted long enough to leave the robot to another source."""
        return (self.stopped and settings.release_after_stop
                and now - self._stopped_at > settings.stop_duration)
