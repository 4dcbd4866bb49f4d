"""Command line: drive policies on courses that no training has seen, beside the expert."""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
import json
import math
import multiprocessing
import os
from pathlib import Path
import signal

import numpy as np
from stream_agent.bounded_settings import choice, file_path, quantity
from stream_agent.cli.arguments import (
    add_allowed, add_computer, add_robot, add_settings, check_computer, check_folder,
    check_picture, command, computers_of, robot_settings, settings_of)
from stream_agent.cli.command_parser import CommandParser
from stream_agent.cli.process_group import end_with_parent
from stream_agent.drawing.drives_picture import draw_drives, draw_robustness
from stream_agent.drawing.plot_style import save
from stream_agent.driving.compute_model import HANDOVER
from stream_agent.driving.disturbed_timeline import Disturbance
from stream_agent.driving.drivers import ExpertDriver
from stream_agent.driving.drives import drive, PolicyDriver, Trial
from stream_agent.driving.evaluation import (
    compared, drive_all, in_one_line, smoothness, timed, written)
from stream_agent.driving.observations import ObservationError, Observer
from stream_agent.learning.worker_pool import WorkerPool
from stream_agent.measurement.machine import machine
from stream_agent.measurement.summary import plain
from stream_agent.network.checkpoint import load_driving_policy
from stream_agent.network.transforms import allow_transforms
from stream_agent.share import policy_file, share_folder
from stream_agent.simulation.course import FIRST_HELD_OUT_SEED
from stream_agent.simulation.drive_log import Drive, RoadTask
from stream_agent.simulation.environment import DrivingEnvironment
from stream_agent.simulation.settings import SimulationSettings
import torch

EXPERT = 'expert'
# A course is 15 to 20 m long; emulated drives are side by side, and last equally long.
USUAL_LENGTH = 17.5


def drive_course(driver_name: str, settings: SimulationSettings, seed: int, laps: float,
                 real_time: bool, allowed: Sequence[str]) -> Drive:
    """Let a driver, which is 'expert' or a checkpoint's path, drive one course."""
    torch.set_num_threads(1)
    allow_transforms(allowed)
    driver = ExpertDriver() if driver_name == EXPERT else PolicyDriver(
        load_driving_policy(driver_name))
    environment = DrivingEnvironment(settings, seed, camera=driver.sees)
    return drive(environment, driver, laps, real_time)


def summary(driver_name: str, drives: list[Drive], period: float) -> dict:
    """Return the figures of one driver over all courses; the camera's period is in seconds."""
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
        'frames': len(errors),
        **{name: round(value, 4) for name, value in smoothness(drives, period).items()},
        **task_summary([one for one in drives if isinstance(one, RoadTask)])}


def task_summary(drives: list[RoadTask]) -> dict:
    """Return the score over all drives past signs; nothing if there are none."""
    if not drives:
        return {}
    whole = RoadTask(drives[0].lane_width, right=list(chain(*(one.right for one in drives))),
                     obeyed=list(chain(*(one.obeyed for one in drives))))
    return {'task_score': round(whole.score, 4), 'signs_obeyed': round(whole.signs_obeyed, 4),
            'task_scores': [round(one.score, 4) for one in drives]}


def evaluate(arguments: argparse.Namespace, settings: SimulationSettings, seeds: Sequence[int],
             pool: ProcessPoolExecutor) -> list[dict]:
    """Drive all courses with all drivers, as many at the same time as there are workers."""
    drives = {name: [pool.submit(drive_course, name, settings, seed, arguments.laps,
                                 arguments.real_time, arguments.allow) for seed in seeds]
              for name in (EXPERT, *map(str, arguments.policies))}
    return [summary(name, [future.result() for future in futures], settings.period)
            for name, futures in drives.items()]


def evaluate_emulated(arguments: argparse.Namespace, settings: SimulationSettings,
                      seeds: Sequence[int], pool: ProcessPoolExecutor) -> list[dict]:
    """
    Drive all courses with all policies under the timing of computers that are not there.

    With disturbances, the same drives without them come first, to compare with.
    """
    names = list(map(str, arguments.policies))
    plans = [(computer, timed(names, computer, settings.period))
             for computer in computers_of(arguments)]
    trial = Trial(settings, tuple(seeds),
                  arguments.laps * USUAL_LENGTH / settings.target_speed + HANDOVER,
                  arguments.pushes, HANDOVER)
    rows = []
    for computer, policies in plans:
        for disturbance in dict.fromkeys([Disturbance(), settings_of(arguments, Disturbance)]):
            drives = drive_all(policies, trial, arguments.allow, pool, arguments.workers,
                               disturbance)
            about = {'pass_periods': computer.pass_periods, **asdict(disturbance)}
            rows += [about | summary(one.name, found, settings.period) | figures for one, found,
                     figures in zip(policies, drives, compared(policies, drives))]
    return rows


