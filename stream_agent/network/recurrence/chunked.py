"""
The scan in torch's own operations, for machines without a kernel of ours.

PLR18, Algorithm 1: chunks of about sqrt(T) frames are reduced side by side, their carries follow
from chunk to chunk, and the chunks are scanned again from their carries. That is three loops of
sqrt(T) operations. Nothing is divided and nothing is a logarithm, so that a may be 0 or negative.
"""

from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import pad

# Types that are read as they are.
TYPES = (torch.float32, torch.float64)


def forward(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    """
    Scan over the middle axis.

    :param a: Factors, (outer, T, inner).
    :param b: What is added, the same shape.
    :param initial: h_0, (outer, inner).
    :returns: h, the shape of a.
    """
    outer, length, inner = a.shape
    steps = max(1, isqrt(length))
    chunks = -(-length // steps)
    # (steps, outer, chunks, inner): what is done at once lies together, but for the last copy.
    a, b = (pad(x, (0, 0, 0, chunks * steps - length)).view(outer, chunks, steps, inner)
            .permute(2, 0, 1, 3) for x in (a, b))
    product, rest = a[0].clone(), b[0].clone()
    for t in range(1, steps):
        product *= a[t]
        torch.addcmul(b[t], a[t], rest, out=rest)
    carries = [initial]
    for chunk in range(chunks - 1):
        carries.append(torch.addcmul(rest[:, chunk], product[:, chunk], carries[-1]))
    h = torch.empty(outer, chunks, steps, inner, dtype=a.dtype, device=a.device)
    state = torch.stack(carries, dim=1)
    for t in range(steps):
        torch.addcmul(b[t], a[t], state, out=state)
        h[:, :, t] = state
    return h.view(outer, chunks * steps, inner)[:, :length].contiguous()


def backward(a: Tensor, h: Tensor, initial: Tensor, grad: Tensor
             ) -> tuple[Tensor, Tensor, Tensor]:
    """
    Scan backwards: G_t = a_{t+1} G_{t+1} + dL/dh_t.

    :param grad: dL/dh, (outer, T, inner).
    :returns: dL/da, dL/db and dL/dh_0.
    """
    later = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)
    g = forward(later.flip(1), grad.flip(1), torch.zeros_like(initial)).flip(1)
    before = torch.cat([initial[:, None], h[:, :-1]], dim=1)
    return before * g, g, a[:, 0] * g[:, 0]
