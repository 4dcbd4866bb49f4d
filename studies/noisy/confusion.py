"""Temporal confusion matrices: what a network tells after the image has changed to another."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stream_agent.network.rollout_network import RolloutNetwork
from studies.noisy.datasets import read_arrays, take
from studies.noisy.task import Clips, noisy, TEST_BATCH, WindowOutputs
import torch


@dataclass(frozen=True)
class TemporalConfusion:
    """
    Counts of what is told, for every frame since the change; delay 0 is the first changed one.

    :param new: (delays, classes, classes): frame since the change, class of the image that is
        shown now, class that is told.
    :param old: The same, by the class of the image that was shown before.
    :param steps: Update steps from the change to the output of each delay.
    """

    new: np.ndarray
    old: np.ndarray
    steps: np.ndarray

    def accuracies(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the shares that tell the new class, and the old one, (delays,) each."""
        return tuple(np.trace(counts, axis1=1, axis2=2) / counts.sum(axis=(1, 2))
                     for counts in (self.new, self.old))

    def added_to(self, other: 'TemporalConfusion') -> 'TemporalConfusion':
        """Return the counts of both, which need to have the same delays."""
        return TemporalConfusion(self.new + other.new, self.old + other.old, self.steps)

    def write(self, path: Path) -> None:
        """Write a NumPy archive of the three arrays."""
        np.savez_compressed(path, new=self.new, old=self.old, steps=self.steps)


def read_confusion(path: Path) -> TemporalConfusion:
    """
    Read what ``write`` wrote.

    :raises DataError: If it is not such a file.
    """
    arrays = read_arrays(path)
    return TemporalConfusion(*(take(path, arrays, name) for name in ('new', 'old', 'steps')))


def count(told: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """
    Count what is told of every class.

    :param told: (B, T) classes.
    :param labels: (B,) classes.
    :returns: (T, classes, classes): frame, label, told.
    """
    counts = np.zeros((told.shape[1], classes, classes), np.int64)
    frames = np.broadcast_to(np.arange(told.shape[1]), told.shape)
    np.add.at(counts, (frames, np.broadcast_to(labels[:, np.newaxis], told.shape), told), 1)
    return counts


def partners(count: int, seed: int) -> np.ndarray:
    """Return for every item another one, drawn so that each is drawn once."""
    order = np.random.default_rng(seed).permutation(count)
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    return others


@torch.inference_mode()
def temporal_confusion(network: RolloutNetwork, outputs: WindowOutputs, clips: Clips,
                       deviation: float, classes: int, seed: int) -> TemporalConfusion:
    """
    Show every clip for a window, then another one for a window, and count what is told.

    :param seed: Of the pairs and the noise.
    """
    network.eval()
    device = next(network.parameters()).device
    torch.manual_seed(seed)
    others, frames = partners(len(clips.labels), seed), outputs.window
    new = np.zeros((frames, classes, classes), np.int64)
    old = np.zeros_like(new)
    for start in range(0, len(others), TEST_BATCH):
        after = others[start:start + TEST_BATCH]
        before = np.arange(start, start + len(after))
        shown = torch.cat([noisy(clips.cut(indices, frames), frames, deviation, device)
                           for indices in (before, after)], dim=1)
        values, _ = network(shown, network.initial_state(len(shown)))
        told = values[:, frames:].argmax(dim=-1).cpu().numpy()
        new += count(told, clips.labels[after], classes)
        old += count(told, clips.labels[before], classes)
    return TemporalConfusion(new, old, np.array([outputs.step_of(frame)
                                                 for frame in range(1, frames + 1)]))
