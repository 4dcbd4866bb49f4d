"""
Read-outs, which are dense layers maybe behind a pooling, in forms that are fast.

Several onto the same features are one product. One of an image uses sums over rows, and where it
is all that the output waits for, it is a few microseconds of NumPy: a runtime adds several times
as much when its code has to come from memory, as after a camera period of other work.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from stream_agent.network.program import frame_program, NodeProgram, Operation, Term
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.transforms import Dense
from stream_agent.theory.frame_schedule import FrameSchedule
import torch
from torch import nn, Tensor
from torch.nn import functional

# Larger sources are not worth being copied side by side.
MOST_FEATURES = 8192


class ReadOuts(nn.Module):
    """
    The sum of several dense layers, each maybe behind a pooling.

    Shapes: values (B, *source) each, to (B, features).

    :param modules: For each of which ``dense_part`` gives something.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        parts = [part for module in modules if (part := dense_part(module))]
        self._pools = [pool for pool, _ in parts]
        weight = torch.cat([dense.linear.weight for _, dense in parts], dim=1)
        bias = torch.stack([dense.linear.bias for _, dense in parts]).sum(0)
        self.register_buffer('weight', weight.detach(), persistent=False)
        self.register_buffer('bias', bias.detach(), persistent=False)

    def forward(self, *values: Tensor) -> Tensor:
        columns = [(pool(value) if pool else value).flatten(1)
                   for pool, value in zip(self._pools, values)]
        return functional.linear(torch.cat(columns, dim=1), self.weight, self.bias)


def dense_part(module: nn.Module) -> tuple[nn.AvgPool2d | None, Dense] | None:
    """Return the pooling and the dense layer onto features that a module is; None if not."""
    pool: nn.AvgPool2d | None = None
    if isinstance(module, nn.Sequential) and len(module) == 2:
        first, module = module
        if type(first) is not nn.AvgPool2d:
            return None
        pool = first
    if type(module) is Dense and len(module.target) == 1:
        return pool, module
    return None


def is_read_out(term: Term) -> bool:
    """Return whether a term is one dense layer onto features."""
    return len(term) == 1 and term[0].kind == 'transform' and bool(dense_part(term[0].module))


def read_outs(*terms: Term) -> Term:
    """Return read-outs as one operation 'read_outs' of their modules, with all their sources."""
    first = terms[0][0]
    return (first._replace(kind='read_outs',
                           operands=tuple(term[0].operands[0] for term in terms),
                           module=tuple(term[0].module for term in terms)),)


def join_read_outs(program: NodeProgram) -> NodeProgram:
    """Return a node's program in which one product, if any, computes several read-outs, first."""
    joined = [term for term in program.terms if is_read_out(term) and (
        part := dense_part(term[0].module)) and part[1].linear.in_features <= MOST_FEATURES]
    if len(joined) < 2:
        return program
    others = (term for term in program.terms if term not in joined)
    return program._replace(terms=(read_outs(*joined), *others))


# From this side on, sums over rows are faster than pooling feature maps.
LARGE_WINDOW = 8
# An image has so few that no runtime pools it fast.
FEW_CHANNELS = 8
# Up to this many features, a weight for every column is cheaper than sums over columns.
FEW_FEATURES = 8


class RowSums(nn.Module):
    """
    Sums over the rows of windows.

    Shapes: (B, C, H, W) to (B, C, H // window, W).
    """

    def __init__(self, window: int, rows: int) -> None:
        super().__init__()
        self._window, self._rows = window, rows

    def forward(self, value: Tensor) -> Tensor:
        batch, channels, _, width = value.shape
        whole = value[:, :, :self._rows * self._window]
        return whole.reshape(batch, channels, self._rows, self._window, width).sum(3)


def sums_rows(module: nn.Module) -> int:
    """Return the windows' size of a read-out that may be computed from sums over rows, or 0."""
    pool, dense = dense_part(module) or (None, None)
    usable = (pool and dense and dense.linear.out_features <= FEW_FEATURES
              and pool.kernel_size == pool.stride and not pool.padding and not pool.ceil_mode)
    return pool.kernel_size if pool and usable and isinstance(pool.kernel_size, int) else 0


