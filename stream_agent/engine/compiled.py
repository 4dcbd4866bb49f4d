"""Steps a network in a runtime that compiles the two halves of a step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from functools import cache
import io
from typing import Any, NamedTuple
import warnings

import numpy as np
from stream_agent.engine.read_outs import (
    join_read_outs, numpy_read_out, NumpyReadOut, read_by_rows, ReadOuts)
from stream_agent.network.program import (
    Arrays, bind, How, Operand, Operation, OPERATIONS, sources_of, Values)
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.frame_schedule import frame_schedule, FrameSchedule, NodeWork
import torch
from torch import nn, Tensor

#: How each operation is done where it is traced: as the reference does it.
TRACED: dict[str, How] = {**OPERATIONS, 'read_outs': lambda one: ReadOuts(one.module)}


def name_in_frame(operand: Operand, ahead: bool, held_next: Collection[str]) -> str:
    """
    Return what a tensor is called, seen from the frame in which it is read or written.

    :param ahead: Whether that is the frame before its own.
    """
    if ahead:
        return operand.name + ('' if operand.before or operand.name in held_next else '.next')
    return operand.name + ('.before' if operand.before else '')


class FrameModule(nn.Module):
    """
    A part of a frame as one function of tensors.

    Shapes: (B, *shape) of their nodes, sums into cells wider.

    :param works: With whether each is done ahead, for the next frame.
    :param kept: Names of results that are wanted; those for the next frame are anyway.
    :param held_next: Nodes that the next frame holds.
    """

    def __init__(self, network: RolloutNetwork, works: list[tuple[NodeWork, bool]],
                 kept: set[str], held_next: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._network = network
        operations: list[Operation] = []
        reads: dict[str, None] = {}
        writes: dict[str, None] = {}
        for work, ahead in works:
            program = network.programs[work.node].part(work)
            begun = [Operand(f'{work.node}.sum')] if work.begun else []
            read = (*sources_of(sum(program.terms, ())), *begun, *sources_of(program.ending))
            reads |= dict.fromkeys(name for operand in read if (
                name := name_in_frame(operand, ahead, held_next)) not in writes)
            # With modules that runtimes are fast at, and reading the values of one frame only.
            program = join_read_outs(read_by_rows(program, network.shapes))
            operations += [operation._replace(
                result=name_in_frame(Operand(operation.result), ahead, held_next),
                operands=tuple(Operand(name_in_frame(operand, ahead, held_next))
                               for operand in operation.operands))
                           for operation in program.operations()]
            writes[operations[-1].result] = None
        self._run = bind(operations, TRACED)
        self.eval()
        #: Names of the arguments and of the results, in order.
        self.inputs = list(reads)
        self.outputs = [name for name in writes if name in kept or name.endswith('.next')]

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self.inputs, arguments))
        self._run(values, {})
        return tuple(values[name] for name in self.outputs)


def key_of(name: str) -> str:
    """Return what a tensor is called in whichever frame it is seen from."""
    return name.removesuffix('.before').removesuffix('.next')


def remembered_nodes(network: RolloutNetwork) -> list[str]:
    """Return the nodes whose values a later frame may read, in the graph's order."""
    streaming = {source for (source, _), streams in network.pattern.items() if streams}
    return [node.name for node in network.graph.nodes
            if node.name in streaming or node.cell or node.period > 1]


class FrameModules(NamedTuple):
    """What a frame of the schedule does; where the next frame holds v, ``v.next`` is ``v``."""

    respond: FrameModule
    settle: FrameModule
    held_next: tuple[str, ...]


def frame_modules(network: RolloutNetwork) -> list[FrameModules]:
    """Return the modules of every frame of the hyperperiod, frame 0 first; equal ones once."""
    remembered = set(remembered_nodes(network))

    @cache
    def modules(now: FrameSchedule, after: FrameSchedule) -> FrameModules:
        settle = FrameModule(network, [(work, False) for work in now.settle]
                             + [(work, True) for work in after.ahead], remembered, after.held)
        respond = FrameModule(network, [(work, False) for work in now.respond],
                              {*settle.inputs, *remembered, network.graph.output})
        return FrameModules(respond, settle, after.held)

    schedules = [frame_schedule(network.graph, network.pattern, frame)
                 for frame in range(network.graph.hyperperiod)]
    return list(map(modules, schedules, schedules[1:] + schedules[:1]))


def carry(network: RolloutNetwork) -> dict[str, str]:
    """Return the names that tensors have in the next frame, by their names in this one."""
    return {**{name: f'{name}.before' for name in remembered_nodes(network)},
            **{f'{name}.next': name for node in network.graph.nodes
               for name in (node.name, f'{node.name}.sum')}}


@torch.inference_mode()
def initial_values(network: RolloutNetwork, batch_size: int = 1) -> Values:
    """Return what the first frame finds after a reset, by name."""
    state = network.initial_state(batch_size).values
    first = frame_schedule(network.graph, network.pattern, 1)
    ahead = FrameModule(network, [(work, True) for work in first.ahead], set(), first.held)
    made = {**state, **{f'{name}.next': state[name] for name in first.held}}
    made.update(zip(ahead.outputs, ahead(*(made[name] for name in ahead.inputs))))
    names = carry(network)
    return {names[name]: value for name, value in made.items() if name in names}


