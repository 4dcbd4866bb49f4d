"""Policies from files, driving under the timing of an emulated computer."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
import math

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np
from scipy.stats import t as students_t
from stream_agent.drawing.plot_style import BLUE, FAINT, INK, PICTURE_STYLE
from stream_agent.driving.compute_model import (
    ComputeModel, EmulatedRollout, EmulatedTiming, timings)
from stream_agent.driving.drives import Drive, drive_together, Trial
from stream_agent.measurement.bootstrap import CONFIDENCE, Interval, RESAMPLES
from stream_agent.network.checkpoint import load_policy
from stream_agent.network.transforms import allow_transforms
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
    """Return what we have more than they, such as departures, on average over courses."""
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

    Courses are resampled in pairs, and trainings, where there are several, besides. The
    interval is Student's t with the courses as the sample size times the standard error of
    both; percentiles of so few courses would come out too narrow.

    :returns: With nan for an interval, if there is one course only.
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
            variance += widened(statistic(*pair, alike), count)
    reach = float(students_t.ppf(0.5 + CONFIDENCE / 2, courses - 1) * np.sqrt(variance))
    return Interval(estimate, estimate - reach, estimate + reach)


def widened(resampled: np.ndarray, count: int) -> float:
    """Return the variance of a statistic; resamples of few items vary too little."""
    return float(np.var(resampled)) * count / (count - 1)


def written(values: Sequence[float]) -> str:
    """Write an estimate with its interval; a dash stands for what is not known."""
    estimate, *limits = (f'{value:.2f}' if math.isfinite(value) else '-' for value in values)
    return f'{estimate} ({"-" if "-" in limits else " to ".join(limits)})'


def timed(paths: Sequence[str], compute_model: ComputeModel, camera_period: float
          ) -> list[EmulatedTiming]:
    """
    Return when each policy answers on an emulated computer.

    :raises ValueError: If a policy cannot run like that, or the costs do not fit its graph.
    """
    policies = [load_policy(path) for path in paths]
    runs = [EmulatedRollout(path, policy.network.graph, policy.network.pattern,
                            policy.updates_per_frame)
            for path, policy in zip(paths, policies)]
    return timings(runs, compute_model, camera_period)


def drive_policy(one: EmulatedTiming, trial: Trial, allowed: Sequence[str]) -> list[Drive]:
    """Let one policy drive all courses of a trial."""
    torch.set_num_threads(1)
    allow_transforms(allowed)
    policy = load_policy(one.name)
    return drive_together(policy.network, policy.preprocessing, policy.limits, one.timeline,
                          trial, policy.updates_per_frame)


def drive_all(policies: Sequence[EmulatedTiming], trial: Trial, allowed: Sequence[str],
              pool: Executor, workers: int) -> list[list[Drive]]:
    """Drive every course with every policy, as many courses at once as there are workers."""
    parts = [replace(trial, seeds=part) for part in (
        trial.seeds[i::workers] for i in range(workers)) if part]
    found = [[pool.submit(drive_policy, one, part, allowed) for part in parts]
             for one in policies]
    drives = []
    for futures in found:
        by_seed = {seed: drive for part, future in zip(parts, futures)
                   for seed, drive in zip(part.seeds, future.result())}
        drives.append([by_seed[seed] for seed in trial.seeds])
    return drives


def compared(policies: Sequence[EmulatedTiming], drives: Sequence[Sequence[Drive]]) -> list[dict]:
    """
    Return the figures of every policy, and what it differs by from the first.

    :returns: Seconds, and for ``rms_ratio`` and ``more_departures`` (estimate, low, high);
        departures are of one course.
    """
    squares = [np.array([drive.lateral_rms ** 2 for drive in one]) for one in drives]
    departures = [np.array([drive.departures for drive in one], float) for one in drives]
    return [{**one.figures._asdict(),
             'rms_ratio': tuple(map(float, rms_ratio(squares[i], squares[0]))),
             'more_departures': tuple(map(float, difference(departures[i], departures[0])))}
            for i, one in enumerate(policies)]


PANELS: tuple[tuple[str, Callable[[dict], float], str], ...] = (
    ('lateral RMS', lambda row: row['lateral_rms'] * 1e3, 'mm'),
    ('lane departures', lambda row: row['departures'] / row['laps'] if row['laps'] else 0.0,
     'a lap'),
    ('latency', lambda row: row['latency'] * 1e3, 'ms'),
    ('age of the newest', lambda row: row['newest'] * 1e3, 'ms'),
    ('age of the deep', lambda row: row['deep'] * 1e3, 'ms'),
    ('rate', lambda row: row['rate'], 'Hz'))


def draw(rows: Sequence[dict], title: str) -> Figure:
    """
    Draw what was driven, and under which timing.

    :param rows: As ``evaluate`` prints them; the interval of the first panel is that of the
        ratio to the first row.
    """
    with rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(10.2, 1.4 + 0.35 * len(rows)), layout='constrained')
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(PANELS), sharey=True)
        places = range(len(rows))
        for axes, (name, value, unit) in zip(panels, PANELS):
            values = [value(row) for row in rows]
            axes.barh(places, values, height=0.62, color=BLUE)
            for place, number in zip(places, values):
                axes.annotate(f' {number:.3g}', (number, place), va='center', fontsize=8)
            axes.set_title(name, loc='left', fontsize=9)
            axes.set_xlabel(unit)
            axes.set_xlim(0, 1.35 * max(*values, 1e-9))
            axes.grid(axis='y', visible=False)
        first = PANELS[0][1](rows[0])
        for place, row in zip(places, rows):
            _, low, high = row['rms_ratio']
            panels[0].plot([first * low, first * high], [place + 0.22] * 2, color=INK,
                           linewidth=1.2)
        panels[0].axvline(first, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
        panels[0].set_yticks(list(places), [row['driver'] for row in rows])
        panels[0].invert_yaxis()
        figure.suptitle(title, x=0.01, ha='left', fontsize=10)
        figure.set_label(title)
    return figure
