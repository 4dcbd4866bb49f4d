"""JPEG and PNG files, checked before a decoder sees them, as they come from outside."""

from functools import cache
import math
import re
import struct

import cv2
import numpy as np
from stream_agent.bounded_settings import printable

MAX_SIDE = 4096
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
# What begins so is neither JPEG nor PNG.
OTHER_FILES = ((b'GIF8', 'a GIF'), (b'RIFF', 'a WebP'), (b'BM', 'a BMP'), (b'II*\0', 'a TIFF'),
               (b'MM\0*', 'a TIFF'), (b'\0\0\0\x0cjP', 'a JPEG 2000'),
               (b'\0\0\0\1', 'a part of a video'), (b'\0\0\1', 'a part of a video'))
# A picture of so many pixels is decoded as soon as nothing.
SMALL = 64 * 64


class ImageError(ValueError):
    """An image that cannot be read; the message says what is wrong and what would be right."""


def check_size(height: int, width: int) -> None:
    """Refuse sides outside 1 ... 4096 before memory of that size is used."""
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ImageError(f'image is {width} x {height} pixels; sides of 1 to {MAX_SIDE} '
                         'are supported')


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
