"""Dense layers and read-outs in the order in which their sources lie in memory."""

from stream_agent.engine.pooling import along_columns, LARGE_WINDOW, sums_rows
from stream_agent.engine.read_outs import dense_part
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
