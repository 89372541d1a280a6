"""The parts of the report that come from the plan, the models and the exporters' records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from topovlm import artifacts
from topovlm.checkpoint.files import Checkpoint
from topovlm.config import Config
from topovlm.errors import VerificationError, explain
from topovlm.exporters.protocol import Artifact, ExportRecord
from topovlm.pipeline.stages import MODEL, PROFILE
from topovlm.planner.record import PlanRecord, PlanRow, PredictionInterval
from topovlm.predict.efficiencies import default_runtime
from topovlm.records import plain
from topovlm.report import document as doc

if TYPE_CHECKING:
    from topovlm.pipeline.context import Context
    from topovlm.pipeline.record import Pruned
    from topovlm.pipeline.rundir import Record

CITATIONS = ("arXiv:2410.11042 (ICML 2025)", "arXiv:2604.16502 (version 2 marked as withdrawn)")
_CHECKPOINT = Artifact(path=".", format="checkpoint", loads_in=("transformers",), reproducible=True)
_LIKE_ITS_SOURCE = replace(_CHECKPOINT, loads_in=("the source's own code", "topovlm"))


def target_part(context: Context) -> doc.Target:
    """The board that the run is for."""
    target, profiled = context.target, context.run.result(PROFILE)
    facts: dict[str, str | float] = {}
    for name, value in plain(target.facts()).items():
        if isinstance(value, (str, int, float)) and value:
            facts[name] = value if isinstance(value, str) else float(value)
    return doc.Target(
        requested=context.config.target or "",
        key=target.key,
        board=target.board.name,
        mode=target.mode.name,
        runtime=default_runtime() if profiled is None else profiled.value.runtime,
        alias_of=target.alias_of,
        siblings=tuple(target.siblings),
        facts=facts,
    )


def workload_part(plan: PlanRecord) -> doc.Workload:
    """The workload of the plan; `prompt_tokens` counts the whole prefill here."""
    asked = plan.workload
    visual = asked.visual_tokens or 0
    return doc.Workload(
        images=asked.images,
        video_frames=asked.video_frames,
        image_height=asked.image_height,
        image_width=asked.image_width,
        visual_tokens=visual,
        prompt_tokens=asked.prompt_tokens + visual,
        new_tokens=asked.new_tokens,
        batch=asked.batch,
        dtype=plan.dtype,
    )


def budget_part(config: Config, plan: PlanRecord) -> doc.Budget:
    """What was asked for, and the bound in ms that it resolved to."""
    latency = config.max_latency
    return doc.Budget(
        max_latency_ms=None if latency is None else latency.absolute_ms,
        max_latency_share=None if latency is None else latency.share_of_dense,
        max_token_latency_ms=config.max_token_latency_ms,
        max_memory_bytes=config.max_memory_bytes,
        sparsity=config.sparsity,
        latency_phase="end_to_end" if config.new_tokens > 1 else "ttft",
        latency_ms=plan.budget_ms,
    )


def _predicted(interval: PredictionInterval, unit: str, source: str) -> doc.Figure:
    return doc.Figure(
        value=interval.value,
        unit=unit,
        kind="predicted",
        source=source,
        low=interval.low,
        high=interval.high,
    )


def _row(row: PlanRow) -> doc.PlanRow:
    return doc.PlanRow(
        kept=row.keep_layers,
        vision=_predicted(row.vision_ms, "ms", row.source),
        prefill=_predicted(row.prefill_ms, "ms", row.source),
        token=_predicted(row.token_ms, "ms", row.source),
        ttft=_predicted(row.ttft_ms, "ms", row.source),
        total=_predicted(row.total_ms, "ms", row.source),
        memory=_predicted(row.memory_bytes, "bytes", row.source),
        exceeds=row.exceeds,
        at_risk=row.at_risk,
        fits=row.fits,
    )


def plan_part(plan: PlanRecord, *, measured: bool) -> doc.Plan:
    """The plan with one predicted row per number of layers kept."""
    return doc.Plan(
        verdict=plan.verdict,
        keep_layers=plan.total_layers if plan.keep_layers is None else plan.keep_layers,
        total_layers=plan.total_layers,
        floor=plan.floor.name,
        floor_text=plan.floor.text,
        predictor="measured-here" if measured else "published",
        source=plan.source,
        rows=tuple(map(_row, plan.rows)),
        formats=tuple(
            doc.FormatPoint(
                dtype=point.dtype,
                kept=point.kept,
                latency_ms=point.latency_ms,
                memory_bytes=point.memory_bytes,
                fits=point.fits,
            )
            for found in plan.formats.values()
            for point in found.points
        ),
    )


def model_part(checkpoint: Checkpoint, name: str, digest: str) -> doc.Model:
    """Facts of a checkpoint, from its headers."""
    decoder = sum(e.elements for n, e in checkpoint.tensors.items() if checkpoint.layer_of(n) is not None)
    architectures = checkpoint.config.get("architectures") or [checkpoint.family.model_type]
    return doc.Model(
        name=name,
        architecture=str(architectures[0]),
        layers=checkpoint.layers,
        parameters=checkpoint.parameters,
        decoder_parameters=decoder,
        weight_bytes=checkpoint.weight_bytes,
        weights_sha256=digest,
        hidden_size=checkpoint.facts.shape.decoder.hidden,
        path=str(checkpoint.folder),
    )


def artifacts_part(
    root: Path,
    records: Mapping[str, Record[object]],
    exports: Mapping[str, ExportRecord],
    *,
    stock: bool = True,
) -> tuple[doc.Artifact, ...]:
    """Every result folder with its size and digest; of exports, what their exporter says it is.

    `stock`: whether transformers has a class for the model.
    """
    made: list[doc.Artifact] = []
    for name, record in records.items():
        for output, digest in record.outputs.items():
            if output == MODEL:
                row = _CHECKPOINT if stock else _LIKE_ITS_SOURCE
                made.append(_artifact(root, output, digest, row, "slim"))
            elif name in exports:
                export = exports[name]
                made += [_artifact(root, output, digest, row, export.model) for row in export.artifacts]
    return tuple(made)


def _artifact(
    root: Path, output: str, digest: str, row: Artifact, model: Literal["dense", "slim"]
) -> doc.Artifact:
    place = artifacts.inside(root / output, row.path)
    if place is None or not place.exists():
        rule = f"is nothing in {output}/, where its exporter says that it is"
        raise VerificationError(explain("artifact", row.path, rule, "Run in a new directory (-o)"))
    return doc.Artifact(
        path=(Path(output) / row.path).as_posix(),
        format=row.format,
        title=row.title,
        model=model,
        bytes=sum(file.stat().st_size for file in artifacts.files_under(place)),
        sha256=digest if row.path == "." else artifacts.sha256_tree(place),
        reproducible=row.reproducible,
        loads_in=row.loads_in,
        checked=row.checked,
    )


def export_checks(exports: Mapping[str, ExportRecord]) -> list[doc.Verification]:
    """What was measured of every exported folder, each passed by its own figures.

    Dense graphs that are deployed as they are were checked once, as the baseline.
    """
    rows = dict.fromkeys((export.model, check) for export in exports.values() for check in export.checks)
    return [
        doc.check(check.name, model, check.value, check.rule, check.limit, detail=check.detail)
        for model, check in rows
    ]


def checkpoint_checks(pruned: Pruned) -> list[doc.Verification]:
    """What the reloaded checkpoint was asked."""
    from topovlm.checkpoint.verify import RELATIVE_TOLERANCE as LIMIT

    seen, kept = pruned.verified, len(pruned.surgery.kept)
    size = f"{seen.tensors} tensors, {seen.layers} layers"
    reload = "reload with stock transformers" if pruned.surgery.stock else "reload with topovlm's own classes"
    checks = [doc.check(reload, "slim", seen.layers, "equal to", kept, detail=size)]
    for name, value, detail in (
        ("cached = uncached generation", seen.cache_difference, f"{seen.generated_tokens} tokens"),
        ("batch = one by one", seen.batch_difference, "prompts of different lengths"),
        ("surgery = dense with the layers bypassed", seen.dense_difference, f"{seen.prompts} prompts"),
    ):
        checks.append(doc.check(name, "slim", value, "at most", LIMIT, detail=detail))
    return checks


def export_limits(exports: Mapping[str, ExportRecord]) -> list[str]:
    """What no check of this run says about the exported folders; each sentence once."""
    return list(dict.fromkeys(limit for export in exports.values() for limit in export.limits))


def run_part(context: Context, argv: tuple[str, ...], created: str) -> doc.Run:
    """How the report came about; all of it volatile but the seed."""
    return doc.Run(
        seed=context.config.seed,
        argv=argv,
        created=created,
        config=plain(context.config),
        stages=tuple(
            doc.Stage(name=record.name, seconds=round(record.seconds, 3), cached=record.cached)
            for record in context.run.records.values()
        ),
    )
