"""Means with intervals over draws of samples and over what measures, and paired differences of methods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_RESAMPLINGS = 2000
_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with the middle 95 % of what resampling seeds and items gives."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def over_seeds_and_items(values: np.ndarray, seed: int = 0) -> Interval:
    """Of values [seeds, items]: both are drawn again, together, so that what all seeds share stays shared.

    Differences of two methods, taken item by item and seed by seed, make it paired.
    """
    rng = np.random.default_rng([seed, 19])
    seeds, items = values.shape
    means = np.empty(_RESAMPLINGS)
    for number in range(_RESAMPLINGS):
        rows = values[rng.integers(seeds, size=seeds)].mean(0)
        means[number] = rows[rng.integers(items, size=items)].mean()
    tail = 100 * (1 - _LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(values.mean()), float(low), float(high))
