"""The definition at work: the network's own halves of a step, operation by operation."""

from contextlib import AbstractContextManager, nullcontext

import numpy as np
from stream_agent.engine.torch_globals import computing
from stream_agent.network.program import State
from stream_agent.network.rollout_network import RolloutNetwork
import torch


class EagerBackend:
    """
    Steps a network as it is, on the device that holds its weights.

    :param network: In evaluation mode.
    :param batch_size: B, streams of frames that are stepped together.
    """

    def __init__(self, network: RolloutNetwork, batch_size: int = 1) -> None:
        self._network = network
        self._device = network.initial_state().values[network.input].device
        self._batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        """Forget every frame."""
        self._state = self._network.initial_state(self._batch_size)
        self._now: State | None = None

    @torch.inference_mode()
    def respond(self, frame: np.ndarray) -> np.ndarray:
        """
        Answer a frame.

        :param frame: float32, (B, *shape) of the input node.
        :returns: The output node, float32, (B, *shape), on the host.
        """
        with self._exactly():
            output, self._now = self._network.respond(
                torch.from_numpy(frame).to(self._device), self._state)
        return output.cpu().numpy()

    @torch.inference_mode()
    def rehearse(self, frame: np.ndarray) -> None:
        """Compute the answer to a frame, and forget it."""
        self._network.respond(torch.from_numpy(frame).to(self._device), self._state)

    @torch.inference_mode()
    def settle(self) -> None:
        """Compute what only later frames need."""
        with self._exactly():
            self._state = self._network.settle(self._now, self._state)
        self._now = None

    def _exactly(self) -> AbstractContextManager:
        """Keep cuDNN from rounding, as it does unless it is told not to."""
        return computing(tf32=False) if self._device.type == 'cuda' else nullcontext()
