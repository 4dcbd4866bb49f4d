"""
Images in ROS messages, read without ROS: the only module that knows steps and encodings.

The messages may be rclpy's or those of a library that reads recordings; the fields are the same.
"""

from typing import Any

import cv2
import numpy as np
from stream_agent.bounded_settings import choice

MAX_SIDE = 4096
MAX_BYTES = 64 * 2**20
CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}
# Where the red, green and blue of a pixel are.
TO_RGB = {'rgb8': np.s_[:], 'bgr8': np.s_[::-1], 'rgba8': np.s_[:3], 'bgra8': np.s_[2::-1],
          'mono8': 0}
JPEG, JPEG_END = b'\xff\xd8', b'\xff\xd9'


def image_transport() -> Any:
    """Declare the setting that says how images are sent."""
    return choice('raw', "how images are sent: 'raw' or 'compressed'", ('raw', 'compressed'))


class ImageError(ValueError):
    """An image that cannot be read; the message says what is wrong and what would be right."""


def stamp_of_serialized(data: bytes) -> int:
    """
    Read the stamp [ns] of a serialized message that begins with a header.

    :param data: CDR: four bytes that name the encoding, the lowest bit of the second one for
        little endian; then seconds and nanoseconds, four bytes each.
    """
    order = 'little' if data[1] & 1 else 'big'
    return (int.from_bytes(data[4:8], order, signed=True) * 10**9
            + int.from_bytes(data[8:12], order))


def check_size(height: int, width: int) -> None:
    """Refuse sides outside 1 ... 4096 before memory of that size is used."""
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ImageError(f'image is {width} x {height} pixels; sides of 1 to {MAX_SIDE} '
                         'are supported')


def image_to_array(msg) -> np.ndarray:
    """
    View an image message as pixels, without a copy.

    :returns: uint8, (H, W, 3) in RGB order or (H, W) for mono8; a view of the message's memory
        for every encoding, from which ``Preprocessing`` reads without reordering it first.
    :raises ImageError: If the encoding is not supported, or sizes contradict each other.
    """
    if msg.encoding not in CHANNELS:
        raise ImageError(f"image encoding is '{msg.encoding}'; supported are "
                         f"{', '.join(CHANNELS)}")
    check_size(msg.height, msg.width)
    channels = CHANNELS[msg.encoding]
    if msg.step < msg.width * channels or msg.step * msg.height > MAX_BYTES:
        raise ImageError(f'image step is {msg.step} bytes for {msg.width} pixels of '
                         f'{msg.encoding}; at least {msg.width * channels} are needed, and at '
                         f'most {MAX_BYTES // 2**20} MiB in all are read')
    if len(msg.data) != msg.step * msg.height:
        raise ImageError(f'image data has {len(msg.data)} bytes; step x height is '
                         f'{msg.step * msg.height}')
    rows = np.asarray(msg.data, dtype=np.uint8).reshape(msg.height, msg.step)
    pixels = rows[:, :msg.width * channels].reshape(msg.height, msg.width, channels)
    return pixels[:, :, TO_RGB[msg.encoding]]


def jpeg_or_png_size(data: bytes) -> tuple[int, int] | None:
    """Read (height, width) from a JPEG's or PNG's header; None if it is neither."""
    if data[:8] == b'\x89PNG\r\n\x1a\n' and len(data) >= 24:
        return int.from_bytes(data[20:24], 'big'), int.from_bytes(data[16:20], 'big')
    if data[:2] != JPEG:
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2:at + 4], 'big')
        # SOF0 ... SOF15 carry the size; C4, C8 and CC in that range are other segments.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return (int.from_bytes(data[at + 5:at + 7], 'big'),
                    int.from_bytes(data[at + 7:at + 9], 'big'))
        at += 2 + length
    return None


def compressed_to_array(msg) -> np.ndarray:
    """
    Decode a JPEG or PNG message.

    :returns: uint8, (H, W, 3) in RGB order, or (H, W) if the file is grey.
    :raises ImageError: If it is neither, the file is broken, or a side exceeds 4096.
    """
    return decoded(bytes(msg.data), msg.format)


def decoded(data: bytes, name: str) -> np.ndarray:
    """Decode as ``compressed_to_array``; the name is the format that the sender claims."""
    size = jpeg_or_png_size(data)
    if size is None:
        raise ImageError(f"compressed image of format '{name}' is neither JPEG nor PNG")
    check_size(*size)
    if data[:2] == JPEG and JPEG_END not in data:
        raise ImageError(f"compressed image of format '{name}' ends early")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8:
        raise ImageError(f"compressed image of format '{name}' cannot be decoded to 8 bits")
    return pixels if pixels.ndim == 2 else pixels[:, :, 2::-1]
