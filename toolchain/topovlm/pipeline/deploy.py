"""The stages of a deployment in order, from a budget to a report.

profile -> plan -> score -> select -> prune -> export -> measure -> evaluate -> report. Each stage is cached
by content in the run directory (`rundir`); here are only their order and the decisions between them. What is
cheap or decides comes first: the dense model is exported when something is measured against it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from topovlm.artifacts import digest_of
from topovlm.config import BY_NAME, LAST, UNTIL, Config
from topovlm.console import Display, library_chatter
from topovlm.errors import BudgetError, Explained, explain
from topovlm.machine.host import memory_bound
from topovlm.pipeline import benching, choosing, exporting, measuring, planning, reporting
from topovlm.pipeline.attempts import assess
from topovlm.pipeline.checks import checked_inputs
from topovlm.pipeline.context import Context
from topovlm.pipeline.expected import expectations
from topovlm.pipeline.max_drop import refuse_drop
from topovlm.pipeline.preflight import stages_until
from topovlm.pipeline.question import build_plan, check_layer_fields, refuse_infeasible
from topovlm.pipeline.record import Attempt, Deployment
from topovlm.pipeline.rundir import RunDir
from topovlm.pipeline.sources import find_model
from topovlm.pipeline.stages import (
    BASELINE,
    BENCH_DENSE,
    BENCH_SLIM,
    DEPLOYED,
    EVALUATE_DENSE,
    EVALUATE_SLIM,
    EXPORT,
    REPORT,
    REPORT_FILES,
    SELECT,
    all_stages,
    other_formats,
)
from topovlm.pipeline.target import look, resolve_target
from topovlm.workers.pool import open_pool, released

if TYPE_CHECKING:
    from pathlib import Path

    from topovlm.choose.record import Scores
    from topovlm.measure.timing import Comparison
    from topovlm.pipeline.rundir import Record
    from topovlm.planner.record import PlanRecord


def deploy(
    config: Config, argv: Sequence[str], display: Display, *, lenders: Sequence[Path] = ()
) -> Deployment:
    """Run every stage. Raises the errors of `topovlm.errors`.

    `lenders`: run directories whose results serve this one where they are the same and were not timed.
    """
    began = time.perf_counter()
    # All that can be refused is refused before the run directory exists: bad input leaves nothing behind.
    run = RunDir(config.output, display, all_stages(), lenders)
    run.check()
    identity = look(config, display)
    target = resolve_target(config, identity)
    display.note(f"target: {target.describe()}")
    pool = open_pool(config.workers, display.note)
    context = Context(config, find_model(config.model), target, run, identity, pool=pool)
    context = checked(context)
    with (
        memory_bound(config.memory_bytes),
        run.locked(),
        released(pool),
        library_chatter(run.root / "logs" / "libraries.log"),
    ):
        pool.keep_in(run.shards)
        outcome = _stages(context, argv, began)
        run.forget_shards()
        return outcome


def checked(context: Context) -> Context:
    """The same, its prompt's length settled. Refuses what a stage would refuse later, and the budget."""
    context = checked_inputs(context)
    if not context.on_target:
        model = context.source.checkpoint.facts
        refuse_infeasible(build_plan(context.config, context.target, model).record())
    return context


def _stages(context: Context, argv: Sequence[str], began: float) -> Deployment:
    run, display = context.run, context.run.display
    for note in context.notes:
        display.note(f"note: {note}")
    profiled = planning.profile(context, exporting.export_dense(context)) if context.on_target else None
    try:
        planned = planning.plan(context, profiled).value
    except BudgetError:
        _withdraw(run, *_deployment())
        raise
    display.note(planned.summary)
    for note in planned.notes:
        display.note(f"note: {note}")
    if context.config.until != UNTIL[0] and run.recorded(REPORT.name) is None:
        for line in expectations(context, planned.keep_layers or planned.total_layers):
            display.note(line)
    if context.config.until != LAST:
        return _until(context, planned, began)
    attempts: list[Attempt] = []
    if planned.keep_layers is None or planned.verdict == "dense":
        _withdraw(run)
        dense = exporting.dense_graphs(context)
        exporting.deploy_dense(context, dense)
        measuring.measure(context, slim=False)
    else:
        _forget_other_depths(context, planned.keep_layers)
        attempts = _fit(context, planned, planned.keep_layers)
        dense = exporting.dense_graphs(context)
    context.dense.release()
    exporting.export_others(context)
    measuring.evaluate(context, EVALUATE_DENSE, BASELINE, dense)
    slim = run.result(EXPORT)
    if planned.verdict == "prune" and slim is not None:
        measuring.evaluate(context, EVALUATE_SLIM, DEPLOYED, slim)
    benching.stage_answers(context, BENCH_DENSE, BASELINE, dense)
    if planned.verdict == "prune" and slim is not None:
        benching.stage_answers(context, BENCH_SLIM, DEPLOYED, slim)
    report = reporting.write_report(context, argv, attempts)
    reporting.write_run_file(context, argv, attempts, began)
    return _outcome(context, planned, attempts, report.value.content_hash, began)


