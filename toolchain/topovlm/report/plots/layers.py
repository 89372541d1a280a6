"""Score of every decoder layer, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topovlm.report import formats
from topovlm.report.document import Selection
from topovlm.report.svg import DENSE, MUTED, PAPER, SHADE, SLIM, render_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


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
