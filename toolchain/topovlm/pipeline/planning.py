"""What this machine (or the target's data sheet) can do, and how many layers the budget leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topovlm import __version__, artifacts
from topovlm.config import DTYPES, Config
from topovlm.console import Progress
from topovlm.errors import BudgetError, InputError, explain
from topovlm.pipeline.context import Context, board_digest, measured_on_target
from topovlm.pipeline.exporting import BASELINE
from topovlm.pipeline.measuring import timed_tokens, timing_progress, timing_rules
from topovlm.pipeline.rundir import Record
from topovlm.workload import Workload

if TYPE_CHECKING:
    from topovlm.families.facts import ModelFacts
    from topovlm.planner.solve import Budgets, Plan
    from topovlm.predict.target import ResolvedTarget


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
    model: ModelFacts,
    choices: Choices = Choices(),
    profile: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that the plan depends on besides a measured profile; JSON-able."""
    sparsity = config.sparsity
    if config.drop is not None:
        from topovlm.checkpoint.surgery import check_drop

        sparsity = len(check_drop(config.drop, model.layers)) / model.layers
    return {
        "topovlm": __version__,
        "target": target.key,
        "board": board_digest(target),
        "model_config": dict(model.config),
        "preprocessor": None if model.preprocessor is None else dict(model.preprocessor),
        "dtype": dtype_for(config, target, profile),
        "workload": asdict(workload_of(config, model, choices)),
        "max_latency": None if config.max_latency is None else str(config.max_latency),
        "max_token_latency_ms": config.max_token_latency,
        "max_memory_bytes": config.max_memory,
        "sparsity": sparsity,
    }


def workload_of(config: Config, model: ModelFacts, choices: Choices = Choices()) -> Workload:
    """The request that a plan, a deployment and its report are about."""
    height, width = choices.image_height, choices.image_width
    return model.workload(
        images=config.images,
        prompt_tokens=config.prompt_tokens,
        new_tokens=config.new_tokens,
        image_size=None if height is None or width is None else (height, width),
        visual_tokens=choices.visual_tokens,
    )


def dtype_for(config: Config, target: ResolvedTarget, profile: Mapping[str, Any] | None = None) -> str:
    """The precision to plan for: what was measured, else what the target runs best, unless asked otherwise.

    Raises `InputError` for one that is not what was measured.
    """
    timed = None if profile is None else profile.get("dtype")
    if timed in DTYPES:
        if config.dtype not in ("auto", timed):
            rule = f"is asked for, and the profile was measured in {timed}"
            remedy = f"Leave --dtype out, or measure with `topovlm profile --dtype {config.dtype}`"
            raise InputError(explain("--dtype", config.dtype, rule, remedy))
        return str(timed)
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
    model: ModelFacts,
    profile: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The plan as JSON-able data. An infeasible plan is returned, not raised."""
    return build_plan(config, target, model, profile).to_dict()


def build_plan(
    config: Config,
    target: ResolvedTarget,
    model: ModelFacts,
    profile: dict[str, Any] | None = None,
    *,
    choices: Choices = Choices(),
) -> Plan:
    """The plan for a model's facts. An infeasible one is returned too."""
    from topovlm.planner.solve import make_plan

    inputs = plan_inputs(config, target, model, choices, profile)
    budgets, kept = _question(config, inputs, model)
    plan = make_plan(
        model.shape,
        workload_of(config, model, choices),
        target,
        budgets,
        inputs["dtype"],
        profile=profile,
        protected=kept,
        confident=choices.confident,
    )
    if not model.allows("prune"):
        rule = "layers of this family cannot be removed yet: the plan says what its sizes allow"
        plan = replace(plan, notes=(*plan.notes, f"{model.model_type}: {rule}"))
    return plan if config.drop is None else _held_to_drop(plan, len(config.drop))


def plan_formats(
    config: Config,
    target: ResolvedTarget,
    model: ModelFacts,
    *,
    choices: Choices = Choices(),
) -> dict[str, Plan]:
    """The same budget in every weight format of the target, from its data sheet."""
    from topovlm.planner.formats import plan_dtypes

    budgets, kept = _question(config, plan_inputs(config, target, model, choices), model)
    workload = workload_of(config, model, choices)
    return plan_dtypes(model.shape, workload, target, budgets, protected=kept, confident=choices.confident)


def format_points(plans: Mapping[str, Plan]) -> list[dict[str, Any]]:
    """Every format and number of layers with its central latency and memory; JSON-able."""
    points = []
    for dtype, plan in plans.items():
        for row in plan.rows:
            found = row.prediction
            latency = found.ttft_ms if plan.workload.new_tokens == 1 else found.total_ms
            points.append(
                {
                    "dtype": dtype,
                    "kept": found.keep_layers,
                    "latency_ms": latency.value,
                    "memory_bytes": found.memory_bytes.value,
                    "fits": row.fits(False),
                }
            )
    return points


def _question(config: Config, inputs: dict[str, Any], model: ModelFacts) -> tuple[Budgets, set[int]]:
    """What a plan is asked: budgets, and layers that must stay."""
    from topovlm.planner.solve import Budgets

    budgets = Budgets(
        max_latency=config.max_latency,
        max_token_latency_ms=config.max_token_latency,
        max_memory_bytes=config.max_memory,
        sparsity=inputs["sparsity"],
    )
    # Layers named by hand may be any: the user has looked.
    return budgets, model.protected_layers() if config.drop is None else set()


def _held_to_drop(plan: Plan, dropped: int) -> Plan:
    """--drop says exactly what goes: a budget that needs more to go is not met."""
    keep = plan.total_layers - dropped
    if plan.keep_layers is None or plan.keep_layers == keep:
        return plan
    text = f"the budget leaves {plan.keep_layers} layers, --drop leaves {keep}. {plan.floor.text}"
    return replace(plan, verdict="infeasible", keep_layers=None, floor=replace(plan.floor, text=text))


def refuse_infeasible(plan: dict[str, Any]) -> None:
    """Raise `BudgetError` naming the floor, and what would help, when the budget cannot be met."""
    if plan["verdict"] == "infeasible":
        raise BudgetError(". ".join([plan["summary"], *plan["advice"]]))


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
        rules = timing_rules(config)
        with context.device() as device:
            measured = device.profile(
                context.run.root / BASELINE,
                images=config.images,
                prompt_tokens=config.prompt_tokens,
                new_tokens=timed_tokens(config),
                threads=config.threads,
                rules=rules,
                scratch=work,
                progress=timing_progress(rules, progress),
            )
        artifacts.write_json(work / "profile.json", measured)
        return measured

    return context.run.stage("profile", inputs, ["profile.json"], make)


def plan(context: Context, profiled: Record | None) -> Record:
    """plan.json. Raises `BudgetError` (after writing it) when the budget is infeasible."""
    model = context.source.checkpoint.facts
    inputs = plan_inputs(
        context.config, context.target, model, profile=None if profiled is None else profiled.value
    )
    inputs["profile"] = None if profiled is None else profiled.digest

    def make(work: Path, progress: Progress) -> dict[str, Any]:
        measured = None if profiled is None else profiled.value
        planned = compute_plan(context.config, context.target, model, measured)
        if not context.on_target:
            planned["formats"] = format_points(plan_formats(context.config, context.target, model))
        artifacts.write_json(work / "plan.json", planned)
        return planned

    record = context.run.stage("plan", inputs, ["plan.json"], make)
    refuse_infeasible(record.value)
    return record
