"""Vehicles that one network drives side by side, all under the same timing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from stream_agent.command import Command
from stream_agent.learning.emulation.command_rows import CommandRows
from stream_agent.learning.emulation.link import Link
from stream_agent.learning.emulation.timeline import Taken, Timeline
from stream_agent.network.checkpoint import CommandLimits
from stream_agent.network.preprocessing import Preprocessing, scale
from stream_agent.network.rollout_network import RolloutNetwork, State
from stream_agent.simulation.environment import DrivingEnvironment, Frame, Moment
import torch


class Fleet:
    """
    Environments in step with the images that a timeline takes; all others go unseen.

    :param network: Put into evaluation mode.
    :param environments: At their reset, or placed after it.
    :param timeline: When the computer takes images and answers them.
    :param command_rows: Writes the last answers into the network's input; None: it does not
        know them.
    """

    def __init__(self, network: RolloutNetwork, environments: Sequence[DrivingEnvironment],
                 preprocessing: Preprocessing, limits: CommandLimits, timeline: Timeline,
                 updates_per_frame: int = 1, command_rows: CommandRows | None = None) -> None:
        self.environments = environments
        self._network = network.eval()
        self._preprocessing = preprocessing
        self._limits = limits
        self._timeline = iter(timeline)
        self._updates_per_frame = updates_per_frame
        self._command_rows = command_rows
        self._links = [Link(environment, command_rows.count if command_rows else 0)
                       for environment in environments]
        self._state = network.initial_state(len(environments))
        self._device = next(network.parameters()).device
        self._next = next(self._timeline)
        self._image = 0
        self._frames: list[Frame | None] = [None] * len(environments)
        #: What the network was given last, uint8 of every vehicle.
        self.pixels: list[np.ndarray] = []

    @property
    def _takes(self) -> bool:
        """Whether the computer takes the present image."""
        return self._next.image == self._image

    def place(self, index: int, speed: float, **place: float) -> None:
        """Put a vehicle somewhere, with nothing remembered of where it was."""
        environment = self.environments[index]
        environment.place(speed=speed, **place)
        self._frames[index] = environment.look()
        self._links[index].forget(environment.now.reference)
        self._state = without_sample(self._state, index)

    def look(self) -> Taken | None:
        """Take the present image, if the timeline does, and put its answers on their way."""
        if not self._takes:
            return None
        taken, self._next = self._next, next(self._timeline)
        self.pixels = [self._preprocessing.pixels(frame.image) for frame in self._frames]
        if self._command_rows:
            self.pixels = [
                self._command_rows.written(pixels, self._limits, link.answers_before(taken.start))
                for pixels, link in zip(self.pixels, self._links)]
        with torch.inference_mode():
            images = torch.from_numpy(np.stack(self.pixels)).to(self._device)
            output, self._state = self._network.hold(scale(images), self._state,
                                                     self._updates_per_frame)
        for link, values in zip(self._links, output.float().cpu().numpy()):
            link.answer(self._limits.command(values), taken.answer)
        return taken

    def move(self, index: int, pushed: float, expert_drives: bool) -> Moment:
        """
        Let one vehicle drive for a camera period.

        :param pushed: Yaw rate that is added to what it is commanded [rad/s].
        :returns: Where it is then.
        """
        environment = self.environments[index]
        expert: Command | None = environment.now.reference if expert_drives else None
        self._links[index].send(pushed, expert)
        if self._next.image == self._image + 1:
            self._frames[index] = environment.advance()
        else:
            environment.skip()
        return environment.now

    def next_image(self) -> None:
        """Go on to the next image, once every vehicle has moved."""
        self._image += 1


def without_sample(state: State, index: int) -> State:
    """Return a copy in which one sample of the batch has forgotten everything."""
    values = {name: value.clone() for name, value in state.values.items()}
    for value in values.values():
        value[index] = 0
    return replace(state, values=values)
