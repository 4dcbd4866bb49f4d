"""
Images in ROS messages, read without ROS: the only module that knows steps and encodings.

The messages may be rclpy's or those of a library that reads recordings; the fields are the same.
"""

import re
import struct
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from stream_agent.bounded_settings import choice, printable
from stream_agent.contract.image_files import check_size, decoded, ImageError, MAX_SIDE

MAX_BYTES = 64 * 2**20
CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}
# Where the red, green and blue of a pixel are.
TO_RGB: dict = {'rgb8': np.s_[:], 'bgr8': np.s_[::-1], 'rgba8': np.s_[:3],
                'bgra8': np.s_[2::-1], 'mono8': 0}
# Of the others OpenCV makes RGB: by how much the data are higher than the picture, bytes of a
# pixel in a row, and of how many pixels a side is a multiple. YUV is of limited range, BT.601:
# 16 is black and 235 white. Letters of a mosaic are those of OpenCV's new names.
MADE_RGB: dict[str, tuple[int, float, int, tuple[int, int]]] = {
    **dict.fromkeys(('yuyv', 'yuv422_yuy2'), (cv2.COLOR_YUV2RGB_YUY2, 1, 2, (1, 2))),
    **dict.fromkeys(('uyvy', 'yuv422'), (cv2.COLOR_YUV2RGB_UYVY, 1, 2, (1, 2))),
    'nv12': (cv2.COLOR_YUV2RGB_NV12, 1.5, 1, (2, 2)),
    'nv21': (cv2.COLOR_YUV2RGB_NV21, 1.5, 1, (2, 2)),
    **{f'bayer_{name}{bits}': (code, 1, bits // 8, (2, 2)) for bits in (8, 16) for name, code in (
        ('rggb', cv2.COLOR_BAYER_BG2RGB), ('bggr', cv2.COLOR_BAYER_RG2RGB),
        ('gbrg', cv2.COLOR_BAYER_GR2RGB), ('grbg', cv2.COLOR_BAYER_GB2RGB))}}
# The same by the standard's numbers, for which OpenCV has no code.
LIMITED = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]) * (
    255 / np.array([219, 224, 224]))
NV24_TO_RGB = np.column_stack((LIMITED, LIMITED @ (-16, -128, -128)))
DEPTH: dict[str, np.dtype] = {'16UC1': np.dtype(np.uint16), '32FC1': np.dtype(np.float32)}
LONGEST_NAME = 4096
SUPPORTED = (', '.join(CHANNELS) + ', yuyv, uyvy, nv12, nv21, nv24, bayer_rggb8 and the other '
             'mosaics of 8 and 16 bits')
# Encodings that are not read: what they are, and what to do.
UNREAD = (
    ('bayer', "it is a sensor's raw mosaic; take what image_proc's DebayerNode makes of it"),
    ('yuv|yuy|yvy|nv16|i420|yv12', 'it is YUV of another kind; let the driver convert it to rgb8, '
     'as usb_cam does by pixel_format: yuyv2rgb'),
    ('16|32|64', 'it has over 8 bits a colour, or is depth of another kind than 16UC1 and 32FC1; '
     'take a topic of those, or of pictures of 8 bits'),
    ('8[us]c', 'it does not say its colours; publish it as mono8, rgb8 or bgr8'))


def image_transport() -> Any:
    """Declare the setting that says how images are sent."""
    return choice('raw', "how images are sent: 'raw' or 'compressed'", ('raw', 'compressed'))


def stamp_of_serialized(data: bytes) -> int:
    """
    Read the stamp [ns] of a serialized message that begins with a header.

    :param data: CDR, as ``SerializedReader`` takes it.
    """
    order: Literal['big', 'little'] = 'big' if data[1:2] == b'\0' else 'little'
    return (int.from_bytes(data[4:8], order, signed=True) * 10**9
            + int.from_bytes(data[8:12], order))


def check_encoding(data: bytes) -> None:
    """Refuse what is not plain CDR, by an ImageError."""
    if len(data) < 4 or data[0] or data[1] > 1:
        kind = ' (XCDR2)' if b'\0\6' <= data[:2] <= b'\0\x0b' else ''
        raise ImageError(f'serialized message begins with {data[:2].hex() or "nothing"}{kind}; '
                         'only plain CDR (0000 or 0001) is read')


