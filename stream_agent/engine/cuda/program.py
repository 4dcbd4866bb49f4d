"""One way to step a network on a device: its buffers, and every half of a step recorded."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

from stream_agent.engine.cuda.branches import Buffer, Kernel, plan_branches
from stream_agent.engine.cuda.buffers import (
    Action, BufferPlan, Group, grouped, places_of, stacks_of)
from stream_agent.engine.cuda.device import Device, Half, Run
from stream_agent.engine.cuda.kernels import CudaKernels, Memory
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.network.shapes import taken_shape
from stream_agent.network.transforms import Shape
import torch
from torch import Tensor


class Variant(NamedTuple):
    """
    How kernels are made; which is the fastest depends on the network and the device.

    :param batched: Equal nodes in one kernel, and equal terms of a sum in one.
    :param fused: Bias, sum and ReLU within the convolution, and its result copied into place.
    :param channels_last: Feature maps with their channels last in memory; not with ``batched``.
    :param captured: Every operation of the network's program by itself, as the reference does it.
    """

    batched: bool = False
    fused: bool = False
    channels_last: bool = False
    captured: bool = False

    def __str__(self) -> str:
        return ', '.join(name.replace('_', ' ') for name, on in self._asdict().items() if on
                         ) or 'plain'


# Fills the buffers of the inputs, which it is given in the graph's order.
Take = Callable[..., None]


class Program:
    """
    Steps a network in one variant; all buffers and recordings are made now.

    :param network: In evaluation mode, on the device.
    :param precision: Of feature maps and what makes them; features, cells, image and output are
        float32.
    :param takes: Ways in; each is recorded as a part of its own ``respond``.
    :param host_output: Where the output goes, (B, *shape) on the host.
    :param most_streams: Branches at the same time; 1 for none.
    """

    def __init__(self, network: RolloutNetwork, device: Device, takes: Sequence[Take],
                 host_output: Tensor, precision: torch.dtype, variant: Variant,
                 most_streams: int) -> None:
        self.variant = variant
        self._network, self._device, self._most_streams = network, device, most_streams
        self._host_output, self._precision = host_output, precision
        stacks = stacks_of(network.graph)
        self.plan = BufferPlan(network.graph, network.pattern, stacks)
        self._memory = self._make_memory(stacks, host_output.shape[0])
        self._kernels = CudaKernels(network, self._memory, variant.batched, variant.fused,
                                    variant.captured)
        # Recordings read them where they lie, even if the network is moved away.
        self._read = [value.detach() for value in (*network.parameters(), *network.buffers())]
        record = cache(self._record)
        #: By way in, and of frame f at f modulo the length.
        self.respond = [[record(frame.respond, take, frame.images, frame.output)
                         for frame in self.plan.frames] for take in takes]
        self.settle = [record(frame.settle) for frame in self.plan.frames]
        self._begin = record(self.plan.begin)

    def _dtype(self, name: str) -> torch.dtype:
        """Return the type of a node's values."""
        node = self._network.graph.node(name)
        exact = (len(self._network.shapes[name]) == 1 or node.cell
                 or name in (*self._network.inputs, self._network.graph.output))
        return torch.float32 if exact else self._precision

    def _make_memory(self, stacks: Sequence[Sequence[str]], batch_size: int) -> Memory:
        """Allocate the buffers of all nodes and sums, those of stacked nodes in one tensor."""
        graph, counts = self._network.graph, self.plan.counts
        shapes = self._network.state_shapes
        places = places_of(stacks, counts)
        tensors: dict[tuple[int, int], Tensor] = {}
        for name, place in ((buffer[0], place) for buffer, place in places.items()):
            number, _ = place.tensor
            tensors.setdefault(place.tensor, self._zeros(
                (len(stacks[number]), batch_size), shapes[name], self._dtype(name)))
        values = {buffer: tensors[place.tensor][place.at]
                  for buffer, place in places.items()}
        for name in self._network.inputs:
            for turn in range(counts[name]):
                # In the order in which it comes from the host.
                values[name, turn] = torch.zeros(
                    batch_size, *shapes[name], device=self._device.torch_device)
        for name in self.plan.sums:
            node = graph.node(name)
            values[f'{name}.sum', 0] = self._zeros(
                (batch_size,), taken_shape(node, self._network.shapes[name]), self._dtype(name))
        return Memory(values, tensors, places)

    def _zeros(self, outer: tuple[int, ...], shape: Shape, dtype: torch.dtype) -> Tensor:
        """Return zeros, (*outer, *shape); feature maps in the variant's order."""
        if len(shape) != 3 or not self.variant.channels_last:
            return torch.zeros((*outer, *shape), dtype=dtype, device=self._device.torch_device)
        channels, height, width = shape
        return torch.zeros((*outer, height, width, channels), dtype=dtype,
                           device=self._device.torch_device).movedim(-1, -3)

    def _record(self, actions: tuple[Action, ...], take: Take | None = None,
                images: tuple[Buffer, ...] = (), output: Buffer | None = None) -> Run:
        """Record the operations of a half, from the way in to the output if there are such."""
        operations, runs = list[Kernel](), list[Run]()
        if take:
            operations.append(Kernel('take', (), images, 0.0))
            runs.append(partial(take, *(self._memory.values[image] for image in images)))
        for group in self._groups(actions):
            operations.append(self.operation(group))
            runs.append(self._kernels.bind(group))
        if output:
            operations.append(Kernel('output', (output,), (), 0.0))
            runs.append(partial(self._host_output.copy_, self._memory.values[output],
                                non_blocking=True))
        return self._device.record(
            Half(plan_branches(operations, self._most_streams), tuple(runs)))

    def _groups(self, actions: Sequence[Action]) -> list[Group]:
        """Return what runs as one kernel."""
        if not self.variant.batched:
            return [(action,) for action in actions]
        return grouped(actions, self._kernels.kind, self._memory.places)

    def operation(self, group: Group) -> Kernel:
        """Return a group as an operation of a plan."""
        return Kernel(
            ' '.join(action.target[0] for action in group),
            tuple(buffer for action in group for buffer in action.reads),
            tuple(action.target for action in group), self._kernels.cost(group))

    def reset(self) -> None:
        """Forget every frame, and prepare for the first one."""
        def run() -> None:
            for value in self._memory.values.values():
                value.zero_()
            self._begin()

        self._device.launch(run)

    def values(self, frame: int) -> dict[str, Tensor]:
        """Return the nodes that streaming edges read, at a frame from 1 that was just settled."""
        self._device.wait()
        return {name: self._memory.values[self.plan.buffer(name, frame)]
                for name, count in self.plan.counts.items() if count > 1}

    def steps(self, count: int) -> list[Run]:
        """Return the recordings of some frames in turn."""
        frames = [frame % len(self.settle) for frame in range(1, count + 1)]
        return [run for frame in frames for run in (self.respond[0][frame], self.settle[frame])]

    @torch.inference_mode()
    def alone(self) -> dict[str, Run]:
        """Record every operation of frame 1 by itself, to measure it."""
        frame = self.plan.frames[1 % len(self.plan.frames)]
        return {self.operation(group).name: self._device.record(
                    Half(plan_branches([self.operation(group)]), (self._kernels.bind(group),)))
                for group in self._groups((*frame.respond, *frame.settle))}
