"""Which decoder layers went, why, and what other scorers and the judge said."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from topovlm.records import Strict
from topovlm.report.document.figures import Count, Layer, Number

_MOST_BARS = 10**6  # each is a row of the plots


class LayerReason(Strict, frozen=True, kw_only=True):
    """What happened to one decoder layer and why."""

    layer: Layer
    decision: Literal["kept", "dropped", "protected"]
    score: Number | None
    rank: Count | None  # 1 = first to go
    why: str


class ScorerSet(Strict, frozen=True, kw_only=True):
    """What another scorer would have done (or what the chosen one did before the judge)."""

    scorer: str
    scores: tuple[Number, ...]
    dropped: tuple[Layer, ...]
    judged: Number | None = None  # the judge's figure for that set, e.g. KL to the dense model
    note: str = ""


class Judge(Strict, frozen=True, kw_only=True):
    """Output check of the proposal, if there was one."""

    name: str
    unit: str
    proposal: Number
    final: Number
    swaps: tuple[str, ...] = ()
    samples: Count = 0
    text: str = ""


class Repair(Strict, frozen=True, kw_only=True):
    """Compensation at the cuts or a training of what lies beside them, if there was one."""

    name: str
    before: Number
    after: Number
    unit: str
    text: str = ""


class Bars(Strict, frozen=True, kw_only=True):
    """`count` bars of dimension `dim` alive on indices birth..death of 0..2(L-1) (even = layer)."""

    dim: Annotated[int, msgspec.Meta(ge=0, le=9)]
    birth: Layer
    death: Layer
    count: Annotated[int, msgspec.Meta(ge=1, le=_MOST_BARS)]


class Selection(Strict, frozen=True, kw_only=True):
    """Which decoder layers went and why. High `scores` may go.

    `scorer` and `parameters` are the scorer's own words; `barcode` is empty where it looked at no topology.
    """

    scorer: str
    scores: Annotated[tuple[Number, ...], msgspec.Meta(min_length=1)]
    dropped: tuple[Layer, ...]
    kept: tuple[Layer, ...]
    protected: tuple[Layer, ...]
    layers: tuple[LayerReason, ...]
    calibration_samples: Count
    calibration_source: str
    token: str = "last"
    parameters: dict[str, str | float | int | bool] = msgspec.field(default_factory=dict)
    other_sets: tuple[ScorerSet, ...] = ()
    judge: Judge | None = None
    repair: Repair | None = None
    heal: Repair | None = None
    barcode: tuple[Bars, ...] = ()

    def __post_init__(self) -> None:
        named = (
            *self.dropped,
            *self.kept,
            *self.protected,
            *(reason.layer for reason in self.layers),
            *(layer for other in self.other_sets for layer in other.dropped),
        )
        if max(named, default=0) >= len(self.scores):
            raise ValueError(f"layer {max(named)} is named, but {len(self.scores)} layers have scores")
        if set(self.dropped) & set(self.kept):
            raise ValueError(f"layer {min(set(self.dropped) & set(self.kept))} is both dropped and kept")
        if sum(bar.count for bar in self.barcode) > _MOST_BARS:
            raise ValueError(f"more than {_MOST_BARS} bars")
        if any(bar.death < bar.birth or bar.death > 2 * (len(self.scores) - 1) for bar in self.barcode):
            raise ValueError("a bar of the barcode ends before it begins or beyond the last layer")
