"""What every fit shares: how far outliers count, and the error that a new row should stay within."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

# Residuals beyond this relative size count linearly, not squared: a mislabelled row must not steer.
ROBUST_SCALE = 0.05
LEAST_SPREAD = 0.05
_EQUAL = 1e-9


def conformal(scores: Sequence[tuple[float, str]], coverage: float, *, one_more: bool = True) -> float:
    """What `coverage` of the scores of a new group stay within; `scores`: (score, group).

    Rows of one board are missed together, so groups count alike however many rows they have (Lee, Barber and
    Willett, 2023, arXiv:2306.06342). `one_more`: the new group counts too, as the conformal rank has it; of
    fewer than nine groups none is then high enough for nine in ten, and the highest score is stretched.
    """
    sizes = Counter(group for _, group in scores)
    share = 0.0
    for score, group in sorted(scores):
        share += 1 / sizes[group] / (len(sizes) + one_more)
        if share >= coverage - _EQUAL:
            return score
    return max(score for score, _ in scores) * (1 + 1 / len(sizes))


def digits(value: float) -> float:
    """Four significant digits: what is stored."""
    return float(f"{value:.4g}")
