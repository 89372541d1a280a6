"""Statistics of timings: medians, ratios, and how far a run drifts.

Timings of one run follow each other and drift together (clocks, other work), so replicates are drawn by a
circular block bootstrap (Politis and Romano 1992) with blocks of n^(1/3) consecutive samples. Two models that
were timed in turns are compared round by round.

A handful of samples has no interval: the whole range of n samples misses the true median with probability
2^(1-n), so below `least_samples` (6 at 95 %) no interval is given, which reads -inf to inf.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topovlm.stats.interval import Interval
from topovlm.stats.paired import percentile_interval

RESAMPLES = 2000


def _samples(values: ArrayLike, name: str) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or not len(x) or not np.all(np.isfinite(x)) or np.any(x < 0):
        raise ValueError(f"{name} must be a non-empty list of finite, non-negative numbers")
    return x


def block_indices(n: int, resamples: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Index matrix [resamples, n] of a circular block bootstrap."""
    length = max(1, round(n ** (1 / 3)))
    blocks = -(-n // length)
    starts = rng.integers(n, size=(resamples, blocks))
    return ((starts[:, :, None] + np.arange(length)) % n).reshape(resamples, -1)[:, :n]


def least_samples(confidence: float = 0.95) -> int:
    """Fewest samples whose whole range holds the true median that surely."""
    return math.ceil(1 - math.log2(1 - confidence))


def median_replicates(
    samples: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Bootstrap replicates [resamples] of the median."""
    x = _samples(samples, "samples")
    draws = x[block_indices(len(x), resamples, np.random.default_rng(seed))]
    return np.asarray(np.median(draws, axis=1), dtype=np.float64)


def median_interval(samples: ArrayLike, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Median of timings with its block-bootstrap percentile interval; unbounded for too few samples."""
    return interval_of_median(_samples(samples, "samples"), confidence, seed)


def interval_of_median(x: NDArray[np.float64], confidence: float = 0.95, seed: int = 0) -> Interval:
    """As `median_interval`, of any finite numbers `x` `[n]` (differences of timings may be negative)."""
    value = float(np.median(x))
    if len(x) < least_samples(confidence):
        return Interval(value, -math.inf, math.inf, confidence)
    draws = np.median(x[block_indices(len(x), RESAMPLES, np.random.default_rng(seed))], axis=1)
    return percentile_interval(value, draws, confidence)


def round_ratios(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """Ratio of two models round by round (equal positions): what slows a whole round divides out."""
    a, b = _samples(numerator, "numerator"), _samples(denominator, "denominator")
    if len(a) != len(b) or not np.all(b > 0):
        raise ValueError("timings in turns need equally many rounds and a denominator above zero")
    return a / b


def ratio_interval(
    numerator: ArrayLike, denominator: ArrayLike, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Median of the ratios, round by round, of two models timed in turns (samples in the order taken)."""
    return median_interval(round_ratios(numerator, denominator), confidence, seed)


def change_interval(after: ArrayLike, before: ArrayLike, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Ratio of the medians of two separate runs; unbounded when either has too few samples."""
    a, b = _samples(after, "after"), _samples(before, "before")
    if min(len(a), len(b)) < least_samples(confidence):
        return Interval(float(np.median(a) / np.median(b)), -math.inf, math.inf, confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = median_replicates(a, seed=seed) / median_replicates(b, seed=seed + 1)
    return percentile_interval(float(np.median(a) / np.median(b)), draws, confidence)


def drift(samples: ArrayLike) -> float:
    """How far the median moved between the two halves of one run, as a share: a floor of what noise does."""
    x = _samples(samples, "samples")
    if len(x) < 4:
        return 0.0
    first, second = np.median(x[: len(x) // 2]), np.median(x[len(x) // 2 :])
    return float(abs(first / second - 1)) if first and second else 0.0
