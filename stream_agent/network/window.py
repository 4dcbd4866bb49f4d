"""The program of a network over a window of frames, with time as an axis."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from stream_agent.network.modules import Modules
from stream_agent.network.program import (
    DRAW, NodeProgram, Operand, Operation, sources_of, State, Term)
from stream_agent.network.window_gradients import constant_weights, ConstantWeights, ShiftedReLU
from stream_agent.theory.windows import Component
import torch
from torch import nn, Tensor

# Frames of a window: 1 is its first; 0 is what was there before it. Each is one update.
Frames = np.ndarray
# The different values of an operand in some frames, (N, B, ...), and which each frame has; None
# where they are in order.
Reading = tuple[Any, Tensor | None]


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
        self._known: dict[bytes, Reading] = {}

    def read(self, frames: Frames) -> Reading:
        """
        Return the different values in some frames, and which of them each frame has.

        :param frames: Ascending.
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


class WindowPlan(NamedTuple):
    """
    What all windows of a network have in common.

    :param programs: What every node is computed by.
    :param operations: The same as lists.
    :param read_later: Nodes that edges read a frame later.
    """

    programs: Mapping[str, NodeProgram]
    operations: Mapping[str, list[Operation]]
    read_later: frozenset[str]


def window_plan(programs: Mapping[str, NodeProgram]) -> WindowPlan:
    """Return what windows need to know of the programs of a network's nodes."""
    return WindowPlan(
        programs, {name: program.operations() for name, program in programs.items()},
        frozenset(operand.name for program in programs.values()
                  for term in program.terms for operand in sources_of(term) if operand.before))


class Window:
    """
    The nodes of a network over T images, each of which is held for k updates.

    :param plan: Of the network.
    :param images: (B, T, *shape).
    :param state: Before the window.
    :param updates_per_frame: k.
    :param draws: What dropout and noise of every frame are drawn by; None for neither.
    """

    def __init__(self, network: Modules, plan: WindowPlan, images: Tensor, state: State,
                 updates_per_frame: int, draws: Sequence[int] | None) -> None:
        self.network, self.plan = network, plan
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
        on_input = self.plan.operations[name]
        if on_input:
            images = spread(images, torch.from_numpy(rows - 1).to(images.device))
            self.tracks = {name: NodeFrames(
                self.initial[name], images, np.arange(self.count + 1))}
            images, rows = self.walk(on_input, self.frames), self.frames
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
        operations = self.plan.operations[name]
        if len(frames) == self.count and name in self.plan.read_later:
            self.tracks[name] = self._both(name, operations)
            return
        rows = np.searchsorted(frames, np.arange(self.count + 1), side='right')
        self.tracks[name] = NodeFrames(initial, self.walk(operations, frames), rows)

    def _both(self, name: str, operations: Sequence[Operation]) -> NodeFrames:
        """Return the values of a node that is computed in every frame, and read in the next."""
        last = operations[-1]
        rectified = (last.kind == 'activate' and isinstance(last.module, nn.ReLU)
                     and all(operation.kind != 'cell' for operation in operations))
        values = self.walk(operations[:-1] if rectified else operations, self.frames)
        initial = self.initial[name]
        now, before = ShiftedReLU.apply(values, initial, rectified)
        rows = np.arange(self.count + 1)
        track = NodeFrames(initial, now, rows)
        track.keep(rows[1:], now)
        track.keep(rows[:-1], before)
        return track

    def walk(self, operations: Sequence[Operation], frames: Frames, total: Tensor | None = None,
             read: Callable[[Operation, Operand, Frames], Reading] | None = None) -> Tensor:
        """
        Do what is listed for a node in some frames.

        :param frames: In which the node is computed, one after another.
        :param total: A sum that the operations continue, (N, B, ...).
        :param read: Looks values of nodes up, if it is not ``self.read``.
        :returns: The result of the last operation, (N, B, ...).
        """
        read = read or self.read
        values = {} if total is None else {f'{operations[0].node}.sum': total}
        for operation in operations:
            operands, index = [], None
            for operand in operation.operands:
                if operand.is_temporary:
                    operands.append(values.pop(operand.name))
                    continue
                value, index = read(operation, operand, frames)
                if index is not None and len(operation.operands) > 1:
                    value, index = spread(value, index), None
                operands.append(value)
            value = OVER_TIME[operation.kind](operation.module, *operands)
            # What several frames read was worked on once.
            values[operation.result] = value = value if index is None else spread(value, index)
        return value

    def read(self, operation: Operation, operand: Operand, frames: Frames) -> Reading:
        """Return what an operation reads of a node in some frames of its own."""
        if operand.name == DRAW:
            return [self._draws[i - 1] for i in frames], None
        if operation.kind == 'cell':  # which goes on from before the window by itself
            return self.initial[operand.name], None
        return self.tracks[operand.name].read(frames - operand.before)


