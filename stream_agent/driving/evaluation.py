"""Policies from files, driving under the timing of an emulated computer."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
import math

import numpy as np
from scipy.stats import t as students_t
from stream_agent.driving.compute_model import (
    ComputeModel, EmulatedRollout, EmulatedTiming, timings)
from stream_agent.driving.disturbed_timeline import Disturbance
from stream_agent.driving.drives import drive_together, Trial
from stream_agent.measurement.bootstrap import CONFIDENCE, Interval, RESAMPLES
from stream_agent.network.checkpoint import load_driving_policy
from stream_agent.network.transforms import allow_transforms
from stream_agent.simulation.drive_log import Drive
import torch

# Of (courses,) or (resamples, courses) of ours and of theirs, and how often a course counts.
Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def rms_ratio(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> Interval:
    """
    Return our lateral RMS relative to theirs.

    :param ours: Mean squares, (trainings, courses); a single training may be (courses,).
    :param theirs: The same of the other driver, on the same courses in the same order.
    """
    return Interval(*(float(np.exp(value)) for value in interval(ours, theirs, log_ratio, seed)))


def difference(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> Interval:
    """Return our excess over theirs, such as in departures, on average over courses."""
    return interval(ours, theirs, mean_difference, seed)


def log_ratio(ours: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the logarithm of the ratio of root mean squares."""
    return 0.5 * np.log((weights * ours).sum(axis=-1) / (weights * theirs).sum(axis=-1))


