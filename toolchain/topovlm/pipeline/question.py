"""What a plan is asked, from a configuration: the workload, the budgets, the layers that must stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from topovlm.config import BY_NAME, Config, integer
from topovlm.errors import BudgetError, InputError, explain
from topovlm.pipeline.precision import planned_dtype
from topovlm.predict.observed import FIELD, Observed, parse_observed
from topovlm.predict.runtimes import runtime_named
from topovlm.workload import Workload

if TYPE_CHECKING:
    from topovlm.families.facts import ModelFacts
    from topovlm.planner.limits import Budgets
    from topovlm.planner.record import PlanRecord
    from topovlm.planner.solve import Plan
    from topovlm.predict.knowledge import Knowledge
    from topovlm.predict.profile import Profile
    from topovlm.predict.target import ResolvedTarget

# Which option states the budget that a floor of the plan is about.
_BUDGET_OF = {
    "vision": "max_latency",
    "decoder": "max_latency",
    "per-token": "max_token_latency",
    "memory": "max_memory",
    "sparsity": "sparsity",
}
_NO_ADVICE = "Allow more, or take a smaller model"


@dataclass(frozen=True)
class Choices:
    """What a plan alone may be asked, besides the configuration; `None`: what the model says."""

    visual_tokens: int | None = None
    confident: bool = False  # upper ends of all figures must fit, not only their central values
    runtime: str | None = None  # the one that most was published for
    observed: tuple[Observed, ...] = ()  # measurements of this very request, which correct the board


NO_CHOICES = Choices()


def read_choices(
    config: Config,
    visual_tokens: str | int | None,
    *,
    confident: bool,
    runtime: str | None = None,
    observed: Sequence[str] = (),
) -> Choices:
    """From what was typed, or from values. Raises `InputError`."""
    tokens = None if visual_tokens is None else integer(0)(str(visual_tokens), "--visual-tokens")
    if config.image_size is not None and tokens is not None:
        rule = "--image-size and --visual-tokens both say how large the pictures are"
        raise InputError(explain("--visual-tokens", tokens, rule, "Give one"))
    named = None if runtime is None else runtime_named(runtime)
    return Choices(tokens, confident, named, tuple(map(parse_observed, observed)))


def workload_of(config: Config, model: ModelFacts, choices: Choices = NO_CHOICES) -> Workload:
    """The request that a plan, a deployment and its report are about; text alone where no tower is.

    Raises `InputError` for frames of a model that takes no videos.
    """
    if config.frames and model.video_token_id is None:
        rule = "this model takes no videos, as far as topovlm goes"
        raise InputError(explain("--frames", config.frames, rule, "Leave it out: pictures are taken"))
    return model.workload(
        images=config.images if model.shape.vision else 0,
        video_frames=config.frames,
        prompt_tokens=config.prompt_tokens or Workload.prompt_tokens,
        new_tokens=config.new_tokens,
        image_size=config.image_size,
        visual_tokens=choices.visual_tokens,
    )


def check_removable(config: Config, model: ModelFacts) -> None:
    """Refuse what surgery would refuse, where layers are sure to go. Raises `InputError`."""
    from topovlm.checkpoint.surgery import check_drop
    from topovlm.families.catalogue import family_of
    from topovlm.families.layers import refuse_tied_layers

    dropped = check_drop(config.drop or (), model.layers)
    refuse_tied_layers(model.config, family_of(model.config), dropped)
    if dropped or config.sparsity:
        check_layer_fields(model)


def check_layer_fields(model: ModelFacts) -> None:
    """Refuse fields that are tied to layers in a way that is not known. Raises `InputError`."""
    from topovlm.families.catalogue import decoder_of, family_of
    from topovlm.families.layers import refuse_unknown_layer_fields

    family = family_of(model.config)
    refuse_unknown_layer_fields(model.config, family, decoder_of(model.config, family))


def budgets_of(config: Config, model: ModelFacts) -> Budgets:
    """The budgets; layers named by hand are a share too. Raises `InputError`: layers that are not there."""
    from topovlm.checkpoint.surgery import check_drop
    from topovlm.planner.limits import Budgets

    sparsity = config.sparsity
    if config.drop is not None:
        sparsity = len(check_drop(config.drop, model.layers)) / model.layers
    return Budgets(
        max_latency=config.max_latency,
        max_token_latency_ms=config.max_token_latency_ms,
        max_memory_bytes=config.max_memory_bytes,
        sparsity=sparsity,
    )


def protected_in(config: Config, model: ModelFacts) -> set[int]:
    """Layers that must stay. Layers named by hand may be any: the user has looked."""
    return model.protected_layers() if config.drop is None else set()


def build_plan(
    config: Config,
    target: ResolvedTarget,
    model: ModelFacts,
    profile: Profile | None = None,
    *,
    choices: Choices = NO_CHOICES,
) -> Plan:
    """The plan for a model's facts, with advice. An infeasible one is returned too."""
    from topovlm.planner.advice import advise
    from topovlm.planner.solve import make_plan

    dtype = planned_dtype(config, target, profile)
    plan = make_plan(
        model.shape,
        workload_of(config, model, choices),
        target,
        budgets_of(config, model),
        dtype,
        runtime=choices.runtime,
        knowledge=_corrected(config, target, model, choices, dtype=dtype, profile=profile),
        profile=profile,
        protected=protected_in(config, model),
        confident=choices.confident,
    )
    plan = advise(plan, model.shape, profile)
    if not model.allows("prune"):
        rule = "layers of this family cannot be removed yet: the plan says what its sizes allow"
        plan = replace(plan, notes=(*plan.notes, f"{model.model_type}: {rule}"))
    decoder = model.shape.decoder
    if decoder.sparse_share and profile is None:  # a measured profile is of the graphs themselves
        used = f"{decoder.active_experts} of {decoder.experts} experts"
        rule = f"the figures count the {used} that a token goes through; graphs exported here compute all"
        plan = replace(plan, notes=(*plan.notes, f"mixture of experts: {rule}, and are slower"))
    return plan if config.drop is None else _held_to_drop(plan, len(config.drop))


