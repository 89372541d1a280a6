"""Statistics of paired answers: is a difference real, and how large may it be.

Outcomes are scores in 0..1 over the same questions; `groups` name what shares a picture, because questions
about one picture are not independent. Where every score is 0 or 1 (`is_binary`) the methods are those for
shares, else those for means of bounded scores (`graded`). Everything is deterministic: exact, closed form, or
a seeded bootstrap.

Sources: Wilson 1927; Newcombe 1998, Statistics in Medicine 17:2635-2650 (paired difference, method 10);
McNemar 1947 in its exact form; cluster design effect: Kish 1965; percentile bootstrap: Efron 1979.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topovlm.stats.graded import difference_interval, mean_interval
from topovlm.stats.interval import Interval

RESAMPLES = 4000
_GRID = 100  # net differences of graded scores are tested in hundredths
_CHUNK = 500  # bootstrap replicates at a time: bounds memory at _CHUNK x groups


def is_binary(*outcomes: ArrayLike) -> bool:
    """Whether every score is 0 or 1: right or wrong."""
    return all(bool(np.isin(np.asarray(scores, dtype=float), (0.0, 1.0)).all()) for scores in outcomes)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson_interval(correct: float, n: float, confidence: float = 0.95) -> Interval:
    """Score interval of a share; `correct` and `n` may be effective (fractional) counts."""
    if n <= 0:
        return Interval(math.nan, 0.0, 1.0, confidence)
    share, z = correct / n, _z(confidence)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), confidence)


def _group_index(groups: Sequence[Hashable] | None, n: int) -> NDArray[np.intp]:
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} outcomes")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp)


def _count(groups: Sequence[Hashable] | None, values: NDArray[np.float64]) -> int:
    return len(values) if groups is None else len(set(groups))


def design_effect(values: ArrayLike, groups: Sequence[Hashable] | None) -> float:
    """Variance of the mean with clusters over its variance without (>= 1).

    With no variation at all (every value equal) the data cannot tell: then the mean cluster size, its value
    under full dependence, is returned.
    """
    x = np.asarray(values, dtype=float)
    index = _group_index(groups, len(x))
    count = int(index.max()) + 1 if len(x) else 0
    if count == len(x) or count < 2:
        return 1.0 if count == len(x) else float(len(x))
    residual = x - x.mean()
    plain = float(residual @ residual) / (len(x) * (len(x) - 1))
    if plain == 0.0:
        return len(x) / count
    sums = np.bincount(index, weights=residual, minlength=count)
    return max(1.0, count / (count - 1) * float(sums @ sums) / len(x) ** 2 / plain)


def share_interval(
    outcomes: ArrayLike, groups: Sequence[Hashable] | None = None, confidence: float = 0.95
) -> Interval:
    """Of the mean score, at the effective sample size of the clusters: Wilson's where right or wrong."""
    x = np.asarray(outcomes, dtype=float)
    if not is_binary(x):
        return mean_interval(x, len(x) / design_effect(x, groups), _count(groups, x), confidence)
    n = len(x) / design_effect(x, groups) if len(x) else 0.0
    return wilson_interval(float(x.mean()) * n if len(x) else 0.0, n, confidence)


