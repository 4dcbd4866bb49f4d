"""
The terms of sums as operations on tensors that stay where they are.

A term is called with the total so far, or None, and returns the total with itself. With ``out``
it writes that there, without a copy where torch lets an operation choose its address.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from stream_agent.engine.packed import converted
from stream_agent.engine.read_outs import dense_part
from stream_agent.network.program import bind, Operation, Run, sources_of, Term
import torch
from torch import nn, Tensor
from torch.nn import functional

# Applies an activation, and writes the result to an address.
WRITERS: dict[type, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda module, value, out: torch.clamp_min(value, 0, out=out),
    nn.Tanh: lambda module, value, out: torch.tanh(value, out=out),
    nn.Sigmoid: lambda module, value, out: torch.sigmoid(value, out=out),
    nn.LeakyReLU: lambda module, value, out: torch.ops.aten.leaky_relu.out(
        value, module.negative_slope, out=out),
    nn.ELU: lambda module, value, out: torch.ops.aten.elu.out(value, module.alpha, out=out),
}


def write(activation: nn.Module | None, value: Tensor, out: Tensor) -> None:
    """Apply an activation to a value, and put the result into a buffer."""
    writer = WRITERS.get(type(activation))
    if writer and activation is not None:
        writer(activation, value, out)
    else:
        out.copy_(activation(value) if activation else value)


def added(value: Tensor, total: Tensor | None, out: Tensor | None) -> Tensor:
    """Return a value added to a total, in a buffer if there is one."""
    if total is not None:
        return torch.add(total, value, out=out)
    return value if out is None else out.copy_(value)


def capture(operations: Iterable[Operation], dtype: torch.dtype) -> Run:
    """Return operations as the reference does them, in a type; a recording captures those."""
    return bind(operation._replace(module=operation.module and converted(operation.module, dtype))
                for operation in operations)


def side_by_side(values: Tensor) -> Tensor:
    """Return (nodes, B, C, H, W) as (B, nodes C, H, W); no copy if B is 1."""
    return values.transpose(0, 1).flatten(1, 2)


# Weights of convolutions with equal options, as one; their bias; and the options: stride,
# padding, dilation, groups.
Weights = tuple[Tensor, Tensor, tuple]


def weights_of(modules: tuple, dtype: torch.dtype, channels_last: bool,
               grouped: bool = False) -> Weights:
    """
    Join convolutions of sources that lie side by side.

    :param channels_last: Order of the weights in memory.
    :param grouped: Whether every source has a result of its own, side by side; else their
        results are added.
    """
    first = modules[0]
    weights, biases = zip(*((module.weight.detach(), module.bias.detach()) for module in modules))
    weight, bias = weights[0], biases[0]
    if len(modules) > 1:
        weight = torch.cat(weights, 0 if grouped else 1)
        bias = torch.cat(biases) if grouped else torch.stack(biases).sum(0)
    weight, bias = weight.to(dtype), bias.to(dtype)
    if channels_last:
        weight = weight.contiguous(memory_format=torch.channels_last)
    groups = first.groups * (len(modules) if grouped else 1)
    return weight, bias, (first.stride, first.padding, first.dilation, groups)


class ConvolutionTerm:
    """A convolution of (B, C, H, W), or several of neighbours (nodes, B, C, H, W) as one."""

    def __init__(self, weights: Weights, source: Tensor) -> None:
        self._weight, self._bias, self._options = weights
        self._source = source

    def _value(self) -> Tensor:
        """Return the source as a convolution takes it."""
        value = side_by_side(self._source) if self._source.ndim == 5 else self._source
        return value.to(self._weight.dtype)

    def __call__(self, total: Tensor | None, out: Tensor | None = None) -> Tensor:
        """Return the convolution, added to a total."""
        value = functional.conv2d(self._value(), self._weight, self._bias, *self._options)
        return added(value, total, out)

    def rectified(self, total: Tensor | None) -> Tensor:
        """Return the ReLU of the same, as one operation of cuDNN."""
        if total is None:
            return torch.cudnn_convolution_relu(
                self._value(), self._weight, self._bias, *self._options)
        return torch.cudnn_convolution_add_relu(
            self._value(), self._weight, total, 1.0, self._bias, *self._options)

    def can_rectify(self, total: Tensor | None) -> bool:
        """Return whether cuDNN has such an operation for this convolution."""
        # Of the zeros that lie there, anything would make the same. A reset brings them back.
        for value in (self._source, total):
            if value is not None:
                value.uniform_(-1, 1)
        try:
            torch.testing.assert_close(
                self.rectified(total), self(total).relu(), atol=5e-2, rtol=5e-2)
        except (RuntimeError, AssertionError):
            return False
        return True


class DenseTerm:
    """
    Dense layers into features as one, of sources side by side, maybe averaged over windows.

    :param modules: ``Dense``, or average pooling and then that.
    :param sources: (B, *shape) of each.
    """

    def __init__(self, modules: Sequence[nn.Module], sources: Sequence[Tensor]) -> None:
        layers = [part for module in modules if (part := dense_part(module))]
        self._sources = [(pool, source) for (pool, _), source in zip(layers, sources)]
        self._weight = torch.cat([dense.linear.weight for _, dense in layers], 1).detach().t()
        self._bias = sum((dense.linear.bias for _, dense in layers), torch.zeros(())).detach()

    def __call__(self, total: Tensor | None, out: Tensor | None = None) -> Tensor:
        """Return the features, added to a total."""
        features = [(pool(source) if pool else source).float().flatten(1)
                    for pool, source in self._sources]
        value = features[0] if len(features) == 1 else torch.cat(features, 1)
        if total is None:
            return torch.addmm(self._bias, value, self._weight, out=out)
        return added(torch.addmm(self._bias, value, self._weight), total, out)


class CapturedTerm:
    """Any term, by its own operations on sources (B, *shape) by node, in a type of the result."""

    def __init__(self, term: Term, sources: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        self._run, self._result, self._dtype = capture(term, dtype), term[-1].result, dtype
        self._reads = [(*operand, sources[operand.name]) for operand in sources_of(term)]

    def __call__(self, total: Tensor | None, out: Tensor | None = None) -> Tensor:
        """Return the term, added to a total."""
        now, before = dict[str, Tensor](), dict[str, Tensor]()
        for name, is_before, source in self._reads:
            (before if is_before else now)[name] = source.to(self._dtype)
        self._run(now, before)
        return added(now[self._result], total, out)


SumTerm = ConvolutionTerm | DenseTerm | CapturedTerm


def is_convolution(module: nn.Module) -> bool:
    """Return whether a module is one convolution with zeros around."""
    return (type(module) is nn.Conv2d and module.padding_mode == 'zeros'
            and not isinstance(module.padding, str) and module.bias is not None)


def is_dense(module: nn.Module) -> bool:
    """Return whether a module is a dense layer into features and nothing else."""
    part = dense_part(module)
    return part is not None and part[0] is None


def is_channels_last(value: Tensor) -> bool:
    """Return whether feature maps have their channels last in memory, and not first as well."""
    return (value.ndim == 4 and not value.is_contiguous()
            and value.is_contiguous(memory_format=torch.channels_last))
