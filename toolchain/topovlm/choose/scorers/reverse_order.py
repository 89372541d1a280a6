"""From the back: what a scorer has to beat by looking at the model."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """The depth of the layer: the last ones that are not protected go first."""
    return (np.arange(len(states)) + 1.0) / len(states), {}


SCORER = Scorer(
    name="reverse-order",
    paper="a baseline of arXiv 2403.03853 and arXiv 2403.17887",
    why="it lies at the back, before those that are protected",
    score=score,
)
