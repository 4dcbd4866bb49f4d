"""Average pooling over large windows, faster than runtimes do it for an image's few channels."""

import torch
from torch import nn, Tensor

# From this side on, and up to this many channels.
LARGE_WINDOW = 8
FEW_CHANNELS = 8


class MatrixPooling(nn.Module):
    """
    Averages over windows side by side: columns by a matrix product, rows by a sum.

    Shapes: (B, C, H, W) to (B, C, H // window, W // window).

    :param shape: (C, H, W) of the source.
    """

    def __init__(self, shape: tuple[int, ...], window: int) -> None:
        super().__init__()
        self._window = window
        self._rows, self._columns = (side // window for side in shape[1:])
        matrix = torch.zeros(shape[2], self._columns)
        for column in range(self._columns):
            matrix[column * window:(column + 1) * window, column] = window**-2
        self.register_buffer('matrix', matrix, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        batch, channels = value.shape[:2]
        columns = (value @ self.matrix)[:, :, :self._rows * self._window]
        return columns.reshape(
            batch, channels, self._rows, self._window, self._columns).sum(3)


def with_matrix_pooling(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """
    Return a module of the same function, with a faster pooling where there is one.

    :param shape: Of what it is given, without batch.
    """
    if isinstance(module, nn.Sequential) and len(module):
        return nn.Sequential(with_matrix_pooling(module[0], shape), *module[1:])
    if isinstance(module, nn.AvgPool2d) and (
            module.kernel_size >= LARGE_WINDOW and shape[0] <= FEW_CHANNELS):
        return MatrixPooling(shape, module.kernel_size)
    return module


def window_sums(value: Tensor, window: int) -> Tensor:
    """
    Sum over windows side by side: first over their rows, which lie in memory as they are added.

    :param value: (B, H, W, C); the window divides H and W.
    :returns: (B, H // window, W // window, C).
    """
    batch, height, width, channels = value.shape
    rows = value.reshape(batch, height // window, window, width * channels).sum(2)
    return rows.view(batch, height // window, width // window, window, channels).sum(3)
