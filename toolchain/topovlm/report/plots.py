"""The report's plots. Nothing is told by colour alone: dropped layers are hatched and crossed, slim is filled
where dense is open, predictions are diamonds.

Each function returns one `<svg>` string with a title and a description for screen readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from topovlm.report import formats
from topovlm.report.budgets import bound_ms
from topovlm.report.document import (
    Figure,
    FormatPoint,
    PhaseTimes,
    PlanRow,
    Report,
    Selection,
    Workload,
    plan_row,
)
from topovlm.report.svg import DENSE, INK, MUTED, PAPER, SHADE, SLIM, render_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from topovlm.topology.barcode import Barcode


def layers_plot(selection: Selection) -> str:
    """Score of every decoder layer; dropped ones hatched and crossed, protected ones pale."""
    scores, dropped, protected = selection.scores, set(selection.dropped), set(selection.protected)

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        groups = {
            "kept": [i for i in range(len(scores)) if i not in dropped and i not in protected],
            "dropped": sorted(dropped),
            "protected": sorted(protected - dropped),
        }
        # edge, fill, hatch
        looks = {
            "kept": (DENSE, DENSE, ""),
            "dropped": (SLIM, PAPER, "////"),
            "protected": (MUTED, SHADE, ""),
        }
        for group, layers in groups.items():
            heights = [scores[layer] for layer in layers]
            edge, fill, hatch = looks[group]
            if layers:
                axes.bar(layers, heights, 0.74, color=fill, edgecolor=edge, hatch=hatch, label=group)
        top = max([*scores, 0.0]) or 1.0
        for layer in groups["dropped"]:
            axes.text(
                layer,
                max(scores[layer], 0) + 0.02 * top,
                "×",
                ha="center",
                va="bottom",
                color=SLIM,
                weight="bold",
            )
        axes.set(xlabel="decoder layer (0 = next to the input)", ylabel="score: high may go")
        axes.set_xticks(range(0, len(scores), 1 if len(scores) <= 20 else 4))
        axes.set_xlim(-0.7, len(scores) - 0.3)
        axes.set_ylim(min([*scores, 0.0]), 1.22 * top)
        axes.grid(axis="y")
        axes.legend(ncols=3, loc="upper left")

    description = (
        f"Bar chart of {len(scores)} layer scores by {selection.scorer}. Dropped: "
        f"{formats.layer_list(selection.dropped)}. Protected: {formats.layer_list(selection.protected)}. "
        "The table below lists every score."
    )
    return render_svg("layers", "Score per decoder layer", description, (7.2, 3.1), draw)


def _whisker(axes: Axes, y: float, figure: Figure, color: str, scale: float = 1.0) -> None:
    if figure.low is not None and figure.high is not None:
        axes.plot(
            [scale * figure.low, scale * figure.high],
            [y, y],
            color=color,
            linewidth=1.6,
            solid_capstyle="butt",
        )


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
            _whisker(axes, y, figure, INK)
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
                _whisker(axes, y, figure, color)
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
            axes.set_title(title, loc="left", fontsize=10.5, color=MUTED)
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


def accuracy_plot(report: Report) -> str:
    """Share right per family, dense and slim on one row, with intervals and the chance level."""
    assert report.accuracy is not None
    rows = [report.accuracy.overall, *report.accuracy.families]

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.axhspan(-0.5, 0.5, color=SHADE, linewidth=0)
        for row, family in enumerate(rows):
            chance, first = 100 * family.chance, row == 0
            ends = [row - 0.36, row + 0.36]
            label = "chance" if first else None
            axes.plot([chance] * 2, ends, color=MUTED, linewidth=2, linestyle=(0, (1, 1)), label=label)
            for name, offset, color, fill, marker, figure in (
                ("dense", -0.15, DENSE, PAPER, "o", family.dense),
                ("slim", 0.15, SLIM, SLIM, "s", family.slim),
            ):
                if figure is None:
                    continue
                label, x, y = name if first else None, 100 * figure.value, row + offset
                _whisker(axes, y, figure, color, 100)
                axes.plot([x], [y], marker, color=color, markerfacecolor=fill, markersize=6.5, label=label)
        axes.set_yticks(range(len(rows)), [family.family.replace("_", " ") for family in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-2, 102)
        axes.set_xlabel("right answers in % (lines: 95 % interval)")
        axes.grid(axis="x")
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, 1.0 + 0.5 / len(rows) + 0.04), ncols=3)

    description = (
        "Dense and slim share of right answers per family with chance levels; values in the table below."
    )
    return render_svg("accuracy", "Accuracy per family", description, (7.2, 1.2 + 0.42 * len(rows)), draw)


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
                      markerfacecolor=PAPER, label=dtype)  # fmt: skip
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


def barcode_plot(selection: Selection) -> str:
    """Zigzag bars by dimension over the layers; thicker for several equal ones, dropped layers shaded."""
    dims = sorted({bar.dim for bar in selection.barcode})
    layers = len(selection.scores)

    def draw(canvas: Canvas) -> None:
        for axes, dim in zip(canvas.subplots(len(dims), sharex=True, squeeze=False)[:, 0], dims, strict=True):
            bars = [bar for bar in selection.barcode if bar.dim == dim and bar.death > bar.birth]
            bars.sort(key=lambda bar: (bar.birth, bar.death))
            for layer in selection.dropped:
                axes.axvspan(layer - 0.5, layer + 0.5, color=SHADE, linewidth=0)
            for row, bar in enumerate(bars):
                width = min(5.0, 1.0 + bar.count**0.5 / 2)
                axes.plot(
                    [bar.birth / 2, bar.death / 2],
                    [row, row],
                    color=DENSE,
                    linewidth=width,
                    solid_capstyle="butt",
                )
            axes.set_yticks([])
            axes.set_ylabel(f"H{dim}")
            axes.set_xlim(-0.7, layers - 0.3)
            axes.spines["left"].set_visible(False)
        axes.set_xlabel("decoder layer (shaded: dropped)")

    description = (
        f"Zigzag persistence bars in dimension {', '.join(map(str, dims))} over {layers} layers; thicker "
        "lines stand for several equal bars. Long bars are structure that persists."
    )
    return render_svg("barcode", "Zigzag barcode", description, (7.2, 1.0 + 1.6 * len(dims)), draw)


def barcode_of(selection: Selection) -> Barcode:
    """The report's bars as the engine gives them: one row each, with the index where a bar is gone."""
    import numpy as np

    from topovlm.topology.barcode import Barcode

    rows = np.array([(bar.dim, bar.birth, bar.death + 1) for bar in selection.barcode])
    counts = [bar.count for bar in selection.barcode]
    return Barcode.from_rows(
        np.repeat(rows, counts, axis=0), len(selection.scores), max(bar.dim for bar in selection.barcode)
    )


