"""A node's values beside themselves a frame earlier, in one buffer."""

import torch
from torch import Tensor

rectifier_gradient = torch.ops.aten.threshold_backward.grad_input


class Activated(torch.autograd.Function):
    """
    Values after a rectifier or none, as this frame's edges and as streaming edges read them.

    Both are views of one buffer with the initial value in front. Large feature maps and their
    gradients are neither copied nor surrounded with zeros, and keep the order of their memory.
    """

    @staticmethod
    def forward(ctx, values: Tensor, initial: Tensor, rectified: bool) -> tuple[Tensor, Tensor]:
        """
        Return what the frames 1 ... N read in their own frame and in the one before.

        :param values: (N, B, ...) of the frames 1 ... N, before the rectifier.
        :param initial: (B, ...), of frame 0, after it.
        """
        values = dense(values)
        buffer = values.new_empty_strided((len(values) + 1, *values.shape[1:]), values.stride())
        buffer[0] = initial
        if rectified:
            torch.clamp_min(values, 0, out=buffer[1:])
        else:
            buffer[1:] = values
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(buffer if rectified else None)
        return buffer[1:], buffer[:-1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, now: Tensor | None, before: Tensor | None
                 ) -> tuple[Tensor | None, Tensor | None, None]:
        (buffer,) = ctx.saved_tensors
        if before is None and now is None:
            return None, None, None
        if before is None:
            return rectified_gradient(dense(now), buffer), None, None
        before = dense(before)
        gradient = torch.empty_like(before)
        if now is None:
            gradient[-1] = 0
            if buffer is None:
                gradient[:-1] = before[1:]
            else:
                rectifier_gradient(before[1:], buffer[1:-1], 0, grad_input=gradient[:-1])
            return gradient, before[0], None
        torch.add(now[:-1], before[1:], out=gradient[:-1])
        gradient[-1] = now[-1]
        return rectified_gradient(gradient, buffer), before[0], None


def rectified_gradient(gradient: Tensor, buffer: Tensor | None) -> Tensor:
    """Return what of a gradient comes through the rectifier, if there is one."""
    if buffer is None:
        return gradient
    return rectifier_gradient(gradient, buffer[1:], 0, grad_input=torch.empty_like(gradient))


def dense(values: Tensor) -> Tensor:
    """Return values without gaps, whose frames lie one after another."""
    one = values[0]
    plain = one.is_contiguous() or (
        one.ndim == 4 and one.is_contiguous(memory_format=torch.channels_last))
    if plain and (len(values) == 1 or values.stride(0) == one.numel()):
        return values
    return values.contiguous()