class SerializedReader:
    """
    Reads the fields of a serialized message in their order, without a copy of its pixels.

    :param data: CDR: four bytes that name the encoding, of which the second one is 1 for little
        endian and 0 for big endian; then fields, each at a multiple of its own size. Strings and
        sequences begin with their length.
    :raises ImageError: If it is another encoding. Reading beyond the end raises it, too.
    """

    def __init__(self, data: bytes) -> None:
        check_encoding(data)
        if len(data) < 12:
            raise ImageError(f'serialized message has {len(data)} bytes, less than a header')
        self._body = memoryview(data)[4:]
        self._word = struct.Struct('<I' if data[1] else '>I')
        self.stamp_ns = stamp_of_serialized(data)
        self._at = 8

    def word(self) -> int:
        """Read an unsigned number of four bytes."""
        self._at += -self._at % 4
        return self._word.unpack(self.take(4))[0]

    def text(self) -> str:
        """Read a string, which ends with a zero."""
        if (length := self.word()) > LONGEST_NAME:
            raise ImageError(f'serialized message has a name of {length} bytes; at most '
                             f'{LONGEST_NAME} are read')
        text = bytes(self.take(length))
        try:
            if text.find(b'\0') == length - 1:
                return text[:-1].decode()
        except UnicodeDecodeError:
            pass
        raise ImageError('serialized message has a name that is not one text of UTF-8')

    def take(self, count: int) -> memoryview:
        """Read some bytes."""
        found = self._body[self._at:self._at + count]
        if len(found) != count:
            raise ImageError(f'serialized message ends after {len(self._body)} bytes, within a '
                             f'field of {count} bytes')
        self._at += count
        return found

    def last(self) -> memoryview:
        """Read the bytes that a message ends with; up to three more may fill a word."""
        found = self.take(self.word())
        if len(self._body) > self._at + 3:
            raise ImageError(f'serialized message goes on after its {self._at} bytes')
        return found


class SerializedImage(NamedTuple):
    """The fields of a serialized sensor_msgs/Image, with pixels in place."""

    stamp_ns: int
    frame_id: str
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview

    @classmethod
    def read(cls, data: bytes) -> 'SerializedImage':
        """
        Read a serialized message.

        :raises ImageError: If it is none, or ends early.
        """
        reader = SerializedReader(data)
        return cls(reader.stamp_ns, reader.text(), reader.word(), reader.word(), reader.text(),
                   reader.take(1)[0], reader.word(), reader.last())


class SerializedCompressedImage(NamedTuple):
    """The fields of a serialized sensor_msgs/CompressedImage."""

    stamp_ns: int
    frame_id: str
    format: str
    data: memoryview

    @classmethod
    def read(cls, data: bytes) -> 'SerializedCompressedImage':
        """
        Read a serialized message.

        :raises ImageError: If it is none, or ends early.
        """
        reader = SerializedReader(data)
        return cls(reader.stamp_ns, reader.text(), reader.text(), reader.last())


def image_to_array(msg) -> np.ndarray:
    """
    Return an image message of a camera as pixels.

    :returns: uint8, (H, W, 3) in RGB order or (H, W) for mono8. Of ``CHANNELS`` it is a view of
        the message's memory, from which ``Preprocessing`` reads without reordering it first; of
        ``MADE_RGB`` and nv24 it is new. Of a mosaic of 16 bits the upper 8 are taken.
    :raises ImageError: If the encoding is not supported, or sizes contradict each other.
    """
    encoding = msg.encoding
    if encoding not in CHANNELS:
        return made_rgb(msg)
    if not (1 <= msg.height <= MAX_SIDE and 1 <= msg.width <= MAX_SIDE):
        check_size(msg.height, msg.width)  # which says what is wrong
    channels = CHANNELS[encoding]
    pixels = rows_of(msg, msg.width * channels, msg.height).reshape(
        msg.height, msg.width, channels)
    return pixels[:, :, TO_RGB[encoding]]


def rows_of(msg: Any, width: int, height: int) -> np.ndarray:
    """
    View an image's data as so many bytes in so many rows, without what fills these up.

    :raises ImageError: If there are fewer or more.
    """
    if msg.step < width or msg.step * height > MAX_BYTES:
        raise ImageError(f'image step is {msg.step} bytes for {msg.width} pixels of '
                         f'{msg.encoding}; at least {width} are needed, and at '
                         f'most {MAX_BYTES // 2**20} MiB in all are read')
    if len(msg.data) != msg.step * height:
        times = '' if height == msg.height else f' x {height / msg.height:g}'
        raise ImageError(f'image data has {len(msg.data)} bytes; step x height{times} is '
                         f'{msg.step * height}')
    return np.asarray(msg.data, dtype=np.uint8).reshape(height, msg.step)[:, :width]


