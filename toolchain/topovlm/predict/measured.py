"""Predictions from a measured profile: each phase is a line in the number of decoder layers.

A profile holds for the model and the workload that it was measured with; another one is refused rather
than scaled. Layout of the file: see `probe.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from topovlm.errors import InputError, explain
from topovlm.families.shape import ModelShape
from topovlm.families.vision import visual_tokens
from topovlm.predict.interval import Interval
from topovlm.predict.surface import profile_at
from topovlm.predict.target import UNRECOGNISED, ResolvedTarget
from topovlm.workload import Workload

# A profile states its spread; a figure without one is trusted to this relative error.
_UNSTATED_SPREAD = 0.10
# Token counts may differ by this share (templates are counted a little differently by different tools).
_SAME_TOKENS = 0.10


@dataclass(frozen=True)
class MeasuredPhases:
    """Milliseconds at a depth; `memory_bytes` is None where the profile could not measure it."""

    vision_ms: Interval
    prefill_ms: Interval
    token_ms: Interval
    memory_bytes: Interval | None
    runtime: str
    source: str


def from_profile(
    profile: Mapping[str, Any], shape: ModelShape, workload: Workload, keep_layers: int
) -> MeasuredPhases:
    """Phases at `keep_layers`. Raises `InputError` for a broken profile, or one of something else."""
    tokens = visual_tokens(shape, workload) + workload.prompt_tokens
    profile = profile_at(
        profile, prefill_tokens=tokens, new_tokens=workload.new_tokens, keep_layers=keep_layers
    )
    check_fits(profile, shape, workload)
    try:
        affine, spread = profile["affine"], profile.get("spread")
        prefill = _line(affine["prefill"], "ms", keep_layers)
        token = _line(affine["decode"], "ms", keep_layers)
        vision = float(affine["vision_ms"])
        memory = profile.get("memory")
        peak = None
        if memory is not None:
            total = _line(memory, "bytes", keep_layers) + float(memory.get("libraries_bytes", 0.0))
            peak = Interval.around(total, _spread(spread, "memory"))
    except (KeyError, TypeError, ValueError) as error:
        rule = f"is not a usable profile ({type(error).__name__}: {error})"
        raise InputError(explain("profile", profile.get("target"), rule, "Measure again")) from None
    runtime = str(profile.get("runtime", "unknown runtime"))
    return MeasuredPhases(
        vision_ms=Interval.around(vision, _spread(spread, "vision")),
        prefill_ms=Interval.around(prefill, _spread(spread, "prefill")),
        token_ms=Interval.around(token, _spread(spread, "decode")),
        memory_bytes=peak,
        runtime=runtime,
        source=f"profile measured on {profile.get('target', 'this device')} with {runtime}",
    )


def check_fits(profile: Mapping[str, Any], shape: ModelShape, workload: Workload) -> None:
    """Raise `InputError` when the profile is of another depth, batch, or number of tokens."""
    layers = profile.get("layers")
    if layers is not None and layers != shape.total_layers:
        rule = f"was measured on a model of {layers} layers, this one has {shape.total_layers}"
        raise InputError(explain("profile", profile.get("target"), rule, "Measure this model"))
    measured = profile.get("workload") or {}
    visual = visual_tokens(shape, workload)
    wanted = {
        "visual_tokens": visual,
        "prefill_tokens": visual + workload.prompt_tokens,
        "batch": workload.batch,
    }
    for name, value in wanted.items():
        has = measured.get(name)
        if has is not None and abs(has - value) > _SAME_TOKENS * max(has, value):
            rule = f"was measured with {has} {name.replace('_', ' ')}, this workload has {value}"
            raise InputError(explain("profile", profile.get("target"), rule, "Measure this workload"))


def check_target(profile: Mapping[str, Any], target: ResolvedTarget) -> None:
    """Raise `InputError` when the profile was measured on another machine, or in another power mode."""
    measured_on = profile.get("target")
    if measured_on not in (target.board.id, UNRECOGNISED):
        rule = f"was measured on {measured_on!r}, the plan is for {target.board.id!r}"
        remedy = f"Plan with --target {measured_on}, or measure {target.board.id} itself (`topovlm profile`)"
        raise InputError(explain("profile", measured_on, rule, remedy))
    mode = str(profile.get("mode")).casefold().removeprefix("mode_")  # nvpmodel writes MODE_30W for 30W
    # Elsewhere the mode is a governor's name or unknown, which says nothing against the target's.
    if mode in {known.name.casefold() for known in target.board.modes} - {target.mode.name.casefold()}:
        rule = f"was measured in mode {profile['mode']!r}, the plan is for {target.key}"
        remedy = f"Plan with --mode {mode}, or measure in mode {target.mode.name}"
        raise InputError(explain("profile", measured_on, rule, remedy))


def check_model(profile: Mapping[str, Any], config_sha256: str, model: str) -> None:
    """Raise `InputError` when the profile was measured with a model of another config.json."""
    measured = profile.get("config_sha256")
    if measured is not None and measured != config_sha256:
        rule = (
            f"was measured with a model of another configuration (sha256 {str(measured)[:12]}...) "
            f"than {model} (sha256 {config_sha256[:12]}...)"
        )
        remedy = f"Measure this model: `topovlm profile --model {model}`"
        raise InputError(explain("profile", profile.get("target"), rule, remedy))


def _line(line: Mapping[str, Any], unit: str, keep_layers: int) -> float:
    return max(0.0, float(line[f"intercept_{unit}"]) + float(line[f"slope_{unit}_per_layer"]) * keep_layers)


def _spread(spread: Any, phase: str) -> float:
    if isinstance(spread, Mapping):
        spread = spread.get(phase)
    return float(spread) if isinstance(spread, (int, float)) else _UNSTATED_SPREAD
