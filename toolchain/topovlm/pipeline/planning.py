"""What this machine (or the target's data sheet) can do, and how many layers the budget leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from topovlm import __version__
from topovlm.config import DTYPES, Config
from topovlm.console import Progress
from topovlm.errors import BudgetError, InputError, explain
from topovlm.pipeline.context import Context, board_digest, measured_on_target
from topovlm.pipeline.exporting import BASELINE
from topovlm.pipeline.measuring import timed_tokens, timing_progress, timing_rules
from topovlm.pipeline.rundir import Record
from topovlm.records import convert, plain, write

if TYPE_CHECKING:
    from topovlm.planner.record import PlanRecord
    from topovlm.planner.solve import Budgets, Plan
    from topovlm.predict.cost import ModelShape, Workload
    from topovlm.predict.profile import Profile
    from topovlm.predict.target import ResolvedTarget

_PICTURELESS_SIDE_PX = 224
_ANY_SIDE_PX = 448


@dataclass(frozen=True)
class Choices:
    """What a plan alone may be asked, besides the configuration; `None`: what the model says."""

    image_height: int | None = None  # px
    image_width: int | None = None
    visual_tokens: int | None = None
    confident: bool = False  # upper ends of all figures must fit, not only their central values


def plan_inputs(
    config: Config,
    target: ResolvedTarget,
    model_config: dict[str, Any],
    choices: Choices = Choices(),
    profile: Profile | None = None,
) -> dict[str, Any]:
    """Everything that the plan depends on besides a measured profile; JSON-able."""
    vision = model_config.get("vision_config")
    # Towers without a size of their own take any picture.
    side = (vision or {}).get("image_size") or (_ANY_SIDE_PX if vision else _PICTURELESS_SIDE_PX)
    sparsity = config.sparsity
    if config.drop is not None:
        from topovlm.checkpoint.surgery import check_drop

        layers = decoder_layers(model_config)
        sparsity = len(check_drop(config.drop, layers)) / layers
    return {
        "topovlm": __version__,
        "target": target.key,
        "board": board_digest(target),
        "model_config": model_config,
        "dtype": dtype_for(config, target, profile),
        "workload": {
            "images": config.images,
            "image_height": choices.image_height or side,
            "image_width": choices.image_width or side,
            "visual_tokens": choices.visual_tokens,
            "prompt_tokens": config.prompt_tokens,
            "new_tokens": config.new_tokens,
        },
        "max_latency": None if config.max_latency is None else str(config.max_latency),
        "max_token_latency_ms": config.max_token_latency,
        "max_memory_bytes": config.max_memory,
        "sparsity": sparsity,
    }


def dtype_for(config: Config, target: ResolvedTarget, profile: Profile | None = None) -> str:
    """The precision to plan for: what was measured, else what the target runs best, unless asked otherwise.

    Raises `InputError` for one that is not what was measured.
    """
    timed = None if profile is None else profile.dtype
    if timed is not None and timed in DTYPES:
        if config.dtype not in ("auto", timed):
            rule = f"is asked for, and the profile was measured in {timed}"
            remedy = f"Leave --dtype out, or measure with `topovlm profile --dtype {config.dtype}`"
            raise InputError(explain("--dtype", config.dtype, rule, remedy))
        return timed
    measured = measured_on_target(config, target)
    if measured and config.dtype not in ("auto", "fp32"):
        here = config.device == "local"
        machine, flags = ("this machine", "--target local") if here else ("the board", "--device")
        rule = f"{machine} is measured with the fp32 graphs that are deployed on it"
        raise InputError(explain("--dtype", config.dtype, rule, f"Leave --dtype out with {flags}"))
    if config.dtype != "auto":
        return config.dtype
    return "fp32" if measured else "fp16"


def compute_plan(
    config: Config,
    target: ResolvedTarget,
    model_config: dict[str, Any],
    profile: Profile | None = None,
) -> PlanRecord:
    """The plan as it is stored. An infeasible plan is returned, not raised."""
    return build_plan(config, target, model_config, profile).record()


def build_plan(
    config: Config,
    target: ResolvedTarget,
    model_config: dict[str, Any],
    profile: Profile | None = None,
    *,
    preprocessor: dict[str, Any] | None = None,
    choices: Choices = Choices(),
) -> Plan:
    """The plan for a model's config.json (and its image processor's). An infeasible one is returned too."""
    from topovlm.planner.advice import advise
    from topovlm.planner.solve import make_plan

    inputs = plan_inputs(config, target, model_config, choices, profile)
    shape, workload, budgets, kept = _question(config, inputs, model_config, preprocessor)
    plan = make_plan(
        shape,
        workload,
        target,
        budgets,
        inputs["dtype"],
        profile=profile,
        protected=kept,
        confident=choices.confident,
    )
    plan = advise(plan, shape, profile)
    if not _prunable(model_config):
        rule = "layers of this family cannot be removed yet: the plan says what its sizes allow"
        plan = replace(plan, notes=(*plan.notes, f"{model_config['model_type']}: {rule}"))
    return plan if config.drop is None else _held_to_drop(plan, len(config.drop))


def plan_formats(
    config: Config,
    target: ResolvedTarget,
    model_config: dict[str, Any],
    *,
    preprocessor: dict[str, Any] | None = None,
    choices: Choices = Choices(),
) -> dict[str, Plan]:
    """The same budget in every weight format of the target, from its data sheet."""
    from topovlm.planner.formats import plan_dtypes

    inputs = plan_inputs(config, target, model_config, choices)
    shape, workload, budgets, kept = _question(config, inputs, model_config, preprocessor)
    return plan_dtypes(shape, workload, target, budgets, protected=kept, confident=choices.confident)


def _question(
    config: Config, inputs: dict[str, Any], model_config: dict[str, Any], preprocessor: dict[str, Any] | None
) -> tuple[ModelShape, Workload, Budgets, set[int]]:
    """What a plan is asked: model, workload, budgets, layers that must stay."""
    from topovlm.planner.solve import Budgets
    from topovlm.predict.cost import ModelShape, Workload

    budgets = Budgets(
        max_latency=config.max_latency,
        max_token_latency_ms=config.max_token_latency,
        max_memory_bytes=config.max_memory,
        sparsity=inputs["sparsity"],
    )
    # Layers named by hand may be any: the user has looked.
    kept = protected(model_config) if config.drop is None else set()
    return ModelShape.from_config(model_config, preprocessor), Workload(**inputs["workload"]), budgets, kept


def _held_to_drop(plan: Plan, dropped: int) -> Plan:
    """--drop says exactly what goes: a budget that needs more to go is not met."""
    keep = plan.total_layers - dropped
    if plan.keep_layers is None or plan.keep_layers == keep:
        return plan
    text = f"the budget leaves {plan.keep_layers} layers, --drop leaves {keep}. {plan.floor.text}"
    return replace(plan, verdict="infeasible", keep_layers=None, floor=replace(plan.floor, text=text))


def protected(model_config: dict[str, Any]) -> set[int]:
    """Layers that never go."""
    from topovlm.families.records import FAMILIES, protected_layers

    return protected_layers(decoder_layers(model_config), FAMILIES.get(model_config.get("model_type", "")))


def decoder_layers(model_config: dict[str, Any]) -> int:
    """Layers of the decoder; old configurations leave the number out."""
    from topovlm.families.records import decoder_of, family_of, layer_count

    if not _prunable(model_config):
        from topovlm.predict.cost import ModelShape

        return ModelShape.from_config(model_config).total_layers
    family = family_of(model_config)
    return layer_count(model_config, family, decoder_of(model_config, family))


def _prunable(model_config: dict[str, Any]) -> bool:
    """Whether layers of this family can be removed; a checkpoint of another is refused before it is read."""
    from topovlm.families.records import FAMILIES

    return model_config.get("model_type") in FAMILIES


def refuse_infeasible(plan: PlanRecord) -> None:
    """Raise `BudgetError` naming the floor, and what would help, when the budget cannot be met."""
    if plan.verdict == "infeasible":
        raise BudgetError(". ".join([plan.summary, *plan.advice]))


def profile(context: Context, dense: Record) -> Record:
    """profile.json: the target timed on the dense graphs and on shallower cuts of them."""
    config = context.config
    inputs = {
        "graphs": dense.outputs,
        "images": config.images,
        "prompt_tokens": config.prompt_tokens,
        "new_tokens": config.new_tokens,
        **context.base,
        **context.timing,
    }

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        from topovlm.measure.settings import ProfileRequest, RunSettings

        rules = timing_rules(config)
        request = ProfileRequest(
            images=config.images,
            prompt_tokens=config.prompt_tokens,
            new_tokens=timed_tokens(config),
            rules=rules,
            run=RunSettings(threads=config.threads),
            scratch=work,
        )
        with context.device() as device:
            measured = device.profile(context.run.root / BASELINE, request, timing_progress(rules, progress))
        write(work / "profile.json", measured)
        value: dict[str, Any] = plain(measured)
        return value

    return context.run.stage("profile", inputs, ["profile.json"], make)


def measured_profile(profiled: Record) -> Profile:
    """What the profile stage measured."""
    from topovlm.predict.profile import Profile

    return convert(profiled.value, Profile, field="profile", name="profile.json")


def plan(context: Context, profiled: Record | None) -> Record:
    """plan.json. Raises `BudgetError` (after writing it) when the budget is infeasible."""
    from topovlm.planner.formats import format_plans
    from topovlm.planner.record import PlanRecord

    model_config = context.source.checkpoint.config
    measured = None if profiled is None else measured_profile(profiled)
    inputs = plan_inputs(context.config, context.target, model_config, profile=measured)
    inputs["profile"] = None if profiled is None else profiled.digest

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        planned = compute_plan(context.config, context.target, model_config, measured)
        if not context.on_target:
            formats = plan_formats(context.config, context.target, model_config)
            planned = structs.replace(planned, formats=format_plans(formats))
        write(work / "plan.json", planned)
        value: dict[str, Any] = plain(planned)
        return value

    record = context.run.stage("plan", inputs, ["plan.json"], make)
    refuse_infeasible(convert(record.value, PlanRecord, field="plan", name="plan.json"))
    return record
