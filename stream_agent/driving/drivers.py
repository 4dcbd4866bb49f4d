"""What drives a batch of vehicles: the expert, or a network."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from stream_agent.command import Command
from stream_agent.network.checkpoint import CommandScale
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.environment import SimulatedFrame
import torch


class Driver(ABC):
    """
    Gives every vehicle of a batch a command for its image.

    :cvar known_commands: How many of its last commands the driver is told.
    """

    known_commands = 0

    @abstractmethod
    def commands(self, frames: Sequence[SimulatedFrame], known: Sequence[Sequence[Command]]
                 ) -> list[Command]:
        """Return a command for every vehicle; ``known`` are its last ones, the newest first."""

    def forget(self, index: int) -> None:
        """Forget all earlier frames of one vehicle."""

    def settle(self) -> None:
        """Compute what only later frames need, once the commands are out."""


class ExpertDriver(Driver):
    """Drives by the true pose: what the simulator gives as the reference."""

    def commands(self, frames: Sequence[SimulatedFrame], known: Sequence[Sequence[Command]]
                 ) -> list[Command]:
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
    :param count: Vehicles in the batch.
    :param updates_per_frame: Update steps for which every image is held.
    :param command_rows: Writes the last commands into the network's input, unless None.
    :ivar pixels: The network's last input, (C, H, W) uint8 of every vehicle.
    :ivar added: What was added to the network's last outputs, (count, 2).
    """

    def __init__(self, network: RolloutNetwork, preprocessing: Preprocessing,
                 limits: CommandScale, count: int, updates_per_frame: int = 1,
                 command_rows: CommandRows | None = None) -> None:
        self.pixels: list[np.ndarray] = []
        self.added = np.zeros((count, 2))
        self.known_commands = command_rows.count if command_rows else 0
        self._network = network.eval()
        self._preprocessing = preprocessing
        self._limits = limits
        self._updates_per_frame = updates_per_frame
        self._command_rows = command_rows
        self._state = network.initial_state(count)

    def commands(self, frames: Sequence[SimulatedFrame], known: Sequence[Sequence[Command]]
                 ) -> list[Command]:
        self.pixels = [self.written(self._preprocessing.pixels(frame.image), commands)
                       for frame, commands in zip(frames, known)]
        device = next(self._network.parameters()).device
        with torch.inference_mode():
            images = torch.from_numpy(np.stack(self.pixels)).to(device)
            output, self._state = self._network.hold(scale(images), self._state,
                                                     self._updates_per_frame)
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
