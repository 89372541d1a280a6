"""How many neighbours per sample: a number, or a rule that finds one.

The zigzag score of a layer is a share of its loops. Few samples with many neighbours each make a graph that
has none: from 128 samples down at 15 neighbours, every layer of our reference model scores 0, and the order
of the layers' own numbers would pass for a ranking.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from topovlm.choose.choices import AUTO, MOST_LOOPS, PLATEAU
from topovlm.topology.barcode import Barcode

# Of the published method; smaller ones are tried in turn.
USUAL_K = 15
_TRIED = (USUAL_K, 10, 7, 5, 4, 3)
# What the other rules compare.
LADDER = (3, 4, 5, 7, 10, 15, 20, 25)
# Loops of the middle layer: a share of fewer moves in steps of a quarter and more.
ENOUGH_LOOPS = 5


def loops(barcode: Barcode) -> int:
    """Loops alive at the layer in the middle: the median over layers of the Betti number of H1."""
    return int(np.median(barcode.betti(1)[::2]))


def barcode_with_loops(states: np.ndarray, k: int | str | None = AUTO) -> tuple[int, Barcode]:
    """Neighbours per point, and the barcode of clouds [layers, points, width] with so many.

    A number is taken as it is, cut to the points there are. "auto" (None): the most, up to `USUAL_K`, at
    which `loops` has `ENOUGH_LOOPS`, or else that with the most loops. "most-loops": of `LADDER` that with
    the most bars of H1, as arXiv 2410.11042 chooses; "plateau": see `steadiest`.
    """
    if k in (MOST_LOOPS, PLATEAU):
        barcodes = barcodes_by_k(states)
        best = most_bars(barcodes) if k == MOST_LOOPS else steadiest(barcodes)
        return best, barcodes[best]
    most = max(1, states.shape[1] - 1)
    tried = [k] if isinstance(k, int) else [usual for usual in _TRIED if usual <= most] or [most]
    found: dict[int, Barcode] = {}
    for wanted in tried:
        number = min(wanted, most)
        found[number] = _barcode(states, number)
        if loops(found[number]) >= ENOUGH_LOOPS:
            return number, found[number]
    best = max(found, key=lambda number: (loops(found[number]), number))
    return best, found[best]


def barcodes_by_k(states: np.ndarray, ladder: tuple[int, ...] = LADDER) -> dict[int, Barcode]:
    """Barcodes of the same clouds with more and more neighbours, by their number: ascending."""
    most = max(1, states.shape[1] - 1)
    return {k: _barcode(states, k) for k in sorted({min(k, most) for k in ladder})}


def most_bars(barcodes: Mapping[int, Barcode]) -> int:
    """The number of neighbours with the most bars of H1 that live in some layer; the larger among equals."""
    from topovlm.topology.descriptors import effective_bars

    return max(barcodes, key=lambda k: (len(effective_bars(barcodes[k], 1)), k))


def steadiest(barcodes: Mapping[int, Barcode]) -> int:
    """The number of neighbours on which the order of the layers depends least, the larger among equals.

    That is where the scores' rank correlation with those of the next smaller and the next larger number is
    highest in the mean, among numbers with `ENOUGH_LOOPS`; `most_bars` where fewer than two have them.
    """
    from topovlm.topology.descriptors import mean_persistence

    able = [k for k in sorted(barcodes) if loops(barcodes[k]) >= ENOUGH_LOOPS]
    if len(able) < 2:
        return most_bars(barcodes)
    scores = [mean_persistence(barcodes[k], 1, 0.0) for k in able]
    steps = [rank_correlation(one, other) for one, other in pairwise(scores)]
    steadiness = [np.mean(steps[max(0, place - 1) : place + 1]) for place in range(len(able))]
    return max(zip(steadiness, able, strict=True))[1]


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, ties at their mean rank; 0 where either holds one value alone."""
    from scipy.stats import rankdata

    left, right = rankdata(one), rankdata(other)
    left, right = left - left.mean(), right - right.mean()
    norm = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / norm if norm > 0 else 0.0


def _barcode(states: np.ndarray, k: int) -> Barcode:
    from topovlm.topology.zigzag import zigzag_barcode

    return zigzag_barcode(states, k=k, max_homology_dim=1)
