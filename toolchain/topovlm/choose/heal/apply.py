"""Healing a pruned checkpoint on disk: taught by the dense model, confirmed, written back or not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from topovlm.checkpoint.files import Checkpoint, open_checkpoint
from topovlm.checkpoint.live import Live, as_live, computes_on_one_thread, load
from topovlm.checkpoint.rewrite import rewrite_tensors
from topovlm.checkpoint.stored import TORCH_DTYPES
from topovlm.checkpoint.surgery import check_drop
from topovlm.choose.heal.lessons import Lesson, first_learner, prepare_lessons
from topovlm.choose.heal.sizes import RECOMPUTE_BYTES, kept_bytes
from topovlm.choose.heal.state import Kept
from topovlm.choose.heal.student import Student, learns
from topovlm.choose.heal.train import RECIPE, Clock, Recipe, train
from topovlm.choose.heal.trainable import find_trainable
from topovlm.choose.record import HealRecord
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.machine.fast_types import fast_bfloat16
from topovlm.samples import Sample

_LEAST_GAIN = 0.001  # of the KL: less may be rounding, which differs between machines


def heal_checkpoint(
    dense: Path | str | Live,
    pruned: Path | str,
    dropped: Sequence[int],
    teach: Sequence[Sample],
    *,
    held_out: Sequence[Sample],
    confirm: Sequence[Sample],
    duration_s: float,
    max_new_tokens: int = 32,
    batch_size: int = 8,
    seed: int = 0,
    recipe: Recipe = RECIPE,
    kept: Kept | None = None,
    clock: Clock = time.monotonic,
    progress: Progress | None = None,
) -> HealRecord:
    """Train `pruned` (the dense model without `dropped`, repaired or not) on `teach` in place, if it helps.

    `held_out` says which weights are best and when to stop: samples that no repair was fitted on, as it knows
    its own by heart. `confirm` (samples that chose nothing) decides, with weights rounded to their stored
    types: a thousandth of its KL must go. The folder is replaced whole or not at all. `kept`: where a
    training that is killed goes on from. Raises `InputError`.
    """
    live, checkpoint = as_live(dense), open_checkpoint(pruned)
    drop = check_drop(dropped, live.layers, "dropped")
    if not drop or checkpoint.layers != live.layers - len(drop):
        rule = f"has {checkpoint.layers} layers where {live.layers} less {len(drop)} are expected"
        raise InputError(explain("pruned model", str(pruned), rule))
    if not teach or not held_out or not confirm:
        rule = "are too few to heal on, to stop on others, and to confirm on others again"
        raise InputError(explain("calibration samples", len(teach), rule, "Give more pictures"))
    threads = torch.get_num_threads()
    try:
        return _healed(
            live,
            checkpoint,
            drop,
            [
                prepare_lessons(live, part, drop, max_new_tokens=max_new_tokens, batch_size=batch_size)
                for part in (teach, held_out, confirm)
            ],
            duration_s=duration_s,
            seed=seed,
            recipe=recipe,
            kept=kept,
            clock=clock,
            progress=progress,
        )
    finally:
        torch.set_num_threads(threads)  # loading a smaller model may have changed it


def _healed(
    dense: Live,
    checkpoint: Checkpoint,
    drop: Sequence[int],
    parts: Sequence[Sequence[Lesson]],
    *,
    duration_s: float,
    seed: int,
    recipe: Recipe,
    kept: Kept | None,
    clock: Clock,
    progress: Progress | None,
) -> HealRecord:
    lessons, held_out, confirming = parts
    student = _student(dense, checkpoint, drop, lessons)
    before = student.judged(confirming)
    trainable = find_trainable(student.live, checkpoint, drop, dense.layers)
    learns(trainable.parameters.values())
    trained = train(
        student,
        trainable.parameters,
        lessons,
        held_out,
        duration_s=duration_s,
        clock=clock,
        seed=seed,
        recipe=recipe,
        kept=kept,
        progress=progress,
    )
    stored = {
        name: value.to(TORCH_DTYPES[checkpoint.tensors[name].dtype]) for name, value in trained.best.items()
    }
    for name, parameter in trainable.parameters.items():
        parameter.data.copy_(stored[name])
    after = student.judged(confirming)
    standing = trained.standing
    kl_before, kl_after = float(before.kl.mean()), float(after.kl.mean())
    report = HealRecord(
        kept=standing.best_step > 0 and kl_after < (1 - _LEAST_GAIN) * kl_before,
        kl_before=kl_before,
        kl_after=kl_after,
        same_before=float(before.same.mean()),
        same_after=float(after.same.mean()),
        held_out_before=standing.start,
        held_out_best=standing.best,
        held_out_last=standing.last,
        steps=standing.steps,
        best_step=standing.best_step,
        stopped_early=trained.stopped_early,
        seconds=round(standing.elapsed_s, 3),
        tokens=standing.tokens,
        relative_rate=recipe.rate * standing.rate,
        parameters=trainable.count,
        layers=trainable.layers,
        head=trainable.head,
        seed=seed,
        device=student.live.device.type,
        dtype="bfloat16" if student.half else str(dense.dtype).removeprefix("torch."),
        teach_samples=_samples(lessons),
        held_out_samples=_samples(held_out),
        confirm_samples=before.samples,
    )
    if report.kept:
        _write(checkpoint, stored, report)
    return report


def _samples(lessons: Sequence[Lesson]) -> int:
    return sum(len(lesson.samples) for lesson in lessons)


def _student(dense: Live, checkpoint: Checkpoint, drop: Sequence[int], lessons: Sequence[Lesson]) -> Student:
    """The slim model, whole in memory, where and in what the dense one computes."""
    dtype = str(dense.dtype).removeprefix("torch.")
    live = load(checkpoint, dtype=dtype, device=dense.device.type, processor=dense.processor, mapped=False)
    decoder = checkpoint.facts.shape.decoder
    tokens = max(lesson.words.shape[1] for lesson in lessons)
    kept = kept_bytes(tokens, checkpoint.layers, decoder.hidden, decoder.intermediate)
    return Student(
        live,
        dense,
        frozenset(drop),
        first_learner(drop, dense.layers),
        half=_in_half(live),
        recompute=kept > RECOMPUTE_BYTES,
    )


def _in_half(live: Live) -> bool:
    """Whether products are in bfloat16: of a model that computes in half precision (what learns is float32),
    and where it is faster. Casting the weights of small models takes longer."""
    if live.dtype != torch.float32:
        return True
    if live.device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return fast_bfloat16() and not computes_on_one_thread(live.model.num_parameters())


def _write(checkpoint: Checkpoint, weights: Mapping[str, torch.Tensor], report: HealRecord) -> None:
    changed = "norms and the head" if report.head else "norms"
    layers = ", ".join(map(str, report.layers))
    text = f"""
## Healing

The layers beside the cuts (numbered as in the source: {layers}) and {changed} were trained for
{report.seconds:.0f} s ({report.steps} steps) to give the source's own distributions and hidden states.
On held-out samples, KL(dense || slim) fell from {report.kl_before:.4g} to {report.kl_after:.4g} nats per
answer token (measured); {100 * report.same_after:.1f} % of the source's answer tokens come first, before
{100 * report.same_before:.1f} %.
"""
    rewrite_tensors(checkpoint, weights, text)