def table(rows: list[dict]) -> str:
    """Lay the summaries out for people."""
    width = max(20, *(len(row['driver']) for row in rows))
    lines = [f'{"driver":<{width}} {"laps":>6} {"lateral RMS":>12} {"largest":>8} '
             f'{"departures":>11} {"unanswered":>11} {"jerk":>11} {"reversals":>10}']
    lines += [f'{row["driver"]:<{width}} {row["laps"]:>6.1f} {row["lateral_rms"]:>10.4f} m '
              f'{row["largest_lateral_error"]:>6.3f} m {row["departures"]:>11} '
              f'{row["unanswered"] / row["frames"]:>11.2%} {row["jerk"]:>6.1f} m/s3 '
              f'{row["reversals"]:>6.2f} /s' for row in rows]
    lines += [f'{row["driver"]:<{width}} in lane and at the right speed '
              f'{in_percent(row["task_score"])}, signs obeyed {in_percent(row["signs_obeyed"])}; '
              f'by course {" ".join(in_percent(one, 0) for one in row["task_scores"])}'
              for row in rows if 'task_score' in row]
    return '\n'.join([*lines, f'half a lane is {rows[0]["half_lane"]:.2f} m'])


def tables_under(rows: list[dict], condition: Callable[[dict], str]) -> list[str]:
    """Lay out what was driven under each of several emulated conditions, with a title each."""
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(condition(row), []).append(row)
    return [text for title, driven in found.items()
            for text in (*[title] * (len(found) > 1), table(driven), timing_table(driven))]


def condition_of(row: dict) -> str:
    """Return under what a policy drove, in words."""
    passes = row['pass_periods']
    return (f'{passes:g} camera periods a pass, ' if passes is not None else '') + str(
        Disturbance(row['jitter'], row['drop_bursts']))


def in_percent(share: float, digits: int = 1) -> str:
    """Write a share; a dash if there was nothing to judge."""
    return f'{share:.{digits}%}' if math.isfinite(share) else '-'


def timing_table(rows: list[dict]) -> str:
    """Lay out when policies answer, on what, and how they compare with the first of them."""
    width = max(20, *(len(row['driver']) for row in rows))
    lines = [f'{"":<{width}} {"latency":>9} {"newest":>9} {"deep":>9} {"rate":>8}   RMS relative '
             f'to the first    departures a course more']
    for row in rows:
        ratio, more = (written(row[name]) for name in ('rms_ratio', 'more_departures'))
        ages = ' '.join(f'{row[name] * 1e3:>6.1f} ms' for name in ('latency', 'newest', 'deep'))
        lines.append(f'{row["driver"]:<{width}} {ages} {row["rate"]:>5.1f} Hz   '
                     f'{ratio:<27} {more}')
    disturbed = Disturbance(rows[0]['jitter'], rows[0]['drop_bursts'])
    return '\n'.join([*lines, 'newest, deep: mean age of the information in the command in '
                      'force; in brackets: 95 %, paired over courses'
                      + '; latency, ages and rate are those without disturbances' * bool(
                          disturbed)])


@dataclass(frozen=True)
class EvaluateOptions:
    """How policies are evaluated, whatever they run on."""

    courses: int = quantity(10, '', 1, 10_000, 'courses')
    first_course: int = quantity(
        FIRST_HELD_OUT_SEED, '', 0, 2**31 - 10_001, 'seed of the first course; from '
        f'{FIRST_HELD_OUT_SEED} on, training has seen none')
    laps: float = quantity(5.0, '', 0.0, 1e4, 'laps on each course')
    real_time: bool = choice(False, 'pace frames by the wall clock instead of waiting for answers')
    workers: int = quantity(os.cpu_count() or 1, '', 1, 1024, 'drives at the same time; in real '
                            'time each takes a tenth of a core')
    json: bool = choice(False, 'print figures for programs')


