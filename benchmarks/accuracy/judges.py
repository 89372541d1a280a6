"""What a judge should look at: by what it chooses, on how many samples, and in what state the sets are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.draws import CONFIRMING, JUDGING, SAMPLES, judging_samples
from benchmarks.accuracy.kept import Measured, once
from benchmarks.accuracy.losses import say, spread
from benchmarks.accuracy.objectives import COUNTS, OBJECTIVES, gaps
from benchmarks.accuracy.pools import Pool, judged_by, lost_items, sets_of
from benchmarks.accuracy.subject import Drop, Outcome, Subject
from topovlm.choose.judge import Judge
from topovlm.choose.loops import rank_correlation
from topovlm.choose.repair.fit import EVERYWHERE, Repairs
from topovlm.choose.repair.patches import cuts_up_to, fit_patches
from topovlm.choose.sweep import Variant
from topovlm.pipeline.constants import CONSTANTS
from topovlm.samples import Sample

_GONE_BY = "both directions"  # the objective of the finals
_BySize = Mapping[str, Mapping[int, float]]  # by name and number of samples


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
            judged |= _answered(subject, samples, drops, room / f"answered-{seed}.npz")
            rows.append(gaps(Pool(tuple(drops), lost, judged), seed))
            say(f"{subject.name}: {count} layers, seed {seed}: {len(drops)} sets judged")
        found[str(count)] = {
            **_lost(lost.mean(1)),
            "gaps": _spreads(rows),
        }
    return _headed(subject, dense, seeds, found)


def _answered(
    subject: Subject, samples: Sequence[Sample], drops: Sequence[Drop], file: Path
) -> dict[str, np.ndarray]:
    """Of the samples' own answers, where they have some: "nll" [sets, samples], and "right" [samples] of the
    dense model. Kept in `file`."""
    asked = subject.about(samples)
    if asked is None:
        return {}
    dense, *slim = Measured(asked, file)([[], *drops])
    return {"nll": np.stack([one.items["nll"] for one in slim]), "right": dense.items["right"]}


def compare_previews(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int]
) -> dict[str, Any]:
    """How far what a judge chooses is from the set that is best as it ships, where it looks at sets as they
    are cut, and with their cuts patched; and how either ranks them."""
    measured = Measured(subject, room / "measured.npz")
    (dense,) = measured([[]])
    found: dict[str, Any] = {}
    for count in counts:
        drops, means = sets_of(subject, measured, count), list[np.ndarray]()
        far, ranks = list[_BySize](), list[_BySize]()
        for seed in seeds:
            shipped, seen = _previewed(subject, drops, seed, room)
            lost = np.stack([lost_items(dense, one, subject.measures[0]) for one in shipped])
            means.append(lost.mean(1))
            far.append(
                {name: gaps(Pool(tuple(drops), lost, of), seed)[_GONE_BY] for name, of in seen.items()}
            )
            ranks.append({name: _ranks(of, means[-1], seed) for name, of in seen.items()})
            say(f"{subject.name}: seed {seed}, {len(drops)} sets as they ship")
        found[str(count)] = {
            **_lost(np.mean(means, axis=0)),
            "gaps": _spreads(far),
            "ranks": _spreads(ranks),
        }
    return _headed(subject, dense, seeds, found)


def _lost(by_set: np.ndarray) -> dict[str, Any]:
    return {"sets": len(by_set), "best": float(by_set.min()), "median": float(np.median(by_set))}


def _headed(
    subject: Subject, dense: Outcome, seeds: Sequence[int], counts: Mapping[str, Any]
) -> dict[str, Any]:
    measure = subject.measures[0]
    return {"measure": measure, "dense": dense.mean(measure), "seeds": list(seeds), "counts": counts}


def _previewed(
    subject: Subject, drops: Sequence[Drop], seed: int, room: Path
) -> tuple[list[Outcome], dict[str, dict[str, np.ndarray]]]:
    """Sets as they ship, and what a judge sees of each before. Kept in the room."""
    samples = subject.calibration(SAMPLES + JUDGING + CONFIRMING, seed)
    scoring, confirming = samples[:SAMPLES], samples[SAMPLES + JUDGING :]
    judging = samples[SAMPLES : SAMPLES + JUDGING]
    cuts = cuts_up_to(len(drops[0]), subject.layers, subject.protected)
    quick = scoring[: CONSTANTS.quick_repair_samples]
    patches = fit_patches(subject.live, cuts, quick, torch.float16)
    file = room / f"patched-{len(drops[0])}-{seed}.npz"
    seen = {
        "as they are cut": judged_by(subject, judging, drops, room / f"judged-{seed}.npz"),
        "with their cuts patched": judged_by(subject, judging, drops, file, patches),
    }
    confirm = Judge(subject.live, confirming)
    fitting = Repairs(subject.live, scoring, torch.float16, ways=EVERYWHERE, seed=seed)
    shipped = [
        once(
            room / f"shipped-{seed}-{'-'.join(map(str, sorted(drop)))}.pkl",
            partial(_as_it_ships, subject, drop, fitting, confirm),
        )
        for drop in drops
    ]
    return shipped, seen


def _as_it_ships(subject: Subject, drop: Drop, fitting: Repairs, confirm: Judge) -> Outcome:
    """Repaired and confirmed as a deployment does it."""
    (repair,) = fitting.of([sorted(drop)])
    tried = [Variant(drop), Variant(drop, repair.weights)]
    kls = confirm.kls_of(tried)
    (outcome,) = subject.measure([tried[kls.index(min(kls))]])
    return outcome


def _ranks(judged: Mapping[str, np.ndarray], lost: np.ndarray, seed: int) -> dict[int, float]:
    """By number of samples, the rank correlation of what a judge sees with what is lost."""
    values = OBJECTIVES[_GONE_BY](judged)
    order = np.random.default_rng([seed, 29]).permutation(values.shape[1])
    return {
        size: rank_correlation(values[:, order[:size]].mean(1), lost) for size in COUNTS if size <= len(order)
    }


def _spreads(rows: Sequence[_BySize]) -> dict[str, dict[str, dict[str, float]]]:
    """Over seeds, by name and number of samples."""
    return {
        name: {str(size): spread([row[name][size] for row in rows]) for size in rows[0][name]}
        for name in rows[0]
    }
