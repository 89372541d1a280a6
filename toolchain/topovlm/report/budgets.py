"""Every budget that was asked for, against the deployed model: measured on the target, else predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from topovlm.report import formats
from topovlm.report.document import PEAK_MEMORY, Figure, PlanRow, Report, phase_times, plan_row
from topovlm.stats.timing import least_samples

Status = Literal["yes", "partly", "no", "unknown"]
# Worst first: a budget that is broken, one without a figure, one that may be broken.
SEVERITY: tuple[Status, ...] = ("no", "unknown", "partly", "yes")


@dataclass(frozen=True)
class BudgetVerdict:
    """Whether one budget is kept: `headline` is its figure and bound, `why` what keeps it from a yes."""

    status: Status
    headline: str
    why: str = ""
    kind: str = ""  # "measured", "predicted" or ""


def verdicts(report: Report) -> tuple[BudgetVerdict, ...]:
    """Latency, per token, memory and sparsity, as far as they were asked for."""
    found = (_latency(report), _per_token(report), _memory(report), _sparsity(report))
    return tuple(item for item in found if item)


def asked_latency(report: Report) -> str:
    """The latency budget in words: `200 ms`, `60% of dense`; empty without one."""
    budget = report.budget
    if budget.max_latency_share is not None:
        return f"{100 * budget.max_latency_share:g}% of dense"
    return "" if budget.max_latency_ms is None else f"{budget.max_latency_ms:g} ms"


def deployed_row(report: Report) -> PlanRow | None:
    """The plan's row of the deployed model."""
    return plan_row(report, "slim" if report.slim else "dense")


def deployed_phase(report: Report, phase: str) -> Figure | None:
    """A phase of the deployed model: measured on the target, else predicted for it."""
    timed = phase_times(report, phase)
    if timed and report.latency and report.latency.is_target:
        return timed.slim or timed.dense
    return formats.predicted(report, "slim" if report.slim else "dense", phase)


def deployed_memory(report: Report) -> Figure | None:
    """Peak memory of the deployed model: measured on the target, else predicted for it."""
    uses = report.latency.memory if report.latency and report.latency.is_target else ()
    peak = next((use for use in uses if use.name == PEAK_MEMORY), None)
    measured = peak and (peak.slim if report.slim else peak.dense)
    row = deployed_row(report)
    return measured or (row.memory if row else None)


def relative_latency(report: Report) -> tuple[Figure, float] | None:
    """Measured slim / dense and the share allowed, for a relative budget that was measured on the target.

    The ratio is taken round by round: what slows both models down divides out.
    """
    budget = report.budget
    share, timed = budget.max_latency_share, phase_times(report, budget.latency_phase)
    on_target = bool(report.latency and report.latency.is_target)
    return (timed.ratio, share) if share is not None and on_target and timed and timed.ratio else None


def bound_ms(report: Report) -> float | None:
    """The latency budget in ms; a relative one, measured on the target, as a share of the measured dense."""
    relative, timed = relative_latency(report), phase_times(report, report.budget.latency_phase)
    return relative[1] * timed.dense.value if relative and timed else report.budget.latency_ms


def _measured(figure: Figure, bound: float, headline: str) -> BudgetVerdict:
    """A yes needs an interval that lies within the bound: a median without one proves nothing."""
    if figure.value > bound:
        return BudgetVerdict("no", headline, "over the budget", figure.kind)
    if figure.high is not None and figure.high <= bound:
        return BudgetVerdict("yes", headline, kind=figure.kind)
    why = "the interval reaches beyond it"
    if figure.high is None:
        rounds = "1 timed round gives" if figure.n == 1 else f"{figure.n or 'too few'} timed rounds give"
        why = f"{rounds} no interval: at least {least_samples()} are needed"
    return BudgetVerdict("partly", headline, f"within the budget, but {why}", figure.kind)


