"""Predictions from a measured profile: each phase is a line in the number of decoder layers.

A profile holds for the model and the workload that it was measured with; another one is refused rather
than scaled. Other prompt lengths are interpolated where several were timed.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from topovlm.errors import InputError, explain
from topovlm.families.shape import ModelShape
from topovlm.families.vision import visual_tokens
from topovlm.predict.prediction_interval import PredictionInterval
from topovlm.predict.profile import Profile
from topovlm.predict.surface import first_token_line, usual_depth
from topovlm.predict.target import UNRECOGNISED, ResolvedTarget
from topovlm.workload import Workload

# A profile that does not state how well it knows the memory is trusted to this relative error.
_UNSTATED_SPREAD = 0.10
# Token counts may differ by this share (templates are counted a little differently by different tools).
_SAME_TOKENS = 0.10
# How far beyond the timed lengths a prediction may reach, as a factor.
_REACH = 2.0


@dataclass(frozen=True)
class MeasuredPhases:
    """Milliseconds at a depth; `memory_bytes` is None where the profile could not measure it."""

    vision_ms: PredictionInterval
    prefill_ms: PredictionInterval
    token_ms: PredictionInterval
    memory_bytes: PredictionInterval | None
    runtime: str
    source: str


def from_profile(profile: Profile, shape: ModelShape, workload: Workload, keep_layers: int) -> MeasuredPhases:
    """Phases at `keep_layers`. Raises `InputError` for a profile of something else."""
    tokens = visual_tokens(shape, workload) + workload.prompt_tokens
    profile = profile_at(
        profile, prefill_tokens=tokens, new_tokens=workload.new_tokens, keep_layers=keep_layers
    )
    check_fits(profile, shape, workload)
    affine, spread, memory = profile.affine, profile.spread, profile.memory
    peak = None
    if memory is not None:
        known = _UNSTATED_SPREAD if spread.memory is None else spread.memory
        peak = PredictionInterval.around(memory.at(keep_layers), known)
    return MeasuredPhases(
        vision_ms=PredictionInterval.around(affine.vision_ms, spread.vision),
        prefill_ms=PredictionInterval.around(affine.prefill.at(keep_layers), spread.prefill),
        token_ms=PredictionInterval.around(affine.decode.at(keep_layers), spread.decode),
        memory_bytes=peak,
        runtime=profile.runtime,
        source=f"profile measured on {profile.target} with {profile.runtime}",
    )


def profile_at(
    profile: Profile, *, prefill_tokens: int, new_tokens: int = 1, keep_layers: int | None = None
) -> Profile:
    """The profile as if measured with this prompt length: lines, spread and workload at other tokens.

    Where a phase bends over depth, its line is the one that holds at `keep_layers` (default: at three
    quarters of the layers, as the profile states it).
    `prefill_tokens` counts visual tokens too. Beyond the timed lengths the spread grows; more than twice
    beyond, and for profiles that hold one length only, the profile comes back as it is (and the predictor
    refuses it by its workload).
    """
    if len(profile.lengths) < 2 or prefill_tokens < 1:
        return profile
    embed, prefill, token = (profile.surfaces[name] for name in ("embed", "prefill", "token"))
    beyond = max(min(profile.lengths) / prefill_tokens, prefill_tokens / max(profile.lengths), 1.0)
    if beyond > _REACH:
        return profile
    noise, usual = profile.noise, usual_depth(profile.layers)
    context = prefill_tokens + new_tokens / 2
    bend = token.bend(context, usual) if keep_layers is None else 0.0
    return replace(
        profile,
        affine=replace(
            profile.affine,
            prefill=first_token_line(embed, prefill, prefill_tokens),
            decode=token.line(context, usual if keep_layers is None else keep_layers),
        ),
        spread=replace(
            profile.spread,
            prefill=(prefill.spread + noise["prefill"]) * beyond**2,
            decode=(token.spread + noise["token"] + bend) * beyond**2,
        ),
        workload=replace(
            profile.workload,
            prompt_tokens=prefill_tokens - profile.workload.visual_tokens,
            prefill_tokens=prefill_tokens,
            new_tokens=new_tokens,
        ),
    )


def check_fits(profile: Profile, shape: ModelShape, workload: Workload) -> None:
    """Raise `InputError` when the profile is of another depth, batch, or number of tokens."""
    if profile.layers != shape.total_layers:
        rule = f"was measured on a model of {profile.layers} layers, this one has {shape.total_layers}"
        raise InputError(explain("profile", profile.target, rule, "Measure this model"))
    visual, timed = visual_tokens(shape, workload), profile.workload
    counts = (
        ("visual tokens", timed.visual_tokens, visual),
        ("prefill tokens", timed.prefill_tokens, visual + workload.prompt_tokens),
        ("batch", timed.batch, workload.batch),
    )
    for name, has, value in counts:
        if abs(has - value) > _SAME_TOKENS * max(has, value):
            rule = f"was measured with {has} {name}, this workload has {value}"
            raise InputError(explain("profile", profile.target, rule, "Measure this workload"))


def check_target(profile: Profile, target: ResolvedTarget) -> None:
    """Raise `InputError` when the profile was measured on another machine, or in another power mode."""
    measured_on = profile.target
    if measured_on not in (target.board.id, UNRECOGNISED):
        rule = f"was measured on {measured_on!r}, the plan is for {target.board.id!r}"
        remedy = f"Plan with --target {measured_on}, or measure {target.board.id} itself (`topovlm profile`)"
        raise InputError(explain("profile", measured_on, rule, remedy))
    mode = profile.mode.casefold().removeprefix("mode_")  # nvpmodel writes MODE_30W for 30W
    # Elsewhere the mode is a governor's name or unknown, which says nothing against the target's.
    if mode in {known.name.casefold() for known in target.board.modes} - {target.mode.name.casefold()}:
        rule = f"was measured in mode {profile.mode!r}, the plan is for {target.key}"
        remedy = f"Plan with --mode {mode}, or measure in mode {target.mode.name}"
        raise InputError(explain("profile", measured_on, rule, remedy))


def check_model(profile: Profile, config_sha256: str, model: str) -> None:
    """Raise `InputError` when the profile was measured with a model of another config.json."""
    measured = profile.config_sha256
    if measured is not None and measured != config_sha256:
        rule = (
            f"was measured with a model of another configuration (sha256 {measured[:12]}...) "
            f"than {model} (sha256 {config_sha256[:12]}...)"
        )
        remedy = f"Measure this model: `topovlm profile --model {model}`"
        raise InputError(explain("profile", profile.target, rule, remedy))
