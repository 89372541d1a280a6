"""Predict what a model costs on a target: vision, prefill, per token and memory, for any depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from topovlm.errors import InputError, explain
from topovlm.families.shape import ModelShape
from topovlm.families.vision import visual_tokens
from topovlm.predict.data_sheet import Phases, from_data_sheet, supported_dtypes
from topovlm.predict.efficiencies import coefficients, default_runtime, spoken_for
from topovlm.predict.knowledge import Knowledge
from topovlm.predict.measured import check_target, from_profile
from topovlm.predict.memory import MemoryEstimate, estimate_memory
from topovlm.predict.prediction_interval import PredictionInterval
from topovlm.predict.profile import Profile
from topovlm.predict.target import ResolvedTarget
from topovlm.predict.weight_formats import WeightFormat, weight_format
from topovlm.workload import Workload

__all__ = [
    "ModelShape",
    "Prediction",
    "Workload",
    "predict",
    "predict_measured",
    "supported_dtypes",
    "visual_tokens",
]


@lru_cache(maxsize=1)
def published() -> Knowledge:
    """What the published rows tell of every board."""
    return Knowledge.published(coefficients())


@dataclass(frozen=True)
class Prediction:
    """Figures for `keep_layers` layers. `total_ms` = `ttft_ms` + the remaining new tokens.

    `runtime_version`: what the figures speak for, "" where the rows name none.
    `kind` is always "predicted" (a profile predicts too: it was measured at other depths); `source`
    says from what. `memory` holds the parts, None where a profile measured the whole.
    """

    keep_layers: int
    dtype: str
    runtime: str
    runtime_version: str
    vision_ms: PredictionInterval
    prefill_ms: PredictionInterval
    token_ms: PredictionInterval
    ttft_ms: PredictionInterval
    total_ms: PredictionInterval
    memory_bytes: PredictionInterval
    memory: MemoryEstimate | None
    source: str
    kind: Literal["predicted"] = "predicted"


def predict(
    shape: ModelShape,
    workload: Workload,
    target: ResolvedTarget,
    keep_layers: int | None = None,
    dtype: str = "fp16",
    *,
    runtime: str | None = None,
    knowledge: Knowledge | None = None,
) -> Prediction:
    """Predict one configuration from the target's data sheet; all layers when `keep_layers` is None.

    `runtime`: default, the one that most was published for. `knowledge`: default, what was published; with a
    user's measurements, `predict.observed`. Raises `InputError` for an unsupported format, an impossible
    number of layers, or a target without a data sheet.
    """
    keep, fmt = _depth(shape, keep_layers), weight_format(dtype)
    runtime = runtime or default_runtime()
    found = from_data_sheet(
        shape, workload, target, keep=keep, fmt=fmt, runtime=runtime, knowledge=knowledge or published()
    )
    memory = estimate_memory(shape, workload, keep, fmt, coefficients().memory)
    return _prediction(workload, found, memory, keep=keep, fmt=fmt, runtime=(runtime, spoken_for(runtime)))


def predict_measured(
    shape: ModelShape,
    workload: Workload,
    profile: Profile,
    keep_layers: int | None = None,
    dtype: str = "fp16",
    *,
    target: ResolvedTarget | None = None,
) -> Prediction:
    """Predict one configuration from a measured profile; all layers when `keep_layers` is None.

    Where the profile has no memory, that of `dtype` is predicted. Raises `InputError` for an unknown format,
    an impossible number of layers, a profile of another model or workload, or of another target.
    """
    keep, fmt = _depth(shape, keep_layers), weight_format(dtype)
    if target is not None:
        check_target(profile, target)
    found = from_profile(profile, shape, workload, keep)
    memory: MemoryEstimate | PredictionInterval | None = found.memory_bytes
    if memory is None:
        memory = estimate_memory(shape, workload, keep, fmt, coefficients().memory)
    ttft = found.vision_ms + found.prefill_ms
    phases = Phases(found.vision_ms, found.prefill_ms, found.token_ms, ttft, found.source)
    return _prediction(workload, phases, memory, keep=keep, fmt=fmt, runtime=(found.runtime, ""))


def _depth(shape: ModelShape, keep_layers: int | None) -> int:
    keep = shape.total_layers if keep_layers is None else keep_layers
    if not 1 <= keep <= shape.total_layers:
        rule = f"must lie between 1 and the model's {shape.total_layers} layers"
        raise InputError(explain("keep_layers", keep, rule))
    return keep


def _prediction(
    workload: Workload,
    phases: Phases,
    memory: MemoryEstimate | PredictionInterval,
    *,
    keep: int,
    fmt: WeightFormat,
    runtime: tuple[str, str],
) -> Prediction:
    """Phases and memory -> all figures of a request. `runtime`: its name and version."""
    parts = memory if isinstance(memory, MemoryEstimate) else None
    return Prediction(
        keep_layers=keep,
        dtype=fmt.name,
        runtime=runtime[0],
        runtime_version=runtime[1],
        vision_ms=phases.vision_ms,
        prefill_ms=phases.prefill_ms,
        token_ms=phases.token_ms,
        ttft_ms=phases.ttft_ms,
        total_ms=phases.ttft_ms + phases.token_ms.scaled(workload.new_tokens - 1),
        memory_bytes=memory.total_bytes if isinstance(memory, MemoryEstimate) else memory,
        memory=parts,
        source=phases.source,
    )
