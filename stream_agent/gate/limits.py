"""Which commands can be passed on, how they are limited, and how often that was necessary."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from stream_agent.command import Command, STOP
from stream_agent.gate.settings import GateSettings

# The greatest 32-bit float: beyond it a base's own arithmetic may overflow to infinity (G3).
FLOAT_MAX = 3.4028234663852886e38
# G6: more than this share of the commands of this many seconds is worth a warning.
CLAMP_SHARE = 0.2
CLAMP_WINDOW = 5.0


def is_finite(command: Command) -> bool:
    """Return whether both values are numbers within float range (G3); NaN compares false."""
    return abs(command.speed) <= FLOAT_MAX and abs(command.yaw_rate) <= FLOAT_MAX


def approach(previous: float, target: float, greatest: float, step: float) -> float:
    """
    Move from the previous value towards the saturated target, by one step at most (G4).

    :param greatest: The limit of the target's magnitude.
    :param step: The limit of the change; 0 or more.
    """
    target = min(max(target, -greatest), greatest)
    # Adding 0.0 turns -0.0 into 0.0: a stop has no direction.
    return min(max(target, previous - step), previous + step) + 0.0


#: What bases obey, or the value of each actuator by its name.
AnyCommand = Command | Mapping[str, float]


class CommandLimiter(Protocol):
    """What the gate asks of a limiter; see ``Limiter`` for bases, ``VectorLimiter`` for others."""

    def fault(self, command: Any) -> str:
        """Return in words what of a policy command cannot be obeyed; '' if all of it can (G3)."""

    def reason(self, now: float) -> str:
        """Return in words why nothing can be sent; '' if it is known where to begin."""

    def limit(self, command: Any, now: float, settings: GateSettings) -> AnyCommand:
        """Return what may be sent now, and register it as sent (G4)."""

    def brake(self, now: float, settings: GateSettings) -> AnyCommand:
        """Return the next step of a stop that was asked for, and register it as sent (G10)."""

    @property
    def at_rest(self) -> bool:
        """Whether what was sent last keeps the robot where it is."""

    def stop(self, now: float) -> AnyCommand | None:
        """Return the emergency stop and register it as sent; None if none is known yet."""

    def forget(self) -> None:
        """Count on nothing that was sent, as another source may have moved the robot since."""


class Limiter:
    """
    Saturation and slew (G4) of a base, from the last command that was sent to the next.

    Before the first command the robot is assumed to be at standstill, as the gate sends zeros
    until then.

    :param now: Steady time [s].
    """

    def __init__(self, now: float) -> None:
        self._sent = STOP
        self._sent_at = now

    def fault(self, command: Command) -> str:
        """Say of a command that is not finite what it is (G3); '' for any other."""
        return '' if is_finite(command) else (
            f'policy command is ({command.speed}, {command.yaw_rate}); only numbers within float '
            'range reach the wheels')

    def reason(self, now: float) -> str:
        """Return '': a base can always begin, from standstill."""
        return ''

    def limit(self, command: Command, now: float, settings: GateSettings) -> Command:
        """
        Return what may be sent now, and register it as sent.

        :param command: A finite command.
        """
        # At most two periods, so that a stall licenses no jump; at least 0, whatever the clock.
        elapsed = min(max(now - self._sent_at, 0.0), 2 * settings.camera_period)
        self._sent = Command(
            approach(self._sent.speed, command.speed,
                     settings.max_speed, settings.max_acceleration * elapsed),
            approach(self._sent.yaw_rate, command.yaw_rate,
                     settings.max_yaw_rate, settings.max_yaw_acceleration * elapsed))
        self._sent_at = now
        return self._sent

    def brake(self, now: float, settings: GateSettings) -> Command:
        """
        Return the next command of a stop that was asked for, and register it as sent (G10).

        The yaw rate decreases with the speed, so that the robot stays on its path. All of the
        time since the last command counts: a stall is no reason to stop later.
        """
        elapsed = max(now - self._sent_at, 0.0)
        speed, yaw_rate = self._sent
        # A robot that turns where it stands has nothing but its yaw rate to decrease.
        change = settings.stop_deceleration if speed else settings.max_yaw_acceleration
        before = abs(speed or yaw_rate)
        left = max(before - change * elapsed, 0.0)
        share = left / before if left else 0.0
        # Adding 0.0 turns -0.0 into 0.0.
        self._sent = Command(speed * share + 0.0, yaw_rate * share + 0.0)
        self._sent_at = now
        return self._sent

    @property
    def at_rest(self) -> bool:
        """Whether the last command was zero."""
        return self._sent == STOP

    def forget(self) -> None:
        """Do nothing: what was left to another source was left by a zero."""

    def stop(self, now: float) -> Command:
        """Return the emergency zero, which no slew limit delays, and register it as sent."""
        self._sent = STOP
        self._sent_at = now
        return STOP


class ClampShare:
    """The share of the commands of the last seconds that had to be clamped (G6)."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, bool]] = deque()
        self._clamped = 0
        self._since = 0.0

    def add(self, clamped: bool, now: float) -> None:
        """
        Register a command that was passed on.

        :param now: Steady time [s].
        """
        self._forget(now)
        if not self._recent:
            self._since = now
        self._recent.append((now, clamped))
        self._clamped += clamped

    def share(self, now: float) -> float:
        """Return the share, 0 to 1; 0 until commands have arrived for a whole window."""
        self._forget(now)
        # The ramp of a start is clamped throughout, which is not worth a warning.
        if not self._recent or now - self._since < CLAMP_WINDOW:
            return 0.0
        return self._clamped / len(self._recent)

    def _forget(self, now: float) -> None:
        while self._recent and now - self._recent[0][0] > CLAMP_WINDOW:
            self._clamped -= self._recent.popleft()[1]
