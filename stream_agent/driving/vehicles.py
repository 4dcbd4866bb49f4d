"""Vehicles that one driver drives side by side, on an emulated computer or in real time."""

from collections import deque
from collections.abc import Callable, Sequence
import math
import time

from stream_agent.command import Command, STOP
from stream_agent.driving.compute_model import Timeline
from stream_agent.driving.drivers import Driver
from stream_agent.simulation.drive_log import DriveLog
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.vehicle import VehicleDisturbance


class CommandDelayLine:
    """
    Commands on their way to one vehicle; each acts from when it is out until the next one does.

    :param kept: How many of the last commands are remembered.
    """

    def __init__(self, environment: DrivingEnvironment, kept: int = 0) -> None:
        self._environment = environment
        self._period = environment.settings.period
        self._in_flight: deque[tuple[float, Command]] = deque()
        self._out: deque[tuple[float, Command]] = deque(maxlen=kept)
        self._held = STOP

    def add(self, command: Command, at: float) -> None:
        """Let a command act at a time [s] since the environment's reset, not in the past."""
        self._in_flight.append((at, command))

    def forget(self, held: Command) -> None:
        """Drop what is in flight and what was sent; follow one command until the next."""
        self._in_flight.clear()
        self._out.clear()
        self._held = held

    def commands_before(self, time: float) -> list[Command]:
        """Return the last commands that are out by a time [s], the newest first."""
        ahead = [command for at, command in self._in_flight if at <= time]
        found = [*reversed(ahead), *(command for _, command in reversed(self._out))]
        return found[:self._out.maxlen]

    def send(self, pushed: float, expert: Command | None) -> None:
        """
        Send everything that acts before the next image comes.

        :param pushed: A yaw rate that is added to every command [rad/s].
        :param expert: Replaces the driver's commands, if it is not None.
        """
        now = self._environment.time
        due = []
        while self._in_flight and self._in_flight[0][0] < now + (1 - 1e-6) * self._period:
            at, command = self._in_flight.popleft()
            due.append((at, expert or command))
            self._out.append(due[-1])
        if expert or not due or due[0][0] > now + 1e-6 * self._period:
            self._send(expert or self._held, 0.0, pushed)
        if not expert:
            for at, command in due:
                self._send(command, at - now, pushed)
        self._held = expert or (due[-1][1] if due else self._held)

    def _send(self, command: Command, after: float, pushed: float) -> None:
        self._environment.send(Command(command.speed, command.yaw_rate + pushed), after)


class EmulatedClock:
    """
    Takes and answers images as an emulated computer does, without waiting.

    :ivar image: Number of the next image that is taken; image 0 comes at time 0.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._following = iter(timeline)
        self.next_image()

    def start(self) -> float:
        """Return when the work on the image begins [s]."""
        return self._taken.start

    def answer(self) -> float:
        """Return when the commands are out [s]."""
        return self._taken.answer

    def next_image(self) -> None:
        """Move on to the next image, once the work on this one is done."""
        self._taken = next(self._following)
        self.image = self._taken.image


class WallClock:
    """
    Lets images come when they are due, whether the one before was answered or not.

    :param camera_period: Seconds between two images; the first comes at the start.
    :ivar image: As in ``EmulatedClock``.
    """

    def __init__(self, camera_period: float) -> None:
        self._period = camera_period
        self._began = 0.0  # until the first image
        self.image = 0

    def start(self) -> float:
        """Wait until the image is due; return when the work on it begins [s]."""
        if not self._began:
            self._began = time.perf_counter()
        time.sleep(max(0.0, self.image * self._period - self.answer()))
        return self.answer()

    def answer(self) -> float:
        """Return the present time [s] since the first image."""
        return time.perf_counter() - self._began

    def next_image(self) -> None:
        """Move on to the newest image that has come by now, or else to the next one."""
        self.image = max(self.image + 1, math.floor(self.answer() / self._period))


class VehicleBatch:
    """
    Environments, all reset, that advance together from image to image.

    :param clock: Says which images are taken, and when they are answered; the others go unseen.
    :param handover: Seconds that the expert drives after a start, until a late driver knows where
        it is.
    :ivar image: Number of the present image.
    :ivar taken: How many images were taken.
    """

    def __init__(self, driver: Driver, environments: Sequence[DrivingEnvironment],
                 clock: EmulatedClock | WallClock, handover: float = 0.0) -> None:
        self.image = self.taken = 0
        self._driver = driver
        self._environments = environments
        self._clock = clock
        self._handover = handover
        self._lines = [CommandDelayLine(environment, driver.known_commands)
                       for environment in environments]
        self._frames = [environment.reset() for environment in environments]
        self._placed = [0.0] * len(environments)
        for i in range(len(environments)):
            driver.forget(i)

    def place(self, index: int, **place: float) -> None:
        """Put a vehicle where ``DrivingEnvironment.place`` is told, and forget where it was."""
        environment = self._environments[index]
        environment.place(**place)
        self._frames[index] = environment.look()
        self._lines[index].forget(environment.now.reference)
        self._driver.forget(index)
        self._placed[index] = environment.time

    def drive(self, logs: Sequence[DriveLog], continues: Callable[[], bool],
              start: Callable[[int], dict[str, float]],
              disturbances: Sequence[VehicleDisturbance] = ()) -> None:
        """
        Drive from image to image; a vehicle that leaves the lane is put back.

        :param logs: One for every vehicle.
        :param continues: Asked before every image.
        :param start: Returns the place where a vehicle is put back.
        :param disturbances: What pushes every vehicle; none for no pushes.
        """
        while continues():
            answer = self._look()
            for i, (environment, log) in enumerate(zip(self._environments, logs)):
                log.before(environment.now, answer)
                by_expert = environment.time - self._placed[i] < self._handover
                self._lines[i].send(disturbances[i].advance() if disturbances else 0.0,
                                    environment.now.reference if by_expert else None)
                if self._clock.image == self.image + 1:
                    self._frames[i] = environment.advance()
                else:
                    environment.skip()
                log.after(environment.now, answer is not None, by_expert)
                if environment.now.departed:
                    self.place(i, **start(i))
            self.image += 1

    def _look(self) -> float | None:
        """Take the present image, if the clock does; return when its answer is out [s]."""
        if self._clock.image != self.image:
            return None
        start = self._clock.start()
        commands = self._driver.commands(
            self._frames, [line.commands_before(start) for line in self._lines], start)
        answer = self._clock.answer()
        for line, command in zip(self._lines, commands):
            line.add(command, answer)
        self._driver.settle()
        self._clock.next_image()
        self.taken += 1
        return answer