def _corrected(
    config: Config,
    target: ResolvedTarget,
    model: ModelFacts,
    choices: Choices,
    *,
    dtype: str,
    profile: Profile | None = None,
) -> Knowledge | None:
    """What is known of the board after the user's measurements; None without any. Raises `InputError`."""
    from topovlm.predict.efficiencies import default_runtime
    from topovlm.predict.observed import observing

    if profile is not None:
        for flag, given in (("--runtime", choices.runtime), (FIELD, ", ".join(map(str, choices.observed)))):
            if given:
                rule = f"a profile measured with {profile.runtime} takes the place of every prediction"
                raise InputError(explain(flag, given, rule, "Leave one out"))
    if not choices.observed:
        return None
    return observing(
        choices.observed,
        model.shape,
        workload_of(config, model, choices),
        target,
        dtype,
        runtime=choices.runtime or default_runtime(),
    )


def plan_formats(
    config: Config, target: ResolvedTarget, model: ModelFacts, *, choices: Choices = NO_CHOICES
) -> Mapping[str, Plan]:
    """The same budget in every weight format of the target, from its data sheet."""
    from topovlm.planner.formats import plan_dtypes

    return plan_dtypes(
        model.shape,
        workload_of(config, model, choices),
        target,
        budgets_of(config, model),
        runtime=choices.runtime,
        knowledge=_corrected(config, target, model, choices, dtype=planned_dtype(config, target, None)),
        protected=protected_in(config, model),
        confident=choices.confident,
    )


def _held_to_drop(plan: Plan, dropped: int) -> Plan:
    """--drop says exactly what goes: a budget that needs more to go is not met."""
    keep = plan.total_layers - dropped
    if plan.keep_layers is None or plan.keep_layers == keep:
        return plan
    text = f"the budget leaves {plan.keep_layers} layers, --drop leaves {keep}. {plan.floor.text}"
    return replace(plan, verdict="infeasible", keep_layers=None, floor=replace(plan.floor, text=text))


def refuse_infeasible(plan: PlanRecord) -> None:
    """Raise `BudgetError` naming the floor, and what would help, when the budget cannot be met."""
    if plan.verdict == "infeasible":
        flag, value = _binding(plan)
        raise BudgetError(explain(flag, value, plan.summary, ". ".join(plan.advice) or _NO_ADVICE))


def _binding(plan: PlanRecord) -> tuple[str, str]:
    """Flag and value of the budget whose floor binds; the target's, where its own memory does."""
    usable = plan.target.usable_memory_bytes
    if plan.floor.name == "memory" and usable <= (plan.budgets.max_memory_bytes or usable):
        return BY_NAME["target"].flag, plan.target.key
    option = BY_NAME[_BUDGET_OF[plan.floor.name]]
    return option.flag, option.typed(plan.budgets)
