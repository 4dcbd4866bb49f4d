"""When a rollout answers: the frames and update steps of its outputs."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from stream_agent.theory.graph import GraphSpec
from stream_agent.theory.information import first_response, FirstResponse
from stream_agent.theory.patterns import (
    newest_image_pattern, Pattern, pattern_from_streams, sequential_pattern)
from stream_agent.theory.rollout import inference_factor

LOSS_FRAMES = 8


@dataclass(frozen=True)
class Answers:
    """
    The outputs of a rollout that depend on an image, and when they are there.

    :param outputs: How many of them are looked at.
    """

    graph: GraphSpec
    pattern: Pattern
    outputs: int = LOSS_FRAMES

    @cached_property
    def first(self) -> FirstResponse:
        """Frame and update step of the first."""
        return first_response(self.graph, self.pattern)

    @cached_property
    def factor(self) -> int:
        """Update steps from one output to the next."""
        return inference_factor(self.graph, self.pattern)

    @property
    def unanswered(self) -> int:
        """Frames at the start of a window whose outputs depend on no image."""
        return self.first.frame - 1

    @property
    def window(self) -> int:
        """Frames in a window: as many outputs for every rollout (SR18, section "Training")."""
        return self.unanswered + self.outputs

    @property
    def frames(self) -> list[int]:
        """Frames of the outputs; the first of a window is 1."""
        return list(range(self.first.frame, self.window + 1))

    @property
    def steps(self) -> list[int]:
        """
        Update steps at which the outputs are there.

        As published: windows of one frame that carry a state, so that a frame begins when the
        one before is complete.
        """
        return [self.step_of(frame) for frame in self.frames]

    def step_of(self, frame: int) -> int:
        """Return the update step at which a frame's output is there."""
        return self.first.update_step + self.factor * (frame - self.first.frame)


def pattern_named(graph: GraphSpec, name: str) -> Pattern:
    """
    Return the pattern of a rollout in an experiment.

    :param name: 'streaming', 'sequential', or the edges that stream, as 'a->b,b->b'. The image of
        a frame is there when the frame begins, in all of them: a streaming rollout whose first
        image lies in frame 0, as published, has the same outputs.
    """
    if name == 'streaming':
        return newest_image_pattern(graph)
    if name == 'sequential':
        return sequential_pattern(graph)
    return pattern_from_streams(graph, name.split(','))


def held(steps: list[int], values: np.ndarray, until: int) -> np.ndarray:
    """
    Return a value for every update step: an output holds until the next one is there.

    :param steps: When the values are there, ascending.
    :param values: (outputs,).
    :param until: The last update step.
    :returns: For the update steps 1 to ``until``; nan before the first value.
    """
    newest = np.searchsorted(steps, np.arange(1, until + 1), side='right') - 1
    return np.where(newest < 0, np.nan, np.asarray(values, float)[newest])
