"""Pictures of a barcode, drawn on matplotlib axes that the caller owns. Import where a picture is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from topovlm.topology.barcode import Barcode
from topovlm.topology.descriptors import (
    births_frequency,
    effective_bars,
    effective_image,
    gaussian_image,
    mean_persistence,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

COLOURS = ("#4477aa", "#cc6677", "#228833", "#ccbb44")
MARKERS = ("o", "s", "^", "D")  # beside the colours: curves are told apart without them
LONGEST_BARS = 400  # more lines than this cannot be told apart


def draw_barcode(axes: Axes, barcode: Barcode, dim: int, most: int = LONGEST_BARS) -> None:
    """Bars by layer, by birth and then length; of many bars the `most` longest, and the title says so."""
    bars = effective_bars(barcode, dim)
    total = len(bars)
    lives = bars[:, 1] - bars[:, 0]
    bars = bars[np.argsort(-lives, kind="stable")[:most]]
    bars = bars[np.lexsort((bars[:, 1], bars[:, 0]))]
    places = np.arange(len(bars))
    axes.hlines(places, bars[:, 0], bars[:, 1], color=COLOURS[dim % len(COLOURS)], linewidth=1.2)
    axes.set_xlim(0, barcode.layers)
    axes.set_yticks([])
    axes.set_xlabel("layer")
    shown = f"the {len(bars):,} longest of {total:,} bars" if len(bars) < total else f"{total:,} bars"
    axes.set_title(f"H{dim}: {shown}")


def draw_image(axes: Axes, barcode: Barcode, dim: int, sigma: float | None = None) -> QuadMesh:
    """Effective persistence image as a heat map: counts, or smoothed with width `sigma` in layers."""
    if sigma is None:
        counts = effective_image(barcode, dim)
        values = np.zeros((barcode.layers, barcode.layers))
        births, deaths = np.nonzero(counts)
        values[births, deaths - births - 1] = counts[births, deaths]
        title = f"H{dim}: bars by birth and persistence (log scale)"
        values = np.log1p(values)
    else:
        values = gaussian_image(barcode, dim, sigma)
        title = f"H{dim}: persistence image, width {sigma:g} layers"
    edges = np.arange(barcode.layers + 1)
    image = axes.pcolormesh(edges - 0.5, edges + 0.5, values.T, cmap="viridis", linewidth=0)
    axes.set_xlabel("birth layer")
    axes.set_ylabel("persistence in layers")
    axes.set_title(title)
    return image


def _draw_curve(axes: Axes, values: np.ndarray, dim: int) -> None:
    """One value per layer of one homology dimension."""
    colour, marker = COLOURS[dim % len(COLOURS)], MARKERS[dim % len(MARKERS)]
    axes.plot(values, marker=marker, markersize=3, color=colour, label=f"H{dim}")


def draw_mean_persistence(
    axes: Axes, barcode: Barcode, dims: tuple[int, ...] = (0, 1), alpha: float = 0.0
) -> None:
    """Zbar by layer, one curve per homology dimension; high means that the layer may go."""
    for dim in dims:
        values = mean_persistence(barcode, dim, alpha)
        _draw_curve(axes, values, dim)
    axes.set_xlabel("layer")
    axes.set_ylabel("mean inter-layer persistence")
    axes.set_title(f"share of features kept, alpha = {alpha:g}")
    axes.legend(frameon=False)


def draw_births(axes: Axes, barcode: Barcode, dims: tuple[int, ...] = (0, 1)) -> None:
    """Share of bars born at every layer; peaks mark transitions."""
    for dim in dims:
        values = births_frequency(barcode, dim)
        _draw_curve(axes, values, dim)
    axes.set_xlabel("layer")
    axes.set_ylabel("share of births")
    axes.set_title("where features are born")
    axes.legend(frameon=False)
