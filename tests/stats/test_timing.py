"""Medians and ratios of timings: exactness, coverage, drift."""

from __future__ import annotations

import numpy as np
import pytest

from topovlm.stats.timing import (
    block_indices,
    change_interval,
    drift,
    least_samples,
    median_interval,
    ratio_interval,
    round_ratios,
)


def noisy(rng: np.random.Generator, n: int, correlation: float = 0.5) -> np.ndarray:
    """Autocorrelated lognormal noise with median 1."""
    shocks = rng.normal(size=n)
    for i in range(1, n):
        shocks[i] = correlation * shocks[i - 1] + np.sqrt(1 - correlation**2) * shocks[i]
    return np.exp(0.05 * shocks)


def test_blocks_are_consecutive_and_wrap_around() -> None:
    """Each replicate has n indices, made of runs of n^(1/3) neighbours."""
    index = block_indices(27, 5, np.random.default_rng(0))
    assert index.shape == (5, 27)
    steps = (np.diff(index, axis=1) % 27).reshape(5, -1)
    assert np.all(steps[:, [0, 1, 3, 4, 6, 7]] == 1)


def test_median_of_constant_samples_is_certain() -> None:
    """No spread, no interval."""
    interval = median_interval([2.5] * 9)
    assert (interval.low, interval.value, interval.high) == (2.5, 2.5, 2.5)


def test_few_samples_have_no_interval() -> None:
    """The range of five samples misses the median too often for 95 %; six are the least, seven at 98 %."""
    assert [least_samples(c) for c in (0.5, 0.95, 0.98)] == [2, 6, 7]
    assert median_interval([2.0] * 5).high == np.inf
    assert median_interval([2.0] * 6).high == 2.0
    assert change_interval([2.0] * 40, [2.0] * 5).low == -np.inf


def test_median_interval_covers_under_autocorrelation() -> None:
    """Near-nominal coverage for samples that follow each other, where plain resampling would be too sure."""
    rng = np.random.default_rng(5)
    hits = sum(i.low <= 10 <= i.high for i in (median_interval(10 * noisy(rng, 60)) for _ in range(150)))
    assert hits / 150 >= 0.82


def test_interleaving_cancels_a_common_drift() -> None:
    """When both models slow down together, the paired ratio stays known better than either median."""
    rng = np.random.default_rng(1)
    shared = 1 + 0.5 * np.linspace(0, 1, 50)
    dense, slim = 10 * shared * noisy(rng, 50), 7 * shared * noisy(rng, 50)
    ratio = ratio_interval(slim, dense)
    assert ratio.low <= 0.7 <= ratio.high
    median = median_interval(slim)
    assert (ratio.high - ratio.low) / ratio.value < (median.high - median.low) / median.value


def test_ratios_pair_equal_positions() -> None:
    """Each round is compared with itself; the same samples give the same interval; rounds must match."""
    assert round_ratios([1.0, 4.0], [2.0, 2.0]).tolist() == [0.5, 2.0]
    a, b = [1.0, 1.1, 0.9, 1.2], [2.0, 2.1, 1.9, 2.2]
    assert ratio_interval(a, b, seed=4) == ratio_interval(a, b, seed=4)
    with pytest.raises(ValueError, match="equally many rounds"):
        round_ratios([1.0, 2.0], [1.0])


def test_change_between_separate_runs() -> None:
    """Runs of any length are compared by their medians, with an interval that covers the truth."""
    rng = np.random.default_rng(2)
    change = change_interval(11 * noisy(rng, 60), 10 * noisy(rng, 45))
    assert change.low <= 1.1 <= change.high
    assert change_interval([3.0, 3.0, 3.0], [2.0, 2.0]).value == pytest.approx(1.5)


def test_drift_is_the_shift_between_the_halves() -> None:
    """A run whose second half is 10 % slower shows it; too few samples show nothing."""
    assert drift([1.0] * 10 + [1.1] * 10) == pytest.approx(1 - 1 / 1.1)
    assert drift([1.0, 2.0]) == 0.0


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")], [-1.0]])
def test_impossible_timings_are_refused(bad: list[float]) -> None:
    """Empty, negative or undefined samples are an error, not a figure."""
    with pytest.raises(ValueError, match="finite, non-negative"):
        median_interval(bad)
