"""Episodes of frames with targets, and the windows that gradient steps take from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from stream_agent.learning.resume import pack, unpack
import torch

# Before the name of an input, in the file of a round.
INPUT = 'input/'


class WindowSlice(NamedTuple):
    """
    The window of one stream.

    :param episode: Index of the episode.
    :param first: Index of the window's first frame in it.
    :param length: Frames until the episode ends, at most a window.
    :param walked: Frames of the episode that the stream has walked before; 0 after a reset.
    :param visit: Counts the episodes that all streams have started.
    """

    episode: int
    first: int
    length: int
    walked: int
    visit: int


class WindowSampler:
    """
    Streams that walk through episodes in order, a window a gradient step: for truncated BPTT.

    All episodes are visited in an order drawn anew for every epoch; a stream at the end of one
    starts the next, up to a window after its first frame, so that windows differ every time. The
    very first starts are anywhere, or streams in equally long episodes would stay side by side.

    :param lengths: Frames of every episode.
    :param count: B, streams.
    :param window: T, frames in a window.
    """

    def __init__(self, lengths: Sequence[int], count: int, window: int, seed: int) -> None:
        self._lengths = list(lengths)
        self._window = window
        self._seed = seed
        self._visits = 0
        # Of every stream: episode, first frame of the walk, next frame, visit.
        self._positions = [self._start(self._lengths) for _ in range(count)]

    def advance(self) -> list[WindowSlice]:
        """Return the next window of every stream."""
        slices = []
        for i, (episode, first, position, visit) in enumerate(self._positions):
            length = min(self._window, self._lengths[episode] - position)
            slices.append(WindowSlice(episode, position, length, position - first, visit))
            position += length
            self._positions[i] = ([episode, first, position, visit]
                                  if position < self._lengths[episode]
                                  else self._start([self._window] * len(self._lengths)))
        return slices

    @property
    def epoch(self) -> int:
        """How many times all episodes have been started."""
        return (self._visits - 1) // len(self._lengths)

    def _start(self, latest: Sequence[int]) -> list[int]:
        """Start the next episode before the frame that ``latest`` has for it."""
        epoch, number = divmod(self._visits, len(self._lengths))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._lengths))
        episode = int(order[number])
        last = max(1, min(latest[episode], self._lengths[episode] - self._window + 1))
        first = int(np.random.default_rng([self._seed, self._visits, 1]).integers(last))
        self._visits += 1
        return [episode, first, first, self._visits - 1]

    def state_dict(self) -> dict:
        """Return as JSON where the streams are."""
        return {'visits': self._visits, 'streams': list(map(list, self._positions))}

    def load_state_dict(self, data: dict) -> None:
        """Continue from what ``state_dict`` returned."""
        self._visits = data['visits']
        self._positions = list(map(list, data['streams']))


@dataclass
class Episode:
    """
    One uninterrupted sequence of frames.

    :param observations: Of every frame, by input node: (C, H, W) uint8 of an image, as
        ``Preprocessing.pixels`` gives it, float32 of anything else.
    :param targets: What the output node should have been, (2,) of every frame.
    """

    observations: dict[str, list[np.ndarray]] = field(default_factory=dict)
    targets: list[tuple[float, float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.targets)

    def add(self, observation: Mapping[str, np.ndarray], target: tuple[float, float]) -> None:
        for name, values in observation.items():
            self.observations.setdefault(name, []).append(values)
        self.targets.append(target)


def pack_episodes(episodes: Sequence[Episode], departures: int) -> bytes:
    """Return a round as the bytes of a safetensors file."""
    kept = [episode for episode in episodes if len(episode)]
    parts = {**{f'{INPUT}{name}': np.concatenate([each.observations[name] for each in kept])
                for name in kept[0].observations},
             'targets': np.concatenate([each.targets for each in kept], dtype=np.float32),
             'lengths': np.array(list(map(len, kept)))}
    return pack({name: torch.from_numpy(part) for name, part in parts.items()},
                {'departures': departures})


def unpack_episodes(data: bytes, trigger: str) -> tuple[list[Episode], int]:
    """
    Return what ``pack_episodes`` was given.

    :param trigger: Name of the input that trainings from before there were others had alone.
    """
    tensors, metadata = unpack(data)
    lengths = tensors['lengths'].tolist()
    episodes = [Episode(targets=list(map(tuple, targets.tolist())))
                for targets in tensors['targets'].split(lengths)]
    for tensor, values in tensors.items():
        if tensor.startswith(INPUT) or tensor == 'pixels':
            name = trigger if tensor == 'pixels' else tensor.removeprefix(INPUT)
            for episode, part in zip(episodes, values.split(lengths)):
                episode.observations[name] = list(part.numpy())
    return episodes, metadata['departures']


@dataclass(frozen=True)
class RecordedEpisode:
    """
    One uninterrupted sequence of recorded frames, which stay on disk.

    :param name: Of the recording.
    :param sources: The recording's frames, by input node: (N, C, H, W) uint8 of images, mapped
        into memory, (N, size) float32 of anything else, as its conversion gives it.
    :param frames: Indices of the episode's frames in each of them, (n,).
    :param targets: What the output node should be, (n, outputs) float32.
    """

    name: str
    sources: Mapping[str, np.ndarray]
    frames: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def observations(self, part: slice) -> dict[str, np.ndarray]:
        """Read some of the frames, (T, ...) by input node."""
        frames = self.frames[part]
        return {name: source[frames] for name, source in self.sources.items()}


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
               ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """
        Draw windows, every frame as likely as any other.

        :returns: Observations (count, T, ...) by input node, and targets (count, T, 2) float32.
        :raises ValueError: If there is no episode.
        """
        if not self._episodes:
            raise ValueError(f'no episode has the {self.window} frames of a training window; '
                             'record longer ones or train with a shorter --window')
        lengths = np.array([len(episode) - self.window + 1 for episode in self._episodes])
        observations, targets = dict[str, list](), []
        for index in generator.choice(len(lengths), count, p=lengths / lengths.sum()):
            start = int(generator.integers(lengths[index]))
            episode, part = self._episodes[index], slice(start, start + self.window)
            for name, values in episode.observations.items():
                observations.setdefault(name, []).append(values[part])
            targets.append(episode.targets[part])
        return ({name: np.array(values) for name, values in observations.items()},
                np.array(targets, np.float32))
