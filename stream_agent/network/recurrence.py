"""
Linear recurrences, one step a frame.

PLR18 is Martin, Cundy: Parallelizing linear recurrent neural nets over sequence length,
ICLR 2018 (arXiv 1709.04057).
"""

import torch
from torch import nn, Tensor


class Gilr(nn.Module):
    """
    Gated impulse linear recurrence (PLR18, section 3.2): h' = g h + (1 - g) tanh(i).

    The node's incoming edges give the gate's and the impulse's pre-activations, its self-edge
    gives h. As neither depends on h, the recurrence is linear in h.
    """

    # What the incoming edges give, in multiples of the node's channels or features.
    inputs_per_feature = 2

    def forward(self, total: Tensor, previous: Tensor) -> Tensor:
        """
        Advance by one frame.

        :param total: Sum of the incoming edges, (B, 2 C, ...): gates, then impulses.
        :param previous: The node at the previous frame, (B, C, ...).
        :returns: The node at this frame, (B, C, ...).
        """
        gate, impulse = total.chunk(2, dim=1)
        return torch.lerp(torch.tanh(impulse), previous, torch.sigmoid(gate))
