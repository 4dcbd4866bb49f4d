"""The fastest backend for a network on this machine, and other durations, by measurement."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import cycle, islice
import os
import statistics
import time
from typing import NamedTuple

import numpy as np
from stream_agent.engine.backends import (
    Backend, BackendConfig, BackendError, errors_named, make_backend, PRECISIONS, to_tensors,
    usable)
from stream_agent.engine.torch_globals import computing, torch_threads, wait_for
from stream_agent.network.program import Arrays, Run, Values
from stream_agent.network.rollout_network import RolloutNetwork
import torch

FRAMES_A_TURN = 5
# Memory that is used in turn shows its faults in the second round.
CHECKED_ROUNDS, MOST_CHECKED_FRAMES = 4, 60
MOST_TURNS = 12
SECONDS_EACH = 0.15
# Among backends whose steps take about as long as the fastest one's, the first to answer wins.
STEP_TOLERANCE = 1.25
# Further threads are taken from others, so they have to be worth it.
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
    backend: Backend | None
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
    made: dict[Choice, tuple[Backend, float]] = {}

    def make(name: str, count: int) -> None:
        backend = make_backend(name, device, request._replace(threads=count))
        made[name, count] = backend, largest_error(name, backend, count, frames, expected)

    for name in names:
        try:
            make(name, threads or 1)
        except BackendError:  # of several, those that can
            if not made and name == names[-1]:
                raise
    measured = in_turns(made, frames, device)
    chosen = best(measured, request.precision)
    cores = (len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
             else os.cpu_count() or 1)
    if cores > 1 and device.type == 'cpu' and not threads:
        with suppress(BackendError):  # then it is one core
            make(chosen.name, cores)
            pair = {key: made[key] for key in ((chosen.name, 1), (chosen.name, cores))}
            measured += in_turns(pair, frames, device)[1:]
        chosen = best(measured, request.precision)
    return chosen, measured


def random_frames(network: RolloutNetwork, count: int, batch_size: int | None = None
                  ) -> Iterator[Arrays]:
    """Yield frames like those of a camera, scaled, for one stream or for a batch of them."""
    generator = np.random.default_rng(0)
    batch = () if batch_size is None else (batch_size,)

    def values(name: str) -> np.ndarray:
        return generator.random((*batch, *network.shapes[name]), np.float32) - np.float32(0.5)

    pool = [values(network.input) if len(network.inputs) == 1 else
            {name: values(name) for name in network.inputs} for _ in range(8)]
    return islice(cycle(pool), count)


def check_frames(request: BackendConfig) -> tuple[list[Arrays], np.ndarray]:
    """Return frames over several rounds of the schedule, and the network's own outputs."""
    count = min(CHECKED_ROUNDS * request.network.graph.hyperperiod + 1, MOST_CHECKED_FRAMES)
    frames = list(random_frames(request.network, max(count, FRAMES_A_TURN), request.batch_size))
    return frames, reference(request, frames)


@torch.inference_mode()
def reference(request: BackendConfig, frames: list[Arrays]) -> np.ndarray:
    """Return the outputs of the network itself."""
    network = request.network
    state = network.initial_state(request.batch_size)
    device = state.values[network.input].device
    outputs = []
    with computing(tf32=False):
        for frame in frames:
            output, state = network.step(to_tensors(frame, device), state)
            outputs.append(output.cpu().numpy())
    return np.array(outputs)


def in_turns(made: dict[Choice, tuple[Backend, float]], frames: list[Arrays],
             device: torch.device) -> list[Measured]:
    """Measure backends in alternation."""
    taken: dict[Choice, list[tuple[float, float]]] = {choice: [] for choice in made}
    for _ in range(MOST_TURNS):
        for choice, (backend, _) in made.items():
            if sum(step for _, step in taken[choice]) < SECONDS_EACH:
                with torch_threads(choice[1]):
                    taken[choice] += [timed_step(backend, frame, device)
                                      for frame in frames[:FRAMES_A_TURN]][1:]
    return [Measured(*choice, backend, statistics.median(respond for respond, _ in taken[choice]),
                     statistics.median(step for _, step in taken[choice]), error)
            for choice, (backend, error) in made.items()]


def check_outputs(name: str, backend: Backend, request: BackendConfig) -> None:
    """
    Compare the first outputs of a backend with the network's own.

    :raises BackendError: If they differ by more than rounding.
    """
    error = largest_error(name, backend, request.threads, *check_frames(request))
    if not error <= LARGEST_ERROR[request.precision]:
        raise BackendError(
            f"backend '{name}' computes another function than the network: its outputs differ "
            f"by {error:.1e}; take 'eager'. Transforms of your own may only compute with "
            'tensors, without branches that depend on their values')


def largest_error(name: str, backend: Backend, threads: int, frames: list[Arrays],
                  expected: np.ndarray) -> float:
    """Return by how much the first outputs differ from the network's own, relative to them."""
    outputs = []
    with errors_named(name), torch_threads(threads):
        backend.reset()
        for frame in frames:
            outputs.append(backend.respond(frame).copy())
            backend.settle()
    return float(np.abs(np.array(outputs) - expected).max() / max(1.0, np.abs(expected).max()))


def timed_step(backend: Backend, frame: Arrays, device: torch.device
               ) -> tuple[float, float]:
    """Return the seconds until the answer, and until the frame is settled."""
    start = time.perf_counter()
    backend.respond(frame)
    responded = time.perf_counter()
    backend.settle()
    wait_for(device)
    return responded - start, time.perf_counter() - start


@torch.inference_mode()
def timed_nodes(compute: Mapping[str, Run], now: Values, before: Values) -> dict[str, float]:
    """
    Compute the nodes of a frame one by one, and return the seconds of each.

    :param compute: By node, in an order that R = 0 edges allow.
    :param now: The inputs in this frame; the nodes' values are added.
    :param before: All nodes at the frame before.
    """
    device = next(iter(now.values())).device
    seconds = {}
    wait_for(device)
    for name, run in compute.items():
        start = time.perf_counter()
        run(now, before)
        wait_for(device)
        seconds[name] = time.perf_counter() - start
    return seconds


def medians(frames: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median over frames of what ``timed_nodes`` gave for each."""
    return {name: statistics.median(frame[name] for frame in frames) for name in frames[0]}


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
