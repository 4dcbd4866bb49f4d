"""The engine: one owner of state; it answers first and settles the rest after."""

from collections.abc import Iterator

import numpy as np
from stream_agent.network.rollout_network import RolloutNetwork, State
import torch


def choose_device(name: str) -> torch.device:
    """
    Return the torch device of that name; 'auto' is the GPU if there is one.

    :raises ValueError: If the device is not to be had.
    """
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device '{name}' is not to be had ({reason}); "
                         "use 'auto', 'cpu', or a CUDA device that nvidia-smi lists") from None
    return device


class Engine:
    """
    One network, one device, one stream of frames.

    A step has two halves: ``respond`` computes what the output needs and returns it, ``settle``
    computes what only later frames need. Together they equal the undivided step exactly.

    :param network: Moved to the device and put in evaluation mode.
    :param device: A torch device string such as 'cuda:0' or 'cpu', or 'auto'.
    :param updates_per_frame: Update steps that one image is held for, at least 1.
    """

    def __init__(self, network: RolloutNetwork, device: str = 'cpu',
                 updates_per_frame: int = 1) -> None:
        if updates_per_frame < 1:
            raise ValueError(f'updates_per_frame is {updates_per_frame}; it is at least 1')
        self.device = choose_device(device)
        self.updates_per_frame = updates_per_frame
        self._network = network.to(self.device).eval()
        self.reset()

    def reset(self) -> None:
        """Forget every frame seen so far."""
        self._state = self._network.initial_state()
        self._now: State | None = None

    def warm_up(self, frames: int = 20) -> None:
        """Take the slow first steps now, on black frames, and forget them."""
        self.reset()
        shape = self._network.shapes[self._network.input]
        for _ in range(frames):
            self.step(np.zeros(shape, np.float32))
        self.reset()

    @torch.inference_mode()
    def respond(self, frame: np.ndarray) -> np.ndarray:
        """
        Compute the response cone for a frame.

        :param frame: float32 of the input node's shape, without a batch axis.
        :returns: The output node, float32, on the host.
        :raises RuntimeError: If the frame before has not been settled.
        """
        if self._now is not None:
            raise RuntimeError('respond: the frame before is not settled; call settle() first')
        tensor = torch.from_numpy(frame).to(self.device).unsqueeze(0)
        output, self._now = self._network.respond(tensor, self._state)
        return output.squeeze(0).cpu().numpy()

    @torch.inference_mode()
    def settle(self) -> None:
        """
        Compute the nodes that only later frames need.

        :raises RuntimeError: If there is no response to settle.
        """
        if self._now is None:
            raise RuntimeError('settle: there is nothing to settle; call respond(frame) first')
        self._state = self._network.settle(self._now, self._state)
        self._now = None

    def step(self, frame: np.ndarray) -> np.ndarray:
        """Respond, settle, and return the output."""
        output = self.respond(frame)
        self.settle()
        return output

    def responses(self, frame: np.ndarray, every_update: bool = False) -> Iterator[np.ndarray]:
        """
        Hold a frame for all its update steps; settle whenever the caller asks for more.

        :param every_update: Yield the response of every update step, not of the last alone.
        """
        for update in range(1, self.updates_per_frame + 1):
            output = self.respond(frame)
            if every_update or update == self.updates_per_frame:
                yield output
            self.settle()
