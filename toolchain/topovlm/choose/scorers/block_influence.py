"""How little a block turns the residual stream."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.cosines import cosines
from topovlm.choose.scorers.scorer import Scorer, Settings


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """Mean cosine between the residual stream before and after the block (ShortGPT, arXiv 2403.03853).

    The stream before block 0 is not among the states: that block gets the lowest score.
    """
    later = [cosines(states[layer - 1], states[layer]).mean() for layer in range(1, len(states))]
    return np.array([min(later, default=0.0), *later]), {"first_layer": "not measured, set to the lowest"}


SCORER = Scorer(
    name="block-influence",
    paper="arXiv 2403.03853",
    why="it turns the residual stream least",
    score=score,
)
