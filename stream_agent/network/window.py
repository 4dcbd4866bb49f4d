"""The nodes of a network over a window of frames."""

from collections.abc import Callable, Sequence

import numpy as np
from stream_agent.network.modules import Factor, Modules, Term
from stream_agent.network.state import State
from stream_agent.network.window_gradients import constant_weights, ConstantWeights, ShiftedReLU
from stream_agent.theory.windows import Component
import torch
from torch import nn, Tensor

# Frames of a window: 1 is its first; 0 is what was there before it. Each is one update.
Frames = np.ndarray


class NodeFrames:
    """
    What a node is in the frames of a window.

    :param initial: Before the window, (B, *shape).
    :param values: The N values that it takes, (N, B, *shape).
    :param rows: By frame from 0 on, which value it has: 0 for the initial one, n for the nth.
    """

    def __init__(self, initial: Tensor, values: Tensor, rows: np.ndarray) -> None:
        self._initial = initial
        self._values = values
        self._rows = rows
        self._known: dict[bytes, tuple[Tensor, Tensor | None]] = {}

    def read(self, frames: Frames) -> tuple[Tensor, Tensor | None]:
        """
        Return the different values in some frames, and which of them each frame has.

        :param frames: Ascending.
        :returns: (N, B, *shape), and indices into its first axis, or None where they are in order.
        """
        rows = self._rows[frames]
        key = rows.tobytes()
        if key not in self._known:
            # Who reads the same frames reads the same tensor: one copy, one sum of gradients.
            different, inverse = np.unique(rows, return_inverse=True)
            index = None if len(different) == len(rows) else self._index(inverse)
            self._known[key] = self._take(different), index
        return self._known[key]

    def keep(self, rows: np.ndarray, values: Tensor) -> None:
        """Note what some rows, which ascend, look like one after another."""
        self._known[rows.tobytes()] = values, None

    def every(self, frames: Frames) -> Tensor:
        """Return the value in each of some frames, (N, B, *shape)."""
        return spread(*self.read(frames))

    def last(self) -> Tensor:
        """Return the value after the window, (B, *shape), in memory of its own."""
        row = int(self._rows[-1])
        return (self._values[row - 1] if row else self._initial).clone()

    def _take(self, rows: np.ndarray) -> Tensor:
        """Return values by their rows, which ascend."""
        if rows[0] == 0:
            return torch.cat([self._initial.unsqueeze(0), self._later(rows[1:])])
        return self._later(rows)

    def _later(self, rows: np.ndarray) -> Tensor:
        """Return values that are not the initial one."""
        if len(rows) == len(self._values):
            return self._values
        if len(rows) == 0 or rows[-1] - rows[0] + 1 == len(rows):
            first = int(rows[0]) - 1 if len(rows) else 0
            return self._values[first:first + len(rows)]
        return self._values.index_select(0, self._index(rows - 1))

    def _index(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows.astype(np.int64)).to(self._values.device)


def spread(values: Tensor, index: Tensor | None) -> Tensor:
    """Return the value of each frame, from what ``NodeFrames.read`` gives."""
    return values if index is None else values.index_select(0, index)


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

    def _track_of(self, images: Tensor) -> NodeFrames:
        """Return the input node's values; every update of an image is disturbed for itself."""
        name = self.network.input
        rows = (self.frames - 1) // self._updates_per_frame + 1
        if self._draws and name in self.network.disturbances:
            images = spread(images, torch.from_numpy(rows - 1).to(images.device))
            images, rows = self.disturbed(name, images, self.frames), self.frames
        return NodeFrames(self.initial[name], images, np.concatenate([[0], rows]))

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
            self.tracks[name] = NodeFrames(initial, none, rows)
            return
        prepared = self.prepared(name, self.total(self.network.at_work.terms[name], name, frames),
                                 frames)
        if len(frames) == self.count and name in self.network.read_later:
            self.tracks[name] = self._both(name, prepared)
            return
        rows = np.searchsorted(frames, np.arange(self.count + 1), side='right')
        self.tracks[name] = NodeFrames(initial, self.ended(name, prepared, initial), rows)

    def _both(self, name: str, prepared: Tensor) -> NodeFrames:
        """Return the values of a node that is computed in every frame, and read in the next."""
        _, cell, activation = self.network.at_work.ends[name]
        rectified = isinstance(activation, nn.ReLU) and not cell
        initial = self.initial[name]
        if not rectified:
            prepared = self.ended(name, prepared, initial)
        now, before = ShiftedReLU.apply(prepared, initial, rectified)
        rows = np.arange(self.count + 1)
        track = NodeFrames(initial, now, rows)
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


