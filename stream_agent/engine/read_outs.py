"""Dense layers onto the same features, as one product."""

from stream_agent.network.modules import Term
from stream_agent.network.transforms import Dense
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

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        parts = [dense_part(module) for module in modules]
        self._pools = [pool for pool, _ in parts]
        weight = torch.cat([dense.linear.weight for _, dense in parts], dim=1)
        bias = torch.stack([dense.linear.bias for _, dense in parts]).sum(0)
        self.register_buffer('weight', weight.detach(), persistent=False)
        self.register_buffer('bias', bias.detach(), persistent=False)

    def forward(self, *values: Tensor) -> Tensor:
        columns = [(pool(value) if pool else value).flatten(1)
                   for pool, value in zip(self._pools, values)]
        return functional.linear(torch.cat(columns, dim=1), self.weight, self.bias)


def dense_part(module: nn.Module) -> tuple[nn.Module | None, Dense] | None:
    """Return the pooling and the dense layer onto features that a module is; None if not."""
    pool = None
    if isinstance(module, nn.Sequential) and len(module) == 2:
        pool, module = module
        if type(pool) is not nn.AvgPool2d:
            return None
    if type(module) is Dense and len(module.target) == 1:
        return pool, module
    return None


def join_read_outs(terms: list[Term]) -> tuple[list[Term], list[Term]]:
    """Return the terms that one product can compute together, and all others."""
    joined = [term for term in terms if not term.others and dense_part(term.module)
              and dense_part(term.module)[1].linear.in_features <= MOST_FEATURES]
    if len(joined) < 2:
        return [], terms
    return joined, [term for term in terms if term not in joined]


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


def sums_rows(module: nn.Module) -> bool:
    """Return whether a module is a read-out that may be computed from sums over rows."""
    pool, dense = dense_part(module) or (None, None)
    return (pool is not None and dense.linear.out_features <= FEW_FEATURES
            and pool.kernel_size == pool.stride and not pool.padding and not pool.ceil_mode)


def by_rows(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """
    Return a read-out of an image in a form that runtimes are fast at, and anything else as it is.

    :param shape: (C, H, W) of what it is given.
    """
    if not sums_rows(module) or shape[0] > FEW_CHANNELS:
        return module
    pool, dense = dense_part(module)
    window = pool.kernel_size
    rows = shape[1] // window
    result = Dense((shape[0], rows, shape[2]), dense.target)
    with torch.no_grad():
        result.linear.weight.copy_(along_columns(dense.linear.weight, shape, window))
        result.linear.bias.copy_(dense.linear.bias)
    return nn.Sequential(RowSums(window, rows), result).requires_grad_(False)


def along_columns(weight: Tensor, shape: tuple[int, ...], window: int) -> Tensor:
    """
    Return weights for sums over the rows of windows, from weights for averages over windows.

    :param weight: (features, C * (H // window) * (W // window)).
    :param shape: (C, H, W) of the source.
    :returns: (features, C * (H // window) * W).
    """
    channels, height, width = shape
    weight = weight.unflatten(1, (channels, height // window, width // window)) / window**2
    repeated = weight.repeat_interleave(window, 3)
    return nn.functional.pad(repeated, (0, width - repeated.shape[3])).flatten(1)
