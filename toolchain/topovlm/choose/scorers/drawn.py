"""Chance: the floor that every other scorer has to beat."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """A seeded random order."""
    return np.random.default_rng([settings.seed, 97]).random(len(states)), {"seed": settings.seed}


SCORER = Scorer(name="random", paper="none: a control", why="drawn at random, as a control", score=score)
