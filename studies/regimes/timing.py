"""An engine in front of a camera, in real time: when it answers, and how old what it knows is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
import time

import numpy as np
from stream_agent.engine.engine import Engine
from stream_agent.engine.torch_globals import wait_for
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.theory.planning.candidates import Candidate
from studies.regimes.rollouts import newest_and_deep, read_by_output

# The camera is waited for asleep until so many seconds before its frame, then awake.
AWAKE = 1e-3
# Passes that tell what the machine takes at the moment.
PASSES = 15
# Frames on which a rollout is held against the sequential one before it is timed.
CHECKED = 24

Step = Callable[[int], tuple[float, float]]


@dataclass(frozen=True)
class EngineRun:
    """
    What an engine did in front of a camera; in seconds since the stamp of frame 0.

    Shapes: N is the number of commands.

    :param period: Of the camera.
    :param frames: (N,) the frame that a command answers.
    :param begins: (N,) when the engine took it.
    :param answers: (N,) when the command was out.
    :param ends: (N,) when the frame was settled, and the engine free.
    """

    period: float
    frames: np.ndarray
    begins: np.ndarray
    answers: np.ndarray
    ends: np.ndarray

    @property
    def latency(self) -> float:
        """From the stamp of a frame to its command, the median."""
        return float(np.median(self.answers - self.frames * self.period))

    @property
    def dropped(self) -> float:
        """Share of the camera's frames that the engine never took."""
        return 1 - len(self.frames) / (self.frames[-1] - self.frames[0] + 1)


def make_engine(network: RolloutNetwork, device: str, updates_per_frame: int = 1) -> Engine:
    """Return the engine that is measured; nothing else here makes one."""
    return Engine(network, device, updates_per_frame)


def engine_of(candidate: Candidate, base: RolloutNetwork, device: str) -> Engine:
    """Return an engine for a rollout, with the weights of a network that has all its edges."""
    network = RolloutNetwork(candidate.rollout.graph, candidate.rollout.pattern)
    weights = base.state_dict()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return make_engine(network, device, candidate.updates_per_frame)


def answers(engine: Engine, images: list[np.ndarray]) -> np.ndarray:
    """Run an engine over images from the beginning; returns its last answer to each."""
    engine.reset()
    # The last response of those to an image.
    return np.array([[engine.step(image) for _ in range(engine.updates_per_frame)][-1]
                     for image in images])


def same_but_older(engine: Engine, candidate: Candidate, sources: list[str],
                   images: list[np.ndarray], sequential: np.ndarray) -> bool:
    """
    Tell whether a rollout's outputs are the sequential ones of the images that theory says.

    :param sources: Of the output; each has an element of the output to itself.
    :param sequential: Outputs of the sequential rollout for the images, (N, sources).
    """
    found = answers(engine, images)
    behind = read_by_output(candidate, len(images))
    for i, source in enumerate(sources):
        if source in behind:
            known = behind[source] >= 0
            expected = sequential[behind[source][known].astype(int), i]
        else:
            known, expected = slice(None), 0.0
        if not np.allclose(found[known, i], expected, atol=1e-4):
            return False
    return True


def run_in_real_time(step: Step, period: float, count: int) -> EngineRun:
    """
    Let an engine take the newest frame whenever it is free; what else has come is dropped.

    :param step: Takes the index of a frame, and returns when it answered and when it was free.
    """
    rows, last = [], -1
    start = time.perf_counter() + AWAKE
    while len(rows) < count:
        newest = int((time.perf_counter() - start) // period)
        if newest <= last:
            newest = last + 1
            wait_until(start + newest * period)
        begin = time.perf_counter()
        rows.append((newest, *(moment - start for moment in (begin, *step(newest)))))
        last = newest
    return EngineRun(period, *(np.array(column) for column in zip(*rows)))


def wait_until(moment: float) -> None:
    """Sleep, and watch the clock at the end: who only sleeps wakes too late."""
    time.sleep(max(0.0, moment - time.perf_counter() - AWAKE))
    while time.perf_counter() < moment:
        pass


def stepper(engine: Engine, images: list[np.ndarray]) -> Step:
    """Return what ``run_in_real_time`` calls; the images come again and again."""
    def step(frame: int) -> tuple[float, float]:
        image = images[frame % len(images)]
        for _ in range(engine.updates_per_frame - 1):
            engine.step(image)
        engine.respond(image)
        answered = time.perf_counter()
        engine.settle()
        wait_for(engine.device)
        return answered, time.perf_counter()
    return step


def pass_duration(engine: Engine, images: list[np.ndarray]) -> float:
    """Return the seconds of a whole step at the moment, the median of a few."""
    step, seconds = stepper(engine, images), []
    for i in range(3 + PASSES):
        start = time.perf_counter()
        seconds.append(step(i)[1] - start)
    return float(np.median(seconds[3:]))


def go_on(run: EngineRun, periods: int, turn: int) -> EngineRun:
    """
    Return a run that is as long as wanted: the measured durations come again, in order.

    :param periods: Of the camera, that it lasts.
    :param turn: Frames after which the engine's schedule repeats.
    """
    usable = len(run.frames) // turn * turn
    responses, durations = ((moments - run.begins)[:usable] for moments in (run.answers, run.ends))
    frames, begins, free, newest = [], [], 0.0, -1
    while newest < periods:
        newest = max(int(free // run.period), newest + 1)
        begins.append(max(free, newest * run.period))
        free = begins[-1] + durations[len(frames) % usable]
        frames.append(newest)
    again, begins = np.arange(len(frames)) % usable, np.array(begins)
    return replace(run, frames=np.array(frames), begins=begins,
                   answers=begins + responses[again], ends=begins + durations[again])


def mean_ages(run: EngineRun, candidate: Candidate) -> tuple[float, float]:
    """
    Return the ages of the newest and of the deep information in force, averaged over time.

    A command is in force from its answer to the next one's.

    :returns: Both in seconds; nan if the run is too short for any.
    """
    begins, ends = run.answers[:-1], run.answers[1:]
    means = []
    for behind in newest_and_deep(candidate, len(run.frames)):
        known = behind[:-1] >= 0
        stamps = run.frames[behind[:-1][known].astype(int)] * run.period
        held = (ends - begins)[known]
        middle = (begins + ends)[known] / 2
        means.append(float(held @ (middle - stamps) / held.sum()) if held.size else float('nan'))
    return means[0], means[1]
