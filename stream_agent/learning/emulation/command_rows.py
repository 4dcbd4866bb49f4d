"""A network's own last commands as a part of its image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from stream_agent.command import Command
from stream_agent.network.checkpoint import CommandLimits


@dataclass(frozen=True)
class CommandRows:
    """
    Writes commands as grey levels over the two lowest rows, which show the ground at the wheels.

    The last row has yaw rates, the one above speeds. The newest command is on the left; each
    takes the same number of columns. An output of -1 is black, 0 grey, 1 white.

    :param count: Commands that are written.
    """

    count: int = 12

    def written(self, pixels: np.ndarray, limits: CommandLimits, commands: Sequence[Command]
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
