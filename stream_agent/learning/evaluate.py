"""Command line: drive policies, and the expert, on courses that no training has seen."""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
import json
import multiprocessing
import os
from pathlib import Path
import signal
import sys

import numpy as np
from stream_agent.installation import share_folder
from stream_agent.learning.driving import (
    Drive, drive, ExpertDriver, Lockstep, PolicyDriver, RealTime)
from stream_agent.measurement.machine import machine
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.custom import allow_transforms
from stream_agent.options import add_allowed
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import Settings
import torch

EXPERT = 'expert'


def drive_course(driver_name: str, seed: int, laps: float, real_time: bool,
                 allowed: Sequence[str]) -> Drive:
    """
    Let one driver drive one course.

    :param driver_name: A checkpoint's path, or 'expert'.
    :param allowed: Transforms from outside that the policy may import.
    """
    torch.set_num_threads(1)
    allow_transforms(allowed)
    settings = Settings()
    driver = (ExpertDriver() if driver_name == EXPERT
              else PolicyDriver(load_policy(driver_name)))
    environment = DrivingEnvironment(settings, seed)
    pacing = RealTime(1 / settings.rate) if real_time else Lockstep()
    return drive(environment, driver, laps, pacing)


def summary(driver_name: str, drives: list[Drive]) -> dict:
    """Return the figures of one driver over all courses."""
    errors = np.concatenate([result.lateral_errors for result in drives])
    return {
        'driver': Path(driver_name).stem,
        'courses': len(drives),
        'laps': round(sum(result.laps for result in drives), 2),
        'lateral_rms': round(float(np.sqrt(np.mean(errors ** 2))), 4),
        'largest_lateral_error': round(max(r.largest_lateral_error for r in drives), 4),
        'half_lane': drives[0].lane_width / 2,
        'departures': sum(result.departures for result in drives),
        'unanswered': sum(result.unanswered for result in drives),
        'frames': len(errors)}


def evaluate(arguments: argparse.Namespace) -> list[dict]:
    """Drive all courses with all drivers, as many at once as there are workers."""
    drivers = [EXPERT, *map(str, arguments.policies)]
    seeds = range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + arguments.courses)
    with ProcessPoolExecutor(arguments.workers, multiprocessing.get_context('spawn')) as pool:
        drives = {name: [pool.submit(drive_course, name, seed, arguments.laps,
                                     arguments.real_time, arguments.allow) for seed in seeds]
                  for name in drivers}
        return [summary(name, [future.result() for future in futures])
                for name, futures in drives.items()]


def table(rows: list[dict]) -> str:
    """Lay the summaries out for people."""
    lines = [f'{"driver":<20} {"laps":>6} {"lateral RMS":>12} {"largest":>8} {"departures":>11} '
             f'{"unanswered":>11}']
    lines += [f'{row["driver"]:<20} {row["laps"]:>6.1f} {row["lateral_rms"]:>10.4f} m '
              f'{row["largest_lateral_error"]:>6.3f} m {row["departures"]:>11} '
              f'{row["unanswered"] / row["frames"]:>11.2%}' for row in rows]
    return '\n'.join([*lines, f'half a lane is {rows[0]["half_lane"]:.2f} m'])


def parse(args: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    shipped = sorted((share_folder() / 'config' / 'policies').glob('*.safetensors'))
    parser = argparse.ArgumentParser(prog='evaluate', description=__doc__)
    parser.add_argument('policies', nargs='*', type=Path, default=shipped,
                        help='checkpoints; the shipped ones by default')
    add_allowed(parser)
    parser.add_argument('--courses', type=int, default=10, help='held-out courses')
    parser.add_argument('--laps', type=float, default=5, help='laps on each course')
    parser.add_argument('--real-time', action='store_true',
                        help='pace frames by the wall clock instead of waiting for answers')
    parser.add_argument('--workers', type=int, default=os.cpu_count(),
                        help='drives at once; in real time each takes a tenth of a core')
    parser.add_argument('--json', action='store_true', help='print figures for programs')
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> int:
    """Drive and print a table."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = parse(args)
    try:
        rows = evaluate(arguments)
    except (OSError, ValueError) as error:
        print(f'evaluate: {error}', file=sys.stderr)
        return 1
    pacing = 'real time' if arguments.real_time else 'lockstep'
    print(json.dumps(rows) if arguments.json else
          f'{table(rows)}\n{pacing}, {machine()}')
    return 0
