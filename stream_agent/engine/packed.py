"""
Convolutions and dense layers prepared for one CPU: packed weights, fused sums and activations.

Uses the oneDNN operators that come with torch, which also torch.compile calls; no compiler is
needed. All feature maps lie in memory with the channels last, so that nothing is reordered
between two layers or two frames; the image stays as it comes, for the answer not to wait.
"""

from copy import deepcopy

import numpy as np
from stream_agent.engine.numpy_readout import light_response
from stream_agent.engine.read_outs import (
    along_columns, dense_part, join_read_outs, LARGE_WINDOW, sums_rows)
from stream_agent.engine.task_executor import BoundTask, Ending, TaskBackend, terms_of, Values
from stream_agent.network.modules import Factor, Term
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.frame_schedule import frame_tasks, Task
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
        self._pool, dense = dense_part(module)
        self._channels_last = channels_last
        #: Weights (features, columns) and bias of the layer.
        self.weight, self.bias = dense.linear.weight.detach(), dense.linear.bias.detach()
        self._window = 1
        if sums_rows(module) and (self._pool.kernel_size >= LARGE_WINDOW or not channels_last):
            self._window = self._pool.kernel_size
            self._rows = shape[1] // self._window
            self.weight = along_columns(self.weight, shape, self._window)
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


class PackedDense:
    """One product for dense layers onto the same features."""

    def __init__(self, columns: list[Columns]) -> None:
        self._columns = columns
        self._weight = torch.cat([part.weight for part in columns], dim=1).contiguous().t()
        self._bias = torch.stack([part.bias for part in columns]).sum(0)

    def __call__(self, values: list[Tensor], total: Tensor | None) -> Tensor:
        """Return the features, added to a total if there is one."""
        columns = [part(value) for part, value in zip(self._columns, values)]
        features = torch.addmm(
            self._bias, torch.cat(columns, dim=1) if len(columns) > 1 else columns[0],
            self._weight)
        return features if total is None else features.add_(total)


CHANNELS_LAST = torch.channels_last
# What oneDNN can do to a sum before it is written, by its name there, with its numbers.
FUSED = {nn.ReLU: ('relu', []), nn.Tanh: ('tanh', []), nn.Sigmoid: ('sigmoid', []),
         nn.LeakyReLU: ('leaky_relu', [0.01])}
FUSED_WITH_SUM = {nn.ReLU}
NOTHING = ('none', [])