def over_frames(module: Callable[..., Tensor], *values: Tensor) -> Tensor:
    """Apply what knows one axis of samples, (N, B, ...) of each operand to (N, B, ...)."""
    samples = [value.flatten(0, 1) for value in values]
    for part in module if isinstance(module, nn.Sequential) else (module,):
        samples = [apply(part, *samples)]
    return samples[0].unflatten(0, values[0].shape[:2])


def continue_cell(cell: nn.Module, totals: Tensor, previous: Tensor) -> Tensor:
    """
    Apply a cell in frames one after another.

    :param totals: (N, B, ...).
    :param previous: Its value before them, (B, *shape).
    """
    if len(totals) > 1:
        return cell.over_time(totals, previous)
    return cell(totals[0], previous).unsqueeze(0)


#: How each operation is done in many frames, given its module and operands (N, B, ...).
OVER_TIME: dict[str, Callable[..., Tensor]] = {
    'transform': over_frames,
    'multiply': lambda _, one, other: one * other,
    'add': lambda _, total, term: total + term,
    'normalise': over_frames,
    'cell': continue_cell,
    'activate': lambda activation, total: activation(total),
    'disturb': lambda disturbance, values, draws: disturbance(values, draws),
}


def apply(module: Callable[..., Tensor], *samples: Tensor) -> Tensor:
    """
    Apply a module to samples with the channels last in memory, where that is faster.

    Convolutions and their gradients are, and what follows them keeps the order. It is lost where
    a gradient of the other order is added, so those of averages are put in order.
    """
    if isinstance(module, nn.Conv2d):
        return module(samples[0].contiguous(memory_format=torch.channels_last))
    result = module(*samples)
    if isinstance(module, nn.AvgPool2d) and result.requires_grad:
        order = (torch.channels_last
                 if samples[0].is_contiguous(memory_format=torch.channels_last)
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
        self._inner: dict[str, list[Operation]] = {}
        self._outer: dict[str, dict[int, Tensor]] = {}
        self._constant: list[tuple[Operand, Frames, ConstantWeights]] = []
        for name in component.nodes:
            self._divide(window.plan.programs[name])

    def _is_inner(self, term: Term) -> bool:
        """Return whether a term reads a node of the component."""
        return any(operand.name in self._component.nodes for operand in sources_of(term))

    def _divide(self, program: NodeProgram) -> None:
        """Sum the terms from outside of the component for all frames at once."""
        frames = self._window.computed(program.node, self._window.frames)
        outer = [term for term in program.terms if not self._is_inner(term)]
        inner = [term for term in program.terms if self._is_inner(term)]
        totals: Iterable[Tensor] = ()
        if outer and len(frames):
            total = self._window.walk(program._replace(
                terms=tuple(outer), ending=(), finishes=False).operations(), frames)
            if torch.is_grad_enabled():
                total, inner = self._with_constants(total, inner, frames)
            totals = total.unbind()
        self._outer[program.node] = dict(zip(frames.tolist(), totals))
        self._inner[program.node] = program._replace(
            terms=tuple(inner), begun=bool(outer)).operations()

    def _with_constants(self, total: Tensor, terms: list[Term], frames: Frames
                        ) -> tuple[Tensor, list[Term]]:
        """
        Let the gradients of weights come through sums that are there for all frames.

        :returns: The sums and the terms, in which those weights are constant.
        """
        changed = []
        for term in terms:
            # Between the transform and the sum there may be nothing else.
            constant = constant_weights(term[0].module) if len(term) == 1 else None
            if constant:
                total = constant.added_to(total)
                (operand,) = term[0].operands
                self._constant.append((operand, frames - operand.before, constant))
                term = (term[0]._replace(module=constant),)
            changed.append(term)
        return total, changed

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
        for operand, frames, constant in self._constant:
            constant.read += [self._values[operand.name][i].detach() for i in frames.tolist()]

    def _compute(self, name: str, frames: Frames) -> None:
        """Compute a node in the frames of a block; held where it is not computed."""
        window, known = self._window, self._values[name]
        computed = window.computed(name, frames)
        new = {}
        if len(computed):
            outer = self._outer[name]
            total = stacked([outer[i] for i in computed.tolist()]) if outer else None
            values = window.walk(self._inner[name], computed, total, self._read)
            new = dict(zip(computed.tolist(), values.unbind()))
        for frame in frames.tolist():
            known.append(new.get(frame, known[-1]))

    def _read(self, operation: Operation, operand: Operand, frames: Frames) -> Reading:
        """Return what an operation reads of a node in some frames of its own."""
        known = self._values.get(operand.name)
        if known is None:
            return self._window.read(operation, operand, frames)
        if operation.kind == 'cell':
            return known[-1], None
        return stacked([known[i] for i in (frames - operand.before).tolist()]), None


def stacked(values: list[Tensor]) -> Tensor:
    """Return values with an axis of frames before all others."""
    return values[0].unsqueeze(0) if len(values) == 1 else torch.stack(values)
