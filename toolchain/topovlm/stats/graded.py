"""Intervals for means of graded scores (0..1, not just right or wrong), at an effective sample size.

A normal-theory interval of the mean would collapse to a point where hardly any score differs. So each of the
four corner pairs of (dense, slim) scores, (0, 0), (0, 1), (1, 0) and (1, 1), is counted half a time in
addition: for right or wrong answers that is the adjusted Wald interval of Agresti and Min 2005, Statistics in
Medicine 24:729-740. The quantile is Student's t with one degree of freedom less than there are clusters, by
the expansion of Fisher and Cornish 1960.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from topovlm.stats.interval import Interval

_EXTRA = 2.0  # questions that the four half pairs add up to
_LEAST_FREEDOM = 3  # below this the expansion of the t quantile is no approximation any more


def t_quantile(confidence: float, freedom: int) -> float:
    """Two-sided quantile of Student's t; `freedom` below 3 counts as 3."""
    z, n = NormalDist().inv_cdf(0.5 + confidence / 2), max(freedom, _LEAST_FREEDOM)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + first / n + second / n**2 + third / n**3 + fourth / n**4


def mean_interval(
    scores: NDArray[np.float64], effective: float, clusters: int, confidence: float
) -> Interval:
    """Of the mean of scores in 0..1; `effective` is the number of independent questions they are worth."""
    return _adjusted(scores, effective, clusters, confidence, (0.0, 1.0))


def difference_interval(
    changes: NDArray[np.float64], effective: float, clusters: int, confidence: float
) -> Interval:
    """Of the mean of slim - dense, each in -1..1."""
    return _adjusted(changes, effective, clusters, confidence, (-1.0, 1.0))


def _adjusted(
    values: NDArray[np.float64], n: float, clusters: int, confidence: float, ends: tuple[float, float]
) -> Interval:
    low, high = ends
    mean = float(values.mean())
    # Sum and sum of squares of the half pairs: scores 0, 0, 1, 1 or differences -1, 0, 0, 1, each halved.
    extra, extra_squares = (1.0, 1.0) if low == 0 else (0.0, 1.0)
    total = n + _EXTRA
    centre = (n * mean + extra) / total
    variance = (n * float((values**2).mean()) + extra_squares) / total - centre**2
    half = t_quantile(confidence, clusters - 1) * math.sqrt(variance / total)
    return Interval(mean, max(low, min(mean, centre - half)), min(high, max(mean, centre + half)), confidence)
