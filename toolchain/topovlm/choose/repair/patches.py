"""Repairs of single cuts, each fitted alone in the dense model; any set of layers is put together of them.

The repair that ships follows its set from the left, and takes passes of its own. Patches take one for all
sets, and rank sets more as they rank when they ship than a look at sets as they are cut does
(`python -m benchmarks.accuracy previews` measures both).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from topovlm.checkpoint.live import Live
from topovlm.choose.repair.front import Front, entering
from topovlm.choose.repair.patch import Cut, Equations, find_cuts
from topovlm.choose.rollouts import roll_out
from topovlm.choose.spill import Spill
from topovlm.choose.sweep import Variant
from topovlm.console import Progress
from topovlm.samples import Sample

# Lambda over the mean diagonal: between the strengths that nearly all cuts are given by ten times that of
# least error (`strengths.CAUTION`).
_RIDGE = 0.3
_HELD_BYTES = 1 << 30  # of patches in memory; others lie in a file
# Layers of a run that is patched for the search: what longer ones did is beyond one map, and they seldom go.
_LONGEST = 6


@dataclass(frozen=True)
class Patches:
    """The down-projection [d, m] of the layer before each cut. Where a cut has none it is left as it is;
    `tried` are those that have none for good as well."""

    weights: Mapping[Cut, torch.Tensor] = field(default_factory=dict)
    tried: frozenset[Cut] = frozenset()

    def variant(self, drop: Collection[int]) -> Variant:
        """The decoder without these layers, its cuts patched."""
        cuts = [cut for cut in find_cuts(sorted(drop)) if cut in self.weights]
        return Variant(frozenset(drop), {cut.anchor: self.weights[cut] for cut in cuts})

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of all numbers."""
        found = hashlib.sha256()
        for cut, weight in self.weights.items():
            found.update(repr(cut).encode())
            found.update(weight.contiguous().cpu().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def and_these(self, others: Patches) -> Patches:
        return Patches({**self.weights, **others.weights}, self.tried | others.tried)


NO_PATCHES = Patches()


def cuts_of(drops: Iterable[Collection[int]]) -> list[Cut]:
    """All cuts of these sets, from the left."""
    found = {cut for drop in drops for cut in find_cuts(sorted(drop))}
    return sorted(found, key=lambda cut: (cut.anchor, cut.last))


def cuts_up_to(longest: int, layers: int, protected: Collection[int]) -> list[Cut]:
    """All runs of at most `longest` layers that may go, and of no more than six."""
    return [
        Cut(first - 1, first, last)
        for first in range(1, layers)
        for last in range(first, min(first + min(longest, _LONGEST), layers))
        if not set(range(first, last + 1)) & set(protected)
    ]


def fit_patches(
    live: Live,
    cuts: Sequence[Cut],
    samples: Sequence[Sample],
    stored_dtype: torch.dtype,
    *,
    max_new_tokens: int = 32,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Patches:
    """Of each of these cuts, in one pass of the dense model, by the words of the samples alone: pictures have
    most tokens, and take most of the time. `stored_dtype`: what patches are rounded to.

    A cut whose anchor does not end in its down-projection (a norm behind it, experts) has none.
    """
    rolled = roll_out(live, samples, max_new_tokens=max_new_tokens, batch_size=batch_size)
    front = Front(live, [()], entering(live, rolled), visual_weight=0.0)
    keep = Spill(_HELD_BYTES)
    by_anchor: dict[int, list[Cut]] = defaultdict(list)
    for cut in cuts:
        by_anchor[cut.anchor].append(cut)
    found: dict[Cut, torch.Tensor] = {}
    for done, anchor in enumerate(sorted(by_anchor), start=1):
        front.advance(anchor)
        if front.ends_in_its_projection():
            gram, down = front.gather(0, *by_anchor[anchor]), live.down_projection(anchor)
            with live.weights.held(down.parameters()):
                equations = Equations(gram, down.weight.data, "input")
            rounded = [weight.to(stored_dtype) for weight in equations.solve_all(_RIDGE)]
            found |= {
                cut: keep(weight)
                for cut, weight in zip(by_anchor[anchor], rounded, strict=True)
                if torch.isfinite(weight).all()
            }
        if progress:
            progress(done, len(by_anchor))
    return Patches(found, frozenset(cuts))
