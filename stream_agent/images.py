"""
Images in ROS messages, read without ROS: the only module that knows steps and encodings.

The messages may be rclpy's or those of a library that reads recordings; the fields are the same.
"""

from functools import cache
import math
import re
import struct
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from stream_agent.bounded_settings import choice, printable

MAX_SIDE = 4096
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
DEPTH = {'16UC1': np.dtype(np.uint16), '32FC1': np.dtype(np.float32)}
JPEG, PNG = b'\xff\xd8', b'\x89PNG\r\n\x1a\n'
# A JPEG's marker, after any number of fill bytes; and those of the segments by their meaning.
MARKER = re.compile(rb'\xff+([^\x00\xff])', re.DOTALL)
FRAMES, SCAN, END, RESTART = (0xC0, 0xC1), 0xDA, 0xD9, 0xD0
TABLES, INTERVAL, SKIPPED = (0xC4, 0xDB, 0xE0, 0xEE), 0xDD, (*range(0xE1, 0xEE), 0xEF, 0xFE)
# Stands for a JPEG's end: eight bytes of 1s, as many as a decoder reads ahead, are no code of any
# picture. A decoder that needs them for the picture itself has nothing left after them.
NO_MORE = b'\xff\x00' * 8
# What of a PNG is decoded; no animation, no text, no colour profile.
CHUNKS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')
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
# What begins so is neither JPEG nor PNG.
OTHER_FILES = ((b'GIF8', 'a GIF'), (b'RIFF', 'a WebP'), (b'BM', 'a BMP'), (b'II*\0', 'a TIFF'),
               (b'MM\0*', 'a TIFF'), (b'\0\0\0\x0cjP', 'a JPEG 2000'),
               (b'\0\0\0\1', 'a part of a video'), (b'\0\0\1', 'a part of a video'))
# A picture of so many pixels is decoded as soon as nothing.
SMALL = 64 * 64


class ImageError(ValueError):
    """An image that cannot be read; the message says what is wrong and what would be right."""


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


def check_size(height: int, width: int) -> None:
    """Refuse sides outside 1 ... 4096 before memory of that size is used."""
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ImageError(f'image is {width} x {height} pixels; sides of 1 to {MAX_SIDE} '
                         'are supported')


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
    check_size(msg.height, msg.width)
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
    Convert YUV with a colour for each pixel, for which OpenCV has no code.

    It is what nv12 is of a picture of twice the sides, of which each pixel is four then.

    :param rows: uint8, (3 H, W): brightness, then a U and a V for each pixel.
    """
    width = rows.shape[1]
    twice = np.concatenate((rows[:height].repeat(2, 0).repeat(2, 1),
                            rows[height:].reshape(height, 2 * width)))
    return np.ascontiguousarray(cv2.cvtColor(twice, cv2.COLOR_YUV2RGB_NV12)[::2, ::2])


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


def what_else(data: bytes, name: str) -> str:
    """Say what a file is that is neither JPEG nor PNG, and what to do."""
    if 'compressedDepth' in name:
        return 'is neither JPEG nor PNG but depth; take a topic of pictures'
    kind = next((kind for start, kind in OTHER_FILES if data.startswith(start)), '')
    return 'is neither JPEG nor PNG' + f' but {kind}; publish it as one of them' * bool(kind)


def decoded(data: bytes, name: str) -> np.ndarray:
    """
    Decode as ``compressed_to_array``; the name is the format that the sender claims.

    The decoder gets a file made anew of nothing but what was checked, so that it cannot find
    another size in it.
    """
    kind = 'PNG' if data.startswith(PNG) else 'JPEG'
    try:
        if data.startswith(b'\xff\xff'):
            # Fill bytes may go before the first marker, too.
            data = b'\xff' + data.lstrip(b'\xff')
        if not data.startswith((JPEG, PNG)):
            raise ImageError(what_else(data, name))
        checked = checked_png(data) if kind == 'PNG' else checked_jpeg(data)
        pixels = decode(checked)
        if pixels is None or pixels.dtype != np.uint8:
            raise ImageError('ends early, or cannot be decoded to 8 bits')
        if kind == 'JPEG' and is_doubtful(pixels) and not np.array_equal(
                pixels, np.asarray(decode(checked.removesuffix(NO_MORE) + b'\xff\xd9'))):
            raise ImageError('ends early')
    except ImageError as error:
        raise ImageError(f"compressed image of format '{printable(name)}' {error}") from None
    return pixels if pixels.ndim == 2 else pixels[:, :, 2::-1]


def decode(data: bytes) -> np.ndarray | None:
    """Return what OpenCV makes of a file; None if that is nothing."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def is_doubtful(pixels: np.ndarray) -> bool:
    """
    Return whether a decoder might have made up what a JPEG does not have.

    That is so of its last two blocks, which are much of a small picture, and of its last rows
    where OpenCV repeats rows. What was made up is another picture by other means.
    """
    return pixels.shape[0] * pixels.shape[1] <= SMALL or (
        repeats_rows() and np.array_equal(*pixels[-2:]))


