"""Loops at the end that live on where the layer is left out."""

from __future__ import annotations

import numpy as np

from topovlm.choose.loops import ENOUGH_LOOPS, barcode_with_loops, loops
from topovlm.choose.record import Extra
from topovlm.choose.scorers.scorer import Scorer, Settings
from topovlm.topology.descriptors import interlayer_persistence
from topovlm.topology.zigzag import zigzag_barcode


def score(states: np.ndarray, settings: Settings) -> tuple[np.ndarray, Extra]:
    """Inter-layer persistence of H1 from the dense model's last cloud to that of the model without the layer:
    the share of loops that the zigzag over their intersection carries across.

    Few samples need few neighbours: k is found on the dense cloud (`loops`), whatever --k says.
    """
    *without, dense = settings.needed_bypassed()
    k, barcode = barcode_with_loops(dense[None])
    shares = [
        interlayer_persistence(zigzag_barcode(np.stack([dense, cloud]), k=k), 1)[0, 1] for cloud in without
    ]
    return np.array(shares), {"samples": len(dense), "neighbours": k, "loops": loops(barcode)}


def blind(settings: Settings) -> str:
    k, barcode = barcode_with_loops(settings.needed_bypassed()[-1:])
    found = loops(barcode)
    if found >= ENOUGH_LOOPS:
        return ""
    return f"sees {found or 'no'} loop{'s' if found != 1 else ''} at the end of the model (k = {k})"


SCORER = Scorer(
    name="bypass-zigzag",
    paper="arXiv 2410.11042, between a model and itself without one layer",
    why="without it the loops of the last neighbour graph live on",
    score=score,
    needs=frozenset({"bypassed"}),
    blind=blind,
    on_request=True,
)
