"""
What a training in the simulator takes: frames of the batch of vehicles, rounds, gradient steps.

One process on one core, by the time that the processor works for it. Whole trainings are
extrapolated from a few rounds and gradient steps, with the schedule that `train` uses.

With `--against COMMIT --set COURSES=10`, the commands also train policies to the end and evaluate
them on that many held-out courses, for minutes: a faster training should drive as well.
"""

from collections.abc import Callable
from dataclasses import replace
import hashlib
import inspect
import json
from pathlib import Path
import subprocess
import sys
from tempfile import TemporaryDirectory
import time

import cv2
from harness import parse, run_benchmark, show
import numpy as np
from stream_agent.graph_files.graph_file import load_graph
from stream_agent.learning.policy_jobs import pattern_of
from stream_agent.learning.policy_sources import FromExpert
from stream_agent.learning.settings import ImitationSchedule, TrainerOptions
from stream_agent.learning.trainer import Trainer
from stream_agent.network.rollout_network import RolloutNetwork
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
import torch

GRAPH = Path('config/graphs/lane.yaml')
PATTERNS = ('streaming', 'sequential')
ROAD = SimulationSettings(width_px=64, height_px=48, rate=60.0, camera_pitch=0.15, signs=True,
                          look_ahead=0.4, max_yaw_rate=5.0, clutter=4.0, noise=4.0)
SIZES = {'160x120': SimulationSettings(), '64x48': SimulationSettings(width_px=64, height_px=48),
         '64x48_signs': ROAD}
# Drives that differ in all that is drawn.
LOOKS = {**SIZES, 'colour': SimulationSettings(coloured=True),
         'colour_signs': SimulationSettings(coloured=True, signs=True),
         'late': SimulationSettings(camera_delay=0.04, actuator_delay=0.013),
         'plain': SimulationSettings(vehicle='bicycle', randomized=False, exposure=0.0)}
BATCH, FRAMES = 8, 40
# Driven by policies that were trained to the end; 0: none are.
COURSES, LAPS, SEEDS = 0, 3, (1, 2)


def environment_of(settings: SimulationSettings, seed: int) -> DrivingEnvironment:
    """Return an environment as trainings use it, now or at a commit before batches."""
    compiled = 'compiled' in inspect.signature(DrivingEnvironment).parameters
    return DrivingEnvironment(settings, seed, **({'compiled': True} if compiled else {}))


def frames_per_second(settings: SimulationSettings, rounds: int) -> float:
    """Let the expert drive a batch; the best of many rounds is the least disturbed one."""
    environments = [environment_of(settings, seed) for seed in range(BATCH)]
    frames = [environment.reset() for environment in environments]
    durations = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(FRAMES):
            frames = [environment.step(frame.reference)
                      for environment, frame in zip(environments, frames)]
        durations.append(time.process_time() - start)
    return BATCH * FRAMES / min(durations)


def pixels(settings: SimulationSettings, frames: int) -> str:
    """Return a digest of the images of restless drives on two courses."""
    digest = hashlib.sha256()
    for seed in (0, 1_000_003):
        environment, rng = environment_of(settings, seed), np.random.default_rng(seed)
        environment.place(lateral=0.1, heading=0.2, arc_length=3.0, speed=0.8)
        frame = environment.look()
        for _ in range(frames):
            speed, yaw_rate = frame.reference
            frame = environment.step(frame.reference._replace(
                yaw_rate=yaw_rate + rng.uniform(-1.5, 1.5)))
            digest.update(frame.image.tobytes())
            if frame.now.departed:
                environment.place(speed=speed)
    return digest.hexdigest()[:16]


def spent(work: Callable[[], object]) -> float:
    """Return how long the processor works on something [s]."""
    start = time.process_time()
    work()
    return time.process_time() - start


def training(pattern: str, steps: int) -> dict[str, float]:
    """Return the seconds of a round's drive, of a gradient step, and of a whole training."""
    torch.manual_seed(1)
    graph = load_graph(GRAPH)
    schedule = ImitationSchedule()
    short = replace(schedule, rounds=2, updates=steps, last_updates=0)
    learner = FromExpert(schedule=short).learner(
        RolloutNetwork(graph, pattern_of(graph, pattern)), pattern, 1, None)
    trainer = Trainer(learner, TrainerOptions(learner.steps, learner.learning_rate, quiet=True),
                      None)
    drives, gradients, prepare = [], [], learner.prepare
    began: list[float] = []

    def timed_prepare(step: int) -> bool:
        if began:
            gradients.append(time.process_time() - began.pop())
        taken = spent(lambda: prepare(step))
        if step % steps == 0:
            drives.append(taken)
        began.append(time.process_time())
        return True

    learner.prepare = timed_prepare
    trainer.run()
    whole = schedule.rounds * drives[-1] + schedule.all_updates * float(np.min(gradients))
    return {'drive': drives[-1], 'step': float(np.min(gradients)), 'train_seconds': whole}


def driving(courses: int) -> dict[str, dict[str, float]]:
    """
    Let the commands train policies of both patterns and evaluate them.

    :returns: Root mean square over the seeds of the lateral errors [m], and all departures.
    """
    rows: dict[str, list[dict]] = {pattern: [] for pattern in PATTERNS}
    for seed in SEEDS:
        with TemporaryDirectory() as folder:
            policies = [f'{folder}/lane_{pattern}.safetensors' for pattern in PATTERNS]
            for command in (['train', '--seed', str(seed), '--output', folder],
                            ['evaluate', *policies, '--courses', str(courses), '--laps',
                             str(LAPS), '--json']):
                run = subprocess.run([sys.executable, '-m', 'stream_agent', *command],
                                     stdout=subprocess.PIPE, text=True, check=True)
        # The expert comes first.
        for pattern, row in zip(PATTERNS, json.loads(run.stdout.splitlines()[-1])[1:]):
            rows[pattern].append(row)
    return {pattern: {
        'lateral_rms': float(np.mean([row['lateral_rms'] ** 2 for row in found])) ** 0.5,
        'departures': sum(row['departures'] for row in found)} for pattern, found in rows.items()}


def conclude(there: list[dict], here: list[dict]) -> dict:
    """Return what all rounds say together: the best of each side, new over old."""
    def best(side: list[dict], key: str, choose: Callable) -> float:
        return choose(figures[key] for figures in side)

    def ratio(key: str, choose: Callable) -> float:
        return best(here, key, choose) / best(there, key, choose)

    lateral = {pattern: f'driving.{pattern}.lateral_rms' for pattern in PATTERNS}
    looks = [f'pixels.{name}' for name in LOOKS]
    return {'frames_per_second_ratio': {
                size: ratio(f'frames_per_second.{size}', max) for size in SIZES},
            'train_time_ratio': {
                pattern: ratio(f'{pattern}.train_seconds', min) for pattern in PATTERNS
                if f'{pattern}.train_seconds' in here[0]},
            **({'driving_ratio': {pattern: ratio(key, min) for pattern, key in lateral.items()}}
               if lateral['streaming'] in here[0].keys() & there[0].keys() else {}),
            'same_pixels': all(figures[look] == there[0][look]
                               for figures in there + here for look in looks)}


def main() -> None:
    """Measure frames, digests of images, and the parts of a training."""
    arguments = parse(__doc__)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rounds, frames, steps = (8, 40, 3) if arguments.quick else (40, 200, 20)
    speeds = {name: frames_per_second(settings, rounds) for name, settings in SIZES.items()}
    digests = {name: pixels(settings, frames) for name, settings in LOOKS.items()}
    trainings = {pattern: training(pattern, steps) for pattern in PATTERNS}
    lines = [f'{name:<13} {rate:7.0f} frames/s' for name, rate in speeds.items()]
    lines += [f'{name:<13} images {digest}' for name, digest in digests.items()]
    lines += [f'{pattern:<13} a drive {parts["drive"]:.2f} s, a gradient step '
              f'{1e3 * parts["step"]:.0f} ms, a training {parts["train_seconds"]:.0f} s'
              for pattern, parts in trainings.items()]
    driven = {'driving': driving(COURSES)} if COURSES else {}
    lines += [f'{pattern:<13} lateral RMS {found["lateral_rms"]:.4f} m, departures '
              f'{found["departures"]}' for pattern, found in driven.get('driving', {}).items()]
    show(lines, {'frames_per_second': speeds, 'pixels': digests, **trainings, **driven},
         arguments.json)


if __name__ == '__main__':
    run_benchmark(main, conclude)
