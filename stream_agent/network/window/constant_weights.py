"""Gradients of the weights in a cycle, computed once for all frames."""

from stream_agent.network.transforms import Dense
import torch
from torch import nn, Tensor


class ConstantWeights:
    """
    A transform whose weights have no gradient here: it comes once, from all frames together.

    :param layer: The convolution or the linear map in it.
    """

    def __init__(self, module: nn.Module, layer: nn.Conv2d | nn.Linear) -> None:
        self.layer = layer
        self._module = module
        self._weights = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        #: What it has read in the frames, (B, ...) each; for the gradient of the weights.
        self.read: list[Tensor] = []

    def __call__(self, values: Tensor) -> Tensor:
        """Apply the transform to samples."""
        layer = self.layer
        if isinstance(layer, nn.Conv2d):
            return nn.functional.conv2d(values, *self._weights, layer.stride, layer.padding,
                                        layer.dilation, layer.groups)
        return self._module.shaped(nn.functional.linear(values.flatten(1), *self._weights))

    def added_to(self, total: Tensor) -> Tensor:
        """Return sums of all frames, (N, B, ...), through which the weights get a gradient."""
        return total + WeightsLater.apply(self.layer.weight, self.layer.bias, self, total.detach())


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
            gradient, axes = gradient.flatten(1), 0
            of_weight = gradient.t() @ values.flatten(1)
        else:
            axes = (0, 2, 3)
            _, of_weight, _ = torch.ops.aten.convolution_backward(
                gradient, values, layer.weight.to(gradient.dtype), None, layer.stride,
                layer.padding, layer.dilation, False, [0, 0], layer.groups, [False, True, False])
        of_bias = None if layer.bias is None else gradient.sum(axes).to(layer.bias.dtype)
        return of_weight.to(layer.weight.dtype), of_bias, None, None


def constant_weights(module: nn.Module) -> ConstantWeights | None:
    """Return a transform with constant weights; None if it is more than one weighted layer."""
    if type(module) is Dense:
        return ConstantWeights(module, module.linear)
    if type(module) is nn.Conv2d and module.padding_mode == 'zeros':
        return ConstantWeights(module, module)
    return None