def mean_difference(ours: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of the differences."""
    return (weights * (ours - theirs)).sum(axis=-1) / weights.sum(axis=-1)


def interval(ours: np.ndarray, theirs: np.ndarray, statistic: Statistic, seed: int) -> Interval:
    """
    Estimate a statistic and its 95 % confidence interval.

    Courses are resampled in pairs, and so are trainings, where there are several. The interval is
    Student's t with the courses as the sample size times the standard error of both; percentiles
    of so few courses would be too narrow.

    :returns: With nan for an interval, if there is only one course.
    """
    ours, theirs = np.atleast_2d(ours), np.atleast_2d(theirs)
    our_mean, their_mean = ours.mean(axis=0), theirs.mean(axis=0)
    courses = len(our_mean)
    alike = np.ones(courses)
    estimate = float(statistic(our_mean, their_mean, alike))
    if courses < 2:
        return Interval(estimate, np.nan, np.nan)
    random = np.random.default_rng(seed)
    weights = random.multinomial(courses, alike / courses, RESAMPLES)
    variance = widened(statistic(our_mean, their_mean, weights), courses)
    for values, others, sign in ((ours, their_mean, 1), (theirs, our_mean, -1)):
        count = len(values)
        if count > 1:
            drawn = values[random.integers(count, size=(RESAMPLES, count))].mean(axis=1)
            pair = (drawn, others)[::sign]
            variance += widened(statistic(pair[0], pair[1], alike), count)
    reach = float(students_t.ppf(0.5 + CONFIDENCE / 2, courses - 1) * np.sqrt(variance))
    return Interval(estimate, estimate - reach, estimate + reach)


def widened(resampled: np.ndarray, count: int) -> float:
    """Return the variance of a statistic; resamples of few items vary too little."""
    return float(np.var(resampled)) * count / (count - 1)


def written(values: Sequence[float]) -> str:
    """Write an estimate with its interval; a dash means unknown."""
    estimate, *limits = (f'{value:.2f}' if math.isfinite(value) else '-' for value in values)
    return f'{estimate} ({"-" if "-" in limits else " to ".join(limits)})'


def in_one_line(computers: Sequence[ComputeModel]) -> str:
    """Say of computers that differ in the cost of a pass what they are."""
    if len(computers) == 1:
        return str(computers[0])
    costs = ', '.join(f'{one.pass_periods:g}' for one in computers)
    return f'{replace(computers[0], pass_periods=None)}, {costs} camera periods a pass'


def timed(paths: Sequence[str], compute_model: ComputeModel, camera_period: float
          ) -> list[EmulatedTiming]:
    """
    Return when each policy answers on an emulated computer.

    :raises ValueError: If a policy cannot run like that, or the costs do not fit its graph.
    """
    runs = [EmulatedRollout(path, policy.network.graph, policy.network.pattern,
                            policy.updates_per_frame)
            for path, policy in zip(paths, map(load_driving_policy, paths))]
    return timings(runs, compute_model, camera_period)


def drive_policy(one: EmulatedTiming, trial: Trial, allowed: Sequence[str],
                 disturbance: Disturbance = Disturbance()) -> list[Drive]:
    """Let one policy drive all courses of a trial, each with the first one's disturbances."""
    torch.set_num_threads(1)
    allow_transforms(allowed)
    policy = load_driving_policy(one.name)
    timeline = disturbance.applied(one.timeline, trial.seeds[0])
    return drive_together(policy.network, policy.preprocessing, policy.base_limits, timeline,
                          trial, policy.updates_per_frame, others=policy.others)


def drive_all(policies: Sequence[EmulatedTiming], trial: Trial, allowed: Sequence[str],
              pool: Executor, workers: int, disturbance: Disturbance = Disturbance()
              ) -> list[list[Drive]]:
    """
    Drive every course with every policy.

    As many courses are side by side as there are workers; with disturbances, which every course
    has of its own, each is driven alone.
    """
    count = len(trial.seeds) if disturbance else workers
    parts = [replace(trial, seeds=part) for part in (
        trial.seeds[i::count] for i in range(count)) if part]
    found = [[pool.submit(drive_policy, one, part, allowed, disturbance) for part in parts]
             for one in policies]
    drives = []
    for futures in found:
        by_seed = {seed: drive for part, future in zip(parts, futures)
                   for seed, drive in zip(part.seeds, future.result())}
        drives.append([by_seed[seed] for seed in trial.seeds])
    return drives


# A change of direction counts from so much on [rad/s].
REVERSAL_GAP = 0.2


def smoothness(drives: Sequence[Drive], period: float) -> dict[str, float]:
    """
    Return how smoothly robots drove, over all drives; nan where there is nothing to judge.

    ``jerk`` [m/s3] is the RMS magnitude of the change of acceleration, forward (the speed's
    change) and to the side (speed times yaw rate), and ``yaw_acceleration`` [rad/s2] the RMS
    change of the yaw rate: two of the measures by which nuPlan judges comfort (Caesar et al.,
    2021). ``reversals`` [1/s] is the rate at which the yaw rate turns back by 0.2 rad/s or more:
    the steering reversal rate (Markkula and Engstroem, 2006; SAE J2944) of a robot that has no
    steering wheel. All are of what was driven, not of what was commanded.

    :param period: Between two images [s].
    """
    jerks, accelerations, turns, seconds = [], [], 0, 0.0
    for drive in drives:
        speed, yaw_rate = np.array(drive.motions, float).reshape(-1, 2).T
        sideways = speed * yaw_rate
        jerks.append(np.diff(speed, 2) ** 2 / period ** 4
                     + (sideways[2:] - sideways[:-2]) ** 2 / (2 * period) ** 2)
        accelerations.append(np.diff(yaw_rate) ** 2 / period ** 2)
        turns += reversals(yaw_rate, REVERSAL_GAP)
        seconds += period * float(np.isfinite(yaw_rate).sum())
    jerk, acceleration = (known_mean(np.concatenate(values)) for values in (jerks, accelerations))
    return {'jerk': jerk ** 0.5, 'yaw_acceleration': acceleration ** 0.5,
            'reversals': turns / seconds if seconds else math.nan}


def known_mean(values: np.ndarray) -> float:
    """Return the mean of what is not nan; nan if all is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def reversals(values: np.ndarray, gap: float) -> int:
    """
    Count the turns from rising to falling or back that lead further than a gap.

    :param values: (T,); nothing leads over a nan.
    """
    count, direction, extreme = 0, 0, math.nan
    for value in values:
        if math.isnan(value) or math.isnan(extreme):
            direction, extreme = 0, value
            continue
        change = value - extreme
        if direction * change > 0:
            extreme = value
        elif abs(change) >= gap:
            count += direction != 0
            direction, extreme = (1 if change > 0 else -1), value
    return count


def compared(policies: Sequence[EmulatedTiming], drives: Sequence[Sequence[Drive]]) -> list[dict]:
    """
    Return the figures of every policy, and how it differs from the first.

    :returns: Seconds, and for ``rms_ratio`` and ``more_departures`` (estimate, low, high);
        departures are of one course.
    """
    squares = [np.array([drive.lateral_rms ** 2 for drive in one]) for one in drives]
    departures = [np.array([drive.departures for drive in one], float) for one in drives]
    return [{**one.figures._asdict(),
             'rms_ratio': tuple(map(float, rms_ratio(squares[i], squares[0]))),
             'more_departures': tuple(map(float, difference(departures[i], departures[0])))}
            for i, one in enumerate(policies)]
