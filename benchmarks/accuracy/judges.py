"""What a judge should look at: by what it chooses, on how many samples, and in what state the sets are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.healing import CONFIRMING
from benchmarks.accuracy.kept import Measured, once
from benchmarks.accuracy.objectives import COUNTS, OBJECTIVES, gaps
from benchmarks.accuracy.pools import Pool, judged_by, lost_items, sets_of
from benchmarks.accuracy.runs import JUDGING, judging_samples, say, spread
from benchmarks.accuracy.scorers import SAMPLES
from benchmarks.accuracy.subject import Drop, Outcome, Subject
from topovlm.choose.judge import Judge
from topovlm.choose.loops import rank_correlation
from topovlm.choose.repair.fit import EVERYWHERE, Repairs
from topovlm.choose.repair.patches import cuts_up_to, fit_patches
from topovlm.choose.sweep import Variant
from topovlm.pipeline.constants import CONSTANTS
from topovlm.samples import Sample

_GONE_BY = "both directions"  # the objective of the finals


def compare_objectives(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int]
) -> dict[str, Any]:
    """How far what a judge chooses is from the best set, by objective and number of samples."""
    measured = Measured(subject, room / "measured.npz")
    (dense,) = measured([[]])
    found: dict[str, Any] = {}
    for count in counts:
        drops = sets_of(subject, measured, count)
        lost = np.stack([lost_items(dense, one, subject.measures[0]) for one in measured(drops)])
        rows = []
        for seed in seeds:
            samples = judging_samples(subject, seed)
            judged = judged_by(subject, samples, drops, room / f"judged-{seed}.npz")
            rows.append(gaps(Pool(tuple(drops), lost, judged), seed))
            say(f"{subject.name}: {count} layers, seed {seed}: {len(drops)} sets judged")
        found[str(count)] = {
            "sets": len(drops),
            "best": float(lost.mean(1).min()),
            "median": float(np.median(lost.mean(1))),
            "gaps": _spreads(rows),
        }
    return {
        "measure": subject.measures[0],
        "dense": dense.mean(subject.measures[0]),
        "seeds": list(seeds),
        "counts": found,
    }


def compare_previews(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int]
) -> dict[str, Any]:
    """How far what a judge chooses is from the set that is best as it ships, where it looks at sets as they
    are cut, and with their cuts patched; and how either ranks them."""
    measured = Measured(subject, room / "measured.npz")
    (dense,) = measured([[]])
    found: dict[str, Any] = {}
    for count in counts:
        drops = sets_of(subject, measured, count)
        by_seed = [_previewed(subject, drops, seed, room) for seed in seeds]
        lost = [
            np.stack([lost_items(dense, one, subject.measures[0]) for one in shipped])
            for shipped, _ in by_seed
        ]
        means = np.mean([one.mean(1) for one in lost], axis=0)
        found[str(count)] = {
            "sets": len(drops),
            "best": float(means.min()),
            "median": float(np.median(means)),
            "gaps": _spreads(
                [
                    {
                        name: gaps(Pool(tuple(drops), one, judged), seed)[_GONE_BY]
                        for name, judged in seen.items()
                    }
                    for one, (_, seen), seed in zip(lost, by_seed, seeds, strict=True)
                ]
            ),
            "ranks": _spreads(
                [
                    {name: _ranks(judged, one.mean(1), seed) for name, judged in seen.items()}
                    for one, (_, seen), seed in zip(lost, by_seed, seeds, strict=True)
                ]
            ),
        }
    return {
        "measure": subject.measures[0],
        "dense": dense.mean(subject.measures[0]),
        "seeds": list(seeds),
        "counts": found,
    }


def _previewed(
    subject: Subject, drops: Sequence[Drop], seed: int, room: Path
) -> tuple[list[Outcome], dict[str, dict[str, np.ndarray]]]:
    """Sets as they ship, and what a judge sees of each before."""
    samples = subject.calibration(SAMPLES + JUDGING + CONFIRMING, seed)
    scoring, judging, confirming = (
        samples[:SAMPLES],
        samples[SAMPLES : SAMPLES + JUDGING],
        samples[SAMPLES + JUDGING :],
    )
    cuts = cuts_up_to(len(drops[0]), subject.layers, subject.protected)
    patches = fit_patches(subject.live, cuts, scoring[: CONSTANTS.quick_repair_samples], torch.float16)
    seen = {
        "as they are cut": judged_by(subject, judging, drops, room / f"judged-{seed}.npz"),
        "with their cuts patched": judged_by(
            subject, judging, drops, room / f"patched-{len(drops[0])}-{seed}.npz", patches
        ),
    }
    shipped = [_as_it_ships(subject, drop, scoring, confirming, seed, room) for drop in drops]
    say(f"{subject.name}: seed {seed}, {len(drops)} sets as they ship")
    return shipped, seen


def _as_it_ships(
    subject: Subject,
    drop: Drop,
    scoring: Sequence[Sample],
    confirming: Sequence[Sample],
    seed: int,
    room: Path,
) -> Outcome:
    """Repaired and confirmed as a deployment does it; kept in the room."""

    def make() -> Outcome:
        (repairs,) = Repairs(subject.live, scoring, torch.float16, ways=EVERYWHERE, seed=seed).of(
            [sorted(drop)]
        )
        tried = [Variant(drop), *(Variant(drop, repair.weights) for repair in repairs)]
        kls = Judge(subject.live, confirming).kls_of(tried)
        (outcome,) = subject.measure([tried[kls.index(min(kls))]])
        return outcome

    return once(room / f"shipped-{seed}-{'-'.join(map(str, sorted(drop)))}.pkl", make)


def _ranks(judged: Mapping[str, np.ndarray], lost: np.ndarray, seed: int) -> dict[int, float]:
    """By number of samples, the rank correlation of what a judge sees with what is lost."""
    values = OBJECTIVES[_GONE_BY](judged)
    order = np.random.default_rng([seed, 29]).permutation(values.shape[1])
    return {
        size: rank_correlation(values[:, order[:size]].mean(1), lost) for size in COUNTS if size <= len(order)
    }


def _spreads(rows: Sequence[Mapping[str, Mapping[int, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Over seeds, by name and number of samples."""
    return {
        name: {str(size): spread([row[name][size] for row in rows]) for size in rows[0][name]}
        for name in rows[0]
    }
