"""Which layers go: score them on calibration samples, let the judge repair the proposal, cut, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm.choose.record import Scores, Selection
from topovlm.choose.scorers import SCORERS, Settings, find_scorer
from topovlm.console import Progress
from topovlm.pipeline.context import JUDGE_SAMPLES, Context
from topovlm.pipeline.rundir import HIDDEN, Record
from topovlm.records import plain, read, write

if TYPE_CHECKING:
    from topovlm.choose.record import JudgeRecord, ScoreResult
    from topovlm.report import document as doc

BY_HAND = "by hand"
SCORES, SELECTION = "scores.json", "selection.json"
_STATES = f"{HIDDEN}/results/states.npy"
# How many sets of layers the judge may try.
_JUDGEMENTS = 120
# Calibration samples that a repair is fitted on: enough for small widths, minutes for large models.
_REPAIR_SAMPLES = 128


def check_inputs(context: Context) -> None:
    """Refuse, before anything runs, layers and scorers that do not exist, and samples that are broken."""
    from topovlm.checkpoint.surgery import check_drop
    from topovlm.evaluation.evaluate import check_samples

    check_drop(context.config.drop or (), context.source.layers)
    for name in (context.config.scorer, *SCORERS):  # all of them run, plug-ins too
        find_scorer(name)
    if context.user_samples is not None:
        context.calibration_samples()
        if held_out := context.held_out_samples():
            check_samples(context.task, held_out)


def score(context: Context) -> Record:
    """scores.json: every layer's score by every scorer, on the same hidden states."""
    config = context.config
    inputs = {
        **context.base,
        **context.data_inputs,
        "samples": config.samples,
        "scorer": config.scorer,
        "scorers": SCORERS.origins(),
        "k": config.k,
    }

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        import numpy as np

        from topovlm.choose.calibration import collect_states
        from topovlm.choose.scoring import count_bars, score_all
        from topovlm.topology.zigzag import zigzag_barcode

        samples = context.calibration_samples()
        states = collect_states(context.source.folder, samples, progress=progress)
        k = min(config.k, len(samples) - 1)
        barcode = zigzag_barcode(states, k=k, max_homology_dim=1)
        results = score_all(states, Settings(k=k, seed=config.seed, barcode=barcode))
        (work / _STATES).parent.mkdir(parents=True)
        np.save(work / _STATES, states)
        scores = Scores(
            scorer=config.scorer,
            k=k,
            samples=len(samples),
            sample_source=context.sample_source,
            scorers=results,
            barcode=count_bars(barcode),
        )
        write(work / SCORES, scores)
        return {"k": k, "samples": len(samples), "scores": list(results[config.scorer].scores)}

    return context.run.stage("score", inputs, [SCORES, _STATES], make)


def read_scores(root: Path) -> Scores:
    """scores.json of a run directory."""
    return read(root / SCORES, Scores, field="scores")


def read_selection(root: Path) -> Selection:
    """selection.json of a run directory."""
    return read(root / SELECTION, Selection, field="selection")


def select(context: Context, keep: int, scored: Record) -> Record:
    """selection.json: the layers that go so that `keep` stay, and what every scorer proposed."""
    config, layers = context.config, context.source.layers
    guarded = context.source.checkpoint.facts.protected_layers()
    inputs = {
        **context.base,
        **context.data_inputs,
        "scores": scored.digest,
        "keep": keep,
        "protected": sorted(guarded),
        "drop": None if config.drop is None else list(config.drop),
        "scorer": config.scorer,
        "samples": config.samples,
        "judge": [JUDGE_SAMPLES, _JUDGEMENTS],
    }

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.choose.scoring import propose

        ranked = _ranked(context, layers - keep, guarded)
        proposals = propose(ranked, layers - keep, guarded)
        judged = None
        if config.drop is not None:
            dropped = config.drop
        elif not find_scorer(config.scorer).judged:
            dropped = proposals[config.scorer]
        else:
            judged = _judge(context, proposals, guarded, progress)
            dropped = judged.search.dropped
        selection = Selection(
            scorer=BY_HAND if config.drop is not None else config.scorer,
            dropped=dropped,
            kept=tuple(layer for layer in range(layers) if layer not in dropped),
            protected=tuple(sorted(guarded)),
            proposals=proposals,
            scorers=ranked,
            judge=judged,
        )
        write(work / SELECTION, selection)
        return {"dropped": list(selection.dropped)}

    return context.run.stage("select", inputs, [SELECTION], make)


