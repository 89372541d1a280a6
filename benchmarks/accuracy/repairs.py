"""One set of layers, repaired in several ways: on how many samples, and with what weight of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.accuracy.kept import once
from benchmarks.accuracy.subject import Drop, Outcome, Subject
from topovlm.choose.repair.fit import Repairs
from topovlm.choose.repair.patch import FORMS, Form
from topovlm.choose.sweep import Variant
from topovlm.samples import Sample


@dataclass(frozen=True)
class Way:
    """Of `samples`, three quarters fit and a quarter chooses the strength."""

    samples: int = 128
    visual_weight: float = 0.1
    forms: tuple[Form, ...] = FORMS
    everywhere: bool = False


REPAIRS = {
    "128 samples": Way(),
    "256 samples": Way(256),
    "512 samples": Way(512),
    "512 samples, pictures as words": Way(512, 1.0),
    "512 samples, no pictures": Way(512, 0.0),
    "512 samples, output form alone": Way(512, forms=("output",)),
    "128 samples, all layers behind a cut": Way(everywhere=True),
    "512 samples, all layers behind a cut": Way(512, everywhere=True),
    "512 samples, all layers, pictures as words": Way(512, 1.0, everywhere=True),
}


def repaired(
    subject: Subject, samples: Sequence[Sample], drop: Drop, seed: int, room: Path
) -> dict[str, Outcome]:
    """What is measured of each, kept in the room."""
    with_pictures = bool(samples[0].images)
    found = {}
    for name, way in REPAIRS.items():
        if way.visual_weight != Way.visual_weight and not with_pictures:
            continue
        file = room / f"repaired-{name}-{seed}-{'-'.join(map(str, sorted(drop)))}.pkl"
        found[name] = once(file, partial(_outcome, subject, samples, way, drop, seed))
    return found


def _outcome(subject: Subject, samples: Sequence[Sample], way: Way, drop: Drop, seed: int) -> Outcome:
    repairs = Repairs(
        subject.live,
        samples[: way.samples],
        torch.float16,
        forms=way.forms,
        visual_weight=way.visual_weight,
        everywhere=way.everywhere,
        seed=seed,
    )
    weights, _ = repairs.of(sorted(drop))
    (outcome,) = subject.measure([Variant(drop, weights)])
    return outcome
