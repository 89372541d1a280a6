"""Robust statistics of few, skewed latency samples. Seeded: the same samples give the same interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_NORMAL_MAD = 1.4826  # scales the median absolute deviation to a standard deviation, for normal noise


@dataclass(frozen=True)
class Summary:
    """Of samples in ms: median with its 95 % bootstrap interval, robust spread, and drift over the run."""

    count: int
    median_ms: float
    low_ms: float
    high_ms: float
    spread_ms: float  # 1.4826 x median absolute deviation
    p10_ms: float
    p90_ms: float
    drift: float  # (median of last third - median of first third) / median of all

    @property
    def relative_width(self) -> float:
        """Half the interval over the median."""
        return (self.high_ms - self.low_ms) / 2 / self.median_ms if self.median_ms > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def bootstrap_medians(samples: np.ndarray, resamples: int = 2000, seed: int = 0) -> np.ndarray:
    """Medians of `resamples` draws with replacement; `samples` `[n]`, or `[n, k]` for k paired columns."""
    rows = np.random.default_rng(seed).integers(0, len(samples), (resamples, len(samples)))
    return np.median(samples[rows], axis=1)


def summarise(samples: Sequence[float], seed: int = 0) -> Summary:
    """Summary of one or more samples, given in the order in which they were taken (drift needs it)."""
    values = np.asarray(samples, float)
    medians = bootstrap_medians(values, seed=seed)
    median = float(np.median(values))
    return Summary(
        count=len(values),
        median_ms=median,
        low_ms=float(np.quantile(medians, 0.025)),
        high_ms=float(np.quantile(medians, 0.975)),
        spread_ms=float(_NORMAL_MAD * np.median(np.abs(values - median))),
        p10_ms=float(np.quantile(values, 0.1)),
        p90_ms=float(np.quantile(values, 0.9)),
        drift=_drift(values, median),
    )


def _drift(values: np.ndarray, median: float) -> float:
    third = len(values) // 3
    if third < 1 or median <= 0:
        return 0.0
    return float((np.median(values[-third:]) - np.median(values[:third])) / median)


@dataclass(frozen=True)
class Ratio:
    """Median of B over A, round by round, with its 95 % bootstrap interval: below 1, B is faster."""

    ratio: float
    low: float
    high: float
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def paired_ratio(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Ratio:
    """Paired over rounds: what slows a whole round (another process, a hot chip) divides out."""
    ratios = np.asarray(after, float) / np.asarray(before, float)
    medians = bootstrap_medians(ratios, seed=seed)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high), len(ratios))
