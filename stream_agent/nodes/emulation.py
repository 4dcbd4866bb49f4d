"""A slow computer in real time: an agent that answers as late as one would, and drops as much."""

from __future__ import annotations

from collections import deque
from itertools import cycle
import math
from pathlib import Path
from statistics import median
import time
from typing import Any, NamedTuple, TYPE_CHECKING

import numpy as np
from stream_agent.driving.compute_model import (
    ComputeModel, EmulatedRollout, EmulatedTiming, timings)
from stream_agent.images import stamp_of_serialized
from stream_agent.measurement.durations import Durations
from stream_agent.nodes.messages import sent_number
from stream_agent.theory.planning.candidates import SERIAL

if TYPE_CHECKING:
    from stream_agent.nodes.agent_node import AgentNode

NS = 10**9
# An image that is due comes later, by less than this share of a period; a computer that is free
# waits that long for it, and answers no later.
GRACE = 0.5
# So long before a moment [s] the process wakes up, and so long before it computes without end.
WAKE, SPIN = 1e-3, 1.5e-4
# Images whose stamps tell when images are due: one may be late, and a camera drifts.
STAMPS = 15
# By this share of a period a stamp may be early; stamps are late more often, and by more.
EARLY = 0.25


class ImageClock:
    """
    The images of a camera by number, and the times at which they are due.

    Times are seconds since the first image was due, by the median of the stamps, so that neither
    late arrivals nor single stamps that are off count, or add up.
    """

    def __init__(self, period: float) -> None:
        self._period = period
        self._first_ns: int | None = None
        self._offsets: deque[float] = deque(maxlen=STAMPS)
        self._offset = 0.0

    def number(self, stamp_ns: int) -> int:
        """Return the number of an image: 0 for the first, and the same for others due then."""
        if self._first_ns is None:
            self._first_ns = stamp_ns
        number = math.floor(self.seconds(stamp_ns) / self._period + EARLY)
        self._offsets.append((stamp_ns - self._first_ns) / NS - number * self._period)
        self._offset = median(self._offsets)
        return number

    def seconds(self, now_ns: int) -> float:
        """Return a time of the stamps' clock [ns] in seconds since the first image was due."""
        return (now_ns - (self._first_ns or 0)) / NS - self._offset


class Arrived(NamedTuple):
    """An image that the computer may take, as ``AgentNode.take`` returns it, with its number."""

    number: int
    frame: np.ndarray
    stamp_ns: int
    age: float
    pixels: np.ndarray


