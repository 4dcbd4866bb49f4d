"""Held-out episodes, and how well a policy's answers agree with the driver's."""

from collections.abc import Mapping, Sequence

import numpy as np
from stream_agent.learning.window_sampler import RecordedEpisode
from stream_agent.network.preprocessing import scale
from stream_agent.network.rollout_network import RolloutNetwork
import torch

MOST_NAMES = 5


def assign_folds(names: Sequence[str], lengths: Sequence[int], count: int) -> np.ndarray:
    """
    Give every recording a fold, so that all have about as many frames.

    Frames that follow each other are nearly equal, so whole recordings are held out.

    :param names: Of the recording of every episode; those of one stay together.
    :param lengths: Frames of every episode.
    :returns: The fold of every episode, 0 ... count - 1.
    :raises ValueError: If there are fewer recordings than folds.
    """
    frames: dict[str, int] = {}
    for name, length in zip(names, lengths):
        frames[name] = frames.get(name, 0) + length
    if len(frames) < count:
        raise ValueError(f'{len(frames)} recordings cannot be divided into {count} folds; give '
                         'more recordings, or ask for fewer folds')
    totals, fold_of = np.zeros(count, int), {}
    for name in sorted(frames, key=lambda each: (-frames[each], each)):
        fold_of[name] = int(totals.argmin())
        totals[fold_of[name]] += frames[name]
    return np.array([fold_of[name] for name in names])


def predict(network: RolloutNetwork, episode: RecordedEpisode, updates_per_frame: int = 1,
            chunk: int = 256, memory: bool = True) -> np.ndarray:
    """
    Let a network answer an episode from its first frame on, as on the robot.

    :param chunk: Frames that are computed at once.
    :param memory: Whether the network remembers earlier frames.
    :returns: (n, 2), -1 ... 1.
    """
    device = next(network.parameters()).device
    network.eval()
    found, state = [], network.initial_state()
    with torch.inference_mode():
        for first in range(0, len(episode), chunk):
            pixels = torch.from_numpy(episode.pixels(slice(first, first + chunk))).to(device)
            frames = scale(pixels)
            if memory:
                output, state = network(frames.unsqueeze(0), state, updates_per_frame)
                found.append(output.squeeze(0))
            else:
                output, _ = network(frames.unsqueeze(1), network.initial_state(len(frames)),
                                    updates_per_frame)
                found.append(output.squeeze(1))
    return torch.cat(found).float().cpu().numpy()


def held_out_summary(held_out: Sequence[RecordedEpisode], learnt: Sequence[RecordedEpisode],
                     scores: Mapping[str, float]) -> str:
    """
    Say how well a policy answers what it has not seen, or that nobody knows.

    :param scores: R2 of 'steering' and 'speed', where it is defined.
    """
    if not held_out:
        return 'nothing was held out to tell how well it answers; see --held-out'
    steering, speed = (f'{scores[name]:.3f}' if name in scores else 'unknown (it never varies)'
                       for name in ('steering', 'speed'))
    names = sorted({episode.name for episode in held_out})
    said = ', '.join(names) if len(names) <= MOST_NAMES else f'{len(names)} recordings'
    if {episode.name for episode in learnt} & set(names):
        said = f'{len(held_out)} of the episodes of {said}'
    return (f'R2 of the steering {steering}, of the speed {speed}, on '
            f'{sum(map(len, held_out)):,} frames held out: {said}')


def r2_score(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """
    Return R2 of every output: 1 less the share of the variance that errors have.

    :param targets: (N, outputs).
    :returns: (outputs,); NaN where the targets do not vary.
    """
    deviations = ((targets - targets.mean(0)) ** 2).sum(0)
    errors = ((targets - outputs) ** 2).sum(0)
    return np.where(deviations > 0, 1 - errors / np.where(deviations > 0, deviations, 1), np.nan)
