"""Constants of the memory form from published peaks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks.predictor_fit.robust import LEAST_SPREAD, ROBUST_SCALE, conformal, digits
from benchmarks.predictor_fit.rows import MemoryRow
from topovlm.predict.memory import MemoryModel

_START = {"fixed_bytes": 8e8, "share_of_weights": 0.1, "bytes_per_image_token": 2e5}
_MOST = {"fixed_bytes": 5e9, "share_of_weights": 2.0, "bytes_per_image_token": 1e7}
_COVERAGE = 0.9


def fit_memory(rows: Sequence[MemoryRow], version: str | None = None) -> MemoryModel:
    """Constants for the runtime's `version` (default: the newest), from its rows alone.

    Releases differ by more than boards do (0.9 keeps a third of the weights a second time, 0.10 does not).
    The spread is what the rows of one model at a time, left out, stay within.
    """
    newest = max((row.version for row in rows), key=_order)
    some = [row for row in rows if row.version == (newest if version is None else version)]
    errors = []
    for model in sorted({row.model for row in some}):
        values = _solve([row for row in some if row.model != model])
        errors += [
            (abs(math.log(peak_bytes(row, values) / row.peak_bytes)), model)
            for row in some
            if row.model == model
        ]
    values = _solve(some)
    return MemoryModel(
        **{name: digits(float(value)) for name, value in zip(_START, values, strict=True)},
        spread=round(max(LEAST_SPREAD, math.expm1(conformal(errors, _COVERAGE))), 3),
        held_out_median=round(math.expm1(float(np.median([error for error, _ in errors]))), 4),
        rows=len(some),
    )


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _solve(rows: Sequence[MemoryRow]) -> NDArray[np.float64]:
    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([math.log(peak_bytes(row, values) / row.peak_bytes) for row in rows])

    start = np.array(list(_START.values()))
    bounds = ([0.0] * len(start), list(_MOST.values()))
    found = least_squares(
        residuals, start, bounds=bounds, x_scale=start, loss="soft_l1", f_scale=ROBUST_SCALE
    )
    return np.asarray(found.x, float)


def peak_bytes(row: MemoryRow, values: NDArray[np.float64]) -> float:
    """Predicted peak: what is known, and what the runtime adds."""
    fixed, share, per_token = map(float, values)
    added = share * row.weight_bytes + per_token * row.image_tokens
    return row.known_bytes + fixed + added
