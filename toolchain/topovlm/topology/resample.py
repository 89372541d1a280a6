"""How much a score depends on the samples: scores recomputed on subsets of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from topovlm.errors import InputError, explain
from topovlm.topology.barcode import Barcode
from topovlm.topology.descriptors import mean_persistence
from topovlm.topology.zigzag import zigzag_barcode

Method = Literal["subsample", "bootstrap"]


@dataclass(frozen=True)
class Spread:
    """Scores of every layer over repeats: `values` float64 [repeats, L]."""

    values: NDArray[np.float64]

    @property
    def median(self) -> NDArray[np.float64]:
        return np.median(self.values, axis=0)

    def interval(self, level: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper percentiles per layer that hold `level` of the repeats."""
        if not 0.0 < level < 1.0:
            raise InputError(explain("level", level, "a share between 0 and 1"))
        low, high = np.quantile(self.values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
        return low, high

    def selection_frequency(self, count: int) -> NDArray[np.float64]:
        """Share of the repeats in which a layer is among the `count` highest, ties by index: float64 [L]."""
        order = np.argsort(-self.values, axis=1, kind="stable")[:, :count]
        picked = np.zeros_like(self.values)
        np.put_along_axis(picked, order, 1.0, axis=1)
        share: NDArray[np.float64] = picked.mean(axis=0)
        return share


def resample_scores(
    clouds: np.ndarray,
    k: int = 15,
    *,
    repeats: int = 20,
    fraction: float = 0.8,
    method: Method = "subsample",
    seed: int = 0,
    score: Callable[[Barcode], np.ndarray] = mean_persistence,
    threads: int | None = None,
) -> Spread:
    """Score `repeats` random subsets of the samples of `clouds` [L, N, d], the same subset in every layer.

    "subsample" draws round(fraction N) samples without repetition. "bootstrap" draws as many with repetition;
    copies of a sample are each other's nearest neighbours, so its scores are shifted as well as spread: take
    subsampling to judge stability. Subset i depends on `seed` and i alone.
    """
    array = np.asarray(clouds)
    if array.ndim != 3:
        raise InputError(explain("clouds", array.shape, "one array [layers, samples, width]"))
    if repeats < 1:
        raise InputError(explain("repeats", repeats, "a whole number from 1 up"))
    if not 0.0 < fraction <= 1.0:
        raise InputError(explain("fraction", fraction, "a share of the samples, above 0 and up to 1"))
    if method not in ("subsample", "bootstrap"):
        raise InputError(explain("method", method, "one of subsample, bootstrap"))
    size = round(fraction * array.shape[1])
    values = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        chosen = np.sort(rng.choice(array.shape[1], size, replace=method == "bootstrap"))
        barcode = zigzag_barcode((layer[chosen] for layer in array), k, threads=threads)
        values.append(score(barcode))
    return Spread(np.array(values))
