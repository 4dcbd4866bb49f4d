"""Streams that walk through episodes in order, a window a step: truncated windows with memory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Place(NamedTuple):
    """
    The window of one stream.

    :param episode: Index of the episode.
    :param first: Index of the window's first frame in it.
    :param length: Frames until the episode ends, at most a window.
    :param walked: Frames that the stream has walked in the episode before; 0 after a reset.
    :param visit: Counts the episodes begun by all streams.
    """

    episode: int
    first: int
    length: int
    walked: int
    visit: int


class Streams:
    """
    Where the streams are.

    All episodes are visited in an order drawn anew for every epoch; a stream that has come to
    the end of one begins the next in that order, up to a window after its start, so that windows
    lie differently every time. At the very beginning streams start anywhere, or those in
    episodes of one length would stay side by side.

    :param lengths: Frames of every episode.
    :param count: B, streams.
    :param window: T, frames in a window.
    """

    def __init__(self, lengths: Sequence[int], count: int, window: int, seed: int) -> None:
        self._lengths = list(lengths)
        self._window = window
        self._seed = seed
        self._visits = 0
        self._streams = [self._begin(self._lengths) for _ in range(count)]

    def advance(self) -> list[Place]:
        """Return the next window of every stream."""
        places = []
        for i, (episode, first, position, visit) in enumerate(self._streams):
            length = min(self._window, self._lengths[episode] - position)
            places.append(Place(episode, position, length, position - first, visit))
            position += length
            self._streams[i] = ([episode, first, position, visit]
                                if position < self._lengths[episode]
                                else self._begin([self._window] * len(self._lengths)))
        return places

    @property
    def epoch(self) -> int:
        """How many times all episodes have been begun."""
        return (self._visits - 1) // len(self._lengths)

    def _begin(self, latest: Sequence[int]) -> list[int]:
        """
        Begin the next episode.

        :param latest: Of every episode, the frame before which a stream begins.
        """
        epoch, number = divmod(self._visits, len(self._lengths))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._lengths))
        episode = int(order[number])
        last = max(1, min(latest[episode], self._lengths[episode] - self._window + 1))
        first = int(np.random.default_rng([self._seed, self._visits, 1]).integers(last))
        self._visits += 1
        return [episode, first, first, self._visits - 1]

    def remembered(self) -> dict:
        """Return as JSON where the streams are."""
        return {'visits': self._visits, 'streams': [list(stream) for stream in self._streams]}

    def recall(self, data: dict) -> None:
        """Go on from there."""
        self._visits = data['visits']
        self._streams = [list(stream) for stream in data['streams']]
