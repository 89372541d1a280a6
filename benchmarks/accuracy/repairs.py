"""One set of layers, repaired in several ways: on how many samples, and with what weight of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.accuracy.kept import once
from benchmarks.accuracy.subject import Drop, Outcome, Subject
from topovlm.choose.repair.fit import AT_CUTS, EVERYWHERE, Repairs, Ways
from topovlm.choose.sweep import Variant
from topovlm.samples import Sample

# Name -> samples, of which a quarter (64 at most) chooses strengths, and how; with each caution.
REPAIRS = {
    "128 samples": (128, AT_CUTS),
    "256 samples": (256, AT_CUTS),
    "512 samples": (512, AT_CUTS),
    "512 samples, pictures as words": (512, Ways(visual_weight=1.0)),
    "512 samples, no pictures": (512, Ways(visual_weight=0.0)),
    "512 samples, output form alone": (512, Ways(form="output")),
    "128 samples, all layers behind a cut": (128, EVERYWHERE),
    "512 samples, all layers behind a cut": (512, EVERYWHERE),
    "512 samples, all layers, pictures as words": (512, replace(EVERYWHERE, visual_weight=1.0)),
}


# What becomes of tokens of massive activations.
MASSIVE = {
    "they stay as they are": (128, AT_CUTS),
    "they move with the others": (128, replace(AT_CUTS, massive_stay=False)),
}


def repaired(
    subject: Subject,
    samples: Sequence[Sample],
    drop: Drop,
    repairs: Mapping[str, tuple[int, Ways]],
    *,
    seed: int,
    room: Path,
) -> dict[str, Outcome]:
    """What is measured of each, kept in the room."""
    with_pictures = bool(samples[0].images)
    found: dict[str, Outcome] = {}
    for name, (count, ways) in repairs.items():
        if ways.visual_weight != Ways.visual_weight and not with_pictures:
            continue
        file = room / f"repaired-{name}-{seed}-{'-'.join(map(str, sorted(drop)))}.pkl"
        outcomes = once(file, partial(_outcomes, subject, samples[:count], ways, drop, seed))
        for caution, outcome in zip(ways.caution, outcomes, strict=True):
            found[f"{name}, lambda x {caution:g}" if len(outcomes) > 1 else name] = outcome
    return found


def _outcomes(
    subject: Subject, samples: Sequence[Sample], ways: Ways, drop: Drop, seed: int
) -> list[Outcome]:
    (repairs,) = Repairs(subject.live, samples, torch.float16, ways=ways, seed=seed).of([sorted(drop)])
    return subject.measure([Variant(drop, repair.weights) for repair in repairs])
