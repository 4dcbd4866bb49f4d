"""Pushes that a driver has to make up for."""

import numpy as np


class Disturbance:
    """
    Pushes a vehicle off its way now and then, so that its driver shows the way back.

    :param strength: Largest added yaw rate [rad/s].
    """

    def __init__(self, generator: np.random.Generator, strength: float) -> None:
        self._generator = generator
        self._strength = strength
        self._frames_left = 0
        self._yaw_rate = 0.0

    def advance(self) -> float:
        """Return the yaw rate that is added in the next frame [rad/s]."""
        if self._frames_left == 0:
            pushes = self._generator.random() < 0.3
            self._frames_left = int(self._generator.integers(8, 25))
            self._yaw_rate = pushes * self._generator.uniform(-1, 1) * self._strength
        self._frames_left -= 1
        return self._yaw_rate