@cache
def repeats_rows() -> bool:
    """Return whether OpenCV repeats a row where a JPEG has no more, as 4.6 does; 5.0 refuses."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    return decode(cv2.imencode('.jpg', noise)[1].tobytes()[:-200]) is not None


def checked_png(data: bytes) -> bytes:
    """
    Return a PNG without what is not needed; libpng itself refuses what is damaged or too short.

    :raises ImageError: If it is broken or too large.
    """
    view, at, chunks = memoryview(data), len(PNG), list[bytes | memoryview]([PNG])
    while chunks[-1][4:8] != b'IEND':
        end = at + 12 + int.from_bytes(data[at:at + 4], 'big')
        if end > len(data):
            raise ImageError('ends early')
        chunk, at = view[at:end], end
        first = len(chunks) == 1
        if first != (chunk[4:8] == b'IHDR') or first and len(chunk) != 25:
            raise ImageError('does not begin with its size, or has several')
        if chunk[4:8] in CHUNKS:
            chunks.append(chunk)
    width, height, depth = struct.unpack('>IIB', chunks[1][8:17])
    check_size(height, width)
    if depth > 8:
        raise ImageError(f'has {depth} bits a colour; at most 8 are read, so take a topic of '
                         'pictures of 8 bits')
    # Most have nothing else, and need no copy.
    return data if sum(map(len, chunks)) == len(data) else b''.join(chunks)


def checked_jpeg(data: bytes) -> bytes:
    """
    Return a JPEG without what is not needed, and with ``NO_MORE`` for its end.

    What cameras send is read: one scan of Huffman codes, which is decoded while it is read.

    :raises ImageError: If it is broken, too large or of another kind.
    """
    at, kept, frames, interval = len(JPEG), [JPEG], [], 0
    while True:
        if not (found := MARKER.match(data, at)):
            raise ImageError('ends early' if at >= len(data) - 1 else f'is damaged at byte {at}')
        code, start = found[1][0], found.end()
        at = start + int.from_bytes(data[start:start + 2], 'big')
        if not start + 2 <= at <= len(data):
            raise ImageError('ends early' if at >= len(data) else f'is damaged at byte {start}')
        segment = data[start + 2:at]
        if code in FRAMES:
            frames.append(segment)
        elif code == INTERVAL and len(segment) == 2:
            interval = int.from_bytes(segment, 'big')
        elif code not in (*TABLES, *SKIPPED, SCAN):
            raise ImageError(f'has a segment {code:02X}; JPEGs are read that are neither '
                             'progressive, lossless, nor arithmetic')
        if code not in SKIPPED:
            kept += bytes((0xFF, code)), data[start:at]
        if code == SCAN:
            break
    if len(frames) != 1 or segment[:1] != frames[0][5:6]:
        raise ImageError(f'has {len(frames)} sizes, or several scans; JPEGs of one are read')
    units = count_units(frames[0])
    scan = scan_of(data, at, math.ceil(units / interval) - 1 if interval else 0)
    return b''.join((*kept, scan, NO_MORE))


def count_units(frame: bytes) -> int:
    """Return how many units of blocks a JPEG's frame header asks for, all components in each."""
    depth, height, width, components = struct.unpack_from('>BHHB', frame.ljust(6, b'\0'))
    sampling = [divmod(factors, 16) for factors in frame[7::3]]
    if depth != 8 or not components or len(frame) != 6 + 3 * components or not all(
            1 <= factor <= 4 for factors in sampling for factor in factors):
        raise ImageError('has a size that is damaged, or not 8 bits a colour')
    check_size(height, width)
    across, down = map(max, zip(*sampling)) if components > 1 else (1, 1)
    return math.ceil(width / (8 * across)) * math.ceil(height / (8 * down))


def scan_of(data: bytes, start: int, restarts: int) -> memoryview:
    """
    Return the codes of a JPEG's pixels.

    :param restarts: How many marks they are divided by.
    :raises ImageError: If marks are missing, or something else than the end follows.
    """
    codes = np.frombuffer(data, np.uint8, offset=start)
    # A zero follows what is not a marker, and fill bytes may go before one.
    marks = np.flatnonzero((codes[:-1] == 0xFF) & (codes[1:] != 0))
    marks = marks[codes[marks + 1] != 0xFF]
    found = codes[marks + 1]
    others = np.flatnonzero((found < RESTART) | (found > RESTART + 7))
    if not others.size:
        raise ImageError('ends early')
    if found[others[0]] != END:
        raise ImageError(f'has a segment {found[others[0]]:02X} within its pixels')
    if not np.array_equal(found[:others[0]], RESTART + np.arange(restarts) % 8):
        raise ImageError('ends early, or lacks a part')
    return memoryview(data)[start:start + marks[others[0]]]