class Loop:
    """
    Computes the nodes of a component in blocks of frames.

    What comes from outside of the component is summed for all frames before, and the gradients
    of weights are computed for all frames together.
    """

    def __init__(self, window: Window, component: Component) -> None:
        self._window = window
        self._component = component
        #: By node, its value in every frame that is known so far, (B, *shape).
        self._values = {name: [window.initial[name]] for name in component.nodes}
        self._inner: dict[str, list[Term]] = {}
        self._outer: dict[str, dict[int, Tensor]] = {}
        self._constant: dict[tuple[str, str], ConstantWeights] = {}
        for name in component.nodes:
            terms = window.network.at_work.terms[name]
            self._inner[name] = [term for term in terms if any(
                self._is_inner(factor) for factor in (term, *term.others))]
            self._sum_outer(name, [term for term in terms if term not in self._inner[name]])

    def _is_inner(self, factor: Factor | Term) -> bool:
        return factor.source in self._component.nodes

    def _sum_outer(self, name: str, terms: list[Term]) -> None:
        """Sum the terms from outside of the component, for all frames at once."""
        frames = self._window.computed(name, self._window.frames)
        total = self._window.total(terms, name, frames) if len(frames) else None
        if total is not None and torch.is_grad_enabled():
            for term in self._inner[name]:
                constant = None if term.others else constant_weights(term.module)
                # Between the transform and the sum there may be nothing else.
                if constant and (term.source, name) not in self._window.network.disturbances:
                    total = constant.added_to(total)
                    self._constant[term.source, name] = constant
        self._outer[name] = {} if total is None else dict(zip(frames.tolist(), total.unbind()))

    def run(self) -> None:
        """Compute all frames."""
        nodes, block, lead = self._component.nodes, self._component.frames, self._component.lead
        for start in range(1 - max(lead) // block * block - block, self._window.count + 1, block):
            for name, ahead in zip(nodes, lead):
                first = max(1, start + ahead)
                last = min(self._window.count, start + ahead + block - 1)
                if first <= last:
                    self._compute(name, np.arange(first, last + 1))
        self._note_read()
        rows = np.arange(self._window.count + 1)
        for name, values in self._values.items():
            self._window.tracks[name] = NodeFrames(values[0], torch.stack(values[1:]), rows)

    def _note_read(self) -> None:
        """Keep, for the gradients of weights, what they have been applied to."""
        for (source, name), constant in self._constant.items():
            streams = self._window.network.pattern[source, name]
            frames = self._window.computed(name, self._window.frames) - streams
            constant.read += [self._values[source][i].detach() for i in frames.tolist()]

    def _compute(self, name: str, frames: Frames) -> None:
        """Compute a node in the frames of a block; held where it is not computed."""
        window, known = self._window, self._values[name]
        computed = window.computed(name, frames)
        new = {}
        if len(computed):
            prepared = window.prepared(name, self._total(name, computed), computed)
            new = dict(zip(computed.tolist(), window.ended(name, prepared, known[-1]).unbind()))
        for frame in frames.tolist():
            known.append(new.get(frame, known[-1]))

    def _total(self, name: str, frames: Frames) -> Tensor:
        """Return the sum of a node's terms in some frames, (N, B, ...)."""
        outer = self._outer[name]
        total = stacked([outer[i] for i in frames.tolist()]) if outer else None
        return self._window.total(self._inner[name], name, frames, total, self._factor)

    def _factor(self, factor: Factor | Term, name: str, frames: Frames) -> Tensor:
        """Return what an edge makes of its source in some frames of its target."""
        window = self._window
        if not self._is_inner(factor):
            return window.factor(factor, name, frames)
        known = self._values[factor.source]
        values = stacked([known[i] for i in (frames - factor.streams).tolist()])
        constant = self._constant.get((factor.source, name))
        if constant:
            return constant(values.flatten(0, 1)).unflatten(0, values.shape[:2])
        return window.disturbed((factor.source, name), over_frames(factor.module, values), frames)


def stacked(values: list[Tensor]) -> Tensor:
    """Return values with an axis of frames before all others."""
    return values[0].unsqueeze(0) if len(values) == 1 else torch.stack(values)
