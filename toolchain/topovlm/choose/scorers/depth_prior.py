"""A place that is good in general: what a scorer has to beat by looking at the model."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings

CENTRE = 0.7


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """Nearness to 0.7 of the depth, without looking at the model (docs/method.md, Descriptors)."""
    depth = (np.arange(len(states)) + 0.5) / len(states)
    return 1.0 - np.abs(depth - CENTRE), {"centre": CENTRE}


SCORER = Scorer(
    name="depth-prior",
    paper="the raw results of arXiv 2410.11042",
    why="it lies nearest to 70 % of the depth, where layers are missed least in general",
    score=score,
)