def by_rows(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """
    Return a read-out of an image in a form that runtimes are fast at, and anything else as it is.

    :param shape: (C, H, W) of what it is given.
    """
    part, window = dense_part(module), sums_rows(module)
    if not part or not window or shape[0] > FEW_CHANNELS:
        return module
    rows, weight = row_weights(part[1], window, shape)
    result = Dense((shape[0], rows, shape[2]), part[1].target)
    with torch.no_grad():
        result.linear.weight.copy_(weight)
        result.linear.bias.copy_(part[1].linear.bias)
    return nn.Sequential(RowSums(window, rows), result).requires_grad_(False)


def read_by_rows(program: NodeProgram, shapes: Mapping[str, tuple[int, ...]]) -> NodeProgram:
    """
    Return a node's program in which read-outs of images have the form of ``by_rows``.

    :param shapes: Of the nodes, without batch.
    """
    def changed(operation: Operation) -> Operation:
        source = operation.operands[0].name
        if operation.kind != 'transform' or source not in shapes:
            return operation
        return operation._replace(module=by_rows(operation.module, shapes[source]))

    return program._replace(terms=tuple(tuple(map(changed, term)) for term in program.terms))


def row_weights(dense: Dense, window: int, shape: tuple[int, ...]) -> tuple[int, Tensor]:
    """
    Return the weights of a read-out for sums over the rows of windows, each repeated by columns.

    :param window: As from ``sums_rows``.
    :param shape: (C, H, W) of the source.
    :returns: H // window, and weights (features, C * (H // window) * W).
    """
    channels, height, width = shape
    rows = height // window
    weight = dense.linear.weight.detach().unflatten(
        1, (channels, rows, width // window)) / window**2
    repeated = weight.repeat_interleave(window, 3)
    return rows, functional.pad(repeated, (0, width - repeated.shape[3])).flatten(1)


# From the frame, (B, C, H, W) where there is one input, and the sum begun ahead (B, features), if
# any, to the output.
NumpyReadOut = Callable[[Any, np.ndarray | None], np.ndarray]
ACTIVATIONS: dict[type, Callable[[np.ndarray], np.ndarray]] = {
    type(None): lambda total: total,
    nn.Tanh: np.tanh,
    nn.ReLU: lambda total: np.maximum(total, np.float32(0)),
}


def numpy_read_out(network: RolloutNetwork, schedule: FrameSchedule) -> NumpyReadOut | None:
    """Return the output of a frame in NumPy, if it is a read-out of the image and nothing else."""
    operations = frame_program(network.programs, schedule).respond
    kinds = [operation.kind for operation in operations]
    if kinds not in (['transform', *add, *activate] for add in ([], ['add'])
                     for activate in ([], ['activate'])):
        return None
    read, activation = operations[0], operations[-1].module if 'activate' in kinds else None
    (source,) = read.operands
    part, window = dense_part(read.module), sums_rows(read.module)
    if (type(activation) not in ACTIVATIONS or source.name not in network.inputs or source.before
            or not part or not window):
        return None
    channels, _, width = shape = network.shapes[source.name]
    rows, weight = row_weights(part[1], window, shape)
    matrix = np.ascontiguousarray(weight.numpy().T)
    bias = part[1].linear.bias.detach().numpy()
    finish = ACTIVATIONS[type(activation)]

    def respond(frame: np.ndarray, begun: np.ndarray | None) -> np.ndarray:
        windows = frame[:, :, :rows * window].reshape(
            len(frame), channels * rows, window, width)
        total = np.add.reduce(windows, axis=2).reshape(len(frame), -1) @ matrix + bias
        return finish(total if begun is None else total + begun)

    if len(network.inputs) == 1:
        return respond
    return lambda frames, begun: respond(frames[source.name], begun)
