"""Pixels to network input: the same function in training and on the robot."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import cv2
import numpy as np
from stream_agent.theory.checks import is_number, is_shape, show

TO_GREY = {'RGB': cv2.COLOR_RGB2GRAY, 'BGR': cv2.COLOR_BGR2GRAY,
           'RGBA': cv2.COLOR_RGBA2GRAY, 'BGRA': cv2.COLOR_BGRA2GRAY}
TO_RGB = {'RGBA': cv2.COLOR_RGBA2RGB, 'BGRA': cv2.COLOR_BGRA2RGB}

# OpenCV's average over areas costs about 1 ns a value, bilinear weights a fifth of that, and
# averages of 2x2 pixels less than a tenth.
MOST_VALUES_BY_AREA = 20_000
# Of the network's input, a side; and the share of rows that may be cut off.
MOST_PIXELS, MOST_CROP = 8192, 0.99


def is_image_shape(shape: tuple[int, ...] | None) -> bool:
    """Return whether an input node of a shape takes an image."""
    return is_shape(shape) and shape is not None and len(shape) == 3 and shape[0] in (1, 3) and (
        max(shape) <= MOST_PIXELS)


@dataclass(frozen=True)
class Preprocessing:
    """
    Crops rows, converts the colours, resizes, and scales to -0.5 ... 0.5.

    :param shape: (C, H, W) of the network's input; C is 1 (grey) or 3 (RGB).
    :param crop_top: Share of the image's rows that is cut off above, 0 ... 0.99.
    :param crop_bottom: The same below; of both together a hundredth of the rows is left at least.
    :raises ValueError: If these cannot be.
    """

    shape: tuple[int, ...]
    crop_top: float = 0.0
    crop_bottom: float = 0.0
    kind: ClassVar[str] = 'image'

    @property
    def size(self) -> int:
        """How many numbers it gives, as those of ``contract.conversions`` have it."""
        return prod(self.shape)

    def __post_init__(self) -> None:
        if not is_image_shape(self.shape):
            raise ValueError(f'preprocessing: the input node has the shape {show(self.shape)}; an '
                             'image is [1, height, width] or [3, height, width], of at most '
                             f'{MOST_PIXELS} pixels a side')
        crops = self.crop_top, self.crop_bottom
        if not all(is_number(crop) and crop >= 0 for crop in crops) or sum(crops) > MOST_CROP:
            raise ValueError(f'preprocessing: crop_top {show(self.crop_top)} and crop_bottom '
                             f'{show(self.crop_bottom)} leave no picture; both are shares of the '
                             f'height, together at most {MOST_CROP}')

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """
        Convert one image.

        :param image: uint8, (H, W, 3) in RGB order or (H, W), of any size. RGB views of BGR, RGBA
            or BGRA memory, such as ``bgr[..., ::-1]`` or ``bgra[..., 2::-1]``, are as fast.
        :returns: float32, (C, H, W), in memory of its own.
        """
        return scale(self.pixels(image))

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """
        Convert an image without scaling it, which takes a quarter of the memory.

        :returns: uint8, (C, H, W); of a grey image that fits already, a view.
        """
        rows = image.shape[0]
        image = image[int(rows * self.crop_top):rows - int(rows * self.crop_bottom)]
        order = 'grey'
        if image.ndim == 3:
            image, order = as_stored(image)
        # So a large camera gives the pixels of a small one. An odd last row or column is left out.
        for rows, columns in binnings(image.shape[0], image.shape[1], self.shape):
            image = cv2.resize(image[:2 * rows, :2 * columns], (columns, rows),
                               interpolation=cv2.INTER_AREA)
        if self.shape[0] == 1 and order != 'grey':
            image = cv2.cvtColor(image, TO_GREY[order])
        elif order in TO_RGB:
            image, order = cv2.cvtColor(image, TO_RGB[order]), 'RGB'
        size, (_, height, width) = image.shape[:2], self.shape
        if size != (height, width):
            bilinear = is_bilinear(size[0], size[1], self.shape)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR if bilinear
                               else cv2.INTER_AREA)
        if self.shape[0] == 1:
            return image[np.newaxis]
        planes = np.empty(self.shape, np.uint8)
        if order == 'grey':
            planes[:] = image
        else:
            cv2.split(image, list(planes if order == 'RGB' else planes[::-1]))
        return planes


def as_stored(image: np.ndarray) -> tuple[np.ndarray, str]:
    """
    Find the memory behind an RGB view, as OpenCV would copy what lies in another order.

    :param image: uint8, (H, W, 3).
    :returns: The same pixels as they lie, (H, W, 3 or 4), and their order: RGB, BGR, RGBA, BGRA.
    """
    order = 'RGB'
    if image.strides[2] == -1:
        image, order = image[..., ::-1], 'BGR'
    base = image.base
    if image.strides[1:] == (4, 1) and isinstance(base, np.ndarray) and base.flags.c_contiguous:
        # Where in memory the first elements are.
        own, first = (array.__array_interface__['data'][0] for array in (image, base))
        start = own - first
        end = start + image.strides[0] * (image.shape[0] - 1) + 4 * image.shape[1]
        if image.strides[0] >= 0 and end <= base.nbytes:
            image = np.ndarray((*image.shape[:2], 4), np.uint8, base, start, image.strides)
            order += 'A'
    return image, order


def binnings(rows: int, columns: int, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the sizes through which a large image is halved, (H, W), down to the input's."""
    channels, height, width = shape
    sizes = []
    while (channels * rows * columns > MOST_VALUES_BY_AREA
           and rows >= 2 * height and columns >= 2 * width):
        rows, columns = rows // 2, columns // 2
        sizes.append((rows, columns))
    return sizes


def is_bilinear(rows: int, columns: int, shape: tuple[int, ...]) -> bool:
    """Tell whether the last resize is bilinear, which up to a factor of 2 skips no pixel."""
    channels, height, width = shape
    return (channels * rows * columns > MOST_VALUES_BY_AREA
            and height <= rows <= 2 * height and width <= columns <= 2 * width)


def scale(pixels):
    """Map 0 ... 255 to -0.5 ... 0.5; uint8 to float32, arrays and tensors alike."""
    if not isinstance(pixels, np.ndarray):
        return pixels * np.float32(1 / 255) - np.float32(0.5)
    values = pixels.astype(np.float32)  # in place from here on, in two thirds of the time
    values *= np.float32(1 / 255)
    values -= np.float32(0.5)
    return values
