"""Times from a board's data sheet and what is known of its constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from topovlm.errors import InputError, explain
from topovlm.families.shape import ModelShape
from topovlm.families.vision import vision_flop, vision_work
from topovlm.predict.board import BoardEfficiency
from topovlm.predict.efficiencies import spoken_for
from topovlm.predict.knowledge import Estimate, Knowledge
from topovlm.predict.levels import setting_of
from topovlm.predict.origin import ORIGIN, describe, missing_rows
from topovlm.predict.phases import FORMS, Machine, Work, overhead_s
from topovlm.predict.prediction_interval import ZERO, PredictionInterval
from topovlm.predict.runtimes import engine, passes
from topovlm.predict.target import ResolvedTarget
from topovlm.predict.vision_reads import tower_bytes
from topovlm.predict.weight_formats import (
    ACTIVATION_BYTES,
    FORMATS,
    WeightFormat,
    arithmetic,
    attention_arithmetic,
    stored,
)
from topovlm.workload import Workload

# Below this share of the smallest published layer, a prediction is an extrapolation.
_TINY_SHARE = 0.5
# Below this share of the fewest multiprocessor clocks per byte, nothing tells when they hold up the reads.
_FEWER = 0.9
_TOWER = "fp16"  # towers run in it, whatever the decoder's weights are, but beside an fp32 decoder


@dataclass(frozen=True)
class Phases:
    """Milliseconds, and where they come from in words."""

    vision_ms: PredictionInterval
    prefill_ms: PredictionInterval
    token_ms: PredictionInterval
    ttft_ms: PredictionInterval
    source: str


@dataclass(frozen=True)
class Timed:
    """A phase's time: seconds, interval, origin in words; `estimate` is None for a board's own constants.

    `missing`: of what no row was published, in words.
    """

    seconds: float
    interval_ms: PredictionInterval
    origin: str
    estimate: Estimate | None
    missing: tuple[str, ...] = ()


def supported_dtypes(target: ResolvedTarget) -> list[str]:
    """Weight formats whose arithmetic the target has, in the order of the formats table."""
    if target.board.gpu is None:
        return ["fp32", "fp16", "int8"]
    return [name for name, fmt in FORMATS.items() if target.peak_flop_per_s(fmt.arithmetic) is not None]


def from_data_sheet(
    shape: ModelShape,
    workload: Workload,
    target: ResolvedTarget,
    *,
    keep: int,
    fmt: WeightFormat,
    runtime: str,
    knowledge: Knowledge,
) -> Phases:
    """All phases with `keep` decoder layers."""
    timed = timed_phases(shape, workload, target, keep=keep, fmt=fmt, runtime=runtime, knowledge=knowledge)
    vision_ms = timed["vision"].interval_ms if "vision" in timed else ZERO
    prefill_ms, token_ms = timed["prefill"].interval_ms, timed["decode"].interval_ms
    ttft_ms = vision_ms + prefill_ms
    parts = first_token_parts(timed)
    if knowledge.corrections and parts:
        # A measured sum ties its parts: what one has too much the other has too little.
        factor = max(part.known.factor for part in parts)
        spread = math.expm1(min(factor * knowledge.joint_deviation(parts), 20.0))
        ttft_ms = PredictionInterval.around(ttft_ms.value, spread)
    told = describe(
        {phase: found.origin for phase, found in timed.items()},
        {phase: found.missing for phase, found in timed.items()},
        (runtime, spoken_for(runtime)),
        len(knowledge.corrections),
    )
    return Phases(vision_ms, prefill_ms, token_ms, ttft_ms, f"data sheet of {target.key}; {told}")


def first_token_parts(timed: Mapping[str, Timed]) -> tuple[Estimate, ...]:
    """Estimates of the phases before the first token; none where the board's own constants gave one."""
    found = [timed[phase].estimate for phase in ("vision", "prefill") if phase in timed]
    return tuple(part for part in found if part is not None) if None not in found else ()


def timed_phases(
    shape: ModelShape,
    workload: Workload,
    target: ResolvedTarget,
    *,
    keep: int,
    fmt: WeightFormat,
    runtime: str,
    knowledge: Knowledge,
) -> dict[str, Timed]:
    """By phase; no "vision" where no picture is."""
    decoder, decode_work = shape.decoder, _decode_work(shape, workload, keep, fmt, runtime)
    machine, version = _machine(target, fmt, runtime), spoken_for(runtime)
    layers = {"decode": decoder.linear_params_per_layer, "prefill": decoder.linear_params_per_layer}
    works = {"prefill": _prefill_work(shape, workload, keep, fmt, runtime), "decode": decode_work}
    tower = _vision_work(shape, workload)
    if tower is not None and shape.vision is not None:
        works, layers = {"vision": tower, **works}, {**layers, "vision": shape.vision.linear_params_per_layer}
    given = None
    found: dict[str, Timed] = {}
    for phase in ("decode", *(name for name in works if name != "decode")):
        dtype = _TOWER if phase == "vision" else fmt.name
        own = _own(target, runtime, dtype, phase)
        if own is not None:
            found[phase] = _by_own(own, phase, works[phase], machine, given)
            given = given or {"bandwidth_share": own.efficiency}
            continue
        setting = setting_of(target.board, runtime, version, dtype)
        estimate = knowledge.estimate(
            phase, setting, works[phase], machine, given if phase == "prefill" else None
        )
        if phase == "decode":
            given = {"bandwidth_share": estimate.known.constants["bandwidth_share"]}
        found[phase] = _by_rows(estimate, works[phase], machine, knowledge, layers[phase])
    return {phase: found[phase] for phase in works}


