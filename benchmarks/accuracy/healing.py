"""A set that a deployment chose and repaired, on disk as it ships, and healed for some minutes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.choices import PRODUCT, SETTINGS, Chosen, kept_choice
from benchmarks.accuracy.draws import CONFIRMING, SAMPLES
from benchmarks.accuracy.kept import Measured, once
from benchmarks.accuracy.losses import Losses, head, say
from benchmarks.accuracy.subject import Outcome, Subject
from topovlm.checkpoint.files import open_checkpoint
from topovlm.checkpoint.rewrite import rewrite_tensors
from topovlm.checkpoint.surgery import prune_checkpoint
from topovlm.choose.heal.apply import heal_checkpoint
from topovlm.choose.parting import fitting_part
from topovlm.choose.record import HealRecord
from topovlm.choose.repair.apply import down_projection_names
from topovlm.choose.sweep import Variant
from topovlm.records import plain

_HEAL_S = 600.0
_JUDGED = SETTINGS[PRODUCT].judge_samples


@dataclass(frozen=True)
class Healed:
    """What was measured of it, with the account of the training."""

    outcome: Outcome
    record: HealRecord


def heal(subject: Subject, chosen: Chosen, *, seconds: float, seed: int, room: Path) -> Healed:
    """On the samples that chose and repaired, and as many others as say whether it is kept; in the room."""
    dropped, folder = sorted(chosen.record.dropped), room / "healing"
    samples = subject.calibration(SAMPLES + _JUDGED + CONFIRMING, seed)
    scored, judged = samples[:SAMPLES], samples[SAMPLES : SAMPLES + _JUDGED]

    def make() -> Healed:
        shutil.rmtree(folder, ignore_errors=True)
        prune_checkpoint(subject.folder, folder, dropped)
        checkpoint = open_checkpoint(folder)
        names = down_projection_names(checkpoint)
        places = [layer for layer in range(subject.layers) if layer not in dropped]
        repaired = {names[places.index(layer)]: weight for layer, weight in chosen.weights.items()}
        rewrite_tensors(checkpoint, repaired, "")
        fitted, held_out = fitting_part(judged, seed)
        record = heal_checkpoint(
            subject.live,
            folder,
            dropped,
            [*scored, *fitted],
            held_out=held_out,
            confirm=samples[SAMPLES + _JUDGED :],
            duration_s=seconds,
            seed=seed,
        )
        (outcome,) = subject.at(folder).measure([Variant()])
        shutil.rmtree(folder)
        return Healed(outcome, record)

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
        for count in counts:
            chosen, shipped = kept_choice(room, PRODUCT, seed, count)
            found = heal(subject, chosen, seconds=_HEAL_S, seed=seed, room=room)
            (cut,) = measured([chosen.record.dropped])
            losses.add(count, {"cut": cut, "repaired": shipped, "healed": found.outcome})
            records.setdefault(str(count), []).append(plain(found.record))
            say(f"{subject.name}: seed {seed}, {count} layers healed, {found.record.steps} steps")
    return {
        **head(subject, dense, seeds, counts),
        "seconds": _HEAL_S,
        "losses": losses.summed(),
        "records": records,
    }
