"""How many neighbours per sample: as many as usual, fewer where the graphs would be left without loops.

The zigzag score of a layer is a share of its loops. Few samples with many neighbours each make a graph that
has none: from 128 samples down at 15 neighbours, every layer of our reference model scores 0, and the order
of the layers' own numbers would pass for a ranking.
"""

from __future__ import annotations

import numpy as np

from topovlm.topology.barcode import Barcode

# Of the published method; smaller ones are tried in turn.
USUAL_K = 15
_TRIED = (USUAL_K, 10, 7, 5, 4, 3)
# Loops of the middle layer: a share of fewer moves in steps of a quarter and more.
ENOUGH_LOOPS = 5


def loops(barcode: Barcode) -> int:
    """Loops alive at the layer in the middle: the median over layers of the Betti number of H1."""
    return int(np.median(barcode.betti(1)[::2]))


def barcode_with_loops(states: np.ndarray, k: int | None = None) -> tuple[int, Barcode]:
    """Neighbours per sample, and the barcode of states [layers, samples, width] with so many.

    `k` is taken as it is, cut to the samples there are. Without it: the most, up to `USUAL_K`, at which
    `loops` has `ENOUGH_LOOPS`, or else that with the most loops.
    """
    from topovlm.topology.zigzag import zigzag_barcode

    most = max(1, states.shape[1] - 1)
    tried = [k] if k is not None else [usual for usual in _TRIED if usual <= most] or [most]
    found: dict[int, Barcode] = {}
    for wanted in tried:
        number = min(wanted, most)
        found[number] = zigzag_barcode(states, k=number, max_homology_dim=1)
        if loops(found[number]) >= ENOUGH_LOOPS:
            return number, found[number]
    best = max(found, key=lambda number: (loops(found[number]), number))
    return best, found[best]
