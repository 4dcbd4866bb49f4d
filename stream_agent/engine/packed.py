"""
Convolutions and dense layers prepared for one CPU: packed weights, fused sums and activations.

Uses the oneDNN operators that come with torch, which also torch.compile calls; no compiler is
needed. All feature maps lie in memory with the channels last, so that nothing is reordered
between two layers or two frames; the image stays as it comes, so that the answer need not wait.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import cache, partial

import numpy as np
from stream_agent.engine.read_outs import (
    dense_part, is_read_out, join_read_outs, LARGE_WINDOW, numpy_read_out, NumpyReadOut, read_outs,
    row_weights, sums_rows)
from stream_agent.network.program import (
    Arrays, bind, NodeProgram, Operation, OPERATIONS, Run, Term, Values)
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.frame_schedule import frame_schedule
import torch
from torch import nn, Tensor


class Columns:
    """
    What one dense layer reads: its source, maybe averaged, in the order it has in memory.

    Averages over windows are sums over their rows, with each weight repeated along the columns.

    :param module: For which ``read_outs.dense_part`` gives something.
    :param shape: Of the source, without batch.
    :param channels_last: Whether feature maps are (B, H, W, C) in memory, or (B, C, H, W).
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...], channels_last: bool) -> None:
        part, window = dense_part(module), sums_rows(module)
        assert part is not None
        self._pool, dense = part
        self._channels_last = channels_last
        #: Weights (features, columns) and bias of the layer.
        self.weight, self.bias = dense.linear.weight.detach(), dense.linear.bias.detach()
        self._window = 1
        if window and (window >= LARGE_WINDOW or not channels_last):
            self._window = window
            self._rows, self.weight = row_weights(dense, window, shape)
            shape = (shape[0], self._rows, shape[2])
        elif self._pool:
            with torch.device('meta'):
                shape = self._pool(torch.empty(1, *shape)).shape[1:]
        if len(shape) == 3 and channels_last:
            self.weight = self.weight.unflatten(1, shape).permute(0, 2, 3, 1).flatten(1)

    def __call__(self, value: Tensor) -> Tensor:
        """Return (B, columns) in float32."""
        if value.ndim == 4:
            if self._pool and self._window == 1:
                value = self._pool(value)
            rows = 2
            if self._channels_last:
                value, rows = value.permute(0, 2, 3, 1), 1
            if self._window > 1:
                value = value.narrow(rows, 0, self._rows * self._window).unflatten(
                    rows, (self._rows, self._window)).sum(rows + 1)
        return value.flatten(1).float()


CHANNELS_LAST = torch.channels_last
# What oneDNN can do to a sum before writing it: its name there, and its numbers.
FUSED = {nn.ReLU: ('relu', []), nn.Tanh: ('tanh', []), nn.Sigmoid: ('sigmoid', []),
         nn.LeakyReLU: ('leaky_relu', [0.01])}
FUSED_WITH_SUM = {nn.ReLU}


