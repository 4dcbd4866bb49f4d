"""What a trainer trains."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn, Tensor


class Learner(ABC):
    """
    What is trained: a network, and the loss of every gradient step.

    :ivar label: Shown, and names the files.
    :ivar frames_per_step: Frames in a gradient step, of this process.
    :ivar device: Where the network is; the trainer sets it.
    :ivar segment: Frames of a window whose values are kept for the gradients at a time; None for
        all. The trainer sets it, too.
    """

    network: nn.Module
    label: str
    frames_per_step: int
    device: torch.device = torch.device('cpu')
    segment: int | None = None

    @abstractmethod
    def loss(self, step: int) -> Tensor:
        """
        Return the mean over this process's share of a gradient step's joint batch.

        What is drawn must depend on seed and step only, and all processes have to draw the same
        joint batch, of which each takes ``sharing.share``.

        :param step: From 0 on.
        """

    def prepare(self, step: int) -> None:
        """Do what comes before a gradient step and has no gradient, such as driving."""

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Return the weights with their learning rates, as torch's optimisers take them."""
        return [{'params': [weight for weight in self.network.parameters()
                            if weight.requires_grad], 'lr': rate}]

    def figures(self) -> dict[str, Any]:
        """Return what is shown besides the loss."""
        return {}

    def initial_settings(self) -> dict[str, Any]:
        """Return as JSON what a training that goes on must have had from its beginning."""
        return {}

    def state_dict(self) -> tuple[dict[str, Tensor], Any]:
        """Return tensors and JSON that this needs to go on, besides the network's weights."""
        return {}, None

    def load_state_dict(self, tensors: dict[str, Tensor], data: Any) -> None:
        """Go on from what ``state_dict`` returned."""
