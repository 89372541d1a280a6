"""What the barcode says about layers: persistence images, inter-layer persistence, births, activity.

Definitions follow Gardinazzi et al., "Persistent Topological Features in Large Language Models" (ICML 2025,
arXiv 2410.11042) and, for the Gaussian image, arXiv 2604.16502. Everything is read at layer resolution: the
map i -> ceil(i / 2) takes bar indices to layers, and bars that live at an intersection only vanish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from topovlm.errors import InputError, explain
from topovlm.topology.barcode import Barcode

Compat = Literal["paper", "released-code"]
Normalisation = Literal["row", "column"]
Weight = Literal["persistence", "one"] | Callable[[NDArray[np.float64]], NDArray[np.float64]]


def effective_bars(barcode: Barcode, dim: int) -> NDArray[np.int64]:
    """Bars in layers: int64 [n, 2], alive at the layers birth <= l < death; birth < death always."""
    bars = (barcode.of_dim(dim) + 1) // 2
    return bars[bars[:, 0] < bars[:, 1]]


def effective_image(barcode: Barcode, dim: int) -> NDArray[np.int64]:
    """PI_p: int64 [L, L + 1], entry (b, d) counts the bars born at layer b and gone at layer d."""
    bars = effective_bars(barcode, dim)
    image = np.zeros((barcode.layers, barcode.layers + 1), dtype=np.int64)
    np.add.at(image, (bars[:, 0], bars[:, 1]), 1)
    return image


def rank_matrix(barcode: Barcode, dim: int) -> NDArray[np.int64]:
    """R: int64 [L, L], symmetric; R(i, j) counts the bars alive from layer min(i, j) to layer max(i, j)."""
    image = effective_image(barcode, dim)
    alive = np.cumsum(image, axis=0)  # born at or before the row
    beyond = np.cumsum(alive[:, ::-1], axis=1)[:, ::-1]  # gone at or after the column
    upper = np.triu(beyond[:, 1:])
    return upper + np.triu(upper, 1).T


def betti_curve(barcode: Barcode, dim: int) -> NDArray[np.int64]:
    """beta_p(l), the Betti number at every layer: int64 [L]."""
    return barcode.betti(dim)[::2]


def interlayer_persistence(
    barcode: Barcode, dim: int, normalisation: Normalisation = "row"
) -> NDArray[np.float64]:
    """Z_p(l, l') = R(l, l') / beta_p(l): float64 [L, L]; 0 where the Betti number is 0.

    "column" divides by beta_p(l') instead.
    """
    ranks = rank_matrix(barcode, dim).astype(np.float64)
    betti = np.diag(ranks)
    if normalisation == "row":
        divisor = betti[:, None]
    elif normalisation == "column":
        divisor = betti[None, :]
    else:
        raise InputError(explain("normalisation", normalisation, "one of row, column"))
    return np.divide(ranks, divisor, out=np.zeros_like(ranks), where=divisor > 0)


def mean_persistence(
    barcode: Barcode, dim: int = 1, alpha: float = 0.0, compat: Compat = "paper"
) -> NDArray[np.float64]:
    """Zbar_p(l): mean of Z_p(l, l') over l' != l with weights |l - l'|^alpha: float64 [L]. High: may go.

    A single layer has no other: its mean is 0. `compat="released-code"` gives the figures of the authors'
    released code, which differ from the paper: division by beta_p(l'), l' = l included (with weight 1 at
    alpha = 0), and NaN for every layer as soon as one Betti number is 0.
    """
    layers = barcode.layers
    if not np.isfinite(alpha):
        raise InputError(explain("alpha", alpha, "a finite number; 0 weighs all layers alike"))
    gaps = np.abs(np.subtract.outer(np.arange(layers), np.arange(layers))).astype(np.float64)
    if compat == "released-code":
        if alpha < 0:
            raise InputError(
                explain("alpha", alpha, "the released code includes the layer itself: from 0 up")
            )
        ranks = rank_matrix(barcode, dim).astype(np.float64)
        weights = gaps**alpha
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = ranks / np.diag(ranks)[None, :]
            means: NDArray[np.float64] = (weights * shares).sum(axis=1) / weights.sum(axis=1)
            return means
    if compat != "paper":
        raise InputError(explain("compat", compat, "one of paper, released-code"))
    weights = np.where(gaps > 0, np.maximum(gaps, 1.0) ** alpha, 0.0)
    total: NDArray[np.float64] = weights.sum(axis=1)
    weighted: NDArray[np.float64] = (weights * interlayer_persistence(barcode, dim)).sum(axis=1)
    return np.divide(weighted, total, out=np.zeros(layers), where=total > 0)


def births_frequency(barcode: Barcode, dim: int, weight: Weight = "one") -> NDArray[np.float64]:
    """Share of the bars born at every layer: float64 [L], summing to 1, or all 0 without bars.

    Bars may be weighted by persistence (in layers) or by a function of it. Peaks mark layers of transition.
    """
    bars = effective_bars(barcode, dim)
    counts: Any = np.bincount(bars[:, 0], weights=_weights(bars, weight), minlength=barcode.layers)
    births: NDArray[np.float64] = counts  # numpy's stubs know integer counts only
    total: float = births.sum()
    return births / total if total > 0 else births


def gaussian_image(
    barcode: Barcode, dim: int, sigma: float = 1.0, weight: Weight = "persistence"
) -> NDArray[np.float64]:
    """EPI_p(u, v) = sum_j w(tau_j) exp(-((u - b_j)^2 + (v - tau_j)^2) / (2 sigma^2)): float64 [L, L].

    Row u = 0..L-1 is the birth layer, column v - 1 the persistence v = 1..L in layers. arXiv 2604.16502
    leaves sigma (in layers) and w open; they are parameters here.
    """
    if not sigma > 0 or not np.isfinite(sigma):
        raise InputError(explain("sigma", sigma, "a width in layers, above 0"))
    bars = effective_bars(barcode, dim)
    births, lives = bars[:, 0], bars[:, 1] - bars[:, 0]
    grid = np.arange(barcode.layers)
    at_birth = np.exp(-((grid[:, None] - births[None, :]) ** 2) / (2.0 * sigma**2))
    at_life = np.exp(-((grid[:, None] + 1 - lives[None, :]) ** 2) / (2.0 * sigma**2))
    image: NDArray[np.float64] = (at_birth * _weights(bars, weight)[None, :]) @ at_life.T
    return image


def activity(image: np.ndarray) -> NDArray[np.float64]:
    """A(l) = sum over persistence of a persistence image [L, any]: float64 [L]."""
    total: NDArray[np.float64] = np.asarray(image, dtype=np.float64).sum(axis=1)
    return total


def _weights(bars: NDArray[np.int64], weight: Weight) -> NDArray[np.float64]:
    lives = (bars[:, 1] - bars[:, 0]).astype(np.float64)
    if callable(weight):
        return np.asarray(weight(lives), dtype=np.float64)
    if weight == "persistence":
        return lives
    if weight == "one":
        return np.ones(len(bars))
    raise InputError(
        explain("weight", weight, "persistence, one, or a function of the persistence in layers")
    )
