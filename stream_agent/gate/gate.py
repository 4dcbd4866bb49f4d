"""The gate itself: a verdict for every policy command, and for every zero that is due."""

from collections import Counter
from enum import Enum, IntEnum
import math
from typing import NamedTuple

from stream_agent.command import Command
from stream_agent.gate.faults import CLEAR_AFTER, Fault, Faults, LATCH_AFTER
from stream_agent.gate.limits import CLAMP_SHARE, CLAMP_WINDOW, ClampShare, is_finite, Limiter
from stream_agent.gate.settings import GateSettings
from stream_agent.gate.stop_input import StopInput
from stream_agent.gate.watchdog import Watchdog

# What goes wrong on every frame is logged once a second (G6).
SAY_PERIOD = 1.0


class Outcome(Enum):
    """What happened to a policy command, or why a zero is sent without one."""

    PASSED = 'passed'
    CLAMPED = 'clamped'
    STALE = 'stale'
    FUTURE = 'future'
    INVALID = 'invalid'
    WITHHELD = 'withheld'
    HELD = 'held'
    TIMEOUT = 'timeouts'
    STOPPED = 'stopped'


class Level(IntEnum):
    """The severity of a message; the numbers are those of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


class Verdict(NamedTuple):
    """
    What to send and to log now.

    :param command: The command to send immediately; None if nothing needs to be sent.
    :param message: A sentence to log at this level; '' if there is none, or if it was logged
        within the last second.
    """

    command: Command | None
    outcome: Outcome
    level: Level = Level.OK
    message: str = ''


class Gate:
    """
    Everything between a policy command and the wheels, in simulated or real time.

    Whoever owns the gate calls ``on_command`` for every policy command and ``on_timer`` at
    least every 0.05 s, and sends what the verdicts say. Until the first policy command the
    verdicts of the timer are zeros (G1; see Watchdog for the reason).

    :param settings: May be replaced at any time.
    :param now: Steady time [s], as in all methods.
    """

    def __init__(self, settings: GateSettings, now: float) -> None:
        self.settings = settings
        self.counts = Counter(dict.fromkeys(Outcome, 0))
        self._limiter = Limiter(now)
        self._watchdog = Watchdog(now)
        self._faults = Faults()
        self._stop_input = StopInput()
        self._clamps = ClampShare()
        self._driven = False
        self._said = {}

    @property
    def fault(self) -> Fault:
        """Whether policy commands are withheld, and until when."""
        return self._faults.state

    def reset_fault(self) -> None:
        """End a fault (G8); the next good policy command drives again, from standstill."""
        self._faults.reset()

    def on_command(self, command: Command, age: float, now: float) -> Verdict:
        """
        Judge a policy command.

        :param age: ROS time now minus the stamp of the command's frame [s]; negative if the
            stamp is in the future.
        """
        # Content is checked before time: a policy that computes NaN is broken at any age.
        if not is_finite(command):
            return self._refuse_invalid(command, now)
        # Written so that NaN is refused. What is refused does not feed the watchdog.
        if not -self.settings.max_lead <= age <= self.settings.max_age:
            return self._refuse_untimely(age, now)
        withheld = self.fault is not Fault.NONE
        self._faults.note_good()
        if withheld:
            self.counts[Outcome.WITHHELD] += 1
            return Verdict(None, Outcome.WITHHELD)
        if self._stop_input.reason(now, self.settings):
            return self._hold(now) or self._tell(None, Outcome.HELD, now, Level.OK, '')
        return self._pass_on(command, now)

    def on_stop_input(self, stop: bool, now: float) -> Verdict | None:
        """Handle the stop input; return a zero if that stops the robot (G8)."""
        self._stop_input.hear(stop, now)
        return self._hold(now)

    def on_timer(self, now: float) -> Verdict | None:
        """Return a zero if one is due: commands are missing, or a stop is repeated (G1, G8)."""
        if held := self._hold(now):
            return held
        if self._watchdog.starved(now, self.settings):
            self._watchdog.stop(now, self.settings)
            return self._tell(
                self._limiter.stop(now), Outcome.TIMEOUT, now, Level.WARN,
                f'no fresh policy command for {self.settings.command_timeout:g} s, so the robot '
                'is stopped: check that camera and agent run')
        if self._watchdog.repeat(now, self.settings):
            self.counts[Outcome.STOPPED] += 1
            return Verdict(self._limiter.stop(now), Outcome.STOPPED)
        return None

    def health(self, now: float) -> tuple[Level, str]:
        """Return the state of the gate in a sentence, and how severe it is."""
        if self.fault is Fault.LATCHED:
            return Level.ERROR, (f'shut by {LATCH_AFTER} invalid policy commands in a row: check '
                                 'the policy, then call ~/reset_fault')
        if self.fault is Fault.TRANSIENT:
            return Level.ERROR, (f'shut by an invalid policy command until {CLEAR_AFTER} good '
                                 'ones arrive in a row')
        if reason := self._stop_input.reason(now, self.settings):
            return Level.WARN, f'stopped: {reason}'
        if not self._driven:
            return Level.OK, 'waiting for the first policy command'
        if self._watchdog.stopped:
            return Level.WARN, 'stopped, as no fresh policy command arrives'
        share = self._clamps.share(now)
        if share > CLAMP_SHARE:
            return Level.WARN, f'{share:.0%} of the policy commands are clamped'
        return Level.OK, 'passing policy commands on'

    def _hold(self, now: float) -> Verdict | None:
        """Stop a robot that drives although the stop input forbids it."""
        reason = self._stop_input.reason(now, self.settings)
        if not reason or self._watchdog.stopped:
            return None
        self._watchdog.stop(now, self.settings)
        return self._tell(self._limiter.stop(now), Outcome.HELD, now, Level.WARN,
                          f'{reason}, so the robot is stopped')

    def _pass_on(self, command: Command, now: float) -> Verdict:
        sent = self._limiter.limit(command, now, self.settings)
        self._watchdog.feed(now)
        self._driven = True
        clamped = sent != command
        self._clamps.add(clamped, now)
        self.counts[Outcome.PASSED] += 1
        if not clamped:
            return Verdict(sent, Outcome.PASSED)
        share = self._clamps.share(now)
        level = Level.WARN if share > CLAMP_SHARE else Level.OK
        return self._tell(
            sent, Outcome.CLAMPED, now, level,
            f'{share:.0%} of the policy commands of the last {CLAMP_WINDOW:g} s were clamped: '
            'check that policy and gate have the same limits (G6)' if level else '')

    def _refuse_invalid(self, command: Command, now: float) -> Verdict:
        """Answer a command that is not finite with zero (G3)."""
        was_latched = self.fault is Fault.LATCHED
        self._faults.note_invalid()
        text = (f'policy command is ({command.speed}, {command.yaw_rate}); only numbers within '
                'float range reach the wheels, so the robot is stopped: check the policy')
        if self.fault is Fault.LATCHED:
            text += f'; after {LATCH_AFTER} in a row, call ~/reset_fault too'
        sent = None
        # Once latched, the stop keeps being repeated, or has ended by a release.
        if not was_latched:
            self._watchdog.stop(now, self.settings)
            sent = self._limiter.stop(now)
        return self._tell(sent, Outcome.INVALID, now, Level.ERROR, text)

    def _refuse_untimely(self, age: float, now: float) -> Verdict:
        """Do not pass on the answer to a frame that is too old or from the future (G2)."""
        self._faults.note_unusable()
        if age < 0:
            return self._tell(
                None, Outcome.FUTURE, now, Level.WARN,
                f'policy command answers a frame {-age:.3f} s in the future; at most '
                f'{self.settings.max_lead:g} s pass: synchronise the clocks of camera and gate')
        return self._tell(
            None, Outcome.STALE, now, Level.WARN,
            f'policy command answers a frame {age:.3f} s old; at most '
            f'{self.settings.max_age:g} s pass: check the load, and the clocks')

    def _tell(self, sent: Command | None, outcome: Outcome, now: float, level: Level,
              text: str) -> Verdict:
        """Count the outcome; return the sentence unless it was returned just before."""
        self.counts[outcome] += 1
        # Separate for each fault state, so that a fault that latches is always logged.
        topic = (outcome, self.fault)
        if not text or now - self._said.get(topic, -math.inf) < SAY_PERIOD:
            return Verdict(sent, outcome)
        self._said[topic] = now
        return Verdict(sent, outcome, level, text)
