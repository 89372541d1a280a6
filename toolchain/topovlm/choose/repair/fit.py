"""The repair of all cuts, from the left, each in the strength that leaves the least error on other samples.

What decides is the error of the stream, not what the model answers: every token of a sample tells of it, and
only the tokens of its answer, a few and unequal ones, of the latter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

import torch

from topovlm.checkpoint.live import Live
from topovlm.choose.record import CutRepair
from topovlm.choose.repair.front import Front, entering
from topovlm.choose.repair.patch import Cut, Form, Solver, find_all, find_cuts, solver
from topovlm.choose.repair.strengths import CAUTION, LAMBDAS
from topovlm.choose.rollouts import roll_out
from topovlm.choose.search import split_samples
from topovlm.choose.sweep import Entered
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample

# Samples that pick strengths: more would cost passes, and pick none that are better.
_MOST_TUNING = 64


@dataclass(frozen=True)
class Ways:
    """How repairs are fitted.

    `visual_weight`: of tokens of pictures against those of text. `everywhere`: not only the layers before
    cuts, but all that stay from the first of them on. `caution`: times the lambda that leaves the least
    error. `massive_stay`: tokens of massive activations keep what they are.
    """

    form: Form = "input"
    lambdas: tuple[float, ...] = LAMBDAS
    visual_weight: float = 0.1
    everywhere: bool = False
    caution: float = CAUTION
    massive_stay: bool = True


AT_CUTS, EVERYWHERE = Ways(), Ways(everywhere=True)


@dataclass(frozen=True)
class Repair:
    """The down-projections [d, m] of a repaired model by dense layer, and what was tried, from the left."""

    weights: dict[int, torch.Tensor]
    cuts: list[CutRepair]


class Repairs:
    """Fits the repair of any sets of layers of one model, on the same samples.

    Three quarters of `samples` fit, a quarter (64 at most) picks lambda and form. `stored_dtype`: what
    down-projections are rounded to. Raises `InputError` for samples of fewer than four pictures.
    """

    def __init__(
        self,
        live: Live,
        samples: Sequence[Sample],
        stored_dtype: torch.dtype,
        *,
        ways: Ways = AT_CUTS,
        max_new_tokens: int = 32,
        batch_size: int = 8,
        seed: int = 0,
    ) -> None:
        fit, tune = _three_to_one(samples, seed)
        self.live, self.fit_samples, self.tune_samples = live, len(fit), len(tune)
        self._dtype, self._ways = stored_dtype, ways
        self._fit, self._tune = (
            entering(live, roll_out(live, part, max_new_tokens=max_new_tokens, batch_size=batch_size))
            for part in (fit, tune)
        )

    def of(self, drops: Sequence[Sequence[int]], progress: Progress | None = None) -> list[Repair]:
        """As `fit_repairs`."""
        return fit_repairs(
            self.live,
            drops,
            self._fit,
            self._tune,
            stored_dtype=self._dtype,
            ways=self._ways,
            progress=progress,
        )


def _three_to_one(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    first, second = split_samples(samples, seed)
    third, tune = split_samples(second, seed)
    while len(tune) > _MOST_TUNING:
        more, tune = split_samples(tune, seed)
        third += more
    if not first or not tune:
        rule = "are too few to fit a repair and to choose its strength on others"
        raise InputError(explain("calibration samples", len(samples), rule, "Give at least 4 pictures"))
    return first + third, tune


def fit_repairs(
    live: Live,
    drops: Sequence[Sequence[int]],
    fit: Sequence[Entered],
    tune: Sequence[Entered],
    *,
    stored_dtype: torch.dtype,
    ways: Ways = AT_CUTS,
    progress: Progress | None = None,
) -> list[Repair]:
    """New down-projections (in `stored_dtype`) for the model without each of `drops`.

    All models go side by side. A layer's repair is fitted to what is still missing with everything repaired
    so far in place, and left out where it leaves no less of it on `tune`. A cut whose anchor does not end in
    its down-projection (a norm behind it, experts) is left alone.
    """
    cuts = [find_all(drop, live.layers) if ways.everywhere else find_cuts(drop) for drop in drops]
    front = Front(
        live,
        drops,
        fit,
        tune,
        visual_weight=ways.visual_weight,
        massive_stay=ways.massive_stay,
    )
    reports: list[list[CutRepair]] = [[] for _ in drops]
    done, whole = 0, sum(map(len, cuts))
    for anchor in sorted({cut.anchor for some in cuts for cut in some}):
        front.advance(anchor)
        folds = front.ends_in_its_projection()
        for number, some in enumerate(cuts):
            for cut in (one for one in some if one.anchor == anchor):
                fitter = _Fitter(front, number, cut, stored_dtype, ways)
                found = fitter.best() if folds else None
                if found and found.error < 1:
                    front.repaired[number][anchor] = found.weight
                reports[number].append(_report(cut, found))
                done += 1
        if progress:
            progress(done, whole)
    return [Repair(weights, report) for weights, report in zip(front.repaired, reports, strict=True)]


@dataclass(frozen=True)
class _Found:
    """A down-projection and how it was fitted; `error`: the part of what is missing that it leaves."""

    ridge: float
    weight: torch.Tensor
    error: float
    tokens: int


@dataclass(frozen=True)
class _Fitter:
    """Of one cut of one of the front's models."""

    front: Front
    number: int
    cut: Cut
    stored_dtype: torch.dtype
    ways: Ways

    def best(self) -> _Found | None:
        """With caution. None where no solution is finite in the type that it will be stored in."""
        gram = self.front.gather(self.number, self.cut)
        down = self.front.live.down_projection(self.cut.anchor)
        with self.front.live.weights.held(down.parameters()):
            equations = solver(gram, down.weight.data, self.ways.form)
        found = self._solved(equations, self.ways.lambdas, gram.tokens)
        if not found:
            return None
        ridge = self.ways.caution * min(found, key=lambda one: one.error).ridge
        known = [one for one in found if isclose(one.ridge, ridge)]
        return next(iter(known or self._solved(equations, [ridge], gram.tokens)), None)

    def _solved(self, equations: Solver, ridges: Sequence[float], tokens: int) -> list[_Found]:
        """Those that are finite."""
        weights = [equations.solve(ridge).to(self.stored_dtype) for ridge in ridges]
        finite = [place for place, weight in enumerate(weights) if torch.isfinite(weight).all()]
        errors = self.front.errors(self.number, self.cut, [weights[place] for place in finite])
        return [
            _Found(ridges[place], weights[place], error, tokens)
            for place, error in zip(finite, errors, strict=True)
        ]


def _report(cut: Cut, found: _Found | None) -> CutRepair:
    return CutRepair(
        anchor=cut.anchor,
        first=cut.first,
        last=cut.last,
        tokens=found.tokens if found else 0,
        ridge=found.ridge if found else None,
        error=found.error if found else 1.0,
        kept=found is not None and found.error < 1,
    )
