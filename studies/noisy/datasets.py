"""MNIST and CIFAR-10 from the files they are handed out in; none is run, so no pickles."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
import gzip
from pathlib import Path
import zipfile
import zlib

import cv2
import numpy as np

MNIST_FILES = {
    'x_train': 'train-images', 'y_train': 'train-labels',
    'x_test': 't10k-images', 'y_test': 't10k-labels'}
MNIST_KINDS = {'x': ('-idx3-ubyte', '.idx3-ubyte'), 'y': ('-idx1-ubyte', '.idx1-ubyte')}
MNIST_FOLDERS = ('', 'raw', 'MNIST/raw')
CIFAR_FOLDERS = ('', 'cifar-10-batches-bin')
CIFAR_TRAINING = tuple(f'data_batch_{i}.bin' for i in range(1, 6))
CIFAR_PICKLES = ('data_batch_1', 'cifar-10-batches-py')
IDX_OF_BYTES = b'\0\0\x08'
CIFAR_SHAPE = (3, 32, 32)
# A mosaic shows up to 1000 images of 32 x 32 pixels, row by row.
MOSAIC_COLUMNS, MOSAIC_SIZE, MOSAIC_IMAGES = 40, 32, 1000


class DataError(ValueError):
    """Data that cannot be used; the message says where, what was looked for, and what to do."""


@dataclass(frozen=True)
class Images:
    """
    Images of one part, training or test, with their classes.

    :param pixels: uint8, (N, C, H, W).
    :param labels: int64, (N,), 0 ... classes - 1.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Data:
    """A data set in its official split."""

    train: Images
    test: Images


def load_mnist(path: Path) -> Data:
    """
    Read MNIST from its idx files, packed or not, or from a NumPy archive.

    :param path: A folder, or the archive.
    :raises DataError: If it is not there, or cannot be used.
    """
    archive = find_archive(path, 'mnist*.npz')
    if archive:
        return from_archive(archive, (28, 28))
    names = {part: [f'{folder}/{stem}{kind}{packed}'.lstrip('/') for folder in MNIST_FOLDERS
                    for kind in MNIST_KINDS[part[0]] for packed in ('', '.gz')]
             for part, stem in MNIST_FILES.items()}
    found = {part: first_file(path, choices) for part, choices in names.items()}
    missing = [f'{MNIST_FILES[part]}{MNIST_KINDS[part[0]][0]}.gz' for part in found
               if found[part] is None]
    if missing:
        raise DataError(f'{path}: there is no {" and no ".join(missing)}, nor an archive '
                        "mnist.npz; give --data the folder with MNIST's four idx files")
    arrays = {part: read_idx(file) for part, file in found.items()}
    return from_arrays(str(path), arrays, (28, 28))


def load_cifar10(path: Path) -> Data:
    """
    Read CIFAR-10 from its binary version, or from a NumPy archive of arrays or of mosaics.

    :param path: A folder, or the archive.
    :raises DataError: If it is not there, or cannot be used.
    """
    archive = find_archive(path, 'cifar10*.npz')
    if archive:
        return from_archive(archive, (32, 32, 3))
    files = [first_file(path, [f'{folder}/{name}'.lstrip('/') for folder in CIFAR_FOLDERS])
             for name in (*CIFAR_TRAINING, 'test_batch.bin')]
    if None in files:
        pickles = any((path / name).exists() for name in CIFAR_PICKLES)
        raise DataError(
            f'{path}: there is no {(*CIFAR_TRAINING, "test_batch.bin")[files.index(None)]}, nor '
            'an archive cifar10*.npz; give --data the folder of the binary version '
            '(cifar-10-binary.tar.gz, unpacked)' + pickles * (
                '. What is there is the Python version: pickles, which can run code, are not '
                'read'))
    *train, test = (read_cifar(file) for file in files)
    return Data(images(str(path), *(np.concatenate(arrays) for arrays in zip(*train))),
                images(str(path), *test))


def find_archive(path: Path, names: str) -> Path | None:
    """
    Return the NumPy archive that a path means: itself, or the only one of its kind in it.

    :param names: A pattern such as 'mnist*.npz'.
    :raises DataError: If the path does not exist, or there are several.
    """
    if not path.exists():
        raise DataError(f'{path}: it does not exist; give --data the folder with the data')
    if path.is_file():
        if path.suffix != '.npz':
            raise DataError(f'{path}: it is a file, but not an .npz; give --data the folder '
                            'around it')
        return path
    found = sorted(path.glob(names))
    if len(found) > 1:
        raise DataError(f'{path}: {" and ".join(file.name for file in found)} are all there; give '
                        '--data one of them')
    return found[0] if found else None


