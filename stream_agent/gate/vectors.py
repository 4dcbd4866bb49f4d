"""Limits of any actuators, each known by its name: position, velocity or effort (G3, G4, G10)."""

from collections.abc import Mapping
import math
from typing import NamedTuple

from stream_agent.bounded_settings import printable
from stream_agent.contract.settings import of_each, OutputSettings
from stream_agent.gate.limits import FLOAT_MAX
from stream_agent.gate.settings import GateSettings

Values = dict[str, float]
# So long a measured position counts [s], and so far ahead its stamp may be.
FRESH, LEAD = 0.5, 0.1
# A joint that is measured beyond its limits may start if it is back within them after so long [s].
START_WITHIN = 0.02
# As a share of the values: what is nearer to the target than this is there, but for rounding.
THERE = 1e-12


class ElementLimits(NamedTuple):
    """
    What one actuator may be told, in its unit.

    :param rate: Greatest change in a second.
    :param acceleration: Greatest change of that in a second; infinite if there is no limit.
    """

    lowest: float
    highest: float
    rate: float
    acceleration: float

    def clip(self, value: float) -> float:
        """Return the nearest value within the limits; adding 0.0 turns -0.0 into 0.0."""
        return min(max(value, self.lowest), self.highest) + 0.0

    def approach(self, value: float, rate: float, target: float, elapsed: float
                 ) -> tuple[float, float]:
        """
        Return the next value on the way to a target, and the rate at which it changes (G4).

        The rate is one from which the value comes to rest at the target, hence within the limits,
        whatever the times between later steps are: in those steps it decreases by
        ``acceleration``, and takes rate^2 / (2 acceleration) at most. Solved for the rate after
        this step, rate * elapsed + rate^2 / (2 acceleration) = way gives the quotient below.

        :param rate: Of the step before.
        :param elapsed: 0 or more [s].
        """
        if not elapsed:
            return value, rate
        target = self.clip(target)
        way = target - value
        wanted = 2 * way / (elapsed + math.sqrt(elapsed**2 + 2 * abs(way) / self.acceleration))
        change = self.acceleration * elapsed
        rate = min(max(wanted, -self.rate, rate - change), self.rate, rate + change)
        moved = value + rate * elapsed
        if abs(target - moved) <= THERE * max(abs(value), abs(target)):
            moved = target
        return self.clip(moved), rate

    def slow_down(self, rate: float, elapsed: float) -> float:
        """Return the rate after braking for a time; without limit it is 0 immediately."""
        if self.acceleration == math.inf:
            return 0.0
        return math.copysign(max(abs(rate) - self.acceleration * elapsed, 0.0), rate)