class EmulatedComputer:
    """
    Lets an agent take images and publish answers when a slow computer would.

    An answer is computed as soon as its image is taken, and waits until the computer would have
    it; then the agent publishes and settles as ever. Of the images that come meanwhile, the
    newest waits. Which images are taken, and when, is the ``Timeline`` of the emulation in
    lockstep; time is the camera's, by its stamps.
    """

    def __init__(self, agent: AgentNode, model: ComputeModel, timing: EmulatedTiming) -> None:
        self._agent, self._model = agent, model
        self.timeline, self.figures = timing.timeline, timing.figures
        #: How much later than the emulated computer's the answers were.
        self.late = Durations()
        self.reset()

    def __str__(self) -> str:
        return str(self._model)

    def reset(self) -> None:
        """Begin a new sequence of images; what waits, or is being computed, is forgotten."""
        self._clock = ImageClock(self.timeline.camera_period)
        self._works = cycle(self.timeline.work)
        self._free, self._last = 0.0, -1
        self._waiting: Arrived | None = None
        self._taken: Arrived | None = None

    def on_image(self, data: bytes, info: dict[str, Any]) -> None:
        """Judge an image as any agent does; it waits until the computer is free."""
        agent = self._agent
        if not agent.is_active:
            return
        agent.heard = time.monotonic()
        stamp_ns = self._taken.stamp_ns if self._taken else stamp_of_serialized(data)
        try:
            self._proceed()
            if taken := agent.take(data, sent_number(info)):
                agent.frame_filter.dropped['by the emulated computer'] += bool(self._waiting)
                self._waiting = Arrived(self._clock.number(taken[1]), *taken)
                self._proceed()
        except Exception as error:
            agent.contain(error, stamp_ns)

    def _on_time(self) -> None:
        """Wait out the rest of the time until something is due, and do that."""
        agent, taken = self._agent, self._taken or self._waiting
        if not agent.is_active or taken is None:
            return
        try:
            while (left := self._due - self._now()) > 0:
                time.sleep(max(0.0, left - SPIN))
            self._proceed()
        except Exception as error:
            agent.contain(error, taken.stamp_ns)

    def _now(self) -> float:
        return self._clock.seconds(self._agent.get_clock().now().nanoseconds)

    def _proceed(self) -> None:
        """Do all that the computer would have done by now, and wake up for what comes next."""
        while (due := self._next_due()) is not None:
            if due > self._now():
                self._wake_up(due)
                return
            if self._taken:
                self._finish(self._taken, due)
            elif self._waiting:
                self._begin(self._waiting)

    def _next_due(self) -> float | None:
        """Return when the answer is out, or an image is taken; None if one has to come."""
        if self._taken:
            return self._answer_at
        if self._waiting is None:
            return None
        wanted = self.timeline.newest(self._free, self._last)
        is_coming = self._waiting.number < wanted
        return self._free + GRACE * self.timeline.camera_period * is_coming

    def _wake_up(self, due: float) -> None:
        """Have this process wake up shortly before a time."""
        self._due = due
        call_at = getattr(self._agent.executor, 'call_at', None)
        if call_at is None:
            raise RuntimeError('an emulated computer needs a process that wakes up in time; start '
                               'the agent by `ros2 run stream_agent agent`')
        call_at(time.monotonic() + due - self._now() - WAKE, self._on_time)

    def _begin(self, image: Arrived) -> None:
        """
        Take an image, with what its network reads besides, and compute its answer, not yet out.

        An image for which something is missing leaves the computer free for the next one.
        """
        agent, self._waiting = self._agent, None
        frames = image.frame if agent.inputs.alone else agent.inputs.complete(
            image.frame, image.stamp_ns)
        if frames is None:
            return
        work, self._taken = next(self._works), image
        start = max(self._free, image.number * self.timeline.camera_period)
        self._answer_at, self._free = start + work.response, start + work.busy
        self._last = image.number
        self._is_answer = agent.first_answer() < agent.updates
        for update in range(agent.updates):
            if update:
                agent.timed('settle', agent.engine.settle)
            self._output = agent.timed('respond', agent.engine.respond, frames)

    def _finish(self, image: Arrived, due: float) -> None:
        """Let the answer out, and compute what only later frames need."""
        agent = self._agent
        self.late.add(self._now() - due)
        if self._is_answer:
            agent.timed('publish', agent.publish_command, self._output, image.stamp_ns)
        self._taken = None
        agent.timed('settle', agent.engine.settle)
        agent.camera.see(image.pixels, image.stamp_ns, image.age,
                         agent.output.moves(agent.policy.limits.command(self._output)))
        agent.failures = 0


def emulated_computer(agent: AgentNode) -> EmulatedComputer:
    """
    Return the slow computer that an agent's parameters describe, and warn of it.

    :raises OSError: If the costs cannot be read.
    :raises ValueError: If they do not fit the policy's graph, or the agent cannot emulate.
    """
    pass_periods, costs, simulated, every_update = (
        agent.get_parameter(name).value for name in (
            'pass_periods', 'costs', 'use_sim_time', 'publish_every_update'))
    if simulated:
        raise ValueError('pass_periods and costs emulate a computer in real time, and '
                         'use_sim_time is set; leave out one of them')
    if every_update:
        raise ValueError('an emulated computer answers at the last update step of a frame, and '
                         'publish_every_update is set; leave out that, or pass_periods and costs')
    network, period = agent.policy.network, agent.frame_filter.settings.camera_period
    model = ComputeModel(SERIAL, Path(costs) if costs else None, pass_periods or None)
    (timing,) = timings([EmulatedRollout('checkpoint', network.graph, network.pattern,
                                         agent.updates)], model, period)
    computer, figures = EmulatedComputer(agent, model, timing), timing.figures
    agent.get_logger().warning(
        f'EMULATED COMPUTER: {computer}; commands come every {1 / figures.rate:.3g} s, '
        f'{figures.latency:.3g} s after their frames. Never on a robot: leave out pass_periods '
        'and costs there')
    return computer
