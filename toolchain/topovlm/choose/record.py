"""What choosing layers leaves behind: scores.json, selection.json, the accounts of repair and healing.

KL is in nats per answer token, to the dense model's own answers. Layers are numbered as in the dense model.
"""

from __future__ import annotations

import msgspec

from topovlm.records import Part

Extra = dict[str, str | float | int | bool]


class BarRow(Part, frozen=True, kw_only=True, array_like=True):
    """`count` equal bars of dimension `dim`, alive at indices `birth` to `death` of the zigzag, inclusive."""

    dim: int
    birth: int
    death: int
    count: int


class ScoreResult(Part, frozen=True, kw_only=True):
    """One scorer's `scores` per layer and `order` of layers from first to last to go.

    `paper` and `why` are the scorer's own words; `extra` is what the report shows besides.
    """

    scorer: str
    paper: str
    why: str
    scores: tuple[float, ...]
    order: tuple[int, ...]
    extra: Extra = msgspec.field(default_factory=dict)


class Scores(Part, frozen=True, kw_only=True):
    """scores.json: every scorer on the same hidden states. `scorer` is the one that was asked for.

    `cloud` and `token` say what the layers' clouds are made of (`clouds`), `k` how many neighbours they were
    read with.
    """

    scorer: str
    k: int
    cloud: str = "residual"
    token: str = "last"
    samples: int
    sample_source: str
    scorers: dict[str, ScoreResult]
    barcode: tuple[BarRow, ...]


class Step(Part, frozen=True, kw_only=True):
    """One accepted move: `out` went back into the model, `into` left it instead; `kl` afterwards."""

    out: int
    into: int
    kl: float


class Proposal(Part, frozen=True, kw_only=True):
    """What a scorer would drop, with its KL on the samples of the search."""

    dropped: tuple[int, ...]
    kl: float


class SearchResult(Part, frozen=True, kw_only=True):
    """The best set that a search has found, and how.

    `start` names the scorer whose `proposal` the `steps` began from: the one asked for, or another whose set
    led to a better one. `repaired` says whether steps replaced that proposal. `best`: of all sets tried, the
    best ones in their order. Of `evaluations` sets, those that were glanced at counted, `judged` were judged
    on all samples, within `budget`.
    """

    dropped: tuple[int, ...]
    kl: float
    proposal: tuple[int, ...]
    proposal_kl: float
    start: str
    repaired: bool
    steps: tuple[Step, ...]
    proposals: dict[str, Proposal]
    best: tuple[Proposal, ...]
    evaluations: int
    judged: int
    budget: int


class Finalist(Part, frozen=True, kw_only=True):
    """One of the best sets, nearly as it would ship: on `samples` that no search has seen, the KL, that in
    the other direction (their sum decides), and the share of answer tokens chosen as the dense model does.
    `repaired`: with its cuts repaired."""

    dropped: tuple[int, ...]
    repaired: bool
    samples: int
    kl: float
    reverse: float
    same: float


class Certainty(Part, frozen=True, kw_only=True):
    """Of so many `resamplings` of the samples how many choose the same set, and how many that or one that is
    no more than `as_good_points` better, in points of answer tokens chosen as the dense model does."""

    resamplings: int
    chosen_again: int
    as_good: int
    as_good_points: float


class JudgeRecord(Part, frozen=True, kw_only=True):
    """A search on `samples`, and the race of its best sets on others; the set that won.

    `finalists` is empty, and the search's own set won, where no samples were left for a race. `patched`:
    the search's sets, too, were judged with their cuts repaired. `shares_samples`: its samples scored the
    layers too.
    """

    dropped: tuple[int, ...]
    search: SearchResult
    samples: int
    finalists: tuple[Finalist, ...]
    certainty: Certainty | None
    patched: bool
    shares_samples: bool


class Selection(Part, frozen=True, kw_only=True):
    """selection.json: the layers that go and what every scorer proposed.

    `proposals` and `scorers` are empty when the layers were named by hand; `judge` is None when none sat.
    """

    scorer: str
    dropped: tuple[int, ...]
    kept: tuple[int, ...]
    protected: tuple[int, ...]
    proposals: dict[str, tuple[int, ...]]
    scorers: dict[str, ScoreResult]
    judge: JudgeRecord | None = None


class CutRepair(Part, frozen=True, kw_only=True):
    """What was tried where layers `first`..`last` are gone; `anchor` is the kept layer before them. None are
    gone where `first` is behind `last`: then `anchor` makes up for what earlier repairs have left.

    `ridge` is lambda over the mean diagonal; `error`: of what is missing in the stream behind the cut,
    squared, the part that is left on the samples that tune. Not kept where that is all.
    """

    anchor: int
    first: int
    last: int
    tokens: int
    ridge: float | None
    error: float
    kept: bool


class RepairRecord(Part, frozen=True, kw_only=True):
    """KL on the confirming samples, without and with the repair.

    `kept` is false when the repair did not lower it; the checkpoint is then untouched. `caution`: times the
    lambdas of least error.
    """

    kept: bool
    kl_before: float
    kl_after: float
    caution: float
    cuts: tuple[CutRepair, ...]
    fit_samples: int
    tune_samples: int
    confirm_samples: int


class HealRecord(Part, frozen=True, kw_only=True):
    """A training of what lies beside the cuts, taught by the dense model.

    KL (nats) and share of same tokens before and after, on the confirming samples with the weights that ship;
    `held_out_*`: KL on the samples that said which weights are best (of `best_step`) and when to stop.
    `kept` is false when it did not lower the KL; the checkpoint is then untouched. `layers` learned whole, in
    dense numbering, beside norms and, with `head`, the head. `relative_rate`: peak step over the size of
    weights, shortened where it gained nothing. `tokens`: that the model has seen, repetitions counted.
    """

    kept: bool
    kl_before: float
    kl_after: float
    same_before: float
    same_after: float
    held_out_before: float
    held_out_best: float
    held_out_last: float
    steps: int
    best_step: int
    stopped_early: bool
    seconds: float
    tokens: int
    relative_rate: float
    parameters: int
    layers: tuple[int, ...]
    head: bool
    seed: int
    device: str
    dtype: str
    teach_samples: int
    held_out_samples: int
    confirm_samples: int
