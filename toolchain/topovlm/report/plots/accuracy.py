"""Accuracy by category, with intervals and the chance level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topovlm.report.document import Report
from topovlm.report.plots.whisker import whisker
from topovlm.report.svg import DENSE, MUTED, PAPER, SHADE, SLIM, render_svg
from topovlm.text import for_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def accuracy_plot(report: Report) -> str:
    """Share right (or mean score) per category, dense and slim on one row, with intervals and chance."""
    assert report.accuracy is not None
    right = "right answers" if report.accuracy.overall.binary else "score"
    rows = [report.accuracy.overall, *report.accuracy.categories]

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.axhspan(-0.5, 0.5, color=SHADE, linewidth=0)
        for row, summary in enumerate(rows):
            chance, first = 100 * summary.chance, row == 0
            ends = [row - 0.36, row + 0.36]
            label = "chance" if first else None
            axes.plot([chance] * 2, ends, color=MUTED, linewidth=2, linestyle=(0, (1, 1)), label=label)
            for name, offset, color, fill, marker, figure in (
                ("dense", -0.15, DENSE, PAPER, "o", summary.dense),
                ("slim", 0.15, SLIM, SLIM, "s", summary.slim),
            ):
                if figure is None:
                    continue
                label, x, y = name if first else None, 100 * figure.value, row + offset
                whisker(axes, y, figure, color, 100)
                axes.plot([x], [y], marker, color=color, markerfacecolor=fill, markersize=6.5, label=label)
        axes.set_yticks(range(len(rows)), [for_plot(summary.category.replace("_", " ")) for summary in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-2, 102)
        axes.set_xlabel(f"{right} in % (lines: 95 % interval)")
        axes.grid(axis="x")
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, 1.0 + 0.5 / len(rows) + 0.04), ncols=3)

    words = "share of right answers" if report.accuracy.overall.binary else "mean score"
    description = f"Dense and slim {words} per category with chance levels; values in the table below."
    return render_svg("accuracy", "Accuracy per category", description, (7.2, 1.2 + 0.42 * len(rows)), draw)
