"""
Actions made callable, and the terms of their sums as operations on tensors that stay in place.

A term is called with the total so far, or None, and returns the total with itself. With ``out``
it writes that there, without a copy where torch lets an operation choose its address.

Within an action, tensors come and go on its stream. Between actions, values pass through
buffers alone, written by the last operation of an action: its activation or its last addition.
Only what ends in a cell, in an identity of one term, or in an operation of cuDNN is copied into
its buffer; the latter takes the place of three kernels, so that two are left.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any, NamedTuple

from stream_agent.engine.cuda.branches import Buffer
from stream_agent.engine.cuda.buffers import Action, BufferPlace, Group, neighbours
from stream_agent.engine.cuda.device import Run
from stream_agent.engine.packed import converted
from stream_agent.engine.read_outs import dense_part, is_read_out
from stream_agent.network.program import (
    bind, NodeProgram, Operation, Run as TermRun, sources_of, Term)
from stream_agent.network.rollout_network import RolloutNetwork
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


def capture(operations: Iterable[Operation], dtype: torch.dtype) -> TermRun:
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


class Memory(NamedTuple):
    """
    The buffers on the device.

    :param values: (B, *shape) by buffer; parts of ``tensors`` where those are stacked.
    :param tensors: (nodes, B, *shape) by the tensor's name.
    :param places: Which part of which tensor a buffer is.
    """

    values: Mapping[Buffer, Tensor]
    tensors: Mapping[tuple[int, int], Tensor]
    places: Mapping[Buffer, BufferPlace]

    def neighbours(self, buffers: list[Buffer]) -> Tensor:
        """Return neighbours as one tensor, (nodes, B, *shape), in place."""
        first = self.places[buffers[0]]
        return self.tensors[first.tensor][first.at:first.at + len(buffers)]


class CudaKernels:
    """
    Makes the actions of a network callable.

    :param network: In evaluation mode; its weights are read now.
    :param joined: Whether terms of a sum become one operation where they can.
    :param fused: Whether bias, sum and ReLU go into convolutions, where cuDNN can do that.
    :param captured: Whether all terms are the reference's own operations.
    """

    def __init__(self, network: RolloutNetwork, memory: Memory, joined: bool, fused: bool,
                 captured: bool) -> None:
        self._network, self._memory = network, memory
        self._joined, self._fused, self._captured = joined, fused, captured
        # Graphs that take turns share the weights that they have in common.
        self._weights = cache(weights_of)

    def _program(self, action: Action) -> NodeProgram:
        """Return what an action does."""
        return self._network.programs[action.work.node].part(action.work)

    def kind(self, action: Action) -> tuple | None:
        """Return what equal actions have in common, or None if it has to stay alone."""
        program = self._program(action)
        module, (source, *_) = program.terms[0][0].module, sources_of(program.terms[0])
        if (len(sum(program.terms, ())) > 1 or program.begun or not program.finishes
                or any(operation.kind != 'activate' for operation in program.ending)
                or not (is_convolution(module) or is_dense(module))):
            return None
        return repr(module), self._network.shapes[source.name], repr(activation_of(program))

    def cost(self, group: Group) -> float:
        """Return the multiplications of a group, about."""
        shapes = self._network.shapes
        return sum(
            sum(prod(shapes[source.name]) for source in sources_of([operation])) + sum(
                weight.numel() * (prod(shapes[operation.node][1:]) if weight.ndim == 4 else 1)
                for weight in (operation.module.parameters() if operation.module else ()))
            for action in group for term in self._program(action).terms for operation in term)

    def bind(self, group: Group) -> Run:
        """Make the actions of a group callable, as one."""
        return self._bind_group(group) if len(group) > 1 else self._bind_one(group[0])

    def _bind_group(self, group: Group) -> Run:
        """Make equal actions on neighbours one operation."""
        programs = [self._program(action) for action in group]
        modules = [program.terms[0][0].module for program in programs]
        activation = activation_of(programs[0])
        source = self._memory.neighbours([action.sources[0] for action in group])
        target = self._memory.neighbours([action.target for action in group])
        if not is_convolution(modules[0]):
            weight = torch.stack([module.linear.weight.t() for module in modules]).detach()
            bias = torch.stack([module.linear.bias for module in modules]).detach()[:, None]
            return lambda: write(
                activation, torch.baddbmm(bias, source.flatten(2).float(), weight), target)
        weights = self._weights(tuple(modules), target.dtype, False, grouped=True)
        term = ConvolutionTerm(weights, source)
        finish, activation = self._finish(term, activation, None)

        def run() -> None:
            value = finish(None).unflatten(1, (len(group), -1)).transpose(0, 1)
            write(activation, value, target)

        return run

    def _finish(self, term: SumTerm, activation: nn.Module | None, total: Tensor | None
                ) -> tuple[Callable[[Tensor | None], Tensor], nn.Module | None]:
        """
        Return the last term, with the activation in it if it can have that.

        :param total: Of the shape of what it is added to, or None.
        :returns: The term, and what is left to do after it.
        """
        if (self._fused and isinstance(term, ConvolutionTerm) and isinstance(activation, nn.ReLU)
                and term.can_rectify(total)):
            return term.rectified, None
        return term, activation

    def _bind_one(self, action: Action) -> Run:
        """Make one action callable."""
        target = self._memory.values[action.target]
        begun = self._memory.values.get(action.begun or ('', 0))
        previous: dict[str, Any] = {
            action.work.node: self._memory.values.get(action.previous or ('', 0))}
        program = self._program(action)
        activation = activation_of(program)
        activation = activation and converted(activation, target.dtype)
        others = [operation for operation in program.ending if operation.kind != 'activate']
        prepare = capture(others, target.dtype) if others else None
        name = f'{action.work.node}.sum'
        last: Any
        *terms, last = self._terms(action, target)
        direct = not prepare and not activation
        if not prepare:
            last, activation = self._finish(
                last, activation, target if terms or begun is not None else None)

        def run() -> None:
            total = begun
            for term in terms:
                total = term(total)
            if direct:
                last(total, target)
                return
            total = last(total)
            if prepare:
                values = {name: total}
                prepare(values, previous)
                total = values[name]
            write(activation, total, target)

        return run

    def _terms(self, action: Action, target: Tensor) -> list[SumTerm]:
        """Return what an action sums; convolutions come last, for a ReLU to join them."""
        buffers = {source: buffer for (source, _), buffer in zip(
            action.work.edges, action.sources)}
        values = self._memory.values
        program = self._program(action)
        dense, convolutions = list[Term](), list[Term]()
        if not self._captured:
            dense = [term for term in program.terms if is_read_out(term)]
            convolutions = [term for term in program.terms
                            if len(term) == 1 and is_convolution(term[0].module)]
        found: list[SumTerm] = [
            CapturedTerm(term, {source: values[buffer] for source, buffer in buffers.items()},
                         target.dtype)
            for term in program.terms if term not in dense and term not in convolutions]
        for part in [dense] if self._joined and dense else [[term] for term in dense]:
            found.append(DenseTerm([term[0].module for term in part],
                                   [values[buffers[source_of(term)]] for term in part]))
        for part in self._neighbours(convolutions, buffers):
            read = [buffers[source_of(term)] for term in part]
            weights = self._weights(tuple(term[0].module for term in part), target.dtype,
                                    is_channels_last(target))
            found.append(ConvolutionTerm(
                weights, values[read[0]] if len(read) == 1 else self._memory.neighbours(read)))
        return found

    def _neighbours(self, terms: list[Term], buffers: Mapping[str, Buffer]) -> list[list[Term]]:
        """Divide convolutions into those whose sources lie side by side."""
        found: list[list[Term]] = []
        for term in terms:
            part = found[-1] if found else []
            if (self._joined and part and term[0].module.groups == 1
                    and repr(term[0].module) == repr(part[-1][0].module)
                    and neighbours([buffers[source_of(one)] for one in (part[-1], term)],
                                   self._memory.places)):
                part.append(term)
            else:
                found.append([term])
        return found


def activation_of(program: NodeProgram) -> nn.Module | None:
    """Return the activation with which a node's value ends, if there is one."""
    last = program.ending[-1] if program.ending else None
    return last.module if last and last.kind == 'activate' else None


def source_of(term: Term) -> str:
    """Return the first node that a term reads."""
    return sources_of(term)[0].name
