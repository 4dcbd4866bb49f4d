"""What drives a batch of vehicles: the expert, or a network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from stream_agent.command import Command
from stream_agent.contract.conversions import Conversion
from stream_agent.driving.observations import as_frames, Observation, Observer, stacked
from stream_agent.network.checkpoint import CommandScale, trigger_of
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.environment import SimulatedFrame
import torch


class Driver(ABC):
    """
    Gives every vehicle of a batch a command for its image.

    :cvar known_commands: How many of its last commands the driver is told.
    :cvar sees: Whether it needs images.
    """

    known_commands = 0
    sees = True

    @abstractmethod
    def commands(self, frames: Sequence[SimulatedFrame], known: Sequence[Sequence[Command]],
                 start: float) -> list[Command]:
        """
        Return a command for every vehicle.

        :param known: Its last ones that are out, the newest first.
        :param start: When the work on the frames begins [s], by the environments' clock.
        """

    def forget(self, index: int) -> None:
        """Forget all earlier frames of one vehicle."""

    def settle(self) -> None:
        """Compute what only later frames need, once the commands are out."""


class ExpertDriver(Driver):
    """Drives by the true pose: what the simulator gives as the reference."""

    sees = False

    def commands(self, frames: Sequence[SimulatedFrame], known: Sequence[Sequence[Command]],
                 start: float) -> list[Command]:
        return [frame.reference for frame in frames]


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
        pixels[:, -2:, :] = 128
        pixels[:, -2:, :self.count * width] = np.repeat(levels.T, width, axis=1)
        return pixels


class NetworkDriver(Driver):
    """
    Drives all vehicles of a batch by one network, a sample each.

    :param network: Put into evaluation mode.
    :param preprocessing: Conversion of the input that triggers, as in a ``Policy``.
    :param count: Vehicles in the batch.
    :param updates_per_frame: Update steps for which every image is held.
    :param command_rows: Writes the last commands into the network's image, unless None.
    :param others: Conversions of its other inputs.
    :ivar observations: The network's last inputs, of every vehicle.
    :ivar added: What was added to the network's last outputs, (count, 2).
    :raises ObservationError: If no simulated robot has the inputs.
    """

    def __init__(self, network: RolloutNetwork, preprocessing: Conversion,
                 limits: CommandScale, count: int, updates_per_frame: int = 1,
                 command_rows: CommandRows | None = None,
                 others: Mapping[str, Conversion] = {}) -> None:
        self.observations: list[Observation] = []
        self.added = np.zeros((count, 2))
        self._trigger = trigger_of(network.graph, others)
        self._observe = Observer({self._trigger: preprocessing, **others}, limits)
        self.sees = self._observe.sees
        self.known_commands = max(self._observe.known_commands,
                                  command_rows.count if command_rows else 0)
        self._network = network.eval()
        self._limits = limits
        self._updates_per_frame = updates_per_frame
        self._command_rows = command_rows
        self._state = network.initial_state(count)

    def commands(self, frames: Sequence[SimulatedFrame], known: Sequence[Sequence[Command]],
                 start: float) -> list[Command]:
        self.observations = [self._observe(frame, commands, start)
                             for frame, commands in zip(frames, known)]
        for observation, commands in zip(self.observations, known):
            observation[self._trigger] = self.written(observation[self._trigger], commands)
        network = self._network
        with torch.inference_mode():
            inputs = as_frames(stacked(self.observations), network.shapes, 1,
                               next(network.parameters()).device)
            output, self._state = network.hold(inputs, self._state, self._updates_per_frame)
        return [self._limits.command(values) for values in output.float().cpu().numpy()
                + self.added]

    def written(self, pixels: np.ndarray, commands: Sequence[Command]) -> np.ndarray:
        """Return an image with what the network is told besides."""
        if self._command_rows is None:
            return pixels
        return self._command_rows.written(pixels, self._limits, commands)

    def forget(self, index: int) -> None:
        values = {name: value.clone() for name, value in self._state.values.items()}
        for value in values.values():
            value[index] = 0
        self._state = replace(self._state, values=values)
