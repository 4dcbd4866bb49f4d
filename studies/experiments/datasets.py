"""Where MNIST, CIFAR-10 and GTSRB lie, in the ways they are handed out, and as arrays."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from studies.experiments.readers import DataError, read_arrays, read_cifar, read_idx, take

MNIST_FILES = {
    'x_train': 'train-images', 'y_train': 'train-labels',
    'x_test': 't10k-images', 'y_test': 't10k-labels'}
MNIST_KINDS = {'x': ('-idx3-ubyte', '.idx3-ubyte'), 'y': ('-idx1-ubyte', '.idx1-ubyte')}
MNIST_FOLDERS = ('', 'raw', 'MNIST/raw')
CIFAR_FOLDERS = ('', 'cifar-10-batches-bin')
CIFAR_TRAINING = tuple(f'data_batch_{i}.bin' for i in range(1, 6))
CIFAR_PICKLES = ('data_batch_1', 'cifar-10-batches-py')


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
        raise DataError(f'{path}: no {" and no ".join(missing)} there, nor an archive mnist.npz; '
                        "give --data the folder with MNIST's four idx files")
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
            f'{path}: no {(*CIFAR_TRAINING, "test_batch.bin")[files.index(None)]} there, nor an '
            'archive cifar10*.npz; give --data the folder of the binary version '
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
        raise DataError(f'{path}: there is nothing; give --data the folder with the data')
    if path.is_file():
        if path.suffix != '.npz':
            raise DataError(f'{path}: it is a file, but no .npz; give --data the folder around it')
        return path
    found = sorted(path.glob(names))
    if len(found) > 1:
        raise DataError(f'{path}: {" and ".join(file.name for file in found)} are there; give '
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
        raise DataError(f'{place}: labels have to be 0 to {classes - 1}, and there have to be '
                        'some')
    return Images(np.ascontiguousarray(pixels), labels.astype(np.int64))


LOADERS: dict[str, Callable[[Path], Data]] = {'mnist': load_mnist, 'cifar10': load_cifar10}
