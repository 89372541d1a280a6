"""The parts of the report that come from the plan, the model and the stages' records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from topovlm import artifacts
from topovlm.checkpoint.files import Checkpoint
from topovlm.config import Config
from topovlm.exporters.protocol import Artifact, ExportRecord
from topovlm.pipeline.context import Context
from topovlm.pipeline.rundir import Record
from topovlm.predict.cost import DEFAULT_RUNTIME
from topovlm.report import document as doc

CITATIONS = ("arXiv:2410.11042 (ICML 2025)", "arXiv:2604.16502 (version 2 marked as withdrawn)")


def target_part(context: Context) -> doc.Target:
    """The board that the run is for."""
    target, facts = context.target, context.target.to_dict()
    plain = {name: value for name, value in facts.items() if isinstance(value, (str, int, float)) and value}
    return doc.Target(
        requested=context.config.target or "",
        key=target.key,
        board=target.board.name,
        mode=target.mode.name,
        runtime=context.run.records["profile"].value["runtime"] if context.on_target else DEFAULT_RUNTIME,
        alias_of=target.alias_of,
        siblings=tuple(target.siblings),
        facts={name: float(value) if isinstance(value, int) else value for name, value in plain.items()},
    )


def workload_part(plan: dict[str, Any]) -> doc.Workload:
    """The workload of the plan; `prompt_tokens` counts the whole prefill here."""
    facts = plan["workload"]
    return doc.Workload(
        images=facts["images"],
        image_height=facts["image_height"],
        image_width=facts["image_width"],
        visual_tokens=facts["visual_tokens"],
        prompt_tokens=facts["prompt_tokens"] + facts["visual_tokens"],
        new_tokens=facts["new_tokens"],
        batch=facts["batch"],
        dtype=plan["dtype"],
    )


def budget_part(config: Config, plan: dict[str, Any]) -> doc.Budget:
    """What was asked for, and the bound in ms that it resolved to."""
    latency = config.max_latency
    return doc.Budget(
        max_latency_ms=None if latency is None else latency.absolute_ms,
        max_latency_share=None if latency is None else latency.share_of_dense,
        max_token_latency_ms=config.max_token_latency_ms,
        max_memory_bytes=config.max_memory_bytes,
        sparsity=config.sparsity,
        latency_phase="end_to_end" if config.new_tokens > 1 else "ttft",
        latency_ms=plan["budget_ms"],
    )


def _predicted(interval: dict[str, float], unit: str, source: str) -> doc.Figure:
    return doc.Figure(
        value=interval["value"],
        unit=unit,
        kind="predicted",
        source=source,
        low=interval["low"],
        high=interval["high"],
    )


def plan_part(plan: dict[str, Any], *, measured: bool) -> doc.Plan:
    """The plan with one predicted row per number of layers kept."""
    rows = []
    for row in plan["rows"]:
        figures = {
            name: _predicted(row[f"{name}_ms"], "ms", row["source"])
            for name in ("vision", "prefill", "token", "ttft", "total")
        }
        memory = _predicted(row["memory_bytes"], "bytes", row["source"])
        rows.append(
            doc.PlanRow(
                kept=row["keep_layers"],
                memory=memory,
                exceeds=tuple(row["exceeds"]),
                at_risk=tuple(row["at_risk"]),
                fits=row["fits"],
                **figures,
            )
        )
    return doc.Plan(
        verdict=plan["verdict"],
        keep_layers=plan["keep_layers"],
        total_layers=plan["total_layers"],
        floor=plan["floor"]["name"],
        floor_text=plan["floor"]["text"],
        predictor="measured-here" if measured else "published",
        source=plan["source"],
        rows=tuple(rows),
        formats=tuple(doc.FormatPoint(**point) for point in plan.get("formats", ())),
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
        hidden_size=checkpoint.config[checkpoint.family.text_key].get("hidden_size"),
        path=str(checkpoint.folder),
    )


def artifacts_part(
    root: Path, stages: dict[str, Record], exports: Mapping[str, ExportRecord]
) -> tuple[doc.Artifact, ...]:
    """Every result folder with its size and digest; of exports, what their exporter says it is."""
    made = []
    for name, stage in stages.items():
        for output, digest in stage.outputs.items():
            folder = root / output
            if output == "model":
                rows = [
                    Artifact(path=".", format="checkpoint", loads_in=("transformers",), reproducible=True)
                ]
                model: Literal["dense", "slim"] = "slim"
            elif name in exports:
                rows, model = list(exports[name].artifacts), exports[name].model
            else:
                continue
            made += [
                doc.Artifact(
                    path=(Path(output) / row.path).as_posix(),
                    format=row.format,
                    title=row.title,
                    model=model,
                    bytes=sum(file.stat().st_size for file in artifacts.files_under(folder / row.path)),
                    sha256=digest if row.path == "." else artifacts.sha256_tree(folder / row.path),
                    reproducible=row.reproducible,
                    loads_in=row.loads_in,
                    checked=row.checked,
                )
                for row in rows
            ]
    return tuple(made)


def export_checks(exports: Mapping[str, ExportRecord]) -> list[doc.Verification]:
    """What was measured of every exported folder, each passed by its own figures.

    Dense graphs that are deployed as they are were checked once, as the baseline.
    """
    rows = dict.fromkeys((export.model, check) for export in exports.values() for check in export.checks)
    return [
        doc.check(check.name, model, check.value, check.rule, check.limit, detail=check.detail)
        for model, check in rows
    ]


def export_limits(exports: Mapping[str, ExportRecord]) -> list[str]:
    """What no check of this run says about the exported folders; each sentence once."""
    return list(dict.fromkeys(limit for export in exports.values() for limit in export.limits))


def run_part(context: Context, argv: list[str], created: str) -> doc.Run:
    """How the report came about; all of it volatile but the seed."""
    return doc.Run(
        seed=context.config.seed,
        argv=tuple(argv),
        created=created,
        config=context.config.to_dict(),
        stages=tuple(
            doc.Stage(name=record.name, seconds=round(record.seconds, 3), cached=record.cached)
            for record in context.run.records.values()
        ),
    )