def topology_plot(selection: Selection) -> str:
    """Persistence image of the loops, and by layer the share of features kept and where they are born."""
    from topovlm.topology.plots import draw_births, draw_image, draw_mean_persistence

    dims = sorted({bar.dim for bar in selection.barcode})
    barcode = barcode_of(selection)

    def draw(canvas: Canvas) -> None:
        image, kept, born = canvas.subplots(1, 3)
        draw_image(image, barcode, max(dims))
        draw_mean_persistence(kept, barcode, tuple(dims))
        draw_births(born, barcode, tuple(dims))
        titles = (f"H{max(dims)}: bars, log scale", "share of features kept", "where features are born")
        for axes, title in zip((image, kept, born), titles, strict=True):
            axes.set_title("")
            axes.set_title(title, loc="left", fontsize=10.5, color=MUTED)
        for axes in (kept, born):
            axes.set_ylabel("")
            axes.grid(axis="y")

    description = (
        f"Three plots over {len(selection.scores)} layers: a heat map of the bars of dimension {max(dims)} "
        "by birth layer and persistence; the mean share of a layer's features that other layers have, too "
        "(high may go); the share of all features born at each layer (peaks are transitions)."
    )
    return render_svg("topology", "What the barcode says about the layers", description, (8.4, 3.0), draw)


def all_plots(report: Report) -> dict[str, str]:
    """Every plot that the report has data for, by the name that `tables.Section.plots` uses."""
    plots: dict[str, str] = {}
    if report.latency or report.plan.rows:
        plots["latency"] = latency_plot(report)
    if report.accuracy:
        plots["accuracy"] = accuracy_plot(report)
    if report.selection:
        plots["layers"] = layers_plot(report.selection)
        if any(bar.death > bar.birth for bar in report.selection.barcode):
            plots["barcode"] = barcode_plot(report.selection)
            plots["topology"] = topology_plot(report.selection)
    if report.plan.rows:
        plots["plan"] = plan_plot(report)
    if report.plan.formats:
        plots["pareto"] = pareto_plot(report)
    return plots
