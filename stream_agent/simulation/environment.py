"""The driving environment: commands in, what sensors see out, with delays, exact in time."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
import math
from operator import attrgetter
from typing import Any

import numpy as np
from stream_agent.command import Command, STOP
from stream_agent.contract.conversions import Scan
from stream_agent.simulation.course import Course
from stream_agent.simulation.expert import PurePursuit
from stream_agent.simulation.sensors import Sensed, Sensors
from stream_agent.simulation.settings import SimulationSettings
from stream_agent.simulation.signs import SpeedCommand
from stream_agent.simulation.vehicle import Bicycle, DifferentialDrive, Motion, Pose
from stream_agent.simulation.view import Scene

# Instants nearer than this [s] are the same: far above rounding, far below all that matters.
SAME_INSTANT = 1e-9
NO_SIGN = SpeedCommand(0, None, math.inf)


class CommandError(ValueError):
    """A command that no vehicle can follow; the message says what it is."""


@dataclass(slots=True)
class Moment:
    """
    The vehicle on its course at one instant.

    :param time: Since the reset [s].
    :param speed: Forward [m/s].
    :param yaw_rate: [rad/s], positive to the left.
    :param reference: What the expert commands at this pose.
    :param lateral_error: Distance from the centre line [m], positive to the left.
    :param progress: Driven along the course since the reset [m].
    :param laps: The progress in lengths of the course.
    :param departed: Whether the vehicle's pose is beyond a border.
    :param along: Place along the course [m], laps included; it grows where the vehicle is put.
    :param sign: Number of the speed command in force, 0 without signs.
    :param since_sign: Driven since that came into force [m]; infinite without signs.
    :param acceleration: Forward [m/s2].
    """

    time: float
    pose: Pose
    speed: float
    yaw_rate: float
    reference: Command
    lateral_error: float
    progress: float
    laps: float
    departed: bool
    along: float
    sign: int
    since_sign: float
    acceleration: float


fields_of: Callable[[Moment], tuple[Any, ...]] = attrgetter(*(
    field.name for field in fields(Moment)))


@dataclass(slots=True)
class SimulatedFrame(Moment):
    """
    What all sensors measured at one moment, that of the camera image's capture.

    :param image: uint8, (H, W), or (H, W, 3) in RGB order; None without a camera.
    :param now: The moment at which the frame is handed out: the camera's delay later.
    :param sensed: By type of message and field, such as 'twist.twist.linear.x' in
        'nav_msgs/msg/Odometry': of wheel odometry and of an IMU, both at the axle.
    :param scan: None without a scanner.
    """

    image: Any
    now: Moment
    sensed: Sensed
    scan: Scan | None


class DrivingEnvironment:
    """
    One vehicle on one course, advancing by one camera period per step.

    Time is exact: commands act, and images are captured, at their own instants and not at
    the next step. At the reset the vehicle is at rest on the centre line. A capture that a
    camera's delay puts before the reset has a negative time and shows that start. The other
    sensors measure at the captures, with the camera's delay.

    :param seed: Of the course and its look.
    :param compiled: As for ``Scene``: for many images, as compiling takes seconds at first.
    :param camera: Whether frames have an image, which is most of the work.
    :ivar quiet: Whether images have neither noise nor blur nor flicker.
    :ivar scene: The present course and its look, with the camera as it is mounted.
    :ivar now: The present moment, also where its image is not seen.
    """

    def __init__(self, settings: SimulationSettings, seed: int, compiled: bool = False,
                 camera: bool = True) -> None:
        self.settings = settings
        self._period = settings.period
        self._compiled, self._camera = compiled, camera
        self.quiet = False
        self._seed = seed
        self._expert = PurePursuit(settings.target_speed, settings.look_ahead,
                                   settings.max_yaw_rate)
        self._scene_key: tuple[int, int] | None = None
        self.reset()

    @property
    def course(self) -> Course:
        """Return the present course."""
        return self.scene.course

    @property
    def time(self) -> float:
        """Seconds since the reset."""
        return self._steps * self._period

    def reset(self, seed: int | None = None, look_seed: int | None = None) -> SimulatedFrame:
        """
        Start anew at the beginning of a course and return the first frame, at time 0.

        :param seed: Of the course; that of the last reset if None.
        :param look_seed: Of everything that is seen; the course's seed if None.
        """
        self._seed = self._seed if seed is None else seed
        key = self._seed, self._seed if look_seed is None else look_seed
        if key != self._scene_key:
            self.scene = Scene(self.settings, *key, self._compiled, self._camera)
            self._sensors, self._scene_key = Sensors(self.settings, self.course, key[1]), key
        if self._camera:
            self.scene.sensor.restart()
        self._steps, self._clock = 0, 0.0
        self._command = STOP
        self._commands: deque[tuple[float, Command]] = deque()
        self._vehicle = make_vehicle(self.settings)
        self._arc_length = self._along = self._progress = 0.0
        self.place()
        self.now = self._observe(0.0)
        self._captures_ahead = int(self.settings.camera_delay * self.settings.rate + 1e-6)
        self._captures = deque(
            replace(self.now, time=i * self._period - self.settings.camera_delay)
            for i in range(self._captures_ahead + 1))
        return self._picture(self._captures.popleft())

    def place(self, lateral: float = 0.0, heading: float = 0.0, arc_length: float | None = None,
              speed: float = 0.0) -> None:
        """
        Put the vehicle somewhere now; images that were already captured stay as they are.

        :param lateral: Offset from the centre line [m], positive to the left.
        :param heading: Offset from the centre line's heading [rad], positive to the left.
        :param arc_length: Along the course [m]; where the vehicle is if None.
        :param speed: Of the vehicle then [m/s].
        """
        along = self._arc_length if arc_length is None else arc_length % self.course.length
        x, y, yaw = self.course.pose_at(along)
        side = np.array([-np.sin(yaw), np.cos(yaw)]) * lateral
        self._vehicle.place(Pose(x + float(side[0]), y + float(side[1]), yaw + heading), speed)
        if arc_length is not None:
            # Signs that were passed are not met again.
            self._along += (along - self._along) % self.course.length
        self._arc_length = along

    def send(self, command: Command, after: float = 0.0) -> None:
        """
        Send a command at its own instant, to be followed until the next one acts.

        :param after: Time from now [s]. Commands do not overtake each other.
        :raises CommandError: If the command is not finite; it is not sent then.
        """
        if not (math.isfinite(command.speed) and math.isfinite(command.yaw_rate)):
            raise CommandError(f'command is ({command.speed} m/s, {command.yaw_rate} rad/s); '
                               'both must be finite numbers')
        acts = self.time + max(after, 0.0) + self.settings.actuator_delay
        self._commands.append((acts, command))

    def step(self, command: Command) -> SimulatedFrame:
        """Send a command now and return the next frame, one camera period later."""
        self.send(command)
        return self.advance()

    def advance(self) -> SimulatedFrame:
        """Return the next frame, one camera period later, under the commands sent before."""
        self._elapse()
        return self._picture(self._captures.popleft())

    def skip(self) -> None:
        """Advance by one camera period without making the frame."""
        self._elapse()
        self._captures.popleft()

    def _elapse(self) -> None:
        """Drive for one camera period and note the capture that falls into it."""
        self._steps += 1
        # Whatever the delay is, exactly one capture falls into every period.
        captured = ((self._steps + self._captures_ahead) * self._period
                    - self.settings.camera_delay)
        self._run_to(captured)
        self.now = self._observe(captured)
        self._captures.append(self.now)
        if self.time - captured > SAME_INSTANT:
            self._run_to(self.time)
            self.now = self._observe(self.time)

    def look(self) -> SimulatedFrame:
        """Take one more frame at the present moment and return it, without the delay."""
        self.now = self._observe(self.time)
        return self._picture(self.now)

    def _run_to(self, instant: float) -> None:
        """Drive until an instant [s]; commands change exactly when they act."""
        while True:
            while self._commands and self._commands[0][0] <= self._clock + SAME_INSTANT:
                self._command = self._commands.popleft()[1]
            until = min(instant, self._commands[0][0]) if self._commands else instant
            if until <= self._clock + SAME_INSTANT:
                return
            self._vehicle.step(self._command, until - self._clock)
            self._clock = until

    def _observe(self, time: float) -> Moment:
        """Find the vehicle on the course, where it is now."""
        motion = self._vehicle.motion
        arc_length, lateral_error = self.course.locate(motion.pose[:2], self._arc_length)
        length = self.course.length
        passed = (arc_length - self._arc_length + 0.5 * length) % length - 0.5 * length
        self._progress += passed
        self._along += passed
        self._arc_length = arc_length
        sign = self.scene.signs.command(self._along) if self.scene.signs else NO_SIGN
        reference = self._expert.command(self.course, motion.pose, arc_length, sign.speed)
        return Moment(time, *motion, reference, lateral_error, self._progress,
                      self._progress / length,
                      abs(lateral_error) > 0.5 * self.course.lane_width,
                      self._along, sign.number, sign.since, self._vehicle.acceleration)

    def _picture(self, moment: Moment) -> SimulatedFrame:
        """Return the frame of a moment."""
        image = None
        if self._camera:
            image = self.scene.photograph(
                Motion(moment.pose, moment.speed, moment.yaw_rate), self.settings.exposure,
                self.scene.signs.plates_ahead(moment.along) if self.scene.signs else (),
                moment.time, self.quiet)
        return SimulatedFrame(*(
            *fields_of(moment), image, self.now, self.sensed_at(moment),
            self._sensors.scan(moment.pose, self._number(moment), self.quiet)))

    def sensed_at(self, moment: Moment) -> Sensed:
        """Return what wheels and IMU say at a moment since the reset, as a frame's ``sensed``."""
        return self._sensors.sensed(Motion(moment.pose, moment.speed, moment.yaw_rate),
                                    moment.acceleration, self._number(moment), self.quiet)

    def _number(self, moment: Moment) -> int:
        """Return the number of the capture at a moment, or next to it; one falls into a period."""
        return round((moment.time + self.settings.camera_delay) * self.settings.rate)


def make_vehicle(settings: SimulationSettings) -> DifferentialDrive | Bicycle:
    """Make the vehicle that the settings name."""
    kind = {'differential': DifferentialDrive, 'bicycle': Bicycle}[settings.vehicle]
    return kind(speed_time_constant=settings.speed_time_constant,
                turn_time_constant=settings.turn_time_constant)
