"""The stages of a deployment in order, from a budget to a report.

profile -> plan -> score -> select -> prune -> export -> measure -> evaluate -> report. Each stage is cached
by content in the run directory (`rundir`); here are only their order and the decisions between them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from topovlm.config import Config
from topovlm.console import Display, library_chatter
from topovlm.errors import BudgetError
from topovlm.pipeline import choosing, exporting, measuring, planning, reporting
from topovlm.pipeline import target as boards
from topovlm.pipeline.context import Context
from topovlm.pipeline.prompt_length import check_prompt_length
from topovlm.pipeline.rundir import Record, RunDir
from topovlm.pipeline.sources import find_model

# Where the target is measured, one more layer goes as long as the measured latency misses the budget.
_MOST_ATTEMPTS = 4


def _downstream() -> dict[str, tuple[str, ...]]:
    """Stage -> what was made from its outputs, and would contradict new ones that a killed run left."""
    from_graphs = ("measure", *exporting.other_stages(), "evaluate-slim")
    from_model = ("export", *from_graphs)
    return {
        "export-dense": ("profile", "score", "select", "prune", *from_model, "evaluate-dense"),
        "score": ("select", "prune", *from_model),
        "select": ("prune", *from_model),
        "prune": from_model,
        "export": from_graphs,
    }


def _deployment() -> tuple[str, ...]:
    """Stages that a dense deployment has too."""
    return ("export", "measure", *exporting.other_stages())


def deploy(config: Config, argv: Sequence[str], display: Display) -> dict[str, Any]:
    """Run every stage; returns what `--json` prints. Raises the errors of `topovlm.errors`."""
    began = time.perf_counter()
    # All that can be refused is refused before the run directory exists: bad input leaves nothing behind.
    run = RunDir(config.output, display, _downstream())
    run.check()
    board = boards.look(config, display)
    target = boards.resolve_target(config, board)
    display.note(f"target: {target.describe()}")
    planning.dtype_for(config, target)
    source = find_model(config.model)
    context = Context(config, source, target, run, board)
    choosing.check_inputs(context)
    exporting.check(context)
    if not context.on_target:
        planning.refuse_infeasible(planning.compute_plan(config, target, source.checkpoint.facts))
    check_prompt_length(context)
    with run.locked(), library_chatter(run.root / "logs" / "libraries.log"):
        return _stages(context, list(argv), began)


def _stages(context: Context, argv: list[str], began: float) -> dict[str, Any]:
    run, display = context.run, context.run.display
    for note in context.notes:
        display.note(f"note: {note}")
    dense = exporting.export_dense(context)
    profiled = planning.profile(context, dense) if context.on_target else None
    try:
        planned = planning.plan(context, profiled).value
    except BudgetError:
        _withdraw(run, *_deployment())
        raise
    display.note(planned["summary"])
    for note in planned["notes"]:
        display.note(f"note: {note}")
    if planned["verdict"] == "dense":
        _withdraw(run)
        exporting.deploy_dense(context, dense)
        measuring.measure(context, slim=False)
        attempts: list[dict[str, Any]] = []
    else:
        _forget_other_depths(context, planned["keep_layers"])
        attempts = _fit(context, planned)
    exporting.export_others(context)
    measuring.evaluate(context, "evaluate-dense", exporting.BASELINE, dense)
    if planned["verdict"] == "prune":
        measuring.evaluate(context, "evaluate-slim", exporting.DEPLOYED, run.records["export"])
    report = reporting.write_report(context, argv, attempts)
    reporting.write_run_file(context, argv, attempts, began)
    return _outcome(context, planned, attempts, report.value["content_hash"], began)


def _forget_other_depths(context: Context, keep: int) -> None:
    """A slim model of another depth than the plan's goes before a new one is made.

    On a measured target attempts end below the plan's depth, never above it.
    """
    selected = context.run.recorded("select")
    if selected is None:
        return
    depth = selected.inputs["keep"]
    if depth > keep or (depth < keep and not context.on_target):
        _withdraw(context.run, *_deployment())


def _fit(context: Context, planned: dict[str, Any]) -> list[dict[str, Any]]:
    """Score, then cut, export and measure; on a measured target until its latency meets the budget."""
    config, display = context.config, context.run.display
    scored = choosing.score(context)
    least = max(1, planned["min_layers"])
    keep = planned["keep_layers"]
    attempts: list[dict[str, Any]] = []
    if not context.on_target:  # the target's latency is predicted: nothing measured here can reject it
        _cut(context, keep, scored)
        return []
    while True:
        verdict = measuring.rejected(context, keep, scored)
        if verdict is None:
            verdict = measuring.judge(config, keep, _cut(context, keep, scored))
            if not verdict["met"]:
                measuring.reject(context, keep, scored, verdict)
        attempts.append(verdict)
        if verdict["met"]:
            return attempts
        display.note(verdict["text"])
        if config.drop is not None or keep <= least or len(attempts) == _MOST_ATTEMPTS:
            _withdraw(context.run, *_deployment())
            why = _why_stop(config, keep, least)
            raise BudgetError(f"{verdict['text']}. Fewer layers were not tried: {why}")
        keep -= 1


def _cut(context: Context, keep: int, scored: Record) -> Record:
    """Cut down to `keep` layers, export, and measure."""
    selected = choosing.select(context, keep, scored)
    pruned = choosing.prune(context, selected.value["dropped"])
    exporting.export_slim(context, pruned)
    return measuring.measure(context, slim=True)


def _withdraw(run: RunDir, *also: str) -> None:
    """No slim model stands: take away what an earlier budget or a failed attempt left."""
    for name in ("select", "prune", "evaluate-slim", *also):
        run.forget(name)


def _why_stop(config: Config, keep: int, least: int) -> str:
    if config.drop is not None:
        return "--drop says which layers go"
    if keep <= least:
        return f"{least} layers are protected"
    return f"{_MOST_ATTEMPTS} attempts were made; ask for a little more latency or a higher sparsity"


def _outcome(
    context: Context, planned: dict[str, Any], attempts: list[dict[str, Any]], digest: str, began: float
) -> dict[str, Any]:
    """What `--json` prints, and the last lines for people."""
    from topovlm.report.store import read_report
    from topovlm.report.summary import cards, verdict

    root, display = context.run.root, context.run.display
    report = read_report(root)
    display.note(verdict(report))
    for card in cards(report):
        kind = f" ({card.kind})" if card.kind else ""
        display.note(f"{card.question} {card.status}: {card.headline}{kind}")
    display.note(f"report: {root / 'report.html'}")
    selection = report.selection
    return {
        "run": str(root),
        "verdict": planned["verdict"],
        "total_layers": report.dense.layers,
        "keep_layers": report.slim.layers if report.slim else report.dense.layers,
        "dropped": list(selection.dropped) if selection else [],
        "attempts": attempts,
        "content_hash": digest,
        "report": {name.rpartition(".")[2]: str(root / name) for name in reporting.REPORT_FILES},
        "wall_s": round(time.perf_counter() - began, 3),
    }
