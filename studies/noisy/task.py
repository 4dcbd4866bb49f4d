"""The noisy task: what a window shows, which outputs bear loss, training, and the test."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
from stream_agent.learning import distributed
from stream_agent.learning.trainer import Learner
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import first_response, FirstResponse
from stream_agent.theory.patterns import (
    newest_image_pattern, Pattern, pattern_from_streams, sequential_pattern)
from stream_agent.theory.rollout import inference_factor
from studies.noisy.datasets import Images
import torch
from torch import nn, Tensor

LOSS_FRAMES = 8
TEST_BATCH = 256


class Clips(Protocol):
    """What windows are cut from."""

    labels: np.ndarray

    def cut(self, indices: np.ndarray, frames: int) -> np.ndarray:
        """Return uint8, (B, T, C, H, W), or (B, 1, C, H, W) for the same in all frames."""


class Stills:
    """Clips that show one image all the time."""

    def __init__(self, images: Images) -> None:
        self.labels = images.labels
        self._pixels = images.pixels

    def cut(self, indices: np.ndarray, frames: int) -> np.ndarray:
        """Return one frame a clip."""
        return self._pixels[indices][:, np.newaxis]


class Part:
    """Some of other clips."""

    def __init__(self, clips: Clips, indices: np.ndarray) -> None:
        self.labels = clips.labels[indices]
        self._clips = clips
        self._indices = indices

    def cut(self, indices: np.ndarray, frames: int) -> np.ndarray:
        """Return what the others show."""
        return self._clips.cut(self._indices[indices], frames)


def shortened(clips: Clips, count: int | None) -> Clips:
    """Return so many clips, evenly spread over all of them."""
    if count is None or count >= len(clips.labels):
        return clips
    return Part(clips, np.linspace(0, len(clips.labels) - 1, count).round().astype(int))


def noisy(clips: np.ndarray, frames: int, deviation: float, device: torch.device) -> Tensor:
    """
    Add noise that is new in every frame, and clip to 0 ... 1 (SR18, section "Experiments").

    :param clips: As ``Clips.cut`` returns them.
    :param deviation: Standard deviation, of pixels from 0 to 1.
    :returns: float32, (B, T, C, H, W).
    """
    pixels = torch.from_numpy(clips).to(device) / 255
    noise = torch.randn(len(clips), frames, *clips.shape[2:], device=device)
    return noise.mul_(deviation).add_(pixels).clamp_(0, 1)


def pattern_named(graph: GraphSpec, name: str) -> Pattern:
    """
    Return the pattern of a rollout in an experiment.

    :param name: 'streaming', 'sequential', or the edges that stream, as 'a->b,b->b'. The image of
        a frame is there when the frame begins, in all of them: a streaming rollout whose first
        image lies in frame 0, as published, has the same outputs.
    """
    if name == 'streaming':
        return newest_image_pattern(graph)
    if name == 'sequential':
        return sequential_pattern(graph)
    return pattern_from_streams(graph, name.split(','))


@dataclass(frozen=True)
class WindowOutputs:
    """
    The outputs of a rollout that depend on an image, and the frames and update steps they have.

    :param count: How many of them are looked at.
    """

    graph: GraphSpec
    pattern: Pattern
    count: int = LOSS_FRAMES

    @cached_property
    def first(self) -> FirstResponse:
        """Frame and update step of the first."""
        return first_response(self.graph, self.pattern)

    @cached_property
    def factor(self) -> int:
        """Update steps from one output to the next."""
        return inference_factor(self.graph, self.pattern)

    @property
    def skipped(self) -> int:
        """Frames at the start of a window whose outputs depend on no image."""
        return self.first.frame - 1

    @property
    def window(self) -> int:
        """Frames in a window: as many outputs for every rollout (SR18, section "Training")."""
        return self.skipped + self.count

    @property
    def frames(self) -> list[int]:
        """Frames of the outputs; the first of a window is 1."""
        return list(range(self.first.frame, self.window + 1))

    @property
    def steps(self) -> list[int]:
        """
        Update steps at which the outputs are there.

        As published: windows of one frame that carry a state, so that a frame begins when the
        one before is complete.
        """
        return [self.step_of(frame) for frame in self.frames]

    def step_of(self, frame: int) -> int:
        """Return the update step at which a frame's output is there."""
        return self.first.update_step + self.factor * (frame - self.first.frame)

    def of(self, network: RolloutNetwork, frames: Tensor) -> Tensor:
        """Return the outputs of windows that depend on an image, (B, count, classes)."""
        outputs, _ = network(frames, network.initial_state(len(frames)))
        return outputs[:, self.skipped:]


class NoisyClassification(Learner):
    """
    The classes of noisy clips, from every output of a window.

    :param deviation: Standard deviation of the noise.
    :param batch: Windows in a gradient step, of all processes together.
    :param seed: Of the order of the clips.
    """

    def __init__(self, network: RolloutNetwork, outputs: WindowOutputs, clips: Clips,
                 deviation: float, batch: int, seed: int, label: str) -> None:
        self.network = network
        self.label = label
        self.frames_per_step = batch * outputs.window // distributed.world_size()
        self._outputs = outputs
        self._clips = clips
        self._deviation = deviation
        self._batch = batch
        self._seed = seed

    def initial_settings(self) -> dict[str, Any]:
        """Return what a training that is resumed must have had from its beginning."""
        return {'batch': self._batch, 'clips': len(self._clips.labels)}

    def loss(self, step: int) -> Tensor:
        """Return the mean cross-entropy over the windows' outputs."""
        indices = drawn(len(self._clips.labels), self._batch, self._seed, step)
        indices = indices[distributed.local_slice(self._batch)]
        window = self._outputs.window
        frames = noisy(self._clips.cut(indices, window), window, self._deviation, self.device)
        logits = self._outputs.of(self.network, frames)
        labels = torch.from_numpy(self._clips.labels[indices]).to(self.device)
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.repeat_interleave(self._outputs.count))


def drawn(count: int, batch: int, seed: int, step: int) -> np.ndarray:
    """Return which items a gradient step sees: all of them once an epoch, in random order."""
    first, indices = step * batch, []
    while batch:
        epoch, start = divmod(first, count)
        indices.append(order_of(count, seed, epoch)[start:start + batch])
        first, batch = first + len(indices[-1]), batch - len(indices[-1])
    return np.concatenate(indices)


@lru_cache(maxsize=2)
def order_of(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order in which an epoch shows the items."""
    return np.random.default_rng([seed, epoch]).permutation(count)


@torch.inference_mode()
def accuracy(network: RolloutNetwork, outputs: WindowOutputs, clips: Clips, deviation: float,
             seed: int) -> np.ndarray:
    """
    Return the share of clips that are told right, (outputs,).

    :param seed: Of the noise.
    """
    network.eval()
    device = next(network.parameters()).device
    right = np.zeros(outputs.count, np.int64)
    torch.manual_seed(seed)
    for start in range(0, len(clips.labels), TEST_BATCH):
        indices = np.arange(start, min(start + TEST_BATCH, len(clips.labels)))
        frames = noisy(clips.cut(indices, outputs.window), outputs.window, deviation, device)
        told = outputs.of(network, frames).argmax(dim=-1).cpu().numpy()
        right += (told == clips.labels[indices, np.newaxis]).sum(axis=0)
    return right / len(clips.labels)
