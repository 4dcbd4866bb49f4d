"""The nodes of a network over a window of frames."""

from collections.abc import Callable, Sequence

import numpy as np
from stream_agent.network.modules import Factor, Modules, Term
from stream_agent.network.state import State
from stream_agent.network.window.activated import Activated
from stream_agent.network.window.track import Frames, spread, Track
import torch
from torch import nn, Tensor


class Window:
    """
    The nodes of a network over T images, each of which is held for k updates.

    :param images: (B, T, *shape).
    :param state: Before the window.
    :param updates_per_frame: k.
    :param draws: What dropout and noise of every frame are drawn by; None for neither.
    """

    def __init__(self, network: Modules, images: Tensor, state: State, updates_per_frame: int,
                 draws: Sequence[int] | None) -> None:
        self.network = network
        self.initial = state.values
        self.count = images.shape[1] * updates_per_frame
        self._start = state.frame
        self._draws = draws
        self._updates_per_frame = updates_per_frame
        self.frames = np.arange(1, self.count + 1)
        self.tracks = {network.input: self._track_of(images.transpose(0, 1))}

    def _track_of(self, images: Tensor) -> Track:
        """Return the input node's values; every update of an image is disturbed for itself."""
        name = self.network.input
        rows = (self.frames - 1) // self._updates_per_frame + 1
        if self._draws and name in self.network.disturbances:
            images = spread(images, torch.from_numpy(rows - 1).to(images.device))
            images, rows = self.disturbed(name, images, self.frames), self.frames
        return Track(self.initial[name], images, np.concatenate([[0], rows]))

    def answers(self) -> Tensor:
        """Return the output node after every image, (B, T, *shape)."""
        frames = self.frames[self._updates_per_frame - 1::self._updates_per_frame]
        return self.tracks[self.network.graph.output].every(frames).transpose(0, 1)

    def last_state(self) -> State:
        """Return the state after the window."""
        return State({name: self.tracks[name].last() for name in self.initial},
                     self._start + self.count)

    def computed(self, name: str, frames: Frames) -> Frames:
        """Return those of some frames in which a node is computed, rather than held."""
        node = self.network.graph.node(name)
        return frames[(frames + self._start - node.offset) % node.period == 0]

    def compute(self, name: str) -> None:
        """Compute a node, whose sources are known, in all frames at once."""
        frames = self.computed(name, self.frames)
        initial = self.initial[name]
        if not len(frames):
            none, rows = initial.new_empty(0, *initial.shape), np.zeros(self.count + 1, int)
            self.tracks[name] = Track(initial, none, rows)
            return
        prepared = self.prepared(name, self.total(self.network.at_work.terms[name], name, frames),
                                 frames)
        if len(frames) == self.count and name in self.network.read_later:
            self.tracks[name] = self._both(name, prepared)
            return
        rows = np.searchsorted(frames, np.arange(self.count + 1), side='right')
        self.tracks[name] = Track(initial, self.ended(name, prepared, initial), rows)

    def _both(self, name: str, prepared: Tensor) -> Track:
        """Return the values of a node that is computed in every frame, and read in the next."""
        _, cell, activation = self.network.at_work.ends[name]
        rectified = isinstance(activation, nn.ReLU) and not cell
        initial = self.initial[name]
        if not rectified:
            prepared = self.ended(name, prepared, initial)
        now, before = Activated.apply(prepared, initial, rectified)
        rows = np.arange(self.count + 1)
        track = Track(initial, now, rows)
        track.keep(rows[1:], now)
        track.keep(rows[:-1], before)
        return track

    def total(self, terms: Sequence[Term], name: str, frames: Frames, total: Tensor | None = None,
              factor: Callable[[Factor | Term, str, Frames], Tensor] | None = None
              ) -> Tensor | None:
        """
        Add terms of a node in some frames, (N, B, ...).

        :param total: To go on with; None for nothing yet.
        :param factor: What an edge makes of its source, if it is not ``self.factor``.
        :returns: The sum; None if there is nothing to sum.
        """
        factor = factor or self.factor
        for term in terms:
            value = factor(term, name, frames)
            for other in term.others:
                value = value * factor(other, name, frames)
            total = value if total is None else total + value
        return total

    def factor(self, factor: Factor | Term, name: str, frames: Frames) -> Tensor:
        """Return what an edge makes of its source in some frames of its target."""
        values, index = self.tracks[factor.source].read(frames - factor.streams)
        value = spread(over_frames(factor.module, values), index)
        return self.disturbed((factor.source, name), value, frames)

    def disturbed(self, key: str | tuple[str, str], values: Tensor, frames: Frames) -> Tensor:
        """Apply the dropout and noise of a node or an edge in some frames."""
        if not self._draws or key not in self.network.disturbances:
            return values
        return self.network.disturbances[key](values, [self._draws[i - 1] for i in frames])

    def prepared(self, name: str, total: Tensor, frames: Frames) -> Tensor:
        """Apply to sums what comes before the cell."""
        normalisation = self.network.at_work.ends[name][0]
        if normalisation:
            total = over_frames(normalisation, total)
        return self.disturbed(name, total, frames)

    def ended(self, name: str, prepared: Tensor, previous: Tensor) -> Tensor:
        """
        Apply the cell, which goes on from what the node was before, and the activation.

        :param prepared: (N, B, ...), of frames in which the node is computed one after another.
        :param previous: (B, *shape).
        """
        _, cell, activation = self.network.at_work.ends[name]
        if cell:
            prepared = (cell.over_time(prepared, previous) if len(prepared) > 1
                        else cell(prepared[0], previous).unsqueeze(0))
        return activation(prepared) if activation else prepared


def over_frames(module: nn.Module, values: Tensor) -> Tensor:
    """Apply a module that knows one axis of samples, (N, B, ...) to (N, B, ...)."""
    samples = values.flatten(0, 1)
    for part in module if isinstance(module, nn.Sequential) else (module,):
        samples = apply(part, samples)
    return samples.unflatten(0, values.shape[:2])


def apply(module: nn.Module, samples: Tensor) -> Tensor:
    """
    Apply a module to samples with the channels last in memory, where that is faster.

    Convolutions and their gradients are, and what follows them keeps the order. It is lost where
    a gradient of the other order is added, so those of averages are put in order.
    """
    if isinstance(module, nn.Conv2d):
        return module(samples.contiguous(memory_format=torch.channels_last))
    result = module(samples)
    if isinstance(module, nn.AvgPool2d) and result.requires_grad:
        order = (torch.channels_last if samples.is_contiguous(memory_format=torch.channels_last)
                 else torch.contiguous_format)
        result.register_hook(lambda gradient: gradient.contiguous(memory_format=order))
    return result
