"""What this machine (or the target's data sheet) can do, and how many layers the budget leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from topovlm.console import Progress
from topovlm.pipeline.measuring import timed_tokens, timing_progress, timing_rules
from topovlm.pipeline.question import build_plan, plan_formats, refuse_infeasible, workload_of
from topovlm.pipeline.stages import BASELINE, PLAN, PLAN_FILE, PROFILE, PROFILE_FILE
from topovlm.records import write

if TYPE_CHECKING:
    from topovlm.exporters.protocol import ExportRecord
    from topovlm.measure.settings import ProfileRequest
    from topovlm.pipeline.context import Context
    from topovlm.pipeline.rundir import Record
    from topovlm.planner.record import PlanRecord
    from topovlm.predict.profile import Profile


def profile(context: Context, dense: Record[ExportRecord]) -> Record[Profile]:
    """profile.json: the target timed on the dense graphs and on shallower cuts of them."""

    def make(work: Path, progress: Progress) -> Profile:
        request = profile_request(context, work)
        with context.device() as device:
            measured = device.profile(
                context.run.root / BASELINE, request, timing_progress(request.rules, progress)
            )
        write(work / PROFILE_FILE, measured)
        return measured

    return context.run.stage(PROFILE, PROFILE.key(context, graphs=dense.outputs), make)


def profile_request(
    context: Context, scratch: Path | None = None, providers: tuple[str, ...] | None = None
) -> ProfileRequest:
    """The workload of the configuration, as a profile times it."""
    from topovlm.measure.settings import ProfileRequest, RunSettings

    config = context.config
    return ProfileRequest(
        images=workload_of(config, context.source.checkpoint.facts).images,
        frames=config.frames,
        image_size=config.image_size,
        prompt_tokens=config.prompt_tokens,
        new_tokens=timed_tokens(config, context.constants),
        rules=timing_rules(config),
        run=RunSettings(threads=config.threads, providers=providers),
        scratch=scratch,
    )


def plan(context: Context, profiled: Record[Profile] | None) -> Record[PlanRecord]:
    """plan.json. Raises `BudgetError` (after writing it) when the budget is infeasible."""
    config, target, model = context.config, context.target, context.source.checkpoint.facts

    def make(work: Path, progress: Progress) -> PlanRecord:
        from topovlm.planner.formats import format_plans

        planned = build_plan(config, target, model, None if profiled is None else profiled.value).record()
        if not context.on_target:
            planned = structs.replace(planned, formats=format_plans(plan_formats(config, target, model)))
        write(work / PLAN_FILE, planned)
        return planned

    from topovlm.planner.levers import LEVERS

    key = PLAN.key(context, levers=LEVERS.origins(), profile=None if profiled is None else profiled.digest)
    record = context.run.stage(PLAN, key, make)
    refuse_infeasible(record.value)
    return record