def is_available() -> bool:
    """Return whether this torch can do it."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name)
        for name in ('_convolution_pointwise', '_reorder_convolution_weight'))


class PackedConvolution:
    """
    A convolution whose weights lie as oneDNN wants them for one shape of the source.

    :param shape: (B, C, H, W) of the source.
    :param fused: Name and numbers of the activation that follows.
    """

    def __init__(self, module: nn.Conv2d, shape: tuple[int, ...], dtype: torch.dtype,
                 fused: tuple[str, list[float]]) -> None:
        geometry = [list(pair) for pair in (module.padding, module.stride, module.dilation)]
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            module.weight.detach().to(dtype), *geometry, module.groups, shape)
        bias = None if module.bias is None else module.bias.detach().to(dtype)
        self._head = (self._weight, bias, *geometry, module.groups)
        self._tail = (*fused, None)
        self._sum_tail = (None, [], None) if fused is NOTHING else self._tail
        self._fused_sum = torch.ops.mkldnn._convolution_pointwise.binary
        self._plain = torch.ops.mkldnn._convolution_pointwise.default

    def __call__(self, value: Tensor, total: Tensor | None) -> Tensor:
        """Return the activation of the convolution, added to a total if there is one."""
        if total is None:
            return self._plain(value, *self._head, *self._tail)
        return self._fused_sum(value, total, *self._head, 'add', 1.0, *self._sum_tail)


class PackedBackend(TaskBackend):
    """
    Steps a network by tasks, on the CPU, with packed weights and fused operations.

    Features, cells and the image are float32 whatever the precision.

    :param precision: Of feature maps and convolutions, torch.float32 or torch.bfloat16.
    """

    def __init__(self, network: RolloutNetwork, batch_size: int = 1,
                 precision: torch.dtype = torch.float32) -> None:
        self._precision = precision
        super().__init__(network, batch_size)
        self._light = [light_response(network, frame_tasks(network.graph, network.pattern,
                                                           i).respond)
                       for i in range(len(self._frames))]

    def respond(self, frame: np.ndarray) -> np.ndarray:
        """Answer a frame, as in any backend; the smallest answers in NumPy."""
        light = self._light[self._frame % len(self._light)]
        if not light:
            return super().respond(frame)
        now = self._now
        begun = now.get(self._output)
        output = light(frame, None if begun is None else begun.numpy())
        now[self._input], now[self._output] = torch.from_numpy(frame), torch.from_numpy(output)
        return output

    def _dtype(self, name: str) -> torch.dtype:
        """Return the type of a node's values."""
        node = self._network.graph.node(name)
        exact = len(node.shape) == 1 or node.cell or name == self._input
        return torch.float32 if exact else self._precision

    def initial_values(self) -> Values:
        """Return every node before the first frame."""
        return {name: value if name == self._input else in_order(value.to(self._dtype(name)))
                for name, value in super().initial_values().items()}

    def bind(self, task: Task) -> BoundTask:
        """Make a task callable; convolutions come last, for the activation to join them."""
        name, dtype = task.node, self._dtype(task.node)
        prepare, cell, activation = (
            part and converted(part, dtype) for part in self._network.at_work.ends[name])
        joined, terms = join_read_outs(terms_of(self._network, task))
        terms = sorted(terms, key=self._is_packed_convolution)
        fused = NOTHING
        if (task.finishes and not prepare and not cell and dtype == self._precision
                and terms and self._is_packed_convolution(terms[-1])
                and type(activation) in (FUSED_WITH_SUM if task.begun or terms[1:] else FUSED)
                # With a sum, oneDNN has no such in groups but in float32.
                and (dtype == torch.float32 or terms[-1].module.groups == 1)):
            fused, activation = FUSED[type(activation)], None
        adders = [self._adder(term, dtype, fused if term is terms[-1] else NOTHING)
                  for term in terms]
        if joined:
            adders.insert(0, self._dense_adder(joined))
        ending = Ending(prepare, cell, activation)

        def run(now: Values, before: Values) -> None:
            total = now[name] if task.begun else None
            for add in adders:
                total = add(now, before, total)
            now[name] = ending(total, before.get(name)) if task.finishes else total

        return run

    def _is_packed_convolution(self, term: Term) -> bool:
        """Return whether a term is one convolution that oneDNN takes as it is."""
        return (type(term.module) is nn.Conv2d and not term.others
                and term.module.padding_mode == 'zeros'
                and not isinstance(term.module.padding, str))

    def _adder(self, term: Term, dtype: torch.dtype, fused: tuple[str, list[float]]):
        """Return a function that adds a term to a total, or begins one."""
        source, streams = term.source, term.streams
        shape = self._network.shapes[source]
        if self._is_packed_convolution(term):
            from_image = source == self._input
            convert = self._dtype(source) != self._precision
            convolution = PackedConvolution(
                term.module, (self._batch_size, *shape), self._precision, fused)
            apart = dtype != self._precision

            def add_convolution(now: Values, before: Values, total: Tensor | None) -> Tensor:
                value = (before if streams else now)[source]
                if from_image:
                    value = in_order(value)
                if convert:
                    value = value.to(self._precision)
                if not apart:
                    return convolution(value, total)
                value = convolution(value, None).to(dtype)
                return value if total is None else total + value

            return add_convolution
        if not term.others and dense_part(term.module):
            return self._dense_adder([term])
        factors = [(converted(module, dtype), name, streams)
                   for module, name, streams in (Factor(*term[:3]), *term.others)]

        def add_modules(now: Values, before: Values, total: Tensor | None) -> Tensor:
            value = None
            for module, name, streams in factors:
                factor = module((before if streams else now)[name].to(dtype))
                value = factor if value is None else value * factor
            return value if total is None else total + value

        return add_modules

    def _dense_adder(self, terms: list[Term]):
        """Return a function that adds dense layers to a total, or begins one."""
        dense = PackedDense([
            Columns(term.module, self._network.shapes[term.source], term.source != self._input)
            for term in terms])
        sources = [(term.source, term.streams) for term in terms]

        def add_dense(now: Values, before: Values, total: Tensor | None) -> Tensor:
            return dense([(before if streams else now)[name] for name, streams in sources], total)

        return add_dense


def in_order(value: Tensor) -> Tensor:
    """Return feature maps with the channels last in memory, and anything else as it is."""
    return value.contiguous(memory_format=CHANNELS_LAST) if value.ndim == 4 else value


def converted(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a module in a type, without touching the one that others use."""
    return module if dtype == torch.float32 else deepcopy(module).to(dtype)
