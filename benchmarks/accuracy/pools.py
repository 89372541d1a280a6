"""Many sets of layers of which everything is known: what each loses, and what a judge says of it.

Of a shallow model these are all sets; of a deep one those that scorers and searches have proposed. A choice
among them can be drawn again and again with other samples, which costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np

from benchmarks.accuracy.kept import Measured
from benchmarks.accuracy.subject import Drop, Outcome, Subject, free_layers
from topovlm.choose.judge import Judge
from topovlm.choose.repair.patches import NO_PATCHES, Patches
from topovlm.samples import Sample

_MOST_SETS = 600  # of one size, that are all run
_AT_A_TIME = 32


@dataclass(frozen=True)
class Pool:
    """Sets of one size, by set what it loses [sets, items], and by measure of a judge [sets, samples]."""

    drops: tuple[Drop, ...]
    lost: np.ndarray
    judged: Mapping[str, np.ndarray]


def sets_of(subject: Subject, measured: Measured, count: int) -> list[Drop]:
    """All of them, where these are few; else those that were measured for whatever reason."""
    free = free_layers(subject)
    if comb(len(free), count) <= _MOST_SETS:
        return [frozenset(one) for one in combinations(free, count)]
    return sorted(measured.known(count), key=sorted)


def judged_by(
    subject: Subject,
    samples: Sequence[Sample],
    drops: Sequence[Drop],
    file: Path,
    patches: Patches = NO_PATCHES,
) -> dict[str, np.ndarray]:
    """float64 [sets, samples] by measure, kept in `file`."""
    names = ("kl", "reverse", "same")
    known: dict[str, np.ndarray] = {}
    if file.is_file():
        with np.load(file) as held:
            known = {name: held[name] for name in held.files}
    keys = [",".join(map(str, sorted(drop))) for drop in drops]
    new = [number for number, key in enumerate(keys) if key not in known]
    if new:
        judge = Judge(subject.live, samples)
        for start in range(0, len(new), _AT_A_TIME):
            part = new[start : start + _AT_A_TIME]
            for number, found in zip(
                part, judge.judged([patches.variant(drops[n]) for n in part]), strict=True
            ):
                known[keys[number]] = np.stack([getattr(found, name) for name in names])
            partial = file.with_suffix(".part.npz")
            np.savez(partial, **known)  # type: ignore[arg-type]
            partial.replace(file)
    return {name: np.stack([known[key][row] for key in keys]) for row, name in enumerate(names)}


def lost_items(dense: Outcome, slim: Outcome, measure: str) -> np.ndarray:
    """float64 [items]: what is lost; more is worse."""
    change: np.ndarray = slim.items[measure] - dense.items[measure]
    return change if measure == "nll" else -change