def _predicted(report: Report, name: str, headline: str, why_yes: str = "") -> BudgetVerdict:
    """As the plan found its row: `name` is the plan's name of the limit."""
    row = deployed_row(report)
    if row is None:
        return BudgetVerdict("unknown", headline)
    if name in row.exceeds:
        return BudgetVerdict("no", headline, "over the budget", "predicted")
    if name in row.at_risk:
        why = "within the budget, but the range of the prediction reaches beyond it"
        return BudgetVerdict("partly", headline, why, "predicted")
    return BudgetVerdict("yes", headline, why_yes, "predicted")


def _latency(report: Report) -> BudgetVerdict | None:
    if not report.budget.bounds_latency:
        return None
    figure, bound = deployed_phase(report, report.budget.latency_phase), report.budget.latency_ms
    if figure is None or bound is None:
        return BudgetVerdict("unknown", "no latency for the target", "neither measured nor predicted")
    share = report.budget.max_latency_share
    if share is not None:
        return _share_of_dense(report, figure, share)
    text = f"{formats.milliseconds(figure.value)}, {formats.milliseconds(bound)} allowed"
    if figure.kind == "measured":
        return _measured(figure, bound, text)
    return _predicted(report, "latency", text)


def _share_of_dense(report: Report, figure: Figure, share: float) -> BudgetVerdict:
    allowed = f"{100 * share:g} % allowed ({formats.milliseconds(figure.value)})"
    relative = relative_latency(report)
    if relative:
        ratio = relative[0]
        return _measured(ratio, share, f"{100 * ratio.value:.1f} % of dense, {allowed}")
    if figure.kind == "measured":
        # Nothing was pruned: the dense model is all of itself, whatever the clock says.
        return BudgetVerdict("yes" if share >= 1 else "no", f"the dense model, {allowed}", kind=figure.kind)
    dense = formats.predicted(report, "dense", report.budget.latency_phase)
    text = f"{100 * figure.value / dense.value:.1f} % of dense, {allowed}" if dense else allowed
    why = "taken as a share: what the prediction gets wrong, it gets wrong for both models"
    return _predicted(report, "latency", text, why)


def _per_token(report: Report) -> BudgetVerdict | None:
    bound = report.budget.max_token_latency_ms
    if bound is None:
        return None
    figure = deployed_phase(report, "token")
    if figure is None:
        return BudgetVerdict("unknown", "no latency per token", "neither measured nor predicted")
    text = f"{formats.milliseconds(figure.value)} per token, {formats.milliseconds(bound)} allowed"
    if figure.kind == "measured":
        return _measured(figure, bound, text)
    return _predicted(report, "per-token", text)


def _memory(report: Report) -> BudgetVerdict | None:
    """Of the budget; without one only what the plan says of the target's own memory, where it is short."""
    bound, row, figure = report.budget.max_memory_bytes, deployed_row(report), deployed_memory(report)
    if bound is None and not (row and "memory" in (*row.exceeds, *row.at_risk)):
        return None
    if figure is None:
        return BudgetVerdict("unknown", "no memory figure", "neither measured nor predicted")
    whose = f"{formats.number(bound, 'bytes')} allowed" if bound else f"on {report.target.board}"
    text = f"{formats.number(figure.value, 'bytes')} of memory, {whose}"
    if figure.kind == "measured" and bound is not None:
        # A peak is counted, not sampled: it has no interval.
        over = figure.value > bound
        return BudgetVerdict("no" if over else "yes", text, "over the budget" if over else "", figure.kind)
    return _predicted(report, "memory", text)


def _sparsity(report: Report) -> BudgetVerdict | None:
    asked = report.budget.sparsity
    if asked is None:
        return None
    dense = report.dense.layers
    gone = dense - (report.slim.layers if report.slim else dense)
    text = f"{gone} of {dense} layers dropped, at least {100 * asked:g} % asked"
    met = gone >= asked * dense - 1e-9
    return BudgetVerdict("yes" if met else "no", text, "" if met else "fewer layers went than asked")