def _by_own(
    own: BoardEfficiency, phase: str, work: Work, machine: Machine, given: Mapping[str, float] | None
) -> Timed:
    """With the constants of a target file."""
    constants = {
        "efficiency": own.efficiency,
        "bandwidth_share": own.efficiency if phase == "decode" else (given or {}).get("bandwidth_share", 1.0),
        "layer_clocks": own.layer_kcycles * 1e3,
        "bytes_per_sm_clock": own.bytes_per_sm_clock or math.inf,
        "attention_cost": 1.0,
        "chain_clocks": 0.0,
    }
    seconds = FORMS[phase](constants, work, machine)
    interval = PredictionInterval.around(seconds * 1e3, own.spread)
    of = f" of {own.runtime_versions}" if own.runtime_versions else ""
    return Timed(seconds, interval, f"{own.source}{of} in the target file", None)


def _by_rows(
    estimate: Estimate, work: Work, machine: Machine, knowledge: Knowledge, layer_params: float
) -> Timed:
    """From the published rows. For tiny layers the fixed cost may be anything from nothing up."""
    known = estimate.known
    interval = PredictionInterval.around(estimate.seconds * 1e3, estimate.spread)
    origin = ORIGIN[known.nearness]
    missing = () if known.nearness == "seen" else missing_rows(known.unseen)
    fit, runtime = knowledge.fits[known.phase], known.setting.runtime
    fewest = fit.least_sm_clocks_per_byte(runtime)
    if known.phase == "decode" and machine.sm_hz / machine.bandwidth_bytes_per_s < _FEWER * fewest:
        origin += ", with fewer multiprocessors on for its bandwidth than any row"
    if layer_params < _TINY_SHARE * fit.least_layer_params(runtime):
        fixed = overhead_s(known.constants, work, machine)
        low = max(0.0, estimate.seconds - fixed) * 1e3 / (1 + estimate.spread)
        interval = PredictionInterval(interval.value, min(low, interval.low), interval.high)
        origin += ", extrapolated to smaller layers than any published"
    return Timed(estimate.seconds, interval, origin, estimate, missing)


def _machine(target: ResolvedTarget, fmt: WeightFormat, runtime: str) -> Machine:
    machine = target.machine(arithmetic(fmt.name, runtime), attention_arithmetic(fmt.name))
    if machine is not None:
        return machine
    if target.mode.gpu_mhz is None or target.bandwidth_bytes_per_s is None:
        rule = "has no data-sheet figures to predict from"
        raise InputError(explain("--target", target.key, rule, "Measure it: `topovlm profile`"))
    remedy = f"It has {', '.join(supported_dtypes(target))}"
    raise InputError(explain("--dtype", fmt.name, f"{target.board.id} has no such arithmetic", remedy))


def _vision_work(shape: ModelShape, workload: Workload) -> Work | None:
    pictures, vision, batch = vision_work(shape, workload), shape.vision, workload.batch
    if vision is None or not pictures.sequences:
        return None
    patches = batch * pictures.sequences * pictures.patches
    return Work(
        layers=vision.layers,
        linear_flop=batch * vision_flop(vision, pictures),
        read_bytes=tower_bytes(vision.layers, vision.linear_params_per_layer, vision.hidden, patches),
    )


def _prefill_work(shape: ModelShape, workload: Workload, keep: int, fmt: WeightFormat, runtime: str) -> Work:
    decoder, batch, held = shape.decoder, workload.batch, stored(fmt.name, runtime, shape.decoder.hidden)
    prompt = vision_work(shape, workload).tokens + workload.prompt_tokens
    # Of a mixture of experts a token goes through the active ones; a prompt's tokens read all of them.
    weights, active = keep * decoder.linear_params_per_layer, keep * decoder.used_params_per_layer()
    # Causal: a token attends to half of the prompt on average, in two products.
    attended = prompt * decoder.attended_tokens(prompt) * decoder.heads * decoder.head_dim
    return Work(
        layers=keep,
        linear_flop=2.0 * batch * prompt * active,
        attention_flop=2.0 * batch * attended * keep,
        weight_bytes=weights * held.weight_bits / 8,
        head_bytes=decoder.head_params * held.head_bits / 8,
        tokens=max(1, prompt),
        passes=passes(runtime, prompt),
        side=decoder.used_params_per_layer() ** 0.5,
    )


def _decode_work(shape: ModelShape, workload: Workload, keep: int, fmt: WeightFormat, runtime: str) -> Work:
    decoder, batch, held = shape.decoder, workload.batch, stored(fmt.name, runtime, shape.decoder.hidden)
    prompt = vision_work(shape, workload).tokens + workload.prompt_tokens
    context = decoder.attended_tokens(prompt + workload.new_tokens / 2)
    cache = batch * context * keep * decoder.kv_values_per_token_layer * ACTIVATION_BYTES
    weights = keep * decoder.used_params_per_layer(batch)
    head = decoder.head_params * held.head_bits / 8
    return Work(layers=keep, read_bytes=weights * held.weight_bits / 8 + head + cache)


def _own(target: ResolvedTarget, runtime: str, dtype: str, phase: str) -> BoardEfficiency | None:
    """The board's own constants where its file has them; a runtime's count for those of its kernels."""
    for own in target.board.efficiencies:
        alike = own.phase == phase and own.runtime in {runtime, engine(runtime)}
        if alike and (phase == "vision" or own.dtype == dtype):
            return own
    return None
