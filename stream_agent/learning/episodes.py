"""Frames in order with what was to be answered, and windows of them for training."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Episode:
    """
    One uninterrupted sequence of frames.

    :param pixels: (C, H, W) uint8 of every frame, as ``Preprocessing.pixels`` gives them.
    :param targets: What the output node should have been, (2,) of every frame.
    """

    pixels: list[np.ndarray] = field(default_factory=list)
    targets: list[tuple[float, float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.targets)

    def add(self, pixels: np.ndarray, target: tuple[float, float]) -> None:
        """Append one frame."""
        self.pixels.append(pixels)
        self.targets.append(target)


@dataclass(frozen=True)
class RecordedEpisode:
    """
    One uninterrupted sequence of recorded frames, which stay on disk.

    :param name: Of the recording, for reports.
    :param source: Pixels of the recording, (N, C, H, W) uint8, mapped into memory.
    :param frames: Indices of the episode's frames in it, (n,).
    :param targets: What the output node should be, (n, 2) float32.
    """

    name: str
    source: np.ndarray
    frames: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def pixels(self, part: slice) -> np.ndarray:
        """Read some of the frames, (T, C, H, W)."""
        return self.source[self.frames[part]]


class Episodes:
    """
    All episodes of a training, and random windows of them.

    :param window: T, frames in a window; shorter episodes are left out.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self._episodes: list[Episode] = []
        self.frames = 0

    def add(self, episode: Episode) -> None:
        """Keep an episode if a window fits into it."""
        if len(episode) >= self.window:
            self._episodes.append(episode)
            self.frames += len(episode)

    def sample(self, count: int, generator: np.random.Generator
               ) -> tuple[np.ndarray, np.ndarray]:
        """
        Draw windows, every frame as likely as any other.

        :returns: Pixels (count, T, C, H, W) uint8 and targets (count, T, 2) float32.
        :raises ValueError: If there is no episode.
        """
        if not self._episodes:
            raise ValueError(f'no episode has the {self.window} frames of a training window; '
                             'record longer ones or train with a shorter --window')
        lengths = np.array([len(episode) - self.window + 1 for episode in self._episodes])
        chosen = generator.choice(len(lengths), count, p=lengths / lengths.sum())
        pixels, targets = [], []
        for index in chosen:
            start = int(generator.integers(lengths[index]))
            window = slice(start, start + self.window)
            pixels.append(np.stack(self._episodes[index].pixels[window]))
            targets.append(np.array(self._episodes[index].targets[window], np.float32))
        return np.stack(pixels), np.stack(targets)
