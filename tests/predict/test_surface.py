"""Surfaces over depth and length: exact on their own form, honest off it, never negative."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from topovlm.errors import InputError
from topovlm.predict.surface import FORMS, Surface, fit_surface, nonnegative_fit, profile_at

DEPTHS, LENGTHS = (2, 6, 16), (39, 55, 110, 220)


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
    assert line["intercept_ms"] == pytest.approx(prefill(0, 80), rel=1e-5)
    assert line["slope_ms_per_layer"] == pytest.approx(prefill(1, 80) - prefill(0, 80), rel=1e-6)
    assert surface.residual < 1e-6
    assert len(surface.held_out) == 12
    assert surface.spread == 0.01


def test_a_form_that_does_not_hold_shows() -> None:
    """A cliff between lengths appears in the held-out errors and in the spread."""
    points = {(n, s): prefill(n, s) * (2 if s > 100 else 1) for n in DEPTHS for s in LENGTHS}
    surface = fit_surface("prefill", points)
    assert surface.residual > 0.05
    assert surface.spread > 0.1


@given(st.integers(0, 10_000), st.integers(5, 12))
def test_nonnegative_fit_is_the_best_one(seed: int, count: int) -> None:
    """As good as an independent solver, also where noise would like a term below zero."""
    rng = np.random.default_rng(seed)
    places = [(int(n), int(s)) for n in DEPTHS for s in LENGTHS]
    places = [places[i] for i in rng.permutation(12)[:count]]
    values = np.array([prefill(n, s) for n, s in places]) * rng.uniform(0.5, 2, count)
    names = FORMS["prefill"]
    found = nonnegative_fit(names, places, values)
    design = np.array([[1, s, n, n * s, n * s * s] for n, s in places]) / values[:, None]
    scale = design.max(axis=0)
    best = nnls(design / scale, np.ones(count))[1]
    assert (found >= 0).all()
    assert np.linalg.norm(design @ found - 1) == pytest.approx(best, rel=1e-6, abs=1e-9)


def test_one_length_is_a_line_in_layers() -> None:
    """Where only depths were timed, the terms of length stay out and the line is exact."""
    surface = fit_surface("prefill", {(n, 50): 1.5 + 0.25 * n for n in DEPTHS})
    for n in (1, 4, 16):
        assert surface.ms(n, 50) == pytest.approx(1.5 + 0.25 * n)
    assert fit_surface("embed", {(0, 50): 0.3}).ms(0, 50) == pytest.approx(0.3)


def test_weights_that_outgrow_a_cache() -> None:
    """Where a layer costs more beyond a depth that was timed, both sides are met, and the line is local."""

    def token(n: float, c: float) -> float:
        return 0.1 + n * (0.05 + 1e-5 * c) + 0.06 * max(0.0, n - 6)

    depths = (2, 6, 11, 16)
    points = {(n, c): token(n, c) for n in depths for c in (43, 120, 224)}
    surface = fit_surface("token", points, bends=(6, 11))
    assert surface.residual < 1e-6
    for n in (3, 5, 8, 14, 20):
        assert surface.ms(n, 99) == pytest.approx(token(n, 99))
        line = surface.line(99, n)
        assert line["intercept_ms"] + n * line["slope_ms_per_layer"] == pytest.approx(token(n, 99))
    assert surface.line(99, 4)["slope_ms_per_layer"] == pytest.approx(0.05099)
    assert surface.line(99, 12)["slope_ms_per_layer"] == pytest.approx(0.11099)
    assert surface.bend(99, 12) == pytest.approx(0.0, abs=1e-6)
    assert surface.bend(99, 7) > 0.05
    assert Surface.from_dict(surface.to_dict()) == surface
    assert fit_surface("token", points).residual > 0.05


def test_surfaces_survive_json() -> None:
    """What is written is read back the same; something else is refused."""
    surface = fit_surface("token", {(n, s): 0.1 + n * (0.05 + 1e-5 * s) for n in DEPTHS for s in LENGTHS})
    assert Surface.from_dict(surface.to_dict()) == surface
    for bad in ({}, {"residual": 0.1, "held_out": []}):
        with pytest.raises((KeyError, ValueError)):
            Surface.from_dict(bad)


def profile() -> dict[str, Any]:
    """The parts of a profile that `profile_at` reads."""
    context = [s + 4 for s in LENGTHS]
    surfaces = {
        "embed": fit_surface("embed", {(0, s): 0.1 + 0.001 * s for s in LENGTHS}),
        "prefill": fit_surface("prefill", {(n, s): prefill(n, s) for n in DEPTHS for s in LENGTHS}),
        "token": fit_surface("token", {(n, c): 0.1 + n * (0.05 + 1e-5 * c) for n in DEPTHS for c in context}),
    }
    return {
        "target": "local",
        "surfaces": {name: surface.to_dict() for name, surface in surfaces.items()},
        "layers": 16,
        "lengths": list(LENGTHS),
        "noise": {"prefill": 0.005, "token": 0.004},
        "workload": {"visual_tokens": 36, "prompt_tokens": 19, "prefill_tokens": 55, "new_tokens": 8},
        "affine": {"vision_ms": 2.0, "prefill": {}, "decode": {}},
        "spread": {"vision": 0.02, "prefill": 0.5, "decode": 0.5},
    }


def test_a_profile_moves_to_another_length() -> None:
    """Lines, workload and spread at an untimed length; vision stays; the original is not touched."""
    before = profile()
    moved = profile_at(before, prefill_tokens=160, new_tokens=20)
    first, token = moved["affine"]["prefill"], moved["affine"]["decode"]
    expected = 0.1 + 0.001 * 160 + prefill(9, 160)
    assert first["intercept_ms"] + 9 * first["slope_ms_per_layer"] == pytest.approx(expected)
    expected = 0.1 + 9 * (0.05 + 1e-5 * 170)
    assert token["intercept_ms"] + 9 * token["slope_ms_per_layer"] == pytest.approx(expected)
    assert moved["affine"]["vision_ms"] == 2.0
    assert moved["workload"] == {
        "visual_tokens": 36, "prompt_tokens": 124, "prefill_tokens": 160, "new_tokens": 20
    }  # fmt: skip
    assert moved["spread"] == pytest.approx({"vision": 0.02, "prefill": 0.015, "decode": 0.014})
    assert before == profile()


def test_reach_beyond_the_timed_lengths() -> None:
    """A little beyond, the spread grows; far beyond, and without surfaces, nothing is claimed."""
    moved = profile_at(profile(), prefill_tokens=330)
    assert moved["spread"]["prefill"] == pytest.approx(0.015 * 1.5**2)
    assert profile_at(profile(), prefill_tokens=500) == profile()
    old = {"target": "local", "affine": {}}
    assert profile_at(old, prefill_tokens=50) == old
    single = {**profile(), "lengths": [55]}
    assert profile_at(single, prefill_tokens=60) == single


@pytest.mark.parametrize("key", ["lengths", "noise", "workload", "affine", "spread"])
def test_broken_profiles_are_refused(key: str) -> None:
    """A part that is missing is named."""
    broken = {name: value for name, value in profile().items() if name != key}
    with pytest.raises(InputError, match=f"not a usable profile.*{key}"):
        profile_at(broken, prefill_tokens=80)