def _ranked(context: Context, drop_count: int, guarded: set[int]) -> dict[str, ScoreResult]:
    """Each scorer's scores for as many layers to drop; empty when layers are named by hand."""
    import numpy as np

    from topovlm.choose.scoring import score_for

    if context.config.drop is not None:
        return {}
    settings = Settings(seed=context.config.seed, drop_count=drop_count, protected=frozenset(guarded))
    return score_for(np.load(context.run.root / _STATES), read_scores(context.run.root), settings)


def _judge(
    context: Context, proposals: dict[str, tuple[int, ...]], guarded: set[int], progress: Progress
) -> JudgeRecord:
    from topovlm.checkpoint.live import load
    from topovlm.choose.judging import judge_proposals

    return judge_proposals(
        load(context.source.checkpoint),
        context.judge_samples(),
        proposals,
        guarded,
        start=context.config.scorer,
        budget=_JUDGEMENTS,
        seed=context.config.seed,
        shares_samples=context.judge_shares_samples,
        progress=progress,
    )


def prune(context: Context, dropped: list[int]) -> Record:
    """model/: the checkpoint without the dropped layers, verified against the dense model, then repaired.

    The repair is folded into weights that are there anyway, and kept only if it helps on samples of its own.
    """
    config = context.config
    repairing = config.repair == "auto" and find_scorer(config.scorer).judged
    # Nothing of --data is left that could say whether a repair helps.
    repairing = repairing and not context.judge_shares_samples
    inputs: dict[str, Any] = {**context.base, "drop": dropped, "repair": repairing}
    if repairing:
        inputs |= {**context.data_inputs, "samples": config.samples, "judge": JUDGE_SAMPLES}

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.checkpoint.live import load
        from topovlm.checkpoint.surgery import prune_checkpoint
        from topovlm.checkpoint.verify import verify_checkpoint

        live = load(context.source.checkpoint)
        surgery = prune_checkpoint(context.source.folder, work / "model", dropped)
        verified = verify_checkpoint(work / "model", dense=live, dropped=dropped)
        value = {"surgery": surgery.to_dict(), "verified": verified.to_dict(), "repair": None}
        if repairing:
            from topovlm.choose.repair.apply import repair_checkpoint

            repaired = repair_checkpoint(
                live,
                work / "model",
                dropped,
                context.calibration_samples()[:_REPAIR_SAMPLES],
                context.confirm_samples(),
                seed=config.seed,
                progress=progress,
            )
            value["repair"] = plain(repaired)
            if repaired.kept:
                again = verify_checkpoint(work / "model").to_dict()
                value["verified"] = {**again, "dense_difference": verified.dense_difference}
        return value

    return context.run.stage("prune", inputs, ["model"], make)


def verifications(pruned: Record) -> list[doc.Verification]:
    """What the reloaded checkpoint was asked."""
    from topovlm.checkpoint.verify import RELATIVE_TOLERANCE as LIMIT
    from topovlm.report import document as doc

    seen, kept = pruned.value["verified"], len(pruned.value["surgery"]["kept"])
    name, detail = "reload with stock transformers", f"{seen['tensors']} tensors, {seen['layers']} layers"
    checks = [doc.check(name, "slim", seen["layers"], "equal to", kept, detail=detail)]
    for name, value, detail in (
        ("cached = uncached generation", seen["cache_difference"], f"{seen['generated_tokens']} tokens"),
        ("surgery = dense with the layers bypassed", seen["dense_difference"], f"{seen['prompts']} prompts"),
    ):
        checks.append(doc.check(name, "slim", value, "at most", LIMIT, detail=detail))
    return checks
