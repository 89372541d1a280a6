"""report.json, report.md, report.html and run.json: the last stage."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from topovlm import __version__, artifacts
from topovlm.checkpoint.files import open_checkpoint
from topovlm.console import Progress
from topovlm.pipeline import assemble, choosing
from topovlm.pipeline.context import Context, versions
from topovlm.pipeline.measuring import phase_samples, read_outcomes
from topovlm.pipeline.rundir import RUN_FILE, Record
from topovlm.pipeline.selected import selection_part
from topovlm.report import document as doc

REPORT_FILES = ("report.json", "report.md", "report.html")


def write_report(context: Context, argv: list[str], attempts: list[dict[str, Any]]) -> Record:
    """The report stage: everything the stages recorded, in three forms."""
    records = dict(context.run.records)
    inputs = {name: record.digest for name, record in records.items()}
    inputs["attempts"] = artifacts.digest_of(attempts)

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.report.html import write_reports
        from topovlm.report.identity import content_hash

        report = build_report(context, argv, attempts)
        write_reports(report, work)
        return {"content_hash": content_hash(report)}

    return context.run.stage("report", inputs, REPORT_FILES, make)


def build_report(context: Context, argv: list[str], attempts: list[dict[str, Any]]) -> doc.Report:
    """The report document from the records of the stages that ran."""
    records, root = context.run.records, context.run.root
    plan = records["plan"].value
    pruned = records.get("prune")
    dense = assemble.model_part(context.source.checkpoint, context.source.display_name, context.model_digest)
    slim = None
    checks = assemble.parity_checks(records["export-dense"], "dense")
    if pruned is not None:
        name = (
            f"{context.source.display_name}, {len(pruned.value['surgery']['kept'])} of {dense.layers} layers"
        )
        slim = assemble.model_part(open_checkpoint(root / "model"), name, pruned.outputs["model"])
        checks = choosing.verifications(pruned) + assemble.parity_checks(records["export"], "slim") + checks
    checks += assemble.tensorrt_checks(records)
    return doc.Report(
        schema_version=doc.SCHEMA_VERSION,
        topovlm_version=__version__,
        title=f"{context.source.display_name} on {context.target.board.name}",
        target=assemble.target_part(context),
        workload=assemble.workload_part(plan),
        budget=assemble.budget_part(context.config, plan),
        plan=assemble.plan_part(plan, measured=context.on_target),
        dense=dense,
        slim=slim,
        selection=selection_part(context) if pruned is not None else None,
        accuracy=_accuracy(context),
        latency=_latency(context),
        artifacts=assemble.artifacts_part(root, records),
        verifications=tuple(checks),
        provenance=_provenance(context, attempts),
        run=assemble.run_part(context, argv, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())),
        environment=_environment(context),
    )


def _accuracy(context: Context) -> doc.Accuracy | None:
    from topovlm.report.sections import accuracy_section

    records = context.run.records
    if "evaluate-dense" not in records or not records["evaluate-dense"].value["questions"]:
        return None
    slim = read_outcomes(context, "evaluate-slim") if "evaluate-slim" in records else None
    return accuracy_section(
        read_outcomes(context, "evaluate-dense"),
        slim,
        source=f"ONNX Runtime {versions().get('onnxruntime', '')} CPU, fp32 plain graphs",
        sample_source=f"{context.sample_source}, held out: no layer was chosen on them",
        task=context.task.name,
        seed=context.config.seed,
    )


def _latency(context: Context) -> doc.Latency:
    from topovlm.report.sections import latency_section

    timings = context.run.records["measure"].value["timings"]
    engines, facts = timings["engines"], timings["workload"]
    slim = "slim" in engines
    workload = doc.Workload(
        images=facts["images"],
        image_height=facts["image_height"],
        image_width=facts["image_width"],
        visual_tokens=timings["visual_tokens"],
        prompt_tokens=facts["prompt_tokens"],
        new_tokens=facts["new_tokens"],
        dtype="fp32",
    )
    return latency_section(
        phase_samples(timings, "dense"),
        phase_samples(timings, "slim") if slim else None,
        workload=workload,
        where=f"{context.where} ({timings['environment']['cpu']})",
        runtime=f"onnxruntime-{_provider(engines['dense'])}",
        variant=engines["dense"]["variant"],
        threads=engines["dense"]["threads"],
        warmup=timings["rules"]["warmup"],
        order=timings["order"],
        is_target=context.on_target,
        memory=_memory(engines, context.where),
        warnings=timings["warnings"],
    )


def _provider(engine: dict[str, Any]) -> str:
    """`cpu`, `cuda`: what the decoder really ran on."""
    return str(engine["providers"]["decoder"][0]).removesuffix("ExecutionProvider").lower()


def _memory(engines: dict[str, Any], where: str) -> list[doc.MemoryUse]:
    """Measured in a process of its own per model; absent where that failed."""
    rows = {doc.PEAK_MEMORY: "peak_bytes", "added by the model at its peak": "model_bytes"}
    uses = []
    for name, key in rows.items():
        figures = {}
        for model, timing in engines.items():
            if timing["footprint"] is not None:
                figures[model] = doc.Figure(
                    value=timing["footprint"][key],
                    unit="bytes",
                    kind="measured",
                    source=f"a fresh process on {where}",
                    n=1,
                )
        if "dense" in figures:
            uses.append(doc.MemoryUse(name=name, dense=figures["dense"], slim=figures.get("slim")))
    return uses


def _environment(context: Context) -> doc.Environment:
    seen = context.run.records["measure"].value["timings"]["environment"]
    engines = context.run.records["measure"].value["timings"]["engines"]
    return doc.Environment(
        machine=seen["machine"],
        cpu=seen["cpu"],
        cores=seen["cores"],
        memory_bytes=seen["memory_total_bytes"] or 0,
        system=seen["system"],
        python=seen["python"],
        threads=context.config.threads,
        versions={**versions(), **seen["versions"]},
        providers=tuple(engines["dense"]["providers"]["decoder"]),
        accelerator=", ".join(gpu.get("name", "") for gpu in seen["gpus"]),
    )


def _provenance(context: Context, attempts: list[dict[str, Any]]) -> doc.Provenance:
    limits = list(context.notes)
    if not context.on_target:
        limits.append(f"nothing was timed on {context.target.board.name}: its figures are predictions")
    limits += assemble.tensorrt_limits(context.run.records)
    return doc.Provenance(
        model_source=context.source.display_name,
        model_licence=context.source.licence,
        data_source=context.sample_source,
        data_licence=context.task.licence,
        target_sources=tuple(context.target.board.provenance.values()),
        citations=assemble.CITATIONS,
        limits=tuple(limits),
    )


def write_run_file(context: Context, argv: list[str], attempts: list[dict[str, Any]], began: float) -> None:
    """run.json: how to repeat this run, and what went in and came out of each stage."""
    records = context.run.records
    artifacts.write_json(
        context.run.root / RUN_FILE,
        {
            "schema": 1,
            "argv": argv,
            "config": context.config.to_dict(),
            "seed": context.config.seed,
            "topovlm": __version__,
            "versions": versions(),
            "model": {
                "name": context.source.display_name,
                "sha256": context.model_digest,
                "licence": context.source.licence,
            },
            "attempts": attempts,
            "stages": {
                name: {
                    "seconds": round(record.seconds, 3),
                    "cached": record.cached,
                    "inputs_sha256": artifacts.digest_of(record.inputs),
                    "outputs_sha256": record.outputs,
                }
                for name, record in records.items()
            },
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "wall_s": round(time.perf_counter() - began, 3),
        },
    )
