"""Surfaces over depth and length: exact on their own form, honest off it, never negative."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topovlm.errors import InputError
from topovlm.predict.surface import FORMS, Surface
from topovlm.predict.surface_fit import fit_surface, nonnegative_fit
from topovlm.records import decode, encode

DEPTHS, LENGTHS = (2, 6, 16), (39.0, 55.0, 110.0, 220.0)


def prefill(n: float, s: float, terms: tuple[float, ...] = (0.2, 0.001, 0.05, 0.002, 3e-6)) -> float:
    """A prefill time with the given fixed, token, layer, layer-token and attention terms."""
    a, b, c, d, e = terms
    return a + b * s + n * (c + d * s + e * s * s)


def test_untimed_lengths_and_depths_are_interpolated() -> None:
    """From points of the form, any other point follows, extrapolated ones too; nothing is held against it."""
    surface = fit_surface("prefill", {(n, s): prefill(n, s) for n in DEPTHS for s in LENGTHS})
    for n, s in ((3, 47), (9, 160), (28, 400)):
        assert surface.ms(n, s) == pytest.approx(prefill(n, s), rel=1e-6)
    line = surface.line(80)
    assert line.intercept_ms == pytest.approx(prefill(0, 80), rel=1e-5)
    assert line.slope_ms_per_layer == pytest.approx(prefill(1, 80) - prefill(0, 80), rel=1e-6)
    assert surface.residual < 1e-6
    assert len(surface.held_out) == 12
    assert surface.spread == 0.01


def test_a_form_that_does_not_hold_shows() -> None:
    """A cliff between lengths appears in the held-out errors and in the spread."""
    points = {(n, s): prefill(n, s) * (2 if s > 100 else 1) for n in DEPTHS for s in LENGTHS}
    surface = fit_surface("prefill", points)
    assert surface.residual > 0.05
    assert surface.spread > 0.1


def by_subsets(design: np.ndarray) -> np.ndarray:
    """The oracle: coefficients >= 0 of least squares against ones, by trying every subset of terms."""
    best, least = np.zeros(design.shape[1]), float(len(design))  # of no term at all
    for size in range(1, min(design.shape) + 1):
        for chosen in combinations(range(design.shape[1]), size):
            part = design[:, chosen]
            found, _, rank, _ = np.linalg.lstsq(part, np.ones(len(design)), rcond=None)
            if rank < size or (found < 0).any():
                continue
            loss = float(((part @ found - 1) ** 2).sum())
            if loss < least * (1 - 1e-9) - 1e-15:
                best, least = np.zeros(design.shape[1]), loss
                best[list(chosen)] = found
    return best


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 12))
def test_nonnegative_fit_is_the_best_one(seed: int, count: int) -> None:
    """As good as trying every subset of terms, also where noise would like a term below zero.

    Where the points determine all terms, the coefficients are the same ones.
    """
    rng = np.random.default_rng(seed)
    places = [(int(n), int(s)) for n in DEPTHS for s in LENGTHS]
    places = [places[i] for i in rng.permutation(12)[:count]]
    values = np.array([prefill(n, s) for n, s in places]) * rng.uniform(0.5, 2, count)
    found = nonnegative_fit(FORMS["prefill"], places, values)
    design = np.array([[1, s, n, n * s, n * s * s] for n, s in places]) / values[:, None]
    scale = design.max(axis=0)
    best = by_subsets(design / scale)
    assert (found >= 0).all()
    misses = [np.linalg.norm(design / scale @ each - 1) for each in (found * scale, best)]
    assert misses[0] == pytest.approx(misses[1], rel=1e-6, abs=1e-9)
    if np.linalg.matrix_rank(design / scale) == 5:
        assert found * scale == pytest.approx(best, rel=1e-6, abs=1e-6)


def test_terms_that_cannot_be_told_apart_are_left_to_the_earliest() -> None:
    """At one length a token costs what a call costs, and a layer's tokens what a layer costs."""
    places = [(n, 50) for n in DEPTHS]
    values = np.array([1.5 + 0.25 * n for n, _ in places])
    found = nonnegative_fit(FORMS["prefill"], places, values)
    assert found == pytest.approx([1.5, 0, 0.25, 0, 0])


def test_one_length_is_a_line_in_layers() -> None:
    """Where only depths were timed, the terms of length stay out and the line is exact."""
    surface = fit_surface("prefill", {(n, 50.0): 1.5 + 0.25 * n for n in DEPTHS})
    for n in (1, 4, 16):
        assert surface.ms(n, 50) == pytest.approx(1.5 + 0.25 * n)
    assert fit_surface("embed", {(0, 50.0): 0.3}).ms(0, 50) == pytest.approx(0.3)


def test_weights_that_outgrow_a_cache() -> None:
    """Where a layer costs more beyond a depth that was timed, both sides are met, and the line is local."""

    def token(n: float, c: float) -> float:
        return 0.1 + n * (0.05 + 1e-5 * c) + 0.06 * max(0.0, n - 6)

    depths = (2, 6, 11, 16)
    points = {(n, c): token(n, c) for n in depths for c in (43.0, 120.0, 224.0)}
    surface = fit_surface("token", points, bends=(6, 11))
    assert surface.residual < 1e-6
    for n in (3, 5, 8, 14, 20):
        assert surface.ms(n, 99) == pytest.approx(token(n, 99))
        assert surface.line(99, n).at(n) == pytest.approx(token(n, 99))
    assert surface.line(99, 4).slope_ms_per_layer == pytest.approx(0.05099)
    assert surface.line(99, 12).slope_ms_per_layer == pytest.approx(0.11099)
    assert surface.bend(99, 12) == pytest.approx(0.0, abs=1e-6)
    assert surface.bend(99, 7) > 0.05
    assert fit_surface("token", points).residual > 0.05


def test_surfaces_survive_json() -> None:
    """What is written is read back the same; something else is refused, a wrong term by its name."""
    surface = fit_surface("token", {(n, s): 0.1 + n * (0.05 + 1e-5 * s) for n in DEPTHS for s in LENGTHS})
    assert decode(encode(surface), Surface, field="surface", name="token") == surface
    for bad, words in (
        ('{"coefficients": {}, "residual": 0.1, "held_out": []}', "no terms"),
        ('{"coefficients": {"per_year_ms": 1}, "residual": 0.1, "held_out": []}', "'per_year_ms' is no term"),
        ('{"coefficients": {"fixed_ms": 1}, "held_out": []}', "residual"),
    ):
        with pytest.raises(InputError, match=words):
            decode(bad, Surface, field="surface", name="token")
