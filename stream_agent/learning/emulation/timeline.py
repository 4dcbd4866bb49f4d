"""
What an emulated computer does when: the images it takes, and when each answer is out.

A computer takes the newest image as soon as it is free; images that came before are dropped.
It answers by the response cone and settles after. Nodes are not divided and nothing is done
ahead of the image, so what the engine gains by either is not counted. A schedule is exact and
repeats: the same costs give the same times in training and in every drive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, takewhile
import math
from typing import NamedTuple

from stream_agent.theory.planning.candidates import Candidate, PARALLEL
from stream_agent.theory.rollout import response_cone

# Shares of a camera period nearer than this are one instant.
SAME_INSTANT = 1e-6


class TimingError(ValueError):
    """A timing that no computer can have; the message says why."""


class Work(NamedTuple):
    """
    What one frame asks of a computer, in seconds.

    :param response: From the start of the frame until its answer is out.
    :param busy: From the start until the computer takes the next frame.
    """

    response: float
    busy: float


class Taken(NamedTuple):
    """
    An image that the computer took; times in seconds, image 0 comes at 0.

    :param image: Its number among all images of the camera.
    :param start: When the work on it began.
    :param answer: When its answer is out.
    """

    image: int
    start: float
    answer: float


@dataclass(frozen=True)
class Timeline:
    """
    The images that a computer takes, the first first, without end.

    :param work: Of the frames 1, 2, ... that it takes; repeats.
    :param camera_period: Seconds between two images.
    """

    work: tuple[Work, ...]
    camera_period: float

    def __iter__(self) -> Iterator[Taken]:
        free, last = 0.0, -1
        for work in cycle(self.work):
            image = max(math.floor(free / self.camera_period + SAME_INSTANT), last + 1)
            start = max(free, image * self.camera_period)
            yield Taken(image, start, start + work.response)
            free, last = start + work.busy, image

    def images_within(self, seconds: float) -> int:
        """Return how many images are taken that come before a time."""
        images = math.ceil(seconds / self.camera_period - SAME_INSTANT)
        return sum(1 for _ in takewhile(lambda taken: taken.image < images, self))


def immediate(camera_period: float) -> Timeline:
    """Return the timeline of a computer that takes no time."""
    return Timeline((Work(0.0, 0.0),), camera_period)


def timeline_of(candidate: Candidate, pipelined: bool = False) -> Timeline:
    """
    Return when a rollout takes and answers images on the device it was planned for.

    :param pipelined: Whether a frame may enter before the one in front of it is through: as
        soon as every node has finished that one. Only on a parallel device.
    :raises TimingError: If device or pattern allow no pipelining.
    """
    device = candidate.rollout.device
    if pipelined:
        check_pipelining(candidate)
    rounds = candidate.rollout.graph.hyperperiod
    return Timeline(tuple(frame_work(candidate, frame, pipelined) for frame in range(rounds)),
                    device.camera_period)


def frame_work(candidate: Candidate, frame: int, pipelined: bool) -> Work:
    """Return the work of a frame, 0 being the first; its last update step answers."""
    rollout, updates = candidate.rollout, candidate.updates_per_frame
    graph, pattern, device = rollout.graph, rollout.pattern, rollout.device
    steps = [device.seconds(graph, pattern, [
        node.name for node in graph.nodes
        if node.name not in graph.inputs and node.updates_at(frame * updates + i)])
        for i in range(1, updates + 1)]
    cone = device.seconds(graph, pattern,
                          response_cone(graph, pattern, (frame + 1) * updates))
    busy = updates * max(device.costs.nodes.values()) if pipelined else sum(steps)
    overhead = device.costs.overhead
    return Work(overhead + sum(steps[:-1]) + cone, overhead + busy)


def check_pipelining(candidate: Candidate) -> None:
    """Refuse what pipelines nothing, and what would make a frame wait for the one before."""
    if candidate.rollout.device.execution != PARALLEL:
        raise TimingError('a serial device works on one node at a time and pipelines nothing; '
                          'choose the parallel device or leave pipelining out')
    for (u, v), r in candidate.rollout.pattern.items():
        if r and u != v:
            raise TimingError(f"the edge '{u}->{v}' streams, so a frame waits for the one before; "
                              'only patterns whose self-edges alone stream are pipelined')
