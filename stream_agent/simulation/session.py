"""A simulated drive from its first image to its last: waiting, probing, driving."""

from dataclasses import dataclass
from enum import auto, Enum

import numpy as np
from stream_agent.bounded_settings import check, choice, quantity
from stream_agent.command import Command, STOP
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment, SAME_INSTANT, SimulatedFrame
from stream_agent.simulation.vehicle import VehicleDisturbance

# A vehicle that is held still sees these two places in turn: lateral [m], heading [rad].
PROBE_PLACES = ((0.06, 0.15), (-0.06, -0.15))
# Frames between two changes; irregular, so that nothing can fall into step with them.
PROBE_FRAMES = (15, 21)


@dataclass(frozen=True)
class SessionSchedule:
    """
    What happens in a simulation, and when.

    :raises SettingsError: If a number is outside its range, or a word not among those allowed.
    """

    course_seed: int = quantity(
        FIRST_HELD_OUT_SEED, '', 0, 2**31 - 1, 'another number, another course; from '
        f'{FIRST_HELD_OUT_SEED} on, training has seen none')
    duration: float = quantity(0.0, 's', 0.0, 1e6, 'of the drive; 0: until stopped')
    pacing: str = choice(
        'realtime', 'realtime: frames come when they are due; lockstep: each waits for the '
        'command that answers the one before', ('realtime', 'lockstep'))
    lockstep_timeout: float = quantity(
        1.0, 's', 0.01, 60.0, 'after which lockstep continues without an answer')
    start_subscribers: int = quantity(
        1, '', 1, 100, 'subscribers of image to wait for before the drive starts')
    start_delay: float = quantity(
        0.0, 's', 0.0, 60.0, 'from the first command until the drive starts, as those who watch '
        'may still be discovering each other')
    start_timeout: float = quantity(
        60.0, 's', 0.0, 3600.0, 'after which the drive starts anyway; 0: never')
    probe_changes: int = quantity(
        6, '', 0, 1000, 'sudden changes of the scene before the drive, seen by a vehicle that is '
        'held still; 0: none')
    command_timeout: float = quantity(
        0.0, 's', 0.0, 60.0, 'without a command after which the vehicle stops by itself; 0: '
        'never, as it is with many bases')
    pushes: float = quantity(
        0.0, 'rad/s', 0.0, 3.0, 'largest yaw rate by which the vehicle is pushed off its way now '
        'and then, so that a driver who is recorded shows the way back; 0: never')
    publish_clock: bool = choice(
        False, 'publish /clock, and stamp everything by the simulated time')

    def __post_init__(self) -> None:
        check(self)


class Phase(Enum):
    """What the vehicle is doing."""

    WAITING = auto()
    PROBING = auto()
    DRIVING = auto()
    OVER = auto()


class Session:
    """
    One drive in an environment, which was just reset.

    The vehicle is at rest until ``begin``, is then held in changing places (the probes), and
    drives after that, for the schedule's duration. If it leaves the lane it is put back.
    """

    def __init__(self, environment: DrivingEnvironment, schedule: SessionSchedule) -> None:
        self.environment = environment
        self.schedule = schedule
        self.phase = Phase.WAITING
        self.departures = 0
        self._rng = np.random.default_rng([schedule.course_seed, 4])
        self._disturbance = VehicleDisturbance(
            np.random.default_rng([schedule.course_seed, 5]), schedule.pushes)
        self._push = 0.0
        self._changes = self._frames_left = 0
        self._changed_at: float | None = None
        self._lateral_errors: list[float] = []
        self._first_lap: float | None = None
        self._laps = 0.0

    def begin(self) -> None:
        """End the waiting."""
        self.phase = Phase.PROBING
        # With noise, no two images would be alike, and none could be seen to have changed.
        self.environment.quiet = True
        if self.schedule.probe_changes:
            self._frames_left = int(self._rng.integers(*PROBE_FRAMES))
        else:
            self._begin_drive()

    def _begin_drive(self) -> None:
        self.phase = Phase.DRIVING
        self.environment.quiet = False
        self.environment.place()
        self._started = self._last_command = self.environment.time

    def send(self, command: Command, after: float = 0.0) -> None:
        """Let the vehicle follow a command, if it drives; as ``DrivingEnvironment.send``."""
        if self.phase is Phase.DRIVING:
            if self._push and command != STOP:
                command = command._replace(yaw_rate=command.yaw_rate + self._push)
            self.environment.send(command, after)
            self._last_command = self.environment.time + max(after, 0.0)

    def skip(self) -> None:
        """Advance by one camera period without making the frame's image."""
        if self.phase is Phase.DRIVING:
            self._stop_without_commands()
        self.environment.skip()

    def advance(self) -> tuple[SimulatedFrame, bool]:
        """Return the next frame, and whether it is the first that shows a changed scene."""
        if self.phase is Phase.PROBING:
            self._probe()
        if self.phase is Phase.DRIVING:
            self._stop_without_commands()
            self._push = self._disturbance.advance()
        frame = self.environment.advance()
        if self.phase is Phase.DRIVING:
            self._note(frame)
        changed = self._changed_at is not None and frame.time > self._changed_at + SAME_INSTANT
        if changed:
            self._changed_at = None
        return frame, changed

    def _probe(self) -> None:
        """Count frames down to the next change of the scene, or to the drive."""
        self._frames_left -= 1
        if self._frames_left > 0:
            return
        if self._changes == self.schedule.probe_changes:
            self._begin_drive()
            return
        self.environment.place(*PROBE_PLACES[self._changes % 2])
        self._changed_at = self.environment.time
        self._changes += 1
        self._frames_left = int(self._rng.integers(*PROBE_FRAMES))

    def _stop_without_commands(self) -> None:
        """Stop exactly when the last command becomes too old."""
        timeout, environment = self.schedule.command_timeout, self.environment
        stops = self._last_command + timeout - environment.time
        if timeout > 0.0 and stops < environment.settings.period:
            environment.send(STOP, stops)

    def _note(self, frame: SimulatedFrame) -> None:
        """Keep account of the drive, put the vehicle back, and end in time."""
        now = frame.now
        if self._first_lap is None:
            self._first_lap = now.laps
        self._laps = now.laps - self._first_lap
        self._lateral_errors.append(now.lateral_error)
        if now.departed:
            self.departures += 1
            self.environment.place(speed=self.environment.settings.target_speed)
        duration = self.schedule.duration
        if duration and now.time - self._started >= duration - SAME_INSTANT:
            self.phase = Phase.OVER

    @property
    def summary(self) -> str:
        """One line about the drive."""
        if not self._lateral_errors:
            return 'no drive'
        driven = self.environment.time - self._started
        rms = float(np.sqrt(np.mean(np.square(self._lateral_errors))))
        return (f'drove {self._laps:.2f} laps in {driven:.1f} s: lateral RMS {rms:.4f} m, '
                f'{self.departures} departures')
