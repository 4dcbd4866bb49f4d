"""The way of answers from an emulated computer to the vehicle, exact in time."""

from collections import deque

from stream_agent.command import Command, STOP
from stream_agent.simulation.environment import DrivingEnvironment


class Link:
    """
    Answers in flight to one vehicle; each acts when it is out, and until the next one does.

    :param environment: Where commands are sent.
    :param kept: The last answers that are remembered.
    """

    def __init__(self, environment: DrivingEnvironment, kept: int = 0) -> None:
        self._environment = environment
        self._period = environment.settings.period
        self._in_flight: deque[tuple[float, Command]] = deque()
        self._out: deque[tuple[float, Command]] = deque(maxlen=kept)
        self._held = STOP

    def answer(self, command: Command, at: float) -> None:
        """Let an answer act at a time [s] since the environment's reset, not in the past."""
        self._in_flight.append((at, command))

    def forget(self, held: Command) -> None:
        """Drop what is in flight and what was answered; follow one command until the next."""
        self._in_flight.clear()
        self._out.clear()
        self._held = held

    def answers_before(self, time: float) -> list[Command]:
        """Return the last answers that are out by a time [s], the newest first."""
        ahead = [command for at, command in self._in_flight if at <= time]
        found = [*reversed(ahead), *(command for _, command in reversed(self._out))]
        return found[:self._out.maxlen]

    def send(self, pushed: float, expert: Command | None) -> None:
        """
        Send all that acts before the next image comes.

        :param pushed: A yaw rate that is added to every command [rad/s].
        :param expert: Drives instead of the answers, which are taken for its own.
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
