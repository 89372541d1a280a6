"""The plan: its verdict and floor, and the prediction for every number of layers kept."""

from __future__ import annotations

from topovlm.report import formats
from topovlm.report.document import PlanRow, Report
from topovlm.report.formats import number
from topovlm.report.tables.shape import Section, table


def _plan_fits(row: PlanRow, chosen: int) -> str:
    if not row.fits:
        # Where no limit is exceeded it is the number of layers itself that may not be.
        count_rule = "protected layers" if row.kept < chosen else "sparsity"
        return f"no: {', '.join(row.exceeds) or count_rule}"
    return f"perhaps: {', '.join(row.at_risk)}" if row.at_risk else "yes"


def _plan_cells(row: PlanRow, whole: bool, chosen: int, deployed: int) -> tuple[str, ...]:
    latencies = (row.vision, row.prefill, row.token, row.ttft, *((row.total,) if whole else ()))
    name = f"{row.kept} (deployed)" if row.kept == deployed else str(row.kept)
    cells = (number(figure.value, figure.unit) for figure in (*latencies, row.memory))
    return (name, *cells, _plan_fits(row, chosen))


def plan_section(report: Report) -> Section:
    plan = report.plan
    words = {
        "dense": "the dense model fits",
        "prune": f"keep {plan.keep_layers} of {plan.total_layers} layers",
    }
    text = [f"Verdict: {words.get(plan.verdict, 'no number of layers fits')}. Predictions: {plan.source}."]
    deployed = (report.slim or report.dense).layers
    if plan.verdict == "prune" and deployed != plan.keep_layers:
        text.append(
            f"Deployed with {deployed} layers: the plan's {plan.keep_layers} were not kept in the end."
        )
    if plan.floor != "none":
        text.append(f"The floor that binds is {plan.floor}: {plan.floor_text}.")
    if report.target.alias_of or report.target.siblings:
        siblings = f" Siblings: {', '.join(report.target.siblings)}." if report.target.siblings else ""
        text.append(f"Target “{report.target.requested}” means {report.target.key}.{siblings}")
    whole = "end_to_end" in formats.predicted_phases(report)
    rows = [
        _plan_cells(row, whole, plan.keep_layers, deployed)
        for row in sorted(plan.rows, key=lambda r: -r.kept)
    ]
    latencies = f"vision|prefill|per token|time to first token{'|end to end' if whole else ''}"
    header = f"layers kept|{latencies}|memory|fits"
    tables = (table(f"Predicted for {report.target.board}", header, rows, long=True),) if rows else ()
    plots = (*(("plan",) if rows else ()), *(("pareto",) if plan.formats else ()))
    return Section("plan", "Plan", tuple(text), plots, tables)