def made_rgb(msg: Any) -> np.ndarray:
    """Return the pixels of an encoding that OpenCV converts, as ``image_to_array`` does."""
    encoding = msg.encoding
    if encoding in DEPTH:
        raise ImageError(f"image encoding is '{encoding}', which is depth; in the robot's "
                         'contract give its input units: [m] and high: [5.0] or so, or take a '
                         'topic of pictures')
    if encoding != 'nv24' and encoding not in MADE_RGB:
        raise ImageError(f"image encoding is '{printable(encoding)}'; supported are "
                         f'{SUPPORTED}{remedy_for(encoding)}')
    height, width = msg.height, msg.width
    check_size(height, width)
    if encoding == 'nv24':
        return nv24_to_rgb(rows_of(msg, width, 3 * height), height)
    code, high, size, (rows, columns) = MADE_RGB[encoding]
    least = 4 if encoding.startswith('bayer') else rows
    if height % rows or width % columns or min(height, width) < least:
        raise ImageError(f'image is {width} x {height} pixels of {encoding}, whose width'
                         f'{" and height are even" if rows > 1 else " is even"}'
                         f'{", 4 at least" if least == 4 else ""}; let the driver send such')
    pixels = rows_of(msg, width * size, round(height * high))
    if encoding.endswith('16'):
        pixels = pixels[:, 0 if msg.is_bigendian else 1::2]
    elif size == 2:
        pixels = pixels.reshape(height, width, 2)
    return cv2.cvtColor(np.ascontiguousarray(pixels), code)


def nv24_to_rgb(rows: np.ndarray, height: int) -> np.ndarray:
    """
    Convert YUV with a colour for each pixel.

    :param rows: uint8, (3 H, W): brightness, then a U and a V for each pixel.
    """
    # Below 16 is black, as OpenCV's codes have it.
    brightness = np.maximum(rows[:height, :, np.newaxis], 16)
    colour = rows[height:].reshape(height, -1, 2)
    return cv2.transform(np.concatenate((brightness, colour), axis=2), NV24_TO_RGB)


def depth_to_array(msg: Any) -> np.ndarray:
    """
    View a depth image message.

    :returns: uint16 [mm] of 16UC1, or float32 [m] of 32FC1, (H, W).
    :raises ImageError: If it is not depth, or sizes contradict each other.
    """
    if msg.encoding not in DEPTH:
        raise ImageError(f"image encoding is '{printable(msg.encoding)}', which is not depth; "
                         'take a topic of 16UC1 or 32FC1, or leave units, low and high out of the '
                         "input in the robot's contract, if it is a camera's picture")
    check_size(msg.height, msg.width)
    kind = DEPTH[msg.encoding]
    rows = rows_of(msg, msg.width * kind.itemsize, msg.height)
    if rows.strides[0] % kind.itemsize:
        rows = np.ascontiguousarray(rows)
    found = rows.view(kind.newbyteorder('>' if msg.is_bigendian else '<'))
    return found if found.dtype == kind else found.astype(kind)


def remedy_for(encoding: str) -> str:
    """Say what an encoding that is not read is, and what to do; empty if that is not known."""
    known = (said for names, said in UNREAD if re.search(names, encoding, re.IGNORECASE))
    return '; ' * bool(said := next(known, '')) + said


def compressed_to_array(msg) -> np.ndarray:
    """
    Decode a JPEG or PNG message.

    :returns: uint8, (H, W, 3) in RGB order, or (H, W) if the file is grey.
    :raises ImageError: If it is neither, the file is broken, a side exceeds 4096, or its pixels
        are no picture: compressed_image_transport names what it was given before a semicolon, and
        sends a sensor's mosaic as if it were grey.
    """
    pixels = decoded(bytes(msg.data), msg.format)
    if pixels.ndim == 2 and msg.format.startswith('bayer_'):
        raise ImageError(f"compressed image of format '{printable(msg.format)}'"
                         f'{remedy_for(msg.format)}')
    return pixels
