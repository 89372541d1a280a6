"""The parts of the report that come from the plan, the model and the stages' records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from topovlm.checkpoint.files import Checkpoint
from topovlm.config import Config
from topovlm.pipeline.context import Context
from topovlm.pipeline.rundir import Record
from topovlm.records import plain
from topovlm.report import document as doc

CITATIONS = ("arXiv:2410.11042 (ICML 2025)", "arXiv:2604.16502 (version 2 marked as withdrawn)")


def target_part(context: Context) -> doc.Target:
    """The board that the run is for."""
    target, facts = context.target, plain(context.target.facts())
    known = {name: value for name, value in facts.items() if isinstance(value, (str, int, float)) and value}
    return doc.Target(
        requested=context.config.target or "",
        key=target.key,
        board=target.board.name,
        mode=target.mode.name,
        runtime=context.run.records["profile"].value["runtime"] if context.on_target else "tensorrt",
        alias_of=target.alias_of,
        siblings=tuple(target.siblings),
        facts={name: float(value) if isinstance(value, int) else value for name, value in known.items()},
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


def budget_text(config: Config) -> str | None:
    """`--max-latency` as a person types it."""
    budget = config.max_latency
    if budget is None:
        return None
    share = budget.share_of_dense
    return f"{100 * share:g}%" if share is not None else str(budget).replace(" ", "")


def budget_part(config: Config, plan: dict[str, Any]) -> doc.Budget:
    """What was asked for, and the bound in ms that it resolved to."""
    return doc.Budget(
        max_latency=budget_text(config),
        max_token_latency_ms=config.max_token_latency,
        max_memory_bytes=config.max_memory,
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
        formats=tuple(
            doc.FormatPoint(**point) for found in plan["formats"].values() for point in found["points"]
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
        hidden_size=checkpoint.config[checkpoint.family.text_key].get("hidden_size"),
        path=str(checkpoint.folder),
    )


def artifacts_part(root: Path, records: dict[str, Record]) -> tuple[doc.Artifact, ...]:
    """Every result folder with its size and digest."""
    kinds: dict[str, tuple[str, str, tuple[str, ...]]] = {
        "model": ("checkpoint", "slim", ("transformers",)),
        "onnx": ("onnx", "slim" if "prune" in records else "dense", ("ONNX Runtime", "transformers.js")),
        "baseline": ("onnx", "dense", ("ONNX Runtime", "transformers.js")),
    }
    made = []
    for record in records.values():
        for output, digest in record.outputs.items():
            folder = root / output
            if output in kinds:
                form, model, clients = kinds[output]
            elif output.startswith("tensorrt"):
                form = f"tensorrt-{record.value['kind']}"
                model, clients = "slim" if "prune" in records else "dense", ("TensorRT",)
            else:
                continue
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            made.append(
                doc.Artifact(
                    path=output,
                    format=form,  # type: ignore[arg-type]
                    model=model,  # type: ignore[arg-type]
                    bytes=size,
                    sha256=digest,
                    reproducible=form == "checkpoint",
                    loads_in=clients,
                )
            )
    return tuple(made)


def parity_checks(exported: Record, model: str, dtype: str = "") -> list[doc.Verification]:
    """One verification per graph and prompt, and its negative controls; `dtype` names graphs apart."""
    checks = []
    for result in exported.value["parity"]:
        graph = f"{dtype} {result['graph']}".strip()
        name = f"ONNX = torch: {graph}, {result['prompt']}"
        limit = result["tolerance"] * result["max_logit"]
        detail = (
            f"worst logit error {result['max_logit_error']:.3g} over {result['decode_steps']} cached steps"
        )
        checks.append(
            doc.Verification(
                name=name,
                model=model,  # type: ignore[arg-type]
                passed=True,
                detail=detail,
                value=result["max_logit_error"],
                limit=limit,
            )
        )
        for control in ("position", "mask"):
            seen = result[f"control_{control}_error"]
            if seen is not None:
                checks.append(
                    doc.Verification(
                        name=f"negative control ({control}): {graph}, {result['prompt']}",
                        model=model,  # type: ignore[arg-type]
                        passed=True,
                        detail="the gate notices the broken input",
                        value=seen,
                        limit=limit,
                    )
                )
    return checks


def tensorrt_checks(records: dict[str, Record]) -> list[doc.Verification]:
    """Of the fp16 graphs that TensorRT builds from, run in ONNX Runtime; none without --format tensorrt."""
    if "tensorrt" not in records:
        return []
    return parity_checks(records["tensorrt"], "slim" if "prune" in records else "dense", "fp16 (TensorRT's)")


def tensorrt_limits(records: dict[str, Record]) -> list[str]:
    """What no check of this run says about TensorRT."""
    if "tensorrt" not in records:
        return []
    if records["tensorrt"].value["kind"] == "engine":
        return ["the TensorRT engines were built here and not run: the checks are of the graphs behind them"]
    return ["the TensorRT engines are built on the board: the checks are of the graphs behind them"]


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
