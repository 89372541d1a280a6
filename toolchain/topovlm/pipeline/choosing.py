"""Which layers go: score them on calibration samples, let the judge repair the proposal, cut, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm import artifacts
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.pipeline.context import JUDGE_SAMPLES, Context
from topovlm.pipeline.rundir import HIDDEN, Record

if TYPE_CHECKING:
    from topovlm.report import document as doc

BY_HAND = "by hand"
# Faithful to its paper: no judge, no repair.
_UNJUDGED = ("zigzag-seed",)
_STATES = f"{HIDDEN}/results/states.npy"
# How many sets of layers the judge may try.
_JUDGEMENTS = 120
# Calibration samples that a repair is fitted on: enough for small widths, minutes for large models.
_REPAIR_SAMPLES = 128


def check_inputs(context: Context) -> None:
    """Refuse, before anything runs, layers and scorers that do not exist, and samples that are broken."""
    from topovlm.checkpoint.surgery import check_drop
    from topovlm.choose.scorers import SCORERS
    from topovlm.evaluation.evaluate import check_samples

    check_drop(context.config.drop or (), context.source.layers)
    if context.config.scorer not in SCORERS:
        rule = f"is none of {', '.join(SCORERS)}"
        raise InputError(explain("--scorer", context.config.scorer, rule))
    if context.user_samples is not None:
        context.calibration_samples()
        if held_out := context.held_out_samples():
            check_samples(held_out)


def score(context: Context) -> Record:
    """scores.json: every layer's score by every scorer, on the same hidden states."""
    config = context.config
    inputs = {
        **context.base,
        **context.data_inputs,
        "samples": config.samples,
        "scorer": config.scorer,
        "k": config.k,
    }

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        import numpy as np

        from topovlm.choose.calibration import collect_states
        from topovlm.choose.scorers import SCORERS
        from topovlm.choose.scorers import score as score_states
        from topovlm.topology.zigzag import zigzag_barcode

        samples = context.calibration_samples()
        states = collect_states(context.source.folder, samples, progress=progress)
        k = min(config.k, len(samples) - 1)
        barcode = zigzag_barcode(states, k=k, max_homology_dim=1)
        results = {
            name: score_states(states, name, k, seed=config.seed, barcode=barcode).to_dict()
            for name in SCORERS
        }
        (work / _STATES).parent.mkdir(parents=True)
        np.save(work / _STATES, states)
        document = {
            "scorer": config.scorer,
            "k": k,
            "samples": len(samples),
            "sample_source": context.sample_source,
            "scorers": results,
            "barcode": _counted(barcode.bars),
        }
        artifacts.write_json(work / "scores.json", document)
        return {"k": k, "samples": len(samples), "scores": results[config.scorer]["scores"]}

    return context.run.stage("score", inputs, ["scores.json", _STATES], make)


def _counted(bars: Any) -> list[list[int]]:
    """Rows (dim, birth, death, count); death is the last index at which a bar is alive."""
    import numpy as np

    rows, counts = np.unique(bars, axis=0, return_counts=True)
    return [
        [int(dim), int(birth), int(death) - 1, int(n)]
        for (dim, birth, death), n in zip(rows.tolist(), counts.tolist(), strict=True)
    ]


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
        from topovlm.choose.scorers import select as take

        ranked = _ranked(context, layers - keep, guarded, scored)
        proposals = {name: take(result["scores"], layers - keep, guarded) for name, result in ranked.items()}
        judged = None
        if config.drop is not None:
            dropped = list(config.drop)
        elif config.scorer in _UNJUDGED:
            dropped = proposals[config.scorer]
        else:
            judged = _judge(context, proposals, guarded, progress)
            dropped = judged["dropped"]
        document = {
            "scorer": BY_HAND if config.drop is not None else config.scorer,
            "dropped": dropped,
            "kept": [layer for layer in range(layers) if layer not in dropped],
            "protected": sorted(guarded),
            "proposals": proposals,
            "scorers": ranked,
            "judge": judged,
        }
        artifacts.write_json(work / "selection.json", document)
        return document

    return context.run.stage("select", inputs, ["selection.json"], make)


def _ranked(
    context: Context, drop_count: int, guarded: set[int], scored: Record
) -> dict[str, dict[str, Any]]:
    """Each scorer's scores for as many layers to drop; empty when layers are named by hand."""
    import numpy as np

    from topovlm.choose.scorers import score as score_states

    if context.config.drop is not None:
        return {}
    known = artifacts.read_json(context.run.root / "scores.json")["scorers"]
    states = np.load(context.run.root / _STATES)
    ranked = {}
    for name, result in known.items():
        ranked[name] = result
        if not name.startswith("zigzag"):  # some depend on how many layers go; none needs the barcode
            ranked[name] = score_states(
                states,
                name,
                scored.value["k"],
                seed=context.config.seed,
                drop_count=drop_count,
                protected=guarded,
            ).to_dict()
    return ranked


def _judge(
    context: Context, proposals: dict[str, list[int]], guarded: set[int], progress: Progress
) -> dict[str, Any]:
    """KL to the dense model's own answers; swaps that help on one half, confirmed on the other."""
    from topovlm.checkpoint.live import load
    from topovlm.choose.judge import Judge
    from topovlm.choose.search import search, split_samples

    live = load(context.source.checkpoint)
    samples = context.judge_samples()
    choose, confirm = split_samples(samples, context.config.seed)
    if not confirm:  # a single picture: no other half
        choose, confirm = samples, []
    found = search(
        Judge(live, choose),
        proposals,
        context.source.layers,
        guarded,
        start=context.config.scorer,
        budget=_JUDGEMENTS,
        confirm=Judge(live, confirm) if confirm else None,
        progress=progress,
    )
    return {
        **found.to_dict(),
        "samples": len(choose),
        "confirm_samples": len(confirm),
        "shares_samples": context.judge_shares_samples,
    }


def prune(context: Context, dropped: list[int]) -> Record:
    """model/: the checkpoint without the dropped layers, verified against the dense model, then repaired.

    The repair is folded into weights that are there anyway, and kept only if it helps on samples of its own.
    """
    config = context.config
    repairing = config.repair == "auto" and config.scorer not in _UNJUDGED
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
            value["repair"] = repaired.to_dict()
            if repaired.kept:
                again = verify_checkpoint(work / "model").to_dict()
                value["verified"] = {**again, "dense_difference": verified.dense_difference}
        return value

    return context.run.stage("prune", inputs, ["model"], make)


def verifications(pruned: Record) -> list[doc.Verification]:
    """What the reloaded checkpoint was asked."""
    from topovlm.report import document as doc

    seen = pruned.value["verified"]
    rows = (
        ("reload with stock transformers", None, f"{seen['tensors']} tensors, {seen['layers']} layers"),
        ("cached = uncached generation", seen["cache_difference"], f"{seen['generated_tokens']} tokens"),
        ("surgery = dense with the layers bypassed", seen["dense_difference"], f"{seen['prompts']} prompts"),
    )
    return [
        doc.Verification(name=name, model="slim", passed=True, value=value, detail=detail)
        for name, value, detail in rows
    ]
