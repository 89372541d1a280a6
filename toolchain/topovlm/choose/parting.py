"""Samples parted so that no picture is on two sides: groups stay together. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from topovlm.samples import Sample, by_group


def filled(samples: Sequence[Sample], wanted: int, seed: Sequence[int]) -> tuple[list[Sample], list[Sample]]:
    """(at least `wanted` samples, the others): groups in an order that the seed draws."""
    groups = by_group(samples)
    names = sorted(groups)
    first: list[Sample] = []
    others: list[Sample] = []
    for index in np.random.default_rng(seed).permutation(len(names)):
        (first if len(first) < wanted else others).extend(groups[names[index]])
    return first, others
