"""Topology: loops of the neighbour graph that live on from layer to layer."""

from __future__ import annotations

import numpy as np

from topovlm.choose.loops import ENOUGH_LOOPS, loops
from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings
from topovlm.topology.descriptors import mean_persistence


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """Mean inter-layer persistence of H1 with alpha = 0 (docs/method.md, Descriptors): high may go."""
    barcode = settings.needed_barcode()
    extra: Extra = {
        "homology": 1,
        "alpha": 0.0,
        "bars_h0": len(barcode.of_dim(0)),
        "bars_h1": len(barcode.of_dim(1)),
        "loops_per_layer": loops(barcode),
    }
    return mean_persistence(barcode, 1, 0.0), extra


def blind(settings: Settings) -> str:
    """A share of few loops is no measure, and of none it is 0 for every layer."""
    found = loops(settings.needed_barcode())
    if found >= ENOUGH_LOOPS:
        return ""
    return (
        f"sees {found or 'no'} loop{'s' if found != 1 else ''} in a layer's neighbour graph "
        f"(k = {settings.k}, middle layer), where {ENOUGH_LOOPS} are needed"
    )


SCORER = Scorer(
    name="zigzag",
    paper="arXiv 2410.11042",
    why="consistent with the other layers: the loops of its neighbour graph live on in most of them",
    score=score,
    needs=frozenset({"barcode"}),
    blind=blind,
)
