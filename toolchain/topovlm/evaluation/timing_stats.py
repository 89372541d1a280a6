"""Statistics of timings: medians, ratios of medians, and whether something became slower.

Timings of one run follow each other and drift together (clocks, other work), so replicates are drawn by a
circular block bootstrap (Politis and Romano 1992) with blocks of n^(1/3) consecutive samples, and two models
that were timed in turns are resampled with the same blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topovlm.evaluation.stats import Interval, percentile_interval

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


def median_replicates(columns: Sequence[ArrayLike], *, resamples: int = RESAMPLES, seed: int = 0) -> NDArray:
    """Replicates [resamples, columns] of the medians; equally long columns are resampled round by round."""
    data = [_samples(column, "samples") for column in columns]
    rng = np.random.default_rng(seed)
    same = len({len(column) for column in data}) == 1
    shared = block_indices(len(data[0]), resamples, rng) if same else None
    medians = []
    for column in data:
        index = shared if shared is not None else block_indices(len(column), resamples, rng)
        medians.append(np.median(column[index], axis=1))
    return np.stack(medians, axis=1)


def median_interval(samples: ArrayLike, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Median with its block-bootstrap percentile interval."""
    x = _samples(samples, "samples")
    return percentile_interval(float(np.median(x)), median_replicates([x], seed=seed)[:, 0], confidence)


def ratio_interval(
    numerator: ArrayLike, denominator: ArrayLike, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Ratio of medians of two models timed in turns (samples in the order taken)."""
    a, b = _samples(numerator, "numerator"), _samples(denominator, "denominator")
    if np.median(b) == 0:
        raise ValueError("the denominator's median is zero")
    draws = median_replicates([a, b], seed=seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = draws[:, 0] / draws[:, 1]
    return percentile_interval(float(np.median(a) / np.median(b)), ratios, confidence)


def drift(samples: ArrayLike) -> float:
    """How far the median moved between the two halves of one run, as a share: a floor of what noise does."""
    x = _samples(samples, "samples")
    if len(x) < 4:
        return 0.0
    first, second = np.median(x[: len(x) // 2]), np.median(x[len(x) // 2 :])
    return float(abs(first / second - 1)) if first and second else 0.0
