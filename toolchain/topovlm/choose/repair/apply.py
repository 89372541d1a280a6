"""Repairing a pruned checkpoint on disk: fit, confirm on samples that chose nothing, write back or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from topovlm.artifacts import link_or_copy, staged_folder, write_text
from topovlm.checkpoint.files import Checkpoint, open_checkpoint
from topovlm.checkpoint.live import Live, as_live
from topovlm.checkpoint.safetensors_file import write_file
from topovlm.checkpoint.surgery import check_drop
from topovlm.choose.judge import Judge
from topovlm.choose.record import RepairRecord
from topovlm.choose.repair.fit import Repairs
from topovlm.choose.repair.patch import FORMS, LAMBDAS, Form
from topovlm.choose.sweep import Variant
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample

_TORCH_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


def repair_checkpoint(
    dense: Path | str | Live,
    pruned: Path | str,
    dropped: Sequence[int],
    choose: Sequence[Sample],
    confirm: Sequence[Sample] | Judge,
    *,
    forms: Sequence[Form] = FORMS,
    lambdas: Sequence[float] = LAMBDAS,
    visual_weight: float = 0.1,
    max_new_tokens: int = 32,
    batch_size: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> RepairRecord:
    """Fold the closed-form repair into `pruned` (the dense model without `dropped`), in place, if it helps.

    Three quarters of `choose` fit, a quarter picks lambda and form; `confirm` (samples that chose neither the
    layers nor lambda, or a judge built on them) decides. The folder is replaced whole or not at all. Raises
    `InputError`.
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
        forms=forms,
        lambdas=lambdas,
        visual_weight=visual_weight,
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
    repaired, cuts = repairs.of(drop, progress)
    before = after = confirming.kl(drop)
    if repaired:
        after = confirming.kls_of([Variant(frozenset(drop), repaired)])[0]
    kept = bool(repaired) and after < before
    report = RepairRecord(
        kept=kept,
        kl_before=before,
        kl_after=after,
        cuts=tuple(cuts),
        fit_samples=repairs.fit_samples,
        tune_samples=repairs.tune_samples,
        confirm_samples=confirming.samples,
    )
    if kept:
        names = _down_projection_names(checkpoint)
        changed = {names[kept_layers.index(layer)]: weight for layer, weight in repaired.items()}
        _write_back(checkpoint, changed, report)
    return report


def _down_projection_names(checkpoint: Checkpoint) -> list[str]:
    suffix = f".{checkpoint.decoder.down_projection}.weight"
    return [f"{checkpoint.layer_prefix}{layer}{suffix}" for layer in range(checkpoint.layers)]


def stored_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """The type that down-projections are stored in: what the repair will be rounded to."""
    found = [checkpoint.tensors.get(name) for name in _down_projection_names(checkpoint)]
    dtypes = sorted({entry.dtype for entry in found if entry})
    if not dtypes:
        return torch.float32  # experts everywhere: no cut will be repaired
    if len(dtypes) != 1 or dtypes[0] not in _TORCH_DTYPES:
        rule = f"down-projections are stored as {', '.join(dtypes)}; one floating-point type is needed"
        raise InputError(explain("pruned model", str(checkpoint.folder), rule))
    return _TORCH_DTYPES[dtypes[0]]


def _write_back(checkpoint: Checkpoint, weights: Mapping[str, torch.Tensor], report: RepairRecord) -> None:
    """Replace the folder by one that differs in these tensors and in a paragraph of its card."""
    raw = {
        name: weight.cpu().contiguous().view(torch.uint8).numpy().tobytes()
        for name, weight in weights.items()
    }
    touched = {checkpoint.tensors[name].file for name in raw}
    with staged_folder(checkpoint.folder) as stage:
        for path in sorted(checkpoint.folder.iterdir()):
            if path in touched:
                tensors = [(name, entry) for name, entry in checkpoint.tensors.items() if entry.file == path]
                write_file(stage / path.name, tensors, checkpoint.metadata[path], raw)
            elif path.is_file():
                link_or_copy(path, stage / path.name)
        card = stage / "README.md"
        if card.is_file():
            text = card.read_text(encoding="utf-8")
            write_text(card, text.replace(", byte for byte.", " but for the repair below.") + _card(report))


def _card(report: RepairRecord) -> str:
    rows = "\n".join(
        f"| {cut.first}-{cut.last} | {cut.anchor} | {cut.form} | {cut.ridge:g} |"
        for cut in report.cuts
        if cut.kept and cut.ridge is not None
    )
    return f"""
## Repair

The MLP down-projection before each cut was refitted in closed form to what the removed layers did.
On held-out samples, KL(dense || slim) fell from {report.kl_before:.4g} to {report.kl_after:.4g} nats per
answer token (measured). Layers are numbered as in the source.

| layers removed | down-projection of layer | form | lambda |
|---|---|---|---|
{rows}
"""
