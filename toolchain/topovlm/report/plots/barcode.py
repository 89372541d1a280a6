"""What the topology of the samples says about the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topovlm.report.document import Selection
from topovlm.report.svg import DENSE, MUTED, SHADE, render_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from topovlm.topology.barcode import Barcode


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
