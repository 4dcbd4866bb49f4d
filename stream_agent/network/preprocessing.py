"""Pixels to network input: the same function in training and on the robot."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Preprocessing:
    """
    Crops rows, converts the colours, resizes, and scales to -0.5 ... 0.5.

    :param shape: (C, H, W) of the network's input; C is 1 (grey) or 3 (RGB).
    :param crop_top: Share of the image's rows that is cut off above, 0 ... 1.
    :param crop_bottom: The same below.
    """

    shape: tuple[int, int, int]
    crop_top: float = 0.0
    crop_bottom: float = 0.0

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or self.shape[0] not in (1, 3):
            raise ValueError(f'preprocessing: the input node has the shape {list(self.shape)}; '
                             'an image is [1, height, width] or [3, height, width]')
        if (not (self.crop_top >= 0 and self.crop_bottom >= 0)
                or self.crop_top + self.crop_bottom >= 1):
            raise ValueError(f'preprocessing: crop_top {self.crop_top} and crop_bottom '
                             f'{self.crop_bottom} leave no row; both are shares of the height')

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """
        Convert one image.

        :param image: uint8, (H, W, 3) in RGB order or (H, W), of any size.
        :returns: float32, (C, H, W).
        """
        return scale(self.pixels(image))

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """
        Convert all but the scale, a quarter of the size for who keeps many.

        :param image: As for a call.
        :returns: uint8, (C, H, W).
        """
        channels, height, width = self.shape
        rows = image.shape[0]
        image = image[int(rows * self.crop_top):rows - int(rows * self.crop_bottom)]
        if image.ndim == 3 and channels == 1:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if image.ndim == 2 and channels == 3:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        if channels == 1:
            return image.reshape(1, height, width)
        return np.ascontiguousarray(image.transpose(2, 0, 1))


def scale(pixels):
    """Map 0 ... 255 to -0.5 ... 0.5; uint8 to float32, arrays and tensors alike."""
    return pixels * np.float32(1 / 255) - np.float32(0.5)
