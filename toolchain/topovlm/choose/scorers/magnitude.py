"""How little a block adds to the residual stream, in length."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """One less the relative magnitude |f(x)| / |x + f(x)| of a block f, mean over samples (Samragh et al.,
    arXiv 2312.09299; a rival of ShortGPT's). Of the stream, not of the weights: a norm before and a gain
    behind a matrix make its own size arbitrary.

    The stream before block 0 is not among the states: that block gets the lowest score.
    """
    later = [1.0 - _relative(states[layer - 1], states[layer]) for layer in range(1, len(states))]
    return np.array([min(later, default=0.0), *later]), {"first_layer": "not measured, set to the lowest"}


def _relative(before: np.ndarray, after: np.ndarray) -> float:
    added = np.linalg.norm(after.astype(np.float64) - before, axis=1)
    length = np.linalg.norm(after.astype(np.float64), axis=1)
    return float(np.divide(added, length, out=np.zeros(len(added)), where=length > 0).mean())


SCORER = Scorer(
    name="magnitude",
    paper="arXiv 2312.09299",
    why="what it adds to the residual stream is the shortest beside the stream",
    score=score,
)
