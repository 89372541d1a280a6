"""Which layers go: score them on calibration samples, choose, cut the checkpoint, verify what is left."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from topovlm import artifacts
from topovlm.console import Progress
from topovlm.rundir import Record
from topovlm.stages.context import Context


def protected(context: Context) -> set[int]:
    """Layers that never go."""
    from topovlm.models.families import protected_layers

    return protected_layers(context.source.layers, context.source.checkpoint.family)


def check_drop(context: Context) -> None:
    """Refuse layers of --drop that the model does not have, before anything runs."""
    from topovlm.models.surgery import check_drop as check

    check(context.config.drop or (), context.source.layers)


def score(context: Context) -> Record:
    """scores.json: every layer's score by the chosen scorer, and by the others on the same states."""
    config = context.config
    inputs = {
        **context.base,
        **context.data_inputs,
        "samples": config.samples,
        "scorer": config.scorer,
        "k": config.k,
    }

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.calibration import collect_states
        from topovlm.selection.scorers import SCORERS
        from topovlm.selection.scorers import score as score_states

        samples = context.calibration_samples()
        states = collect_states(context.source.folder, samples, progress=progress)
        results = {name: score_states(states, scorer=name, k=config.k) for name in SCORERS}
        chosen = results.pop(config.scorer)
        document = {
            **asdict(chosen),
            "k": config.k,
            "samples": len(samples),
            "sample_source": context.sample_source,
            "others": [asdict(result) for result in results.values()],
        }
        artifacts.write_json(work / "scores.json", document)
        return {"scorer": chosen.scorer, "scores": list(chosen.scores), "samples": len(samples)}

    return context.run.stage("score", inputs, ["scores.json"], make)


def select(context: Context, keep: int, scored: Record) -> Record:
    """selection.json: the layers that go so that `keep` stay."""
    guarded = protected(context)
    drop = context.config.drop
    inputs = {
        "scores": scored.digest,
        "keep": keep,
        "protected": sorted(guarded),
        "drop": None if drop is None else list(drop),
    }

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.selection.scorers import select as select_layers

        layers = context.source.layers
        dropped = (
            list(drop) if drop is not None else select_layers(scored.value["scores"], layers - keep, guarded)
        )
        document = {
            "scorer": "by hand (--drop)" if drop is not None else scored.value["scorer"],
            "dropped": dropped,
            "kept": [layer for layer in range(layers) if layer not in dropped],
            "protected": sorted(guarded),
        }
        artifacts.write_json(work / "selection.json", document)
        return document

    return context.run.stage("select", inputs, ["selection.json"], make)


def prune(context: Context, dropped: list[int]) -> Record:
    """model/: the checkpoint without the dropped layers, reloaded with stock transformers and verified."""
    inputs = {**context.base, "drop": dropped}

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.models.surgery import prune_checkpoint
        from topovlm.models.verify import verify_checkpoint

        surgery = prune_checkpoint(context.source.folder, work / "model", dropped)
        verified = verify_checkpoint(work / "model")
        return {"surgery": surgery.to_dict(), "verified": asdict(verified)}

    return context.run.stage("prune", inputs, ["model"], make)
