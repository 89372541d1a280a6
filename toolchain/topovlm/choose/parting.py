"""Samples parted so that no picture is on two sides: groups stay together. Torch-free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from topovlm.samples import Sample, by_group

# Of the samples that judge, those that no weights are fitted to.
_MOST_KEPT_BACK = 64


def kept_back(count: int) -> int:
    """How many of so many samples `fitting_part` keeps back."""
    return min(_MOST_KEPT_BACK, max(1, count // 2))


def fitting_part(judging: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Samples that have judged sets of layers: (those that weights may be fitted to as well, those that say
    when to stop). They share no group; the first are none where all are of one.
    """
    others, part = filled(judging, kept_back(len(judging)), [seed, 59])
    return part, others


def filled(samples: Sequence[Sample], wanted: int, seed: Sequence[int]) -> tuple[list[Sample], list[Sample]]:
    """(at least `wanted` samples, the others): groups in an order that the seed draws.

    Stratified: categories, by each group's first sample, have their share of any run of either side.
    """
    groups = by_group(samples)
    names = sorted(groups)
    drawn = [groups[names[index]] for index in np.random.default_rng(seed).permutation(len(names))]
    strata: dict[str, list[list[Sample]]] = defaultdict(list)
    for group in drawn:
        strata[group[0].category].append(group)
    places = [
        ((place + 0.5) / len(some), group) for some in strata.values() for place, group in enumerate(some)
    ]
    first: list[Sample] = []
    others: list[Sample] = []
    for _, group in sorted(places, key=lambda one: one[0]):
        (first if len(first) < wanted else others).extend(group)
    return first, others
