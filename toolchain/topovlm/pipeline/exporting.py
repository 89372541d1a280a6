"""The chosen exporters: the measured one for the dense and the slim model, the others for what is deployed.

No exporter is known by name here: what --format chose is looped over, and each hands back a record.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from topovlm import exporters, records
from topovlm.artifacts import link_or_copy
from topovlm.console import Progress
from topovlm.exporters.protocol import RECORD_SCHEMA, ExportRecord, ExportRequest
from topovlm.pipeline.context import ANSWER_TOKENS, Context, board_digest
from topovlm.pipeline.rundir import Record
from topovlm.workload import Workload

BASELINE, DEPLOYED = "baseline", exporters.MEASURED
DENSE, SLIM = "export-dense", "export"  # stages of the measured exporter


def other_stages() -> tuple[str, ...]:
    """Stages of all known exporters but the measured one; each is named like its exporter."""
    return tuple(name for name in exporters.EXPORTERS.names() if name != exporters.MEASURED)


def request(context: Context, folder: Path, model: Literal["dense", "slim"]) -> ExportRequest:
    """What every chosen exporter is asked."""
    config = context.config
    # An engine is built for a longest answer: one new token is a latency question, not a use.
    new_tokens = max(config.new_tokens, ANSWER_TOKENS)
    workload = Workload(images=config.images, prompt_tokens=config.prompt_tokens, new_tokens=new_tokens)
    return ExportRequest(model_dir=folder, model=model, target=context.target, workload=workload)


def check(context: Context) -> None:
    """Refuse, before anything runs, what a chosen exporter would refuse later."""
    for name in context.config.format:
        exporters.EXPORTERS[name].check(request(context, context.source.folder, "dense"))


def export_dense(context: Context, dtype: str = "fp32") -> Record:
    """baseline/: the dense model's graphs, which every comparison runs on."""
    inputs = {**context.base, "record": RECORD_SCHEMA}
    if dtype != "fp32":
        inputs["dtype"] = dtype

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.exporters.onnx.export import export_onnx

        return _plain(export_onnx(context.source.folder, work / BASELINE, dtype=dtype))

    return context.run.stage(DENSE, inputs, [BASELINE], make)


def export_slim(context: Context, pruned: Record) -> Record:
    """onnx/: the pruned model's graphs."""
    asked = request(context, context.run.root / "model", "slim")
    inputs = {**context.base, "record": RECORD_SCHEMA, "pruned": pruned.outputs}

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        exporter = exporters.EXPORTERS[exporters.MEASURED]
        return _plain(exporter.export(asked, work / DEPLOYED, progress))

    return context.run.stage(SLIM, inputs, [DEPLOYED], make)


def deploy_dense(context: Context, dense: Record) -> Record:
    """onnx/: the dense graphs as they are, when the budget allows them (links where the disk can)."""

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        shutil.copytree(context.run.root / BASELINE, work / DEPLOYED, copy_function=link_or_copy)
        return dense.value

    return context.run.stage(SLIM, {"dense": dense.outputs}, [DEPLOYED], make)


def export_others(context: Context) -> None:
    """A folder for every other format that was chosen; those of formats that were not are taken away."""
    for name in other_stages():
        if name not in context.config.format:
            context.run.forget(name)
    for name in context.config.format:
        if name != exporters.MEASURED:
            _export_other(context, name)


def _export_other(context: Context, name: str) -> Record:
    config = context.config
    pruned = context.run.records.get("prune")
    dense = pruned is None
    folder = context.source.folder if dense else context.run.root / "model"
    asked = request(context, folder, "dense" if dense else "slim")
    inputs = {
        **context.base,
        "record": RECORD_SCHEMA,
        "exporter": exporters.EXPORTERS.origin(name),
        "pruned": None if pruned is None else pruned.outputs,
        "target": context.target.key,
        "board": board_digest(context.target),
        "images": config.images,
        "prompt_tokens": config.prompt_tokens,
        "new_tokens": asked.workload.new_tokens,
    }

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        return _plain(exporters.EXPORTERS[name].export(asked, work / name, progress))

    return context.run.stage(name, inputs, [name], make)


def exported(stages: Mapping[str, Record]) -> dict[str, ExportRecord]:
    """Stage name -> what its exporter recorded, of all exports among the stages, in their order."""
    names = {DENSE, SLIM, *other_stages()}
    return {
        name: records.convert(record.value, ExportRecord, field="stage", name=name, remedy="Run again")
        for name, record in stages.items()
        if name in names
    }


def _plain(record: ExportRecord) -> dict[str, Any]:
    facts: dict[str, Any] = records.plain(record)
    return facts
