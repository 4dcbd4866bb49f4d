"""What was driven in a round of a training, as the bytes of a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from stream_agent.learning import sharing
from stream_agent.learning.episodes import Episode
from stream_agent.learning.resume import pack, ResumeError, unpack
import torch


def pack_episodes(episodes: Sequence[Episode], departures: int) -> bytes:
    """Return a round as the bytes of a safetensors file."""
    episodes = [episode for episode in episodes if len(episode)]
    parts = {'pixels': np.concatenate([np.stack(episode.pixels) for episode in episodes]),
             'targets': np.concatenate([np.array(episode.targets, np.float32)
                                        for episode in episodes]),
             'lengths': np.array([len(episode) for episode in episodes])}
    return pack({name: torch.from_numpy(part) for name, part in parts.items()},
                {'departures': departures})


def unpack_episodes(data: bytes) -> tuple[list[Episode], int]:
    """Return what ``pack_episodes`` was given."""
    tensors, metadata = unpack(data)
    lengths = tensors['lengths'].tolist()
    pixels, targets = (tensors[name].split(lengths) for name in ('pixels', 'targets'))
    return [Episode(list(seen.numpy()), list(map(tuple, answers.tolist())))
            for seen, answers in zip(pixels, targets)], metadata['departures']


def read_round(path: Path) -> tuple[list[Episode], int]:
    """
    Return on all processes what process 0 reads.

    :raises ResumeError: If it is gone or damaged.
    """
    there = sharing.rank() == 0 and path.exists()
    data = sharing.from_first(path.read_bytes() if there else None)
    try:
        if data is None:
            raise ValueError('it is gone')
        return unpack_episodes(data)
    except (KeyError, SafetensorError, TypeError, ValueError) as error:
        raise ResumeError(f'{path}: the episodes of a round cannot be read ({error}); to start '
                          'anew, add --fresh') from None
