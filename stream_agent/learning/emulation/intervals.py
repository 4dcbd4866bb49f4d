"""Intervals of what two drivers differ by, paired over the courses that both drove."""

from collections.abc import Callable, Sequence
import math

import numpy as np
from scipy.stats import t as students_t
from stream_agent.measurement.bootstrap import CONFIDENCE, Interval, RESAMPLES

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
