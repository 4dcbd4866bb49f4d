"""The fastest backend for a network on this machine, found by measurement."""

from collections.abc import Iterable
from contextlib import suppress
import os
import statistics
import time
from typing import NamedTuple

import numpy as np
from stream_agent.engine.backends import (
    Backend, BackendConfig, BackendError, last_line, make_backend, PRECISIONS, usable)
from stream_agent.engine.torch_globals import computing, torch_threads, wait_for
import torch

FRAMES_A_TURN = 5
# Memory that is used in turn shows its faults in the second round.
CHECKED_ROUNDS, MOST_CHECKED_FRAMES = 4, 60
MOST_TURNS = 12
SECONDS_EACH = 0.15
# Among backends whose steps take about as long as the fastest one's, the first to answer wins.
STEP_TOLERANCE = 1.25
# Further threads are taken from somebody: they have to be worth it.
THREADS_GAIN = 1.1
# Relative to the outputs; what differs by more than rounding is another function.
LARGEST_ERROR = {'float32': 1e-3, 'tf32': 3e-2, 'bfloat16': 5e-2}


# A name and a number of threads.
Choice = tuple[str, int]


class Measured(NamedTuple):
    """
    A backend and what it takes.

    :param name: A name in ``backends.BACKENDS``.
    :param respond: Seconds until the answer, median.
    :param step: Seconds until the frame is settled, median.
    :param error: Largest difference from the network's own outputs, relative to them.
    """

    name: str
    threads: int
    backend: Backend
    respond: float
    step: float
    error: float

    def __str__(self) -> str:
        return (f'{self.name}, {self.threads} thread{"s" * (self.threads > 1)}: respond '
                f'{self.respond * 1e3:.3f} ms, step {self.step * 1e3:.3f} ms')


def choose_backend(device: torch.device, request: BackendConfig, threads: int = 0,
                   names: Iterable[str] = ()) -> tuple[Measured, list[Measured]]:
    """
    Measure the backends that can be used, in turns, and return the best and all.

    :param threads: 0 to find out whether the best one is better on all cores than on one.
    :param names: Only these; all if empty.
    """
    names = list(names) or usable(device.type, request.precision)
    if not names:
        raise BackendError(f"there is no backend on {device.type} in '{request.precision}'; "
                           f"precisions are {', '.join(PRECISIONS)}, and tf32 is for GPUs")
    frames, expected = check_frames(request)

    def sound(choices: list[Choice]) -> dict[Choice, tuple[Backend, float]]:
        return made_and_checked(device, request, choices, frames, expected)

    made = sound([(name, threads or 1) for name in names])
    measured = in_turns(made, frames, device)
    chosen = best(measured, request.precision)
    cores = usable_cores() if device.type == 'cpu' and not threads else 1
    if cores > 1:
        key = chosen.name, 1
        with suppress(BackendError):  # then one core it is
            measured += in_turns({key: made[key], **sound([(chosen.name, cores)])}, frames,
                                 device)[1:]
        chosen = best(measured, request.precision)
    return chosen, measured


def usable_cores() -> int:
    """Return on how many cores this process may run."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def example_frames(request: BackendConfig) -> list[np.ndarray]:
    """Return frames like those of a camera, scaled."""
    generator = np.random.default_rng(0)
    shape = (request.batch_size, *request.network.shapes[request.network.input])
    return [generator.random(shape, np.float32) - np.float32(0.5) for _ in range(FRAMES_A_TURN)]


def check_frames(request: BackendConfig) -> tuple[list[np.ndarray], np.ndarray]:
    """Return frames over several rounds of the schedule, and the network's own outputs."""
    frames = example_frames(request)
    count = min(CHECKED_ROUNDS * request.network.graph.hyperperiod + 1, MOST_CHECKED_FRAMES)
    frames = [frames[i % len(frames)] for i in range(max(count, len(frames)))]
    return frames, reference(request, frames)


@torch.inference_mode()
def reference(request: BackendConfig, frames: list[np.ndarray]) -> np.ndarray:
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


def made_and_checked(device: torch.device, request: BackendConfig, choices: list[Choice],
                     frames: list[np.ndarray], expected: np.ndarray
                     ) -> dict[Choice, tuple[Backend, float]]:
    """
    Make backends, and return them with the largest errors of their first outputs.

    :raises BackendError: If none of them can step the network.
    """
    made = {}
    for name, count in choices:
        try:
            backend = make_backend(name, device, request._replace(threads=count))
            made[name, count] = backend, largest_error(name, backend, count, frames, expected)
        except BackendError:  # of several, those that can
            if not made and (name, count) == choices[-1]:
                raise
    return made


def in_turns(made: dict[Choice, tuple[Backend, float]], frames: list[np.ndarray],
             device: torch.device) -> list[Measured]:
    """Measure backends in alternation."""
    taken: dict[Choice, list[tuple[float, float]]] = {choice: [] for choice in made}
    for _ in range(MOST_TURNS):
        for choice, (backend, _) in made.items():
            if sum(step for _, step in taken[choice]) < SECONDS_EACH:
                with torch_threads(choice[1]):
                    taken[choice] += [timed_step(backend, frame, device)
                                      for frame in frames[:FRAMES_A_TURN]][1:]
    return [Measured(*choice, backend, *map(statistics.median, zip(*taken[choice])), error)
            for choice, (backend, error) in made.items()]


def check_outputs(name: str, backend: Backend, request: BackendConfig) -> None:
    """
    Hold the first outputs of a backend against the network's own.

    :raises BackendError: If they differ by more than rounding.
    """
    error = largest_error(name, backend, request.threads, *check_frames(request))
    if not error <= LARGEST_ERROR[request.precision]:
        raise BackendError(
            f"backend '{name}' computes another function than the network: its outputs differ "
            f"by {error:.1e}; take 'eager'. Transforms of your own may only compute with "
            'tensors, without branches that depend on their values')


def largest_error(name: str, backend: Backend, threads: int, frames: list[np.ndarray],
                  expected: np.ndarray) -> float:
    """Return by how much the first outputs differ from the network's own, relative to them."""
    try:
        with torch_threads(threads):
            backend.reset()
            outputs = []
            for frame in frames:
                outputs.append(backend.respond(frame).copy())
                backend.settle()
    except Exception as error:  # the errors of runtimes have no class in common
        raise BackendError(f"backend '{name}' cannot step this network ({last_line(error)}); "
                           "take 'eager', or another transform") from error
    return float(np.abs(np.array(outputs) - expected).max() / max(1.0, np.abs(expected).max()))


def timed_step(backend: Backend, frame: np.ndarray, device: torch.device
               ) -> tuple[float, float]:
    """Return the seconds until the answer, and until the frame is settled."""
    start = time.perf_counter()
    backend.respond(frame)
    responded = time.perf_counter()
    backend.settle()
    wait_for(device)
    return responded - start, time.perf_counter() - start


def best(measured: list[Measured], precision: str) -> Measured:
    """Return the backend that answers first, among those whose steps are fast."""
    sound = [one for one in measured if one.error <= LARGEST_ERROR[precision]]
    if not sound:
        raise BackendError(f'{measured[0].name} computes another function than the network: its '
                           f"outputs differ by {measured[0].error:.1e}; take 'eager'")
    weight = {one: THREADS_GAIN if one.threads > 1 else 1.0 for one in sound}
    fastest = min(one.step * weight[one] for one in sound)
    return min((one for one in sound if one.step * weight[one] <= STEP_TOLERANCE * fastest),
               key=lambda one: one.respond * weight[one])