def is_available() -> bool:
    """Return whether this torch can do it."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name)
        for name in ('_convolution_pointwise', '_reorder_convolution_weight'))


class Packing:
    """
    Translates the programs of nodes for one CPU.

    Features, cells and the image are float32 whatever the precision.

    :param precision: Of feature maps and convolutions, torch.float32 or torch.bfloat16.
    """

    def __init__(self, network: RolloutNetwork, batch_size: int, precision: torch.dtype) -> None:
        self.network, self.batch_size, self.precision = network, batch_size, precision
        self._table = {kind: partial(how, self) for kind, how in PACKED.items()}

    def dtype(self, name: str) -> torch.dtype:
        """Return the type of a node's values."""
        node = self.network.graph.node(name)
        exact = len(self.network.shapes[name]) == 1 or node.cell or name in self.network.inputs
        return torch.float32 if exact else self.precision

    def initial_values(self) -> Values:
        """Return every node before the first frame, (B, *shape)."""
        return {name: value if name in self.network.inputs else in_order(
                    value.to(self.dtype(name)))
                for name, value in self.network.initial_state(self.batch_size).values.items()}

    def bind(self, program: NodeProgram) -> Run:
        """Make what is done for a node callable; convolutions come last, to be joined."""
        program = join_read_outs(program)
        terms = sorted(map(packed_term, program.terms),
                       key=lambda term: term[0].kind == 'convolution')
        return bind(self._fused(program._replace(terms=tuple(terms)).operations()), self._table)

    def _fused(self, operations: Iterable[Operation]) -> list[Operation]:
        """Let sums and activations join the operation before them."""
        result: list[Operation] = []
        for operation in operations:
            last = result[-1] if result else None
            if last and last.result == operation.operands[-1].name:
                if operation.kind == 'add' and self._can_add(last):
                    result[-1] = last._replace(
                        result=operation.result,
                        operands=(operation.operands[0], *last.operands))
                    continue
                if operation.kind == 'activate' and self._can_activate(last, operation.module):
                    result[-1] = last._replace(result=operation.result,
                                               module=(last.module[0], operation.module))
                    continue
            result.append(operation)
        return result

    def _can_add(self, last: Operation) -> bool:
        """Return whether an operation can add its result to a sum."""
        return last.kind == 'read_outs' or (
            last.kind == 'convolution' and self.dtype(last.node) == self.precision)

    def _can_activate(self, last: Operation, activation: nn.Module) -> bool:
        """Return whether an operation can apply an activation to its result."""
        if last.kind != 'convolution' or self.dtype(last.node) != self.precision:
            return False
        has_sum = len(last.operands) > 1
        return type(activation) in (FUSED_WITH_SUM if has_sum else FUSED) and (
            # In groups, oneDNN adds to sums in float32 only.
            self.precision == torch.float32 or last.module[0].groups == 1)

    def convolution(self, operation: Operation) -> Callable[..., Tensor]:
        """Return a convolution with what has joined it, a function of a sum maybe and a source."""
        source = operation.operands[-1].name
        module, activation = operation.module
        dtype, precision = self.dtype(operation.node), self.precision
        from_image = source in self.network.inputs
        convert = self.dtype(source) != precision
        geometry = [list(pair) for pair in (module.padding, module.stride, module.dilation)]
        # As oneDNN wants the weights for one shape of the source.
        weight = torch.ops.mkldnn._reorder_convolution_weight(
            module.weight.detach().to(precision), *geometry, module.groups,
            (self.batch_size, *self.network.shapes[source]))
        bias = None if module.bias is None else module.bias.detach().to(precision)
        head = weight, bias, *geometry, module.groups
        tail = (*FUSED[type(activation)], None) if activation else ('none', [], None)
        sum_tail = 'add', 1.0, *(tail if activation else (None, [], None))
        plain = torch.ops.mkldnn._convolution_pointwise.default
        with_sum = torch.ops.mkldnn._convolution_pointwise.binary

        def run(total: Tensor | None, value: Tensor) -> Tensor:
            if from_image:
                value = in_order(value)
            if convert:
                value = value.to(precision)
            value = (plain(value, *head, *tail) if total is None else
                     with_sum(value, total, *head, *sum_tail))
            return value if dtype == precision else value.to(dtype)

        return run if len(operation.operands) > 1 else partial(run, None)

    def read_outs(self, operation: Operation) -> Callable[..., Tensor]:
        """Return dense layers as one product, a function of a sum maybe and the sources."""
        sources = [operand.name for operand in operation.operands[-len(operation.module):]]
        columns = [Columns(module, self.network.shapes[source], source not in self.network.inputs)
                   for module, source in zip(operation.module, sources)]
        weight = torch.cat([part.weight for part in columns], dim=1).contiguous().t()
        bias = torch.stack([part.bias for part in columns]).sum(0)

        def run(*values: Tensor) -> Tensor:
            read = [part(value) for part, value in zip(columns, values)]
            return torch.addmm(bias, torch.cat(read, dim=1) if len(read) > 1 else read[0], weight)

        if len(operation.operands) == len(sources):
            return run
        return lambda total, *values: run(*values).add_(total)

    def transform(self, operation: Operation) -> Callable[[Tensor], Tensor]:
        """Return any other transform, which converts what it reads."""
        dtype = self.dtype(operation.node)
        module = converted(operation.module, dtype)
        return lambda value: module(value.to(dtype))

    def body(self, operation: Operation) -> Callable[..., Tensor]:
        """Return a body, with the channels of all that it reads last in memory."""
        dtype = self.dtype(operation.node)
        module = deepcopy(operation.module).to(dtype=dtype, memory_format=CHANNELS_LAST)
        return lambda *values: module(*[in_order(value.to(dtype)) for value in values])

    def converted(self, operation: Operation) -> nn.Module:
        """Return a module in the type of the node's values."""
        return converted(operation.module, self.dtype(operation.node))


