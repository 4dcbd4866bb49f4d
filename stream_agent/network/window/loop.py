"""The nodes of a cycle over a window: a loop over blocks of frames."""

import numpy as np
from stream_agent.network.modules import Factor, Term
from stream_agent.network.window.constant_weights import constant_weights, ConstantWeights
from stream_agent.network.window.track import Frames, Track
from stream_agent.network.window.window import over_frames, Window
from stream_agent.theory.windows import Component
import torch
from torch import Tensor


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
            self._window.tracks[name] = Track(values[0], torch.stack(values[1:]), rows)

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
