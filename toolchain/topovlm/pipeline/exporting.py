"""ONNX folders of the dense and the slim model, and what TensorRT needs; each behind its numeric gate."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from topovlm.artifacts import link_or_copy
from topovlm.console import Progress
from topovlm.pipeline.context import ANSWER_TOKENS, Context, board_digest
from topovlm.pipeline.rundir import Record

BASELINE, DEPLOYED = "baseline", "onnx"


def _facts(report: Any) -> dict[str, Any]:
    """The export's own report, without the folder it was written to (it moves into place afterwards)."""
    facts: dict[str, Any] = report.to_dict()
    del facts["folder"]
    return facts


def export_dense(context: Context, dtype: str = "fp32") -> Record:
    """baseline/: the dense model's graphs, which every comparison runs on."""
    inputs = context.base if dtype == "fp32" else {**context.base, "dtype": dtype}

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.exporters.onnx.export import export_onnx

        return _facts(export_onnx(context.source.folder, work / BASELINE, dtype=dtype))

    return context.run.stage("export-dense", inputs, [BASELINE], make)


def export_slim(context: Context, pruned: Record) -> Record:
    """onnx/: the pruned model's graphs."""
    model = context.run.root / "model"

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.exporters.onnx.export import export_onnx

        return _facts(export_onnx(model, work / DEPLOYED))

    return context.run.stage("export", {**context.base, "pruned": pruned.outputs}, [DEPLOYED], make)


def deploy_dense(context: Context, dense: Record) -> Record:
    """onnx/: the dense graphs as they are, when the budget allows them (links where the disk can)."""

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        shutil.copytree(context.run.root / BASELINE, work / DEPLOYED, copy_function=link_or_copy)
        return dense.value

    return context.run.stage("export", {"dense": dense.outputs}, [DEPLOYED], make)


def check_tensorrt(context: Context) -> None:
    """Refuse, before anything runs, a target that TensorRT does not serve or cannot be built for here."""
    if "tensorrt" in context.config.format:
        from topovlm.exporters.tensorrt.export import check_target

        check_target(context.target)


def tensorrt(context: Context) -> Record:
    """tensorrt/<target>/: engines for an RTX card, a build bundle for a board that builds its own."""
    config, root = context.config, context.run.root
    pruned = context.run.records.get("prune")
    model = context.source.folder if pruned is None else root / "model"
    inputs = {
        **context.base,
        "pruned": None if pruned is None else pruned.outputs,
        "target": context.target.key,
        "board": board_digest(context.target),
        "images": config.images,
        "prompt_tokens": config.prompt_tokens,
        # An engine is built for a longest answer: one new token is a latency question, not a use.
        "new_tokens": max(config.new_tokens, ANSWER_TOKENS),
    }

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.exporters.tensorrt.export import deploy_tensorrt
        from topovlm.workload import Workload

        workload = Workload(
            images=config.images, prompt_tokens=config.prompt_tokens, new_tokens=inputs["new_tokens"]
        )
        folder = work / "tensorrt" / context.target.key
        return _facts(deploy_tensorrt(model, folder, context.target, workload))

    return context.run.stage("tensorrt", inputs, ["tensorrt"], make)
