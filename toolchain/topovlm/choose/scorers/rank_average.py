"""Two views that know nothing of each other, averaged by rank: nothing is learned, nothing is tuned."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers import block_influence, zigzag
from topovlm.choose.scorers.scorer import Scorer, Settings


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """Mean of the ranks (1: first to go, ties at their mean) that zigzag and block influence give, as a score
    from 0 to 1.

    These two alone: one looks at neighbourhoods across all layers, the other at one block's step. Of those
    that look at a step as well (angular, magnitude, CKA), each more would only weigh the step more.
    """
    from scipy.stats import rankdata

    own = [zigzag.score(states, settings)[0], block_influence.score(states, settings)[0]]
    ranks = np.mean([rankdata(-values) for values in own], axis=0)
    return 1.0 - (ranks - 1.0) / max(1, len(states) - 1), {"averaged": "zigzag, block-influence"}


SCORER = Scorer(
    name="rank-average",
    paper="none: mean rank of arXiv 2410.11042 and arXiv 2403.03853",
    why="both the loops that live on and the block's small turn speak for it, in the mean of their ranks",
    score=score,
    needs=frozenset({"barcode"}),
    blind=zigzag.blind,
)
