"""GTSRB: tracks of a traffic sign that comes nearer, as clips."""

from pathlib import Path
import re
from typing import NamedTuple

import cv2
import numpy as np
from studies.noisy.datasets import DataError, find_archive, read_arrays, read_picture, take

CLASSES = 43
SIZE = 32
# Every clip of a track can be looked at for so many frames.
LONGEST_WINDOW = 15
FOLDERS = ('', 'Images', 'Final_Training/Images', 'GTSRB/Final_Training/Images', 'Training',
           'GTSRB/Training')
FRAME = re.compile(r'(\d+)_(\d+)\.(ppm|png)')
# Of five tracks of a class one is for testing: the official test images are not tracks.
EVERY = 5


class Signs:
    """
    Windows of tracks, each from another frame on.

    :param pixels: uint8, (N, 3, 32, 32).
    :param tracks: Indices into ``pixels`` of every track, in the order of time.
    :param classes: Of every track.
    """

    def __init__(self, pixels: np.ndarray, tracks: list[np.ndarray], classes: np.ndarray) -> None:
        self._pixels = pixels
        starts = [track[:len(track) - LONGEST_WINDOW + 1] for track in tracks]
        self.labels = np.repeat(classes, [len(track) for track in starts]).astype(np.int64)
        # Frames of one track follow each other.
        self._starts = np.concatenate(starts)

    def cut(self, indices: np.ndarray, frames: int) -> np.ndarray:
        """Return consecutive frames, uint8 (B, T, 3, 32, 32)."""
        if frames > LONGEST_WINDOW:
            raise DataError(f'windows of {frames} frames are too long for tracks of about 30; '
                            f'at most {LONGEST_WINDOW} fit')
        return self._pixels[self._starts[indices][:, np.newaxis] + np.arange(frames)]


class Frames(NamedTuple):
    """All frames of the official training images: uint8 (N, 3, 32, 32), and (N,) each."""

    pixels: np.ndarray
    label: np.ndarray
    track: np.ndarray
    frame: np.ndarray


def load_signs(path: Path) -> tuple[Signs, Signs]:
    """
    Read the official training images, which are tracks, and split them track by track.

    :param path: A folder of class folders, one around it, or a NumPy archive.
    :returns: For training and for testing: of every class, each fifth track is for testing.
    :raises DataError: If there are none, or they cannot be used.
    """
    archive = find_archive(path, 'gtsrb*.npz')
    frames = from_archive(archive) if archive else from_folders(path)
    order = np.lexsort((frames.frame, frames.track, frames.label))
    keys = np.stack([frames.label, frames.track])[:, order]
    borders = 1 + np.flatnonzero((np.diff(keys) != 0).any(axis=0))
    tracks = np.split(np.arange(len(order)), borders)
    labels = keys[0, [track[0] for track in tracks]]
    check_tracks(path, tracks, labels)
    pixels = np.ascontiguousarray(frames.pixels[order])
    # Counted within each class, whatever its tracks are called.
    counts = np.unique(labels, return_counts=True)[1]
    place = np.concatenate([np.arange(count) for count in counts])
    testing = place % EVERY == EVERY - 1
    return tuple(Signs(pixels, [track for track, chosen in zip(tracks, part) if chosen],
                       labels[part]) for part in (~testing, testing))


def check_tracks(path: Path, tracks: list[np.ndarray], labels: np.ndarray) -> None:
    """Refuse tracks that no window fits into, and data that cannot be split."""
    shortest, label = min(zip(map(len, tracks), labels))
    if shortest < LONGEST_WINDOW:
        raise DataError(f'{path}: a track of class {label} has {shortest} frames; windows take up '
                        f'to {LONGEST_WINDOW}. Use the official training images, whose tracks '
                        'have 30')
    if np.unique(labels, return_counts=True)[1].max() < EVERY:
        raise DataError(f'{path}: no class has {EVERY} tracks, so that one could be kept for '
                        'testing')
    if labels.max() >= CLASSES:
        raise DataError(f'{path}: a class is {labels.max()}; GTSRB has 0 to {CLASSES - 1}')


def from_archive(path: Path) -> Frames:
    """Return the frames of an archive."""
    arrays = read_arrays(path)
    pixels, *rest = (take(path, arrays, name) for name in (
        'x_train', 'y_train', 'track_train', 'frame_train'))
    if pixels.shape[1:] != (SIZE, SIZE, 3) or pixels.dtype != np.uint8:
        raise DataError(f'{path}: x_train has {pixels.dtype} of {list(pixels.shape)}; uint8 of '
                        f'[N, {SIZE}, {SIZE}, 3] is needed')
    return Frames(np.moveaxis(pixels, -1, 1), *(values.astype(np.int64) for values in rest))


def from_folders(path: Path) -> Frames:
    """Return the frames of folders such as 00000/, with pictures such as 00002_00029.ppm."""
    found = []
    for root in (path / folder for folder in FOLDERS):
        for folder in sorted(root.glob('[0-9]' * 5)):
            names = [(file, FRAME.fullmatch(file.name)) for file in sorted(folder.iterdir())]
            found += [(file, int(folder.name), int(match[1]), int(match[2]))
                      for file, match in names if match]
        if found:
            break
    if not found:
        raise DataError(
            f'{path}: there are no class folders such as 00000 with pictures such as '
            "00000_00000.ppm, nor an archive gtsrb*.npz; give --data the folder of GTSRB's "
            'official training images (Final_Training/Images)')
    pixels = np.stack([small(read_picture(file)) for file, *_ in found])
    return Frames(np.moveaxis(pixels, -1, 1), *np.array([row for _, *row in found]).T)


def small(picture: np.ndarray) -> np.ndarray:
    """Resize a whole picture to 32 x 32 pixels."""
    larger = min(picture.shape[:2]) >= SIZE
    return cv2.resize(np.ascontiguousarray(picture), (SIZE, SIZE),
                      interpolation=cv2.INTER_AREA if larger else cv2.INTER_LINEAR)
