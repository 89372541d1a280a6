"""Robust summaries of few, skewed latency samples. Seeded: the same samples give the same interval.

Intervals are those of `topovlm.stats.timing` (numpy alone), which the report is made with: who
judges a budget and who reports it see the same figures.

Drift is defined twice, for two questions. Here, by thirds and with its sign: did the machine change its pace
(warnings, doubts)? In `stats.timing.drift`, by halves and without: how far apart are two runs by noise alone
(the gate's floor)?
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topovlm.stats.timing import interval_of_median

DRIFT_LIMIT = 0.03  # a pace that changed by more is worth a word
_NORMAL_MAD = 1.4826  # scales the median absolute deviation to a standard deviation, for normal noise


@dataclass(frozen=True)
class Summary:
    """Of samples in ms: median with its 95 % bootstrap interval, robust spread, and drift over the run.

    Fewer than six samples have no interval: `low_ms`..`high_ms` is then -inf..inf.
    """

    count: int
    median_ms: float
    low_ms: float
    high_ms: float
    spread_ms: float  # 1.4826 x median absolute deviation
    range_ms: float
    p10_ms: float
    p90_ms: float
    drift: float  # (median of last third - median of first third) / median of all

    @property
    def relative_width(self) -> float:
        """Half the interval over the median; without interval half the range seen, 1.0 for one sample."""
        if self.count < 2:
            return 1.0
        width = self.high_ms - self.low_ms if math.isfinite(self.high_ms) else self.range_ms
        return width / 2 / self.median_ms if self.median_ms > 0 else 0.0


def summarise(samples: ArrayLike, seed: int = 0) -> Summary:
    """Summary of one or more samples, given in the order in which they were taken (drift needs it)."""
    values = np.asarray(samples, float)
    interval = interval_of_median(values, seed=seed)
    median = interval.value
    return Summary(
        count=len(values),
        median_ms=median,
        low_ms=interval.low,
        high_ms=interval.high,
        spread_ms=float(_NORMAL_MAD * np.median(np.abs(values - median))),
        range_ms=float(np.ptp(values)),
        p10_ms=float(np.quantile(values, 0.1)),
        p90_ms=float(np.quantile(values, 0.9)),
        drift=change_by_thirds(values) / median if median > 0 else 0.0,
    )


def change_by_thirds(values: NDArray[np.float64], least: int = 1) -> float:
    """Median of the last third less that of the first; zero where a third is fewer than `least` values."""
    third = len(values) // 3
    return float(np.median(values[-third:]) - np.median(values[:third])) if third >= max(1, least) else 0.0


@dataclass(frozen=True)
class Ratio:
    """Median of B over A, round by round, with its 95 % bootstrap interval: below 1, B is faster.

    Fewer than six rounds have no interval: `low`..`high` is then -inf..inf.
    """

    ratio: float
    low: float
    high: float
    rounds: int


def paired_ratio(before: ArrayLike, after: ArrayLike, seed: int = 0) -> Ratio:
    """Paired over rounds: what slows a whole round (another process, a hot chip) divides out."""
    ratios = np.asarray(after, float) / np.asarray(before, float)
    interval = interval_of_median(ratios, seed=seed)
    return Ratio(interval.value, interval.low, interval.high, len(ratios))
