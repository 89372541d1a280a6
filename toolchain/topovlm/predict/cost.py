"""Predict what a model costs on a target: vision, prefill, per token and memory, for any depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from topovlm.errors import InputError, explain
from topovlm.families.shape import ModelShape
from topovlm.families.vision import vision_flop, vision_work, visual_tokens
from topovlm.predict.efficiencies import Efficiency, Entry, coefficients, default_runtime, efficiency
from topovlm.predict.measured import check_target, from_profile
from topovlm.predict.memory import MemoryEstimate, estimate_memory
from topovlm.predict.phases import Machine, decode_s, overhead_s, prefill_s, vision_s
from topovlm.predict.prediction_interval import ZERO, PredictionInterval
from topovlm.predict.profile import Profile
from topovlm.predict.target import ResolvedTarget
from topovlm.predict.weight_formats import (
    ACTIVATION_BYTES,
    ATTENTION_ARITHMETIC,
    FORMATS,
    WeightFormat,
    weight_format,
)
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

# Below this share of the smallest published layer, a prediction is an extrapolation.
_TINY_SHARE = 0.5


@dataclass(frozen=True)
class Prediction:
    """Figures for `keep_layers` layers. `total_ms` = `ttft_ms` + the remaining new tokens.

    `kind` is always "predicted" (a profile predicts too: it was measured at other depths); `source`
    says from what. `memory` holds the parts, None where a profile measured the whole.
    """

    keep_layers: int
    dtype: str
    runtime: str
    vision_ms: PredictionInterval
    prefill_ms: PredictionInterval
    token_ms: PredictionInterval
    ttft_ms: PredictionInterval
    total_ms: PredictionInterval
    memory_bytes: PredictionInterval
    memory: MemoryEstimate | None
    source: str
    kind: Literal["predicted"] = "predicted"


def supported_dtypes(target: ResolvedTarget) -> list[str]:
    """Weight formats whose arithmetic the target has, in the order of the formats table."""
    if target.board.gpu is None:
        return ["fp32", "fp16", "int8"]
    return [name for name, fmt in FORMATS.items() if target.peak_flop_per_s(fmt.arithmetic) is not None]


def predict(
    shape: ModelShape,
    workload: Workload,
    target: ResolvedTarget,
    keep_layers: int | None = None,
    dtype: str = "fp16",
    *,
    runtime: str | None = None,
) -> Prediction:
    """Predict one configuration from the target's data sheet; all layers when `keep_layers` is None.

    `runtime`: default, the one that most was published for. Raises `InputError` for an unsupported format,
    an impossible number of layers, or a target without a data sheet.
    """
    keep, fmt = _depth(shape, keep_layers), weight_format(dtype)
    runtime = runtime or default_runtime()
    vision, prefill, token, source = _from_data_sheet(
        shape, workload, target, keep=keep, fmt=fmt, runtime=runtime
    )
    memory = estimate_memory(shape, workload, keep, fmt, coefficients().memory)
    return _prediction(
        workload, (vision, prefill, token), memory, keep=keep, dtype=dtype, runtime=runtime, source=source
    )


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
    phases = found.vision_ms, found.prefill_ms, found.token_ms
    return _prediction(
        workload, phases, memory, keep=keep, dtype=dtype, runtime=found.runtime, source=found.source
    )


def _depth(shape: ModelShape, keep_layers: int | None) -> int:
    keep = shape.total_layers if keep_layers is None else keep_layers
    if not 1 <= keep <= shape.total_layers:
        rule = f"must lie between 1 and the model's {shape.total_layers} layers"
        raise InputError(explain("keep_layers", keep, rule))
    return keep


def _prediction(
    workload: Workload,
    phases: tuple[PredictionInterval, PredictionInterval, PredictionInterval],
    memory: MemoryEstimate | PredictionInterval,
    *,
    keep: int,
    dtype: str,
    runtime: str,
    source: str,
) -> Prediction:
    """Phases (vision, prefill, one token; ms) and memory -> all figures of a request."""
    vision, prefill, token = phases
    ttft = vision + prefill
    parts = memory if isinstance(memory, MemoryEstimate) else None
    whole = memory.total_bytes if isinstance(memory, MemoryEstimate) else memory
    return Prediction(
        keep_layers=keep,
        dtype=dtype,
        runtime=runtime,
        vision_ms=vision,
        prefill_ms=prefill,
        token_ms=token,
        ttft_ms=ttft,
        total_ms=ttft + token.scaled(workload.new_tokens - 1),
        memory_bytes=whole,
        memory=parts,
        source=source,
    )


def _machine(target: ResolvedTarget, fmt: WeightFormat) -> Machine:
    arithmetic = target.peak_flop_per_s(fmt.arithmetic)
    attention = target.peak_flop_per_s(ATTENTION_ARITHMETIC)
    bandwidth, clock = target.bandwidth_bytes_per_s, target.mode.gpu_mhz
    if bandwidth is None or clock is None or attention is None:
        rule = "has no data-sheet figures to predict from"
        raise InputError(explain("--target", target.key, rule, "Measure it: `topovlm profile`"))
    if arithmetic is None:
        remedy = f"It has {', '.join(supported_dtypes(target))}"
        raise InputError(explain("--dtype", fmt.name, f"{target.board.id} has no such arithmetic", remedy))
    return Machine(arithmetic, attention, bandwidth, clock * 1e6)


def _from_data_sheet(
    shape: ModelShape,
    workload: Workload,
    target: ResolvedTarget,
    *,
    keep: int,
    fmt: WeightFormat,
    runtime: str,
) -> tuple[PredictionInterval, PredictionInterval, PredictionInterval, str]:
    """(vision, prefill, one token, source), milliseconds."""
    machine, decoder, batch = _machine(target, fmt), shape.decoder, workload.batch
    used = {phase: _efficiency(target, runtime, fmt.name, phase) for phase in ("prefill", "decode")}
    layer_params = dict.fromkeys(used, decoder.linear_params_per_layer)
    work = vision_work(shape, workload)
    vision = ZERO
    if shape.vision is not None and work.sequences:
        found = used["vision"] = _efficiency(target, runtime, fmt.name, "vision")
        layer_params["vision"] = shape.vision.linear_params_per_layer
        flop, layers = batch * vision_flop(shape.vision, work), shape.vision.layers
        seconds = vision_s(found.entry, flop, layers, machine)
        vision = _interval(found, seconds, overhead_s(found.entry, layers, machine), layer_params["vision"])
    prompt = work.tokens + workload.prompt_tokens
    # Of a mixture of experts a token goes through the active ones; a prompt's tokens read all of them.
    weights, active = keep * decoder.linear_params_per_layer, keep * decoder.used_params_per_layer()
    # Causal: a token attends to half of the prompt on average, in two products.
    attended = prompt * decoder.attended_tokens(prompt) * decoder.heads * decoder.head_dim
    prefill = prefill_s(
        used["prefill"].entry,
        used["decode"].entry.efficiency,
        machine,
        linear_flop=2.0 * batch * prompt * active,
        attention_flop=2.0 * batch * attended * keep,
        weight_bytes=weights * fmt.bytes_per_weight,
        layers=keep,
    )
    context = decoder.attended_tokens(prompt + workload.new_tokens / 2)
    cache = batch * context * keep * decoder.kv_values_per_token_layer * ACTIVATION_BYTES
    weights = keep * decoder.used_params_per_layer(batch)
    read = weights * fmt.bytes_per_weight + decoder.head_params * ACTIVATION_BYTES + cache
    token = decode_s(used["decode"].entry, read, keep, machine)
    overhead = {phase: overhead_s(used[phase].entry, keep, machine) for phase in ("prefill", "decode")}
    return (
        vision,
        _interval(used["prefill"], prefill, overhead["prefill"], layer_params["prefill"]),
        _interval(used["decode"], token, overhead["decode"], layer_params["decode"]),
        _source(target, used, layer_params),
    )


def _tiny(found: Efficiency, layer_params: float) -> bool:
    """Whether layers are so much smaller than any published ones that their fixed cost is a guess."""
    return layer_params < _TINY_SHARE * found.entry.least_layer_params


def _interval(found: Efficiency, seconds: float, overhead: float, layer_params: float) -> PredictionInterval:
    """Milliseconds. For tiny layers the fixed cost may be anything from nothing to that of larger ones."""
    around = PredictionInterval.around(seconds * 1e3, found.spread)
    if not _tiny(found, layer_params):
        return around
    return PredictionInterval(around.value, (seconds - overhead) * 1e3 / (1 + found.spread), around.high)


def _efficiency(target: ResolvedTarget, runtime: str, dtype: str, phase: str) -> Efficiency:
    """The board's own constants where its file has them, else those of its family."""
    for own in target.board.efficiencies:
        if (own.runtime, own.phase) == (runtime, phase) and (phase == "vision" or own.dtype == dtype):
            entry = Entry(
                family=target.board.family,
                runtime=runtime,
                dtype=own.dtype,
                phase=phase,
                efficiency=own.efficiency,
                layer_kcycles=own.layer_kcycles,
                host_us_per_layer=own.host_us_per_layer,
                overlap=own.overlap,
                rows=0,
                spread=own.spread,
                source=own.source,
            )
            return Efficiency(entry, own.spread, f"{own.source} in the target file")
    return efficiency(target.board.family, runtime, dtype, phase)


def _source(target: ResolvedTarget, used: Mapping[str, Efficiency], layer_params: Mapping[str, float]) -> str:
    """`data sheet of ...; vision, decode: fitted to published rows; prefill: borrowed from ...`."""
    by_origin: dict[str, list[str]] = {}
    for phase, found in used.items():
        origin = "fitted to published rows" if found.origin == "fitted" else found.origin
        if _tiny(found, layer_params[phase]):
            origin += ", extrapolated to smaller layers than any published"
        by_origin.setdefault(origin, []).append(phase)
    parts = [f"{', '.join(phases)}: {origin}" for origin, phases in by_origin.items()]
    return f"data sheet of {target.key}; " + "; ".join(parts)
