"""One layer after the other, each time the one that the answers miss least beside those that are gone."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """The share of the layers that go with it or after it (`eliminations`): 1 for the first to go.

    `eliminated` layers have gone one by one, at a KL each that `measured_nats` tells; the others follow as
    the last round ranked them.
    """
    places, kls = settings.needed_elimination()
    went = [layer for layer in np.argsort(places).tolist() if np.isfinite(kls[layer])]
    told = "; ".join(f"{layer}: {kls[layer]:.3g}" for layer in went)
    return 1.0 - places / len(places), {"eliminated": len(went), "measured_nats": told}


SCORER = Scorer(
    name="greedy",
    paper="arXiv 2402.09025, by KL to the dense answers",
    why="the answers changed least without it, those that had gone before it being gone",
    score=score,
    needs=frozenset({"elimination"}),
    on_request=True,
)
