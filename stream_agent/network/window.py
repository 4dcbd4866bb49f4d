"""The program of a network over a window of frames, with time as an axis."""

from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stream_agent.network.modules import Modules
from stream_agent.network.program import (
    DRAW, NodeProgram, Operand, Operation, sources_of, State, Term)
from stream_agent.network.recurrence.cells import Cell
from stream_agent.network.window_gradients import (
    constant_weights, ConstantWeights, ShiftedReLU, WeightsLater)
from stream_agent.theory.frame_schedule import Component
import torch
from torch import nn, Tensor

# Frames of a window, ascending: 1 is its first; 0 is what was there before it. Each is one update.
Frames = Sequence[int]
# The different values of an operand in some frames, (N, B, ...), and which each frame has; None
# where they are in order.
Reading = tuple[Any, Tensor | None]


class NodeFrames:
    """
    What a node is in the frames of a window.

    :param initial: Before the window, (B, *shape).
    :param values: The N values that it takes, (N, B, *shape).
    :param rows: By frame from 0 on, which value it has: 0 for the initial one, n for the nth.
    :param known: What some rows look like one after another.
    """

    def __init__(self, initial: Tensor, values: Tensor, rows: Sequence[int],
                 known: Mapping[tuple[int, ...], Reading] | None = None) -> None:
        self._initial, self._values, self._rows = initial, values, rows
        self._known = dict(known or {})

    def read(self, frames: Frames) -> Reading:
        """Return the different values in some frames, and which of them each frame has."""
        rows = tuple([self._rows[i] for i in frames])
        if rows not in self._known:
            # Who reads the same frames reads the same tensor: one copy, one sum of gradients.
            different = list(dict.fromkeys(rows))
            index = None if len(different) == len(rows) else torch.tensor(
                [bisect(different, row) - 1 for row in rows], device=self._values.device)
            self._known[rows] = self._take(different), index
        return self._known[rows]

    def last(self) -> Tensor:
        """Return the value after the window, (B, *shape), in memory of its own."""
        row = self._rows[-1]
        return (self._values[row - 1] if row else self._initial).clone()

    def _take(self, rows: Sequence[int]) -> Tensor:
        """Return values by their rows, which ascend."""
        if rows and rows[0] == 0:
            return torch.cat([self._initial.unsqueeze(0), self._take(rows[1:])])
        if len(rows) == len(self._values):
            return self._values
        if not rows or rows[-1] - rows[0] + 1 == len(rows):
            first = rows[0] - 1 if rows else 0
            return self._values[first:first + len(rows)]
        index = torch.tensor([row - 1 for row in rows], device=self._values.device)
        return self._values.index_select(0, index)


def spread(values: Tensor, index: Tensor | None) -> Tensor:
    """Return the value of each frame, from what ``NodeFrames.read`` gives."""
    return values if index is None else values.index_select(0, index)


class WindowPlan:
    """
    What all windows of a network have in common.

    :param programs: What every node is computed by.
    """

    def __init__(self, programs: Mapping[str, NodeProgram]) -> None:
        self.programs = programs
        self.operations = {name: program.operations() for name, program in programs.items()}
        #: Nodes that edges read a frame later.
        self.read_later = {operand.name for program in programs.values()
                           for term in program.terms for operand in sources_of(term)
                           if operand.before}