def first_file(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of the files that exists."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def from_archive(path: Path, shape: tuple[int, ...]) -> Data:
    """Return the split of an archive with the arrays x_train, y_train, x_test and y_test."""
    arrays = read_arrays(path)
    return from_arrays(str(path), {name: take(path, arrays, name) for name in MNIST_FILES}, shape)


def from_arrays(place: str, arrays: dict[str, np.ndarray], shape: tuple[int, ...]) -> Data:
    """
    Return the split that the arrays are.

    :param place: For messages.
    :param shape: Of one image: (H, W), or (H, W, 3) in RGB order.
    """
    parts = []
    for part in ('train', 'test'):
        pixels = arrays[f'x_{part}']
        if pixels.shape[1:] != shape or pixels.dtype != np.uint8:
            raise DataError(f'{place}: x_{part} has {pixels.dtype} of {list(pixels.shape)}; '
                            f'uint8 of {["N", *shape]} is needed')
        planes = pixels[:, None] if len(shape) == 2 else np.moveaxis(pixels, -1, 1)
        parts.append(images(place, planes, arrays[f'y_{part}']))
    return Data(*parts)


def images(place: str, pixels: np.ndarray, labels: np.ndarray, classes: int = 10) -> Images:
    """Put images and labels together, if they fit."""
    labels = labels.reshape(-1)
    if len(labels) != len(pixels):
        raise DataError(f'{place}: {len(pixels)} images, but {len(labels)} labels')
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        found = f'{labels.min()} to {labels.max()}' if len(labels) else 'none'
        raise DataError(f'{place}: labels are {found}; 0 to {classes - 1} are needed')
    return Images(np.ascontiguousarray(pixels), labels.astype(np.int64))


def read_idx(path: Path) -> np.ndarray:
    """
    Read one of MNIST's files, packed or not.

    :raises DataError: If it is not a complete file of this kind, or not of bytes.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f'{path}: it cannot be unpacked ({error}); download it again') from None
    if data[:3] != IDX_OF_BYTES or len(data) < 4:
        raise DataError(f'{path}: it begins with {data[:4].hex(" ")}, but an idx file of '
                        'bytes with 00 00 08; download it again')
    start = 4 + 4 * data[3]
    shape = tuple(np.frombuffer(data[4:start], '>u4'))
    if len(data) - start != np.prod(shape, dtype=np.int64):
        raise DataError(f'{path}: {len(data) - start} values follow, but its header says '
                        f'{" x ".join(map(str, shape))}; download it again')
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_cifar(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """
    Read a file of CIFAR-10's binary version: a label, then red, green and blue planes.

    :returns: Images uint8 (N, 3, 32, 32) and labels (N,).
    :raises DataError: If its size is not a multiple of an image's.
    """
    data = np.fromfile(path, np.uint8)
    size = 1 + int(np.prod(CIFAR_SHAPE))
    if len(data) == 0 or len(data) % size:
        raise DataError(f'{path}: {len(data)} bytes are not a whole number of images of '
                        f'{size} bytes; download it again')
    rows = data.reshape(-1, size)
    return rows[:, 1:].reshape(-1, *CIFAR_SHAPE), rows[:, 0]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """
    Read a NumPy archive; images in it that are mosaics are taken apart.

    :returns: Arrays by name, images among them as ``x_train`` and ``x_test``.
    :raises DataError: If it is not such an archive.
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
        raise DataError(f'{path}: a mosaic in it is not a picture of {columns} images side by '
                        'side; download it again')
    images = picture[..., ::-1].reshape(-1, size, columns, size, 3).swapaxes(1, 2)
    return images.reshape(-1, size, size, 3)[:MOSAIC_IMAGES]


def read_picture(path: Path) -> np.ndarray:
    """Read a picture file such as PPM as uint8 (H, W, 3) in RGB order."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise DataError(f'{path}: OpenCV cannot read it as a picture; download it again')
    return picture[..., ::-1]


def take(path: Path, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return an array of an archive, or say what is there instead."""
    if name not in arrays:
        raise DataError(f"{path}: it has no array '{name}'; it has "
                        + (', '.join(sorted(arrays)) or 'none'))
    return arrays[name]


LOADERS: dict[str, Callable[[Path], Data]] = {'mnist': load_mnist, 'cifar10': load_cifar10}
