"""What every fit shares: how far outliers count, and the error that a new row should stay within."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Residuals beyond this relative size count linearly, not squared: a mislabelled row must not steer.
ROBUST_SCALE = 0.05
_COVER = 0.95
LEAST_SPREAD = 0.05


def upper_error(errors: Sequence[float]) -> float:
    """Log error that covers `_COVER` of rows not seen: the conformal rank, stretched when rows are few."""
    ordered, rank = sorted(errors), math.ceil((len(errors) + 1) * _COVER)
    return ordered[rank - 1] if rank <= len(ordered) else ordered[-1] * (1 + 1 / len(ordered))


def digits(value: float) -> float:
    """Four significant digits: what is stored."""
    return float(f"{value:.4g}")
