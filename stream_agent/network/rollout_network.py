"""A graph and a pattern as a network that advances by one frame per call, or by many."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from stream_agent.network.modules import draw_frames, Modules
from stream_agent.network.program import (
    bind, by_input, DRAW, frame_program, Frames, node_programs, NodeProgram, Run, State)
from stream_agent.network.window import Loop, Window, WindowPlan
from stream_agent.theory.frame_schedule import Component, frame_schedule, window_components
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Pattern, update_order
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class Way(NamedTuple):
    """How steps and windows are computed."""

    # By frame of the hyperperiod: the nodes that it holds, and the two halves of a step.
    frames: list[tuple[tuple[str, ...], Run, Run]]
    plan: WindowPlan


def frames_in(window: Mapping[str, Tensor]) -> int:
    """Return the number of frames of a window, (B, T, *shape) each; ValueError if they differ."""
    sizes = {name: value.shape[1] for name, value in window.items()}
    if len({*sizes.values()}) > 1:
        raise ValueError('the window has '
                         + ', '.join(f"{size} frames of '{name}'" for name, size in sizes.items())
                         + '; give as many of every input')
    return next(iter(sizes.values()))


def frames_of(window: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the frames of a window one by one, (B, *shape) of each input."""
    for i in range(frames_in(window)):
        yield {name: value[:, i] for name, value in window.items()}


