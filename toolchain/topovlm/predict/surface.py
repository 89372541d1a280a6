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
from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from topovlm.records import Part

# A profile is a file, and may come from a board: what no measurement can give is refused when it is read.
_MOST = 1e9
Time = Annotated[float, Meta(ge=0, le=_MOST)]  # ms
Error = Annotated[float, Meta(ge=0, le=_MOST)]  # relative
Signed = Annotated[float, Meta(ge=-_MOST, le=_MOST)]

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
LEAST_SPREAD = 0.01  # a prediction is never claimed to be closer than this


class Line(Part, frozen=True, kw_only=True):
    """A time as a line in the number of decoder layers; `spread`: relative error to expect of it."""

    intercept_ms: Signed
    slope_ms_per_layer: Signed
    spread: Error | None = None

    def at(self, layers: float) -> float:
        """ms, never negative."""
        return max(0.0, self.intercept_ms + self.slope_ms_per_layer * layers)


class Surface(Part, frozen=True, kw_only=True):
    """A fitted form: coefficients by term. Raises ValueError for a term that no form has, or without terms.

    `residual`: worst relative miss of the points that were fitted; `held_out`: relative errors at points
    predicted from a fit to all the others.
    """

    coefficients: dict[str, Time]
    residual: Error
    held_out: tuple[Signed, ...]

    def __post_init__(self) -> None:
        if not self.coefficients:
            raise ValueError("a surface has no terms")
        if not any(self.coefficients.values()):
            raise ValueError("a surface takes no time")
        for name in self.coefficients:
            term(name)

    def ms(self, layers: float, tokens: float) -> float:
        """The phase's time."""
        return sum(value * term(name)(layers, tokens) for name, value in self.coefficients.items())

    def line(self, tokens: float, layers: float = 1) -> Line:
        """At one length the surface is a line in layers; where it bends, the one that ends at `layers`."""
        value = self.ms(layers, tokens)
        slope = value - self.ms(layers - 1, tokens)
        return Line(intercept_ms=value - slope * layers, slope_ms_per_layer=slope)

    def bend(self, tokens: float, layers: int) -> float:
        """How far the surface leaves `line(tokens, layers)` from a third below to a third above, relative."""
        line = self.line(tokens, layers)
        depths = range(max(1, layers * 2 // 3), layers * 4 // 3 + 1)
        straight = (line.intercept_ms + line.slope_ms_per_layer * n for n in depths)
        return max(abs(ms / self.ms(n, tokens) - 1) for n, ms in zip(depths, straight, strict=True))

    @property
    def spread(self) -> float:
        """The relative error to expect where nothing was timed: nine in ten held-out points do better."""
        import numpy as np

        errors = [abs(error) for error in self.held_out] or [self.residual]
        return max(LEAST_SPREAD, float(np.quantile(errors, 0.9)))


def usual_depth(layers: int) -> int:
    """The depth that a profile's own lines are made for: what pruning commonly leaves."""
    return max(1, round(0.75 * layers))


def first_token_line(embed: Surface, prefill: Surface, tokens: float) -> Line:
    """All between the picture features and the first token, as a line in layers."""
    before, graph = embed.line(tokens), prefill.line(tokens)
    return Line(
        intercept_ms=before.intercept_ms + graph.intercept_ms,
        slope_ms_per_layer=before.slope_ms_per_layer + graph.slope_ms_per_layer,
    )


def term(name: str) -> Term:
    """(layers, tokens) -> what one ms of the term's coefficient counts. Raises ValueError for no term."""
    if name in _TERMS:
        return _TERMS[name]
    beyond = _BEYOND.fullmatch(name)
    if beyond is None:
        raise ValueError(f"{name!r} is no term of a surface")
    depth = int(beyond[1])
    return lambda n, s: max(0.0, n - depth)
