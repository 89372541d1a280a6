"""What a deployment would choose: proposals, search, finals and repair, as the product runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

from benchmarks.accuracy.subject import Subject
from topovlm.choose.judge import Judge
from topovlm.choose.judging import Finals, judge_proposals
from topovlm.choose.record import JudgeRecord
from topovlm.choose.repair.fit import EVERYWHERE, Repairs
from topovlm.choose.repair.patches import cuts_up_to, fit_patches
from topovlm.choose.sweep import Variant
from topovlm.config import resolve
from topovlm.pipeline.constants import Constants
from topovlm.samples import Sample

_DEFAULTS = resolve({})


@dataclass(frozen=True)
class Settings:
    """Numbers of samples and of sets, as the options of `topovlm deploy` have them for a small model."""

    judge_samples: int = _DEFAULTS.judge_samples
    judgements: int = _DEFAULTS.judgements
    finalists: int = 8


PRODUCT = "deployment"
SETTINGS = {PRODUCT: Settings()}
_CONSTANTS = Constants()


@dataclass(frozen=True)
class Chosen:
    """The set that won, what its repair is, and the seconds that each part of the choice took. `confirmed`:
    KL as it is cut, and by the caution of its repair."""

    record: JudgeRecord
    weights: Mapping[int, torch.Tensor]
    seconds: Mapping[str, float]
    confirmed: Mapping[str, float]


def choose(
    subject: Subject,
    scoring: Sequence[Sample],
    others: Sequence[Sample],
    proposals: Mapping[str, Sequence[int]],
    *,
    seed: int,
    settings: Settings,
) -> Chosen:
    """`scoring`: the samples that scored, of which some fit the repair; `others` judge, and confirm it."""
    live, laps, began = subject.live, dict[str, float](), perf_counter()

    def lap(name: str) -> None:
        laps[name] = perf_counter() - began - sum(laps.values())

    def finals(_: Sequence[frozenset[int]]) -> Finals:
        lap("search")
        return Finals(lambda samples: Judge(live, samples, patches=patches).of, repaired=True)

    judging, confirming = others[: settings.judge_samples], others[settings.judge_samples :]
    count = len(next(iter(proposals.values())))
    cuts = cuts_up_to(count, subject.layers, subject.protected)
    patches = fit_patches(live, cuts, scoring[: _CONSTANTS.quick_repair_samples], torch.float16)
    lap("patches")
    record = judge_proposals(
        lambda samples: Judge(live, samples, patches=patches),
        subject.layers,
        judging,
        proposals,
        subject.protected,
        start="zigzag",
        budget=settings.judgements,
        finalists=settings.finalists,
        finals=finals,
        seed=seed,
        patched=True,
    )
    lap("finals")
    fitted = scoring[: _CONSTANTS.repair_samples]
    (repairs,) = Repairs(live, fitted, torch.float16, ways=EVERYWHERE, seed=seed).of([record.dropped])
    lap("repair")
    drop = frozenset(record.dropped)
    shipped = {"cut": Variant(drop)}
    shipped |= {f"lambda x {repair.caution:g}": Variant(drop, repair.weights) for repair in repairs}
    kls = Judge(live, confirming[: _CONSTANTS.confirm_samples]).kls_of(list(shipped.values()))
    confirmed = dict(zip(shipped, kls, strict=True))
    lap("confirmation")
    return Chosen(record, shipped[min(shipped, key=confirmed.__getitem__)].weights, laps, confirmed)