def _until(context: Context, planned: PlanRecord, began: float) -> Deployment:
    """The stages up to --until, for a depth that nothing measures; no report."""
    keep, wanted = planned.keep_layers, stages_until(context.config)
    scored = choosing.score(context) if "score" in wanted else None
    dropped: tuple[int, ...] = ()
    if scored is not None and keep is not None and planned.verdict != "dense":
        check_layer_fields(context.source.checkpoint.facts)
        _forget_other_depths(context, keep)
        if "select" in wanted:
            selected = choosing.select(context, keep, scored)
            dropped = selected.value.dropped
            if "prune" in wanted:
                pruned = choosing.prune(context, selected)
                if "export" in wanted:
                    exporting.export_slim(context, pruned)
    if "export" in wanted:
        dense = exporting.dense_graphs(context)
        if not dropped:
            exporting.deploy_dense(context, dense)
        context.dense.release()
        exporting.export_others(context)
    context.run.display.note(f"stopped behind {context.config.until}: no report yet")
    return Deployment(
        run=str(context.run.root),
        verdict="dense" if planned.verdict == "dense" else "prune",
        total_layers=planned.total_layers,
        keep_layers=keep or planned.total_layers,
        dropped=dropped,
        attempts=(),
        content_hash=digest_of({name: record.digest for name, record in context.run.records.items()}),
        report={},
        wall_s=round(time.perf_counter() - began, 3),
    )


def _deployment() -> tuple[str, ...]:
    """Stages that a dense deployment has too."""
    return ("export", "measure", *other_formats())


def _forget_other_depths(context: Context, keep: int) -> None:
    """A slim model of another depth than the plan's goes before a new one is made.

    On a measured target attempts end below the plan's depth, never above it.
    """
    selected = context.run.recorded(SELECT.name)
    if selected is None:
        return
    depth = selected.inputs.get("keep")
    if not isinstance(depth, int) or depth > keep or (depth < keep and not context.on_target):
        _withdraw(context.run, *_deployment())


def _fit(context: Context, planned: PlanRecord, keep: int) -> list[Attempt]:
    """Score, then cut, export and measure; on a measured target until its latency meets the budget."""
    config, display = context.config, context.run.display
    check_layer_fields(context.source.checkpoint.facts)
    scored = choosing.score(context)
    least = max(1, planned.min_layers)
    attempts: list[Attempt] = []
    if not context.on_target:  # the target's latency is predicted: nothing measured here can reject it
        _cut(context, keep, scored)
        return []
    while True:
        attempt = measuring.earlier_attempt(context, keep, scored)
        if attempt is None:
            attempt = assess(config, keep, _cut(context, keep, scored).value)
            if not attempt.met:
                measuring.reject(context, keep, scored, attempt)
        attempts.append(attempt)
        if attempt.met:
            return attempts
        display.note(attempt.text)
        most = context.constants.most_attempts
        if config.drop is not None or keep <= least or len(attempts) == most:
            _withdraw(context.run, *_deployment())
            raise BudgetError(_not_met(config, attempt, _why_stop(config, keep, least, most)))
        keep -= 1


def _cut(context: Context, keep: int, scored: Record[Scores]) -> Record[Comparison]:
    """Cut down to `keep` layers, export, and measure."""
    selected = choosing.select(context, keep, scored)
    pruned = choosing.prune(context, selected)
    exporting.dense_graphs(context)
    exporting.export_slim(context, pruned)
    return measuring.measure(context, slim=True)


def _withdraw(run: RunDir, *also: str) -> None:
    """No slim model stands: take away what an earlier budget or a failed attempt left."""
    for name in ("select", "prune", "evaluate-slim", "bench-slim", *also):
        run.forget(name)


def _not_met(config: Config, attempt: Attempt, why: str) -> Explained:
    """The budget that the last attempt misses (the first, where it misses more)."""
    option = BY_NAME[attempt.missed[0]]
    return explain(option.flag, option.typed(config), attempt.text, f"Fewer layers were not tried: {why}")


def _why_stop(config: Config, keep: int, least: int, most: int) -> str:
    if config.drop is not None:
        return "--drop says which layers go"
    if keep <= least:
        return f"{least} layers are protected"
    return f"{most} attempts were made; ask for a little more latency or a higher sparsity"


def _outcome(
    context: Context, planned: PlanRecord, attempts: Sequence[Attempt], digest: str, began: float
) -> Deployment:
    """What `deploy` answers, and the last lines for people."""
    from topovlm.report.store import read_report
    from topovlm.report.summary import cards, verdict

    root, display = context.run.root, context.run.display
    report = read_report(root)
    display.note(verdict(report))
    for card in cards(report):
        kind = f" ({card.kind})" if card.kind else ""
        display.note(f"{card.question} {card.status}: {card.headline}{kind}")
    display.note(f"report: {root / 'report.html'}")
    refuse_drop(context.config, report)
    selection = report.selection
    return Deployment(
        run=str(root),
        verdict="dense" if planned.verdict == "dense" else "prune",
        total_layers=report.dense.layers,
        keep_layers=report.slim.layers if report.slim else report.dense.layers,
        dropped=selection.dropped if selection else (),
        attempts=tuple(attempts),
        content_hash=digest,
        report={name.rpartition(".")[2]: str(root / name) for name in REPORT_FILES},
        wall_s=round(time.perf_counter() - began, 3),
    )
