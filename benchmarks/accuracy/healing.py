"""A chosen set on disk, as a deployment ships it: cut, repaired, and healed for some minutes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.kept import once
from benchmarks.accuracy.subject import Outcome, Subject
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.choose.heal.apply import heal_checkpoint
from topovlm.choose.record import HealRecord
from topovlm.choose.repair.apply import repair_checkpoint
from topovlm.choose.repair.fit import EVERYWHERE
from topovlm.choose.sweep import Variant
from topovlm.samples import Sample

CONFIRMING = 96  # samples of their own that say whether a repair is kept, and healing


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
