"""Files of public data sets as arrays; none of them is run, so no pickles."""

import gzip
from pathlib import Path
import zipfile
import zlib

import cv2
import numpy as np

IDX_OF_BYTES = b'\0\0\x08'
CIFAR_SHAPE = (3, 32, 32)
# A mosaic shows up to 1000 images of 32 x 32 pixels, row by row.
MOSAIC_COLUMNS, MOSAIC_SIZE, MOSAIC_IMAGES = 40, 32, 1000


class DataError(ValueError):
    """Data that cannot be used; the message says where, what was looked for, and what to do."""


def read_idx(path: Path) -> np.ndarray:
    """
    Read one of MNIST's files, packed or not.

    :raises DataError: If it is no whole file of this kind, or not of bytes.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f'{path}: it cannot be unpacked ({error}); fetch it again') from None
    if data[:3] != IDX_OF_BYTES or len(data) < 4:
        raise DataError(f'{path}: it begins with {data[:4].hex(" ")}, and an idx file of bytes '
                        'with 00 00 08; fetch it again')
    start = 4 + 4 * data[3]
    shape = tuple(np.frombuffer(data[4:start], '>u4'))
    if len(data) - start != np.prod(shape, dtype=np.int64):
        raise DataError(f'{path}: {len(data) - start} values follow, but its header says '
                        f'{" x ".join(map(str, shape))}; fetch it again')
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """
    Read a file of CIFAR-10's binary version: a label, then red, green and blue planes.

    :returns: Images uint8 (N, 3, 32, 32) and labels (N,).
    :raises DataError: If its size is no multiple of an image's.
    """
    data = np.fromfile(path, np.uint8)
    size = 1 + int(np.prod(CIFAR_SHAPE))
    if len(data) == 0 or len(data) % size:
        raise DataError(f'{path}: {len(data)} bytes are no whole number of images of {size} '
                        'bytes; fetch it again')
    rows = data.reshape(-1, size)
    return rows[:, 1:].reshape(-1, *CIFAR_SHAPE), rows[:, 0]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """
    Read a NumPy archive; images that lie in it as mosaics are taken apart.

    :returns: Arrays by name, images among them as ``x_train`` and ``x_test``.
    :raises DataError: If it is no such archive.
    """
    try:
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (AttributeError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f'{path}: it cannot be read as a NumPy archive of plain arrays '
                        f'({error})') from None
    for part in ('train', 'test'):
        if f'{part}_mosaic' in arrays:
            arrays[f'x_{part}'] = read_mosaics(path, arrays, part)
    return arrays


def read_mosaics(path: Path, arrays: dict[str, np.ndarray], part: str) -> np.ndarray:
    """
    Take images out of the JPEG or WebP mosaics that hold a thousand of them each.

    :param part: 'train' or 'test'.
    :returns: uint8 (N, 32, 32, 3) in RGB order.
    """
    data, offsets, count = (take(path, arrays, name) for name in (
        f'{part}_mosaic', f'{part}_offsets', f'n_{part}'))
    images = [tiles(path, data[start:end]) for start, end in zip(offsets, offsets[1:])]
    # The last mosaic may be filled up with black.
    return np.concatenate(images)[:int(count)]


def tiles(path: Path, data: np.ndarray) -> np.ndarray:
    """Return the images of one mosaic, uint8 (N, 32, 32, 3)."""
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    size, columns = MOSAIC_SIZE, MOSAIC_COLUMNS
    if picture is None or picture.shape[1] != size * columns or picture.shape[0] % size:
        raise DataError(f'{path}: a mosaic in it is no picture of {columns} images side by side; '
                        'fetch it again')
    images = picture[..., ::-1].reshape(-1, size, columns, size, 3).swapaxes(1, 2)
    return images.reshape(-1, size, size, 3)[:MOSAIC_IMAGES]


def read_picture(path: Path) -> np.ndarray:
    """Read a picture file such as PPM as uint8 (H, W, 3) in RGB order."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise DataError(f'{path}: it is no picture that OpenCV can read; fetch it again')
    return picture[..., ::-1]


def take(path: Path, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return an array of an archive, or say what is there instead."""
    if name not in arrays:
        raise DataError(f"{path}: no array '{name}' in it; there are "
                        + (', '.join(sorted(arrays)) or 'none'))
    return arrays[name]
