"""A chosen set on disk, as a deployment ships it: cut, repaired, and healed for some minutes."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accuracy.subject import Outcome, Subject
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.choose.heal.apply import heal_checkpoint
from topovlm.choose.record import HealRecord
from topovlm.choose.repair.apply import repair_checkpoint
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
    """`samples`: those that scored; all of them teach, some of them fit the repair. Kept in the room."""
    file = room / f"healed-{seconds:g}-{seed}-{'-'.join(map(str, sorted(drop)))}.pkl"
    if not file.is_file():
        folder = room / "healing"
        shutil.rmtree(folder, ignore_errors=True)
        prune_checkpoint(subject.folder, folder, sorted(drop))
        repair_checkpoint(subject.live, folder, sorted(drop), samples, confirm, everywhere=True, seed=seed)
        (repaired,) = subject.at(folder).measure([Variant()])
        record = heal_checkpoint(
            subject.live, folder, sorted(drop), samples, confirm, duration_s=seconds, seed=seed
        )
        (healed,) = subject.at(folder).measure([Variant()])
        file.write_bytes(pickle.dumps(Healed(repaired, healed, record)))
        shutil.rmtree(folder)
    found: Healed = pickle.loads(file.read_bytes())
    return found
