"""When a computer takes images that do not come evenly, and works on them by fits and starts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, cycle
import math
from typing import NamedTuple

import numpy as np
from stream_agent.bounded_settings import BoundedSettings, quantity
from stream_agent.driving.compute_model import SAME_INSTANT, Taken, Timeline, Work

# Images that are lost in one burst, each number as likely as any other.
SHORTEST_BURST, LONGEST_BURST = 3, 10


class Arrival(NamedTuple):
    """
    An image that reaches the computer.

    :param number: Among all images of the camera.
    :param time: Of its capture [s].
    :param slowness: Factor on the work of the frame that it begins.
    """

    number: int
    time: float
    slowness: float = 1.0


def taken_of(arrivals: Iterable[Arrival], work: Sequence[Work], same_instant: float = 0.0
             ) -> Iterator[Taken]:
    """
    Yield the images that a computer takes: the newest as soon as it is free, or else the next.

    A frame never answers before the one that it follows.

    :param arrivals: In order; the iterator ends where they do.
    :param work: Of the frames 1, 2, ... that are taken; repeats.
    :param same_instant: What comes so much later than the computer is free is still taken [s].
    """
    coming = iter(arrivals)
    following = next(coming, None)
    free = answer = -math.inf
    for one in cycle(work):
        if following is None:
            return
        image, following = following, next(coming, None)
        while following is not None and following.time <= free + same_instant:
            image, following = following, next(coming, None)
        start = max(free, image.time)
        answer = max(answer, start + image.slowness * one.response)
        yield Taken(image.number, start, answer)
        free = start + image.slowness * one.busy


@dataclass(frozen=True)
class Disturbance(BoundedSettings):
    """What a real computer and a real camera do, and an emulated one leaves out."""

    jitter: float = quantity(
        0.0, '', 0.0, 2.0, "spread of a frame's work: its duration is multiplied by a log-normal "
        'factor of mean 1, of which this is the standard deviation of the logarithm')
    drop_bursts: float = quantity(
        0.0, 'a minute', 0.0, 600.0, f'times that {SHORTEST_BURST} to {LONGEST_BURST} images in '
        'a row are lost')

    def __bool__(self) -> bool:
        return bool(self.jitter or self.drop_bursts)

    def __str__(self) -> str:
        parts = [f'jitter {self.jitter:g}'] * bool(self.jitter)
        return ', '.join(parts + [f'{self.drop_bursts:g} bursts of lost images a minute']
                         * bool(self.drop_bursts)) or 'undisturbed'

    def applied(self, timeline: Timeline, seed: int) -> Timeline:
        """Return a timeline as it is on the course of a seed."""
        return (DisturbedTimeline(timeline.work, timeline.camera_period, self, seed) if self
                else timeline)


@dataclass(frozen=True)
class DisturbedTimeline(Timeline):
    """
    A timeline with jitter and lost images.

    Both belong to the images and not to the frames that are taken, so that every policy on a
    course meets the same slow moments and the same gaps, whichever images it takes. Durations of
    computations have a long tail to the right, as a log-normal factor has; as its mean is 1, the
    load is that of the timeline, and what changes is the spread alone.

    :param seed: Of the course.
    """

    disturbance: Disturbance = Disturbance()
    seed: int = 0

    def arrivals(self) -> Iterator[Arrival]:
        """Yield the images that are not lost, without end."""
        slowness, losses = (np.random.default_rng([self.seed, kind]) for kind in (1, 2))
        period, jitter = self.camera_period, self.disturbance.jitter
        chance = self.disturbance.drop_bursts * period / 60
        lost = 0
        for number in count():
            factor = math.exp(jitter * slowness.standard_normal() - jitter ** 2 / 2)
            if lost:
                lost -= 1
                continue
            # Never right after a burst, so that images come however often some are lost.
            if losses.random() < chance:
                lost = int(losses.integers(SHORTEST_BURST, LONGEST_BURST + 1))
            yield Arrival(number, number * period, factor)

    def __iter__(self) -> Iterator[Taken]:
        return taken_of(self.arrivals(), self.work, SAME_INSTANT * self.camera_period)
