"""The fastest executor for a network on this machine, found by measurement."""

from collections.abc import Iterable
import os
import statistics
import time
from typing import NamedTuple

import numpy as np
from stream_agent.engine.executors import (
    Executor, ExecutorError, last_line, make_executor, PRECISIONS, Request, usable)
from stream_agent.engine.torch_state import computing, torch_threads
import torch

FRAMES_A_TURN = 5
# Memory that is used in turn shows its faults in the second round.
CHECKED_ROUNDS, MOST_CHECKED_FRAMES = 4, 60
MOST_TURNS = 12
SECONDS_EACH = 0.15
# Among executors whose steps take about as long as the fastest one's, the first to answer wins.
STEP_TOLERANCE = 1.25
# Further threads are taken from somebody: they have to be worth it.
THREADS_GAIN = 1.1
# Relative to the outputs; what differs by more than rounding is another function.
LARGEST_ERROR = {'float32': 1e-3, 'tf32': 3e-2, 'bfloat16': 5e-2}


class Measured(NamedTuple):
    """
    An executor and what it takes.

    :param name: A name in ``executors.EXECUTORS``.
    :param respond: Seconds until the answer, median.
    :param step: Seconds until the frame is settled, median.
    :param error: Largest difference from the network's own outputs, relative to them.
    """

    name: str
    threads: int
    executor: Executor
    respond: float
    step: float
    error: float

    def __str__(self) -> str:
        return (f'{self.name}, {self.threads} thread{"s" * (self.threads > 1)}: respond '
                f'{self.respond * 1e3:.3f} ms, step {self.step * 1e3:.3f} ms')


def choose_executor(device: torch.device, request: Request, threads: int = 0,
                    names: Iterable[str] = ()) -> tuple[Measured, list[Measured]]:
    """
    Measure the executors that can be used, in turns, and return the best and all.

    :param threads: 0 to find out whether the best one is better on all cores than on one.
    :param names: Only these; all if empty.
    """
    names = list(names) or usable(device.type, request.precision)
    if not names:
        raise ExecutorError(f"there is no executor on {device.type} in '{request.precision}'; "
                            f"precisions are {', '.join(PRECISIONS)}, and tf32 is for GPUs")
    measured = measure(device, request, [(name, threads or 1) for name in names])
    chosen = best(measured, request.precision)
    cores = usable_cores() if device.type == 'cpu' and not threads else 1
    if cores > 1:
        measured += measure(device, request, [(chosen.name, 1), (chosen.name, cores)])[1:]
        chosen = best(measured, request.precision)
    return chosen, measured


def usable_cores() -> int:
    """Return on how many cores this process may run."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def example_frames(request: Request) -> list[np.ndarray]:
    """Return frames like those of a camera, scaled."""
    generator = np.random.default_rng(0)
    shape = (request.batch_size, *request.network.shapes[request.network.input])
    return [generator.random(shape, np.float32) - np.float32(0.5) for _ in range(FRAMES_A_TURN)]


def check_frames(request: Request) -> tuple[list[np.ndarray], np.ndarray]:
    """Return frames over several rounds of the schedule, and the network's own outputs."""
    frames = example_frames(request)
    count = min(CHECKED_ROUNDS * request.network.graph.hyperperiod + 1, MOST_CHECKED_FRAMES)
    frames = [frames[i % len(frames)] for i in range(max(count, len(frames)))]
    return frames, reference(request, frames)


@torch.inference_mode()
def reference(request: Request, frames: list[np.ndarray]) -> np.ndarray:
    """Return the outputs of the network itself."""
    network = request.network
    state = network.initial_state(request.batch_size)
    outputs = []
    with computing(tf32=False):
        for frame in frames:
            device = state.values[network.input].device
            output, state = network.step(torch.from_numpy(frame).to(device), state)
            outputs.append(output.cpu().numpy())
    return np.array(outputs)


def measure(device: torch.device, request: Request, choices: list[tuple[str, int]]
            ) -> list[Measured]:
    """Make executors of these names and threads, and measure them, in turns."""
    frames = example_frames(request)
    checked, expected = check_frames(request)
    made: dict[tuple[str, int], Executor] = {}
    for name, count in choices:
        try:
            made[name, count] = make_executor(name, device, request._replace(threads=count))
        except ExecutorError:  # of several, those that can
            if len(choices) == 1:
                raise
    errors = {}
    for key in list(made):
        try:
            errors[key] = largest_error(key[0], made[key], key[1], checked, expected)
        except ExecutorError:
            if len(choices) == 1:
                raise
            del made[key]
    taken: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in made}
    for _ in range(MOST_TURNS):
        for key, executor in made.items():
            if sum(step for _, step in taken[key]) < SECONDS_EACH:
                with torch_threads(key[1]):
                    taken[key] += [timed_step(executor, frame) for frame in frames][1:]
    return [Measured(*key, executor, *map(statistics.median, zip(*taken[key])), errors[key])
            for key, executor in made.items()]


def check_outputs(name: str, executor: Executor, request: Request) -> None:
    """
    Hold the first outputs of an executor against the network's own.

    :raises ExecutorError: If they differ by more than rounding.
    """
    error = largest_error(name, executor, request.threads, *check_frames(request))
    if not error <= LARGEST_ERROR[request.precision]:
        raise ExecutorError(
            f"executor '{name}' computes another function than the network: its outputs differ "
            f"by {error:.1e}; take 'eager'. Transforms of your own may only compute with "
            'tensors, without branches that depend on their values')


def largest_error(name: str, executor: Executor, threads: int, frames: list[np.ndarray],
                  expected: np.ndarray) -> float:
    """Return by how much the first outputs differ from the network's own, relative to them."""
    try:
        with torch_threads(threads):
            executor.reset()
            outputs = []
            for frame in frames:
                outputs.append(executor.respond(frame).copy())
                executor.settle()
    except Exception as error:  # the errors of runtimes have no class in common
        raise ExecutorError(f"executor '{name}' cannot step this network ({last_line(error)}); "
                            "take 'eager', or another transform") from error
    return float(np.abs(np.array(outputs) - expected).max() / max(1.0, np.abs(expected).max()))


def timed_step(executor: Executor, frame: np.ndarray) -> tuple[float, float]:
    """Return the seconds until the answer, and until the frame is settled."""
    start = time.perf_counter()
    executor.respond(frame)
    responded = time.perf_counter()
    executor.settle()
    return responded - start, time.perf_counter() - start


def best(measured: list[Measured], precision: str) -> Measured:
    """Return the executor that answers first, among those whose steps are fast."""
    sound = [one for one in measured if one.error <= LARGEST_ERROR[precision]]
    if not sound:
        raise ExecutorError(f'{measured[0].name} computes another function than the network: its '
                            f"outputs differ by {measured[0].error:.1e}; take 'eager'")
    weight = {one: THREADS_GAIN if one.threads > 1 else 1.0 for one in sound}
    fastest = min(one.step * weight[one] for one in sound)
    return min((one for one in sound if one.step * weight[one] <= STEP_TOLERANCE * fastest),
               key=lambda one: one.respond * weight[one])
