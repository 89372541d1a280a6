"""Latency by phase: measured medians, predictions beside them or on a panel of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topovlm.report import formats
from topovlm.report.budgets import bound_ms
from topovlm.report.document import Figure, PhaseTimes, Report, Workload
from topovlm.report.plots.whisker import whisker
from topovlm.report.svg import DENSE, INK, MUTED, PAPER, SLIM, render_svg
from topovlm.text import for_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def _models(report: Report, phase: str) -> list[tuple[str, float, str, str, Figure | None]]:
    """Per model: name, offset within the row, colour, fill, predicted figure of the phase."""
    return [
        ("dense", -0.18, DENSE, PAPER, formats.predicted(report, "dense", phase)),
        ("slim", 0.18, SLIM, SLIM, formats.predicted(report, "slim", phase)),
    ]


def _timed_rows(axes: Axes, phases: tuple[PhaseTimes, ...], report: Report, here: bool) -> None:
    for row, phase in enumerate(phases):
        for model, offset, color, fill, expected in _models(report, phase.phase):
            figure, y = phase.dense if model == "dense" else phase.slim, row + offset
            if figure is None:
                continue
            label = f"{model}, measured" if row == 0 else None
            axes.barh(y, figure.value, 0.3, color=fill, edgecolor=color, linewidth=1.2, label=label)
            whisker(axes, y, figure, INK)
            if here and expected is not None:
                label = "predicted" if row == 0 and model == "dense" else None
                axes.plot(
                    [expected.value], [y], "D", color=INK, markersize=6, markerfacecolor="none", label=label
                )


def _predicted_rows(axes: Axes, report: Report) -> list[str]:
    names = list(formats.predicted_phases(report))
    for row, name in enumerate(names):
        for model, offset, color, fill, figure in _models(report, name):
            if figure is not None:
                label, y = f"{model}, predicted" if row == 0 else None, row + offset
                axes.plot(
                    [figure.value], [y], "D", color=color, markersize=7, markerfacecolor=fill, label=label
                )
                whisker(axes, y, figure, color)
    return names


def _budget_mark(axes: Axes, names: list[str], report: Report) -> None:
    bound = bound_ms(report)
    if bound is None or report.budget.latency_phase not in names:
        return
    row = names.index(report.budget.latency_phase)
    axes.plot([bound, bound], [row - 0.48, row + 0.48], color=INK, linewidth=2, linestyle=(0, (4, 2)))
    axes.annotate("budget", (bound, row - 0.48), ha="center", va="bottom", color=INK, fontsize=9.5)


def _row_name(phase: str, workload: Workload) -> str:
    name = formats.phase_name(phase)
    return f"{name}, {workload.new_tokens} tokens" if phase == "end_to_end" else name


def latency_plot(report: Report) -> str:
    """Measured medians by phase; predictions beside them, or on a panel of their own for another machine."""
    latency = report.latency
    here = bool(latency and latency.is_target)
    panels = ([f"measured on {latency.where}"] if latency else []) + (
        [f"predicted for {report.target.board}"] if not here and report.plan.rows else []
    )

    def draw(canvas: Canvas) -> None:
        for axes, title in zip(
            canvas.subplots(max(1, len(panels)), squeeze=False)[:, 0], panels, strict=False
        ):
            if latency and title == panels[0]:
                names: list[str] = [phase.phase for phase in latency.phases]
                _timed_rows(axes, latency.phases, report, here)
            else:
                names = _predicted_rows(axes, report)
            if here or axes is not canvas.axes[0] or not latency:
                _budget_mark(axes, names, report)
            workload = latency.workload if latency and title == panels[0] else report.workload
            axes.set_yticks(range(len(names)), [_row_name(name, workload) for name in names])
            axes.set_ylim(len(names) - 0.4, -0.75)
            axes.set_xlim(left=0)
            axes.set_xlabel("ms")
            axes.set_title(for_plot(title), loc="left", fontsize=10.5, color=MUTED)
            axes.grid(axis="x")
            axes.legend(loc="upper center", bbox_to_anchor=(0.42, -0.2 if len(names) > 3 else -0.3), ncols=3)

    rows = len(latency.phases) if latency else 0
    expected = len(formats.predicted_phases(report)) if len(panels) > (1 if latency else 0) else 0
    height = 1.1 * max(1, len(panels)) + 0.5 * (rows + expected)
    description = (
        "Bars: medians in ms by phase; lines: 95 % intervals of what was measured, ranges of what is "
        "predicted. The tables below list every figure."
    )
    return render_svg(
        "latency", "Latency of dense and slim by phase", description, (7.2, max(height, 2.4)), draw
    )
