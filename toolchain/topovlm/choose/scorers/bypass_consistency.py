"""Who is whose neighbour at the end, with and without the layer."""

from __future__ import annotations

import numpy as np

from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings
from topovlm.topology.complexes import nearest_neighbours

_MOST_NEIGHBOURS = 10


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """Share of a sample's nearest neighbours in the dense model's last cloud that are still among them where
    the layer is left out (mutual k-NN alignment of arXiv 2405.07987, between a model and itself).

    Unlike all that is read off the dense model alone, it sees what later layers make of the gap: a layer
    whose removal scatters the neighbourhoods is fragile, however little it turns the stream itself.
    """
    *without, dense = settings.needed_bypassed()
    k = min(_MOST_NEIGHBOURS, len(dense) - 1)
    if k < 1:
        return np.zeros(len(states)), {"samples": len(dense)}
    known = nearest_neighbours(dense, k)
    shares = [agreement(known, nearest_neighbours(cloud, k)) for cloud in without]
    return np.array(shares), {"samples": len(dense), "neighbours": k}


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Mean over points of the share of common neighbours, of two arrays [points, k] of indices."""
    return float((one[:, :, None] == other[:, None, :]).any(axis=2).mean())


SCORER = Scorer(
    name="bypass-consistency",
    paper="arXiv 2405.07987, between a model and itself without one layer",
    why="without it the samples keep their nearest neighbours at the end of the model",
    score=score,
    needs=frozenset({"bypassed"}),
    on_request=True,
)