class VectorLimiter:
    """
    Saturation and slew of a vector, from what was sent last to what is sent next.

    A stop of velocities and efforts is zero, one of positions holds what was sent last. Before
    the first command velocities and efforts count as zero; positions begin where they are
    measured, so nothing is sent before all of them are known.

    :param now: Steady time [s].
    """

    def __init__(self, output: OutputSettings, now: float) -> None:
        columns = (of_each(values, output.names) for values in (
            output.lowest, output.highest, output.max_rate,
            output.max_acceleration or (math.inf,)))
        self._limits = dict(zip(output.names, map(ElementLimits._make, zip(*columns))))
        self._holds = output.stop == 'hold'
        self._measured_topic = output.measured_topic
        self._measured: dict[str, tuple[float, float]] = {}
        self._sent_at = now
        self.forget()

    def forget(self) -> None:
        """Count on nothing that was sent, as another source may have moved the robot since."""
        self._rates = dict.fromkeys(self._limits, 0.0)
        # Nothing in it: it is not known where the joints are.
        self._sent: Values = {} if self._holds else dict.fromkeys(self._limits, 0.0)

    def note_measured(self, positions: Mapping[str, float], age: float, now: float) -> None:
        """
        Register measured positions of some joints; NaN is one that is unknown.

        :param age: Time since they were measured, by their stamp [s].
        """
        # Written so that NaN is refused.
        if -LEAD <= age <= FRESH:
            self._measured.update({
                name: (position, now - max(age, 0.0)) for name, position in positions.items()
                if name in self._limits})

    def reason(self, now: float) -> str:
        """Return in words why nothing can be sent; '' if it is known where to begin."""
        if self._sent:
            return ''
        for name, limits in self._limits.items():
            position, at = self._measured.get(name, (math.nan, -math.inf))
            if now - at > FRESH or not math.isfinite(position):
                return (f"no position of '{name}' was measured within {FRESH:g} s: check that "
                        f"'{self._measured_topic}' has it as a number, stamped by this clock")
            if abs(position - limits.clip(position)) > limits.rate * START_WITHIN:
                return (f"'{name}' is measured at {position:g}, beyond its limits from "
                        f'{limits.lowest:g} to {limits.highest:g}: move it back, or correct '
                        'lowest and highest of the output')
        return ''

    def fault(self, command: Mapping[str, float]) -> str:
        """Return in words what of a policy command cannot be obeyed; '' if all of it can (G3)."""
        if missing := [name for name in self._limits if name not in command]:
            return f"policy command has no number for {', '.join(missing)}"
        if len(command) > len(self._limits):
            stranger = next(name for name in command if name not in self._limits)
            return (f"policy command is for '{printable(stranger)}' too, which is not among the "
                    f"names of the output, {', '.join(self._limits)}")
        # NaN compares false.
        if wrong := [f"{value} for '{name}'" for name, value in command.items()
                     if not abs(value) <= FLOAT_MAX]:
            return (f"policy command is {', '.join(wrong)}; only numbers within float range reach "
                    'the actuators')
        return ''

    def limit(self, command: Mapping[str, float], now: float, settings: GateSettings) -> Values:
        """
        Return what may be sent now, and register it as sent.

        :param command: One without a ``fault``, at a time without a ``reason``.
        """
        # At most two periods, so that a stall licenses no jump; at least 0, whatever the clock.
        elapsed = min(max(now - self._sent_at, 0.0), 2 * settings.camera_period)
        sent = {}
        for name, value in self._place(now).items():
            sent[name], self._rates[name] = self._limits[name].approach(
                value, self._rates[name], command[name], elapsed)
        self._sent, self._sent_at = sent, now
        return sent

    def brake(self, now: float, settings: GateSettings) -> Values:
        """
        Return the next step of a stop that was asked for, and register it as sent (G10).

        Velocities and efforts decrease together, none faster than its ``max_rate``, so that the
        robot stays on its path. Positions are held: immediately, or where they have a
        ``max_acceleration`` after the way that it takes to slow down by it. All of the time since
        the last command counts.
        """
        elapsed, sent = max(now - self._sent_at, 0.0), self._sent
        if self._holds:
            self._rates = {name: limits.slow_down(self._rates[name], elapsed)
                           for name, limits in self._limits.items()}
            self._sent = {name: self._limits[name].clip(value + self._rates[name] * elapsed)
                          for name, value in sent.items()}
        else:
            self._rates = dict.fromkeys(self._limits, 0.0)
            before = max(abs(value) / self._limits[name].rate for name, value in sent.items())
            share = max(before - elapsed, 0.0) / before if before else 0.0
            self._sent = {name: value * share + 0.0 for name, value in sent.items()}
        self._sent_at = now
        return self._sent

    @property
    def at_rest(self) -> bool:
        """Whether what was sent last keeps the robot where it is."""
        return not any((self._rates if self._holds else self._sent).values())

    def stop(self, now: float) -> Values | None:
        """Return the emergency stop and register it as sent; None if no position is known."""
        place = self._place(now)
        self.forget()
        if self._holds:
            self._sent = place
        self._sent_at = now
        return self._sent or None

    def _place(self, now: float) -> Values:
        """Return what was sent last, else where the joints are measured; empty if unknown."""
        if self._sent or self.reason(now):
            return self._sent
        return {name: limits.clip(self._measured[name][0])
                for name, limits in self._limits.items()}
