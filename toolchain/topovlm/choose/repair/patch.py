"""Closed-form repair of the cuts, folded into the MLP down-projection before each.

Layers i+1..i+n are gone. Block i computes x = y + W a (a the MLP's inner activations, W its down-projection);
the dense model had t after layer i+n. W becomes W + D with D = argmin sum_t w_t ||D a_t - (t_t - x_t)||^2
+ lambda (tr(G) / m) ||D||^2 + sum_s v_s ||D a_s||^2, G = sum_t w_t a_t a_t^T. As lambda grows the repair
vanishes. The form "output" restricts D to T W, the d x d compensation of ReplaceMe (arXiv 2505.02819),
anchored at the identity; "gains" to diag(s) W, as many numbers as a norm has.

The tokens s are those of massive activations (arXiv 2402.17762) and a first BOS: attention of all later
layers rests on what they are, and nothing that is fitted to other tokens may change it. a_s can be hundreds
of times as large as other tokens' a, so a D that does not know of it does. v_s makes all s together as heavy
as all t.

Gram matrices are float64 sums over batches. Every figure that decides is measured with the weights rounded
to the checkpoint's own type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

Form = Literal["input", "output", "gains"]
_OUTLIER_NORM = 10.0


@dataclass(frozen=True)
class Cut:
    """Layers `first`..`last` (0-based, dense numbering) are gone; `anchor` is the kept layer before them.

    None is where `first` is behind `last`: then `anchor` makes up for what earlier repairs have left.
    """

    anchor: int
    first: int
    last: int


@dataclass(frozen=True)
class Gram:
    """Weighted sums over tokens, float64: `inner` [m, m] of a a^T; `cross` [m, d] of a (t - x)^T, those of
    cuts with one anchor side by side; `fixed` [n, m]: a of the tokens that must stay, times the root of their
    weight."""

    inner: torch.Tensor
    cross: torch.Tensor
    fixed: torch.Tensor
    tokens: int


def find_cuts(drop: Sequence[int]) -> list[Cut]:
    """Runs of consecutive dropped layers, left to right; one from layer 0 has no MLP before it."""
    runs: list[list[int]] = []
    for layer in sorted(drop):
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return [Cut(run[0] - 1, run[0], run[-1]) for run in runs if run[0] > 0]


def find_all(drop: Sequence[int], layers: int) -> list[Cut]:
    """The cuts, and behind the first every other layer that stays: it can make up for what is left over."""
    cuts = find_cuts(drop)
    anchors = {cut.anchor for cut in cuts}
    start = cuts[0].anchor if cuts else layers
    others = [layer for layer in range(start, layers) if layer not in anchors and layer not in drop]
    return sorted([*cuts, *(Cut(layer, layer + 1, layer) for layer in others)], key=lambda cut: cut.anchor)


def token_weights(
    ids: torch.Tensor,
    real: torch.Tensor,
    *,
    streams: Sequence[torch.Tensor],
    visual: torch.Tensor,
    bos_token_id: int | None,
    visual_weight: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """float64 [B, T]: 1 for text and answer, `visual_weight` where `visual` [B, T] is true, 0 for padding and
    for those that must stay as they are; bool [B, T], which these are: outliers, and BOS where it is first.

    Outliers have a norm over ten times the median of one of `streams` [B, T, d]: a few of them would own the
    fit.
    """
    weights = torch.where(visual, visual_weight, 1.0).double()
    first = real & (real.cumsum(1) == 1)
    fixed = first & (ids == (-1 if bos_token_id is None else bos_token_id))
    for stream in streams:
        norms = stream.float().norm(dim=-1)
        fixed = fixed | (norms > _OUTLIER_NORM * norms[real].median())
    return weights * (real & ~fixed), real & fixed


def weighed(fixed: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """Float64 [n, m] of activations [n, m] that must stay: in their directions, and together as large as all
    that make up `inner`."""
    size = fixed.double().norm(dim=1, keepdim=True)
    unit = torch.where(size > 0, fixed.double() / size, 0.0)
    return unit * (inner.trace() / max(1, len(fixed))).sqrt()


class Solver(Protocol):
    """The normal equations of one form, to be solved in several strengths."""

    def solve(self, ridge: float) -> torch.Tensor:
        """The repaired down-projection W + D, float64 [d, m]; `ridge` is lambda over the mean diagonal."""


def solver(gram: Gram, weight: torch.Tensor, form: Form) -> Solver:
    """Of the only cut in `gram`."""
    return Gains(gram, weight) if form == "gains" else Equations(gram, weight, form)


class Gains:
    """Every number that the layer adds to the stream gets a gain: an equation each."""

    def __init__(self, gram: Gram, weight: torch.Tensor) -> None:
        self.weight = weight.double()
        self._inner = ((self.weight @ gram.inner) * self.weight).sum(1)
        self._cross = (self.weight * gram.cross.T).sum(1)
        self._fixed = (gram.fixed @ self.weight.T).square().sum(0)

    def solve(self, ridge: float) -> torch.Tensor:
        """As `Equations.solve`."""
        strength = ridge * float(self._inner.mean())
        if not strength > 0:  # no token counted: nothing to learn from
            return self.weight
        gains = self._cross / (self._inner + self._fixed + strength)
        return self.weight + gains[:, None] * self.weight


class Equations:
    """The normal equations of the forms "input" and "output", to be solved in several strengths.

    Wide models have Gram matrices of gigabytes: each is factorised in one buffer, which the next one gets.
    """

    def __init__(self, gram: Gram, weight: torch.Tensor, form: Form) -> None:
        self.weight, self.form = weight.double(), form
        inner, cross, fixed = gram.inner, gram.cross, gram.fixed
        if form == "output":
            inner, cross = self.weight @ inner @ self.weight.T, self.weight @ cross
            fixed = fixed @ self.weight.T
        self._inner, self._cross, self._fixed = inner, cross, fixed
        self._mean = float(inner.trace()) / len(inner)
        self._factor = torch.empty_like(inner).mT  # columns first, as LAPACK works in place

    def solve(self, ridge: float) -> torch.Tensor:
        """The repaired down-projection W + D, float64 [d, m]; `ridge` is lambda over the mean diagonal.

        Not finite where the equations have no solution in float64.
        """
        (weight,) = self.solve_all(ridge)
        return weight

    def solve_all(self, ridge: float) -> Iterator[torch.Tensor]:
        """As `solve`, of every cut in `cross`, one after the other."""
        crosses = self._cross.split_with_sizes(
            [len(self.weight)] * (self._cross.shape[1] // len(self.weight)), 1
        )
        strength = ridge * self._mean
        if not strength > 0:  # no token counted: nothing to learn from
            yield from (self.weight for _ in crosses)
            return
        factor = self._factor.copy_(self._inner).addmm_(self._fixed.T, self._fixed)
        factor.diagonal().add_(strength)
        failed = torch.empty((), dtype=torch.int32, device=factor.device)
        torch.linalg.cholesky_ex(factor, out=(factor, failed))
        for cross in crosses:
            if failed.item():  # sums that are not finite, or too many ways to be right for float64
                yield torch.full_like(self.weight, torch.nan)
                continue
            half = torch.linalg.solve_triangular(factor, cross, upper=False)
            solution: torch.Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True).mT
            yield self.weight + (solution @ self.weight if self.form == "output" else solution)