@dataclass(frozen=True)
class EmulatedOptions:
    """What is done under an emulated computer alone."""

    pushes: float = quantity(0.0, 'rad/s', 0.0, 3.0, 'largest yaw rate that pushes the robot now '
                             'and then, alike for all policies')
    plot: Path | None = file_path(None, 'draw the figures: .svg or .png')


def parse(args: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser('evaluate', __doc__)
    parser.add_argument('policies', nargs='*', type=Path, help='policy files, or names of shipped '
                        'ones; by default all of those that were trained for the robot')
    add_allowed(parser)
    add_robot(parser)
    add_settings(parser, EvaluateOptions)
    add_computer(
        parser, 'drives in lockstep as if every node took its time; the expert drives the first '
        f'{HANDOVER:g} s, and as long after a departure, which does not count; several '
        '--pass-periods give a curve', EmulatedOptions, Disturbance, several=True)
    arguments = parser.parse_args(numbers_last(args, '--pass-periods'))
    check_computer(parser, arguments, EmulatedOptions, Disturbance)
    if arguments.real_time and computers_of(arguments):
        parser.error('--real-time takes the time of this computer; leave it out to emulate '
                     'another')
    check_picture(parser, '--plot', arguments.plot)
    if (arguments.plot and arguments.pass_periods is None
            and settings_of(arguments, Disturbance)):
        parser.error('--plot: what disturbs is drawn against the cost of a pass; add '
                     '--pass-periods')
    return arguments


def numbers_last(args: Sequence[str], option: str) -> list[str]:
    """Put an option with its numbers last, or it would take policies after them for numbers."""
    others, numbers, following = list[str](), list[str](), False
    for word, after in zip(args, [*args[1:], '']):
        if word == option and is_number(after):
            following = True
        elif following and is_number(word):
            numbers.append(word)
        else:
            following = False
            others.append(word)
    return [*others, option, *numbers] if numbers else others


def is_number(word: str) -> bool:
    """Tell whether a word reads as a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def check_inputs(path: Path, settings: SimulationSettings) -> None:
    """
    Refuse a policy that cannot drive the simulated robot.

    :raises ObservationError: If the robot lacks one of its inputs, or obeys otherwise.
    """
    policy = load_driving_policy(path)
    try:
        Observer(policy.conversions, policy.limits).check(settings)
    except ObservationError as error:
        robot = policy.training.get('robot', '')
        raise ObservationError(f'{path}: {error}' + f' (it was trained for --robot {robot})'
                               * bool(robot)) from None


def shipped_for(robot: str) -> list[Path]:
    """Return the shipped policies that were trained for a robot; empty for the usual one."""
    shipped = sorted((share_folder() / 'config' / 'policies').glob('*.safetensors'))
    found = [path for path in shipped
             if load_driving_policy(path).training.get('robot', '') == robot]
    if not found:
        raise ValueError(f"no shipped policy was trained for the robot '{robot}'; name one")
    return found


def run(arguments: argparse.Namespace) -> None:
    """Drive, draw if that is asked for, and print."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    check_folder(arguments.plot)
    # All of them are looked at before the first drive, which takes a while.
    allow_transforms(arguments.allow)
    arguments.policies = ([policy_file(path) for path in arguments.policies]
                          or shipped_for(arguments.robot or ''))
    computers, settings = computers_of(arguments), robot_settings(arguments.robot)
    for path in arguments.policies:
        check_inputs(path, settings)
    seeds = range(arguments.first_course, arguments.first_course + arguments.courses)
    pool = WorkerPool(arguments.workers, end_with_parent, signal.SIGKILL)
    try:
        rows = (evaluate_emulated if computers else evaluate)(arguments, settings, seeds, pool)
    except KeyboardInterrupt:
        for worker in multiprocessing.active_children():
            worker.kill()
        raise
    finally:
        # It waits for threads, one of which may be just about to start.
        with suppress(RuntimeError):
            pool.shutdown(cancel_futures=True)
    disturbance = settings_of(arguments, Disturbance)
    how = (f'lockstep under an emulated {in_one_line(computers)}'
           + f', with and without {disturbance}' * bool(disturbance) if computers else
           'real time' if arguments.real_time else 'lockstep')
    if arguments.plot:
        several = len(computers) > 1 or disturbance
        save((draw_robustness if several else draw_drives)(rows, how), arguments.plot)
    tables = tables_under(rows, condition_of) if computers else [table(rows)]
    print(json.dumps(plain(rows)) if arguments.json else
          '\n'.join([*tables, f'{how}, {machine()}']))


main = command('evaluate', parse, run)
