"""The reference: the network's own halves of a step, operation by operation."""

from typing import Any

import numpy as np
from stream_agent.engine.torch_globals import computing
from stream_agent.network.rollout_network import RolloutNetwork
import torch


class EagerBackend:
    """Steps a network as it is, on the device that holds its weights."""

    def __init__(self, network: RolloutNetwork, batch_size: int = 1) -> None:
        self._network = network
        self._device = network.initial_state().values[network.input].device
        self._respond, self._settle = network.respond, network.settle
        if self._device.type == 'cuda':  # where cuDNN rounds unless it is told not to
            exactly = computing(tf32=False)
            self._respond, self._settle = exactly(network.respond), exactly(network.settle)
        self._batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        """Forget every frame."""
        self._state = self._network.initial_state(self._batch_size)
        self._now: Any = None  # or, until it is settled, a State

    @torch.inference_mode()
    def respond(self, frame: np.ndarray) -> np.ndarray:
        """Return the output node, (B, *shape), for a frame of the input node, both float32."""
        output, self._now = self._respond(torch.from_numpy(frame).to(self._device), self._state)
        return output.cpu().numpy()

    @torch.inference_mode()
    def rehearse(self, frame: np.ndarray) -> None:
        """Compute the answer to a frame, and forget it."""
        self._network.respond(torch.from_numpy(frame).to(self._device), self._state)

    @torch.inference_mode()
    def settle(self) -> None:
        """Compute what only later frames need."""
        self._state = self._settle(self._now, self._state)
        self._now = None
