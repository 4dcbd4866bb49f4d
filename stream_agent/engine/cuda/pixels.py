"""
A camera's pixels to the network's input, on the device; ``Preprocessing`` is what it means.

OpenCV's steps are taken one by one, each with its own rounding, because the next one starts from
what the one before has rounded. Halving and grey are OpenCV's integers, and equal it exactly;
broken factors are products with weight matrices, which may differ by a grey level where OpenCV
rounds something near a half.
"""

from functools import partial

import numpy as np
from stream_agent.network.preprocessing import binnings, is_bilinear, Preprocessing, scale
import torch
from torch import Tensor

# OpenCV's weights of red, green and blue, times 2^15.
GREY_WEIGHTS = 9798, 19235, 3735
GREY_SHIFT = 15


class DevicePixels:
    """
    Converts images of one size.

    :param camera: (H, W) or (H, W, 3) of the images.
    """

    def __init__(self, preprocessing: Preprocessing, camera: tuple[int, ...],
                 device: torch.device) -> None:
        channels, height, width = preprocessing.shape
        rows, columns = camera[:2]
        self._device = device
        self._rows = slice(int(rows * preprocessing.crop_top),
                           rows - int(rows * preprocessing.crop_bottom))
        rows = self._rows.stop - self._rows.start
        self._steps = []
        for rows, columns in binnings(rows, columns, preprocessing.shape):
            self._steps.append(halved)
        if len(camera) == 3 and channels == 1:
            weights = torch.tensor(GREY_WEIGHTS, dtype=torch.int32, device=device)
            self._steps.append(partial(grey, weights[:, None, None]))
        if (rows, columns) == (2 * height, 2 * width):
            self._steps.append(halved)
        elif (rows, columns) != (height, width):
            bilinear = is_bilinear(rows, columns, preprocessing.shape)
            larger = rows < height or columns < width
            weigh = (linear_weights if bilinear else
                     enlarging_weights if larger else area_weights)
            self._steps.append(partial(weighted, self._matrix(weigh(rows, height)),
                                       self._matrix(weigh(columns, width)).t()))
        self._shape = preprocessing.shape

    def _matrix(self, weights: np.ndarray) -> Tensor:
        return torch.from_numpy(weights.astype(np.float32)).to(self._device)

    def __call__(self, pixels: Tensor, out: Tensor) -> None:
        """
        Convert a batch of images.

        :param pixels: uint8, (B, H, W, 3) in RGB order or (B, H, W).
        :param out: float32, (B, C, H, W) of the network's input.
        """
        image = pixels[:, self._rows]
        image = image.permute(0, 3, 1, 2) if image.ndim == 4 else image.unsqueeze(1)
        for step in self._steps:
            image = step(image)
        out.copy_(scale(image).expand(-1, *self._shape))


def halved(image: Tensor) -> Tensor:
    """Average 2x2 pixels, half up; an odd last row or column is left out."""
    rows, columns = image.shape[2] // 2, image.shape[3] // 2
    quarters = image[:, :, :2 * rows, :2 * columns].unflatten(2, (rows, 2)).unflatten(
        4, (columns, 2))
    return quarters.sum((3, 5), dtype=torch.int32).add_(2).bitwise_right_shift_(2)


def grey(weights: Tensor, image: Tensor) -> Tensor:
    """Weigh red, green and blue."""
    total = (image.to(torch.int32) * weights).sum(1, keepdim=True, dtype=torch.int32)
    return total.add_(1 << GREY_SHIFT - 1).bitwise_right_shift_(GREY_SHIFT)


def weighted(rows: Tensor, columns: Tensor, image: Tensor) -> Tensor:
    """Resize by weights, (rows, H) and (W, columns), and round to grey levels."""
    return (rows @ (image.float() @ columns)).round_()


def area_weights(size: int, wanted: int) -> np.ndarray:
    """Return the share of every pixel in the area of each wanted one, (wanted, size)."""
    weights = np.zeros((wanted, size))
    edges = np.arange(wanted + 1) * size / wanted
    for i, (low, high) in enumerate(zip(edges, edges[1:])):
        pixels = np.arange(int(low), min(int(np.ceil(high)), size))
        weights[i, pixels] = np.minimum(pixels + 1, high) - np.maximum(pixels, low)
    return weights / weights.sum(1, keepdims=True)


def enlarging_weights(size: int, wanted: int) -> np.ndarray:
    """Return what OpenCV's INTER_AREA does on both axes if one of them is enlarged."""
    index = np.arange(wanted)
    left = np.floor(index * size / wanted).astype(int)
    fraction = index + 1 - (left + 1) * wanted / size
    fraction = np.where(fraction <= 0, 0, fraction - np.floor(fraction))
    return blended(left, fraction, size)


def linear_weights(size: int, wanted: int) -> np.ndarray:
    """Return the weights of the two pixels beside the middle of each wanted one."""
    position = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    left = np.floor(position).astype(int)
    return blended(left, position - left, size)


def blended(left: np.ndarray, fraction: np.ndarray, size: int) -> np.ndarray:
    """Return weights of pixels and their right neighbours, (wanted, size), within the image."""
    weights = np.zeros((len(left), size))
    for i, (pixel, share) in enumerate(zip(left, fraction)):
        weights[i, np.clip(pixel, 0, size - 1)] += 1 - share
        weights[i, np.clip(pixel + 1, 0, size - 1)] += share
    return weights
