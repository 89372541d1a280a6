"""How alike the clouds before and behind a layer are, whatever turns or scales them as a whole."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """Linear centred kernel alignment of neighbouring layers' clouds (Kornblith et al., arXiv 1905.00414).

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the points' inner products, centred. A few coordinates of
    large variance, which residual streams have, decide it. The cloud before block 0 is not known: that block
    gets the lowest score.
    """
    points = settings.needed_points()
    before, later = _gram(points[0]), []
    for cloud in points[1:]:
        after = _gram(cloud)
        norm = float(np.linalg.norm(before) * np.linalg.norm(after))
        later.append(float((before * after).sum()) / norm if norm > 0 else 0.0)
        before = after
    return np.array([min(later, default=0.0), *later]), {"first_layer": "not measured, set to the lowest"}


def _gram(cloud: np.ndarray) -> np.ndarray:
    """float64 [points, points]: inner products of the centred points."""
    centred = cloud - cloud.mean(axis=0, dtype=np.float64)
    product: np.ndarray = centred @ centred.T
    return product


SCORER = Scorer(
    name="cka",
    paper="arXiv 1905.00414",
    why="the cloud behind it is the cloud before it, but for a turn and a scale",
    score=score,
    needs=frozenset({"points"}),
)
