import numpy as np
import pytest
from stream_agent.measurement.bootstrap import memory, paired_interval, resample

PERIOD = 1 / 30


def wandering(random, count, seconds):
    """Noise that forgets itself in that time."""
    keep = np.exp(-PERIOD / seconds)
    values = np.empty(count)
    value = random.normal()
    for i, step in enumerate(random.normal(size=count) * np.sqrt(1 - keep ** 2)):
        value = values[i] = keep * value + step
    return values


@pytest.mark.thorough
@pytest.mark.parametrize('statistic', ['mean', 'median'])
def test_two_copies_of_one_policy_show_no_difference_in_95_percent_of_runs(statistic):
    """A/A: errors that resemble their neighbours for 0.3 s, as on a winding road."""
    random = np.random.default_rng(5)
    runs, none = 200, 0
    for seed in range(runs):
        one, other = (np.abs(wandering(random, 600, 0.3)) for _ in range(2))
        interval = paired_interval(np.stack([one, other], axis=1), PERIOD, statistic, seed,
                                   resamples=200)
        none += interval.low <= 0 <= interval.high
    # 95 % of 200 runs, give or take what 200 runs scatter.
    assert 0.91 <= none / runs <= 0.99


def test_single_frames_would_claim_differences_that_do_not_exist():
    """What the blocks are for: the interval of independent frames is far too narrow."""
    values = wandering(np.random.default_rng(0), 1350, 0.5)
    interval = paired_interval(values, PERIOD)
    naive = 1.96 * values.std() / np.sqrt(len(values))
    assert interval.high - interval.estimate > 3 * naive


def test_a_true_difference_is_found():
    values = 0.5 + wandering(np.random.default_rng(1), 1350, 0.2)
    interval = paired_interval(values, PERIOD)
    assert 0 < interval.low < 0.5 < interval.high


def test_independent_values_have_the_interval_of_the_textbook():
    values = np.random.default_rng(2).normal(size=9000)
    interval = paired_interval(values, PERIOD)
    assert interval.high - interval.estimate == pytest.approx(1.96 / np.sqrt(9000), rel=0.15)


def test_identical_policies_differ_by_exactly_nothing():
    assert paired_interval(np.zeros(300), PERIOD) == (0, 0, 0)
    assert paired_interval(np.zeros(300), PERIOD, 'median') == (0, 0, 0)


def test_frames_without_both_answers_are_left_out():
    values = np.tile([1.0, np.nan], 100)
    assert paired_interval(values, PERIOD) == (1, 1, 1)


@pytest.mark.parametrize('statistic, measure', [('mean', np.mean), ('median', np.median)])
def test_a_difference_is_that_of_the_two_figures(statistic, measure):
    """The median of the differences would be another number, and has another sign here."""
    one, other = np.array([0.0, 0.0, 3.0] * 100), np.array([1.0, 1.0, -5.0] * 100)
    one[::6], other[3::9] = np.nan, np.nan
    interval = paired_interval(np.stack([one, other], axis=1), PERIOD, statistic)
    assert interval.estimate == measure(one[~np.isnan(one)]) - measure(other[~np.isnan(other)])
    assert interval.low <= interval.estimate <= interval.high


def test_what_moves_both_alike_is_no_uncertainty():
    """Frames are drawn for both policies together."""
    shared = wandering(np.random.default_rng(6), 1350, 0.3)
    interval = paired_interval(np.stack([shared + 0.1, shared], axis=1), PERIOD)
    assert interval == pytest.approx((0.1, 0.1, 0.1))


def test_few_frames_have_an_estimate_and_no_interval():
    interval = paired_interval(np.arange(19.0), PERIOD)
    assert interval.estimate == 9 and np.isnan(interval.low) and np.isnan(interval.high)
    assert np.isnan(paired_interval(np.full(50, np.nan), PERIOD)).all()


def test_every_value_is_drawn_equally_often():
    """Circular blocks: the ends are no worse represented than the middle."""
    random = np.random.default_rng(3)
    drawn = [resample(np.arange(100), 10, random) for _ in range(4000)]
    counts = np.bincount(np.concatenate(drawn))
    assert all(len(one) == 100 for one in drawn)
    assert counts == pytest.approx(np.full(100, 4000), rel=0.07)
    # Whole blocks, each of which continues from its first frame, around the end if necessary.
    assert (np.diff(np.reshape(drawn, (-1, 10)), axis=1) % 100 == 1).all()


def test_memory_is_that_of_the_process():
    values = wandering(np.random.default_rng(4), 100_000, 0.5)
    assert memory(values) == pytest.approx(0.5 / PERIOD, rel=0.2)
    assert memory(np.ones(50)) == 0
