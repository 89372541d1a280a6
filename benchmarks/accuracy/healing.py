"""A chosen set on disk, as a deployment ships it: cut, repaired, and healed for some minutes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.choices import PRODUCT, kept_choice
from benchmarks.accuracy.draws import CONFIRMING, JUDGING, SAMPLES
from benchmarks.accuracy.kept import Measured, once
from benchmarks.accuracy.losses import Losses, head, say
from benchmarks.accuracy.subject import Outcome, Subject
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.choose.heal.apply import heal_checkpoint
from topovlm.choose.record import HealRecord
from topovlm.choose.repair.apply import repair_checkpoint
from topovlm.choose.repair.fit import EVERYWHERE
from topovlm.choose.sweep import Variant
from topovlm.records import plain
from topovlm.samples import Sample

_HEAL_S = 600.0


@dataclass(frozen=True)
class Healed:
    """What was measured before and after, with the account of the training."""

    repaired: Outcome
    healed: Outcome
    record: HealRecord


def heal(
    subject: Subject,
    samples: Sequence[Sample],
    confirm: Sequence[Sample],
    drop: Sequence[int],
    *,
    seconds: float,
    seed: int,
    room: Path,
) -> Healed:
    """`samples`: those that scored, which fit the repair and teach. Kept in the room."""
    dropped, folder = sorted(drop), room / "healing"

    def make() -> Healed:
        shutil.rmtree(folder, ignore_errors=True)
        prune_checkpoint(subject.folder, folder, dropped)
        repair_checkpoint(subject.live, folder, dropped, samples, confirm, ways=EVERYWHERE, seed=seed)
        (repaired,) = subject.at(folder).measure([Variant()])
        record = heal_checkpoint(
            subject.live, folder, dropped, samples, confirm, duration_s=seconds, seed=seed
        )
        (healed,) = subject.at(folder).measure([Variant()])
        shutil.rmtree(folder)
        return Healed(repaired, healed, record)

    return once(room / f"healed-{seconds:g}-{seed}-{'-'.join(map(str, dropped))}.pkl", make)


def compare_healing(
    subject: Subject, room: Path, seeds: Sequence[int], counts: Sequence[int]
) -> dict[str, Any]:
    """Of what a deployment chose (`compare_choices`), what is lost repaired, and healed besides."""
    measured = Measured(subject, room / "measured.npz")
    (dense,) = measured([[]])
    losses = Losses(subject.measures, dense)
    records: dict[str, list[Any]] = {}
    for seed in seeds:
        samples = subject.calibration(SAMPLES + JUDGING + CONFIRMING, seed)
        for count in counts:
            drop = kept_choice(room, PRODUCT, seed, count)[0].record.dropped
            found = heal(
                subject, samples[:SAMPLES], samples[-CONFIRMING:], drop, seconds=_HEAL_S, seed=seed, room=room
            )
            (cut,) = measured([drop])
            outcomes = {"cut": cut, "repaired": found.repaired, "healed": found.healed}
            losses.add(count, outcomes)
            records.setdefault(str(count), []).append(plain(found.record))
            say(f"{subject.name}: seed {seed}, {count} layers healed, {found.record.steps} steps")
    return {
        **head(subject, dense, seeds, counts),
        "seconds": _HEAL_S,
        "losses": losses.summed(),
        "records": records,
    }
