"""Intervals of paired differences, honest about frames that resemble their neighbours."""

from typing import NamedTuple

import numpy as np
from scipy.stats import t as students_t

SHORTEST_BLOCK = 2.0
# So many times as long as values resemble each other, a block hides 1/20 of the variance.
BLOCK_PER_MEMORY = 20
FEWEST_BLOCKS = 10
FEWEST_FRAMES = 20
RESAMPLES = 1000
# An hour of frames gets fewer, so that a report never takes longer than its reader waits.
FEWEST_RESAMPLES, MOST_DRAWN = 200, 20_000_000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """
    An estimate and its confidence interval.

    :param low: nan, as ``high``, if there are too few frames for an interval.
    """

    estimate: float
    low: float
    high: float


def weighted_median(order: np.ndarray, values: np.ndarray, weights: np.ndarray) -> float:
    """
    Return the median of values that count ``weights`` times.

    :param order: The argsort of the values.
    """
    sums = np.cumsum(weights[order])
    at = np.searchsorted(sums, [sums[-1] * 0.5, sums[-1] * 0.5 + 0.5])
    return float(values[order[at]].mean())


def block_weights(count: int, block: int, random: np.random.Generator) -> np.ndarray:
    """
    Draw one resample of a circular moving-block bootstrap.

    :returns: (count,), how often every value is in it.
    """
    starts = random.integers(0, count, size=round(count / block))
    edges = np.zeros(2 * count + 1)
    np.add.at(edges, starts, 1)
    np.add.at(edges, starts + block, -1)
    covered = np.cumsum(edges)
    return covered[:count] + covered[count:2 * count]


def memory(values: np.ndarray) -> float:
    """
    Return for how many values one resembles its followers: the sum of the autocorrelation.

    Summed up to where it first vanishes, as is usual; what follows is noise.
    """
    deviations = values - values.mean()
    size = 2 * len(values)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(deviations, size)) ** 2, size)[:len(values)]
    if correlation[0] <= 0:
        return 0.0
    vanished = np.flatnonzero(correlation <= 0)
    return float(correlation[1:vanished[0] if len(vanished) else None].sum() / correlation[0])


def block_length(values: np.ndarray, period: float) -> int:
    """Return how many frames make a block: 2 s, longer for long memories; ten blocks fit."""
    wanted = max(round(SHORTEST_BLOCK / period), round(BLOCK_PER_MEMORY * memory(values)))
    return max(1, min(wanted, len(values) // FEWEST_BLOCKS))


def paired_interval(differences: np.ndarray, period: float, statistic: str = 'mean',
                    seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """
    Estimate a mean or median difference and its 95 % confidence interval.

    Neighbouring frames are alike, so single frames must not be resampled: blocks of at least
    2 s are (a moving-block bootstrap), shorter ones only where fewer than ten would fit. The
    interval is Student's t with the blocks as the sample size times the bootstrap's standard
    error; percentiles of so few blocks would come out too narrow.

    :param differences: (T,), one policy minus the other on the same frame; nan is left out.
    :param period: Seconds between frames.
    :param statistic: 'mean' or 'median'.
    """
    values = differences[~np.isnan(differences)]
    if len(values) == 0:
        return Interval(np.nan, np.nan, np.nan)
    estimate = float(np.mean(values) if statistic == 'mean' else np.median(values))
    if len(values) < FEWEST_FRAMES or period <= 0:
        return Interval(estimate, np.nan, np.nan)
    block = block_length(values, period)
    random = np.random.default_rng(seed)
    order = np.argsort(values)
    resampled = []
    for _ in range(max(FEWEST_RESAMPLES, min(resamples, MOST_DRAWN // len(values)))):
        weights = block_weights(len(values), block, random)
        resampled.append(weights @ values / weights.sum() if statistic == 'mean'
                         else weighted_median(order, values, weights))
    blocks = len(values) / block
    error = np.std(resampled) * np.sqrt(blocks / (blocks - 1))
    reach = float(students_t.ppf(0.5 + CONFIDENCE / 2, blocks - 1) * error)
    return Interval(estimate, estimate - reach, estimate + reach)
