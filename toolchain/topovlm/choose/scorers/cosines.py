"""The angle between two streams, sample by sample."""

from __future__ import annotations

import numpy as np


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine of corresponding rows, float64 [N]; 0 where a row is zero."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    values: np.ndarray = np.divide((left * right).sum(1), norms, out=np.zeros(len(left)), where=norms > 0)
    return values