class RolloutNetwork(Modules):
    """
    A network that advances by one frame per call, in one piece or in two.

    The module holds weights and no state: what it remembers goes in and comes out, so one
    network can serve many streams. Streaming and sequential rollouts of one graph are this
    class with another ``pattern``; weights fit either, but work only under the pattern they
    were trained with.

    Shapes: B is the batch size, T the number of frames; ``shape`` is the node's in the graph.
    Frames are a tensor where the network has one input, and a mapping from the names of its
    ``inputs`` to tensors anywhere.

    :param graph: The nodes and edges. Shapes that it leaves out are inferred; the network's
        ``graph`` and ``shapes`` are complete.
    :param pattern: A valid rollout pattern of the graph.
    :raises GraphError: If names, shapes or options of the graph do not fit together.
    :raises InvalidRolloutError: If the pattern is not valid.
    """

    def __init__(self, graph: GraphSpec, pattern: Pattern) -> None:
        update_order(graph, pattern)  # refuses a pattern that is not valid
        super().__init__(graph, pattern)
        #: What every node is computed by, without dropout and noise, and with them.
        self.programs = node_programs(self)
        self.programs_in_training = (node_programs(self, in_training=True) if self.disturbances
                                     else self.programs)
        held = [tuple(node.name for node in self.graph.nodes if not node.updates_at(frame))
                for frame in range(self.graph.hyperperiod)]
        known = {names: frame_schedule(self.graph, self.pattern, held.index(names),
                                       begin_ahead=False) for names in {*held}}
        #: The undivided halves of a step for every frame of the hyperperiod, frame 0 first.
        self.schedules = [known[names] for names in held]

    @cached_property
    def _ways(self) -> dict[bool, Way]:
        """How to compute, by whether there are dropout and noise."""
        ways = {False: self._way(self.programs)}
        if self.disturbances:
            ways[True] = self._way(self.programs_in_training)
        return ways

    def _way(self, programs: dict[str, NodeProgram]) -> Way:
        # An input has a program only if there is something to be done with it.
        on_input = [operation for name in self.inputs for operation in programs[name].operations()]
        bound = {}
        for schedule in {*self.schedules}:
            program = frame_program(programs, schedule)
            bound[schedule] = (
                program.held, bind([*on_input, *program.respond]), bind(program.settle))
        return Way([bound[schedule] for schedule in self.schedules], WindowPlan(programs))

    @cached_property
    def _nodes(self) -> dict[str, Run]:
        """How each node is computed by itself."""
        return {name: bind(program.operations()) for name, program in self.programs.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of; it binds its own modules when it is used."""
        return {key: value for key, value in vars(self).items() if key not in ('_ways', '_nodes')}

    def initial_state(self, batch_size: int = 1) -> State:
        """Return zeros for every node, on the weights' device."""
        return State({name: self.get_buffer('_like').new_zeros(batch_size, *shape)
                      for name, shape in self.state_shapes.items()})

    def respond(self, frame: Frames, state: State) -> tuple[Tensor, State]:
        """
        Compute the response cone, which is all that the output needs in this frame.

        :param frame: The new values of the inputs, (B, *shape) each.
        :param state: Every node at the previous frame; not modified.
        :returns: The output node, (B, *shape), and the nodes known so far, for ``settle``.
        :raises ValueError: If an input is missing, or a name is none of an input.
        """
        now = by_input(self.inputs, frame)
        before = state.values
        disturbed = self.training and bool(self.disturbances)
        if disturbed:
            (now[DRAW],) = draw_frames(1)
        frames = self._ways[disturbed].frames
        held, respond, _ = frames[(state.frame + 1) % len(frames)]
        for name in held:
            now[name] = before[name]
        respond(now, before)
        return now[self.graph.output], State(now, state.frame + 1)

    def settle(self, now: State, state: State) -> State:
        """
        Compute the nodes that only later frames need.

        :param now: What ``respond`` returned; completed in place.
        :param state: What ``respond`` was given.
        :returns: Every node at this frame.
        """
        values = now.values
        frames = self._ways[DRAW in values].frames
        _, _, settle = frames[now.frame % len(frames)]
        settle(values, state.values)
        values.pop(DRAW, None)
        return now

    def step(self, frame: Frames, state: State) -> tuple[Tensor, State]:
        """
        Advance by one frame: ``respond``, and then ``settle``.

        :returns: The output node, (B, *shape), and every node at this frame.
        """
        output, now = self.respond(frame, state)
        return output, self.settle(now, state)

    def hold(self, frame: Frames, state: State, updates: int) -> tuple[Tensor, State]:
        """Advance by at least one frame of the same inputs; return as the last ``step``."""
        for _ in range(updates):
            output, state = self.step(frame, state)
        return output, state

    def forward(self, frames: Frames, state: State, updates_per_frame: int = 1,
                segment: int | None = None) -> tuple[Tensor, State]:
        """
        Compute a window of frames, all at once wherever the graph allows.

        ``theory.frame_schedule`` decides what needs a loop; results and gradients are those of
        ``hold`` in a loop, up to rounding.

        :param frames: (B, T, *shape) of every input, T at least 1.
        :param updates_per_frame: Steps for which every frame is held.
        :param segment: Frames whose values are kept at a time for the gradients; those of other
            segments are computed again when they are needed. None keeps all.
        :returns: Outputs (B, T, *shape) and the state after the last frame.
        :raises ValueError: If there is no frame, or inputs are missing or differ in their number
            of frames.
        """
        taken = by_input(self.inputs, frames)
        count = frames_in(taken)
        if not count:
            raise ValueError('the window has no frame; give at least one')
        draws = (draw_frames(count * updates_per_frame)
                 if self.training and self.disturbances else None)
        if segment is None:
            return self.window(taken, state, updates_per_frame, draws).results()
        outputs = []
        for first in range(0, count, segment):
            part = {name: value[:, first:first + segment] for name, value in taken.items()}
            updates = slice(first * updates_per_frame, (first + segment) * updates_per_frame)
            output, state = checkpoint(
                self._window_results, part, state, updates_per_frame, draws and draws[updates],
                use_reentrant=False, preserve_rng_state=False)
            outputs.append(output)
        return torch.cat(outputs, dim=1), state

    @cached_property
    def components(self) -> list[Component]:
        """How windows are computed."""
        return window_components(self.graph, self.pattern)

    def _window_results(self, *arguments: Any) -> tuple[Tensor, State]:
        return self.window(*arguments).results()

    def window(self, frames: Frames, state: State, updates_per_frame: int = 1,
               draws: Sequence[int] | None = None) -> Window:
        """
        Compute a window of frames as ``forward`` does, of which every node can be read.

        :param draws: What dropout and noise are drawn by; None for none.
        """
        taken = by_input(self.inputs, frames)
        frames_in(taken)
        window = Window(self, self._ways[draws is not None].plan, taken, state,
                        updates_per_frame, draws)
        for component in self.components:
            if component.frames is None:
                window.compute(*component.nodes)
            else:
                Loop(window, component).run()
        return window

    def stepped(self, frames: Frames, state: State, updates_per_frame: int = 1
                ) -> tuple[Tensor, State]:
        """Run over a window of frames by ``hold`` in a loop; otherwise as ``forward``."""
        outputs = []
        for frame in frames_of(by_input(self.inputs, frames)):
            output, state = self.hold(frame, state, updates_per_frame)
            outputs.append(output)
        return torch.stack(outputs, dim=1), state

    def update(self, names: Iterable[str], now: State, state: State) -> None:
        """
        Add nodes to this frame in the given order, which R = 0 edges must follow.

        There is neither dropout nor noise; edges that stream read the state.
        """
        for name in names:
            self._nodes[name](now.values, state.values)
