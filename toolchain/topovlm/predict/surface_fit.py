"""Surfaces fitted to timings: non-negative least squares of relative errors; every point left out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from topovlm.predict.surface import FORMS, Point, Surface, term

_MOST_STEPS = 100  # of the solver, per term
_SAME = 1e-12  # columns that differ by less, of a largest entry of 1, are one


def fit_surface(form: str, points: Mapping[Point, float], bends: Sequence[int] = ()) -> Surface:
    """Fit `points` -> ms (all positive), relative errors weighing alike; then each point from the others.

    `bends`: depths from which on a further layer may cost more (those timed, between the least and the most).
    Terms that the points cannot tell apart are left to the earlier one.
    """
    places, values = list(points), np.array(list(points.values()), float)
    names = (*FORMS[form], *(f"per_layer_beyond_{depth}_ms" for depth in bends))
    coefficients = nonnegative_fit(names, places, values)
    whole = _design(names, places) @ coefficients
    held_out = []
    for index, place in enumerate(places):
        others = np.delete(np.arange(len(places)), index)
        # Without it the lengths or the depths may no longer span the form: that would test nothing.
        rest = [places[i] for i in others]
        if _rank(names, rest) < _rank(names, places):
            continue
        found = nonnegative_fit(names, rest, values[others])
        held_out.append(float((_design(names, [place]) @ found)[0] / values[index] - 1))
    return Surface(
        coefficients=dict(zip(names, map(float, coefficients), strict=True)),
        residual=float(np.abs(whole / values - 1).max()),
        held_out=tuple(held_out),
    )


def nonnegative_fit(
    names: Sequence[str], places: Sequence[Point], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients >= 0 `[len(names)]` of least squared relative error (Lawson and Hanson, `scipy.nnls`).

    Terms that are multiples of each other at these points cannot be told apart: the earliest takes it all.
    """
    from scipy.optimize import nnls

    design = _design(names, places) / values[:, None]
    scale = np.abs(design).max(axis=0)
    scale[scale == 0] = 1.0
    design = design / scale
    told_apart = [
        i
        for i in range(len(names))
        if not any(np.allclose(design[:, i], design[:, j], rtol=0, atol=_SAME) for j in range(i))
    ]
    found, _ = nnls(design[:, told_apart], np.ones(len(values)), maxiter=_MOST_STEPS * len(names))
    coefficients = np.zeros(len(names))
    coefficients[told_apart] = found / scale[told_apart]
    return coefficients


def _design(names: Sequence[str], places: Sequence[Point]) -> NDArray[np.float64]:
    terms = [term(name) for name in names]
    return np.array([[each(n, s) for each in terms] for n, s in places], float)


def _rank(names: Sequence[str], places: Sequence[Point]) -> int:
    if not places:
        return 0
    design = _design(names, places)
    scale = np.abs(design).max(axis=0)
    return int(np.linalg.matrix_rank(design / np.where(scale > 0, scale, 1.0)))
