"""The run of blocks across which the residual stream turns least."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.cosines import cosines
from topovlm.choose.scorers.scorer import Scorer, Settings


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """Angular distance across `drop_count` consecutive blocks (Gromov et al., arXiv 2403.17887).

    A layer scores one less the smallest distance of the windows it lies in, so the top `drop_count` layers
    are the closest window. Windows that touch a protected layer do not count.
    """
    layers, width = len(states), max(1, settings.drop_count)
    distances = {
        start: float(
            np.mean(np.arccos(np.clip(cosines(states[start - 1], states[start + width - 1]), -1, 1))) / np.pi
        )
        for start in range(1, layers - width + 1)
        if not settings.protected & set(range(start, start + width))
    }
    scores = np.zeros(layers)
    for start, distance in distances.items():
        window = slice(start, start + width)
        scores[window] = np.maximum(scores[window], 1.0 - distance)
    extra: Extra = {"window_layers": width}
    if distances:
        extra["window_start"] = min(distances, key=lambda start: (distances[start], start))
    return scores, extra


SCORER = Scorer(
    name="angular",
    paper="arXiv 2403.17887",
    why="it lies in the run of blocks across which the residual stream turns least",
    score=score,
    depends_on_count=True,
)
