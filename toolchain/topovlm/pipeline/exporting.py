"""The chosen exporters: the measured one for the dense and the slim model, the others for what is deployed.

No exporter is known by name here: what --format chose is looped over, and each hands back a record.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from topovlm import exporters
from topovlm.artifacts import link_or_copy
from topovlm.console import Progress
from topovlm.exporters.protocol import RECORD_SCHEMA, ExportRecord, ExportRequest
from topovlm.pipeline.question import workload_of
from topovlm.pipeline.stages import (
    BASELINE,
    DEPLOYED,
    EXPORT,
    EXPORT_DENSE,
    MODEL,
    PRUNE,
    REJECTED,
    fixed_stages,
    other_export,
    other_formats,
)

if TYPE_CHECKING:
    from topovlm.pipeline.context import Context
    from topovlm.pipeline.record import Pruned
    from topovlm.pipeline.rundir import Record


def check(context: Context) -> None:
    """Refuse, before anything runs, what a chosen exporter would refuse later."""
    for name in dict.fromkeys((exporters.MEASURED, *context.config.format)):
        request = _request(context, context.source.folder, "dense")
        exporters.EXPORTERS[name].check(replace(request, processor=context.dense.processor))


def _request(context: Context, folder: Path, model: Literal["dense", "slim"]) -> ExportRequest:
    """What the chosen exporters are asked; the workload has a longest answer.

    One new token is a latency question, not a use.
    """
    workload = workload_of(context.config, context.source.checkpoint.facts)
    longest = replace(workload, new_tokens=max(workload.new_tokens, context.constants.answer_tokens))
    return ExportRequest(
        model_dir=folder,
        model=model,
        target=context.target,
        workload=longest,
        dtype=context.precision.exported,
    )


def export_dense(context: Context) -> Record[ExportRecord]:
    """baseline/: the dense model's graphs, which every comparison runs on."""

    def make(work: Path, progress: Progress) -> ExportRecord:
        dtype = context.precision.exported
        # Graphs of the precision that torch has loaded come from the model that the other stages use.
        live = context.dense.live.model if dtype == "fp32" else None
        # Neither target nor workload: what is measured is the same whatever it is measured for.
        request = ExportRequest(
            model_dir=context.source.folder, dtype=dtype, live=live, processor=context.dense.processor
        )
        return exporters.EXPORTERS[exporters.MEASURED].export(request, work / BASELINE, progress)

    return context.run.stage(EXPORT_DENSE, EXPORT_DENSE.key(context, record=RECORD_SCHEMA), make)


def dense_graphs(context: Context) -> Record[ExportRecord]:
    """As `export_dense`; what this run has already is not looked at again."""
    return context.run.result(EXPORT_DENSE) or export_dense(context)


def export_slim(context: Context, pruned: Record[Pruned]) -> Record[ExportRecord]:
    """onnx/: the pruned model's graphs."""

    def make(work: Path, progress: Progress) -> ExportRecord:
        folder, dtype = context.run.root / MODEL, context.precision.exported
        request = ExportRequest(model_dir=folder, model="slim", dtype=dtype)
        return exporters.EXPORTERS[exporters.MEASURED].export(request, work / DEPLOYED, progress)

    return context.run.stage(EXPORT, EXPORT.key(context, record=RECORD_SCHEMA, pruned=pruned.outputs), make)


def deploy_dense(context: Context, dense: Record[ExportRecord]) -> Record[ExportRecord]:
    """onnx/: the dense graphs as they are, when the budget allows them (links where the disk can)."""

    def make(work: Path, progress: Progress) -> ExportRecord:
        shutil.copytree(context.run.root / BASELINE, work / DEPLOYED, copy_function=link_or_copy)
        return dense.value

    return context.run.stage(EXPORT, EXPORT.key(context, record=RECORD_SCHEMA, dense=dense.outputs), make)


def export_others(context: Context) -> None:
    """A folder for every other format that was chosen; those of formats that were not are taken away."""
    ours = {stage.name for stage in fixed_stages()}
    for name in context.run.names():  # also of plug-ins that are not installed any more
        if name not in (*ours, *context.config.format) and not name.startswith(REJECTED):
            context.run.forget(name)
    for name in context.config.format:
        if name != exporters.MEASURED:
            _export_other(context, name)


def _export_other(context: Context, name: str) -> None:
    pruned = context.run.result(PRUNE)
    dense = pruned is None
    folder = context.source.folder if dense else context.run.root / MODEL
    asked = _request(context, folder, "dense" if dense else "slim")
    stage = other_export(name)

    def make(work: Path, progress: Progress) -> ExportRecord:
        loaded = context.dense.live.model if dense and asked.dtype == "fp32" else None
        processor = context.dense.processor if dense else None
        request = replace(asked, live=loaded, processor=processor)
        return exporters.EXPORTERS[name].export(request, work / name, progress)

    key = stage.key(
        context,
        record=RECORD_SCHEMA,
        exporter=exporters.EXPORTERS.origin(name),
        source=context.model_digest if pruned is None else pruned.outputs,
    )
    context.run.stage(stage, key, make)


def exported(context: Context) -> dict[str, ExportRecord]:
    """Stage name -> what its exporter recorded, of all exports of this run, in their order."""
    stages = (EXPORT_DENSE, EXPORT, *map(other_export, other_formats()))
    records = {stage.name: context.run.result(stage) for stage in stages}
    return {name: record.value for name, record in records.items() if record is not None}
