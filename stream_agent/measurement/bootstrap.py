"""Confidence intervals of paired differences that allow for correlated frames."""

from typing import NamedTuple

import numpy as np
from scipy.stats import t as students_t

SHORTEST_BLOCK = 2.0
# Blocks this many times as long as the memory of the values hide 1/20 of the variance.
BLOCK_PER_MEMORY = 20
FEWEST_BLOCKS = 10
FEWEST_FRAMES = 20
RESAMPLES = 1000
# Long recordings get fewer resamples, so that a report takes seconds at most.
FEWEST_RESAMPLES, MOST_DRAWN = 200, 20_000_000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate and its confidence bounds, which are nan if there are too few frames."""

    estimate: float
    low: float
    high: float


def resample(values: np.ndarray, block: int, random: np.random.Generator) -> np.ndarray:
    """Draw one resample of a circular moving-block bootstrap, of as many whole blocks as fit."""
    starts = random.integers(0, len(values), size=round(len(values) / block))
    drawn = (starts[:, None] + np.arange(block)).ravel()
    return values.take(drawn, axis=0, mode='wrap')


def memory(values: np.ndarray) -> float:
    """
    Return for how many values a series remembers itself: the sum of its autocorrelation.

    The sum ends where the autocorrelation first vanishes, as is usual; the rest is noise.
    """
    size = 2 * len(values)
    spectrum = np.fft.rfft(values - values.mean(), size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, size)[:len(values)]
    if correlation[0] <= 0:
        return 0.0
    vanished = np.flatnonzero(correlation <= 0)
    return float(correlation[1:vanished[0] if len(vanished) else None].sum() / correlation[0])


def block_length(values: np.ndarray, period: float) -> int:
    """Return the frames of a block: 2 s, more for a long memory, but at least ten blocks fit."""
    wanted = max(round(SHORTEST_BLOCK / period), round(BLOCK_PER_MEMORY * memory(values)))
    return max(1, min(wanted, len(values) // FEWEST_BLOCKS))


def figure_of(values: np.ndarray, statistic: str) -> float:
    """Return a statistic of one policy's values, (T, 1), or of two's, (T, 2), the difference."""
    measure = getattr(np, statistic)
    each = [measure(known) if len(known := column[~np.isnan(column)]) else np.nan
            for column in values.T]
    return float(each[0] if len(each) == 1 else each[0] - each[1])


def paired_interval(values: np.ndarray, period: float, statistic: str = 'mean', seed: int = 0,
                    resamples: int = RESAMPLES) -> Interval:
    """
    Estimate a policy's mean or median, or by how much those of two differ, and its 95 % interval.

    The difference is that of the two policies' own figures, so that it can be checked by
    subtracting what is shown of them; frames are drawn for both together, as both saw the same.
    Neighbouring frames are correlated, so blocks of at least 2 s are resampled rather than
    single frames (a moving-block bootstrap); shorter blocks only where fewer than ten would fit.
    The interval is the bootstrap's standard error times Student's t with the blocks as the sample
    size; percentiles of so few blocks would be too narrow.

    :param values: (T,), or (T, 2) for the first minus the second; nan is left out.
    :param period: The time between frames [s].
    :param statistic: 'mean' or 'median'.
    """
    values = values if values.ndim == 2 else values[:, None]
    values = values[~np.isnan(values).all(axis=1)]
    estimate = figure_of(values, statistic)
    both = values[~np.isnan(values).any(axis=1)]
    if len(both) < FEWEST_FRAMES or period <= 0:
        return Interval(estimate, np.nan, np.nan)
    block = block_length(both[:, 0] - both[:, 1:].sum(axis=1), period)
    random = np.random.default_rng(seed)
    error = np.nanstd([figure_of(resample(values, block, random), statistic) for _ in range(
        max(FEWEST_RESAMPLES, min(resamples, MOST_DRAWN // len(values))))])
    blocks = len(values) / block
    reach = float(students_t.ppf(0.5 + CONFIDENCE / 2, blocks - 1)
                  * error * np.sqrt(blocks / (blocks - 1)))
    return Interval(estimate, estimate - reach, estimate + reach)
