"""The order in which layers go when each time the one goes that is missed least beside those that are gone.

What a layer is worth depends on which others are left: of two that do the same, each alone looks needless.
Torch-free; a judge is anything with `kls(drops)`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from topovlm.choose.search import KlJudge
from topovlm.console import Progress
from topovlm.families.layers import tied_layers
from topovlm.samples import Sample

if TYPE_CHECKING:
    from topovlm.checkpoint.live import Live

# Of all layers. With more of them gone hardly a model answers: further rounds would rank noise.
_ELIMINATED = 0.5


def collect_elimination(
    live: Live,
    samples: Sequence[Sample],
    protected: Collection[int] = (),
    *,
    progress: Progress | None = None,
) -> np.ndarray:
    """`eliminate` by the judge on the model's own answers; layers that their family ties to their place stay,
    too. About half as many passes over the samples each round as there are layers. Raises `InputError`.
    """
    from topovlm.choose.judge import Judge

    tied = tied_layers(live.model.config.to_dict(), live.parts.family)
    return eliminate(Judge(live, samples), live.layers, {*protected, *tied}, progress=progress)


def rounds_of(layers: int) -> int:
    """How many layers go one by one, where as many may."""
    return int(_ELIMINATED * layers)


def eliminate(
    judge: KlJudge, layers: int, protected: Collection[int] = (), *, progress: Progress | None = None
) -> np.ndarray:
    """Greedy elimination (SLEB, arXiv 2402.09025), by KL to the dense answers where the paper takes the
    perplexity of a text: float64 [2, layers].

    First each layer's place in the order in which they go, from 0 on; then KL(dense || slim), in nats per
    answer token, without it and all before it. Rounds end when half of the layers are gone. The others follow
    as the last round ranked them, then those that are protected, by depth: they have no KL (not a number).
    """
    left = later = [layer for layer in range(layers) if layer not in protected]
    rounds = min(rounds_of(layers), len(left))
    order, kls = list[int](), np.full(layers, np.nan)
    done, sets = 0, sum(len(left) - gone for gone in range(rounds))
    for _ in range(rounds):
        found = np.array(judge.kls([{*order, layer} for layer in left]))
        # The earlier layer among equals; what is no number goes last.
        ranked = np.argsort(found, kind="stable")
        first, *later = (left[place] for place in ranked)
        kls[first] = found[ranked[0]]
        order.append(first)
        done += len(left)
        left = sorted(later)
        if progress:
            progress(done, sets)
    order += [*later, *sorted(set(range(layers)) - {*order, *later})]
    places = np.empty(layers)
    places[order] = np.arange(layers)
    return np.stack([places, kls])
