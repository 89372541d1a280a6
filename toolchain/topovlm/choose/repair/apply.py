"""Repairing a pruned checkpoint on disk: fit, confirm on samples that chose nothing, write back or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from topovlm.checkpoint.files import Checkpoint, open_checkpoint
from topovlm.checkpoint.live import Live, as_live
from topovlm.checkpoint.rewrite import rewrite_tensors
from topovlm.checkpoint.stored import TORCH_DTYPES
from topovlm.checkpoint.surgery import check_drop
from topovlm.choose.judge import Judge
from topovlm.choose.record import CutRepair, RepairRecord
from topovlm.choose.repair.fit import AT_CUTS, Repairs, Ways
from topovlm.choose.sweep import Variant
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample


def repair_checkpoint(
    dense: Path | str | Live,
    pruned: Path | str,
    dropped: Sequence[int],
    choose: Sequence[Sample],
    confirm: Sequence[Sample] | Judge,
    *,
    ways: Ways = AT_CUTS,
    max_new_tokens: int = 32,
    batch_size: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> RepairRecord:
    """Fold the closed-form repair into `pruned` (the dense model without `dropped`), in place, if it helps.

    Three quarters of `choose` fit, a quarter (64 at most) picks lambdas and forms; `confirm` (samples that
    chose neither, nor the layers; or a judge built on them) decides whether it
    is kept. The folder is replaced whole or not at all. Raises `InputError`.
    """
    live = as_live(dense)
    drop = check_drop(dropped, live.layers, "dropped")
    checkpoint = open_checkpoint(pruned)
    if checkpoint.layers != live.layers - len(drop):
        rule = f"has {checkpoint.layers} layers where {live.layers} less {len(drop)} are expected"
        raise InputError(explain("pruned model", str(pruned), rule))
    repairs = Repairs(
        live,
        choose,
        stored_dtype(checkpoint),
        ways=ways,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        seed=seed,
    )
    confirming = (
        confirm
        if isinstance(confirm, Judge)
        else Judge(live, confirm, max_new_tokens=max_new_tokens, batch_size=batch_size)
    )
    kept_layers = [layer for layer in range(live.layers) if layer not in drop]
    (found,) = repairs.of([drop], progress)
    before, after = confirming.kls_of([Variant(frozenset(drop)), Variant(frozenset(drop), found.weights)])
    kept = bool(found.weights) and after < before
    report = RepairRecord(
        kept=kept,
        kl_before=before,
        kl_after=after,
        caution=ways.caution,
        cuts=tuple(found.cuts),
        fit_samples=repairs.fit_samples,
        tune_samples=repairs.tune_samples,
        confirm_samples=confirming.samples,
    )
    if kept:
        names = down_projection_names(checkpoint)
        changed = {names[kept_layers.index(layer)]: weight for layer, weight in found.weights.items()}
        rewrite_tensors(checkpoint, changed, _card(report))
    return report


def down_projection_names(checkpoint: Checkpoint) -> list[str]:
    """The tensors of the layers' down-projections, in their order."""
    suffix = f".{checkpoint.decoder.down_projection}.weight"
    return [f"{checkpoint.layer_prefix}{layer}{suffix}" for layer in range(checkpoint.layers)]


def stored_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """The type that down-projections are stored in: what the repair will be rounded to."""
    found = [checkpoint.tensors.get(name) for name in down_projection_names(checkpoint)]
    dtypes = sorted({entry.dtype for entry in found if entry})
    if not dtypes:
        return torch.float32  # experts everywhere: no cut will be repaired
    if len(dtypes) != 1 or dtypes[0] not in TORCH_DTYPES:
        rule = f"down-projections are stored as {', '.join(dtypes)}; one floating-point type is needed"
        raise InputError(explain("pruned model", str(checkpoint.folder), rule))
    return TORCH_DTYPES[dtypes[0]]


def removed_layers(cut: CutRepair) -> str:
    """The layers behind the anchor that went; none where it makes up for earlier cuts."""
    return f"{cut.first}-{cut.last}" if cut.first <= cut.last else "none"


def _card(report: RepairRecord) -> str:
    rows = "\n".join(
        f"| {removed_layers(cut)} | {cut.anchor} | {cut.ridge:g} | {100 * cut.error:.0f} % |"
        for cut in report.cuts
        if cut.kept and cut.ridge is not None
    )
    return f"""
## Repair

MLP down-projections were refitted in closed form: before each cut to what the removed layers did, in other
layers behind the first cut to what was still missing.
On held-out samples, KL(dense || slim) fell from {report.kl_before:.4g} to {report.kl_after:.4g} nats per
answer token (measured). Layers are numbered as in the source.

| layers removed | down-projection of layer | lambda | what was missing behind it, left on other samples |
|---|---|---|---|
{rows}
"""
