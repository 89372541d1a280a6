"""One set of layers, repaired in several ways: on how many samples, and with what weight of pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.draws import judging_samples
from benchmarks.accuracy.kept import Measured, once
from benchmarks.accuracy.losses import Losses, head, say
from benchmarks.accuracy.pools import judged_by, lost_items, sets_of
from benchmarks.accuracy.subject import Drop, Outcome, Subject
from topovlm.choose.repair.fit import AT_CUTS, EVERYWHERE, Repairs, Ways
from topovlm.choose.sweep import Variant
from topovlm.samples import Sample

# Times the lambda of least error.
_CAUTIONS = (1.0, 10.0)


def _each(repairs: Mapping[str, tuple[int, Ways]]) -> dict[str, tuple[int, Ways]]:
    """With either caution."""
    return {
        f"{name}, lambda x {caution:g}": (count, replace(ways, caution=caution))
        for name, (count, ways) in repairs.items()
        for caution in _CAUTIONS
    }


# Name -> samples, of which a quarter (64 at most) chooses strengths, and how.
REPAIRS = _each(
    {
        "128 samples": (128, AT_CUTS),
        "256 samples": (256, AT_CUTS),
        "512 samples": (512, AT_CUTS),
        "512 samples, pictures as words": (512, Ways(visual_weight=1.0)),
        "512 samples, no pictures": (512, Ways(visual_weight=0.0)),
        "512 samples, output form alone": (512, Ways(form="output")),
        "128 samples, all layers behind a cut": (128, EVERYWHERE),
        "512 samples, all layers behind a cut": (512, EVERYWHERE),
        "768 samples, all layers behind a cut": (768, EVERYWHERE),
        "1024 samples, all layers behind a cut": (1024, EVERYWHERE),
        "512 samples, all layers, pictures as words": (512, replace(EVERYWHERE, visual_weight=1.0)),
        "32 samples, all layers behind a cut": (32, EVERYWHERE),
        "32 samples, all layers, gains alone": (32, replace(EVERYWHERE, form="gains")),
        "128 samples, all layers, gains alone": (128, replace(EVERYWHERE, form="gains")),
        "512 samples, all layers, gains alone": (512, replace(EVERYWHERE, form="gains")),
    }
)
# What becomes of tokens of massive activations.
MASSIVE = _each(
    {
        "they stay as they are": (128, AT_CUTS),
        "they move with the others": (128, replace(AT_CUTS, massive_stay=False)),
    }
)


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
        found[name] = once(file, partial(_outcome, subject, samples[:count], ways, drop, seed))
    return found


def _outcome(subject: Subject, samples: Sequence[Sample], ways: Ways, drop: Drop, seed: int) -> Outcome:
    (repair,) = Repairs(subject.live, samples, torch.float16, ways=ways, seed=seed).of([sorted(drop)])
    (outcome,) = subject.measure([Variant(drop, repair.weights)])
    return outcome


def compare_repairs(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int]
) -> dict[str, Any]:
    """Of the sets that a judge likes best, what is lost without and with each way to repair them."""
    measured = Measured(subject, room / "measured.npz")

    def liked_best(seed: int, count: int) -> Drop:
        drops = sets_of(subject, measured, count)
        judged = judged_by(subject, judging_samples(subject, seed), drops, room / f"judged-{seed}.npz")
        return drops[int(judged["kl"].mean(1).argmin())]

    return _compare_ways(measured, room, REPAIRS, liked_best, seeds=seeds, counts=counts)


def compare_massive(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int]
) -> dict[str, Any]:
    """Of the set that loses least of all that were measured, what is lost repaired with tokens of massive
    activations held where they are, and without."""
    measured = Measured(subject, room / "measured.npz")
    (dense,) = measured([[]])

    def loses_least(_seed: int, count: int) -> Drop:
        drops = sorted(measured.known(count), key=sorted)
        lost = [lost_items(dense, one, subject.measures[0]).mean() for one in measured(drops)]
        return drops[int(np.argmin(lost))]

    return _compare_ways(measured, room, MASSIVE, loses_least, seeds=seeds, counts=counts)


def _compare_ways(
    measured: Measured,
    room: Path,
    repairs: Mapping[str, tuple[int, Ways]],
    drop_of: Callable[[int, int], Drop],
    *,
    seeds: Sequence[int],
    counts: Sequence[int],
) -> dict[str, Any]:
    """`drop_of` names the set of a seed and a number of layers."""
    subject = measured.subject
    (dense,) = measured([[]])
    losses = Losses(subject.measures, dense)
    for seed in seeds:
        fitted = subject.calibration(max(count for count, _ in repairs.values()), seed)
        for count in counts:
            drop = drop_of(seed, count)
            (cut,) = measured([drop])
            losses.add(count, {"cut": cut, **repaired(subject, fitted, drop, repairs, seed=seed, room=room)})
            say(f"{subject.name}: seed {seed}, {count} layers repaired")
    return {**head(subject, dense, seeds, counts), "losses": losses.summed()}
