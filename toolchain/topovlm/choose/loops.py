"""How many neighbours per sample: a number, or a rule that finds one.

The zigzag score of a layer is a share of its loops. Many neighbours each make a graph that has few or none,
and shares of a handful say little: benchmarks/accuracy measures what the rules are worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from topovlm.choose.choices import AUTO, PLATEAU
from topovlm.topology.barcode import Barcode

# Of arXiv 2604.16502.
PUBLISHED_K = 15
# What the rules compare.
LADDER = (3, 4, 5, 7, 10, 15, 20, 25)
# Loops of the middle layer: a share of fewer moves in steps of a quarter and more.
ENOUGH_LOOPS = 5


def loops(barcode: Barcode) -> int:
    """Loops alive at the layer in the middle: the median over layers of the Betti number of H1."""
    return int(np.median(barcode.betti(1)[::2]))


def barcode_with_loops(states: np.ndarray, k: int | str = AUTO) -> tuple[int, Barcode]:
    """Neighbours per point, and the barcode of clouds [layers, points, width] with so many.

    A number is taken as it is, cut to the points there are. "auto": of `LADDER` that with the most
    bars of H1, as arXiv 2410.11042 chooses; "plateau": see `steadiest`.
    """
    if isinstance(k, int):
        number = min(k, max(1, states.shape[1] - 1))
        return number, _barcode(states, number)
    barcodes = barcodes_by_k(states)
    best = steadiest(barcodes) if k == PLATEAU else most_bars(barcodes)
    return best, barcodes[best]


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