def paired_difference(
    dense: ArrayLike,
    slim: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """slim - dense mean score on the same questions, at the clusters' effective sample size.

    Newcombe's method 10 for right or wrong, else graded. Unlike a bootstrap neither collapses to a point when
    few or no pairs differ.
    """
    a, b = np.asarray(dense, dtype=float), np.asarray(slim, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"paired outcomes must be equally long and not empty, not {a.shape} and {b.shape}")
    n = len(a) / design_effect(b - a, groups)
    if not is_binary(a, b):
        return difference_interval(b - a, n, _count(groups, a), confidence)
    both, only_dense = float((a * b).mean()) * n, float((a * (1 - b)).mean()) * n
    only_slim = float(((1 - a) * b).mean()) * n
    neither = n - both - only_dense - only_slim
    return _newcombe(both, only_dense, only_slim, max(neither, 0.0), confidence)


def _newcombe(
    both: float, only_dense: float, only_slim: float, neither: float, confidence: float
) -> Interval:
    n = both + only_dense + only_slim + neither
    first = wilson_interval(both + only_dense, n, confidence)
    second = wilson_interval(both + only_slim, n, confidence)
    cross = both * neither - only_dense * only_slim
    if cross > 0:
        cross = max(cross - n / 2, 0.0)
    margins = (both + only_dense) * (only_slim + neither) * (both + only_slim) * (only_dense + neither)
    phi = cross / math.sqrt(margins) if margins > 0 else 0.0
    down, up = second.value - second.low, first.high - first.value
    low = math.sqrt(max(0.0, down * down - 2 * phi * down * up + up * up))
    up, down = second.high - second.value, first.value - first.low
    high = math.sqrt(max(0.0, up * up - 2 * phi * up * down + down * down))
    value = second.value - first.value
    return Interval(value, max(-1.0, value - low), min(1.0, value + high), confidence)


def sign_flip_test(differences: ArrayLike, groups: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """Exact test of "the models are interchangeable on every group": (two-sided p, p for "slim is worse").

    Each group's net difference (slim score minus dense score) keeps its size and takes either sign with
    probability 1/2. With one right-or-wrong question per group this is exactly McNemar's exact test; graded
    differences are rounded to hundredths first, which leaves the test exact.
    """
    d = np.asarray(differences, dtype=float)
    index = _group_index(groups, len(d))
    grid = 1 if np.array_equal(d, np.rint(d)) else _GRID
    nets = np.rint(grid * np.bincount(index, weights=d)).astype(int) if len(d) else np.zeros(0, int)
    sizes = np.abs(nets[nets != 0])
    ways = np.ones(1)  # ways[reach + s] = probability that the signed sum is s, of those taken so far
    for size in sizes:
        moved = np.zeros(len(ways) + 2 * size)
        moved[2 * size :] += ways / 2
        moved[: len(ways)] += ways / 2
        ways = moved
    total, reach = int(nets.sum()), int(sizes.sum())
    sums = np.arange(-reach, reach + 1)
    two_sided = float(ways[np.abs(sums) >= abs(total)].sum())
    worse = float(ways[sums <= total].sum())
    return min(1.0, two_sided), min(1.0, worse)


def paired_bootstrap(
    dense: ArrayLike,
    slim: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Bootstrap replicates [resamples, 2] of (dense share, slim share); whole groups are drawn."""
    a, b = np.asarray(dense, dtype=float), np.asarray(slim, dtype=float)
    index = _group_index(groups, len(a))
    sizes = np.bincount(index).astype(float)
    sums = np.stack([sizes, np.bincount(index, weights=a), np.bincount(index, weights=b)], axis=1)
    # Groups with equal sums are interchangeable: draw how often each kind occurs instead of each group.
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, resamples, _CHUNK):
        drawn = rng.multinomial(len(sizes), counts / counts.sum(), size=min(_CHUNK, resamples - start))
        totals = drawn @ kinds
        parts.append(totals[:, 1:] / totals[:, :1])
    return np.concatenate(parts)


def percentile_interval(value: float, replicates: ArrayLike, confidence: float = 0.95) -> Interval:
    """Percentile bootstrap interval around a point estimate; replicates that are not finite are left out."""
    draws = np.asarray(replicates, dtype=float)
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Interval(value, value, value, confidence)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), confidence)


def retention(
    dense: ArrayLike,
    slim: ArrayLike,
    chance: float = 0.0,
    groups: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """(slim - chance) / (dense - chance), raw with chance 0; None where the dense model is not above chance
    by more than its interval: a share of next to nothing is any number.

    The interval is the wider, at each end, of the paired percentile bootstrap (which collapses when hardly
    any pair differs) and of the paired difference divided by dense - chance.
    """
    a, b = np.asarray(dense, dtype=float), np.asarray(slim, dtype=float)
    above = float(a.mean()) - chance
    if above <= 0 or (chance > 0 and share_interval(a, groups, confidence).low <= chance):
        return None
    draws = paired_bootstrap(a, b, groups, seed=seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(draws[:, 0] > chance, (draws[:, 1] - chance) / (draws[:, 0] - chance), np.nan)
    value = (float(b.mean()) - chance) / above
    boot = percentile_interval(value, ratios, confidence)
    gap = paired_difference(a, b, groups, confidence)
    low, high = min(boot.low, 1 + gap.low / above), max(boot.high, 1 + gap.high / above)
    return Interval(value, low, high, confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-Bonferroni adjusted p-values: many tests, one chance of a false alarm."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted
