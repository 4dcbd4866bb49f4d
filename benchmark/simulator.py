"""How many frames a second the embedded simulator makes on one core, with everything on."""

import time

import cv2
from harness import parse, percentiles, run_benchmark, show
import numpy as np
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings

FRAMES = 100
# What a frame has, and whether there is a camera.
FRAMES_OF = (('160x120 grey', SimulationSettings(), True),
             ('160x120 RGB', SimulationSettings(coloured=True), True),
             ('640x480 grey', SimulationSettings(width_px=640, height_px=480), True),
             ('60 rays', SimulationSettings(scan_rays=60), False),
             ('360 rays', SimulationSettings(scan_rays=360), False))


def measure(settings: SimulationSettings, camera: bool, rounds: int
            ) -> tuple[np.ndarray, np.ndarray]:
    """
    Let the expert drive.

    :returns: Seconds a frame, one value a round of 100 frames; seconds a reset to a new course.
    """
    environment = DrivingEnvironment(settings, seed=0, camera=camera)
    frame, durations, resets = environment.reset(), [], []
    for i in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(FRAMES):
            frame = environment.step(frame.reference)
        durations.append((time.perf_counter() - start) / FRAMES)
        if i % 5 == 4:
            start = time.perf_counter()
            frame = environment.reset(seed=i)
            resets.append(time.perf_counter() - start)
    return np.array(durations[1:]), np.array(resets)


def main() -> None:
    """Measure each size; the figures for programs are those of the default one."""
    arguments = parse(__doc__)
    cv2.setNumThreads(1)
    lines, figures = [], {}
    for name, settings, camera in FRAMES_OF:
        durations, resets = measure(settings, camera, 20 if arguments.quick else 100)
        rate = 1.0 / float(np.median(durations))
        lines.append(f'{name:<13} {rate:7.0f} frames/s   a frame: {percentiles(durations)}   '
                     f'a new course: p50 {np.median(resets) * 1e3:.0f} ms')
        if not figures:
            figures = {'frames_per_second': rate, 'width_px': settings.width_px,
                       'height_px': settings.height_px,
                       'reset_p50': float(np.median(resets))}
    show([*lines, 'noise, light, motion blur and clutter on; one thread'], figures, arguments.json)


if __name__ == '__main__':
    run_benchmark(main)
