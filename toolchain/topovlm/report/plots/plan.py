"""The plan: predicted latency by layers kept, and layers kept by weight format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from topovlm.report import formats
from topovlm.report.document import Figure, FormatPoint, PlanRow, Report, plan_row
from topovlm.report.svg import DENSE, INK, MUTED, PAPER, SHADE, SLIM, render_svg
from topovlm.text import for_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def plan_plot(report: Report) -> str:
    """The predicted latency that the budget bounds, by layers kept: its vision, the budget, the choice."""
    rows = sorted(report.plan.rows, key=lambda row: row.kept)
    whole = report.budget.latency_phase == "end_to_end"
    name = formats.phase_name(report.budget.latency_phase)

    def bounded(row: PlanRow) -> Figure:
        return row.total if whole else row.ttft

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        kept = [row.kept for row in rows]
        latency = [bounded(row).value for row in rows]
        bounds = [(bounded(row).low, bounded(row).high) for row in rows]
        if all(low is not None and high is not None for low, high in bounds):
            lows, highs = [low or 0.0 for low, _ in bounds], [high or 0.0 for _, high in bounds]
            axes.fill_between(kept, lows, highs, color=SHADE, linewidth=0, label="range")
        axes.plot(
            kept,
            latency,
            color=DENSE,
            linewidth=2,
            marker="D",
            markersize=4,
            label=f"{name}, predicted",
        )
        axes.plot(kept, [row.vision.value for row in rows], color=MUTED, linewidth=1.6, linestyle=(0, (5, 2)),
                  label="of it vision, predicted")  # fmt: skip
        if report.budget.latency_ms is not None:
            axes.axhline(
                report.budget.latency_ms, color=INK, linewidth=1.8, linestyle=(0, (4, 2)), label="budget"
            )
        chosen = plan_row(report, "slim") or plan_row(report, "dense")
        if chosen is not None:
            x, y = [chosen.kept], [bounded(chosen).value]
            axes.plot(x, y, "o", color=SLIM, markersize=10, linestyle="", label="deployed")
        axes.set(xlabel="decoder layers kept", ylabel="ms")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3)

    description = f"Predicted {name} grows with the layers kept; values in the table below."
    return render_svg("plan", "Predicted latency by layers kept", description, (7.2, 3.3), draw)


# Marker and line of each weight format in turn.
_FORMAT_LOOKS = (
    ("D", "-"),
    ("s", (0, (5, 2))),
    ("o", (0, (1, 1))),
    ("^", "-."),
    ("v", (0, (3, 1, 1, 1, 1, 1))),
)


def pareto_front(points: Sequence[FormatPoint]) -> list[FormatPoint]:
    """The points that no other one beats: as many layers in no more time and memory, and less of one."""

    def beats(a: FormatPoint, b: FormatPoint) -> bool:
        no_worse = a.kept >= b.kept and a.latency_ms <= b.latency_ms and a.memory_bytes <= b.memory_bytes
        same = (a.kept, a.latency_ms, a.memory_bytes) == (b.kept, b.latency_ms, b.memory_bytes)
        return no_worse and not same

    return [point for point in points if not any(beats(other, point) for other in points)]


def pareto_plot(report: Report) -> str:
    """Layers kept over the bounded latency, one line per weight format; points on the Pareto front filled."""
    points = report.plan.formats
    name = formats.phase_name(report.budget.latency_phase)
    front = pareto_front(points)

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for place, dtype in enumerate(dict.fromkeys(point.dtype for point in points)):
            marker, line = _FORMAT_LOOKS[place % len(_FORMAT_LOOKS)]
            rows = sorted((p for p in points if p.dtype == dtype), key=lambda p: p.kept)
            x, y = [p.latency_ms for p in rows], [p.kept for p in rows]
            axes.plot(x, y, color=DENSE, linestyle=line, linewidth=1.2, marker=marker, markersize=5,
                      markerfacecolor=PAPER, label=for_plot(dtype))  # fmt: skip
            best = [p for p in rows if p in front]
            axes.plot([p.latency_ms for p in best], [p.kept for p in best], marker, color=SLIM, markersize=5)
        if report.budget.latency_ms is not None:
            axes.axvline(report.budget.latency_ms, color=INK, linewidth=1.8, linestyle=(0, (4, 2)))
        axes.set(xlabel=f"{name} in ms, predicted (dashed: budget)", ylabel="decoder layers kept")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid()
        axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=5)

    description = (
        f"Predicted {name} against layers kept, by weight format. Filled points are the Pareto front: none "
        "keeps as many layers in less time and memory. Fewer bits cost accuracy, too: that is not shown."
    )
    return render_svg("pareto", "Layers kept by weight format", description, (7.2, 3.3), draw)
