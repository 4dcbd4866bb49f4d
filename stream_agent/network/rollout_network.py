"""A graph and a pattern as a network that advances by one frame per call, or by many."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from stream_agent.network.disturbances import draw_frames
from stream_agent.network.modules import Factor, Modules, Term
from stream_agent.network.state import State
from stream_agent.network.window import Loop, Window
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.patterns import Pattern, update_order
from stream_agent.theory.rollout import response_cone
from stream_agent.theory.windows import Component, window_components
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class StepPlan(NamedTuple):
    """
    The nodes of a step, in update order, without the input.

    :param cone: What the output needs in this frame.
    :param rest: What only later frames need.
    :param held: What keeps its value, as its period says.
    """

    cone: list[str]
    rest: list[str]
    held: list[str]


class RolloutNetwork(Modules):
    """
    A network that advances by one frame per call, in one piece or in two.

    The module holds weights and no state: what it remembers goes in and comes out, so one
    network can serve many streams. Streaming and sequential rollouts of one graph are this
    class with another ``pattern``; weights fit either, but work only under the pattern they
    were trained with.

    Shapes: B is the batch size, T the number of frames; ``shape`` is the node's in the graph.

    :param graph: The nodes and edges; one input node. Shapes that it leaves out are inferred;
        the network's ``graph`` and ``shapes`` are complete.
    :param pattern: A valid rollout pattern of the graph.
    :raises GraphError: If names, shapes or options of the graph do not fit together.
    :raises InvalidRolloutError: If the pattern is not valid.
    """

    def __init__(self, graph: GraphSpec, pattern: Pattern) -> None:
        order = update_order(graph, pattern)
        super().__init__(graph, pattern)
        #: The parts of a step for every frame of the hyperperiod, frame 0 first.
        self.plans = self._make_plans([name for name in order if name != self.input])

    def _make_plans(self, order: list[str]) -> list[StepPlan]:
        """Divide the nodes into those of the cone, the rest, and those that are held."""
        known: dict[tuple[str, ...], StepPlan] = {}
        plans = []
        for frame in range(self.graph.hyperperiod):
            held = tuple(v for v in order if not self.graph.node(v).updates_at(frame))
            if held not in known:
                cone = response_cone(self.graph, self.pattern, frame)
                elsewhere = {*cone, *held}
                known[held] = StepPlan(cone, [v for v in order if v not in elsewhere], list(held))
            plans.append(known[held])
        return plans

    def plan(self, frame: int) -> StepPlan:
        """Return which nodes a frame computes, in which half of the step."""
        return self.plans[frame % len(self.plans)]

    def initial_state(self, batch_size: int = 1) -> State:
        """Return zeros for every node, on the weights' device."""
        return State({name: self._like.new_zeros(batch_size, *shape)
                      for name, shape in self.state_shapes.items()})

    def respond(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """
        Compute the response cone, which is all that the output needs in this frame.

        :param frame: The input node's new value, (B, *shape).
        :param state: Every node at the previous frame; not modified.
        :returns: The output node, (B, *shape), and the nodes known so far, for ``settle``.
        """
        now = State({}, state.frame + 1, *(self._draw(1) or ()))
        now.values[self.input] = self._disturbed(self.input, frame, now)
        plan = self.plan(now.frame)
        for name in plan.held:
            now.values[name] = state.values[name]
        self.update(plan.cone, now, state)
        return now.values[self.graph.output], now

    def settle(self, now: State, state: State) -> State:
        """
        Compute the nodes that only later frames need.

        :param now: What ``respond`` returned; completed in place.
        :param state: What ``respond`` was given.
        :returns: Every node at this frame.
        """
        self.update(self.plan(now.frame).rest, now, state)
        return now

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """
        Advance by one frame.

        :param frame: The input node's new value, (B, *shape).
        :param state: Every node at the previous frame; not modified.
        :returns: The output node, (B, *shape), and every node at this frame.
        """
        output, now = self.respond(frame, state)
        return output, self.settle(now, state)

    def hold(self, image: Tensor, state: State, updates: int) -> tuple[Tensor, State]:
        """
        Advance by several frames that show the same image.

        :param image: As for ``step``.
        :param updates: At least 1.
        :returns: The output of the last, and every node after it.
        """
        for _ in range(updates):
            output, state = self.step(image, state)
        return output, state

    def forward(self, frames: Tensor, state: State, updates_per_frame: int = 1,
                segment: int | None = None) -> tuple[Tensor, State]:
        """
        Compute a window of frames, all at once wherever the graph allows.

        What is loop and what is not says ``window_components`` of ``theory.windows``; results
        and gradients are those of ``hold`` in a loop, up to rounding.

        :param frames: (B, T, *shape), T at least 1.
        :param updates_per_frame: Steps for which every frame is held.
        :param segment: Frames whose values are kept at a time for the gradients; those of other
            segments are computed again when they are needed. None keeps all.
        :returns: Outputs (B, T, *shape) and the state after the last frame.
        :raises ValueError: If there is no frame.
        """
        if not frames.shape[1]:
            raise ValueError('the window has no frame; give at least one')
        draws = self._draw(frames.shape[1] * updates_per_frame)
        if segment is None:
            return self._compute_window(frames, state, updates_per_frame, draws)
        outputs = []
        for i, part in enumerate(frames.split(segment, dim=1)):
            first = i * segment * updates_per_frame
            output, state = checkpoint(
                self._compute_window, part, state, updates_per_frame,
                draws and draws[first:first + part.shape[1] * updates_per_frame],
                use_reentrant=False, preserve_rng_state=False)
            outputs.append(output)
        return torch.cat(outputs, dim=1), state

    @cached_property
    def components(self) -> list[Component]:
        """How windows are computed."""
        return window_components(self.graph, self.pattern)

    def _compute_window(self, frames: Tensor, state: State, updates_per_frame: int,
                        draws: Sequence[int] | None) -> tuple[Tensor, State]:
        """Compute a window, given what dropout and noise of its frames are drawn by."""
        window = Window(self, frames, state, updates_per_frame, draws)
        for component in self.components:
            if component.frames is None:
                window.compute(*component.nodes)
            else:
                Loop(window, component).run()
        return window.answers(), window.last_state()

    def _draw(self, count: int) -> list[int] | None:
        """Draw for the dropout and noise of some frames; None where there is neither."""
        return draw_frames(count) if self.training and self.disturbances else None

    def _disturbed(self, key: str | tuple[str, str], value: Tensor, now: State) -> Tensor:
        """Apply the dropout and noise of a node or an edge, if there are any."""
        if now.draw is None or key not in self.disturbances:
            return value
        return self.disturbances[key](value.unsqueeze(0), [now.draw]).squeeze(0)

    def stepped(self, frames: Tensor, state: State, updates_per_frame: int = 1
                ) -> tuple[Tensor, State]:
        """
        Run over a window of frames; ``hold`` in a loop, and nothing else.

        :param frames: As for ``forward``; so are the results.
        """
        outputs = []
        for frame in frames.unbind(dim=1):
            output, state = self.hold(frame, state, updates_per_frame)
            outputs.append(output)
        return torch.stack(outputs, dim=1), state

    def update(self, names: list[str], now: State, state: State) -> None:
        """
        Compute nodes in the given order, which R = 0 edges must follow.

        :param now: This frame; the nodes' values are added.
        :param state: The previous frame, for edges that stream.
        """
        terms, ends = self.at_work
        for name in names:
            total = None
            for term in terms[name]:
                value = self._factor(term, name, now, state)
                for other in term.others:
                    value = value * self._factor(other, name, now, state)
                total = value if total is None else total + value
            normalisation, cell, activation = ends[name]
            if normalisation:
                total = normalisation(total)
            total = self._disturbed(name, total, now)
            if cell:
                total = cell(total, state.values[name])
            now.values[name] = activation(total) if activation else total

    def _factor(self, factor: Factor | Term, name: str, now: State, state: State) -> Tensor:
        """Return what an edge makes of its source."""
        value = factor.module((state if factor.streams else now).values[factor.source])
        return self._disturbed((factor.source, name), value, now)