class Window:
    """
    The nodes of a network over T frames of its inputs, each of which is held for k updates.

    :param images: (B, T, *shape) of every input.
    :param state: Before the window.
    :param updates_per_frame: k.
    :param draws: What dropout and noise of every frame are drawn by; None for neither.
    """

    def __init__(self, network: Modules, plan: WindowPlan, images: Mapping[str, Tensor],
                 state: State, updates_per_frame: int, draws: Sequence[int] | None) -> None:
        self.network, self.plan = network, plan
        self.initial = state.values
        self.count = images[network.input].shape[1] * updates_per_frame
        self._start, self._draws = state.frame, draws or ()
        self._updates_per_frame = updates_per_frame
        self.frames = range(1, self.count + 1)
        self.tracks: dict[str, NodeFrames] = {}
        for name, values in images.items():
            self._take(name, values.transpose(0, 1))

    def _take(self, name: str, values: Tensor) -> None:
        """Know the values of an input, (T, B, *shape), in every frame."""
        rows, on_input = range(self.count + 1), self.plan.operations[name]
        initial = self.initial[name]
        self.tracks[name] = NodeFrames(initial, values, [
            (i - 1) // self._updates_per_frame + 1 for i in rows])
        if on_input:  # every update of an image is disturbed for itself
            values = spread(*self.tracks[name].read(self.frames)).contiguous()
            self.tracks[name] = NodeFrames(initial, values, rows)
            self.tracks[name] = NodeFrames(initial, self.walk(on_input, self.frames), rows)

    def results(self) -> tuple[Tensor, State]:
        """Return the output node after every image, (B, T, *shape), and the last state."""
        return self.values(self.network.graph.output), State(
            {name: self.tracks[name].last() for name in self.initial}, self._start + self.count)

    def values(self, name: str) -> Tensor:
        """Return any node after every image, (B, T, *shape)."""
        frames = self.frames[self._updates_per_frame - 1::self._updates_per_frame]
        return spread(*self.tracks[name].read(frames)).transpose(0, 1)

    def computed(self, name: str, frames: Frames) -> Frames:
        """Return those of some frames in which a node is computed, rather than held."""
        node = self.network.graph.node(name)
        return frames if node.period == 1 else [
            i for i in frames if node.updates_at(i + self._start)]

    def compute(self, name: str) -> None:
        """Compute a node, whose sources are known, in all frames at once."""
        frames, initial = self.computed(name, self.frames), self.initial[name]
        operations = self.plan.operations[name]
        if len(frames) == self.count and name in self.plan.read_later:
            self.tracks[name] = self._both(initial, operations)
            return
        values = self.walk(operations, frames) if frames else initial.new_empty(0, *initial.shape)
        rows = [bisect(frames, i) for i in range(self.count + 1)]
        self.tracks[name] = NodeFrames(initial, values, rows)

    def _both(self, initial: Tensor, operations: Sequence[Operation]) -> NodeFrames:
        """Return the values of a node that is computed in every frame, and read in the next."""
        last = operations[-1]
        rectified = (last.kind == 'activate' and isinstance(last.module, nn.ReLU)
                     and all(operation.kind != 'cell' for operation in operations))
        values = self.walk(operations[:-1] if rectified else operations, self.frames)
        now, before = ShiftedReLU.apply(values, initial, rectified)
        rows = tuple(range(self.count + 1))
        return NodeFrames(initial, now, rows, {rows[1:]: (now, None), rows[:-1]: (before, None)})

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
                if operand.name in values:
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
        if operation.kind == 'cell':  # which continues from before the window by itself
            return self.initial[operand.name], None
        return self.tracks[operand.name].read([i - operand.before for i in frames])


def over_frames(module: Callable[..., Tensor], *values: Tensor) -> Tensor:
    """Apply what knows one axis of samples, (N, B, ...) of each operand to (N, B, ...)."""
    samples = [value.flatten(0, 1) for value in values]
    for part in module if isinstance(module, nn.Sequential) else (module,):
        samples = [apply(part, *samples)]
    return samples[0].view(*values[0].shape[:2], *samples[0].shape[1:])


def continue_cell(cell: Cell, totals: Tensor, previous: Tensor) -> Tensor:
    """Apply a cell in frames one after another, (N, B, ...), given its value before them."""
    if len(totals) > 1:
        return cell.over_time(totals, previous)
    return cell(totals[0], previous).unsqueeze(0)


#: How each operation is done in many frames, given its module and operands (N, B, ...).
OVER_TIME: dict[str, Callable[..., Tensor]] = {
    'transform': over_frames,
    'body': over_frames,
    'multiply': lambda _, one, other: one * other,
    'add': lambda _, total, term: total + term,
    'normalise': over_frames,
    'cell': continue_cell,
    'activate': lambda activation, total: activation(total),
    'disturb': lambda disturbance, values, draws: disturbance(values, draws),
}


def apply(module: Callable[..., Tensor], *samples: Tensor) -> Tensor:
    """
    Apply a module to samples, with the channels of convolutions last in memory: that is faster.

    What follows them keeps the order, but for gradients to which one of the other order is added,
    so those of averages are put in order.
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
        self._window, self._component = window, component
        #: By node, its value in every frame that is known so far, (B, *shape).
        self._values = {name: [window.initial[name]] for name in component.nodes}
        self._inner: dict[str, list[Operation]] = {}
        self._outer: dict[str, dict[int, Tensor]] = {}
        self._constant: list[tuple[Operand, Frames, ConstantWeights]] = []
        for name in component.nodes:
            self._divide(window.plan.programs[name])

    def _divide(self, program: NodeProgram) -> None:
        """Sum the terms from outside of the component for all frames at once."""
        frames = self._window.computed(program.node, self._window.frames)
        outer, inner = list[Term](), list[Term]()
        for term in program.terms:
            inside = any(operand.name in self._values for operand in sources_of(term))
            (inner if inside else outer).append(term)
        totals: Iterable[Tensor] = ()
        if outer and frames:
            total = self._window.walk(program._replace(
                terms=tuple(outer), ending=(), finishes=False).operations(), frames)
            if torch.is_grad_enabled():
                total, inner = self._with_constants(total, inner, frames)
            totals = total.unbind()
        self._outer[program.node] = dict(zip(frames, totals))
        self._inner[program.node] = program._replace(
            terms=tuple(inner), begun=bool(outer)).operations()

    def _with_constants(self, total: Tensor, terms: list[Term], frames: Frames
                        ) -> tuple[Tensor, list[Term]]:
        """Let the gradients of weights come through sums of all frames, and not through terms."""
        changed = []
        for term in terms:
            # Between the transform and the sum there may be nothing else.
            constant = constant_weights(term[0].module) if len(term) == 1 else None
            if constant:
                total = total + WeightsLater.apply(
                    constant.layer.weight, constant.layer.bias, constant, total.detach())
                self._constant.append((term[0].operands[0], frames, constant))
                term = (term[0]._replace(module=constant),)
            changed.append(term)
        return total, changed

    def run(self) -> None:
        """Compute all frames."""
        nodes, lead, count = self._component.nodes, self._component.lead, self._window.count
        block = self._component.frames or count
        for start in range(1 - max(lead) // block * block - block, count + 1, block):
            for name, ahead in zip(nodes, lead):
                first = start + ahead
                self._compute(name, range(max(1, first), min(count + 1, first + block)))
        # For the gradients of weights: what they have been applied to.
        for operand, frames, constant in self._constant:
            values = self._values[operand.name]
            constant.read += [values[i - operand.before].detach() for i in frames]
        for name, (initial, *values) in self._values.items():
            self._window.tracks[name] = NodeFrames(initial, torch.stack(values), range(count + 1))

    def _compute(self, name: str, frames: Frames) -> None:
        """Compute a node in the frames of a block, or hold it."""
        known, new = self._values[name], {}
        computed = self._window.computed(name, frames)
        if computed:
            outer = self._outer[name]
            total = stacked([outer[i] for i in computed]) if outer else None
            values = self._window.walk(self._inner[name], computed, total, self._read)
            new = dict(zip(computed, values.unbind()))
        for frame in frames:
            known.append(new.get(frame, known[-1]))

    def _read(self, operation: Operation, operand: Operand, frames: Frames) -> Reading:
        """Return what an operation reads of a node in some frames of its own."""
        known = self._values.get(operand.name)
        if known is None:
            return self._window.read(operation, operand, frames)
        if operation.kind == 'cell':
            return known[-1], None
        return stacked([known[i - operand.before] for i in frames]), None


def stacked(values: list[Tensor]) -> Tensor:
    """Return values with an axis of frames before all others."""
    return values[0].unsqueeze(0) if len(values) == 1 else torch.stack(values)
