"""Plans and targets on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from topovlm.predict.interval import Interval
from topovlm.predict.target import Board, ResolvedTarget
from topovlm.units import format_bytes, format_ms

if TYPE_CHECKING:
    from topovlm.planner.solve import Plan, Row

# Rows shown when not all are asked for: enough to see the slope, few enough for one screen.
_SHOWN_ROWS = 12
_STYLE = {"dense": "bold green", "prune": "bold yellow", "infeasible": "bold red"}


def render_plan(plan: Plan, console: Console, *, all_rows: bool = False) -> None:
    """Verdict, floor, table over layers kept, advice. `all_rows` shows every number of layers."""
    console.print(f"[bold]Target[/]    {plan.target.describe()}", highlight=False)
    console.print(f"[bold]Workload[/]  {_workload(plan)}", highlight=False)
    budget = "; ".join(limit.text for limit in plan.limits)
    if plan.budgets.sparsity is not None:
        budget += f"; sparsity at least {100 * plan.budgets.sparsity:g} %"
    console.print(f"[bold]Budget[/]    {budget}", highlight=False)
    console.print(f"[bold]Source[/]    {plan.kind} from {plan.source}", highlight=False)
    table = Table(title_justify="left", header_style="bold")
    for column in ("layers", "vision", "prefill", plan.latency_name, "per token", "memory", "fits"):
        table.add_column(column, justify="left" if column == "fits" else "right")
    for row in _shown(plan, all_rows):
        table.add_row(*_cells(plan, row), style="bold" if row is plan.chosen else "")
    console.print(table)
    console.print(f"[{_STYLE[plan.verdict]}]{plan.verdict.upper()}[/]  {plan.summary()}", highlight=False)
    for line in plan.notes:
        console.print(f"  note: {line}", highlight=False)
    if plan.advice:
        console.print("What would help:")
        for line in plan.advice:
            console.print(f"  - {line}", highlight=False)


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
        f"{workload.new_tokens} new{batch}; weights {plan.dtype}, runtime {plan.runtime}"
    )


def _shown(plan: Plan, all_rows: bool) -> Sequence[Row]:
    if all_rows or plan.total_layers <= _SHOWN_ROWS:
        return plan.rows
    step = max(1, round(plan.total_layers / (_SHOWN_ROWS - 4)))
    wanted = {1, plan.min_layers, plan.total_layers, *range(plan.total_layers, 0, -step)}
    if plan.keep_layers is not None:
        wanted |= {plan.keep_layers, min(plan.total_layers, plan.keep_layers + 1)}
    return [row for row in plan.rows if row.prediction.keep_layers in wanted]


def _ms(interval: Interval) -> str:
    return f"{format_ms(interval.value)} ({interval.low:.3g}-{interval.high:.3g})"


def _cells(plan: Plan, row: Row) -> list[str]:
    prediction = row.prediction
    latency = prediction.ttft_ms if plan.workload.new_tokens == 1 else prediction.total_ms
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
        _ms(latency),
        format_ms(prediction.token_ms.value),
        format_bytes(prediction.memory_bytes.value),
        fits,
    ]


def render_dtypes(plans: dict[str, Plan], console: Console) -> None:
    """One line per weight format: what the budget leaves in each."""
    from topovlm.planner.formats import dtype_rows

    header, *rows = dtype_rows(plans)
    table = Table(*header, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def render_targets(boards: Sequence[Board], console: Console) -> None:
    """One line per board: default mode, peaks, bandwidth, memory, modes, aliases."""
    table = Table(header_style="bold")
    for column in ("target", "default mode", "fp16 TFLOPS", "GB/s", "GiB", "modes", "aliases"):
        table.add_column(column, justify="right" if column in ("fp16 TFLOPS", "GB/s", "GiB") else "left")
    for board in boards:
        mode = board.mode()
        peak, bandwidth = board.peak_flop_per_s(mode, "f16_acc32"), board.bandwidth_bytes_per_s(mode)
        table.add_row(
            board.id,
            mode.name,
            f"{peak / 1e12:.1f}" if peak else "-",
            f"{bandwidth / 1e9:.0f}" if bandwidth else "-",
            f"{board.memory.total_gib:.1f}",
            ", ".join(known.name for known in board.modes),
            ", ".join(board.aliases),
        )
    console.print(table)


def render_target(target: ResolvedTarget, console: Console) -> None:
    """Everything known about one board, mode by mode, with sources."""
    board = target.board
    console.print(f"[bold]{board.name}[/] ({board.id}), family {board.family}", highlight=False)
    if target.alias_of:
        console.print(
            f"{target.alias_of} is an alias; siblings: {', '.join(target.siblings)}", highlight=False
        )
    table = Table(header_style="bold")
    formats = list(board.gpu.flop_per_sm_clk) if board.gpu else []
    for column in ("mode", "W", "SM", "GPU MHz", "GB/s", *(f"{name} T/s" for name in formats), "note"):
        table.add_column(column)
    for mode in board.modes:
        bandwidth = board.bandwidth_bytes_per_s(mode)
        peaks = [board.peak_flop_per_s(mode, name) for name in formats]
        table.add_row(
            mode.name + (" (default)" if mode.name == board.default_mode else ""),
            f"{mode.power_w:g}" if mode.power_w else "-",
            str(mode.sm or "-"),
            f"{mode.gpu_mhz:g}" if mode.gpu_mhz else "-",
            f"{bandwidth / 1e9:.1f}" if bandwidth else "-",
            *(f"{peak / 1e12:.1f}" if peak else "-" for peak in peaks),
            mode.note,
        )
    console.print(table)
    memory = board.memory
    kind = "shared by CPU and GPU" if memory.unified else "on the card"
    usable = format_bytes(target.usable_memory_bytes())
    console.print(
        f"Memory {memory.total_gib:.1f} GiB {memory.type}, {kind}; {usable} usable", highlight=False
    )
    for software in board.software:
        parts = [
            f"{name} {value}" for name, value in software.__rich_repr__() if isinstance(value, str) and value
        ]
        console.print("Software " + ", ".join(parts), highlight=False)
        for note in software.notes:
            console.print(f"  note: {note}", highlight=False)
    for name, value in board.provenance.items():
        console.print(f"{name}: {value}", highlight=False)
