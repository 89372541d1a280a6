"""Plans on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from topovlm.console import line, shown
from topovlm.planner.formats import dtype_rows
from topovlm.planner.limits import latency_of
from topovlm.planner.solve import Plan, Row
from topovlm.predict.prediction_interval import PredictionInterval
from topovlm.units import format_bytes, format_ms

# Rows shown when not all are asked for: enough to see the slope, few enough for one screen.
_SHOWN_ROWS = 12
_STYLE = {"dense": "bold green", "prune": "bold yellow", "infeasible": "bold red"}


def render_plan(plan: Plan, console: Console, *, all_rows: bool = False) -> None:
    """Verdict, floor, table over layers kept, advice. `all_rows` shows every number of layers."""
    line(console, plan.target.describe(), label="Target  ")
    line(console, _workload(plan), label="Workload")
    budget = "; ".join(limit.text for limit in plan.limits)
    if plan.budgets.sparsity is not None:
        budget += f"; sparsity at least {100 * plan.budgets.sparsity:g} %"
    line(console, budget, label="Budget  ")
    line(console, f"{plan.kind} from {plan.source}", label="Source  ")
    table = Table(title_justify="left", header_style="bold")
    for column in ("layers", "vision", "prefill", plan.latency_name, "per token", "memory", "fits"):
        table.add_column(shown(column), justify="left" if column == "fits" else "right")
    for row in _shown(plan, all_rows):
        table.add_row(*map(shown, _cells(plan, row)), style="bold" if row is plan.chosen else "")
    console.print(table)
    line(console, plan.summary(), label=plan.verdict.upper(), style=_STYLE[plan.verdict])
    for note in plan.notes:
        line(console, f"  note: {note}")
    if plan.advice:
        line(console, "What would help:")
        for advice in plan.advice:
            line(console, f"  - {advice}")


def _workload(plan: Plan) -> str:
    workload = plan.workload
    if workload.visual_tokens is None and workload.video_frames:
        pictures = f"{workload.video_frames} frames of {workload.image_width}x{workload.image_height}"
    elif workload.visual_tokens is None:
        plural = "" if workload.images == 1 else "s"
        pictures = f"{workload.images} image{plural} of {workload.image_width}x{workload.image_height}"
    else:
        pictures = "as given"
    batch = "" if workload.batch == 1 else f", batch {workload.batch}"
    return (
        f"{plan.visual_tokens} visual tokens ({pictures}) + {workload.prompt_tokens} prompt tokens, "
        f"{workload.new_tokens} new{batch}; weights {plan.dtype}, runtime {_runtime(plan)}"
    )


def _runtime(plan: Plan) -> str:
    return f"{plan.runtime} {plan.runtime_version}".strip()


def _shown(plan: Plan, all_rows: bool) -> Sequence[Row]:
    if all_rows or plan.total_layers <= _SHOWN_ROWS:
        return plan.rows
    step = max(1, round(plan.total_layers / (_SHOWN_ROWS - 4)))
    wanted = {1, plan.min_layers, plan.total_layers, *range(plan.total_layers, 0, -step)}
    if plan.keep_layers is not None:
        wanted |= {plan.keep_layers, min(plan.total_layers, plan.keep_layers + 1)}
    return [row for row in plan.rows if row.prediction.keep_layers in wanted]


def _ms(found: PredictionInterval) -> str:
    return f"{format_ms(found.value)} ({found.low:.3g}-{found.high:.3g})"


def _cells(plan: Plan, row: Row) -> list[str]:
    prediction = row.prediction
    if not row.allowed:
        fits = "protected layers" if prediction.keep_layers < plan.min_layers else "sparsity"
    elif row.exceeds:
        fits = "no: " + ", ".join(row.exceeds)
    else:
        fits = "yes" if not row.at_risk else "yes; upper end not: " + ", ".join(row.at_risk)
    return [
        f"{prediction.keep_layers}/{plan.total_layers}",
        format_ms(prediction.vision_ms.value),
        format_ms(prediction.prefill_ms.value),
        _ms(latency_of(prediction, plan.workload)),
        format_ms(prediction.token_ms.value),
        format_bytes(prediction.memory_bytes.value),
        fits,
    ]


def render_dtypes(plans: Mapping[str, Plan], console: Console) -> None:
    """One line per weight format: what the budget leaves in each."""
    header, *rows = dtype_rows(plans)
    table = Table(*header, header_style="bold")
    for row in rows:
        table.add_row(*map(shown, row))
    console.print(table)
