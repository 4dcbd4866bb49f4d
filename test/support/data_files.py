"""Small data sets in the files that the public ones are handed out in."""

import gzip
from pathlib import Path
import struct

import cv2
import numpy as np

NAMES = ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte', 't10k-images-idx3-ubyte',
         't10k-labels-idx1-ubyte')


def squares(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 28, 28) of 4 x 4 black and white squares, a pattern for each class."""
    labels = np.arange(count, dtype=np.uint8) % 10
    patterns = np.random.default_rng(0).permuted(np.repeat([[0, 255]], 8, 1).repeat(10, 0), axis=1)
    pixels = patterns.reshape(10, 4, 4).repeat(7, axis=1).repeat(7, axis=2).astype(np.uint8)
    return pixels[labels], labels


def colours(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 32, 32, 3) of random pixels, and random classes."""
    random = np.random.default_rng(seed)
    return (random.integers(0, 256, (count, 32, 32, 3), np.uint8),
            random.integers(0, 10, count, np.uint8))


def idx(array: np.ndarray) -> bytes:
    """Return an array as MNIST's files have it."""
    return struct.pack(f'>BBBB{array.ndim}I', 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, train: int = 200, test: int = 40, packed: bool = True) -> Path:
    """Write MNIST's four files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(NAMES, (*squares(train), *squares(test))):
        path, data = folder / name, idx(array)
        if packed:
            path, data = folder / f'{name}.gz', gzip.compress(data)
        path.write_bytes(data)
    return folder


def write_cifar(folder: Path, count: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Write CIFAR-10's binary version; returns the images of its six files."""
    parts = [colours(count, seed) for seed in range(6)]
    for i, (pixels, labels) in enumerate(parts, 1):
        rows = np.concatenate([labels[:, None], np.moveaxis(pixels, -1, 1).reshape(count, -1)], 1)
        name = f'data_batch_{i}.bin' if i < 6 else 'test_batch.bin'
        rows.astype(np.uint8).tofile(folder / name)
    return parts


def mosaic(pixels: np.ndarray, suffix: str, *options: int) -> np.ndarray:
    """Return 40 images a row as one encoded picture, filled up with black."""
    rows = -(-len(pixels) // 40)
    filled = np.zeros((40 * rows, 32, 32, 3), np.uint8)
    filled[:len(pixels)] = pixels
    picture = filled.reshape(rows, 40, 32, 32, 3).swapaxes(1, 2).reshape(32 * rows, 1280, 3)
    return cv2.imencode(suffix, np.ascontiguousarray(picture[..., ::-1]), options)[1].ravel()


def write_signs(folder: Path, classes: int = 2, tracks: int = 5, frames: int = 15) -> Path:
    """Write tracks as GTSRB's folders; a pixel tells class, track and frame."""
    for label in range(classes):
        (folder / f'{label:05}').mkdir(parents=True)
        for track in range(tracks):
            for frame in range(frames):
                picture = np.full((40, 48, 3), (10 * label, 20 * track, 5 * frame), np.uint8)
                name = f'{label:05}/{track:05}_{frame:05}.ppm'
                cv2.imwrite(str(folder / name), picture[..., ::-1])
        (folder / f'{label:05}' / f'GT-{label:05}.csv').write_text('Filename;Width\n')
    return folder
