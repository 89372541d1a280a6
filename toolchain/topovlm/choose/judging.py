"""A set of layers that was judged: scorers propose, output on held-out samples decides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from topovlm.choose.record import JudgeRecord
from topovlm.choose.search import KlJudge, search, split_samples
from topovlm.console import Progress
from topovlm.samples import Sample


def judge_proposals(
    judge_of: Callable[[Sequence[Sample]], KlJudge],
    layers: int,
    samples: Sequence[Sample],
    proposals: Mapping[str, Sequence[int]],
    protected: Collection[int],
    *,
    start: str,
    budget: int,
    seed: int = 0,
    shares_samples: bool = False,
    progress: Progress | None = None,
) -> JudgeRecord:
    """KL to the dense model's own answers; swaps that help on one half, confirmed on the other.

    `judge_of` makes the judge of one half: `judge.Judge`, or one in shards. `start` names the scorer whose
    proposal is repaired, `budget` bounds the sets tried; `shares_samples` is noted: the
    samples scored the layers too. A single picture cannot be halved: then nothing is confirmed.
    """
    choose, confirm = split_samples(samples, seed)
    if not confirm:
        choose, confirm = list(samples), []
    found = search(
        judge_of(choose),
        proposals,
        layers,
        protected,
        start=start,
        budget=budget,
        confirm=judge_of(confirm) if confirm else None,
        progress=progress,
    )
    return JudgeRecord(
        search=found,
        samples=len(choose),
        confirm_samples=len(confirm),
        shares_samples=shares_samples,
    )
