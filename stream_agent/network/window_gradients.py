"""Gradients of a window that torch would compute in a slower way."""

from stream_agent.network.transforms import Dense
import torch
from torch import nn, Tensor

rectifier_gradient = torch.ops.aten.threshold_backward.grad_input


class ShiftedReLU(torch.autograd.Function):
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
        if before is None:
            return None if now is None else rectified_gradient(dense(now), buffer), None, None
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


class ConstantWeights:
    """A transform whose weights have no gradient here: it comes once, from all frames together."""

    def __init__(self, module: nn.Conv2d | Dense) -> None:
        self.layer = layer = module.linear if isinstance(module, Dense) else module
        self._module = module
        self._weights = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        #: What it has read in the frames, (B, ...) each; for the gradient of the weights.
        self.read: list[Tensor] = []

    def __call__(self, values: Tensor) -> Tensor:
        """Apply the transform to samples."""
        module = self._module
        if isinstance(module, nn.Conv2d):
            return nn.functional.conv2d(values, *self._weights, module.stride, module.padding,
                                        module.dilation, module.groups)
        return module.shaped(nn.functional.linear(values.flatten(1), *self._weights))


class WeightsLater(torch.autograd.Function):
    """Zeros in the place of what ``ConstantWeights`` give, with the gradient of the weights."""

    @staticmethod
    def forward(ctx, weight: Tensor, bias: Tensor | None, constant: ConstantWeights,
                total: Tensor) -> Tensor:
        ctx.constant = constant
        return total.new_zeros(()).expand(total.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        layer, gradient = ctx.constant.layer, gradient.flatten(0, 1)
        values = torch.cat(ctx.constant.read).to(gradient.dtype)
        if isinstance(layer, nn.Linear):
            gradient, axes = gradient.flatten(1), [0]
            of_weight = gradient.t() @ values.flatten(1)
        else:
            axes = [0, 2, 3]
            _, of_weight, _ = torch.ops.aten.convolution_backward(
                gradient, values, layer.weight.to(gradient.dtype), None, layer.stride,
                layer.padding, layer.dilation, False, [0, 0], layer.groups, [False, True, False])
        of_bias = None if layer.bias is None else gradient.sum(axes).to(layer.bias.dtype)
        return of_weight.to(layer.weight.dtype), of_bias, None, None


def constant_weights(module: nn.Module) -> ConstantWeights | None:
    """Return a transform with constant weights; None if it is more than one weighted layer."""
    if type(module) is Dense or type(module) is nn.Conv2d and module.padding_mode == 'zeros':
        return ConstantWeights(module)
    return None
