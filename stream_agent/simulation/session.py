"""A simulated drive from its first image to its last: waiting, probing, driving."""

from dataclasses import dataclass
from enum import auto, Enum
import math
from typing import Any

import numpy as np
from stream_agent.bounded_settings import check, choice, free_text, quantity
from stream_agent.command import Command, STOP
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.drive_log import DriveTrace, LANE_BAND, RoadTask, SPEED_BAND
from stream_agent.simulation.environment import (
    DrivingEnvironment, Moment, SAME_INSTANT, SimulatedFrame)
from stream_agent.simulation.signs import (
    COMMAND_LENGTH, glyph_mask, GLYPHS, Signs, SPEEDS)
from stream_agent.simulation.vehicle import VehicleDisturbance

# A vehicle that is held still sees these two places in turn: lateral [m], heading [rad].
PROBE_PLACES = ((0.06, 0.15), (-0.06, -0.15))
# Frames between two changes; irregular, so that nothing can fall into step with them.
PROBE_FRAMES = (15, 21)
# One of so many points of the centre line is written into a drive file.
COURSE_STEP = 4


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
        1, '', 1, 100, 'subscribers of image, or of scan, to wait for before the drive starts')
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
    handover: float = quantity(
        0.0, 's', 0.0, 60.0, 'that the expert drives at the start and after a departure, which '
        'count for no policy; 0: the drive starts at rest')
    drive_file: str = free_text(
        '', 'JSON file for the path, the signs and the score, written at the end; empty: none',
        'FILE')
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
        self.departures = self.commands = self.stops = 0
        self.task = (RoadTask(environment.course.lane_width)
                     if environment.settings.signs else None)
        self._trace = DriveTrace() if schedule.drive_file else None
        self._rng = np.random.default_rng([schedule.course_seed, 4])
        self._disturbance = VehicleDisturbance(
            # As in the drives of ``evaluate``, so that both are pushed alike.
            np.random.default_rng(schedule.course_seed), schedule.pushes)
        self._push, self._by_expert, self._held = 0.0, False, STOP
        self._changes = self._frames_left = 0
        self._changed_at: float | None = None
        self._frames, self._sum_of_squares = 0, 0.0
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
        self._put_back(rolling=self.schedule.handover > 0.0)
        self._started = self._last_command = self.environment.time
        self._prepare()

    def _put_back(self, rolling: bool) -> None:
        """Put the vehicle on the lane's middle, where the expert may take the wheel."""
        environment = self.environment
        environment.place(speed=environment.now.reference.speed if rolling else 0.0)
        self._placed = environment.time
        if self.schedule.handover:
            # What the expert commands depends on where the vehicle is now.
            environment.look()

    def _prepare(self) -> None:
        """Decide who drives until the next frame, and what pushes the vehicle until then."""
        push, self._push = self._push, self._disturbance.advance()
        driven = self.environment.time - self._placed
        self._by_expert = driven < self.schedule.handover - SAME_INSTANT
        if self._by_expert:
            self._send(self.environment.now.reference)
        elif push != self._push:
            self._send(self._held)

    def send(self, command: Command, after: float = 0.0) -> None:
        """Let the vehicle follow a command, if it drives; as ``DrivingEnvironment.send``."""
        if self.phase is not Phase.DRIVING:
            return
        if not self._by_expert:
            self._send(command, after)
        self._last_command = self.environment.time + max(after, 0.0)
        self.commands += 1
        self.stops += command == STOP

    def _send(self, command: Command, after: float = 0.0) -> None:
        """Send a command with what pushes the vehicle; one that stops is not pushed."""
        pushed = command.yaw_rate + (0.0 if command == STOP else self._push)
        self.environment.send(command._replace(yaw_rate=pushed), after)
        self._held = command

    def skip(self) -> None:
        """Advance by one camera period without making the frame's image."""
        if self.phase is Phase.DRIVING:
            self._stop_without_commands()
        self.environment.skip()
        if self.phase is Phase.DRIVING:
            self._note(self.environment.now)

    def advance(self) -> tuple[SimulatedFrame, bool]:
        """Return the next frame, and whether it is the first that shows a changed scene."""
        if self.phase is Phase.PROBING:
            self._probe()
        if self.phase is Phase.DRIVING:
            self._stop_without_commands()
        frame = self.environment.advance()
        if self.phase is Phase.DRIVING:
            self._note(frame.now)
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
            self._send(STOP, stops)

    def _note(self, now: Moment) -> None:
        """Keep account of the drive, put the vehicle back, and end in time."""
        if self._first_lap is None:
            self._first_lap = now.laps
        self._laps = now.laps - self._first_lap
        if self.task:
            self.task.after(now, True, self._by_expert)
        if self._trace:
            self._trace.add(now, self.task, self._by_expert, self._push)
        if not self._by_expert:
            self._frames += 1
            self._sum_of_squares += now.lateral_error ** 2
            self.departures += now.departed
        if now.departed:
            self._put_back(rolling=True)
        duration = self.schedule.duration
        if duration and now.time - self._started >= duration - SAME_INSTANT:
            self.phase = Phase.OVER
        else:
            self._prepare()

    @property
    def summary(self) -> str:
        """One line about the drive."""
        if not self._frames:
            return 'no drive'
        task = (f', in the lane and at the right speed {100 * self.task.score:.1f} % of the time, '
                f'{sum(self.task.obeyed)} of {len(self.task.obeyed)} signs obeyed'
                if self.task else '')
        return (f'drove {self._laps:.2f} laps in {self.driven:.1f} s: lateral RMS '
                f'{self.lateral_rms:.4f} m, {self.departures} departures{task}')

    @property
    def driven(self) -> float:
        """How long the drive has lasted so far [s]."""
        return self.environment.time - self._started

    @property
    def lateral_rms(self) -> float:
        """Root mean square of the lateral error, where the expert did not drive [m]."""
        return math.sqrt(self._sum_of_squares / self._frames) if self._frames else math.nan

    def record(self) -> dict[str, Any]:
        """Return the drive as the drive file has it: figures, course, signs, and every frame."""
        environment, course = self.environment, self.environment.course
        task = self.task or RoadTask(course.lane_width)
        figures = {
            'course_seed': self.schedule.course_seed, 'pushes': self.schedule.pushes,
            'handover': self.schedule.handover, 'camera_period': environment.settings.period,
            'duration': self.driven, 'laps': self._laps, 'commands': self.commands,
            'stops': self.stops, 'departures': self.departures,
            'lateral_rms': self.lateral_rms, 'score': task.score,
            'speed_rms': float(np.sqrt(np.mean(np.square(task.speed_errors or math.nan)))),
            'signs_obeyed': task.signs_obeyed, 'obeyed': task.obeyed,
            'seconds_until_obeyed': task.seconds_until_obeyed}
        # JSON has no number for what is unknown.
        return {name: None if value != value else value for name, value in figures.items()} | {
            'lane_width': course.lane_width, 'lane_band': LANE_BAND, 'speed_band': SPEED_BAND,
            'course': course.points[::COURSE_STEP].round(3).tolist(),
            **signs_along(environment.scene.signs, environment.now.along),
            'frames': self._trace.columns if self._trace else {}}


def signs_along(signs: Signs | None, along: float) -> dict[str, Any]:
    """
    Return the signs that a drive passed: where the plates of a lap stand, and what all command.

    :param along: How far the drive went along the course [m].
    :returns: ``plates`` of the first lap; ``signs``, from where ``along`` the course they hold;
        ``glyphs``, how much ink is where, rows of 0 to 255.
    """
    if signs is None:
        return {'plates': [], 'signs': [], 'glyphs': {}}
    plates = [(*plate.corners.mean(axis=0).round(3).tolist()[:2], plate.glyph)
              for plate in signs.first_lap() if plate.glyph in GLYPHS]
    return {'plates': [{'x': x, 'y': y, 'glyph': glyph} for x, y, glyph in plates],
            'signs': [{'along': number * COMMAND_LENGTH, 'glyph': GLYPHS[signs.glyph(number)],
                       'speed': SPEEDS[signs.glyph(number) // 2]}
                      for number in range(math.floor(along / COMMAND_LENGTH) + 1)],
            'glyphs': {glyph: glyph_mask(glyph)[::2, ::2].tolist() for glyph in GLYPHS}}
