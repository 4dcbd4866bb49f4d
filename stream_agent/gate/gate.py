"""The gate itself: a verdict for every policy command, and for every zero that is due."""

from collections import Counter
from enum import Enum, IntEnum
import math
from typing import NamedTuple

from stream_agent.gate.faults import CLEAR_AFTER, Fault, Faults, LATCH_AFTER
from stream_agent.gate.limits import (
    AnyCommand, CLAMP_SHARE, CLAMP_WINDOW, ClampShare, CommandLimiter, Limiter)
from stream_agent.gate.settings import GateSettings
from stream_agent.gate.simulated_time import SimulatedTime
from stream_agent.gate.sources import Sources
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
    CONTESTED = 'contested'
    ASKED = 'stops_asked'
    BRAKING = 'braking'
    JUMPED = 'time_jumps'
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

    command: AnyCommand | None
    outcome: Outcome
    level: Level = Level.OK
    message: str = ''


class Gate:
    """
    Everything between a policy command and what obeys it, in simulated or real time.

    Whoever owns the gate calls ``on_command`` for every policy command, ``on_stop_asked`` for
    every stop that a policy asks for, and ``on_timer`` at least every 0.05 s, and sends what the
    verdicts say. Until the first policy command the
    verdicts of the timer are zeros (G1; see Watchdog for the reason). Zero stands for what a
    stop is: where positions are commanded, the one that was sent last.

    :param settings: May be replaced at any time.
    :param now: Steady time [s], as in all methods.
    :param limiter: Of what is guarded; None for a base.
    """

    def __init__(self, settings: GateSettings, now: float,
                 limiter: CommandLimiter | None = None) -> None:
        self.settings = settings
        self.counts: Counter[Outcome] = Counter()
        self._limiter: CommandLimiter = limiter or Limiter(now)
        self._watchdog = Watchdog(now)
        self._faults = Faults()
        self._stop_input = StopInput()
        self._sources = Sources()
        self._publishers = 0
        self._unnumbered = False
        self._simulated_time = SimulatedTime()
        self._clamps = ClampShare()
        self._driven = False
        self._braking = False
        self._asked = False
        self._said: dict[tuple[Outcome, Fault], float] = {}

    @property
    def fault(self) -> Fault:
        """Whether policy commands are withheld, and until when."""
        return self._faults.state

    def reset_fault(self) -> None:
        """
        End a fault (G8); the next good policy command drives again, from standstill.

        Publishers of the stop input that have left are no longer expected (G12), and those of
        policy commands are counted from now on (G11).
        """
        self._faults.reset()
        self._sources = Sources()
        self._stop_input.forget()

    def note_publishers(self, commands: int, stop_input: int, now: float) -> None:
        """Register how many publishers policy commands and stop input have (G11, G12)."""
        self._publishers = commands
        self._stop_input.note_publishers(stop_input, now, self.settings)

    def note_simulated_time(self, value: int | None, now: float) -> None:
        """Register a reading of simulated time [ns]; None where time is real (T1)."""
        self._simulated_time.note(value, now)

    def on_command(self, command: AnyCommand, age: float, now: float, number: int | None = None
                   ) -> Verdict:
        """
        Judge a policy command.

        :param command: Of the kind that the limiter takes.
        :param age: ROS time now minus the stamp of the command's frame [s]; negative if the
            stamp is in the future.
        :param number: The message's sequence number, if the middleware has one (G11).
        """
        self._unnumbered = number is None
        if self._sources.hear(number, now, self.settings.command_timeout) > 1:
            return self._refuse_contested(now)
        # Content is checked before time: a policy that computes NaN is broken at any age.
        if fault := self._limiter.fault(command):
            return self._refuse_invalid(fault, now)
        # Written so that NaN is refused. What is refused does not feed the watchdog.
        if not -self.settings.max_lead <= age <= self.settings.max_age:
            return self._refuse_untimely(age, now)
        withheld = self.fault is not Fault.NONE
        self._faults.note_good()
        if withheld:
            return self._withhold(Outcome.WITHHELD)
        if self._reason_to_hold(now):
            return self._hold(now) or self._withhold(Outcome.HELD)
        self._forget_if_released(now)
        if reason := self._limiter.reason(now):
            return self._tell(None, Outcome.HELD, now, Level.WARN, f'nothing is sent: {reason}')
        return self._pass_on(command, now)

    def on_stop_asked(self, now: float, number: int | None = None) -> Verdict:
        """
        Begin a stop that the policy asks for, by ``stop_deceleration`` (G10).

        It counts whatever its stamp says, and a later policy command ends it.

        :param number: As of ``on_command``.
        """
        # Another policy may drive from now on.
        self._sources.leave(number, now, self.settings.command_timeout)
        verdict = self._withhold(Outcome.ASKED)
        self._asked = True
        if self._watchdog.stopped:
            return verdict
        self._braking = True
        return self._brake(now)

    def on_stop_input(self, stop: bool, now: float, number: int | None = None
                      ) -> Verdict | None:
        """
        Handle the stop input; return a zero if that stops the robot (G8).

        :param number: As of ``on_command`` (G12).
        """
        self._stop_input.hear(stop, now, self.settings, number)
        return self._hold(now)

    def on_time_jump(self, seconds: float, now: float) -> Verdict | None:
        """
        Stop the robot as simulated time has jumped (T1).

        :param seconds: By how much; negative if it went back.
        """
        if self._watchdog.stopped:
            return None
        return self._tell(
            self._halt(now), Outcome.JUMPED, now, Level.WARN,
            f'simulated time has jumped by {seconds:.3f} s, so the robot is stopped')

    def on_timer(self, now: float) -> Verdict | None:
        """Return a zero if one is due: commands are missing, or a stop is repeated (G1, G8)."""
        if held := self._hold(now):
            return held
        if self._braking:
            return self._brake(now)
        if self._watchdog.starved(now, self.settings):
            return self._tell(
                self._halt(now), Outcome.TIMEOUT, now, Level.WARN,
                f'no fresh policy command for {self.settings.command_timeout:g} s, so the robot '
                'is stopped: check that camera and agent run')
        if (self._watchdog.repeat(now, self.settings)
                and (sent := self._limiter.stop(now)) is not None):
            self.counts[Outcome.STOPPED] += 1
            return Verdict(sent, Outcome.STOPPED)
        return None

    def last_stop(self, now: float) -> AnyCommand | None:
        """Return what to send as the gate ends (P2); None if nothing is known that would stop."""
        return self._halt(now)

    def health(self, now: float) -> tuple[Level, str]:
        """Return the state of the gate in a sentence, and how severe it is."""
        if self.fault is Fault.LATCHED:
            return Level.ERROR, (f'shut by {LATCH_AFTER} invalid policy commands in a row: check '
                                 'the policy, then call ~/reset_fault')
        if self.fault is Fault.CONTESTED:
            return Level.ERROR, ('shut as policy commands came from more than one source: stop '
                                 'all but one, then call ~/reset_fault')
        if self.fault is Fault.TRANSIENT:
            return Level.ERROR, (f'shut by an invalid policy command until {CLEAR_AFTER} good '
                                 'ones arrive in a row')
        if reason := self._reason_to_hold(now) or self._limiter.reason(now):
            return Level.WARN, f'stopped: {reason}'
        if not self._driven:
            return Level.OK, 'waiting for the first policy command'
        if self._asked:
            return Level.OK, 'stopped, as the policy asked for it'
        if self._watchdog.stopped:
            return Level.WARN, 'stopped, as no fresh policy command arrives'
        share = self._clamps.share(now)
        if share > CLAMP_SHARE:
            return Level.WARN, f'{share:.0%} of the policy commands are clamped'
        return Level.OK, 'passing policy commands on'

    def _forget_if_released(self, now: float) -> None:
        """Start anew once the robot was left to another source."""
        if self._watchdog.released(now, self.settings):
            self._limiter.forget()

    def _halt(self, now: float) -> AnyCommand | None:
        """Begin a stop with the emergency zero, which is returned."""
        self._forget_if_released(now)
        self._braking = False
        self._watchdog.stop(now, self.settings)
        return self._limiter.stop(now)

    def _brake(self, now: float) -> Verdict:
        """Go on with a stop that was asked for; at its end it is like any other."""
        self.counts[Outcome.BRAKING] += 1
        sent = self._limiter.brake(now, self.settings)
        return Verdict(self._halt(now) if self._limiter.at_rest else sent, Outcome.BRAKING)

    def _reason_to_hold(self, now: float) -> str:
        """Return in words why nothing may drive, whatever the policy says; '' if it may."""
        if self._simulated_time.stands(now, self.settings.command_timeout):
            return f'simulated time has not advanced for {self.settings.command_timeout:g} s'
        if self._unnumbered and self._publishers > 1:
            return (f'policy commands have {self._publishers} publishers, and the middleware '
                    'does not number their messages, so that the gate cannot tell who sends')
        return self._stop_input.reason(now, self.settings)

    def _hold(self, now: float) -> Verdict | None:
        """Stop a robot that drives although something forbids it."""
        reason = self._reason_to_hold(now)
        if not reason or self._watchdog.stopped:
            return None
        return self._tell(self._halt(now), Outcome.HELD, now, Level.WARN,
                          f'{reason}, so the robot is stopped')

    def _withhold(self, outcome: Outcome) -> Verdict:
        """Count a message that is answered with nothing."""
        self.counts[outcome] += 1
        return Verdict(None, outcome)

    def _pass_on(self, command: AnyCommand, now: float) -> Verdict:
        sent = self._limiter.limit(command, now, self.settings)
        self._watchdog.feed(now)
        self._driven = True
        self._braking = self._asked = False
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

    def _refuse_invalid(self, fault: str, now: float) -> Verdict:
        """Answer a command that cannot be obeyed with zero (G3)."""
        was_latched = self.fault.needs_reset
        self._faults.note_invalid()
        text = f'{fault}, so the robot is stopped: check the policy'
        if self.fault is Fault.LATCHED:
            text += f'; after {LATCH_AFTER} in a row, call ~/reset_fault too'
        # Once latched, the stop keeps being repeated, or has ended by a release.
        sent = None if was_latched else self._halt(now)
        return self._tell(sent, Outcome.INVALID, now, Level.ERROR, text)

    def _refuse_contested(self, now: float) -> Verdict:
        """Answer a command with zero because others come from somebody else (G11)."""
        was_latched = self.fault.needs_reset
        self._faults.note_contested()
        return self._tell(
            None if was_latched else self._halt(now), Outcome.CONTESTED, now, Level.ERROR,
            'policy commands come from more than one source, so the robot is stopped: stop all '
            'but one, then call ~/reset_fault')

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

    def _tell(self, sent: AnyCommand | None, outcome: Outcome, now: float, level: Level,
              text: str) -> Verdict:
        """Count the outcome; return the sentence unless it was returned just before."""
        self.counts[outcome] += 1
        # Separate for each fault state, so that a fault that latches is always logged.
        topic = (outcome, self.fault)
        if not text or now - self._said.get(topic, -math.inf) < SAY_PERIOD:
            return Verdict(sent, outcome)
        self._said[topic] = now
        return Verdict(sent, outcome, level, text)
