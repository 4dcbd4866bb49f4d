"""Vehicles that drive in batches, each behind a computer of a given speed."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from stream_agent.command import Command, STOP
from stream_agent.driving.compute_model import Taken, Timeline
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.network.program import State
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.environment import DrivingEnvironment, Moment, SimulatedFrame
import torch


class CommandDelayLine:
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


@dataclass(frozen=True)
class CommandRows:
    """
    Writes commands as grey levels over the two lowest rows, which show the ground at the wheels.

    The last row has yaw rates, the one above speeds. The newest command is on the left; each
    takes the same number of columns. An output of -1 is black, 0 grey, 1 white.

    :param count: Commands that are written.
    """

    count: int = 12

    def written(self, pixels: np.ndarray, limits: CommandScale, commands: Sequence[Command]
                ) -> np.ndarray:
        """
        Return a copy of an image that shows commands.

        :param pixels: (C, H, W) uint8, as wide as there are commands or wider.
        :param commands: The newest first; those missing are shown as 0.
        """
        pixels = pixels.copy()
        width = pixels.shape[2] // self.count
        outputs = np.zeros((self.count, 2))
        for i, command in enumerate(commands[:self.count]):
            outputs[i] = limits.output(command)
        levels = np.clip(np.rint(127.5 + 127.5 * outputs), 0, 255).astype(np.uint8)
        for row, column in ((-2, 0), (-1, 1)):
            pixels[:, row, :] = 128
            pixels[:, row, :self.count * width] = np.repeat(levels[:, column], width)
        return pixels


class VehicleBatch:
    """
    Environments in step with the images that a timeline takes; all others go unseen.

    :param network: Put into evaluation mode.
    :param environments: At their reset, or placed after it.
    :param timeline: When the computer takes images and answers them.
    :param command_rows: Writes the last answers into the network's input; None: it does not
        know them.
    """

    def __init__(self, network: RolloutNetwork, environments: Sequence[DrivingEnvironment],
                 preprocessing: Preprocessing, limits: CommandScale, timeline: Timeline,
                 updates_per_frame: int = 1, command_rows: CommandRows | None = None) -> None:
        self.environments = environments
        self._network = network.eval()
        self._preprocessing = preprocessing
        self._limits = limits
        self._timeline = iter(timeline)
        self._updates_per_frame = updates_per_frame
        self._command_rows = command_rows
        self._links = [CommandDelayLine(environment, command_rows.count if command_rows else 0)
                       for environment in environments]
        self._state = network.initial_state(len(environments))
        self._device = next(network.parameters()).device
        self._next = next(self._timeline)
        self._image = 0
        self._frames: list[SimulatedFrame | None] = [None] * len(environments)
        #: What the network was given last, uint8 of every vehicle.
        self.pixels: list[np.ndarray] = []

    @property
    def _takes(self) -> bool:
        """Whether the computer takes the present image."""
        return self._next.image == self._image

    def place(self, index: int, speed: float, **place: float) -> None:
        """Put a vehicle somewhere, with nothing remembered of where it was."""
        environment = self.environments[index]
        environment.place(speed=speed, **place)
        self._frames[index] = environment.look()
        self._links[index].forget(environment.now.reference)
        self._state = without_sample(self._state, index)

    def look(self) -> Taken | None:
        """Take the present image, if the timeline does, and put its answers on their way."""
        if not self._takes:
            return None
        taken, self._next = self._next, next(self._timeline)
        self.pixels = [self._preprocessing.pixels(frame.image) for frame in self._frames]
        if self._command_rows:
            self.pixels = [
                self._command_rows.written(pixels, self._limits, link.answers_before(taken.start))
                for pixels, link in zip(self.pixels, self._links)]
        with torch.inference_mode():
            images = torch.from_numpy(np.stack(self.pixels)).to(self._device)
            output, self._state = self._network.hold(scale(images), self._state,
                                                     self._updates_per_frame)
        for link, values in zip(self._links, output.float().cpu().numpy()):
            link.answer(self._limits.command(values), taken.answer)
        return taken

    def move(self, index: int, pushed: float, expert_drives: bool) -> Moment:
        """
        Let one vehicle drive for a camera period.

        :param pushed: Yaw rate that is added to what it is commanded [rad/s].
        :returns: Where it is then.
        """
        environment = self.environments[index]
        expert: Command | None = environment.now.reference if expert_drives else None
        self._links[index].send(pushed, expert)
        if self._next.image == self._image + 1:
            self._frames[index] = environment.advance()
        else:
            environment.skip()
        return environment.now

    def next_image(self) -> None:
        """Go on to the next image, once every vehicle has moved."""
        self._image += 1


def without_sample(state: State, index: int) -> State:
    """Return a copy in which one sample of the batch has forgotten everything."""
    values = {name: value.clone() for name, value in state.values.items()}
    for value in values.values():
        value[index] = 0
    return replace(state, values=values)
