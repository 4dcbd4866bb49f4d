"""Gate and impulse of a linear recurrence, over all frames in few passes through memory."""

import torch
from torch import Tensor

aten = torch.ops.aten


class ImpulseGate(torch.autograd.Function):
    """
    a = sigmoid(g) and b = (1 - a) tanh(i), for h' = a h + b.

    What autograd makes of the formula takes more time than the scan itself, most of it for
    gradients of halves that are put together again.
    """

    @staticmethod
    def forward(ctx, total: Tensor) -> tuple[Tensor, Tensor]:
        """
        Return a and b, (N, C, ...).

        :param total: (N, 2 C, ...): g, and after it i.
        """
        gate, impulse = total.chunk(2, dim=1)
        # Not 1 - a: what is let in is tiny where much is kept, and has to be exact.
        let_in, impulse = torch.neg(gate).sigmoid_(), quick_tanh(impulse)
        ctx.save_for_backward(let_in, impulse)
        return 1 - let_in, let_in * impulse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, of_a: Tensor, of_b: Tensor) -> Tensor:
        let_in, impulse = ctx.saved_tensors
        count, channels, *size = let_in.shape
        gradient = let_in.new_empty(count, 2 * channels, *size)
        gate, rest = gradient.chunk(2, dim=1)
        torch.addcmul(of_a, of_b, impulse, value=-1, out=gate)
        aten.sigmoid_backward.grad_input(gate, let_in, grad_input=gate)
        torch.mul(of_b, let_in, out=rest)
        aten.tanh_backward.grad_input(rest, impulse, grad_input=rest)
        return gradient


def quick_tanh(x: Tensor) -> Tensor:
    """
    Return tanh(x), up to the rounding of 1.

    On CPUs, torch's sigmoid takes a sixth of the time of its tanh.
    """
    return torch.tanh(x) if x.is_cuda else (2 * x).sigmoid_().mul_(2).sub_(1)
