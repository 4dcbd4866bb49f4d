"""The values of a node over a window of frames."""

import numpy as np
import torch
from torch import Tensor

# Frames of a window: 1 is its first; 0 is what was there before it. Each is one update.
Frames = np.ndarray


class Track:
    """
    What a node is in the frames of a window.

    :param initial: Before the window, (B, *shape).
    :param values: The N values that it takes, (N, B, *shape).
    :param rows: By frame from 0 on, which value it has: 0 for the initial one, n for the nth.
    """

    def __init__(self, initial: Tensor, values: Tensor, rows: np.ndarray) -> None:
        self._initial = initial
        self._values = values
        self._rows = rows
        self._known: dict[bytes, tuple[Tensor, Tensor | None]] = {}

    def read(self, frames: Frames) -> tuple[Tensor, Tensor | None]:
        """
        Return the different values in some frames, and which of them each frame has.

        :param frames: Ascending.
        :returns: (N, B, *shape), and indices into its first axis, or None where they are in order.
        """
        rows = self._rows[frames]
        key = rows.tobytes()
        if key not in self._known:
            # Who reads the same frames reads the same tensor: one copy, one sum of gradients.
            different, inverse = np.unique(rows, return_inverse=True)
            index = None if len(different) == len(rows) else self._index(inverse)
            self._known[key] = self._take(different), index
        return self._known[key]

    def keep(self, rows: np.ndarray, values: Tensor) -> None:
        """Note what some rows, which ascend, look like one after another."""
        self._known[rows.tobytes()] = values, None

    def every(self, frames: Frames) -> Tensor:
        """Return the value in each of some frames, (N, B, *shape)."""
        return spread(*self.read(frames))

    def last(self) -> Tensor:
        """Return the value after the window, (B, *shape), in memory of its own."""
        row = int(self._rows[-1])
        return (self._values[row - 1] if row else self._initial).clone()

    def _take(self, rows: np.ndarray) -> Tensor:
        """Return values by their rows, which ascend."""
        if rows[0] == 0:
            return torch.cat([self._initial.unsqueeze(0), self._later(rows[1:])])
        return self._later(rows)

    def _later(self, rows: np.ndarray) -> Tensor:
        """Return values that are not the initial one."""
        if len(rows) == len(self._values):
            return self._values
        if len(rows) == 0 or rows[-1] - rows[0] + 1 == len(rows):
            first = int(rows[0]) - 1 if len(rows) else 0
            return self._values[first:first + len(rows)]
        return self._values.index_select(0, self._index(rows - 1))

    def _index(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows.astype(np.int64)).to(self._values.device)


def spread(values: Tensor, index: Tensor | None) -> Tensor:
    """Return the value of each frame, from what ``Track.read`` gives."""
    return values if index is None else values.index_select(0, index)
