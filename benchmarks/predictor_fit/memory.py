"""Constants of the memory form from published peaks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks.predictor_fit.robust import LEAST_SPREAD, ROBUST_SCALE, digits, upper_error
from benchmarks.predictor_fit.rows import MemoryRow
from topovlm.predict.memory import MemoryModel


def fit_memory(rows: Sequence[MemoryRow]) -> MemoryModel:
    """Constants of the memory form, and the spread of its held-out errors (one model left out at a time)."""

    def solve(some: Sequence[MemoryRow]) -> NDArray[np.float64]:
        def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.array([math.log(_memory(row, values) / row.peak_bytes) for row in some])

        bounds = ([0, 0, 0], [5e9, 2, 1e7])
        found = least_squares(
            residuals,
            [5e8, 0.2, 2e5],
            bounds=bounds,
            x_scale=[1e8, 0.1, 1e5],
            loss="soft_l1",
            f_scale=ROBUST_SCALE,
        )
        return np.asarray(found.x, float)

    errors = []
    for model in sorted({row.model for row in rows}):
        values = solve([row for row in rows if row.model != model])
        errors += [abs(math.log(_memory(row, values) / row.peak_bytes)) for row in rows if row.model == model]
    fixed, share, per_token = solve(rows)
    return MemoryModel(
        fixed_bytes=digits(fixed),
        share_of_weights=digits(share),
        bytes_per_image_token=digits(per_token),
        spread=round(max(LEAST_SPREAD, math.expm1(upper_error(errors))), 3),
        held_out_median=round(math.expm1(float(np.median(errors))), 4),
        rows=len(rows),
    )


def _memory(row: MemoryRow, values: NDArray[np.float64]) -> float:
    fixed, share, per_token = map(float, values)
    return row.known_bytes + fixed + share * row.weight_bytes + per_token * row.image_tokens
