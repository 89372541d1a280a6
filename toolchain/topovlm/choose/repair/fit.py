"""The repair of all cuts, from the left: each is fitted, tried in every strength, and kept where it helps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from topovlm.checkpoint.live import Live
from topovlm.choose.judge import Judge
from topovlm.choose.record import CutRepair
from topovlm.choose.repair.front import Front
from topovlm.choose.repair.patch import FORMS, LAMBDAS, Cut, Equations, Form, Gram, find_all, find_cuts
from topovlm.choose.rollouts import Rollouts, roll_out
from topovlm.choose.search import split_samples
from topovlm.choose.sweep import Variant
from topovlm.console import Progress
from topovlm.errors import InputError, explain
from topovlm.samples import Sample

# Samples that pick strengths: a dozen candidates run on each of them, for every layer that is repaired.
_MOST_TUNING = 64
# Where no layers went, what is left over is small: few strengths, in one form.
_FORMS_OF_OTHERS: tuple[Form, ...] = ("input",)
_LAMBDAS_OF_OTHERS = (1e-3, 1e-2, 1e-1, 1.0)


class Repairs:
    """Fits the repair of any set of layers of one model, on the same samples.

    Three quarters of `samples` fit, a quarter (64 at most) picks lambda and form. `everywhere`: see
    `repair_checkpoint`. `stored_dtype`: what down-projections are rounded to. Raises `InputError`
    for samples of fewer than four pictures.
    """

    def __init__(
        self,
        live: Live,
        samples: Sequence[Sample],
        stored_dtype: torch.dtype,
        *,
        forms: Sequence[Form] = FORMS,
        lambdas: Sequence[float] = LAMBDAS,
        visual_weight: float = 0.1,
        everywhere: bool = False,
        max_new_tokens: int = 32,
        batch_size: int = 8,
        seed: int = 0,
    ) -> None:
        fit, tune = _three_to_one(samples, seed)
        self.live, self.fit_samples, self.tune_samples = live, len(fit), len(tune)
        self._dtype, self._forms, self._lambdas = stored_dtype, forms, lambdas
        self._visual_weight, self._everywhere = visual_weight, everywhere
        self._tune = Judge(live, tune, max_new_tokens=max_new_tokens, batch_size=batch_size)
        self._rollouts = list(roll_out(live, fit, max_new_tokens=max_new_tokens, batch_size=batch_size))

    def of(
        self, drop: Sequence[int], progress: Progress | None = None
    ) -> tuple[dict[int, torch.Tensor], list[CutRepair]]:
        """As `fit_repair`."""
        return fit_repair(
            self.live,
            drop,
            self._rollouts,
            self._tune,
            self._dtype,
            forms=self._forms,
            lambdas=self._lambdas,
            visual_weight=self._visual_weight,
            everywhere=self._everywhere,
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


def fit_repair(
    live: Live,
    drop: Sequence[int],
    fit: Sequence[Rollouts],
    tune: Judge,
    stored_dtype: torch.dtype,
    *,
    forms: Sequence[Form] = FORMS,
    lambdas: Sequence[float] = LAMBDAS,
    visual_weight: float = 0.1,
    everywhere: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[int, torch.Tensor], list[CutRepair]]:
    """New down-projections (in `stored_dtype`, by dense layer) and what was tried, cut by cut from the left.

    A cut's repair is chosen by the KL on the samples of `tune`, with everything repaired so far in place, and
    left out when it does not lower it. A cut whose anchor does not end in its down-projection (a norm behind
    it, experts) is left alone.
    """
    cuts = find_all(drop, live.layers) if everywhere else find_cuts(drop)
    reports = list[CutRepair]()
    front = Front(live, fit, drop)
    current = tune.kl(drop)
    for number, cut in enumerate(cuts):
        front.advance(cut.anchor)
        if not front.ends_in_its_projection():
            reports.append(_left_alone(cut, current))
            continue
        gram = front.gather(cut, visual_weight)
        tokens = gram.tokens
        if cut.first <= cut.last:
            tried = _candidates(live, cut, gram, stored_dtype, forms=forms, lambdas=lambdas)
        else:
            tried = _candidates(
                live, cut, gram, stored_dtype, forms=_FORMS_OF_OTHERS, lambdas=_LAMBDAS_OF_OTHERS
            )
        del gram  # gigabytes of a wide model
        variants = [
            Variant(frozenset(drop), {**front.repaired, cut.anchor: weight}) for _, _, weight in tried
        ]
        values = tune.kls_of(variants)
        best = min(range(len(tried)), key=values.__getitem__, default=None)
        kept = best is not None and values[best] < current
        form, ridge = tried[best][:2] if best is not None else (None, None)
        after = values[best] if best is not None and kept else current
        reports.append(
            CutRepair(
                anchor=cut.anchor,
                first=cut.first,
                last=cut.last,
                tokens=tokens,
                kl_before=current,
                kl_after=after,
                form=form,
                ridge=ridge,
                kept=kept,
            )
        )
        if best is not None and kept:
            front.repaired[cut.anchor] = tried[best][2]
        current = after
        if progress:
            progress(number + 1, len(cuts))
    return front.repaired, reports


def _candidates(
    live: Live,
    cut: Cut,
    gram: Gram,
    stored_dtype: torch.dtype,
    *,
    forms: Sequence[Form],
    lambdas: Sequence[float],
) -> list[tuple[Form, float, torch.Tensor]]:
    """Form, lambda and down-projection of every repair that is finite in the type it will be stored in."""
    down = live.down_projection(cut.anchor)
    with live.weights.held(down.parameters()):
        weight = down.weight.data.double()
    made = []
    for form in forms:
        equations = Equations(gram, weight, form)
        made += [(form, ridge, equations.solve(ridge).to(stored_dtype)) for ridge in lambdas]
        del equations  # before the next one is made
    return [row for row in made if torch.isfinite(row[2]).all()]


def _left_alone(cut: Cut, current: float) -> CutRepair:
    """The record of a cut behind which nothing can be folded in."""
    return CutRepair(
        anchor=cut.anchor,
        first=cut.first,
        last=cut.last,
        tokens=0,
        kl_before=current,
        kl_after=current,
        form=None,
        ridge=None,
        kept=False,
    )
