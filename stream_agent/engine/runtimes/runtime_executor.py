"""Steps a network in a runtime that compiles the two halves of a step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from stream_agent.engine.light_response import light_response, LightResponse
from stream_agent.engine.runtimes.half_steps import (
    carry, frame_halves, HalfStep, initial_values, remembered_nodes, Values)
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.halves import frame_tasks
import torch

# Takes the values of a frame by name, as the runtime keeps them, and adds its results.
CompiledHalf = Callable[[dict[str, Any]], None]


class CompiledFrame(NamedTuple):
    """
    What a frame of the schedule does, as in ``half_steps.FrameHalves``; None for nothing.

    :param light: Stands for ``respond`` where the answer is small enough.
    """

    respond: CompiledHalf | None
    settle: CompiledHalf | None
    held_next: tuple[str, ...]
    light: LightResponse | None


class RuntimeExecutor(ABC):
    """
    Steps a network by its halves, each compiled by a runtime; values stay with the runtime.

    :param network: In evaluation mode, on the CPU.
    :param batch_size: B, streams of frames that are stepped together.
    """

    def __init__(self, network: RolloutNetwork, batch_size: int = 1) -> None:
        self._input, self._output = network.input, network.graph.output
        self._carry = carry(network)
        # Whether anything reads the answer, in this frame or in a later one.
        self._reads_output = self._output in remembered_nodes(network) or any(
            edge.source == self._output for edge in network.graph.edges)
        self._initial = initial_values(network, batch_size)
        self._frames = self._compile_all(network, batch_size)
        self.reset()

    @abstractmethod
    def compile_half(self, half: HalfStep, examples: Values) -> CompiledHalf:
        """Compile one half; the examples are its arguments, by name."""

    @abstractmethod
    def to_runtime(self, name: str, value: np.ndarray) -> Any:
        """Return a value as the runtime keeps it."""

    @abstractmethod
    def to_host(self, name: str, value: Any) -> np.ndarray:
        """Return a value of the runtime, which may be overwritten in the next frame."""

    @torch.inference_mode()
    def _compile_all(self, network: RolloutNetwork, batch_size: int) -> list[CompiledFrame]:
        """Compile the halves of all frames, each once, by going through them in torch."""
        halves = frame_halves(network)
        compiled: dict[HalfStep, CompiledHalf | None] = {}
        frames = []
        values = dict(self._initial)
        for i in range(1, len(halves) + 1):
            frame = halves[i % len(halves)]
            values[self._input] = network.initial_state(batch_size).values[self._input]
            for half in (frame.respond, frame.settle):
                examples = {name: values[name] for name in half.inputs}
                if half not in compiled:
                    compiled[half] = self.compile_half(half, examples) if half.outputs else None
                values.update(zip(half.outputs, half(*examples.values())))
            frames.append(CompiledFrame(
                compiled[frame.respond], compiled[frame.settle], frame.held_next,
                light_response(network, frame_tasks(network.graph, network.pattern, i).respond)))
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

    def respond(self, frame: np.ndarray) -> np.ndarray:
        """
        Answer a frame.

        :param frame: float32, (B, *shape) of the input node.
        :returns: The output node, float32, (B, *shape).
        """
        values, output = self._values, self._output
        values[self._input] = self.to_runtime(self._input, frame)
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

    def settle(self) -> None:
        """Compute what only later frames need, and begin the next one."""
        _, settle, held_next, _ = self._frames[self._frame]
        if settle:
            settle(self._values)
        self._values = self._carried(self._values, held_next)
        self._frame = (self._frame + 1) % len(self._frames)
