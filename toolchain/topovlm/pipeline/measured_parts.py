"""The parts of the report that were measured: answers, timings, memory, the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from topovlm.pipeline.attempts import DENSE, SLIM
from topovlm.pipeline.context import numeric_versions
from topovlm.pipeline.measuring import phase_samples
from topovlm.pipeline.stages import BENCH_DENSE, BENCH_SLIM, EVALUATE_DENSE, EVALUATE_SLIM
from topovlm.report import document as doc

if TYPE_CHECKING:
    from topovlm.measure.timing import Comparison, EngineTimings
    from topovlm.pipeline.context import Context


def accuracy_part(context: Context) -> doc.Accuracy | None:
    """None without questions that have answers."""
    from topovlm.report.sections import accuracy_section

    dense, slim = (context.run.result(stage) for stage in (EVALUATE_DENSE, EVALUATE_SLIM))
    if dense is None or not dense.value.outcomes:
        return None
    return accuracy_section(
        dense.value.outcomes,
        None if slim is None else slim.value.outcomes,
        source=(f"ONNX Runtime {_onnxruntime()} CPU, {context.precision.exported} plain graphs"),
        sample_source=f"{context.data.source}, held out: no layer was chosen on them",
        task=context.data.task.name,
        seed=context.config.seed,
    )


def benchmarks_part(context: Context) -> tuple[doc.Benchmark, ...]:
    """Every public benchmark that was asked for."""
    from topovlm.pipeline.benching import benchmark_part

    dense, slim = (context.run.result(stage) for stage in (BENCH_DENSE, BENCH_SLIM))
    if dense is None:
        return ()
    source = f"ONNX Runtime {_onnxruntime()} CPU, {context.precision.exported} plain graphs"
    others = [None] * len(context.benches) if slim is None else slim.value.outcomes
    seed = context.config.seed
    return tuple(
        benchmark_part(bench, one, other, source, seed)
        for bench, one, other in zip(context.benches, dense.value.outcomes, others, strict=True)
    )


def latency_part(context: Context, timed: Comparison) -> doc.Latency:
    """Dense and slim timed in turns, in the precision of the graphs."""
    from topovlm.report.sections import latency_section

    dense, slim, asked = timed.engines[DENSE], timed.engines.get(SLIM), timed.workload
    workload = doc.Workload(
        images=asked.images,
        video_frames=asked.video_frames,
        image_height=asked.image_height,
        image_width=asked.image_width,
        visual_tokens=asked.visual_tokens,
        prompt_tokens=asked.prefill_tokens,
        new_tokens=asked.new_tokens,
        dtype=context.precision.exported,
    )
    return latency_section(
        phase_samples(dense),
        None if slim is None else phase_samples(slim),
        workload=workload,
        where=f"{context.where} ({timed.environment.cpu})",
        runtime=f"onnxruntime-{_provider(dense)}",
        variant=dense.variant,
        threads=dense.threads,
        warmup=timed.rules.warmup,
        order=["slim" if name == SLIM else "dense" for name in timed.order],
        is_target=context.on_target,
        memory=_memory(timed.engines, context.where),
        warnings=timed.warnings,
    )


def _provider(engine: EngineTimings) -> str:
    """`cpu`, `cuda`: what the decoder really ran on."""
    return engine.providers["decoder"][0].removesuffix("ExecutionProvider").lower()


def _memory(engines: Mapping[str, EngineTimings], where: str) -> list[doc.MemoryUse]:
    """Measured in a process of its own per model; absent where that failed."""
    dense, slim = engines[DENSE].footprint, engines[SLIM].footprint if SLIM in engines else None
    if dense is None:
        return []

    def figure(value: int) -> doc.Figure:
        return doc.Figure(
            value=value, unit="bytes", kind="measured", source=f"a fresh process on {where}", n=1
        )

    return [
        doc.MemoryUse(
            name=doc.PEAK_MEMORY,
            dense=figure(dense.peak_bytes),
            slim=None if slim is None else figure(slim.peak_bytes),
        ),
        doc.MemoryUse(
            name="added by the model at its peak",
            dense=figure(dense.model_bytes),
            slim=None if slim is None else figure(slim.model_bytes),
        ),
    ]


def environment_part(context: Context, timed: Comparison) -> doc.Environment:
    """The machine that was timed."""
    seen = timed.environment
    return doc.Environment(
        machine=seen.machine,
        cpu=seen.cpu,
        cores=seen.cores,
        memory_bytes=seen.memory_total_bytes or 0,
        system=seen.system,
        python=seen.python,
        threads=timed.engines[DENSE].threads,
        versions={**numeric_versions(), **seen.versions},
        providers=tuple(timed.engines[DENSE].providers["decoder"]),
        accelerator=", ".join(gpu["name"] for gpu in seen.gpus if "name" in gpu),
    )


def _onnxruntime() -> str:
    """Its version, whichever of its two packages is installed."""
    known = numeric_versions()
    return known.get("onnxruntime") or known.get("onnxruntime-gpu", "")
