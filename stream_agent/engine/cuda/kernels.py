"""
Actions made callable.

Within an action, tensors come and go on its stream. Between actions, values pass through
buffers alone, written by the last operation of an action: its activation or its last addition.
Only what ends in a cell, in an identity of one term, or in an operation of cuDNN is copied into
its buffer; the latter takes the place of three kernels, so that two are left.
"""

from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from typing import Any, NamedTuple

from stream_agent.engine.cuda.branches import Buffer
from stream_agent.engine.cuda.buffers import Action, BufferPlace, Group, neighbours
from stream_agent.engine.cuda.device import Run
from stream_agent.engine.cuda.terms import (
    capture, CapturedTerm, ConvolutionTerm, DenseTerm, is_channels_last, is_convolution, is_dense,
    SumTerm, weights_of, write)
from stream_agent.engine.packed import converted
from stream_agent.engine.read_outs import is_read_out
from stream_agent.network.program import NodeProgram, sources_of, Term
from stream_agent.network.rollout_network import RolloutNetwork
import torch
from torch import nn, Tensor


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
