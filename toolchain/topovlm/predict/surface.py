"""Times of a phase over depth and length: sums of the terms that the work of a transformer consists of.

    prefill(n, s) = a + b s + n (c + d s + e s^2)    n decoder layers, s prompt tokens with visual ones
    token(n, c)   = a + n (b + d c) + sum of k (n - m)+      c tokens of context, m depths that were timed
    embed(s)      = a + b s

a: what every call costs; b s: embedding rows and copies; n c: a layer's fixed cost and its weights' way
through the caches; n d s: its matrix products; n e s^2: its attention; k: what a layer costs more once the
weights of m layers have filled a cache (a new token reads each weight once, so where it lies is its time).
No term can be negative, so none is: lengths and depths that were never timed are interpolated by a shape
that work can have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from topovlm.errors import InputError, explain

Point = tuple[int, float]  # (decoder layers, tokens)
Term = Callable[[float, float], float]

_TERMS: dict[str, Term] = {
    "fixed_ms": lambda n, s: 1.0,
    "per_token_ms": lambda n, s: s,
    "per_layer_ms": lambda n, s: n,
    "per_layer_token_ms": lambda n, s: n * s,
    "per_layer_token_squared_ms": lambda n, s: n * s * s,
}
FORMS: dict[str, tuple[str, ...]] = {
    "embed": ("fixed_ms", "per_token_ms"),
    "prefill": tuple(_TERMS),
    "token": ("fixed_ms", "per_layer_ms", "per_layer_token_ms"),
}
_BEYOND = re.compile(r"per_layer_beyond_(\d+)_ms")
# How far beyond the timed lengths a prediction may reach, as a factor.
_REACH = 2.0
LEAST_SPREAD = 0.01  # a prediction is never claimed to be closer than this


@dataclass(frozen=True)
class Surface:
    """A fitted form. `held_out`: relative errors at points predicted from a fit to all the others."""

    coefficients: dict[str, float]
    residual: float  # worst relative miss of the points that were fitted
    held_out: tuple[float, ...]

    def ms(self, layers: float, tokens: float) -> float:
        """The phase's time."""
        return sum(value * _term(name)(layers, tokens) for name, value in self.coefficients.items())

    def line(self, tokens: float, layers: float = 1) -> dict[str, float]:
        """At one length the surface is a line in layers; where it bends, the one that ends at `layers`."""
        value = self.ms(layers, tokens)
        slope = value - self.ms(layers - 1, tokens)
        return {"intercept_ms": value - slope * layers, "slope_ms_per_layer": slope}

    def bend(self, tokens: float, layers: int) -> float:
        """How far the surface leaves `line(tokens, layers)` from a third below to a third above, relative."""
        line = self.line(tokens, layers)
        depths = range(max(1, layers * 2 // 3), layers * 4 // 3 + 1)
        straight = (line["intercept_ms"] + line["slope_ms_per_layer"] * n for n in depths)
        return max(abs(ms / self.ms(n, tokens) - 1) for n, ms in zip(depths, straight, strict=True))

    @property
    def spread(self) -> float:
        """The relative error to expect where nothing was timed: nine in ten held-out points do better."""
        errors = [abs(error) for error in self.held_out] or [self.residual]
        return max(LEAST_SPREAD, float(np.quantile(errors, 0.9)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it back."""
        return {**self.coefficients, "residual": self.residual, "held_out": list(self.held_out)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Surface:
        """Raises KeyError, TypeError or ValueError for what is no surface."""
        coefficients = {
            name: float(facts[name]) for name in facts if name in _TERMS or _BEYOND.fullmatch(name)
        }
        if not coefficients:
            raise ValueError("a surface has no terms")
        return cls(coefficients, float(facts["residual"]), tuple(map(float, facts["held_out"])))


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


def nonnegative_fit(names: Sequence[str], places: Sequence[Point], values: np.ndarray) -> np.ndarray:
    """Coefficients >= 0 `[len(names)]` of least squared relative error: every subset of terms is tried.

    With seven terms that is 127 small problems, exact and without iteration.
    """
    design = _design(names, places) / values[:, None]
    scale = np.abs(design).max(axis=0)
    scale[scale == 0] = 1.0
    design = design / scale
    best, least = np.zeros(len(names)), float(len(values))  # of no term at all
    for size in range(1, min(len(names), len(values)) + 1):
        for chosen in combinations(range(len(names)), size):
            part = design[:, chosen]
            found, _, rank, _ = np.linalg.lstsq(part, np.ones(len(values)), rcond=None)
            if rank < size or (found < 0).any():
                continue
            loss = float(((part @ found - 1) ** 2).sum())
            if loss < least * (1 - 1e-9) - 1e-15:
                best, least = np.zeros(len(names)), loss
                best[list(chosen)] = found
    return best / scale


def profile_at(
    profile: Mapping[str, Any], *, prefill_tokens: int, new_tokens: int = 1, keep_layers: int | None = None
) -> dict[str, Any]:
    """The profile as if measured with this prompt length: lines, spread and workload at other tokens.

    Where a phase bends over depth, its line is the one that holds at `keep_layers` (default: at three
    quarters of the layers, as the profile states it).
    `prefill_tokens` counts visual tokens too. Beyond the timed lengths the spread grows; more than twice
    beyond, and for profiles that hold one length only, the profile comes back as it is (and the predictor
    refuses it by its workload). Raises `InputError` for a broken profile.
    """
    facts = dict(profile)
    if not isinstance(facts.get("surfaces"), Mapping) or len(facts.get("lengths") or (0, 0)) < 2:
        return facts
    try:
        embed, prefill, token = (Surface.from_dict(facts["surfaces"][name]) for name in FORMS)
        shortest, longest = min(facts["lengths"]), max(facts["lengths"])
        work, noise = dict(facts["workload"]), facts["noise"]
        context = prefill_tokens + new_tokens / 2
        bend = token.bend(context, usual_depth(facts["layers"])) if keep_layers is None else 0.0
        beyond = max(shortest / prefill_tokens, prefill_tokens / longest, 1.0)
        if beyond > _REACH:
            return facts
        facts["affine"] = {
            **facts["affine"],
            "prefill": first_token_line(embed, prefill, prefill_tokens),
            "decode": token.line(
                context, usual_depth(facts["layers"]) if keep_layers is None else keep_layers
            ),
        }
        facts["spread"] = {
            **facts["spread"],
            "prefill": (prefill.spread + noise["prefill"]) * beyond**2,
            "decode": (token.spread + noise["token"] + bend) * beyond**2,
        }
        text = prefill_tokens - work["visual_tokens"]
        facts["workload"] = {
            **work, "prompt_tokens": text, "prefill_tokens": prefill_tokens, "new_tokens": new_tokens
        }  # fmt: skip
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        rule = f"is not a usable profile ({type(error).__name__}: {error})"
        raise InputError(explain("profile", profile.get("target"), rule, "Measure again")) from None
    return facts


def usual_depth(layers: int) -> int:
    """The depth that a profile's own lines are made for: what pruning commonly leaves."""
    return max(1, round(0.75 * layers))


def first_token_line(embed: Surface, prefill: Surface, tokens: float) -> dict[str, float]:
    """All between the picture features and the first token, as a line in layers."""
    before, graph = embed.line(tokens), prefill.line(tokens)
    return {key: before[key] + value for key, value in graph.items()}


def _design(names: Sequence[str], places: Sequence[Point]) -> np.ndarray:
    terms = [_term(name) for name in names]
    return np.array([[term(n, s) for term in terms] for n, s in places], float)


def _term(name: str) -> Term:
    beyond = _BEYOND.fullmatch(name)
    if beyond is None:
        return _TERMS[name]
    depth = int(beyond[1])
    return lambda n, s: max(0.0, n - depth)


def _rank(names: Sequence[str], places: Sequence[Point]) -> int:
    if not places:
        return 0
    design = _design(names, places)
    scale = np.abs(design).max(axis=0)
    return int(np.linalg.matrix_rank(design / np.where(scale > 0, scale, 1.0)))