# Takes the values of a frame by name, as the runtime keeps them, and adds its results.
CompiledHalf = Callable[[dict[str, Any]], None]


# What a frame of the schedule does, as in ``FrameModules``, None for nothing; and what replaces
# ``respond`` where the output is little work.
CompiledFrame = tuple[
    CompiledHalf | None, CompiledHalf | None, tuple[str, ...], NumpyReadOut | None]
# Of a tensor in a runtime: for a frame, for the one before, and for the next one.
COPIES = 3


class CompiledBackend(ABC):
    """Steps a network by its halves, each compiled by a runtime; values stay with the runtime."""

    def __init__(self, network: RolloutNetwork, batch_size: int = 1) -> None:
        self._inputs, self._output = network.inputs, network.graph.output
        self._carry = carry(network)
        # Whether anything reads the answer, in this frame or in a later one.
        self._reads_output = self._output in remembered_nodes(network) or any(
            edge.source == self._output for edge in network.graph.edges)
        self._initial = initial_values(network, batch_size)
        self._frames = self._compile_all(network, batch_size)
        self.reset()

    @abstractmethod
    def compile_half(self, half: FrameModule, examples: Values) -> CompiledHalf:
        """Compile one half; the examples are its arguments, by name."""

    @abstractmethod
    def to_runtime(self, name: str, value: np.ndarray) -> Any:
        """Return a value as the runtime keeps it."""

    @abstractmethod
    def to_host(self, name: str, value: Any) -> np.ndarray:
        """Return a value of the runtime, whose memory a later frame may overwrite."""

    @torch.inference_mode()
    def _compile_all(self, network: RolloutNetwork, batch_size: int) -> list[CompiledFrame]:
        """Compile the halves of all frames, each once, by going through them in torch."""
        halves = frame_modules(network)
        compiled: dict[FrameModule, CompiledHalf | None] = {}
        frames = []
        values = dict(self._initial)
        for i in range(1, len(halves) + 1):
            frame = halves[i % len(halves)]
            initial = network.initial_state(batch_size).values
            values.update({name: initial[name] for name in self._inputs})
            for half in (frame.respond, frame.settle):
                examples = {name: values[name] for name in half.inputs}
                if half not in compiled:
                    compiled[half] = self.compile_half(half, examples) if half.outputs else None
                values.update(zip(half.outputs, half(*examples.values())))
            frames.append((
                compiled[frame.respond], compiled[frame.settle], frame.held_next,
                numpy_read_out(network, frame_schedule(network.graph, network.pattern, i))))
            values = self._carried(values, frame.held_next)
        return frames

    def _carried(self, values: dict[str, Any], held_next: tuple[str, ...]) -> dict[str, Any]:
        """Return what the next frame finds."""
        for name in held_next:
            values[f'{name}.next'] = values[name]
        return {self._carry[name]: value for name, value in values.items() if name in self._carry}

    def reset(self) -> None:
        """Forget every frame, and prepare for the first one."""
        self._frame = 0
        self._values = {name: self.to_runtime(name, value.numpy())
                        for name, value in self._initial.items()}

    def respond(self, frame: Arrays) -> np.ndarray:
        """Return the output node, (B, *shape), for a frame of the inputs, all float32."""
        values, output = self._values, self._output
        if isinstance(frame, np.ndarray):
            values[self._inputs[0]] = self.to_runtime(self._inputs[0], frame)
        else:
            for name, value in frame.items():
                values[name] = self.to_runtime(name, value)
        respond, _, _, light = self._frames[self._frame]
        if light:
            name = f'{output}.sum'
            answer = light(frame, self.to_host(name, values[name]) if name in values else None)
            if self._reads_output:
                values[output] = self.to_runtime(output, answer)
            return answer
        if respond:
            respond(values)
        return self.to_host(output, values[output])

    def rehearse(self, frame: Arrays) -> None:
        """Compute the answer to a frame, and forget it."""
        kept = dict(self._values)
        self.respond(frame)
        self._values.clear()
        self._values.update(kept)

    def settle(self) -> None:
        """Compute what only later frames need, and begin the next one."""
        _, settle, held_next, _ = self._frames[self._frame]
        if settle:
            settle(self._values)
        self._values = self._carried(self._values, held_next)
        self._frame = (self._frame + 1) % len(self._frames)


OPSET = 18


@torch.inference_mode()
def to_onnx(half: FrameModule, arguments: list[Tensor]) -> bytes:
    """
    Return an ONNX model of a half, with the names of its tensors.

    :param arguments: Any values of the right shapes and types.
    """
    file: Any = io.BytesIO()  # which torch writes to, but does not declare
    how: dict = {'input_names': half.inputs, 'output_names': half.outputs, 'opset_version': OPSET}
    with warnings.catch_warnings():
        # The older exporter is ten times as fast, and is used on purpose.
        warnings.simplefilter('ignore')
        try:
            torch.onnx.export(half, tuple(arguments), file, dynamo=False, **how)
        except (torch.onnx.errors.OnnxExporterError, TypeError):
            program = torch.onnx.export(half, tuple(arguments), dynamo=True, verbose=False,
                                        **how)
            assert program is not None
            return program.model_proto.SerializeToString()
    return file.getvalue()
