"""How much the answers depend on what a block adds: their Fisher information about its gate."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """Minus half the Fisher information, per layer: the quadratic Taylor expansion of KL(dense || slim) in a
    gate on what the block adds, from open to shut (Theis et al., arXiv 1801.05787; gates as in arXiv
    1905.10650).

    It sees the answer where topology sees the samples, and is local: shutting a gate is a large step.
    """
    information = settings.needed_sensitivity()
    return -information / 2.0, {"unit": "nats per answer token, negative"}


SCORER = Scorer(
    name="fisher",
    paper="arXiv 1801.05787",
    why="the answers depend least on what it adds to the stream",
    score=score,
    needs=frozenset({"sensitivity"}),
    on_request=True,
)
