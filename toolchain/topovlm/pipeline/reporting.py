"""report.json, report.md, report.html and run.json: the last stage."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from topovlm import artifacts, records
from topovlm.checkpoint.files import open_checkpoint
from topovlm.console import Progress
from topovlm.pipeline import assemble, exporting, measured_parts
from topovlm.pipeline.context import Context, numeric_versions
from topovlm.pipeline.record import Attempt, ModelSource, Reported, RunFile, StageFacts
from topovlm.pipeline.rundir import RUN_FILE
from topovlm.pipeline.selected import selection_part
from topovlm.pipeline.stages import MEASURE, MODEL, PLAN, PRUNE, REPORT, SCORE, SELECT
from topovlm.records import plain
from topovlm.report import document as doc
from topovlm.version import __version__

if TYPE_CHECKING:
    from topovlm.pipeline.record import Pruned
    from topovlm.pipeline.rundir import Record
    from topovlm.pipeline.stage import Stage

T = TypeVar("T")


def write_report(context: Context, argv: Sequence[str], attempts: Sequence[Attempt]) -> Record[Reported]:
    """The report stage: everything the stages recorded, in three forms."""
    before = {name.replace("-", "_"): record.digest for name, record in context.run.records.items()}

    def make(work: Path, progress: Progress) -> Reported:
        from topovlm.report.html import write_reports
        from topovlm.report.identity import content_hash

        report = build_report(context, tuple(argv))
        write_reports(report, work)
        return Reported(content_hash=content_hash(report))

    key = REPORT.key(context, attempts=artifacts.digest_of(plain(tuple(attempts))), **before)
    return context.run.stage(REPORT, key, make)


def _needed(context: Context, stage: Stage[T]) -> T:
    """What a stage gave that every deployment has."""
    record = context.run.result(stage)
    if record is None:
        raise RuntimeError(f"the stage {stage.name} did not run before the report")
    return record.value


def build_report(context: Context, argv: tuple[str, ...]) -> doc.Report:
    """The report document from the records of the stages that ran."""
    plan, timed = _needed(context, PLAN), _needed(context, MEASURE)
    pruned, name = context.run.result(PRUNE), context.source.display_name
    dense = assemble.model_part(context.source.checkpoint, name, context.model_digest)
    exports = exporting.exported(context)
    slim, selection = None, None
    checks: list[doc.Verification] = []
    if pruned is not None:
        kept = len(pruned.value.surgery.kept)
        opened = open_checkpoint(context.run.root / MODEL)
        slim = assemble.model_part(opened, f"{name}, {kept} of {dense.layers} layers", pruned.outputs[MODEL])
        selection = _selection(context, pruned.value)
        checks += assemble.checkpoint_checks(pruned.value)
    checks += assemble.export_checks(exports)
    return doc.Report(
        schema_version=doc.SCHEMA_VERSION,
        topovlm_version=__version__,
        title=f"{name} on {context.target.board.name}",
        target=assemble.target_part(context),
        workload=assemble.workload_part(plan),
        budget=assemble.budget_part(context.config, plan),
        plan=assemble.plan_part(plan, measured=context.on_target),
        dense=dense,
        slim=slim,
        selection=selection,
        accuracy=measured_parts.accuracy_part(context),
        benchmarks=measured_parts.benchmarks_part(context),
        latency=measured_parts.latency_part(context, timed),
        artifacts=assemble.artifacts_part(
            context.run.root, context.run.records, exports, stock=not context.source.checkpoint.family.native
        ),
        verifications=tuple(checks),
        provenance=_provenance(context, assemble.export_limits(exports)),
        run=assemble.run_part(context, argv, _now()),
        environment=measured_parts.environment_part(context, timed),
    )


def _selection(context: Context, pruned: Pruned) -> doc.Selection:
    scores, chosen = _needed(context, SCORE), _needed(context, SELECT)
    return selection_part(context.config.scorer, scores, chosen, pruned)


def _provenance(context: Context, limits: list[str]) -> doc.Provenance:
    unseen = [f"nothing was timed on {context.target.board.name}: its figures are predictions"]
    return doc.Provenance(
        model_source=context.source.display_name,
        model_licence=context.source.licence,
        data_source=context.data.source,
        data_licence=context.data.task.licence,
        target_sources=tuple(context.target.board.provenance.values()),
        citations=assemble.CITATIONS,
        limits=(*context.notes, *([] if context.on_target else unseen), *limits),
    )


def write_run_file(context: Context, argv: Sequence[str], attempts: Sequence[Attempt], began: float) -> None:
    """run.json: how to repeat this run, and what went in and came out of each stage."""
    config, source = context.config, context.source
    content = RunFile(
        argv=tuple(argv),
        repeat=("topovlm", "deploy", *config.words()),
        config=plain(config),
        seed=config.seed,
        topovlm=__version__,
        versions=numeric_versions(),
        model=ModelSource(name=source.display_name, sha256=context.model_digest, licence=source.licence),
        attempts=tuple(attempts),
        stages={
            name: StageFacts(
                seconds=round(record.seconds, 3),
                cached=record.cached,
                inputs_sha256=artifacts.digest_of(record.inputs),
                outputs_sha256=record.outputs,
            )
            for name, record in context.run.records.items()
        },
        finished=_now(),
        wall_s=round(time.perf_counter() - began, 3),
    )
    records.write(context.run.root / RUN_FILE, content)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
