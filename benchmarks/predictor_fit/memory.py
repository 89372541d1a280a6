"""Constants of the memory form from published peaks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares

from benchmarks.predictor_fit.robust import LEAST_SPREAD, ROBUST_SCALE, digits, upper_error
from benchmarks.predictor_fit.rows import MemoryRow


def fit_memory(rows: Sequence[MemoryRow]) -> dict[str, float]:
    """Constants of the memory form, and the spread of its held-out errors (one model left out at a time)."""

    def solve(some: Sequence[MemoryRow]) -> np.ndarray:
        def residuals(values: np.ndarray) -> np.ndarray:
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
        return found.x

    errors = []
    for model in sorted({row.model for row in rows}):
        values = solve([row for row in rows if row.model != model])
        errors += [abs(math.log(_memory(row, values) / row.peak_bytes)) for row in rows if row.model == model]
    fixed, share, per_token = solve(rows)
    return {
        "fixed_bytes": digits(fixed),
        "share_of_weights": digits(share),
        "bytes_per_image_token": digits(per_token),
        "spread": round(max(LEAST_SPREAD, math.expm1(upper_error(errors))), 3),
        "held_out_median": round(math.expm1(float(np.median(errors))), 4),
        "rows": len(rows),
    }


def _memory(row: MemoryRow, values: np.ndarray) -> float:
    return row.known_bytes + values[0] + values[1] * row.weight_bytes + values[2] * row.image_tokens
