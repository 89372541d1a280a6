"""The plan alone: nothing is written that stays, no weights are read for a board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from topovlm.config import REFERENCE_MODEL, Config
from topovlm.console import Display
from topovlm.errors import InputError, explain
from topovlm.pipeline.question import NO_CHOICES, Choices, build_plan, plan_formats, workload_of
from topovlm.pipeline.sources import config_sha256, model_facts, model_folder
from topovlm.pipeline.target import resolve_target
from topovlm.predict.target import LOCAL

if TYPE_CHECKING:
    from topovlm.families.facts import ModelFacts
    from topovlm.families.known_models import KnownModel
    from topovlm.planner.record import PlanRecord
    from topovlm.planner.solve import Plan
    from topovlm.predict.profile import Profile


def dry_run(
    config: Config,
    display: Display,
    profile: Profile | Path | None = None,
    choices: Choices = NO_CHOICES,
) -> Plan:
    """The plan, feasible or not; `profile` is a measured profile, or its file.

    `--model` may also be the name of a well-known model, whose sizes are shipped: then nothing is read.
    """
    if config.device != LOCAL:
        rule = "is measured, and a dry run measures no board"
        remedy = "Use `topovlm profile --device ... -o FILE`, then `topovlm plan --profile FILE`"
        raise InputError(explain("--device", config.device, rule, remedy))
    target, known = resolve_target(config), _known_model(config.model)
    measured = None
    if profile is not None:
        measured = _loaded(profile, config, known)
    elif target.board.id == LOCAL:
        if known is not None:
            rule = "only its sizes are known here, and this machine is measured"
            raise InputError(explain("--model", config.model, rule, "Give the model's folder, or a board"))
        config, measured = _measured_here(config, display)
    facts = _facts(config, known)
    _check_context(config, facts, choices)
    return build_plan(config, target, facts, measured, choices=choices)


def _check_context(config: Config, facts: ModelFacts, choices: Choices) -> None:
    """Raises `InputError` for a request that the model's positions do not cover."""
    workload, longest = workload_of(config, facts, choices), facts.context_tokens
    visual = facts.visual_tokens(workload)
    if longest is not None and visual + workload.prompt_tokens + workload.new_tokens > longest:
        rule = (
            f"with {visual} visual and {workload.new_tokens} new tokens it passes the model's context of "
            f"{longest} tokens"
        )
        remedy = "Give fewer tokens with --prompt-tokens, --new-tokens, --images or --frames"
        raise InputError(explain("--prompt-tokens", workload.prompt_tokens, rule, remedy))


def as_deployed(config: Config, display: Display) -> Config:
    """The same, its prompt's length said. Refuses what a deployment would refuse before it begins.

    Of a model that is known by its sizes alone nothing can be asked. Raises `InputError`.
    """
    from topovlm.pipeline.checks import checked_inputs
    from topovlm.pipeline.context import Context
    from topovlm.pipeline.rundir import RunDir
    from topovlm.pipeline.sources import find_model

    if (
        config.device != LOCAL
        or not (Path(model_folder(config.model)).expanduser() / "config.json").is_file()
    ):
        return config
    run = RunDir(config.output, display)
    run.check()
    return checked_inputs(Context(config, find_model(config.model), resolve_target(config), run)).config


def planned(
    config: Config,
    display: Display,
    profile: Profile | Path | None = None,
    choices: Choices = NO_CHOICES,
) -> tuple[Plan, PlanRecord, Mapping[str, Plan]]:
    """The plan, its record, and the plans by weight format where they can be compared."""
    from topovlm.planner.formats import format_plans

    plan = dry_run(config, display, profile, choices)
    formats = {} if profile is not None else compare_formats(config, choices)
    return plan, structs.replace(plan.record(), formats=format_plans(formats)), formats


def compare_formats(config: Config, choices: Choices = NO_CHOICES) -> Mapping[str, Plan]:
    """The budget in every weight format of a board, when none is named; empty for this machine."""
    target = resolve_target(config)
    if config.dtype != "auto" or target.board.id == LOCAL:
        return {}
    return plan_formats(config, target, _facts(config, _known_model(config.model)), choices=choices)


def _loaded(profile: Profile | Path, config: Config, known: KnownModel | None) -> Profile:
    """The profile, refused when it was measured with another model."""
    from topovlm.predict.measured import check_model
    from topovlm.predict.profile import load_profile

    measured = load_profile(profile) if isinstance(profile, Path) else profile
    if known is None:
        check_model(measured, config_sha256(config.model), config.model)
    return measured


def _facts(config: Config, known: KnownModel | None) -> ModelFacts:
    return model_facts(config.model) if known is None else known.facts


def _known_model(name: str) -> KnownModel | None:
    """A model whose sizes are shipped, unless a folder of that name is there. Raises `InputError`: a typo."""
    from topovlm.families.known_models import find_known_model, known_model

    if name == REFERENCE_MODEL or Path(name).expanduser().exists():
        return None
    could_be_elsewhere = "/" in name or "\\" in name  # a path, or a hub id
    return find_known_model(name) if could_be_elsewhere else known_model(name)


def _measured_here(config: Config, display: Display) -> tuple[Config, Profile]:
    """This machine has no data sheet: export the dense model, time it, and throw the files away.

    The configuration comes back with its prompt's length said: what was timed is what is planned.
    """
    from topovlm.pipeline import exporting, planning
    from topovlm.pipeline.alone import scratch_run
    from topovlm.pipeline.prompt_length import with_prompt_length

    with scratch_run(replace(config, target=LOCAL), display) as asked:
        context = with_prompt_length(asked)
        timed = replace(config, prompt_tokens=context.config.prompt_tokens)
        return timed, planning.profile(context, exporting.export_dense(context)).value
