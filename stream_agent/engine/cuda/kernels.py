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
from typing import NamedTuple

from stream_agent.engine.cuda.batches import BufferPlace, Group, neighbours
from stream_agent.engine.cuda.branches import Buffer
from stream_agent.engine.cuda.buffers import Action
from stream_agent.engine.cuda.device import Run
from stream_agent.engine.cuda.terms import (
    converted, ConvolutionTerm, DenseTerm, factors_of, is_channels_last, is_convolution, is_dense,
    ModuleTerm, SumTerm, weights_of, write)
from stream_agent.engine.read_outs import dense_part
from stream_agent.engine.task_executor import terms_of
from stream_agent.network.modules import Term
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
    tensors: Mapping[object, Tensor]
    places: Mapping[Buffer, BufferPlace]

    def neighbours(self, buffers: list[Buffer]) -> Tensor:
        """Return neighbours as one tensor, (nodes, B, *shape), in place."""
        first = self.places[buffers[0]]
        return self.tensors[first.tensor][first.index:first.index + len(buffers)]


class CudaKernels:
    """
    Makes the actions of a network callable.

    :param network: In evaluation mode; its weights are read now.
    :param joined: Whether terms of a sum become one operation where they can.
    :param fused: Whether bias, sum and ReLU go into convolutions, where cuDNN can do that.
    """

    def __init__(self, network: RolloutNetwork, memory: Memory, joined: bool, fused: bool
                 ) -> None:
        self._network, self._memory = network, memory
        self._joined, self._fused = joined, fused
        # Graphs that take turns share the weights that they have in common.
        self._weights = cache(weights_of)

    def kind(self, action: Action) -> tuple | None:
        """Return what equal actions have in common, or None if it has to stay alone."""
        terms = terms_of(self._network, action.task)
        prepare, cell, activation = self._network.at_work.ends[action.task.node]
        module = terms[0].module
        if (len(terms) > 1 or terms[0].others or prepare or cell or action.begun
                or not action.task.finishes or not (is_convolution(module) or is_dense(module))):
            return None
        return repr(module), self._network.shapes[terms[0].source], repr(activation)

    def cost(self, group: Group) -> float:
        """Return the multiplications of a group, about."""
        shapes = self._network.shapes
        return sum(
            prod(shapes[factor.source]) + sum(
                weight.numel() * (prod(shapes[action.task.node][1:]) if weight.ndim == 4 else 1)
                for weight in factor.module.parameters())
            for action in group for term in terms_of(self._network, action.task)
            for factor in factors_of(term))

    def bind(self, group: Group) -> Run:
        """Make the actions of a group callable, as one."""
        return self._bind_group(group) if len(group) > 1 else self._bind_one(group[0])

    def _bind_group(self, group: Group) -> Run:
        """Make equal actions on neighbours one operation."""
        modules = [terms_of(self._network, action.task)[0].module for action in group]
        activation = self._network.at_work.ends[group[0].task.node][2]
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
        begun = self._memory.values.get(action.begun)
        previous = self._memory.values.get(action.previous)
        prepare, cell, activation = (
            part and converted(part, target.dtype)
            for part in (self._network.at_work.ends[action.task.node]
                         if action.task.finishes else (None, None, None)))
        *terms, last = self._terms(action, target)
        plain = not prepare and not cell
        direct = plain and not activation
        if plain:
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
            total = prepare(total) if prepare else total
            total = cell(total, previous) if cell else total
            write(activation, total, target)

        return run

    def _terms(self, action: Action, target: Tensor) -> list[SumTerm]:
        """Return what an action sums; convolutions come last, for a ReLU to join them."""
        buffers = {source: buffer for (source, _), buffer in zip(
            action.task.edges, action.sources)}
        values = self._memory.values
        terms = terms_of(self._network, action.task)
        dense = [term for term in terms if not term.others and dense_part(term.module)]
        convolutions = [term for term in terms if not term.others
                        and is_convolution(term.module)]
        modules = [ModuleTerm([(module, values[buffers[source]]) for module, source, _
                               in factors_of(term)], target.dtype)
                   for term in terms if term not in dense and term not in convolutions]
        found = [DenseTerm([term.module for term in part],
                           [values[buffers[term.source]] for term in part])
                 for part in ([dense] if self._joined and dense else [[term] for term in dense])]
        for part in self._neighbours(convolutions, buffers):
            read = [buffers[term.source] for term in part]
            weights = self._weights(tuple(term.module for term in part), target.dtype,
                                    is_channels_last(target))
            found.append(ConvolutionTerm(
                weights, values[read[0]] if len(read) == 1 else self._memory.neighbours(read)))
        return [*modules, *found]

    def _neighbours(self, terms: list[Term], buffers: Mapping[str, Buffer]) -> list[list[Term]]:
        """Divide convolutions into those whose sources lie side by side."""
        found: list[list[Term]] = []
        for term in terms:
            part = found[-1] if found else []
            if (self._joined and part and term.module.groups == 1
                    and repr(term.module) == repr(part[-1].module)
                    and neighbours([buffers[one.source] for one in (part[-1], term)],
                                   self._memory.places)):
                part.append(term)
            else:
                found.append([term])
        return found