def as_before(packing: Packing, operation: Operation) -> Callable[..., Tensor]:
    """Return an operation as the reference does it."""
    return OPERATIONS[operation.kind](operation)


#: How each operation is done, given the packing; the last two stand for several.
PACKED: dict[str, Callable[[Packing, Operation], Callable[..., Tensor]]] = {
    'transform': Packing.transform,
    'body': Packing.body,
    'multiply': as_before,
    'add': as_before,
    'normalise': Packing.converted,
    'cell': Packing.converted,
    'activate': Packing.converted,
    'convolution': Packing.convolution,
    'read_outs': Packing.read_outs,
}


def packed_term(term: Term) -> Term:
    """Return a term with the operation that it becomes; the module of a convolution is a pair."""
    module = term[0].module
    if len(term) > 1:
        return term
    if (type(module) is nn.Conv2d and module.padding_mode == 'zeros'
            and not isinstance(module.padding, str)):
        return (term[0]._replace(kind='convolution', module=(module, None)),)
    return read_outs(term) if is_read_out(term) else term


# What a frame holds, its three parts, node by node, and what replaces ``respond`` where the output
# is little work.
PackedFrame = tuple[tuple[str, ...], list[Run], list[Run], list[Run], NumpyReadOut | None]


class PackedBackend:
    """
    Steps a network on the CPU, with packed weights and fused operations.

    Sums are added up in another order than in the network's step, so values may differ from it
    by rounding.

    :param precision: Of feature maps and convolutions, torch.float32 or torch.bfloat16.
    """

    def __init__(self, network: RolloutNetwork, batch_size: int = 1,
                 precision: torch.dtype = torch.float32) -> None:
        self._input, self._output = network.input, network.graph.output
        self._sum = f'{self._output}.sum'
        packing = Packing(network, batch_size, precision)
        self._initial_values = packing.initial_values
        bound = cache(lambda work: packing.bind(network.programs[work.node].part(work)))
        self._frames: list[PackedFrame] = []
        for frame in range(network.graph.hyperperiod):
            schedule = frame_schedule(network.graph, network.pattern, frame)
            ahead, respond, settle = ([bound(work) for work in part] for part in schedule[1:])
            self._frames.append((
                schedule.held, ahead, respond, settle, numpy_read_out(network, schedule)))
        self.reset()

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget every frame, and prepare for the first one."""
        self._frame = 0
        self._prepare(self._initial_values())

    def _prepare(self, before: Values) -> None:
        """Compute what the next frame needs before its image is there."""
        self._before = before
        self._frame = (self._frame + 1) % len(self._frames)
        held, ahead, *_ = self._frames[self._frame]
        self._now = {name: before[name] for name in held}
        for run in ahead:
            run(self._now, before)

    def respond(self, frame: Arrays) -> np.ndarray:
        """Return the output node, (B, *shape), for a frame of the inputs, all float32."""
        now = self._now
        if isinstance(frame, np.ndarray):
            now[self._input] = torch.from_numpy(frame)
        else:
            for name, value in frame.items():
                now[name] = torch.from_numpy(value)
        _, _, respond, _, light = self._frames[self._frame]
        if not light:
            return self._respond(respond)
        begun = now.pop(self._sum, None)
        output = light(frame, None if begun is None else begun.numpy())
        now[self._output] = torch.from_numpy(output)
        return output

    @torch.inference_mode()
    def _respond(self, runs: list[Run]) -> np.ndarray:
        """Compute what the output needs, and return it."""
        now, before = self._now, self._before
        for run in runs:
            run(now, before)
        return now[self._output].float().numpy()

    def rehearse(self, frame: Arrays) -> None:
        """Compute the answer to a frame, and forget it."""
        kept = dict(self._now)
        self.respond(frame)
        self._now.clear()
        self._now.update(kept)

    @torch.inference_mode()
    def settle(self) -> None:
        """Compute what only later frames need, and begin the next one."""
        now, before = self._now, self._before
        _, _, _, settle, _ = self._frames[self._frame]
        for run in settle:
            run(now, before)
        self._prepare(now)


def in_order(value: Tensor) -> Tensor:
    """Return feature maps with the channels last in memory, and anything else as it is."""
    return value.contiguous(memory_format=CHANNELS_LAST) if value.ndim == 4 else value


def converted(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a module in a type, without touching the one that others use."""
    return module if dtype == torch.float32 else deepcopy(module).to(dtype)
